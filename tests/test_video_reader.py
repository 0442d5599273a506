"""Sources of moving pictures: true times, the right way up, and one sentence for whatever cannot be read."""

import gc
import threading
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
from video_clips import av, cut_clip, dot_frames, turn_clip, write_clip

from featherpose.runtime.video import camera
from featherpose.runtime.video.camera import CameraReader
from featherpose.runtime.video.reader import kind_of, open_source, short_name

QUARTERS = np.zeros((32, 64, 3), np.uint8)
"""Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
QUARTERS[:16, :32], QUARTERS[:16, 32:], QUARTERS[16:, :32], QUARTERS[16:, 32:] = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255),
)  # fmt: skip
NAMES = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue", (255, 255, 255): "white"}


def _read(path, **options):
    source = open_source(str(path), **options)
    frames = list(source)
    source.close()
    return source, frames


def _quarters(image):
    """Names of the colours at the top left, top right, bottom left and bottom right."""
    h, w = image.shape[:2]
    found = [image[h // 4 + i * h // 2, w // 4 + j * w // 2] for i in (0, 1) for j in (0, 1)]
    return " ".join(NAMES[tuple(int(255 * (v > 127)) for v in colour)] for colour in found)


UNEVEN = [0.0, 0.04, 0.1, 0.11, 0.5, 0.52, 0.9, 2.0]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_times_are_the_stamps_of_the_file(tmp_path, suffix):
    clip = write_clip(tmp_path / f"uneven{suffix}", dot_frames(len(UNEVEN)), UNEVEN)
    source, frames = _read(clip)
    assert [frame.time for frame in frames] == pytest.approx(UNEVEN, abs=1e-6)
    assert [frame.index for frame in frames] == list(range(len(UNEVEN)))
    assert source.problem is None and source.damaged == 0


def test_a_transport_streams_clock_is_counted_from_its_beginning(tmp_path):
    clip = write_clip(tmp_path / "a.ts", dot_frames(10))
    with_offset = [frame.time for frame in _read(clip)[1]]
    assert with_offset[0] == pytest.approx(0, abs=1e-3) and np.diff(with_offset) == pytest.approx(0.04, abs=1e-4)


def test_a_clock_that_begins_anew_goes_on(tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.ts", dot_frames(50))
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    times = [frame.time for frame in _read(joined)[1]]
    assert len(times) >= 99 and (np.diff(times) > 0).all() and times[-1] == pytest.approx(3.96, abs=0.05)


TURNS = {  # a, b, c, d of the display matrix -> (size, what is seen where)
    "as it is": ((1, 0, 0, 1), (64, 32), "red green blue white"),
    "clockwise": ((0, 1, -1, 0), (32, 64), "blue red white green"),
    "upside down": ((-1, 0, 0, -1), (64, 32), "white blue green red"),
    "anticlockwise": ((0, -1, 1, 0), (32, 64), "green white red blue"),
    "mirrored": ((-1, 0, 0, 1), (64, 32), "green red white blue"),
    "transposed": ((0, 1, 1, 0), (32, 64), "red blue green white"),
}


@pytest.mark.parametrize("matrix, size_wh, seen", TURNS.values(), ids=TURNS)
def test_rotation_flags_are_obeyed(tmp_path, matrix, size_wh, seen):
    clip = turn_clip(write_clip(tmp_path / "a.mp4", [QUARTERS] * 2), matrix)
    source, frames = _read(clip)
    assert source.facts.size_wh == size_wh
    assert frames[0].image.shape == (size_wh[1], size_wh[0], 3) and frames[0].image.flags.c_contiguous
    assert _quarters(frames[0].image) == seen


def test_odd_sizes_and_exact_colours_survive(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 37, 53, 3), dtype=np.uint8)
    clip = write_clip(tmp_path / "a.mkv", list(noise), codec="ffv1", pixels="bgr0")
    source, frames = _read(clip)
    assert source.facts.size_wh == (53, 37)
    for frame, image in zip(frames, noise, strict=True):
        assert (frame.image == image).all()


def test_pixels_that_are_not_square_are_made_square(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [QUARTERS] * 2, pixel_aspect=Fraction(2, 1))
    source, frames = _read(clip)
    assert source.facts.size_wh == (128, 32) and _quarters(frames[0].image) == "red green blue white"


def test_start_end_and_every_choose_frames_by_their_times(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", dot_frames(100), sound="aac")
    source, frames = _read(clip, start=2.6, end=3.0, every=3)
    assert [frame.time for frame in frames] == pytest.approx([2.6, 2.72, 2.84, 2.96])
    assert [frame.index for frame in frames] == [0, 3, 6, 9]
    assert frames[0].duration == pytest.approx(0.12) and source.facts.fps == pytest.approx(25 / 3)
    sound = [packet.pts * packet.time_base for frame in frames for packet in frame.audio]
    assert min(sound) >= 2.6 and max(sound) < 3.0
    assert source.problem is None  # that it ends before the file does was wanted


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv", ".mp4"])
def test_a_start_between_distant_keyframes_is_where_it_was_asked_for(tmp_path, suffix):
    """An MPEG stream has no index: a jump there may end at the keyframe behind the start."""
    codec = "mpeg2video" if suffix == ".mpg" else "libx264"
    clip = write_clip(tmp_path / f"a{suffix}", dot_frames(300, (64, 64), 0), codec=codec, keyframes=150)
    for start in (3.0, 7.0, 9.0):
        assert next(iter(open_source(str(clip), start=start))).time == pytest.approx(start, abs=0.021)


def test_the_only_keyframe_of_a_transport_stream_is_found(tmp_path):
    clip = write_clip(tmp_path / "a.ts", dot_frames(150, (64, 64), 0), keyframes=1000)
    assert [frame.time for frame in open_source(str(clip), start=5)] == pytest.approx([5 + i / 25 for i in range(25)], abs=0.01)


@pytest.mark.parametrize(("suffix", "sound"), [(".mp4", "aac"), (".mkv", "aac"), (".mkv", "pcm_s16le")])
def test_pictures_behind_a_sound_that_is_the_first_stream_are_all_there(tmp_path, suffix, sound):
    clip = write_clip(tmp_path / f"a{suffix}", dot_frames(30), sound=sound, sound_first=True)
    with av.open(str(clip)) as container:
        assert container.streams[0].type == "audio"
    assert len(list(open_source(str(clip)))) == 30


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path):
    clip = write_clip(tmp_path / "a.mkv", dot_frames(5), title="Übung.".encode("latin-1"))
    assert len(list(open_source(str(clip)))) == 5


def test_a_webm_that_tells_no_rate_has_none(tmp_path):
    """FFmpeg makes 1000 frames a second of it."""
    clip = write_clip(tmp_path / "a.mkv", dot_frames(9), fps=1000)
    facts = open_source(str(clip)).facts
    assert facts.fps is None and facts.frames is None


def test_the_last_of_every_so_many_frames_ends_with_the_file(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", dot_frames(25))
    frames = list(open_source(str(clip), every=10))
    assert [frame.duration for frame in frames] == pytest.approx([0.4, 0.4, 0.2], abs=0.01)
    (only,) = open_source(str(clip), every=1000, end=0.6)
    assert only.duration == pytest.approx(0.6, abs=0.01)


def test_facts_are_known_before_the_first_frame(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", dot_frames(50), sound="aac")
    source = open_source(str(clip))
    facts = source.facts
    source.close()
    assert (facts.kind, facts.live, facts.size_wh, facts.frames) == ("file", False, (128, 128), 50)
    assert facts.fps == pytest.approx(25) and facts.duration == pytest.approx(2.0)
    assert (facts.codec, facts.audio_codec) == ("h264", "aac")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_a_file_that_is_cut_gives_what_is_there_and_says_so(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    faststart = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
    whole = write_clip(tmp_path / f"a{suffix}", list(noise), options=faststart)
    assert _read(whole)[0].problem is None
    source, frames = _read(cut_clip(whole, 0.6))
    assert 20 <= len(frames) <= 40
    assert "the file is cut off after" in source.problem and source.problem.startswith(str(whole))


def test_a_damaged_piece_in_the_middle_is_counted_and_the_rest_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    clip = write_clip(tmp_path / "a.mp4", list(noise), options={"movflags": "faststart"})
    content = bytearray(clip.read_bytes())
    place = len(content) // 2
    content[place : place + 20_000] = bytes(20_000)
    clip.write_bytes(content)
    source, frames = _read(clip)
    assert source.damaged > 0 and frames[-1].time > 2.2


def test_a_stream_that_changes_its_size_stays_in_the_first_ones_pixels(tmp_path):
    write_clip(tmp_path / "a.ts", [QUARTERS] * 10)
    write_clip(tmp_path / "b.ts", [np.repeat(np.repeat(QUARTERS, 2, 0), 2, 1)] * 10)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames = _read(joined)[1]
    assert {frame.image.shape for frame in frames} == {(32, 64, 3)} and len(frames) >= 18
    assert _quarters(frames[-1].image) == "red green blue white"


def _decoded_frames_alive():
    return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())


def test_frames_that_were_read_are_gone_without_waiting_for_the_garbage_collector(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", dot_frames(40))
    gc.collect()
    gc.disable()
    try:
        source = open_source(str(clip))
        for _ in source:
            pass
        assert _decoded_frames_alive() <= 3  # 3 MB each at 1080p; with the display matrix of every frame all 40 stay
        source.close()
    finally:
        gc.enable()


def _music(path):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.rate = 8000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def _make(path, kind):
    if kind == "text":
        path.write_text("hello\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(10_000))
    elif kind == "photo":
        cv2.imwrite(str(path), QUARTERS)
    elif kind == "music":
        _music(path)
    elif kind == "no index":
        cut_clip(write_clip(path, dot_frames(30)), 0.6)
    elif kind == "folder":
        path.mkdir()


REFUSED = {
    "nothing": ("a.mp4", FileNotFoundError, "a.mp4: there is no such video"),
    "folder": ("a", IsADirectoryError, "a: is a folder, expected a video"),
    "empty": ("a.mp4", ValueError, "a.mp4: the file is empty (0 bytes), expected a video"),
    "text": ("a.txt", ValueError, "a.txt: not a video that can be read"),
    "noise": ("a.mp4", ValueError, "a.mp4: not a video that can be read"),
    "photo": ("a.png", ValueError, "a.png: is a photo, not a video; featherpose predict takes photos"),
    "music": ("a.wav", ValueError, "a.wav: has no video stream, only audio"),
    "no index": ("a.mp4", ValueError, "a.mp4: the video is cut off or damaged: its index"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_video_is_refused_in_one_sentence(tmp_path, monkeypatch, kind):
    name, error, message = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    _make(tmp_path / name, kind)
    with pytest.raises(error) as told:
        open_source(name)
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_a_url_that_cannot_be_reached_is_told():
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/a\.mp4: cannot be reached \(Connection refused\)"):
        open_source("http://127.0.0.1:9/a.mp4")  # nobody listens at the discard port


@pytest.fixture
def served(tmp_path):
    """The address of a folder behind a web server that gives whole files only, no byte ranges."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_gives_the_frames_of_its_file(tmp_path, served):
    write_clip(tmp_path / "a.mp4", dot_frames(8), options={"movflags": "faststart"})
    here, there = _read(tmp_path / "a.mp4"), _read(f"{served}/a.mp4")
    assert there[0].facts.kind == "url" and not there[0].facts.live and there[0].problem is None
    assert [frame.time for frame in there[1]] == [frame.time for frame in here[1]]
    np.testing.assert_array_equal(there[1][-1].image, here[1][-1].image)


def test_a_url_that_gives_no_video_is_refused(tmp_path, served):
    (tmp_path / "page.html").write_text("<html>hello</html>")
    with pytest.raises(ValueError, match=r"page\.html: what comes from there is no video that can be read"):
        open_source(f"{served}/page.html")
    with pytest.raises(OSError, match="404"):
        open_source(f"{served}/none.mp4")


def test_an_index_at_the_end_needs_a_server_that_can_jump(tmp_path, served):
    noise = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3), dtype=np.uint8)
    write_clip(tmp_path / "a.mp4", noise)
    assert (tmp_path / "a.mp4").stat().st_size > 1_000_000  # more than FFmpeg reads past
    with pytest.raises(ValueError, match=r"no byte ranges.*download the file"):
        open_source(f"{served}/a.mp4")


RANGES = {
    "a start before the beginning": ({"start": -1}, "a start must be 0 seconds or later"),
    "an end before the start": ({"start": 2, "end": 1}, "the end must lie behind the start"),
    "a start that is no time": ({"start": float("inf")}, "a start must be 0 seconds or later"),
    "an end that is no time": ({"end": float("inf")}, "the end must lie behind the start"),
    "no n-th frame": ({"every": 0}, "n must be at least 1"),
    "an n beyond all videos": ({"every": 10**20}, "n must be at least 1 and at most 1000000"),
    "a start after the last picture": ({"start": 1.99}, "no picture at 1.99 s or later, the last one stands at 1.96 s"),
    "a start behind the end": ({"start": 9}, "the start at 9 s lies behind its end at 2.0 s"),
}


@pytest.mark.parametrize("options, message", RANGES.values(), ids=RANGES)
def test_impossible_ranges_are_refused(tmp_path, options, message):
    clip = write_clip(tmp_path / "a.mp4", dot_frames(50))
    with pytest.raises(ValueError, match=message):
        open_source(str(clip), **options)


KINDS = {
    "0": ("camera", "camera0"),
    "/dev/video2": ("camera", "camera2"),
    "clips/a b.mp4": ("file", "a b"),
    "a:b.mp4": ("file", "a:b"),
    "https://example.org/x/clip.mp4?key=1": ("url", "clip"),
    "rtsp://192.168.0.9:554/": ("url", "192.168.0.9-554"),
}


@pytest.mark.parametrize("name", KINDS)
def test_names_tell_files_urls_and_cameras_apart(name):
    assert (kind_of(name), short_name(name)) == KINDS[name]


def test_a_file_called_like_a_number_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "0.mp4", dot_frames(2)).rename(tmp_path / "0")
    assert kind_of("0") == "file" and len(_read("0")[1]) == 2


def test_a_file_name_with_a_colon_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "x.mp4", dot_frames(2)).rename(tmp_path / "http:x.mp4")
    assert len(_read("http:x.mp4")[1]) == 2


# --- cameras ----------------------------------------------------------------------------------------------------------


class FakeCamera:
    """As cv2.VideoCapture: gives `pictures` blue (BGR) pictures, the first when it is opened, then disappears."""

    pictures, opened = 4, True

    def __init__(self, which):
        self.which, self.given = which, 0

    def isOpened(self):
        return self.opened

    def get(self, what):
        return 20.0

    def read(self):
        self.given += 1
        if self.given > self.pictures:
            return False, None
        return True, np.full((6, 8, 3), (255, 0, 0), np.uint8)

    def release(self): ...


@pytest.fixture
def fake_camera(monkeypatch):
    def make(**facts):
        monkeypatch.setattr(camera.cv2, "VideoCapture", type("Camera", (FakeCamera,), facts))

    return make


def test_a_cameras_times_are_those_of_a_clock_and_its_colours_rgb(fake_camera):
    fake_camera()
    ticks = iter([100.0, 100.05, 100.2, 103.0])
    source = CameraReader("0", clock=lambda: next(ticks))
    frames = list(source)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.05, 0.2])
    assert (frames[0].image == (0, 0, 255)).all()
    assert source.facts.live and source.facts.size_wh == (8, 6) and source.facts.fps == 20
    assert source.problem == "camera 0: it disappeared after 3.0 s; what was seen until then is kept"


def test_a_camera_stops_by_itself_at_the_end_that_was_asked_for(fake_camera):
    fake_camera(pictures=100)
    ticks = iter(range(100))
    source = CameraReader("0", end=4.5, clock=lambda: next(ticks))
    assert [frame.time for frame in source] == [0, 1, 2, 3, 4] and source.problem is None


@pytest.mark.parametrize(
    "facts, message",
    [({"opened": False}, "camera 7: there is no such camera"), ({"pictures": 0}, "camera 7: it gives no picture")],
    ids=["not there", "in use"],
)
def test_a_camera_that_gives_nothing_is_refused(fake_camera, facts, message):
    fake_camera(**facts)
    with pytest.raises(OSError, match=message):
        open_source("7")

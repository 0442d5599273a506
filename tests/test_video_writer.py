"""The MP4 that is written: plays in browsers, keeps times and sound, and ends in order when the disk is full."""

import errno
import os
from fractions import Fraction

import numpy as np
import pytest
from video_clips import SOUND_RATE, av, dot_frames, loudest_tone, read_frames, read_times, tone, write_clip

from featherpose.runtime.video import writer as writing
from featherpose.runtime.video.reader import open_source
from featherpose.runtime.video.writer import VideoWriter

UNEVEN = [0.0, 0.04, 0.1, 0.11, 0.5, 0.52, 0.9, 2.0]


def _write(path, frames, times, **options):
    height, width = frames[0].shape[:2]
    writer = VideoWriter(path, (width, height), **options)
    for image, time in zip(frames, times, strict=True):
        writer.write(image, time, 0.04)
    writer.finish()
    return path


def _copied(clip, out, **range_):
    """The clip written again with its sound, as the pipeline does it."""
    source = open_source(str(clip), **range_)
    facts = source.facts
    writer = VideoWriter(out, facts.size_wh, fps=facts.fps, time_base=facts.time_base, audio=source.audio)
    offset = range_.get("start", 0.0)
    for frame in source:
        for packet in frame.audio:
            writer.write_audio(packet, offset)
        writer.write(frame.image, frame.time - offset, frame.duration)
    for packet in source.late_audio:
        writer.write_audio(packet, offset)
    writer.finish()
    source.close()
    return out


def test_it_is_what_browsers_play(tmp_path):
    path = _write(tmp_path / "a.mp4", dot_frames(10), [i / 25 for i in range(10)])
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert "mp4" in container.format.name and video.frames == 10
        frame = next(container.decode(video))
        assert frame.colorspace == 1 and frame.color_range == 1  # BT.709, 16 to 235
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 10_000_000)], ids=str)
def test_uneven_times_are_kept(tmp_path, base):
    path = _write(tmp_path / "a.mp4", dot_frames(len(UNEVEN)), UNEVEN, time_base=base)
    assert read_times(path) == pytest.approx(UNEVEN, abs=1e-5)


def test_a_clock_of_whole_frames_is_kept_exactly(tmp_path):
    base = Fraction(1001, 30_000)
    path = _write(tmp_path / "a.mp4", dot_frames(20), [float(i * base) for i in range(20)], time_base=base)
    with av.open(str(path)) as container:
        assert [frame.pts * frame.time_base for frame in container.decode(video=0)] == [i * base for i in range(20)]


def test_two_frames_within_one_tick_follow_each_other(tmp_path):
    path = _write(tmp_path / "a.mp4", dot_frames(3), [0, 0.0001, 0.0002], time_base=Fraction(1, 1000))
    assert read_times(path) == pytest.approx([0, 0.001, 0.002])


def test_colours_come_back(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:], image[32:, :32], image[32:, 32:] = (
        (230, 20, 30), (20, 200, 60), (10, 40, 220), (128, 128, 128),
    )  # fmt: skip
    (back, *_) = read_frames(_write(tmp_path / "a.mp4", [image] * 3, [0, 0.04, 0.08]))
    inside = np.s_[8:24], np.s_[40:56]
    for rows in inside:
        for columns in inside:
            assert np.abs(back[rows, columns].astype(int) - image[rows, columns]).mean() < 4


def test_an_odd_side_gets_one_more_line(tmp_path):
    image = np.zeros((51, 37, 3), np.uint8)
    image[-1:], image[:, -1:] = 200, 200
    (back, *_) = read_frames(_write(tmp_path / "a.mp4", [image] * 2, [0, 0.04]))
    assert (
        back.shape == (52, 38, 3) and back[-1].mean() > 150 and back[:, -1].mean() > 150 and back[:48, :34].mean() < 20
    )


def _sound_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return stream.codec_context.name, [(float(p.pts * p.time_base), bytes(p)) for p in packets]


@pytest.mark.parametrize(
    "codec, suffix", [("aac", ".mp4"), ("aac", ".ts"), ("libopus", ".mkv"), ("libmp3lame", ".avi")]
)
def test_sound_that_fits_is_copied_packet_by_packet(tmp_path, codec, suffix):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    clip = write_clip(tmp_path / f"a{suffix}", dot_frames(50), sound=codec)
    out = _copied(clip, tmp_path / "b.mp4")
    (kind, before), (kind_after, after) = _sound_packets(clip), _sound_packets(out)
    assert kind_after == kind and len(after) == len(before)
    if suffix != ".ts":  # there every packet of AAC carries a header, which MP4 does without
        assert [content for _, content in after] == [content for _, content in before]
    origin = before[0][0] if suffix == ".ts" else 0.0
    assert [time for time, _ in after] == pytest.approx([time - origin for time, _ in before], abs=0.002)
    hertz, seconds = loudest_tone(out)
    assert hertz == pytest.approx(440, abs=2) and seconds == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("codec, suffix", [("pcm_s16le", ".mkv"), ("ac3", ".mkv"), ("pcm_s16le", ".avi")])
def test_other_sound_becomes_aac(tmp_path, codec, suffix):
    clip = write_clip(tmp_path / f"a{suffix}", dot_frames(50), sound=codec)
    out = _copied(clip, tmp_path / "b.mp4")
    assert _sound_packets(out)[0] == "aac"
    hertz, seconds = loudest_tone(out)
    assert hertz == pytest.approx(440, abs=2) and seconds == pytest.approx(2.0, abs=0.1)


def test_a_hole_in_the_sound_stays_where_it_is(tmp_path):
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=SOUND_RATE, layout="mono")
        for number, image in enumerate(dot_frames(100)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:64, :64]), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for second in (0, 3):
            for part in range(SOUND_RATE // 1024):
                container.mux(sound.encode(tone(second * SOUND_RATE + part * 1024)))
        container.mux(sound.encode(None))
    out = _copied(clip, tmp_path / "b.mp4")
    with av.open(str(out)) as container:
        heard = [(float(f.pts * f.time_base), f.to_ndarray()) for f in container.decode(audio=0)]
    loud = {time: float(np.abs(wave).mean()) > 0.01 for time, wave in heard}
    for begin, end, expected in ((0.1, 0.85, True), (1.15, 2.85, False), (3.15, 3.85, True)):
        inside = [value for time, value in loud.items() if begin < time < end]
        assert inside and all(value is expected for value in inside), (begin, end)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_part_of_a_video_begins_at_zero_with_its_own_sound(tmp_path, codec):
    clip = write_clip(tmp_path / "a.mkv", dot_frames(75), sound=codec)
    out = _copied(clip, tmp_path / "b.mp4", start=1.0, end=2.0)
    assert read_times(out) == pytest.approx([i / 25 for i in range(25)], abs=0.002)
    with av.open(str(out)) as container:
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(1.0, abs=0.06)
        assert abs(float((sound.start_time or 0) * sound.time_base)) < 0.03


def test_a_damaged_packet_of_a_copied_sound_is_left_out(tmp_path):
    """What a lost piece of a transport stream leaves of an AAC packet is no AAC any more."""
    clip = write_clip(tmp_path / "a.ts", dot_frames(50), sound="aac")
    source = open_source(str(clip))
    writer = VideoWriter(tmp_path / "b.mp4", source.facts.size_wh, audio=source.audio)
    spoilt = 0
    for frame in source:
        for number, packet in enumerate(frame.audio):
            if frame.index == 20 and number == 0:
                broken = av.Packet(bytes(packet)[: packet.size // 2][3:])
                broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                packet, spoilt = broken, spoilt + 1
            writer.write_audio(packet, 0)
        writer.write(frame.image, frame.time, frame.duration)
    writer.finish()
    assert spoilt == 1 and len(read_times(tmp_path / "b.mp4")) == 50


def test_sound_that_is_encoded_anew_is_whole_however_the_threads_run(tmp_path):
    """The reader ends the pictures' decoder alone: the sound's is in the writer's hands."""
    clip = write_clip(tmp_path / "a.mkv", dot_frames(100), sound="ac3")
    source = open_source(str(clip))
    frames = list(source)  # the reader is done before the writer begins
    writer = VideoWriter(tmp_path / "b.mp4", source.facts.size_wh, audio=source.audio)
    for frame in frames:
        for packet in frame.audio:
            writer.write_audio(packet, 0)
        writer.write(frame.image, frame.time, frame.duration)
    for packet in source.late_audio:
        writer.write_audio(packet, 0)
    writer.finish()
    assert loudest_tone(tmp_path / "b.mp4")[1] == pytest.approx(4.0, abs=0.1)


def test_a_player_can_jump_every_two_seconds_at_any_rate(tmp_path):
    times = [0.4 * i for i in range(40)]
    path = _write(tmp_path / "a.mp4", dot_frames(40, (64, 64), 0), times, fps=240)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [float(packet.pts * packet.time_base) for packet in packets if packet.is_keyframe]
    assert keys == pytest.approx([2.0 * i for i in range(8)], abs=0.01)


def test_a_file_that_cannot_get_its_name_is_kept_and_named(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OSError, match=r"a\.mp4 cannot be replaced \(.+\), the new file is .+\.part") as told:
        _write(tmp_path / "a.mp4", dot_frames(10), [i / 25 for i in range(10)])
    assert len(read_times(str(told.value).rsplit(" is ", 1)[1])) == 10


def test_a_name_that_is_no_utf8_can_be_written(tmp_path):
    path = tmp_path / os.fsdecode(b"bad\xff.mp4")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    _write(path, dot_frames(10), [i / 25 for i in range(10)])
    with open(path, "rb") as file, av.open(file) as container:
        assert len(list(container.decode(video=0))) == 10


def test_nothing_half_written_is_left_by_an_abort(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 64))
    writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_a_frame_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp4: a video needs at least one frame"):
        VideoWriter(tmp_path / "a.mp4", (64, 64)).finish()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        VideoWriter(tmp_path / "no" / "a.mp4", (64, 64))


def test_an_ffmpeg_without_h264_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(writing, "ENCODERS", {"libnothing": {}})
    with pytest.raises(ValueError, match=r"no H\.264 encoder \(looked for libnothing\)"):
        VideoWriter(tmp_path / "a.mp4", (64, 64))
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A file on a disk with room for so many bytes more, as long as the reserve takes up the rest."""

    def __init__(self, file, room, reserve):
        self._file, self._room, self._reserve = file, room, reserve

    def write(self, data):
        if self._reserve.exists() and self._room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= len(data)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_full_disk_is_told_and_what_was_written_plays(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (80, 64, 64, 3), dtype=np.uint8)
    writer = VideoWriter(tmp_path / "a.mp4", (64, 64))
    writer._file._file = FullDisk(writer._file._file, 100_000, writer._file._reserve)
    done = 0
    with pytest.raises(OSError, match="No space left"):
        for i, image in enumerate(noise):
            writer.write(image, i / 25)
            done += 1
    assert 5 < done < 75
    writer.finish()
    assert read_times(tmp_path / "a.mp4") == pytest.approx([i / 25 for i in range(done)], abs=1e-4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_a_disk_without_room_for_the_reserve_is_told_by_its_folder(tmp_path, monkeypatch):
    def no_room(path, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "_fill", no_room)
    with pytest.raises(OSError) as told:
        VideoWriter(tmp_path / "a.mp4", (64, 64))
    assert str(told.value) == f"{tmp_path}: the disk is full: a video takes 16 MB of room to begin with"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_completed_is_told_and_removed(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", (64, 64))
    file = FullDisk(writer._file._file, 100, tmp_path)  # a reserve that stays: freeing ours makes no room
    writer._file._file = file
    writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    assert list(tmp_path.iterdir()) == []

"""The verb video, from a clip of moving dots to MP4, JSON lines and CSV, and whatever can go wrong on the way."""

import csv
import json
import os
import signal

import cv2
import numpy as np
import pytest
from colour_model import dots, write_colour_model
from video_clips import cut_clip, dot_frames, dot_joints, read_frames, read_times, turn_clip, write_clip

from featherpose import cli
from featherpose.cli import progress
from featherpose.runtime import tracker
from featherpose.runtime.video import camera, window

RESULTS = ["clip.about.json", "clip.pose.mp4", "clip.poses.csv", "clip.poses.jsonl"]
WITHIN = 4
"""Pixels. The colour model tells the cell of 8 pixels that a dot of 8 pixels fills most, and the dots move by single
pixels."""


class PlainTracker:
    """The verb's other half, made plain: every frame by itself, at one look. What is followed is tested elsewhere."""

    state = "lost"

    def __init__(self, predictor, *, smoothing):
        self.predictor, self.point = predictor, None
        predictor.refine = False

    def start(self, *, point=None, box=None):
        self.point = point

    def __call__(self, frame, timestamp):
        pose = self.predictor(frame, point=self.point)
        self.state = "found" if pose.pose_score >= 0.1 else "lost"
        return pose if self.state == "found" else None


REAL = tracker.Tracker


@pytest.fixture(autouse=True)
def plain_tracker(monkeypatch):
    monkeypatch.setattr(tracker, "Tracker", PlainTracker)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_colour_model(tmp_path_factory.mktemp("model") / "colours.onnx"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _rows(path="featherpose-out/clip.poses.jsonl"):
    with open(path) as file:
        return [json.loads(line) for line in file]


def _about(path="featherpose-out/clip.about.json"):
    with open(path) as file:
        return json.load(file)


def _xy(row):
    return np.array([[joint["x"], joint["y"]] for joint in row["joints"].values()])


def test_a_person_is_followed_into_video_rows_and_facts(model, here, capsys):
    times = [i / 25 + 0.01 * (i % 3) for i in range(30)]
    clip = write_clip(here / "clip.mp4", dot_frames(30), times, sound="aac")
    assert cli.run(["video", str(clip), "--model", model, "--no-smoothing"]) == 0
    assert sorted(path.name for path in (here / "featherpose-out").iterdir()) == RESULTS
    rows = _rows()
    assert [row["frame"] for row in rows] == list(range(30))
    assert [row["time"] for row in rows] == pytest.approx(times, abs=1e-5)
    assert {row["state"] for row in rows} == {"found"}
    for i, row in enumerate(rows):
        assert np.abs(_xy(row) - dot_joints(i)).max() <= WITHIN
    with open("featherpose-out/clip.poses.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * 30 and table[5]["joint"] == "right_blue" and table[5]["frame"] == "1"
    assert [float(table[3][key]) for key in ("x", "y", "score")] == list(rows[1]["joints"]["red"].values())
    drawn = here / "featherpose-out/clip.pose.mp4"
    assert read_times(drawn) == pytest.approx(times, abs=1e-4)
    middle = ((dot_joints(9)[0] + dot_joints(9)[1]) / 2).astype(int)  # of the bone from red to green
    bone = np.s_[middle[1] - 2 : middle[1] + 3, middle[0] - 2 : middle[0] + 3]
    assert read_frames(drawn)[9][bone].max() > 80 and not dot_frames(10)[9][bone].any()
    facts = _about()
    assert facts["source"]["size_wh"] == [128, 128] and facts["source"]["audio_codec"] == "aac"
    assert facts["model"]["name"] == "colours" and facts["frames"] == 30 and facts["ended_by"] == "its end"
    out = capsys.readouterr().out
    assert "30 frames (1.2 s) done" in out and "found in 30, uncertain in 0, lost in 0" in out and "slowest:" in out


@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
def test_the_one_who_is_pointed_at_is_followed_by_the_real_tracker(model, here, capsys, monkeypatch, mirrored):
    monkeypatch.setattr(tracker, "Tracker", REAL)
    places = {1: [(28, 20), (28, 36), (28, 52)], 2: [(100, 68), (100, 84), (100, 100)]}  # in the middle of cells
    frame = dots((128, 128), *((k, x - 4, y - 4, 8) for person in places.values() for k, (x, y) in enumerate(person)))
    write_clip(here / "clip.mp4", [frame] * 12 + [np.zeros_like(frame)] * 13)
    point, options = ("100,30", ["--mirror"]) if mirrored else ("25,30", [])
    assert cli.run(["video", "clip.mp4", "--model", model, "--point", point, *options]) == 0
    rows = _rows()
    assert [row["state"] for row in rows[:12]] == ["found"] * 12
    expected = np.array([(128 - x, y) if mirrored else (x, y) for x, y in places[1]])
    assert max(np.abs(_xy(row) - expected).max() for row in rows[:12]) <= WITHIN
    assert rows[12]["state"] == "uncertain" and rows[-1]["state"] == "lost" and rows[-1]["joints"] is None
    assert "found in 12" in capsys.readouterr().out


def test_several_people_come_under_their_numbers(model, here, capsys):
    places = {1: [(28, 20), (28, 36), (28, 52)], 2: [(100, 68), (100, 84), (100, 100)]}  # in the middle of cells
    frame = dots((128, 128), *((k, x - 4, y - 4, 8) for person in places.values() for k, (x, y) in enumerate(person)))
    write_clip(here / "clip.mp4", [frame] * 10 + [np.zeros_like(frame)])
    assert cli.run(["video", "clip.mp4", "--model", model, "--people", "3"]) == 0
    assert sorted(path.name for path in (here / "featherpose-out").iterdir()) == RESULTS
    rows = _rows()
    for row in rows[:10]:
        assert {one["person"]: [(j["x"], j["y"]) for j in one["joints"].values()] for one in row["people"]} == places
    assert rows[10] == {"frame": 10, "time": 0.4, "state": "lost", "people": []}
    assert "somebody in 10, nobody in 1" in capsys.readouterr().out and _about()["options"]["people"] == 3


def test_a_turned_clip_is_followed_the_right_way_up(model, here):
    turn_clip(write_clip(here / "clip.mp4", [np.rot90(image) for image in dot_frames(5)]), (0, 1, -1, 0))
    assert cli.run(["video", "clip.mp4", "--model", model, "--no-video", "--no-smoothing"]) == 0
    for i, row in enumerate(_rows()):
        assert np.abs(_xy(row) - dot_joints(i)).max() <= WITHIN


def test_nobody_is_lost_and_nothing_is_drawn(model, here):
    write_clip(here / "clip.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    assert cli.run(["video", "clip.mp4", "--model", model]) == 0
    assert {(row["state"], row["joints"]) for row in _rows()} == {("lost", None)}


def test_parts_of_a_video_without_drawing(model, here):
    write_clip(here / "clip.mp4", dot_frames(50))
    options = ["--start", "0.4", "--end", "1.2", "--every", "5", "--no-video", "--out", "x"]
    assert cli.run(["video", "clip.mp4", "--model", model, *options]) == 0
    assert sorted(path.name for path in (here / "x").iterdir()) == [name for name in RESULTS if "mp4" not in name]
    assert [row["time"] for row in _rows("x/clip.poses.jsonl")] == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_a_mirrored_video_keeps_the_persons_own_sides(model, here):
    write_clip(here / "clip.mp4", dot_frames(5))
    assert cli.run(["video", "clip.mp4", "--model", model, "--mirror", "--no-smoothing"]) == 0
    row = _rows()[2]
    assert np.abs(_xy(row) - (np.array([128, 0]) + dot_joints(2) * (-1, 1))).max() <= WITHIN
    red, _, blue = read_frames(here / "featherpose-out/clip.pose.mp4")[0][87, 128 - 65]
    assert blue > red  # a corner of the blue dot, seen in the mirror


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
def test_a_point_chooses_whom_to_follow(model, here, mirror):
    pair = [np.hstack([image, image]) for image in dot_frames(4)]
    write_clip(here / "clip.mp4", pair)
    for person, x in ((0, 50), (1, 128 + 50)):
        point = f"{256 - x if mirror else x},56"
        options = ["--point", point, "--no-video", "--no-smoothing", *(["--mirror"] if mirror else [])]
        assert cli.run(["video", "clip.mp4", "--model", model, *options]) == 0
        x, y = _xy(_rows()[0])[0]
        assert abs((256 - x if mirror else x) - (44 + 128 * person)) <= 2 * WITHIN and abs(y - 28) <= 2 * WITHIN


def test_a_file_that_is_cut_off_is_exit_code_1_and_keeps_what_was_there(model, here, capsys):
    noise = np.random.default_rng(0).integers(0, 60, (50, 128, 128, 3), dtype=np.uint8)
    frames = [np.maximum(image, dark) for image, dark in zip(dot_frames(50), noise, strict=True)]
    cut_clip(write_clip(here / "clip.mp4", frames, options={"movflags": "faststart"}), 0.6)
    assert cli.run(["video", "clip.mp4", "--model", model]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: clip.mp4: the file is cut off after 1.") and captured.err.count("\n") == 1
    rows = _rows()
    assert 20 < len(rows) < 40 and len(read_times(here / "featherpose-out/clip.pose.mp4")) == len(rows)
    assert _about()["ended_by"].startswith("clip.mp4: the file is cut off") and f"{len(rows)} frames" in captured.out


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_ctrl_c_keeps_what_was_done_and_says_130(way, model, here, capsys, monkeypatch):
    """So does a service that is stopped, and a terminal that is closed."""
    if way != "Ctrl-C" and not hasattr(signal, way):
        pytest.skip(f"this system has no {way}")
    write_clip(here / "clip.mp4", dot_frames(50))
    look = PlainTracker.__call__

    def stop_at_one_second(self, frame, timestamp):
        if timestamp >= 1:
            if way == "Ctrl-C":
                raise KeyboardInterrupt
            signal.raise_signal(getattr(signal, way))
        return look(self, frame, timestamp)

    monkeypatch.setattr(PlainTracker, "__call__", stop_at_one_second)
    before = [signal.getsignal(getattr(signal, name)) for name in ("SIGINT", "SIGTERM")]
    assert cli.run(["video", "clip.mp4", "--model", model]) == 130
    assert before == [signal.getsignal(getattr(signal, name)) for name in ("SIGINT", "SIGTERM")]
    assert capsys.readouterr().err.strip() == "stopped by Ctrl-C"
    assert len(_rows()) == 25 and len(read_times(here / "featherpose-out/clip.pose.mp4")) == 25
    assert sorted(path.name for path in (here / "featherpose-out").iterdir()) == RESULTS


def test_ctrl_c_before_the_first_frame_leaves_nothing(model, here, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "rate_bar", stop)
    write_clip(here / "clip[1].mp4", dot_frames(5))
    assert cli.run(["video", "clip[1].mp4", "--model", model]) == 130
    assert capsys.readouterr().err.strip() == "stopped by Ctrl-C"
    assert not list(here.glob("featherpose-out/*")) and not list(here.glob("featherpose-out/.*"))


def test_ctrl_c_while_a_library_loads_is_ctrl_c(model, here, capsys, monkeypatch):
    def load(*_, **__):
        raise ImportError("initialization failed") from KeyboardInterrupt()

    write_clip(here / "clip.mp4", dot_frames(5))
    monkeypatch.setattr(PlainTracker, "__init__", load)
    assert cli.run(["video", "clip.mp4", "--model", model]) == 130
    assert capsys.readouterr().err.strip() == "stopped by Ctrl-C"


def test_a_camera_that_disappears_is_exit_code_1_and_keeps_what_was_seen(model, here, capsys, monkeypatch):
    class Camera:
        def __init__(self, which):
            self.frames = [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in dot_frames(5)]

        def isOpened(self):
            return True

        def get(self, what):
            return 0.0  # as many drivers do

        def read(self):
            return (True, self.frames.pop(0)) if self.frames else (False, None)

        def release(self): ...

    monkeypatch.setattr(camera.cv2, "VideoCapture", Camera)
    assert cli.run(["video", "0", "--model", model]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: camera 0: it disappeared after")
    assert "no window: there is no screen" in captured.out or not _is_linux()
    assert "Ctrl-C stops" in captured.out
    rows = _rows("featherpose-out/camera0.poses.jsonl")
    assert 1 <= len(rows) <= 5 and len(read_times(here / "featherpose-out/camera0.pose.mp4")) == len(rows)


def _is_linux():
    return os.uname().sysname == "Linux" if hasattr(os, "uname") else False


def test_a_window_shows_every_frame_until_it_is_closed(model, here, monkeypatch):
    shown = []

    class Window:
        def __init__(self, title):
            shown.append(title)

        def show(self, image):
            shown.append(image.shape)
            return len(shown) < 4

        def close(self):
            shown.append("closed")

    monkeypatch.setattr(window, "why_no_window", lambda: None)
    monkeypatch.setattr(window, "open_window", Window)
    write_clip(here / "clip.mp4", dot_frames(30))
    assert cli.run(["video", "clip.mp4", "--model", model, "--window"]) == 0
    assert shown == ["featherpose clip.mp4", (128, 128, 3), (128, 128, 3), (128, 128, 3), "closed"]
    assert len(_rows()) == 3


ERRORS = {
    "no such video": (["nothing.mp4"], "nothing.mp4: there is no such video"),
    "no such camera": (["7"], "camera 7: there is no such camera"),
    "a photo": (["photo.png"], "photo.png: is a photo, not a video; featherpose predict takes photos"),
    "a point of one number": (["clip.mp4", "--point", "3"], "--point must be X,Y in photo pixels"),
    "point and box": (["clip.mp4", "--box", "1,2,3,4", "--point", "1,1"], "give --point or --box, not both"),
    "people and point": (["clip.mp4", "--people", "2", "--point", "1,1"], "give --people, or --point or --box of one"),
    "a point outside": (["clip.mp4", "--point", "500,1"], "the point (500, 1) lies outside"),
    "a point outside, mirrored": (["clip.mp4", "--mirror", "--point", "500,1"], "the point (500, 1) lies outside"),
    "a file for results": (["clip.mp4", "--out", "photo.png"], "photo.png: is no folder, or lies in a file"),
    "a threshold above 1": (["clip.mp4", "--threshold", "2"], "--threshold must lie in [0, 1], got 2"),
    "an end before the start": (["clip.mp4", "--start", "2", "--end", "1"], "the end must lie behind the start"),
    "a start behind the end": (["clip.mp4", "--start", "9"], "clip.mp4: the start at 9 s lies behind its end at 0.2"),
    "a window without a screen": (["clip.mp4", "--window"], "--window: there is no screen"),
    "a model that is a video": (["clip.mp4", "--model", "clip.mp4"], "clip.mp4: '.mp4' is not a known kind of model"),
}


@pytest.mark.parametrize("arguments, message", ERRORS.values(), ids=ERRORS)
def test_wrong_input_is_one_line_on_stderr_and_leaves_nothing(arguments, message, model, here, capsys):
    if "window" in message and not _is_linux():
        pytest.skip("only Linux tells by its environment that there is no screen")
    write_clip(here / "clip.mp4", dot_frames(5))
    cv2.imwrite("photo.png", dot_frames(1)[0])
    model = [] if "--model" in arguments else ["--model", model]
    assert cli.run(["video", *arguments, *model]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}") and captured.err.count("\n") == 1
    assert not list(here.glob("featherpose-out/*")) and not list(here.glob("featherpose-out/.*"))


def test_the_video_itself_is_never_overwritten(model, here, capsys):
    clip = write_clip(here / "clip.mp4", dot_frames(5))
    before = clip.read_bytes()
    (here / "out").mkdir()
    os.link(clip, here / "out/clip.pose.mp4")
    assert cli.run(["video", "clip.mp4", "--model", model, "--out", "out"]) == 1
    assert "out/clip.pose.mp4: the results would overwrite the video itself" in capsys.readouterr().err.replace(
        "\\", "/"
    )
    assert clip.read_bytes() == before


def test_a_folder_where_a_result_goes_is_told_before_the_work(model, here, capsys):
    write_clip(here / "clip.mp4", dot_frames(5))
    (here / "featherpose-out" / "clip.pose.mp4").mkdir(parents=True)
    assert cli.run(["video", "clip.mp4", "--model", model]) == 1
    assert "clip.pose.mp4: a folder stands where a result goes; move it" in capsys.readouterr().err
    assert [path.name for path in (here / "featherpose-out").iterdir()] == ["clip.pose.mp4"]


def test_results_of_an_earlier_run_are_replaced(model, here):
    for frames in (10, 5):
        write_clip(here / "clip.mp4", dot_frames(frames))
        assert cli.run(["video", "clip.mp4", "--model", model, "--out", "."]) == 0
    assert len(_rows("clip.poses.jsonl")) == len(read_times(here / "clip.pose.mp4")) == 5
    assert sorted(path.name for path in here.iterdir()) == sorted([*RESULTS, "clip.mp4"])

"""`bench --video` tells what following costs per frame, stage by stage, and beside what."""

from __future__ import annotations

import json

import numpy as np
import pytest
from moving_people import Told, frame, person

from featherpose import bench as measuring
from featherpose import bench_video
from featherpose.bench import Contestant
from featherpose.bench_video import STAGES
from featherpose.cli import run

HOST = {"cpu": "a cpu", "cores": 2, "system": "a system", "load": 0.5, "versions": {"python": "3"}}


class Clock:
    """A clock that goes on by a millisecond each time it is read, and by as much as a run of the network is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Slow(Told):
    """A model whose run takes 10 ms of that clock."""

    def __init__(self, clock: Clock, outputs: str = "raw", people: int = 1) -> None:
        super().__init__(outputs=outputs)
        self.clock, self.people = clock, [person(240.0)][:people]

    def run(self, images):
        self.clock.now += 0.010
        return super().run(images)


def measured(outputs: str, frames: int = 4, people: int = 1) -> bench_video.Timing:
    clock = Clock()
    models = [Contestant("toy", Slow(clock, outputs, people), 2_500_000)]
    return bench_video.bench_video(models, [frame()] * 3, runs=frames, warmup=2, clock=clock)[0]


def test_a_frame_is_divided_into_its_stages():
    timing = measured("raw")
    assert timing.looks == 1
    for stage, expected in {"crop": 1, "network": 11, "decode": 1, "who": 1, "filter": 1, "total": 15}.items():
        assert timing.ms[stage] == pytest.approx([expected] * 4), stage
    assert timing.share == pytest.approx(15 / 11) and timing.share_of_one == pytest.approx(14 / 11)


def test_a_model_that_decodes_inside_is_followed_by_the_official_rule():
    timing = measured("decoded")
    assert timing.ms["decode"] == pytest.approx([0] * 4)
    assert timing.ms["total"] == pytest.approx([14] * 4)
    facts = bench_video.report([timing], frames=[frame()] * 3, clip="a", threads=1, date="2026-01-02", host=HOST)
    assert facts["models"][0]["way"] == "official rule"
    assert bench_video.rows(facts)[0][4] == "in the network"


def test_a_frame_without_anybody_is_measured_too():
    timing = measured("raw", people=0)
    assert (timing.ms["total"] > 0).all() and timing.looks == 1


def test_models_take_turns_each_with_a_track_of_its_own():
    clock = Clock()
    models = [Contestant(name, Slow(clock), None) for name in "ab"]
    timings = bench_video.bench_video(models, [frame()] * 2, runs=13, warmup=1, clock=clock)
    assert [len(timing.ms["total"]) for timing in timings] == [13, 13]
    assert models[0].backend.passes == models[1].backend.passes == 1 + 13 + 2 + 1  # the first frame is looked at twice


@pytest.mark.parametrize("name", ["threads", "runs"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        bench_video.bench_video([], [frame()] * 2, **{name: 0})


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A model file that is followed through a drawn clip of two frames."""
    backend = Told()
    backend.people = [person(240.0)]
    monkeypatch.setattr(measuring, "load_model", lambda model, threads: backend)
    monkeypatch.setattr(bench_video, "drawn_clip", lambda: [frame()] * 2)
    (tmp_path / "toy.onnx").write_bytes(b"12345")
    return str(tmp_path / "toy.onnx")


def test_command_prints_the_budget_and_writes_json(toy, tmp_path, capsys):
    file = tmp_path / "v.json"
    assert run(["bench", toy, "--video", "--runs", "3", "--warmup", "0", "--cpu-time", "--json", str(file)]) == 0
    facts = json.loads(file.read_text())
    assert facts["clip"] == {"name": "a drawn clip", "frames": 2, "size_wh": [480, 360]}
    assert facts["models"][0]["way"] == "tracker" and facts["models"][0]["bytes"] == 5
    assert set(facts["models"][0]["ms"]) == set(STAGES)
    out = capsys.readouterr().out
    assert "toy.onnx" in out and "at most 1.25" in " ".join(out.split()) and "processor time" in out
    assert max(len(line) for line in out.splitlines()) <= 80


def test_a_seed_draws_another_clip():
    first, second, again = (bench_video.drawn_clip(2, seed)[0] for seed in (1, 2, 1))
    assert first.shape == (720, 1280, 3) and (first == again).all() and (first != second).any()


def test_command_prints_markdown(toy, capsys):
    assert run(["bench", toy, "--video", "--runs", "1", "--warmup", "0", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| " + " | ".join(bench_video.HEAD) + " |" and lines[2].startswith("| toy.onnx | tracker |")


def test_a_clip_is_the_first_frames_of_a_file(tmp_path):
    pytest.importorskip("av", reason="the extra video is not installed")
    from video_clips import dot_frames, write_clip

    write_clip(tmp_path / "a.mp4", dot_frames(6))
    frames = bench_video.file_clip(str(tmp_path / "a.mp4"), 4)
    assert len(frames) == 4 and np.abs(frames[0].astype(int) - dot_frames(1)[0]).mean() < 3
    write_clip(tmp_path / "b.mp4", dot_frames(1))
    with pytest.raises(ValueError, match=r"b\.mp4: a clip to measure on needs two frames or more, it has 1"):
        bench_video.file_clip(str(tmp_path / "b.mp4"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip", "a.mp4"], "--clip is the clip of --video"),
        (["--seed", "1"], "--seed chooses a drawn clip of --video"),
        (["--video", "--clip", "a.mp4", "--seed", "1"], "--seed chooses a drawn clip of --video"),
        (["--video", "--photo", "a.jpg"], "leave --photo and --batch out"),
        (["--video", "--batch", "2"], "leave --photo and --batch out"),
        (["--cpu-time", "--threads", "2"], "--cpu-time counts one thread"),
        (["--video", "--clip", "missing.mp4"], "missing.mp4: there is no such video"),
    ],
)
def test_contradictions_are_refused_in_one_line(options, message, toy, capsys):
    assert run(["bench", toy, *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_bundled_model_tells_its_size():
    from featherpose.runtime.bundled import bundled_models

    models = bundled_models()
    if not models:
        pytest.skip("this build ships no model")
    name = next(iter(models))
    (found,) = measuring.contestants([name])
    assert found.label == name and found.bytes == models[name].path.stat().st_size

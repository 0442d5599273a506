"""`bench` tells where the time went: stages apart, models in turn, a table and JSON that say what was measured."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from featherpose import bench as measuring
from featherpose.bench import STAGES, Contestant, bench
from featherpose.cli import run
from featherpose.skeletons import LSP14
from featherpose.spec import ModelSpec

PHOTO = np.zeros((30, 50, 3), np.uint8)
HOST = {"cpu": "a cpu", "cores": 2, "system": "a system", "load": 0.5, "versions": {"python": "3"}}


def make_backend(outputs: str, calls: list | None = None, spend=lambda: None, name: str = "toy"):
    """A model that answers with zeros after noting who was asked for how many pictures."""
    spec = ModelSpec(name=name, skeleton=LSP14, input_size=(64, 32), codec={"name": "movenet"}, outputs=outputs)
    pairs = {"regression": (14, 2, 8, 16), "offset": (14, 2, 8, 16)}
    shapes = {"center": (1, 8, 16), "heatmap": (14, 8, 16), **pairs}
    if outputs == "decoded":
        shapes = {"joints": (14, 3), "pose_score": ()}

    def answer(images):
        assert images.shape[1:] == (32, 64, 3)
        if calls is not None:
            calls.append((name, len(images), gc.isenabled(), cv2.getNumThreads()))
        spend()
        return {key: np.zeros((len(images), *shape), np.float32) for key, shape in shapes.items()}

    return SimpleNamespace(spec=spec, run=answer)


class Clock:
    """A clock that goes on by one second each time it is read, and as far as it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now

    def spend(self):
        self.now += 5


@pytest.mark.parametrize(("batch", "network"), [(1, 6000), (3, 2000)])
def test_stages_are_timed_apart_and_told_for_one_picture(batch, network):
    clock = Clock()
    model = Contestant("toy", make_backend("raw", spend=clock.spend))
    (timing,) = bench([model], PHOTO, runs=3, warmup=1, batch=batch, clock=clock)
    step = 1000 / batch  # one reading of the clock, ms
    for stage, expected in zip(STAGES, (step, network, step, 2 * step + network), strict=True):
        assert timing.ms[stage] == pytest.approx([expected] * 3), stage
        assert timing.summary(stage) == pytest.approx(
            dict.fromkeys(("median", "p10", "p90", "min"), expected), abs=1e-3
        )
    assert timing.decode_share == pytest.approx(1 / 6)


def test_summary_is_of_the_runs():
    timing = measuring.Timing("toy", make_backend("raw").spec, None, {"total": np.arange(11.0)[::-1]})
    assert timing.summary("total") == {"median": 5, "p10": 1, "p90": 9, "min": 0}


def test_models_take_turns_in_blocks_after_a_warm_up():
    calls: list = []
    models = [Contestant(name, make_backend("raw", calls, name=name)) for name in "ab"]
    timings = bench(models, PHOTO, runs=13, warmup=2)
    order = "".join(name for name, *_ in calls)
    assert order == "aa" + "bb" + "a" * 11 + "b" * 11 + "a" * 4 + "b" * 4  # each block after one run not counted
    assert [len(timing.ms["total"]) for timing in timings] == [13, 13]


def test_machine_is_guarded_while_measuring_and_left_as_it_was():
    calls: list = []
    before = cv2.getNumThreads()
    bench([Contestant("toy", make_backend("raw", calls))], PHOTO, threads=1, runs=2, warmup=0)
    assert {(collecting, threads) for *_, collecting, threads in calls} == {(False, 1)}
    assert gc.isenabled()
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize("name", ["threads", "runs", "batch"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        bench([Contestant("toy", make_backend("raw"))], PHOTO, **{name: 0})


def make_report() -> dict:
    models = [Contestant("ours.onnx", make_backend("raw"), 2_500_000), Contestant("theirs", make_backend("decoded"))]
    timings = bench(models, PHOTO, runs=3, warmup=0)
    return measuring.report(timings, image=PHOTO, threads=1, batch=1, date="2026-01-02", host=HOST)


def test_report_is_plain_json_with_positive_figures():
    facts = json.loads(json.dumps(make_report()))
    assert facts["photo_wh"] == [50, 30]
    assert [model["label"] for model in facts["models"]] == ["ours.onnx", "theirs"]
    for model in facts["models"]:
        assert (model["runs"], model["input_wh"]) == (3, [64, 32])
        for stage in STAGES:
            figures = model["ms"][stage]
            assert 0 <= figures["min"] <= figures["p10"] <= figures["median"] <= figures["p90"]
        assert model["ms"]["total"]["min"] > 0
    assert facts["models"][0]["decode_share"] > 0
    assert facts["models"][1]["decode_share"] is None


def test_table_says_where_a_model_decodes_inside():
    lines = measuring.markdown(make_report()).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0] == list(measuring.HEAD)
    assert cells[2][:3] == ["ours.onnx", "2.5", "64x32"]
    assert cells[2][-1].endswith(" %")
    assert cells[3][5] == "in the network"
    assert cells[3][-1] == ""
    assert "a cpu, 2 cores" in lines[-1]
    assert "2026-01-02" in lines[-1]


def test_machine_tells_its_cpu_and_versions(tmp_path):
    facts = measuring.machine()
    assert facts["cpu"]
    assert facts["versions"]["numpy"] == np.__version__
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Toy CPU: fast\n")
    assert measuring.cpu_name(tmp_path / "cpuinfo") == "Toy CPU: fast"


@pytest.fixture
def toy_files(monkeypatch, tmp_path):
    """Two files of equal name whose models are toys."""
    monkeypatch.setattr(measuring, "load_model", lambda model, threads: make_backend("raw"))
    paths = [tmp_path / folder / "toy.onnx" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"12345")
    return [str(path) for path in paths]


def test_command_prints_a_table_and_writes_json(toy_files, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO)
    arguments = ["--runs", "3", "--warmup", "0", "--photo", str(tmp_path / "photo.png"), "--markdown"]
    assert run(["bench", *toy_files, *arguments, "--json", str(tmp_path / "bench.json")]) == 0
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert [model["label"] for model in facts["models"]] == toy_files  # equal names are told apart by their paths
    assert [model["bytes"] for model in facts["models"]] == [5, 5]
    assert capsys.readouterr().out == measuring.markdown(facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "one", "photo.png", "two"]


def test_command_draws_its_table_for_a_terminal(toy_files, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "photo.png"), PHOTO)
    assert run(["bench", toy_files[0], "--runs", "1", "--warmup", "0", "--photo", str(tmp_path / "photo.png")]) == 0
    out = capsys.readouterr().out
    assert "toy.onnx" in out
    assert "0.0 MB, 64x32" in out
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx"], "missing.onnx: there is no such model file"),
        (["missing.onnx", "--photo", "missing.jpg"], "missing.jpg: there is no such photo"),
        (["missing.onnx", "--json", "missing/bench.json"], "missing: there is no such folder"),
    ],
)
def test_command_tells_of_missing_files_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["bench", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize("verb", ["bench", "evaluate-track"])
def test_a_figures_file_that_cannot_be_is_refused_before_anything_is_measured(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert run([verb, "missing.onnx", "--json", "folder"]) == 1
    assert "folder: this is a folder; name a file to write the figures to" in capsys.readouterr().err


def test_a_name_with_brackets_is_printed_as_it_is(toy_files, tmp_path, capsys):
    file = tmp_path / "toy [fp16].onnx"
    file.write_bytes(Path(toy_files[0]).read_bytes())
    assert run(["bench", str(file), "--runs", "1", "--warmup", "0"]) == 0
    assert "toy [fp16].onnx" in capsys.readouterr().out

"""The verbs predict, demo and models, and how every verb tells of errors."""

import csv
import hashlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import typer
from colour_model import dots, write_colour_model
from PIL import Image

import featherpose
from featherpose import cli
from featherpose.cli import demo as demo_module
from featherpose.runtime import bundled
from featherpose.runtime.report import drawing_names, write_whole

RED, GREEN, BLUE = 0, 1, 2
PERSON = ((RED, 28, 20, 4), (GREEN, 20, 40, 4), (BLUE, 40, 44, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_colour_model(tmp_path_factory.mktemp("model") / "colours.onnx"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _save(path, *places, size_wh=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(dots(size_wh, *places)).save(path)
    return str(path)


def test_predict_writes_json_csv_and_a_drawing(model, here, capsys):
    photo = _save(here / "photo.png", *PERSON)
    assert cli.run(["predict", photo, "--model", model, "--no-refine"]) == 0
    out = here / "featherpose-out"
    assert sorted(path.name for path in out.iterdir()) == ["photo.pose.jpg", "poses.csv", "poses.json"]
    facts = json.loads((out / "poses.json").read_text())
    assert facts["featherpose_version"] == featherpose.__version__
    assert facts["model"] == {"name": "colours", "version": "7", "input_size": [64, 64]}
    assert facts["skeleton"]["joints"] == ["red", "left_green", "right_blue"]
    assert facts["asked"] == 1 and facts["skipped"] == []
    (entry,) = facts["photos"]
    assert entry["photo"] == photo and entry["size_wh"] == [64, 64] and entry["found"] is True
    assert entry["joints"]["left_green"] == {"x": 22, "y": 42, "score": 1}
    assert entry["box_xyxy"] == [0, 0, 64, 64] and entry["drawing"] == "photo.pose.jpg"
    with (out / "poses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["joint"], float(row["x"]), float(row["y"]), float(row["score"])) for row in rows] == [
        ("red", 30, 22, 1),
        ("left_green", 22, 42, 1),
        ("right_blue", 42, 46, 1),
    ]
    assert {row["model"] + row["model_version"] + row["skeleton"] for row in rows} == {"colours7colours"}
    with Image.open(out / "photo.pose.jpg") as drawn:
        assert drawn.size == (64, 64) and np.asarray(drawn)[30, 26].any()  # the bone from red to green
    assert "1 of 1 photos done, somebody found in 1" in capsys.readouterr().out


def test_several_people_are_written_surest_first(model, here):
    faint = dots((128, 128), *((k, 96, 16 + 16 * k, 8) for k in range(3))) * 0.8
    both = np.maximum(faint, dots((128, 128), *((k, 24, 64 + 16 * k, 8) for k in range(3))))
    Image.fromarray(both.astype(np.uint8)).save(here / "a.png")
    _save(here / "black.png")
    assert cli.run(["predict", "a.png", "black.png", "--model", model, "--people", "3", "--no-refine"]) == 0
    a, black = json.loads((here / "featherpose-out/poses.json").read_text())["photos"]
    assert a["found"] and [person["joints"]["red"] for person in a["people"]] == [
        {"x": 28, "y": 68, "score": 1},
        {"x": 100, "y": 20, "score": 0.8},
    ]
    assert black["found"] is False and black["people"] == []
    with (here / "featherpose-out/poses.csv").open(newline="") as file:
        rows = [(row["photo"], row["found"], row["person"], row["joint"], row["x"]) for row in csv.DictReader(file)]
    assert rows[::3] == [("a.png", "1", "1", "red", "28.0"), ("a.png", "1", "2", "red", "100.0"),
                         ("black.png", "0", "", "", "")]  # fmt: skip
    with Image.open(here / "featherpose-out/a.pose.jpg") as drawn:
        assert (np.abs(np.asarray(drawn, int) - both) > 60).any(axis=2)[:, :60].any()


def test_nobody_in_the_photo_is_said_and_not_drawn(model, here):
    photo = _save(here / "black.png")
    assert cli.run(["predict", photo, "--model", model]) == 0
    (entry,) = json.loads((here / "featherpose-out/poses.json").read_text())["photos"]
    assert entry["found"] is False
    with Image.open(here / "featherpose-out/black.pose.jpg") as drawn:
        assert not np.asarray(drawn).any()


def test_a_broken_photo_in_the_middle_is_reported_and_the_rest_is_done(model, here, capsys):
    for name in ("a", "c"):
        _save(here / f"photos/{name}.png", *PERSON)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(here / "photos/b.jpg")
    whole = (here / "photos/b.jpg").read_bytes()
    (here / "photos/b.jpg").write_bytes(whole[: len(whole) // 2])
    assert cli.run(["predict", "photos", "--model", model, "--out", "results", "--no-drawing"]) == 1
    assert sorted(path.name for path in (here / "results").iterdir()) == ["poses.csv", "poses.json"]
    facts = json.loads((here / "results/poses.json").read_text())
    assert [entry["photo"] for entry in facts["photos"]] == ["photos/a.png", "photos/c.png"]
    assert [entry["photo"] for entry in facts["skipped"]] == ["photos/b.jpg"]
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert "photos/b.jpg: the picture is truncated" in line
    assert "2 of 3 photos done" in captured.out and "1 skipped" in captured.out


def test_a_point_outside_one_photo_skips_that_photo_by_name(model, here, capsys):
    _save(here / "photos/large.png", *PERSON)
    _save(here / "photos/small.png", size_wh=(16, 16))
    assert cli.run(["predict", "photos", "--model", model, "--point", "40,40"]) == 1
    assert "photos/small.png: the point (40, 40) lies outside" in capsys.readouterr().err


def test_photos_of_the_same_name_do_not_overwrite_each_other(model, here):
    for name in ("one/a.png", "two/a.png", "two/A.jpg", "three/b.png"):
        _save(here / name, *PERSON)
    assert cli.run(["predict", "one", "two", "three", "--model", model]) == 0
    drawings = sorted(path.name for path in (here / "featherpose-out").glob("*.pose.jpg"))
    assert drawings == ["b.pose.jpg", "one-a.pose.jpg", "two-A.pose.jpg", "two-a-2.pose.jpg"]


def test_drawing_names_are_unique_even_against_made_up_ones(tmp_path):
    photos = [tmp_path / name for name in ("x/a.png", "y/x-a.png", "z/a.png", "x/x/a.png", "w/A.png", "x/a.jpg")]
    names = drawing_names(photos, ".pose.jpg")
    assert len({name.casefold() for name in names}) == len(photos)
    assert names[1] == "x-a.pose.jpg"


def test_a_second_run_into_the_photos_own_folder_leaves_drawings_alone(model, here):
    _save(here / "a.png", *PERSON)
    for _ in range(2):
        assert cli.run(["predict", ".", "--model", model, "--out", "."]) == 0
    assert sorted(path.name for path in here.iterdir()) == ["a.png", "a.pose.jpg", "poses.csv", "poses.json"]


def test_ctrl_c_keeps_what_was_found_and_says_130(model, here, capsys, monkeypatch):
    from featherpose.runtime import photos

    for name in ("a", "b"):
        _save(here / f"photos/{name}.png", *PERSON)
    read = photos.read_photo

    def stop_at_b(path):
        if path.stem == "b":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(photos, "read_photo", stop_at_b)
    assert cli.run(["predict", "photos", "--model", model]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "stopped by Ctrl-C"
    facts = json.loads((here / "featherpose-out/poses.json").read_text())
    assert facts["asked"] == 2 and [entry["photo"] for entry in facts["photos"]] == ["photos/a.png"]


ERRORS = {
    "no such photo": (["nothing.jpg"], "nothing.jpg: there is no such photo or folder"),
    "an empty folder": (["empty"], "empty: no photo in this folder or below; looked for .jpg"),
    "a point of one number": (["a.png", "--point", "3"], "--point must be X,Y in photo pixels"),
    "a box with a word": (["a.png", "--box", "1,2,3,x"], "--box must be X1,Y1,X2,Y2 in photo pixels"),
    "point and box": (["a.png", "--box", "1,2,3,4", "--point", "1,1"], "give --point or --box, not both"),
    "people and box": (["a.png", "--people", "2", "--box", "1,2,3,4"], "give --people, or --point or --box of one"),
    "a threshold above 1": (["a.png", "--threshold", "2"], "--threshold must lie in [0, 1], got 2"),
    "no threads": (["a.png", "--threads", "0"], "threads must be at least 1, got 0"),
}


@pytest.mark.parametrize("arguments, message", ERRORS.values(), ids=ERRORS)
def test_wrong_input_is_one_line_on_stderr_and_leaves_nothing(arguments, message, model, here, capsys):
    _save(here / "a.png", *PERSON)
    (here / "empty").mkdir()
    assert cli.run(["predict", *arguments, "--model", model]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}") and captured.err.count("\n") == 1 and captured.out == ""
    assert not (here / "featherpose-out").exists()


def test_a_text_file_as_model_is_one_line_on_stderr(here, capsys):
    photo = _save(here / "a.png", *PERSON)
    (here / "model.onnx").write_text("hello")
    assert cli.run(["predict", photo, "--model", "model.onnx"]) == 1
    assert capsys.readouterr().err.startswith("error: model.onnx: not a readable ONNX file")


def test_demo_finds_the_joints_of_its_sample_and_says_what_is_next(model, here, capsys, monkeypatch):
    monkeypatch.setattr(demo_module, "SAMPLE", here / "sample.png")
    assert cli.run(["demo", "--model", model]) == 1
    assert "sample.png: the sample picture is missing" in capsys.readouterr().err
    _save(here / "sample.png", *PERSON)
    assert cli.run(["demo", "--model", model]) == 0
    out = capsys.readouterr().out
    assert "left_green" in out and "featherpose predict" in out
    assert (here / "featherpose-out/sample.pose.jpg").is_file()


def test_models_lists_what_comes_along_with_metrics_and_licence(model, here, capsys, monkeypatch):
    monkeypatch.setattr(bundled.bundled_models, "__defaults__", (here,))
    monkeypatch.setattr(bundled.bundled_path, "__defaults__", (None, here))
    assert cli.run(["models"]) == 0
    assert "ships no model" in capsys.readouterr().out
    content = Path(model).read_bytes()
    (here / "dots.onnx").write_bytes(content)
    entry = {"file": "dots.onnx", "sha256": hashlib.sha256(content).hexdigest(), "summary": "finds dots"}
    (here / "index.json").write_text(json.dumps({"default": "dots", "models": {"dots": entry}}))
    assert cli.run(["models"]) == 0
    out = capsys.readouterr().out
    for words in ("dots (default): finds dots", "input: 64 x 64", "metrics: AR 0.123", "licence: CC0", "joints: 3"):
        assert words in out


def test_help_lists_every_verb_with_one_line_and_imports_none(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "featherpose.cli.predict", raising=False)
    assert cli.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "predict" in out and cli.VERBS["predict"][1] in out
    assert "featherpose.cli.predict" not in sys.modules


def test_version_is_told(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"featherpose {featherpose.__version__}\n"


def test_wrong_usage_is_exit_code_2_and_offers_the_nearest_verb(capsys):
    assert cli.run(["predct"]) == 2
    assert capsys.readouterr().err == "error: unknown verb 'predct'; did you mean 'predict'?\n"
    assert cli.run(["predict", "a.png", "--modell", "x"]) == 2
    assert "--model" in capsys.readouterr().err


@pytest.fixture
def verb(monkeypatch):
    """Makes `featherpose try` a verb that runs the given function, or sub-app."""

    def make(function):
        module = types.ModuleType("try_verb")
        module.__spec__ = types.SimpleNamespace()
        module.verb = function
        monkeypatch.setitem(sys.modules, "try_verb", module)
        monkeypatch.setitem(cli.VERBS, "try", ("try_verb:verb", "Only a test."))
        return cli.run

    return make


def _raiser(error):
    def fail() -> None:
        raise error

    return fail


FAILURES = {
    "a value": (ValueError("one\ntwo"), 1, "error: one two\n"),
    "a file": (
        FileNotFoundError(2, "No such file or directory", "x.json"),
        1,
        "error: x.json: No such file or directory\n",
    ),
    "an extra": (
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        1,
        "error: this needs the package 'torch': pip install 'featherpose[train]'\n",
    ),
    "Ctrl-C": (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
    "a verb's own code": (typer.Exit(3), 3, ""),
}


@pytest.mark.parametrize("error, code, message", FAILURES.values(), ids=FAILURES)
def test_a_failing_verb_says_one_line(error, code, message, verb, capsys):
    assert verb(_raiser(error))(["try"]) == code
    assert capsys.readouterr().err == message


def test_the_traceback_is_shown_on_demand(verb, capsys, monkeypatch):
    monkeypatch.setenv("FEATHERPOSE_DEBUG", "1")
    assert verb(_raiser(ValueError("here")))(["try"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_programming_error_is_not_hidden(verb):
    with pytest.raises(ModuleNotFoundError):
        verb(_raiser(ModuleNotFoundError("No module named 'typo'", name="typo")))(["try"])
    with pytest.raises(ZeroDivisionError):
        verb(lambda: 1 / 0)(["try"])


def test_a_verb_may_have_verbs_of_its_own(verb, capsys):
    app = typer.Typer()
    app.command("check")(lambda: print("checked"))
    app.command("other")(lambda: None)
    assert verb(app)(["try", "check"]) == 0
    assert capsys.readouterr().out == "checked\n"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    def half(path):
        path.write_text("half")
        raise OSError("no space left")

    (tmp_path / "a.json").write_text("before")
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a.json", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "before"

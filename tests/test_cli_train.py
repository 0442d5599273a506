"""`featherpose train` as a user meets it: errors in one sentence, Ctrl-C, a full disk."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
from safetensors.torch import load_file
from tiny_training import write_split, write_task

from featherpose.cli import run
from featherpose.train.checkpoint import read_facts
from featherpose.train.config import read_recipe
from featherpose.train.loop import Interrupted, train


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def finished(task):
    folder = task.parent / "finished"
    assert run(["train", str(task), "--out", str(folder)]) == 0
    return folder


def refused(capfd, *arguments) -> str:
    """The one sentence that a command fails with."""
    capfd.readouterr()
    assert run(["train", *map(str, arguments)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0].removeprefix("error: ")


def test_it_says_what_it_does(task, tmp_path, capfd):
    assert run(["train", str(task), "--out", str(tmp_path / "run")]) == 0
    told = capfd.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[0] == "12 photos, 6 steps in 2 epochs"
    assert re.match(r"step 3/6 \(50%\)  loss \d+\.\d{4}  [\d.]+ photos/s", lines[1])
    assert re.match(r"epoch 1/2  AR 0\.\d{3}  ", lines[2]) and re.match(r"epoch 2/2  AR ", lines[3])
    assert lines[4] == f"model: {tmp_path / 'run' / 'model.safetensors'}"


def test_labels_that_were_left_out_are_told_with_the_command_that_lists_them(tmp_path, capfd):
    recipe = write_task(tmp_path)
    labels = tmp_path / "data" / "person_keypoints_train.json"
    facts = json.loads(labels.read_text())
    facts["annotations"][0]["keypoints"][0] = 1e6
    labels.write_text(json.dumps(facts))
    assert run(["train", str(recipe), "--out", str(tmp_path / "run"), "--set", "stage.0.epochs=1"]) == 0
    data = f"{tmp_path / 'data'} --split train"
    told = f"{data}: 1 labels that cannot be true are left out; `featherpose data check {data}` lists them"
    assert told in capfd.readouterr().err.splitlines()


# --- refused, and nothing left behind -------------------------------------------------------------------------------


def write_unlabelled(folder):
    write_split(folder, "val", 2)
    labels = folder / "person_keypoints_val.json"
    labels.write_text(json.dumps({**json.loads(labels.read_text()), "annotations": []}))


REFUSED = {
    "a misspelt key": (["train.leraning=1"], "unknown key 'train.leraning'"),
    "a batch larger than the epoch": (["stage.0.batch=13"], "an epoch has 12 samples, fewer than one batch of 13"),
    "data that is not there": (["data.0.path=nowhere"], "there is no such label file or data folder"),
    "a split that is not there": (["data.0.split=tarin"], "no split 'tarin' in this folder; did you mean 'train'?"),
    "joints of nobody here": (["model.skeleton=coco17"], "none of its joints"),
    "validation that is not there": (["validation.path=nowhere"], "there is no such label file or data folder"),
    "validation of other joints": (["validation.path=others"], "joint"),
    "validation without labels": (["validation.path=empty"], "none of the 2 photos to validate on has a target"),
    "initial weights that are not there": (["model.init=none.safetensors"], "none.safetensors: there is no such file"),
    "a classifier that is not there": (["model.init=none.tflite"], "none.tflite: there is no such"),
    "initial weights of text": (["model.init=three.json"], "a classifier must be a .tflite or a .safetensors file"),
    "a device that is not one": (
        ["train.device=gpu"],
        "train.device must be cpu, cuda, cuda:0, mps or auto; got 'gpu'",
    ),
    "a device of another kind": (["train.device=xpu"], "train.device must be cpu, cuda, cuda:0, mps or auto; got 'xpu'"),
    "a device that is not there": (["train.device=cuda:99"], "CUDA devices here; use 'cpu' or 'auto'"),
}


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_and_leaves_no_folder(task, tmp_path, capfd, monkeypatch, overrides, sentence):
    monkeypatch.chdir(task.parent)
    write_split(task.parent / "others", "val", 2, joints=("tail", "left_ear", "right_ear"))
    write_unlabelled(task.parent / "empty")
    options = [option for override in overrides for option in ("--set", override)]
    assert sentence in refused(capfd, task, "--out", tmp_path / "runs" / "a", *options)
    assert not list(tmp_path.iterdir())


def test_starting_into_a_run_is_refused(task, finished, capfd):
    before = (finished / "log.jsonl").read_text()
    assert "already holds a run; go on with it by --resume" in refused(capfd, task, "--out", finished)
    assert (finished / "log.jsonl").read_text() == before


def test_resuming_needs_a_run_of_the_same_recipe(task, finished, tmp_path, capfd):
    assert "no checkpoint to resume from" in refused(capfd, task, "--out", tmp_path / "none", "--resume")
    assert not (tmp_path / "none").exists()
    other = refused(capfd, task, "--out", finished, "--resume", "--set", "train.lr=0.5")
    assert "belongs to another recipe" in other and "recipe.json" in other


BROKEN = {
    "truncated": lambda finished: (finished / "checkpoint.safetensors").read_bytes()[:-1000],
    "text": lambda finished: b"no weights at all",
    "a model": lambda finished: (finished / "model.safetensors").read_bytes(),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_checkpoint_is_refused(task, finished, tmp_path, capfd, content):
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(content(finished))
    told = refused(capfd, task, "--out", tmp_path, "--resume")
    assert re.search(r"not a readable checkpoint|not a checkpoint of featherpose", told)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_folder_that_cannot_be_written_is_refused_at_once(task, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    told = refused(capfd, task, "--out", tmp_path / "file" / "run")
    assert "the run folder cannot be written" in told and "is not a folder" in told
    assert "is not a folder" in refused(capfd, task, "--out", tmp_path / "file")


def test_a_diverging_run_ends_with_a_sentence(task, tmp_path, capfd):
    capfd.readouterr()
    options = ["--set", "train.lr=1e30", "--set", "train.warmup=0", "--set", "stage.0.epochs=4"]
    assert run(["train", str(task), "--out", str(tmp_path / "run"), *options]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the loss or its gradient is no number any more") and "lower train.lr" in error
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    if checkpoint.exists():
        assert all(value.isfinite().all() for value in load_file(checkpoint).values())


def test_a_photo_that_cannot_be_read_ends_the_run_with_its_name(tmp_path, capfd):
    recipe = write_task(tmp_path)
    (tmp_path / "data" / "train" / "3.png").write_bytes(b"not a picture")
    capfd.readouterr()
    assert run(["train", str(recipe), "--out", str(tmp_path / "run")]) == 1
    assert "3.png" in capfd.readouterr().err.splitlines()[-1]


# --- interrupted ----------------------------------------------------------------------------------------------------


LONG = ["--set", "data.0.repeat=7", "--set", "validation.path="]
"""42 steps in two epochs: a second or two."""


def started(task, folder, *more, **options):
    """A run in a process of its own, its first step under way. more: arguments; options: of Popen."""
    command = [sys.executable, "-m", "featherpose", "train", str(task), "--out", str(folder), *LONG, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)
    while not (folder / "log.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    return process


def test_ctrl_c_and_a_polite_kill_leave_a_checkpoint_to_go_on_from(task, tmp_path, capfd):
    folders = {signal.SIGTERM: tmp_path / "term", signal.SIGINT: tmp_path / "int"}
    processes = {}
    for number, folder in folders.items():
        processes[number] = started(task, folder)
        processes[number].send_signal(number)
    for number, process in processes.items():
        told = process.communicate(timeout=60)[1].splitlines()
        assert process.returncode == 130
        step = read_facts(folders[number] / "checkpoint.safetensors")["step"]
        assert 0 < step < 42
        sentence = f"stopped after step {step} of 42, the checkpoint is written; go on with --resume"
        assert told[-1] == sentence and sum("stopped" in line for line in told) == 1
        assert not any("Traceback" in line for line in told)
    assert run(["train", str(task), "--out", str(tmp_path / "int"), *LONG, "--resume"]) == 0
    assert f"42 steps in 2 epochs, {step} of them done" in capfd.readouterr().err
    assert read_facts(tmp_path / "int" / "checkpoint.safetensors")["step"] == 42


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_leaves_a_checkpoint_too(task, tmp_path, number):
    """As a terminal, `timeout` and schedulers send it: to those that prepare batches as well."""
    process = started(task, tmp_path / "run", "--set", "train.processes=2", start_new_session=True)
    os.killpg(process.pid, number)
    told = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130, told
    assert told[-1].endswith("the checkpoint is written; go on with --resume")
    assert not any("Traceback" in line for line in told)
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)


# --- a full disk ----------------------------------------------------------------------------------------------------


def run_with_little_space(command: list[str], size: int) -> tuple[int, str]:
    """Exit code and stderr of a command whose files may grow to `size` bytes: writes beyond fail as on a full disk.

    In a process of its own: the limit would also hold for the file that a test run is logged to.
    """
    done = subprocess.run(
        [sys.executable, "-m", "featherpose", *command],
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return done.returncode, done.stderr


def test_no_space_for_a_checkpoint_leaves_the_one_before(task, finished, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(read_recipe(task), folder, stop_after=2)
    before = (folder / "checkpoint.safetensors").read_bytes()
    command = ["train", str(task), "--out", str(folder), "--resume"]
    code, told = run_with_little_space(command, len(before) // 2)
    assert code == 1
    expected = r"error: \S*/checkpoint\.safetensors: the checkpoint could not be written \(.*\); .*untouched.*--resume"
    assert re.fullmatch(expected, told.splitlines()[-1])
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    assert not [path.name for path in folder.iterdir() if "part" in path.name]

    assert run(command) == 0  # and room enough makes it the run that it would have been
    one, other = (load_file(f / "checkpoint.safetensors") for f in (folder, finished))
    assert all(one[name].equal(other[name]) for name in other)


@pytest.mark.parametrize("size", [1000, 3000], ids=["for the recipe's values", "for the curves"])
def test_no_space_for_anything_else_is_told_too(task, tmp_path, size):
    code, told = run_with_little_space(["train", str(task), "--out", str(tmp_path / "run")], size)
    assert code == 1
    error = told.splitlines()[-1]
    assert error.startswith("error: ") and "could not be written" in error and error.endswith("--resume")
    assert "Traceback" not in told

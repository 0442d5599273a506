"""The training loop: what a step does, and that stopping and going on changes nothing."""

import functools
import json
import math
import multiprocessing
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file
from tiny_training import JOINTS, log_lines, write_split, write_task
from torch import nn

from featherpose.cli import run
from featherpose.data.readers import read_dataset
from featherpose.evaluate import evaluate
from featherpose.runtime.predictor import Predictor
from featherpose.skeletons import COCO17, Skeleton, load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, save_model
from featherpose.train import loop
from featherpose.train.checkpoint import read_facts
from featherpose.train.config import TrainRules, read_recipe
from featherpose.train.distributed import Process
from featherpose.train.ema import EMA
from featherpose.train.initial import initial_thresholds
from featherpose.train.loop import Interrupted, Run, train
from featherpose.train.meter import Meter
from featherpose.train.optimizer import lr_factor

CPU = Process(rank=0, world=1, device=torch.device("cpu"))
TWO_SIZES = "stage=[{input_size=64, epochs=2, batch=4}, {input_size=96, epochs=1, batch=4}]"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def first_model(task):
    """A model with random weights for the task's network, to start from."""
    recipe = read_recipe(task)
    torch.manual_seed(5)
    network = build_network(recipe.model.network, 3)
    path = task.parent / "first.safetensors"
    spec = ModelSpec(name="first", skeleton=load_skeleton(recipe.model.skeleton), input_size=(64, 64),
                     codec={"name": "movenet"}, network=recipe.model.network)  # fmt: skip
    save_model(path, network, spec)
    return path


@pytest.fixture(scope="module")
def finished(task, tmp_path_factory):
    """One whole run with default settings: its folder and what was reported."""
    folder, reported = tmp_path_factory.mktemp("finished") / "run", []
    train(read_recipe(task), folder, report=reported.append)
    return folder, reported


def build(task, *overrides, folder="unused"):
    """A run that writes nothing, for single steps."""
    torch.manual_seed(0)
    return Run(read_recipe(task, list(overrides)), task.parent / folder, CPU, lambda line: None)


def one_batch(run):
    return next(run.loaders[0].epoch(0))


# --- stop and go on -------------------------------------------------------------------------------------------------


WAYS = {
    "all layers": [],
    "early layers frozen": ["model.init='FIRST'", "train.freeze=8"],
    "learned weights of losses": ["loss.automatic=true"],
    "orthogonal updates, folded norms": ["model.init='FIRST'", "train.optimizer=muon", "train.norms=folded"],
}


@pytest.mark.parametrize("way", WAYS)
def test_stop_and_resume_equals_the_straight_run_bit_for_bit(task, first_model, tmp_path, monkeypatch, way):
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    recipe = read_recipe(task, [TWO_SIZES, *(more.replace("FIRST", str(first_model)) for more in WAYS[way])])
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(recipe, straight)

    # 3 steps an epoch: after step 1 in the middle of an epoch and of a log interval, after step 6 at the end of the
    # last epoch of the first size, after step 7 behind the change of size.
    for number, steps in enumerate((1, 5, 1)):
        with pytest.raises(Interrupted, match="--resume"):
            train(recipe, stopped, resume=number > 0, stop_after=steps)
    assert read_facts(stopped / "checkpoint.safetensors")["step"] == 7
    train(recipe, stopped, resume=True)

    for name in ("checkpoint.safetensors", "model.safetensors"):
        one, other = load_file(straight / name), load_file(stopped / name)
        assert one.keys() == other.keys()
        different = [key for key in one if not torch.equal(one[key], other[key])]
        assert not different
    assert any(key.startswith("optimizer/") for key in load_file(stopped / "checkpoint.safetensors"))
    kinds = ("train", "validation")
    assert log_lines(straight, *kinds) == log_lines(stopped, *kinds)
    assert [line["step"] for line in log_lines(stopped, "train")] == [2, 3, 4, 6, 8, 9]
    facts = [read_facts(folder / "checkpoint.safetensors") for folder in (straight, stopped)]
    assert facts[0] == facts[1]


def test_long_epochs_are_saved_in_between(task, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop.Run, "save", lambda run, meter=None: saved.append(run.step))
    train(read_recipe(task, ["validation.path="]), tmp_path / "seldom")
    seldom, saved[:] = list(saved), []
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    train(read_recipe(task, ["validation.path="]), tmp_path / "often")
    assert set(seldom) == {3, 6}
    assert set(saved) == {1, 2, 3, 4, 5, 6}


def test_what_goes_wrong_while_validating_loses_no_step(task, tmp_path, monkeypatch):
    recipe = read_recipe(task, ["validation.every=2"])
    train(recipe, tmp_path / "straight")

    def broken(*args, **options):
        raise OSError("the disk with the photos is gone")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "validate", broken)
        with pytest.raises(OSError, match="the disk with the photos is gone"):
            train(recipe, tmp_path / "stopped")
    assert read_facts(tmp_path / "stopped" / "checkpoint.safetensors")["step"] == 6
    monkeypatch.setattr(loop.Run, "_train_step", broken)  # there is nothing left to learn
    train(recipe, tmp_path / "stopped", resume=True)
    kinds = ("train", "validation")
    assert log_lines(tmp_path / "straight", *kinds) == log_lines(tmp_path / "stopped", *kinds)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "stopped"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_what_goes_wrong_after_validating_is_not_logged_twice(task, tmp_path, monkeypatch):
    recipe = read_recipe(task, ["validation.every=2"])
    train(recipe, tmp_path / "straight")

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_model", full)
        with pytest.raises(OSError, match="No space left on device"):
            train(recipe, tmp_path / "stopped")
    assert len(log_lines(tmp_path / "stopped", "validation")) == 1
    train(recipe, tmp_path / "stopped", resume=True)
    kinds = ("train", "validation")
    assert log_lines(tmp_path / "straight", *kinds) == log_lines(tmp_path / "stopped", *kinds)


TORN = ('{"kind": "train", "step": 4, "ep', '{"kind": "train", "step": 1, "losses": {"heatmap": 0.1}')


@pytest.mark.parametrize("torn", TORN)
def test_what_was_logged_after_the_checkpoint_is_taken_back(task, tmp_path, monkeypatch, torn):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    recipe = read_recipe(task)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path, stop_after=2)
    with open(tmp_path / "log.jsonl", "a") as log:  # a power cut two steps later, in the middle of a line
        log.write('{"kind": "train", "step": 3, "epoch": 0, "loss": 99}\n' + torn)
    train(recipe, tmp_path, resume=True)
    lines = log_lines(tmp_path, "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] < 99 for line in lines)


def test_one_more_step_changes_the_weights(task, tmp_path):
    """That the test above can fail."""
    weights = []
    for number in range(2):
        with pytest.raises(Interrupted):
            train(read_recipe(task), tmp_path, resume=number > 0, stop_after=1)
        weights.append(load_file(tmp_path / "checkpoint.safetensors")["network/heads.heatmap.out.weight"])
    assert not torch.equal(*weights)


def test_resuming_with_other_data_is_refused(task, tmp_path):
    other = write_task(tmp_path, photos=12)
    with pytest.raises(Interrupted):
        train(read_recipe(other), tmp_path / "run", stop_after=1)
    write_split(tmp_path / "data", "train", 8)
    with pytest.raises(ValueError, match=r"run of 6 steps, with the data as it is now there are 4; .* anew in another --out"):
        train(read_recipe(other), tmp_path / "run", resume=True)


def test_resuming_a_finished_run_gives_its_model(task, finished):
    folder, _ = finished
    before = (folder / "model.safetensors").read_bytes()
    assert train(read_recipe(task), folder, resume=True) == folder / "model.safetensors"
    assert (folder / "model.safetensors").read_bytes() == before
    (folder / "model.safetensors").unlink()
    train(read_recipe(task), folder, resume=True)
    assert (folder / "model.safetensors").read_bytes() == before


def test_resuming_needs_no_initial_weights(task, first_model, tmp_path):
    init = tmp_path / "first.safetensors"
    network, spec = load_network(first_model)
    thresholds = {"joint_threshold": 0.15, "pose_threshold": 0.4}
    save_model(init, network, replace(spec, **thresholds))
    recipe = read_recipe(task, [f"model.init='{init}'"])
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", stop_after=5)
    init.unlink()
    train(recipe, tmp_path / "run", resume=True)
    found = load_network(tmp_path / "run" / "model.safetensors")[1]
    assert {name: getattr(found, name) for name in thresholds} == thresholds


# --- what a step does -----------------------------------------------------------------------------------------------


def test_overfits_four_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    recipe = write_task(tmp_path, photos=4)
    plain = "augment={crop_scale=1.25, shift=0, flip=0, rotate=0, upside_down=0, half_body=0, other_target=0, colour=0"
    overrides = [f"{plain}, grey=0, blur=0, cutout=0}}", "data.0.repeat=35", "train.lr=0.007", "train.amp=off"]
    overrides += ["validation.path="]
    train(read_recipe(recipe, overrides), tmp_path / "run")
    losses = [line["loss"] for line in log_lines(tmp_path / "run", "train")]
    assert losses[-1] < losses[0] / 4
    samples = read_dataset(tmp_path / "data", split="train")
    predictor = Predictor(str(tmp_path / "run" / "model.safetensors"))
    for sample in samples:
        pose = predictor(sample.photo, box=sample.target_box())
        assert np.linalg.norm(pose.xy - sample.xy[0], axis=1).max() < 3  # pixels of a photo of 64


def test_learned_weights_of_losses_move_do_not_decay_and_are_logged(task, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    run = build(task, "loss.automatic=true")
    own = {id(p) for p in run.criterion.parameters()}
    assert len(own) == 4
    groups = [g for g in run.optimizer.param_groups if own & {id(p) for p in g["params"]}]
    assert [(g["peak"], g["weight_decay"]) for g in groups] == [(0.01, 0.0)]
    train(read_recipe(task, ["loss.automatic=true", "validation.path="]), tmp_path)
    weights = [line["weights"] for line in log_lines(tmp_path, "train")]
    assert [set(w) for w in weights] == [{"heatmap", "center", "regression", "offset"}] * 6
    assert weights[0]["heatmap"] == pytest.approx(1, abs=0.1) and weights[0]["regression"] == pytest.approx(0.1, abs=0.01)
    assert all(weights[0][name] != weights[5][name] for name in weights[0])
    assert not any(name.startswith("criterion") for name in load_file(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("clip", [0.01, 0.0], ids=["clipped", "switched off"])
def test_gradient_clipping_shortens_the_gradient_that_is_applied(task, clip):
    run = build(task, f"train.clip={clip}", "train.amp=off")
    applied = []

    def norm(optimizer, *_):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        applied.append(math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in parameters if p.grad is not None)))

    run.optimizer.register_step_pre_hook(norm)
    _, reported, _ = run._train_step(one_batch(run))
    assert reported > 0.1  # the gradient's own length
    assert applied == [pytest.approx(clip or float(reported), rel=1e-3)]


def test_frozen_layers_keep_weights_and_statistics_and_the_others_move(task, first_model):
    run = build(task, f"model.init='{first_model}'", "train.freeze=8")
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run._train_step(one_batch(run))
    after = run.network.state_dict()
    early = [name for name in before if name.startswith(("backbone.stem.", "backbone.stages.0."))]
    assert early
    assert all(torch.equal(before[name], after[name]) for name in early)
    assert not torch.equal(before["backbone.stages.1.0.branch.0.norm.running_mean"],
                           after["backbone.stages.1.0.branch.0.norm.running_mean"])  # fmt: skip
    assert not torch.equal(before["heads.heatmap.out.weight"], after["heads.heatmap.out.weight"])
    decayed = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert not {id(p) for module in run.frozen for p in module.parameters()} & {id(p) for p in decayed}


def test_batch_norms_forget_their_beginning_at_once(task, first_model):
    run = build(task, "train.amp=off")
    batch, norm = one_batch(run), run.network.backbone.stem.norm
    with torch.no_grad():
        image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float() / 127.5 - 1
        mean = run.network.backbone.stem.conv(image).mean(dim=(0, 2, 3))
    run._train_step(batch)
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)  # the first batch alone, nothing of the initial 0
    run.step = 10_000
    run._train_step(batch)
    assert norm.momentum == 0.01
    assert build(task, f"model.init='{first_model}'", "train.freeze=4").network.backbone.stem.norm.momentum == 0.01


def test_folded_norms_train_what_is_evaluated_and_keep_their_statistics(task, first_model):
    run = build(task, f"model.init='{first_model}'", "train.norms=folded", "train.amp=off")
    image = torch.from_numpy(one_batch(run)["image"]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected, given = (run.network.train(mode)(image) for mode in (False, True))
    assert all(torch.allclose(expected[name], given[name], atol=1e-4) for name in expected)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run._train_step(one_batch(run))
    after = run.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert not moved & statistics
    assert {"backbone.stem.conv.weight", "backbone.stem.norm.weight", "backbone.stem.norm.bias"} <= moved


def test_orthogonal_updates_go_to_dense_layers_alone(task):
    run = build(task, "train.optimizer=muon")
    names = {parameter: name for name, parameter in run.network.named_parameters()}
    dense = {names[p] for group in run.optimizer.param_groups if group["muon"] for p in group["params"]}
    assert "heads.heatmap.hidden.conv.weight" in dense and "heads.heatmap.out.weight" in dense
    assert not any("norm" in name or "depthwise" in name or name.endswith("bias") for name in dense)
    assert "heads.center.out.weight" not in dense  # one row: nothing to be orthogonal to


def test_the_backbone_learns_slower_only_when_it_was_initialised(task, first_model):
    peaks = {group["peak"] for group in build(task).optimizer.param_groups}
    assert peaks == {0.01}
    peaks = {group["peak"] for group in build(task, f"model.init='{first_model}'").optimizer.param_groups}
    assert peaks == {0.01, 0.005}


def test_norms_and_biases_do_not_decay(task):
    for group in build(task).optimizer.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_averaged_weights_by_hand():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    network[0].weight.data.fill_(1.0)
    average = EMA(network, 0.5)
    network[0].weight.data.fill_(3.0)
    network[1].running_mean.fill_(10.0)
    network[1].num_batches_tracked.fill_(7)
    average.update(network, 0)  # decay (1 + 0) / (10 + 0) = 0.1
    assert average.network[0].weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert average.network[1].running_mean.item() == pytest.approx(9.0)
    assert average.network[1].num_batches_tracked.item() == 7
    average.update(network, 1000)  # decay 0.5
    assert average.network[0].weight.item() == pytest.approx(0.5 * 2.8 + 0.5 * 3)
    assert not average.network.training
    assert network[0].weight.item() == 3.0


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1 / 4), (1, 2 / 4), (3, 1.0), (4, 1.0), (12, 0.55), (8, 0.55 + 0.45 * 2**-0.5), (20, 0.1)],
    ids=["first", "second", "end of warm-up", "peak", "half way", "a quarter", "end"],
)  # fmt: skip
def test_learning_rate_by_hand(step, factor):
    assert lr_factor(TrainRules(warmup=4, final_lr=0.1), step, 20) == pytest.approx(factor)


def test_steps_are_taken_at_the_rate_of_the_schedule(task):
    run = build(task, "train.warmup=2", "train.lr=0.01")
    batch = one_batch(run)
    seen = []
    for step in range(run.total):
        run.step = step
        run._train_step(batch)
        seen.append({group["lr"] for group in run.optimizer.param_groups})
    assert seen == [{0.01 * lr_factor(run.recipe.train, step, run.total)} for step in range(run.total)]
    assert len({*map(tuple, seen)}) > 3


def test_warm_up_takes_at_most_a_quarter_of_a_short_run():
    assert lr_factor(TrainRules(warmup=500), 1, 8) == 1.0
    assert lr_factor(TrainRules(warmup=500), 0, 3) == 1.0  # no whole step of warm-up
    assert lr_factor(TrainRules(warmup=0), 0, 8) == 1.0


def test_a_meter_goes_on_from_its_state():
    def step(meter, loss):
        meter.add(torch.tensor(loss), torch.tensor(2.0), {"heatmap": torch.tensor(0.5)})

    whole, first = Meter(8), Meter(8)
    for loss in (0.1, 0.2, 0.7):
        step(whole, loss)
    step(first, 0.1)
    second = Meter(8, json.loads(json.dumps(first.state())))
    step(second, 0.2)
    step(second, 0.7)
    assert second.means() == whole.means()
    facts = whole.read()
    assert (facts["loss"], facts["gradient"], facts["losses"]) == (0.33333, 2.0, {"heatmap": 0.5})
    assert whole.steps == 0 and whole.means() == {}


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(task, tmp_path, monkeypatch):
    recipe = read_recipe(task)
    with pytest.raises(Interrupted):
        train(recipe, tmp_path, stop_after=4)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    step = Run._train_step

    def broken(self, batch):
        loss, norm, parts = step(self, batch)
        return loss, norm * math.nan, parts  # the gradient alone: the loss shows it one step later

    monkeypatch.setattr(Run, "_train_step", broken)
    with pytest.raises(FloatingPointError, match=r"no number any more .*gradient nan.*lower train\.lr"):
        train(recipe, tmp_path, resume=True, stop_after=1)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


# --- what a run leaves ----------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_docs_say(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "recipe.json",
        "log.jsonl",
        "tensorboard",
        "pictures",
        "checkpoint.safetensors",
        "model.safetensors",
    }
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["epoch_001.png", "epoch_002.png"]
    assert cv2.imread(str(folder / "pictures" / "epoch_002.png")).std() > 10
    events = b"".join(path.read_bytes() for path in (folder / "tensorboard").glob("events.out.tfevents.*"))
    for tag in (b"validation/figures/AR", b"train/losses/heatmap", b"train/lr", b"validation/predictions"):
        assert tag in events
    assert json.loads((folder / "recipe.json").read_text())["train"]["betas"] == [0.9, 0.999]


def test_the_log_has_its_keys(finished):
    folder, reported = finished
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    keys = {line["kind"]: set(line) - {"kind", "step", "epoch", "time"} for line in lines}
    assert keys == {
        "start": {"batches", "samples", "world", "problems", "validated_and_trained"},
        "train": {"lr", "loss", "gradient", "losses", "photos_per_s"},
        "validation": {"figures", "seconds", "unreadable"},
    }
    assert [line["step"] for line in reported if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert {line["steps"] for line in reported} == {6}


def test_validation_figures_are_those_of_evaluate(task, finished):
    folder, _ = finished
    samples = read_dataset(task.parent / "data", split="val")
    model = folder / "model.safetensors"
    figures = evaluate(Predictor(str(model)), samples, protocol="crop").to_dict()["figures"]
    logged = log_lines(folder, "validation")[-1]["figures"]
    assert set(logged) == {name for name, value in figures.items() if value is not None}
    for name, value in logged.items():
        assert figures[name] == pytest.approx(value, abs=1e-4), name
    provenance = load_network(model)[1].provenance
    assert provenance["validation"]["figures"] == logged
    assert provenance["steps"] == 6


def test_the_kept_model_has_the_averaged_weights_and_names_no_folder_of_this_machine(task, finished):
    folder, _ = finished
    checkpoint, model = load_file(folder / "checkpoint.safetensors"), load_file(folder / "model.safetensors")
    key = "heads.heatmap.out.weight"
    assert torch.equal(model[key], checkpoint[f"average/{key}"])
    assert not torch.equal(model[key], checkpoint[f"network/{key}"])
    assert str(task.parent) not in json.dumps(load_network(folder / "model.safetensors")[1].provenance)


def test_validation_can_be_limited_and_left_out(task, tmp_path):
    assert len(build(task, "validation.limit=2").val) == 2
    train(read_recipe(task, ["validation.path=", "stage.0.epochs=1"]), tmp_path / "run")
    assert log_lines(tmp_path / "run", "validation") == []
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_validation_comes_every_so_many_epochs_and_at_the_end(task, tmp_path):
    train(read_recipe(task, ["validation.every=2", "stage.0.epochs=3"]), tmp_path / "run")
    assert [line["epoch"] for line in log_lines(tmp_path / "run", "validation")] == [2, 3]


def test_labels_that_cannot_be_true_are_counted_in_the_first_line(tmp_path):
    recipe = write_task(tmp_path)
    labels = tmp_path / "data" / "person_keypoints_train.json"
    facts = json.loads(labels.read_text())
    facts["annotations"][0]["keypoints"][0] = 1e6
    facts["annotations"][1]["keypoints"][2] = 7
    labels.write_text(json.dumps(facts))
    with pytest.raises(Interrupted):
        train(read_recipe(recipe), tmp_path / "run", stop_after=1)
    assert log_lines(tmp_path / "run", "start")[0]["problems"] == {f"{tmp_path / 'data'} --split train": 2}


def test_a_set_that_nothing_can_be_measured_on_is_refused_before_training(tmp_path):
    """One joint and no box: errors have no size there."""
    recipe = write_task(tmp_path)
    labels = tmp_path / "data" / "person_keypoints_val.json"
    facts = json.loads(labels.read_text())
    for entry in facts["annotations"]:
        del entry["bbox"]
        entry["keypoints"][3:] = [0] * 6
    labels.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="has a target with a box and a joint"):
        train(read_recipe(recipe), tmp_path / "run")


def test_photos_that_are_trained_and_validated_on_are_told(task, tmp_path, capsys):
    assert run(["train", str(task), "--out", str(tmp_path / "own")]) == 0
    assert "are trained on too" not in capsys.readouterr().err
    same = ["--set", "validation.split=train"]
    assert run(["train", str(task), "--out", str(tmp_path / "same"), *same]) == 0
    (start,) = log_lines(tmp_path / "same", "start")
    told = " ".join(capsys.readouterr().err.split())
    assert f"{start['samples']} photos that are validated on are trained on too" in told
    assert start["validated_and_trained"] == start["samples"]


# --- first weights --------------------------------------------------------------------------------------------------


def test_a_model_of_the_same_kind_is_continued_as_it_is(task, first_model):
    run = build(task, f"model.init='{first_model}'")
    wanted = load_file(first_model)
    assert all(torch.equal(value, wanted[name]) for name, value in run.network.state_dict().items())


def test_a_model_of_the_same_joints_gives_its_thresholds(task, first_model, tmp_path):
    assert (build(task).spec().joint_threshold, build(task).spec().pose_threshold) == (0.2, 0.1)
    network, spec = load_network(first_model)
    calibrated = tmp_path / "calibrated.safetensors"
    save_model(calibrated, network, replace(spec, joint_threshold=0.15, pose_threshold=0.4))
    spec = build(task, f"model.init='{calibrated}'").spec()
    assert (spec.joint_threshold, spec.pose_threshold) == (0.15, 0.4)
    fewer = Skeleton(name="fewer", joints=(JOINTS[1],))
    assert initial_thresholds(str(calibrated), fewer) == {"joint_threshold": 0.15, "pose_threshold": 0.4}
    assert initial_thresholds(str(calibrated), COCO17) == initial_thresholds("", COCO17) == {}


def test_heads_of_another_width_are_left_and_the_rest_is_taken(task, first_model):
    run = build(task, f"model.init='{first_model}'", "model.network.head_width=24")
    given, own = load_file(first_model), run.network.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in own if name.startswith(("backbone.", "neck.")))
    assert own["heads.heatmap.out.weight"].shape != given["heads.heatmap.out.weight"].shape


def test_a_model_with_other_joints_keeps_all_but_what_the_new_joints_need(task, first_model):
    two = Skeleton(name="two", joints=("right_hand", "tail"))
    (task.parent / "two.json").write_text(json.dumps(two.to_dict()))
    write_split(task.parent / "tails", "train", 4, joints=("right_hand", "tail", "other"))
    place = task.parent
    data = f"data=[{{path='{place / 'tails'}', split='train'}}]"
    overrides = [f"model.skeleton={place / 'two.json'}", data, "validation.path="]
    run = build(task, f"model.init='{first_model}'", *overrides)
    given, own = load_file(first_model), run.network.state_dict()
    trunk = [name for name in own if ".out." not in name or ".center." in name]
    assert all(torch.equal(own[name], given[name]) for name in trunk)
    right_hand = JOINTS.index("right_hand")
    assert torch.equal(own["heads.heatmap.out.weight"][0], given["heads.heatmap.out.weight"][right_hand])
    vectors = given["heads.regression.out.weight"][2 * right_hand : 2 * right_hand + 2]  # x and y of that joint
    assert torch.equal(own["heads.regression.out.weight"][:2], vectors)
    assert not torch.equal(own["heads.regression.out.weight"][2:], vectors)


def test_a_model_of_another_width_is_refused(task, first_model):
    with pytest.raises(ValueError, match=r"only \d+ of the \d+ tensors .* same system and width"):
        build(task, f"model.init='{first_model}'", "model.network.width=0.5")


def test_coco17_is_not_what_is_trained_here(task):
    """The tests above rest on a skeleton of three joints, not on the default."""
    assert len(build(task).skeleton) == 3 != len(COCO17)


# --- for a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_processes_train_the_same_model_stopped_or_not(task, tmp_path):
    plain = train(read_recipe(task, ["validation.path="]), tmp_path / "plain")
    recipe = read_recipe(task, ["validation.path=", "train.processes=2"])
    straight = train(recipe, tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "stopped", stop_after=2)
    stopped = train(recipe, tmp_path / "stopped", resume=True)
    weights = [load_network(path)[0].state_dict() for path in (plain, straight, stopped)]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in other)
    assert not multiprocessing.active_children()


def test_maps_drawn_on_the_device_teach_the_same(task, tmp_path):
    made = {}
    for where in ("loader", "device"):
        run = Run(read_recipe(task, [f"train.draw={where}"]), tmp_path, CPU, lambda line: None)
        batch = next(run.loaders[0].epoch(0))
        assert ("heatmap" in batch) == (where == "loader")
        made[where] = run._inputs(batch, run.network)[1]
    assert set(made["loader"]) == set(made["device"])
    for name, value in made["loader"].items():
        torch.testing.assert_close(value, made["device"][name], atol=1e-5, rtol=0, equal_nan=True)


def test_a_compiled_step_is_the_same_step(task, tmp_path, monkeypatch):
    """Traced as for a GPU, but run by torch itself: compiling for a CPU needs a C++ compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    losses = {}
    for compiled in ("false", "true"):
        torch.manual_seed(0)
        run = Run(read_recipe(task, [f"train.compile={compiled}", "train.amp=off"]), tmp_path, CPU, lambda line: None)
        assert isinstance(run.compiled, torch._dynamo.OptimizedModule) == (compiled == "true")
        run.step = 1000  # the norms' momentum has settled, which compiled code waits for
        batch = next(run.loaders[0].epoch(0))
        losses[compiled] = [float(run._train_step(batch)[0]) for _ in range(2)]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)

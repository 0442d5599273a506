"""Learning from another model: answers in the labels (distillation), and a network that runs along (imitation)."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file
from tiny_training import JOINTS, log_lines, write_split, write_task

from featherpose.codecs.movenet import MAPS
from featherpose.skeletons import Skeleton, load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, save_model
from featherpose.train.config import read_recipe
from featherpose.train.distributed import Process
from featherpose.train.loop import Interrupted, Run, train

CPU = Process(rank=0, world=1, device=torch.device("cpu"))
DISTIL = "losses={heatmap=0.5, center=1, regression=0.1, offset=1, distillation=0.5}"
IMITATE = "losses={heatmap=0.5, center=1, regression=0.1, offset=1, imitation=0.5}"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Two data sets with the same photos: `data` without, `asked` with a teacher's answers."""
    recipe = write_task(tmp_path_factory.mktemp("teaching"))
    labels = write_split(recipe.parent / "asked", "train", 12)
    facts = json.loads(labels.read_text())
    for annotation in facts["annotations"]:
        annotation["teacher_keypoints"] = [*annotation["keypoints"]]
        annotation["teacher_keypoints"][2::3] = [0.9, 0.6, 0.3]
    labels.write_text(json.dumps(facts))
    return recipe


@pytest.fixture(scope="module")
def teacher(task):
    """A wider network than the task's, with random weights."""
    return write_model(task.parent / "teacher.safetensors", load_skeleton(read_recipe(task).model.skeleton))


def write_model(path, skeleton, codec=None):
    torch.manual_seed(5)
    network = {"system": "movenet", "backbone": "shufflenet_v2", "width": 0.5, "neck": {8: 16, 16: 16}, "head_width": 16}
    spec = ModelSpec(name="teacher", skeleton=skeleton, input_size=(96, 96), codec=codec or {"name": "movenet"},
                     network=network)  # fmt: skip
    save_model(path, build_network(network, len(skeleton)), spec)
    return path


def run_of(task, *overrides):
    torch.manual_seed(0)
    return Run(read_recipe(task, list(overrides)), task.parent / "unused", CPU, lambda line: None)


def first_batch(run):
    return next(run.loaders[0].epoch(0))


def stopped_equals_straight(recipe, folder):
    train(recipe, folder / "straight")
    for number in range(2):
        with pytest.raises(Interrupted):
            train(recipe, folder / "stopped", resume=number > 0, stop_after=2)
    train(recipe, folder / "stopped", resume=True)
    one, other = (load_file(folder / name / "checkpoint.safetensors") for name in ("straight", "stopped"))
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# --- answers in the labels ------------------------------------------------------------------------------------------


def test_answers_cost_nothing_and_change_nothing_until_they_are_asked_for(task):
    plain, asked = (first_batch(run_of(task, f"data.0.path={name}")) for name in ("data", "asked"))
    assert plain.keys() == asked.keys()
    assert not [name for name in asked if name.startswith("teacher")]
    assert all(np.array_equal(plain[name], asked[name]) for name in plain)
    wanted = first_batch(run_of(task, "data.0.path=asked", DISTIL))
    assert all(np.array_equal(plain[name], wanted[name]) for name in plain)
    assert {name for name in wanted if name not in plain} == {
        f"teacher_{name}{end}" for name in ("heatmap", "offset") for end in ("", "_weight")
    }
    assert wanted["teacher_heatmap"].max(axis=(0, 2, 3)) == pytest.approx([0.9, 0.6, 0.6], abs=0.31)
    assert wanted["teacher_heatmap"].max() == pytest.approx(0.9)


def test_sets_with_and_without_answers_mix(task):
    mixed = "data=[{path='data', split='train'}, {path='asked', split='train'}]"
    batch = first_batch(run_of(task, mixed, DISTIL))
    said = batch["teacher_heatmap_weight"].any(axis=(1, 2, 3))
    assert said.any() and not said.all()
    assert not batch["teacher_heatmap"][~said].any()


def test_answers_are_learned_and_a_stopped_run_goes_on_bit_for_bit(task, tmp_path):
    recipe = read_recipe(task, ["data.0.path=asked", DISTIL, "validation.path="])
    assert stopped_equals_straight(recipe, tmp_path)
    losses = log_lines(tmp_path / "straight", "train")[-1]["losses"]
    assert set(losses) == {"heatmap", "center", "regression", "offset", "distillation"} and losses["distillation"] > 0


def test_without_any_answers_there_is_nothing_to_distil(task):
    with pytest.raises(ValueError, match=r"losses\.distillation needs a teacher's joints.* data label DATA --joints-for-all"):
        run_of(task, DISTIL)


# --- a network that runs along --------------------------------------------------------------------------------------


def test_a_teacher_network_gives_the_maps_it_would_give_alone(task, teacher):
    run = run_of(task, f"model.teacher={teacher}", IMITATE, "train.amp=off")
    image = torch.from_numpy(first_batch(run)["image"]).permute(0, 3, 1, 2).float()
    found = run.teacher(image)
    with torch.no_grad():
        wanted = load_network(teacher)[0](image)
    assert found.keys() == {f"imitation_{name}" for name in MAPS}
    assert all(torch.allclose(found[f"imitation_{name}"], wanted[name], atol=1e-5) for name in MAPS)


def test_a_teacher_network_never_moves_and_stays_out_of_the_checkpoint(task, teacher, tmp_path):
    run = run_of(task, f"model.teacher={teacher}", IMITATE)
    for _ in range(2):
        _, _, parts = run._train_step(first_batch(run))
    assert parts["imitation"] > 0
    given = load_file(teacher)
    assert all(torch.equal(value, given[name]) for name, value in run.teacher.network.state_dict().items())
    assert not any(p.grad is not None for p in run.teacher.network.parameters())

    recipe = read_recipe(task, [f"model.teacher={teacher}", IMITATE, "validation.path="])
    assert stopped_equals_straight(recipe, tmp_path)
    plain = read_recipe(task, ["validation.path=", "stage.0.epochs=1"])
    train(plain, tmp_path / "plain")
    names = [set(load_file(tmp_path / name / "checkpoint.safetensors")) for name in ("straight", "plain")]
    assert names[0] == names[1]
    provenance = load_network(tmp_path / "straight" / "model.safetensors")[1].provenance
    assert provenance["recipe"]["model"]["teacher"] == "teacher.safetensors"


def test_imitation_alone_comes_nearer_to_the_teacher(task, teacher):
    overrides = [f"model.teacher={teacher}", "losses={imitation=1}", "train.amp=off", "train.warmup=0"]
    run = run_of(task, *overrides)
    batch = first_batch(run)
    losses = [float(run._train_step(batch)[2]["imitation"]) for _ in range(25)]
    assert losses[-1] < losses[0] / 2


def test_a_teacher_that_cannot_teach_this_is_refused(task, teacher):
    other = write_model(task.parent / "other.safetensors", Skeleton("other", (*JOINTS[:2], "tail")))
    with pytest.raises(ValueError, match="the teacher's joints are those of skeleton 'other', the recipe's of 'three'"):
        run_of(task, f"model.teacher={other}", IMITATE)
    coarse = write_model(task.parent / "coarse.safetensors", load_skeleton(task.parent / "three.json"),
                         {"name": "movenet", "stride": 8})  # fmt: skip
    with pytest.raises(ValueError, match="a teacher must have the same codec and stride"):
        run_of(task, f"model.teacher={coarse}", IMITATE)
    with pytest.raises(FileNotFoundError, match="there is no such model file"):
        run_of(task, "model.teacher=nobody.safetensors", IMITATE)
    with pytest.raises(ValueError, match=r"losses\.imitation needs a teacher: name a model of featherpose as model\.teacher"):
        read_recipe(task, [IMITATE])
    with pytest.raises(ValueError, match=r"model\.teacher would teach nothing: give losses\.imitation a weight"):
        read_recipe(task, [f"model.teacher={teacher}"])

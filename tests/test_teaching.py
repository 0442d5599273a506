"""Learning from another model: answers in the labels (distillation), and a network that runs along (imitation)."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
import torch
from safetensors.torch import load_file
from test_teacher import write_graph
from tiny_training import JOINTS, log_lines, write_split, write_task

from featherpose.codecs import build_codec
from featherpose.codecs.movenet import MAPS
from featherpose.skeletons import Skeleton, load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, save_model
from featherpose.train.config import read_recipe
from featherpose.train.distributed import Process
from featherpose.train.imitation import HILL, THEIR_SIGMA, GraphTeacher, make_teacher
from featherpose.train.loop import Interrupted, Learner, Run, train

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
    recipe = read_recipe(task)
    return write_model(task.parent / "teacher.safetensors", load_skeleton(recipe.model.skeleton), size=recipe.input_size)


def write_model(path, skeleton, codec=None, size=(96, 96)):
    torch.manual_seed(5)
    network = {"system": "movenet", "backbone": "shufflenet_v2", "width": 0.5, "neck": {8: 16, 16: 16}, "head_width": 16}
    spec = ModelSpec(name="teacher", skeleton=skeleton, input_size=size, codec=codec or {"name": "movenet"},
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
    plain, asked = (first_batch(run_of(task, f"data.0.path={task.parent / name}")) for name in ("data", "asked"))
    assert plain.keys() == asked.keys()
    assert not [name for name in asked if name.startswith("teacher")]
    assert all(np.array_equal(plain[name], asked[name]) for name in plain)
    wanted = first_batch(run_of(task, f"data.0.path={task.parent / 'asked'}", DISTIL))
    assert all(np.array_equal(plain[name], wanted[name]) for name in plain)
    assert {name for name in wanted if name not in plain} == {
        f"teacher_{name}{end}" for name in ("heatmap", "offset") for end in ("", "_weight")
    }
    assert wanted["teacher_heatmap"].max(axis=(0, 2, 3)) == pytest.approx([0.9, 0.6, 0.6], abs=0.31)
    assert wanted["teacher_heatmap"].max() == pytest.approx(0.9)


def test_sets_with_and_without_answers_mix(task):
    mixed = f"data=[{{path='{task.parent / 'data'}', split='train'}}, {{path='{task.parent / 'asked'}', split='train'}}]"
    batch = first_batch(run_of(task, mixed, DISTIL))
    said = batch["teacher_heatmap_weight"].any(axis=(1, 2, 3))
    assert said.any() and not said.all()
    assert not batch["teacher_heatmap"][~said].any()


def test_answers_are_learned_and_a_stopped_run_goes_on_bit_for_bit(task, tmp_path):
    recipe = read_recipe(task, [f"data.0.path={task.parent / 'asked'}", DISTIL, "validation.path="])
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
    found = run.teacher(image, {})
    with torch.no_grad():
        wanted = load_network(teacher)[0](image)
    assert found.keys() == {f"imitation_{name}" for name in MAPS}
    assert all(torch.allclose(found[f"imitation_{name}"], wanted[name], atol=1e-5) for name in MAPS)


def test_a_teacher_is_shown_the_picture_without_a_cameras_faults(task, teacher):
    run = run_of(task, f"model.teacher={teacher}", IMITATE, "train.amp=off", "augment.camera=1.0")
    batch = first_batch(run)
    image, targets = run._inputs(batch, run.network)
    clean = torch.from_numpy(batch["clean"]).permute(0, 3, 1, 2).float()
    assert torch.equal(image, torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float())
    assert not torch.equal(image, clean)
    assert torch.allclose(targets["imitation_heatmap"], run.teacher(clean, {})["imitation_heatmap"], atol=1e-5)
    assert "clean" not in targets


def test_a_teacher_network_sees_pictures_at_its_own_size(task):
    skeleton = load_skeleton(read_recipe(task).model.skeleton)
    path = write_model(task.parent / "larger.safetensors", skeleton, size=(192, 192))
    teacher = make_teacher(str(path), skeleton, {"name": "movenet"}, (128, 128), CPU.device, "off")
    shown = []
    teacher.network.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    maps = teacher(torch.stack([x, y, 255 * (x > 64)])[None], {})
    assert all(maps[f"imitation_{name}"].shape[-2:] == (32, 32) for name in MAPS)
    assert maps["imitation_offset"].shape == (1, len(skeleton), 2, 32, 32)
    red, green, blue = shown[0][0]
    inner = (torch.arange(192) + 0.5)[10:-10] * 128 / 192
    assert torch.allclose(red[10:-10, 10:-10], inner.expand(172, 172), atol=0.02)
    assert torch.allclose(green[10:-10, 10:-10], inner[:, None].expand(172, 172), atol=0.02)
    assert blue.min() == 0 and blue.max() == 255
    teacher(torch.zeros(1, 3, 96, 128), {})
    assert shown[1].shape[-2:] == (96, 128)  # of another shape: as it is


def test_maps_of_a_larger_teacher_say_the_same_on_our_grid(task, tmp_path):
    codec = {"name": "movenet", "sigma_scale": 0.03, "sigma_range": [1.0, 1.25], "center_sigma": 1.0, "subcell": True,
             "offset_radius": 2, "unlabelled_weight": 1.0}  # fmt: skip
    skeleton = load_skeleton(read_recipe(task).model.skeleton)
    path = write_model(tmp_path / "larger.safetensors", skeleton, codec, size=(192, 192))
    for size in (64, 96, 128, 160, 192, 256):
        teacher = make_teacher(str(path), skeleton, codec, (size, size), CPU.device, "off")
        theirs, ours = (build_codec(codec, (s, s), len(skeleton)) for s in (192, size))
        heights, widths = [], []
        for seed in range(40):
            shares = np.random.default_rng(seed).uniform(0.1, 0.9, (1, len(skeleton), 2))
            shares[0, :2, 0] = np.array([0.1, 0.9]) + shares[0, 2] / 50  # as large as evaluation cuts people out
            seen = np.full(shares.shape[:2], 2)
            given = theirs.encode(shares * 192, seen)
            wanted = ours.encode(shares * size, seen)
            maps = teacher._on_grid({name: torch.from_numpy(given[name])[None] for name in MAPS}, (size // 4, size // 4))
            maps = {name: value[0].numpy() for name, value in maps.items()}
            assert {name: value.shape for name, value in maps.items()} == {name: wanted[name].shape for name in MAPS}
            if size >= 96:  # below, a cell of ours lies beyond those that the teacher's offsets are written to
                assert np.abs(ours.decode(maps)[0] - shares[0] * size).max() < 0.01, (size, seed)
            for kind in (maps, wanted):
                curves = np.concatenate([kind["heatmap"], kind["center"]])
                heights.append(curves.max(axis=(1, 2)))
                widths.append((curves.sum(axis=(1, 2)) / heights[-1]) ** 0.5)
        for values, near in ((heights, 0.03), (widths, 0.08)):
            found, right = np.mean(values[::2], axis=0), np.mean(values[1::2], axis=0)
            assert np.abs(found / right - 1).max() < near, (size, found, right)


def test_a_teacher_network_never_moves_and_stays_out_of_the_checkpoint(task, teacher, tmp_path):
    run = run_of(task, f"model.teacher={teacher}", IMITATE)
    given = {name: value.clone() for name, value in run.teacher.network.state_dict().items()}
    for _ in range(2):
        _, _, parts = run._train_step(first_batch(run))
    assert parts["imitation"] > 0 and given
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


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_the_mirror_leaves_gradients_and_statistics_as_they_are(task, amp):
    run = run_of(task, "losses={heatmap=1, mirror=1}", f"train.amp={amp}")
    image, targets = run._inputs(first_batch(run), run.network)
    learner = Learner(run.network.train(), run.criterion, amp)
    norms = [m for m in run.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [(norm.running_mean.clone(), norm.momentum) for norm in norms]
    learner._seen_in_the_mirror(image)
    assert norms
    for norm, (mean, momentum) in zip(norms, before, strict=True):
        assert torch.equal(norm.running_mean, mean) and norm.momentum == momentum
    learner(image, targets)[0].backward()
    weights = [p for name, p in run.network.named_parameters() if name.endswith("conv.weight") and p.requires_grad]
    moved = [p.grad is not None and p.grad.abs().max() > 0 for p in weights]
    assert len(weights) > 5 and np.mean(moved) > 0.5


def test_the_mirror_alone_makes_answers_to_mirrored_pictures_alike(task):
    run = run_of(task, "losses={heatmap=0.001, mirror=1}", "train.amp=off", "train.warmup=0", "train.lr=1e-3")
    batch = first_batch(run)
    losses = [float(run._train_step(batch)[2]["mirror"]) for _ in range(25)]
    assert 0 < losses[-1] < 0.7 * losses[0]


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


# --- another project's graph that runs along ------------------------------------------------------------------------

THREE = Skeleton("three", JOINTS)
CODEC = {"name": "movenet", "sigma_range": (1.0, 1.0), "subcell": True}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A graph of 64x48 pixels whose maps are the red, green and blue of the picture."""
    return str(write_graph(tmp_path_factory.mktemp("graph") / "colours.onnx"))


def looking_at(colours, input_size=(96, 96)):
    return make_teacher(colours, THREE, CODEC, input_size, torch.device("cpu"), "off")


def scene(*persons, size=96, target=0):
    """A black picture (1, 3, H, W) with red, green and blue dots of 12 px, and what the loader says of it.

    persons: (3, 2) pixels of each person's joints, NaN where unlabelled.
    """
    picture = torch.zeros(1, 3, size, size)
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    for person in persons:
        for joint, (x, y) in enumerate(person):
            if np.isfinite(x):
                picture[0, joint, (columns - x).abs().maximum((rows - y).abs()) <= 6] = 255
    xy = np.array(persons, np.float64)
    maps = build_codec(CODEC, (size, size), 3).encode(xy, np.where(np.isfinite(xy).all(axis=2), 2, 0))
    own = xy[target] if target >= 0 else np.full((3, 2), np.nan)
    box = [*(np.nanmin(own, axis=0) - 4), *(np.nanmax(own, axis=0) + 4)] if target >= 0 else [np.nan] * 4
    told = {"heatmap": maps["heatmap"], "target_cells": own / 4, "target_box": np.array(box) / 4}
    return picture, {name: torch.from_numpy(np.asarray(value, np.float32))[None] for name, value in told.items()}


ONE = [(20, 30), (50, 60), (70, 20)]
TWO = [(80, 80), (30, 84), (84, 50)]


def test_a_graphs_maps_come_to_the_cells_that_they_speak_of(colours):
    given, middles, errors = looking_at(colours), torch.arange(24) + 0.5, []
    for x, y in np.random.default_rng(0).uniform(20, 76, (60, 2)):
        mass = given(*scene([(x, y), (48, 60), (60, 20)]))["imitation_heatmap"][0, 0]
        assert float(mass.max()) > 0.5  # a dot is three columns wide in the narrow input
        found = [float((mass.sum(dim=axis) * middles).sum() / mass.sum()) * 4 for axis in (0, 1)]
        errors.append([found[0] + 96 / 48 / 2 - x, found[1] + 96 / 64 / 2 - y])  # its cell c is the middle of pixel 4 c
    assert np.abs(errors).max() < 2.4 and np.abs(np.mean(errors, axis=0)).max() < 0.4  # pixels; a cell has 4


def hill(x, y, top, shape=(64, 48)):
    """A hill as top-down teachers draw them, its top at cell (x, y)."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    return top * torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * THEIR_SIGMA**2))


def test_hills_keep_their_heights_and_get_the_width_of_our_curves(colours):
    one, other = hill(10.5, 20.67, 0.9), hill(30.5, 44.67, 0.4)
    maps = torch.stack([one, one.maximum(other), torch.zeros(64, 48)])[None]
    found = looking_at(colours, (192, 192))._on_grid(maps, (48, 48))[0]
    assert 0.8 < found[0].max() < 0.9 and found[0].argmax() == 15 * 48 + 10  # middle (10.5, 15.5)
    assert 0.35 < found[1, 33, 30] < 0.4 and found[1, 15, 10] == found[0, 15, 10]
    assert not found[2].any()
    across = found[0, 15, 8:14] / found[0].max()  # wider than high, as its input is narrower than ours: 1.15 and 0.87
    along = found[0, 13:19, 10] / found[0].max()
    area = 2 * np.pi * 0.9
    assert float(across.sum()) > float(along.sum())
    assert float(found[0].sum()) == pytest.approx(area, rel=0.1)
    assert HILL >= 2 * 3 * 1.25 - 1  # the widest curve of the bundled recipes ends within a hill


def test_a_graph_speaks_of_the_target_alone(colours):
    given = looking_at(colours)
    picture, told = scene(ONE, TWO)
    weight = given(picture, told)["imitation_weight"][0]
    for joint in range(3):
        x, y = np.array(ONE[joint]) // 4
        assert weight[joint, y, x] == 1
        x, y = np.array(TWO[joint]) // 4
        assert weight[joint, y, x] == 0
    assert not weight[:, 22:].any() and weight[0, 12, 8] == 1  # below the box; inside, where nobody has a joint
    inside_of_one = [(50, 50), (np.nan,) * 2, (np.nan,) * 2]
    weight = given(*scene(ONE, inside_of_one))["imitation_weight"][0]
    assert weight[0, 12, 12] == 0 and weight[1, 12, 12] == 1


def test_a_graph_that_looks_at_somebody_else_is_not_heard(colours):
    given = looking_at(colours)
    picture, told = scene(ONE)
    assert given(picture, told)["imitation_weight"].any()
    assert not given(torch.zeros_like(picture), told)["imitation_weight"].any()
    moved = told | {"target_cells": told["target_cells"] + 4}
    assert not given(picture, moved)["imitation_weight"].any()
    lost_one = picture.clone()
    lost_one[:, 2] = 0
    assert given(lost_one, told)["imitation_weight"].any()
    outside = told | {"target_cells": told["target_cells"] - 250}
    assert not given(picture, outside)["imitation_weight"].any()
    picture, told = scene(ONE, target=-1)
    assert not given(picture, told)["imitation_weight"].any()


def test_a_graph_teaches_a_training(task, colours, tmp_path):
    overrides = [f"model.teacher={colours}", "losses={heatmap=0.001, imitation=1}", "train.amp=off", "train.warmup=0"]
    run = run_of(task, *overrides)
    assert isinstance(run.teacher, GraphTeacher)
    batch = first_batch(run)
    losses = [float(run._train_step(batch)[2]["imitation"]) for _ in range(25)]
    assert 0 < losses[-1] < losses[0] / 2
    recipe = read_recipe(task, [*overrides, "validation.path="])
    assert stopped_equals_straight(recipe, tmp_path)
    provenance = load_network(tmp_path / "straight" / "model.safetensors")[1].provenance
    assert provenance["recipe"]["model"]["teacher"] == "colours.onnx"


def test_a_graph_that_cannot_teach_is_refused(task, tmp_path):
    def with_teacher(path):
        return run_of(task, f"model.teacher={path}", IMITATE)

    with pytest.raises(FileNotFoundError, match="there is no such model file"):
        with_teacher("nobody.onnx")
    with pytest.raises(ValueError, match="no output is a stack of heatmaps"):
        with_teacher(write_graph(tmp_path / "rows.onnx", "simcc"))
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="not a readable ONNX file"):
        with_teacher(tmp_path / "broken.onnx")
    (tmp_path / "movenet.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"takes a model of featherpose .* or another project's .* not '\.tflite'"):
        with_teacher(tmp_path / "movenet.tflite")
    graph = write_graph(tmp_path / "colours.onnx")
    with pytest.raises(ValueError, match="gives 3 joints, skeleton 'other' has 2; both must be the same, in the same order"):
        make_teacher(str(graph), Skeleton("other", JOINTS[:2]), CODEC, (96, 96), torch.device("cpu"), "off")


@pytest.mark.parametrize("kind", ["network", "graph"])
def test_only_the_photos_that_are_taught_are_shown_to_a_teacher(task, teacher, colours, kind):
    path = {"network": teacher, "graph": colours}[kind]
    mix = "data=[{path='data', split='train'}, {path='asked', split='train', taught=false}]"
    mix = mix.replace("'data'", f"'{task.parent / 'data'}'").replace("'asked'", f"'{task.parent / 'asked'}'")
    run = run_of(task, mix, f"model.teacher={path}", IMITATE, "train.amp=off", "stage.0.batch=12")
    batch = first_batch(run)
    asked = torch.from_numpy(batch["taught"])
    assert 0 < asked.sum() < 12
    image, targets = run._inputs(batch, run.network)
    assert len(targets["imitation_heatmap"]) == asked.sum()
    assert torch.equal(targets["imitation_asked"], asked.nonzero()[:, 0])
    alone = run.teacher(image[asked], {name: value[asked] for name, value in targets.items() if len(value) == 12})
    assert torch.allclose(targets["imitation_heatmap"], alone["imitation_heatmap"], atol=1e-5)

    assert float(run.shared(image, targets)[1]["imitation"]) > 0
    only = {**targets, **{name: value[asked] for name, value in targets.items() if len(value) == 12}}
    only.pop("imitation_asked")
    alike = run.criterion(dict(zip(MAPS, (run.network(image)[name][asked] for name in MAPS), strict=True)), only)
    whole = run.criterion(run.network(image), targets)
    assert float(alike[1]["imitation"]) == pytest.approx(float(whole[1]["imitation"]), rel=1e-5)

    everybody = run._inputs(batch | {"taught": np.ones(12, bool)}, run.network)[1]
    assert "imitation_asked" not in everybody and len(everybody["imitation_heatmap"]) == 12
    _, _, parts = run._train_step(batch | {"taught": np.zeros(12, bool)})
    assert float(parts["imitation"]) == 0 < float(parts["heatmap"])


def test_a_teacher_without_any_photo_is_refused(task, colours):
    with pytest.raises(ValueError, match=r"losses\.imitation has no photos to learn from: every data\.taught is false"):
        read_recipe(task, [f"model.teacher={colours}", IMITATE, "data.0.taught=false"])

"""Recipes: what is written is what is meant, and everything else is refused with the way out."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

pytest.importorskip("torch")

from safetensors.torch import save_file
from tiny_training import write_split, write_task

from featherpose.data.augment import Augmentation
from featherpose.runtime.bundled import bundled_weights
from featherpose.skeletons import load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import save_model
from featherpose.train.config import DataRules, ModelRules, Stage, TrainRules, ValidationRules, read_recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("task"))


def edited(task, tmp_path, old, new):
    """The task's recipe with one text replaced, in a folder of its own."""
    text = task.read_text()
    assert old in text
    (tmp_path / "three.json").write_text((task.parent / "three.json").read_text())
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new))
    return path


def test_defaults_and_relative_paths(task):
    recipe = read_recipe(task)
    assert recipe.train.clip == 5.0 and recipe.train.betas == (0.9, 0.999)
    assert recipe.stage[0].input_size == (64, 64) == recipe.input_size
    assert recipe.data[0].path == str(task.parent / "data")
    assert recipe.validation.path == str(task.parent / "data")
    assert recipe.model.codec == {"name": "movenet"}
    assert recipe.losses == {"heatmap": 1.0, "center": 1.0, "regression": 0.1, "offset": 1.0}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_come_along_can_be_read(path):
    recipe = read_recipe(path)
    assert recipe.model.name == {"finetune": "lite-mine"}.get(path.stem, path.stem) and recipe.data and recipe.stage


EARLIER = {
    "7c9d82bf9745db52": """
[model]
name = "old"
init = "/x/classifier.tflite"
network = { system = "movenet", preset = "lite" }
[[data]]
path = "/x/coco"
split = "train"
[[stage]]
input_size = 128
epochs = 26
[loss]
k = 7.0
[train]
freeze = 4
""",
    "27a42388cbe8ba37": """
[model]
name = "lite"
skeleton = "coco17"
network = { system = "movenet", preset = "lite" }
codec = { name = "movenet", curve = "gaussian", center = "box", center_sigma = 1.0, softening = 4.0 }
init = "/x/mobilenet_v1_0.75_192_quant.tflite"
[[data]]
path = "/x/coco_person"
split = "train"
repeat = 1.0
[[data]]
path = "/x/lsp_extended"
split = "train"
repeat = 0.5
[[stage]]
input_size = 96
epochs = 8
batch = 16
[[stage]]
input_size = 128
epochs = 10
batch = 16
[[stage]]
input_size = 192
epochs = 22
batch = 16
[augment]
crop_scale = [1.05, 1.75]
shift = 0.06
rotate = 0.5
rotate_deviation = 22.0
upside_down = 0.02
half_body = 0.05
other_target = 0.2
colour_strength = 0.25
blur = 0.04
cutout = 0.1
[losses]
heatmap = 1.0
center = 0.5
regression = 0.25
offset = 1.0
[loss]
k = 7.0
[train]
lr = 4e-3
backbone_lr = 0.5
warmup = 300
final_lr = 0.005
ema = 0.999
amp = "bf16"
[validation]
path = "/x/coco_person"
split = "val"
protocol = "crop"
every = 2
""",
}


@pytest.mark.parametrize("fingerprint", EARLIER)
def test_a_fingerprint_does_not_change_between_versions(tmp_path, fingerprint):
    """Else no run could go on after an upgrade: a new key must keep it, or the changelog say that it does not."""
    (tmp_path / "old.toml").write_text(EARLIER[fingerprint])
    assert read_recipe(tmp_path / "old.toml").fingerprint() == fingerprint


def test_later_keys_count_only_where_they_change_something(task):
    plain = read_recipe(task).fingerprint()
    assert read_recipe(task, ["loss.automatic=false"]).fingerprint() == plain
    assert read_recipe(task, ["loss.automatic=true"]).fingerprint() != plain


def test_of_a_skeleton_file_counts_what_it_says(task, tmp_path):
    plain, facts = read_recipe(task).fingerprint(), json.loads((task.parent / "three.json").read_text())
    path = tmp_path / "moved.json"
    moved = [f"model.skeleton='{path}'"]
    path.write_text(json.dumps(facts))
    assert read_recipe(task, moved).fingerprint() == plain
    for change in ({"sigmas": [0.1, 0.1, 0.2]}, {"bones": []}, {"joints": ["tail", *facts["joints"][1:]], "bones": []}):
        path.write_text(json.dumps(facts | change))
        assert read_recipe(task, moved).fingerprint() != plain
    path.write_text(json.dumps(facts | {"joints": ["head", "near", "far"], "flip_pairs": [], "bones": []}))
    unpaired = read_recipe(task, moved).fingerprint()
    path.write_text(json.dumps(facts | {"joints": ["head", "near", "far"], "flip_pairs": [["near", "far"]], "bones": []}))
    assert read_recipe(task, moved).fingerprint() != unpaired


def test_of_a_bundled_model_counts_its_name_not_its_place(tmp_path, monkeypatch):
    recipe = next(path for path in RECIPES if path.stem == "finetune")
    plain = read_recipe(recipe).fingerprint()
    elsewhere = tmp_path / "lite.safetensors"
    elsewhere.write_bytes(bundled_weights("lite").read_bytes())
    monkeypatch.setattr("featherpose.train.config.bundled_weights", lambda name: elsewhere if name == "lite" else None)
    moved = read_recipe(recipe)
    assert moved.model.init == str(elsewhere) and moved.fingerprint() == plain


def test_where_a_run_runs_and_validates_does_not_change_the_fingerprint(task):
    plain = read_recipe(task).fingerprint()
    overrides = [
        "train.workers=0",
        "train.processes=4",
        "train.threads=3",
        "train.device=cpu",
        "train.keep_photos=false",
        "validation.every=5",
    ]
    assert read_recipe(task, overrides).fingerprint() == plain
    assert read_recipe(task, ["train.seed=1"]).fingerprint() != plain
    assert read_recipe(task, ["loss.k=5.0"]).fingerprint() != plain


def test_public_facts_name_no_folders(task):
    facts = json.dumps(read_recipe(task, ["model.init=/home/me/net.safetensors"]).to_public_dict())
    assert str(task.parent) not in facts and "/home/me" not in facts and '"init": "net.safetensors"' in facts


# --- overrides ------------------------------------------------------------------------------------------------------

OVERRIDES = {
    "a number": ("train.lr=0.5", lambda r: r.train.lr, 0.5),
    "scientific notation": ("train.lr=1e-3", lambda r: r.train.lr, 0.001),
    "a whole number for a number": ("train.clip=2", lambda r: r.train.clip, 2.0),
    "a text without quotes": ("train.amp=off", lambda r: r.train.amp, "off"),
    "a text with quotes": ("model.name='other'", lambda r: r.model.name, "other"),
    "a truth value": ("train.keep_photos=false", lambda r: r.train.keep_photos, False),
    "an entry of a list": ("stage.0.epochs=3", lambda r: r.stage[0].epochs, 3),
    "a pair": ("stage.0.input_size=[96, 64]", lambda r: r.stage[0].input_size, (96, 64)),
    "one number for a pair": ("augment.crop_scale=1.25", lambda r: r.augment.crop_scale, (1.25, 1.25)),
    "a table inside": ("model.network.width=0.5", lambda r: r.model.network["width"], 0.5),
    "a table that was not there": ("model.codec.curve=exponential", lambda r: r.model.codec,
                                   {"name": "movenet", "curve": "exponential"}),
    "a stage's own augmentation": ("stage.0.augment.flip=0.0", lambda r: r.augmentation(r.stage[0]).flip, 0.0),
    "a joint's weight": ("loss.joint_weights={head=2}", lambda r: r.loss.get("joint_weights"), {"head": 2}),
    "a whole list": ("stage=[{epochs=1}, {epochs=2}]", lambda r: [s.epochs for s in r.stage], [1, 2]),
    "nothing": ("validation.path=", lambda r: r.validation.path, ""),
}  # fmt: skip


@pytest.mark.parametrize(("override", "read", "value"), OVERRIDES.values(), ids=OVERRIDES)
def test_an_override_sets_one_value(task, override, read, value):
    assert read(read_recipe(task)) != value
    assert read(read_recipe(task, [override])) == value


def test_a_stage_leaves_the_other_augmentation_alone(task):
    recipe = read_recipe(task, ["augment.blur=0.5", "stage.0.augment.flip=0.0"])
    assert recipe.augmentation(recipe.stage[0]).blur == 0.5 and recipe.augment.flip == 0.5


def test_a_relative_path_in_an_override_counts_from_the_working_directory(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(task, ["data.0.path=photos", "model.init=../first.safetensors", "validation.path="])
    assert recipe.data[0].path == str(tmp_path / "photos") and recipe.validation.path == ""
    assert recipe.model.init == str(tmp_path.parent / "first.safetensors")
    whole = read_recipe(task, ["data=[{path='a', split='train'}, {path='/b', split='val'}]", "validation.path="])
    assert [data.path for data in whole.data] == [str(tmp_path / "a"), "/b"]
    assert read_recipe(task).data[0].path == str(task.parent / "data")


# --- what is refused ------------------------------------------------------------------------------------------------

MISSPELT = {
    "at the top": ("trian.lr=1", "unknown key 'trian'; did you mean 'train'?"),
    "in a table": ("train.warmpu=1", "unknown key 'train.warmpu'; did you mean 'warmup'?"),
    "in [model]": ("model.skelton=coco17", "unknown key 'model.skelton'; did you mean 'skeleton'?"),
    "in [[data]]": ("data.0.splitt=train", "unknown key 'data.0.splitt'; did you mean 'split'?"),
    "in [[stage]]": ("stage.0.epoch=1", "unknown key 'stage.0.epoch'; did you mean 'epochs'?"),
    "in [augment]": ("augment.rotat=1", "unknown key 'augment.rotat'; did you mean 'rotate'?"),
    "in a stage's augmentation": ("stage.0.augment.flop=1", "unknown key 'stage.augment.flop'; did you mean 'flip'?"),
    "an optimizer": ("train.optimizer=muom", "unknown train.optimizer 'muom'; did you mean 'muon'?"),
    "in [validation]": ("validation.evry=1", "unknown key 'validation.evry'; did you mean 'every'?"),
    "in [loss]": ("loss.joint_weight={}", "unknown key 'loss.joint_weight'; did you mean 'joint_weights'?"),
    "a form": ("loss.form=fokal", "unknown loss.form 'fokal'; did you mean 'focal'?"),
    "a loss": ("losses.heatmpa=1", "unknown loss 'heatmpa'; did you mean 'heatmap'?"),
    "heads": ("model.network.heads=movnet", "unknown heads 'movnet' of movenet; did you mean 'movenet'?"),
    "a joint": ("loss.joint_weights={left_hnd=2}", "has no joint 'left_hnd'; did you mean 'left_hand'?"),
    "a network key": ("model.network.widht=1", "unknown key 'widht'; did you mean 'width'?"),
    "a backbone": (
        "model.network.backbone=mobilnet_v2",
        "unknown backbone 'mobilnet_v2'; did you mean 'mobilenet_v2'?",
    ),
    "a preset": ("model.network.preset=lihgtning", "unknown preset 'lihgtning' of movenet; did you mean 'lightning'?"),
    "a system": ("model.network.system=movnet", "unknown system 'movnet'; did you mean 'movenet'?"),
    "a codec": ("model.codec.name=movenett", "unknown codec 'movenett'; did you mean 'movenet'?"),
    "a codec key": ("model.codec.sigma_scael=1", "unknown key 'sigma_scael'; did you mean 'sigma_scale'?"),
    "a curve": ("model.codec.curve=gausian", "unknown curve 'gausian'; did you mean 'gaussian'?"),
    "a skeleton": ("model.skeleton=coco71", "unknown skeleton 'coco71'; did you mean 'coco17'?"),
    "a protocol": ("validation.protocol=corp", "unknown validation.protocol 'corp'; did you mean 'crop'?"),
}
CONTRADICTORY = {
    "frozen random weights": ("train.freeze=4", "model.init is empty"),
    "no such stride": ("train.freeze=5", "train.freeze must be 0 or a stride"),
    "no epochs": ("stage.0.epochs=0", "stage.epochs must be at least 1; got 0"),
    "no batch": ("stage.0.batch=0", "stage.batch must be at least 1; got 0"),
    "a batch of one value": ("stage=[{input_size=32, batch=1}]", "stage.batch must be at least 2 at 32 px"),
    "an odd size": ("stage.0.input_size=100", "stage.input_size must be two multiples of 32; got [100, 100]"),
    "a size with a fraction": ("stage.0.input_size=[64.5, 64]", "stage.input_size must be two multiples of 32"),
    "an average that never moves": ("train.ema=1.0", "train.ema must be in [0, 1)"),
    "a rate of 0": ("train.lr=0.0", "train.lr must be positive; got 0.0"),
    "a negative rate": ("train.lr=-1e-3", "train.lr must be positive"),
    "a rate that is no number": ("train.lr=nan", "train.lr must be positive; got nan"),
    "an endless rate": ("train.lr=inf", "train.lr must be positive; got inf"),
    "a negative clip": ("train.clip=-1.0", "train.clip must be 0 or more"),
    "a negative seed": ("train.seed=-1", "train.seed must be 0 or more"),
    "three betas": ("train.betas=[0.9, 0.9, 0.9]", "'train.betas' must be two numbers [a, b]"),
    "a beta of 1": ("train.betas=[0.9, 1.0]", "train.betas must be two numbers in [0, 1)"),
    "statistics of nothing": ("train.norms=folded", "model.init is empty"),
    "norms of another kind": ("train.norms=frozen", "train.norms must be 'live' or 'folded'"),
    "another precision": ("train.amp=fp16", "train.amp must be 'bf16' or 'off'; got 'fp16'"),
    "no data": ("data=[]", "the recipe has no [[data]]"),
    "no stage": ("stage=[]", "the recipe has no [[stage]]"),
    "data without a path": ("data=[{split='train'}]", "'data.0' lacks the key 'path'"),
    "photos seen never": ("data.0.repeat=0", "data.repeat must be positive; got 0.0"),
    "a limit below 0": ("validation.limit=-5", "validation.limit must be 0 or more"),
    "no validation ever": ("validation.every=0", "validation.every must be at least 1"),
    "every loss off": ("losses={heatmap=0}", "every loss has weight 0"),
    "a negative loss": ("losses.offset=-1", "losses.offset must be a number, 0 or more; got -1"),
    "weights learned by text": ("loss.automatic=yes", "loss.automatic must be true or false; got 'yes'"),
    "a loss of text": ("losses.offset=much", "losses.offset must be a number, 0 or more; got 'much'"),
    "a probability over 1": ("augment.flip=1.5", "augment.flip is a probability"),
    "a name that is a path": ("model.name=runs/a", "model.name must be a name without slashes"),
    "another grid than the network's": ("model.codec.stride=8", "check model.codec.stride"),
    "no grid": ("model.codec.stride=0", "stride"),
    "a codec value of another type": ("model.codec.sigma_scale=wide", "'model.codec.sigma_scale' must be a number"),
    "one number for a codec's pair": ("model.codec.sigma_range=3", "sigma_range must be two numbers [low, high], got 3"),
    "votes of cells without offsets": ("model.codec.vote_radius=2", "vote_radius must not be more than offset_radius (1)"),
    "tops of curves beside the joint": ("model.codec.refine=dark", "model.codec.subcell = false curves stand on their cells"),
    "a network value of another type": ("model.network.width=wide", "cannot be built"),
    "levels without channels": ("model.network.neck=[4, 8]", "cannot be built"),
    "a head without channels": ("model.network.head_width=0", "head_width must be a number of channels"),
    "a sigmoid of another kind": ("model.network.sigmoid=linear", "sigmoid must be 'sigmoid' or 'fast_sigmoid'"),
    "an endless crop": ("augment.crop_scale=[1, inf]", "augment.crop_scale must be 0 < low <= high"),
    "a curve without width": ("model.codec.sigma_scale=nan", "sigma_scale must be a number from 0 on"),
    "a seed that is too large": ("train.seed=18446744073709551616", "train.seed"),
    "a level that is not there": ("model.network.neck={5=3}", "cannot be built"),
    "a wrong type": ("train.warmup=1.5", "'train.warmup' must be a whole number, got 1.5"),
    "a truth value for a number": ("train.lr=true", "'train.lr' must be a number, got True"),
    "a table for a list": ("data={path='x'}", "'data' must be written as [[data]]"),
    "a number for a list": ("data=3", "'data' must be written as [[data]]"),
    "a number for a table": ("train=3", "'train' must be a table, got 3"),
}
WRONG_OVERRIDES = {
    "no value": ("train.lr", "is not NAME=VALUE, as in train.lr=0.001"),
    "an entry that is not there": ("stage.1.epochs=2", "the recipe has no entry '1' there, it has 1"),
    "an entry by name": ("stage.first.epochs=2", "no entry 'first'"),
    "a list without a number": ("stage.epochs=2", "no entry 'epochs'|name the entry by number"),
    "a value taken for a table": ("train.lr.peak=2", "'lr' is a value, not a table"),
}


@pytest.mark.parametrize(("override", "sentence"), MISSPELT.values(), ids=MISSPELT)
def test_a_misspelt_name_is_told_with_the_nearest(task, override, sentence):
    with pytest.raises(ValueError) as error:
        read_recipe(task, [override])
    assert sentence in str(error.value) and str(error.value).startswith(f"{task}: ")


@pytest.mark.parametrize(("override", "sentence"), CONTRADICTORY.values(), ids=CONTRADICTORY)
def test_a_contradiction_is_refused(task, override, sentence):
    with pytest.raises(ValueError) as error:
        read_recipe(task, [override])
    assert sentence in str(error.value) and str(error.value).startswith(f"{task}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("override", "sentence"), WRONG_OVERRIDES.values(), ids=WRONG_OVERRIDES)
def test_an_override_that_fits_nowhere_is_refused(task, override, sentence):
    with pytest.raises(ValueError) as error:
        read_recipe(task, [override])
    assert any(part in str(error.value) for part in sentence.split("|"))


def test_an_override_of_a_stage_that_the_recipe_leaves_to_the_default(task, tmp_path):
    path = edited(task, tmp_path, "[[stage]]\ninput_size = 64\nepochs = 2\nbatch = 4", "")
    assert read_recipe(path).stage[0].epochs == 10
    with pytest.raises(ValueError, match="no entry '0' there, it has 0"):
        read_recipe(path, ["stage.0.epochs=3"])


def test_the_oks_loss_and_decoding_by_the_top_of_the_heatmap_exclude_each_other(task):
    dark = ["model.codec.refine=dark", "model.codec.subcell=true"]
    with pytest.raises(ValueError, match=r"losses\.oks trains the offsets.*refine = 'dark' reads none"):
        read_recipe(task, ["losses.oks=1", *dark])
    assert read_recipe(task, ["losses.oks=1"]).losses["oks"] == 1
    assert read_recipe(task, dark).losses


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    """A model file of the task's network, and the recipe's overrides to start from it with folded norms."""
    recipe = read_recipe(task)
    skeleton, network = load_skeleton(recipe.model.skeleton), build_network(recipe.model.network, 3)
    path = tmp_path_factory.mktemp("trained") / "first.safetensors"
    save_model(path, network, ModelSpec("first", skeleton, (64, 64), codec=recipe.model.codec, network=recipe.model.network))
    return path, [f"model.init='{path}'", "train.norms=folded"]


def test_folded_norms_want_statistics_of_every_norm(task, trained, tmp_path):
    path, overrides = trained
    assert read_recipe(task, overrides).train.norms == "folded"
    with pytest.raises(ValueError, match=rf"statistics for every norm, but {path} has none for 4 of \d+ \('heads\.center"):
        read_recipe(task, [*overrides, "model.network.head_width=24"])
    assert read_recipe(task, [*overrides, "model.network.head_width=24", "train.norms=live"])
    assert read_recipe(task, [*overrides, "model.network.context=2"]), "blocks that begin as nothing"
    assert read_recipe(task, ["model.init=gone.safetensors", "train.norms=folded"]), "a run that goes on without it"
    joints = '{"name": "two", "joints": ["head", "tail"]}'
    (tmp_path / "two.json").write_text(joints)
    assert read_recipe(task, [*overrides, f"model.skeleton='{tmp_path}/two.json'"]), "last layers have no norms"


def test_folded_norms_do_not_start_from_a_classifier(task, trained, tmp_path):
    network = build_network(read_recipe(task).model.network, 3)
    save_file(network.backbone.state_dict(), tmp_path / "classifier.safetensors")
    (tmp_path / "classifier.tflite").write_bytes(b"")
    for name in ("classifier.safetensors", "classifier.tflite"):
        init = f"model.init='{tmp_path / name}'"
        assert read_recipe(task, [init])
        with pytest.raises(ValueError, match=r"'folded' needs a trained model's .* is a classifier.*use train\.norms = 'live'"):
            read_recipe(task, [init, "train.norms=folded"])


def test_the_focal_loss_and_curves_on_the_joint_exclude_each_other(task):
    with pytest.raises(ValueError, match=r"loss\.form = 'focal' wants curves that are exactly 1"):
        read_recipe(task, ["loss.form=focal", "model.codec.subcell=true"])
    assert read_recipe(task, ["loss.form=focal"]).loss["form"] == "focal"


def test_a_network_that_names_neither_preset_nor_backbone_is_lite(task, tmp_path):
    path = tmp_path / "plain.toml"
    text = "\n".join(line for line in task.read_text().splitlines() if not line.startswith("network"))
    (tmp_path / "three.json").write_text((task.parent / "three.json").read_text())
    path.write_text(text)
    data = [f"data=[{{path='{task.parent}', split='train'}}]", "validation.path="]
    for overrides in ([], ["model.network.width=0.5"], ["model.network.system=movenet"]):
        assert read_recipe(path, [*overrides, *data]).model.network["preset"] == "lite"


def test_bones_are_needed_for_their_loss(task, tmp_path):
    path = edited(task, tmp_path, 'name = "tiny"', 'name = "other"')
    facts = json.loads((tmp_path / "three.json").read_text())
    (tmp_path / "three.json").write_text(json.dumps({**facts, "bones": []}))
    with pytest.raises(ValueError, match=r"losses\.bone needs bones, but skeleton 'three' has none"):
        read_recipe(path, ["losses.bone=1"])
    assert read_recipe(path).losses


FILES = {
    "text": ("just words", "not a TOML recipe"),
    "a key twice": ("[train]\nlr = 1.0\nlr = 2.0", "not a TOML recipe"),
    "empty": ("", "the recipe has no [[data]]"),
}


@pytest.mark.parametrize(("text", "sentence"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text, sentence):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_recipe(tmp_path / "a.toml")
    assert sentence in str(error.value)


def test_a_missing_recipe_a_folder_and_a_picture_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such recipe"):
        read_recipe(tmp_path / "a.toml")
    with pytest.raises(ValueError, match="this is a folder"):
        read_recipe(tmp_path)
    write_split(tmp_path, "train", 1)
    with pytest.raises(ValueError, match="not a TOML recipe"):
        read_recipe(tmp_path / "train" / "0.png")


# --- docs/training.md -----------------------------------------------------------------------------------------------

TABLES = {
    "[model]": ModelRules,
    "[[data]]": DataRules,
    "[[stage]]": Stage,
    "[augment]": Augmentation,
    "[train]": TrainRules,
    "[validation]": ValidationRules,
}


def test_the_docs_name_every_key_with_its_default():
    text = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8").split("## Every key")[1]
    starts = {title: text.index(f"\n`{title}`") for title in TABLES}
    for title, kind in TABLES.items():
        end = min((place for place in starts.values() if place > starts[title]), default=len(text))
        rows = re.findall(r"^\| (\w+) \| (.*?) \| .+ \|$", text[starts[title] : end], flags=re.MULTILINE)
        told = {name: default.strip("`") for name, default in rows if name != "key"}
        true = {}
        for f in fields(kind):
            has_default = f.default is not MISSING or f.default_factory is not MISSING
            value = f.default if f.default is not MISSING else f.default_factory() if has_default else None
            true[f.name] = json.dumps(value) if has_default else "required"
        assert told == true, title


@pytest.mark.parametrize("name", ["lite", "nano"])
def test_finetune_fits_the_bundled_models_by_the_overrides_of_its_header(name):
    from featherpose.systems.files import spec_of

    (path,) = [path for path in RECIPES if path.name == "finetune.toml"]
    (line,) = [line for line in path.read_text(encoding="utf-8").splitlines() if "nano instead:" in line]
    overrides = line.split("--set ")[1:] if name == "nano" else []
    recipe = read_recipe(path, [o.strip() for o in overrides])
    spec = spec_of(recipe.model.init)
    assert spec.name == name and spec.network == recipe.model.network and spec.input_size == recipe.input_size

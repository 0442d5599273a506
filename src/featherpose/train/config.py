"""Recipes: everything a training run depends on, in one TOML file; unknown keys and contradictions are refused."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featherpose.codecs import CODECS, build_codec
from featherpose.data.augment import Augmentation
from featherpose.evaluate import PROTOCOLS
from featherpose.runtime.bundled import bundled_weights
from featherpose.skeletons import SKELETONS, Skeleton, did_you_mean, load_skeleton
from featherpose.toml import TOMLDecodeError, loads
from featherpose.train.fill import convert, fill, is_number, require

if TYPE_CHECKING:
    from torch import nn

OPTIMIZERS = ("adamw", "muon")
LOSS_OPTIONS = ("form", "k", "swap", "joint_weights", "automatic")

LATER = {
    "train.draw": "loader",
    "train.compile": False,
    "model.teacher": "",
    "model.prune": False,
    "loss.automatic": False,
    "losses.distillation": 0,
    "losses.imitation": 0,
    "losses.mirror": 0,
    "losses.oks": 0,
    "losses.joint_choice": 0,
    "losses.person_choice": 0,
    "augment.drop_joints": 0.0,
    "augment.drop_size": [0.06, 0.2],
    "augment.paste_parts": 0.0,
    "augment.paste_choices": 1,
    "augment.paste_adversary": False,
    "augment.joint_area": [0.0, 0.0],
    "augment.joint_area_mode": 0.0,
    "augment.whole_photo": 0.0,
    "augment.stretch": 0.0,
    "augment.paste_people": 0.0,
    "augment.shine_through": 0.0,
    "augment.shine_share": [0.1, 0.4],
    "augment.camera": 0.0,
    "augment.second_look": 0.0,
    "augment.background": 0.0,
    "data.balance": 0.0,
    "data.taught": True,
    "train.optimizer": "adamw",
    "train.norms": "live",
}
"""Keys that are younger than runs which may still go on, and the value at which training is as it was without them:
there they stay out of the fingerprint."""


@dataclass(frozen=True)
class ModelRules:
    name: str = "model"
    """Name the trained model carries in its spec."""
    skeleton: str = "coco17"
    """A built-in skeleton, or a .toml or .json file."""
    network: dict = field(default_factory=lambda: {"system": "movenet", "preset": "lite"})
    """`system`, `preset`, and any argument of the system's `build`."""
    codec: dict = field(default_factory=lambda: {"name": "movenet"})
    """`name` and any field of the codec; its lengths in cells hold for the grid of every stage."""
    init: str = ""
    """A model of featherpose (.safetensors), the name of a bundled one, or an ImageNet classifier (.tflite, .safetensors)
    to start from."""
    prune: bool = False
    """Take from `init` the channels that matter most, where it is a wider network of the same kind (train/prune.py)."""
    teacher: str = ""
    """What the loss `imitation` learns from: a model of featherpose (.safetensors, or the name of a bundled one), or
    another project's top-down model with a heatmap per joint (.onnx, .xml)."""

    def __post_init__(self) -> None:
        require(self.name.strip() == self.name != "" and not set(self.name) & set("/\\"), "model.name", self.name,
                 "a name without slashes: files and folders are called so")  # fmt: skip
        preset = {} if {"preset", "backbone"} & self.network.keys() else {"preset": "lite"}
        object.__setattr__(self, "network", {"system": "movenet", **preset, **self.network})
        object.__setattr__(self, "codec", {"name": "movenet", **self.codec})


@dataclass(frozen=True)
class DataRules:
    path: str
    """A label file, or a folder with person_keypoints_SPLIT.json and SPLIT/."""
    split: str = ""
    repeat: float = 1.0
    """How often each photo is seen in an epoch; 0.5 draws half of them anew each time."""
    balance: float = 0.0
    """How far rare poses are seen more often: 0 each photo alike, 1 each group of poses alike (data/balance.py)."""
    taught: bool = True
    """Whether model.teacher is asked about these photos."""

    def __post_init__(self) -> None:
        require(self.path != "", "data.path", self.path, "a label file or a data folder")
        require(0 < self.repeat < math.inf, "data.repeat", self.repeat, "positive")
        require(0 <= self.balance <= 1, "data.balance", self.balance, "in [0, 1]")


@dataclass(frozen=True)
class Stage:
    """A part of the run at one input size."""

    input_size: tuple[int, int] = (192, 192)
    epochs: int = 10
    batch: int = 32
    augment: dict = field(default_factory=dict)
    """Overrides of [augment] for this stage."""

    def __post_init__(self) -> None:
        size = (self.input_size,) * 2 if isinstance(self.input_size, int) else tuple(self.input_size)
        good = len(size) == 2 and all(v >= 32 and v % 32 == 0 for v in size)
        require(good, "stage.input_size", list(size), "two multiples of 32")
        object.__setattr__(self, "input_size", tuple(int(v) for v in size))
        require(self.epochs >= 1, "stage.epochs", self.epochs, "at least 1")
        require(self.batch >= 1, "stage.batch", self.batch, "at least 1")
        values = self.batch * self.input_size[0] * self.input_size[1] // 32**2
        require(values > 1, "stage.batch", self.batch, "at least 2 at 32 px: batch norm has nothing to average else")


@dataclass(frozen=True)
class TrainRules:
    seed: int = 0
    optimizer: str = "adamw"
    """adamw, or muon: AdamW with orthogonal updates for dense layers (train/muon.py)."""
    lr: float = 2e-3
    """Peak learning rate of AdamW, for the network's new parts."""
    backbone_lr: float = 0.5
    """Factor on it for the backbone (an initialised one moves less)."""
    final_lr: float = 0.01
    """Share of the peak that the cosine ends at."""
    weight_decay: float = 0.05
    """Not applied to batch norms and biases."""
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 500
    """Steps of linear warm-up; never more than a quarter of the run."""
    ema: float = 0.999
    """Decay of the averaged weights that are validated and kept; 0 switches averaging off."""
    clip: float = 5.0
    """Largest norm of the gradient, applied after backward; 0 switches clipping off."""
    freeze: int = 0
    """Backbone features up to this stride (4, 8, 16 or 32) keep their initial weights; 0 trains everything."""
    norms: str = "live"
    """Batch norms use the statistics of each batch (live), or their running ones, folded into the convolutions: a fifth
    faster on a CPU, for runs that start from a trained model of the same network."""
    amp: str = "bf16"
    """Autocast type: bf16, or off."""
    workers: int = 1
    """Threads that prepare batches; 0 prepares them in the loop."""
    processes: int = 0
    """Processes that prepare batches in place of threads, where a GPU takes more than those give: as many as there are
    cores (Linux)."""
    draw: str = "loader"
    """Where target maps are made of labels: loader, or device, where processes cannot give a GPU enough."""
    compile: bool = False
    """Compiles network and losses by torch.compile: a minute at the start, then faster on a GPU. Needs a C compiler."""
    keep_photos: bool = True
    """Keep decoded photos in memory, up to 4 GB."""
    device: str = "auto"
    """cpu, cuda, cuda:0, mps, or auto: CUDA where there is one."""
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "train.lr", self.lr, "positive")
        for name in ("seed", "backbone_lr", "weight_decay", "warmup", "clip", "workers", "processes", "threads"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"train.{name}", value, "0 or more")
        require(self.seed < 2**63, "train.seed", self.seed, "below 2**63")
        require(0 <= self.final_lr <= 1, "train.final_lr", self.final_lr, "a share of the peak, 0 to 1")
        good = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        require(good, "train.betas", list(self.betas), "two numbers in [0, 1)")
        require(0 <= self.ema < 1, "train.ema", self.ema, "in [0, 1); 0 switches averaging off")
        require(self.freeze in (0, 4, 8, 16, 32), "train.freeze", self.freeze, "0 or a stride (4, 8, 16, 32)")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown train.optimizer '{self.optimizer}'{did_you_mean(self.optimizer, OPTIMIZERS)}")
        require(self.norms in ("live", "folded"), "train.norms", self.norms, "'live' or 'folded'")
        require(self.draw in ("loader", "device"), "train.draw", self.draw, "'loader' or 'device'")
        require(self.amp in ("bf16", "off"), "train.amp", self.amp, "'bf16' or 'off'")


@dataclass(frozen=True)
class ValidationRules:
    path: str = ""
    """As in [[data]]; empty: no validation."""
    split: str = "val"
    protocol: str = "crop"
    every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    limit: int = 0
    """Only the first so many photos, 0 for all."""
    pictures: int = 16
    """Predictions drawn per validation."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown validation.protocol '{self.protocol}'{did_you_mean(self.protocol, PROTOCOLS)}")
        require(self.every >= 1, "validation.every", self.every, "at least 1")
        for name in ("limit", "pictures"):
            require(getattr(self, name) >= 0, f"validation.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    model: ModelRules = field(default_factory=ModelRules)
    data: tuple[DataRules, ...] = ()
    stage: tuple[Stage, ...] = (Stage(),)
    augment: Augmentation = field(default_factory=Augmentation)
    losses: dict = field(default_factory=lambda: {"heatmap": 1.0, "center": 1.0, "regression": 0.1, "offset": 1.0})
    loss: dict = field(default_factory=dict)
    """Options of losses.Criterion: form, k, swap, joint_weights, automatic."""
    train: TrainRules = field(default_factory=TrainRules)
    validation: ValidationRules = field(default_factory=ValidationRules)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("the recipe has no [[data]]: name at least one data set with its path")
        if not self.stage:
            raise ValueError("the recipe has no [[stage]]: leave the key out for the default, or name at least one")
        if self.train.freeze and not self.model.init:
            raise ValueError("train.freeze keeps initial weights, but model.init is empty: it would freeze random ones")
        if self.model.prune and not self.model.init:
            raise ValueError("model.prune narrows a trained model, but model.init is empty: name the wider model there")
        if self.train.norms == "folded" and not self.model.init:
            raise ValueError("train.norms = 'folded' needs the statistics of a trained model, but model.init is empty")
        if self.train.draw == "device" and self.losses.get("distillation"):
            raise ValueError("train.draw = 'device' draws no teacher's answers: use 'loader' with losses.distillation")
        if self.train.compile and self.model.teacher and not all(data.taught for data in self.data):
            raise ValueError(
                "train.compile wants steps that are alike, with data.taught = false each asks the teacher about another number "
                "of photos: leave one of them out"
            )
        skeleton = load_skeleton(self.model.skeleton)
        self._check_losses(skeleton)
        codec = CODECS.get(self.model.codec.get("name"))
        known = {f.name: f for f in fields(codec)} if codec else {}
        for key, value in self.model.codec.items():
            if key in known:
                convert(value, known[key], f"model.codec.{key}")
        for stage in self.stage:
            build_codec(self.model.codec, stage.input_size, len(skeleton))
            self.augmentation(stage)

    def _check_losses(self, skeleton: Skeleton) -> None:
        for key in self.loss:
            if key not in LOSS_OPTIONS:
                raise ValueError(f"unknown key 'loss.{key}'{did_you_mean(key, LOSS_OPTIONS)}")
        factors = self.loss.get("joint_weights", {})
        require(isinstance(factors, dict), "loss.joint_weights", factors, "a table: joint name = factor")
        for name, values in (("losses", self.losses), ("loss.joint_weights", factors)):
            for key, value in values.items():
                require(is_number(value) and 0 <= value < math.inf, f"{name}.{key}", value, "a number, 0 or more")
        for joint in factors:
            skeleton.index(joint)
        form = self.loss.get("form", "mse")
        require(isinstance(form, str), "loss.form", form, "a text")
        automatic = self.loss.get("automatic", False)
        require(isinstance(automatic, bool), "loss.automatic", automatic, "true or false")
        for key in ("k", "swap"):
            value = self.loss.get(key, 0)
            require(is_number(value) and 0 <= value < math.inf, f"loss.{key}", value, "a number, 0 or more")
        if self.losses.get("imitation") and not self.model.teacher:
            raise ValueError("losses.imitation needs a teacher: name a model of featherpose as model.teacher")
        if self.losses.get("imitation") and not any(data.taught for data in self.data):
            raise ValueError("losses.imitation has no photos to learn from: every data.taught is false")
        if self.model.teacher and not self.losses.get("imitation"):
            raise ValueError("model.teacher would teach nothing: give losses.imitation a weight, 1 say, or leave it out")
        if form == "focal" and self.model.codec.get("subcell"):
            raise ValueError(
                "loss.form = 'focal' wants curves that are exactly 1 at the joint's cell, but with model.codec.subcell = true "
                "none is: everything would be trained to 0; leave one of the two out"
            )
        if self.losses.get("oks") and self.model.codec.get("refine") == "dark":
            raise ValueError(
                "losses.oks trains the offsets that decoding reads, but model.codec.refine = 'dark' reads none; "
                "leave one of the two out"
            )
        if self.model.codec.get("refine") == "dark" and not self.model.codec.get("subcell"):
            raise ValueError(
                "model.codec.refine = 'dark' reads joints off the heatmap, but with model.codec.subcell = false curves stand "
                "on their cells: joints would be up to half a cell off; set subcell = true, or leave refine out"
            )
        if self.losses.get("bone") and not skeleton.bones:
            raise ValueError(f"losses.bone needs bones, but skeleton '{skeleton.name}' has none; leave the loss out")

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) the finished model takes: the last stage's."""
        return self.stage[-1].input_size

    def augmentation(self, stage: Stage) -> Augmentation:
        """The rules of a stage: [augment] with the stage's overrides."""
        return fill(Augmentation, {**asdict(self.augment), **stage.augment}, "stage.augment")

    def to_dict(self) -> dict:
        """Plain values, as in the TOML file with every default written out."""
        return json.loads(json.dumps(asdict(self)))

    def to_public_dict(self) -> dict:
        """The same without this machine's folders, for what is handed on with a model."""
        facts = self.to_dict()
        model = facts["model"]
        places = [(model, "init"), (model, "teacher"), (model, "skeleton"), (facts["validation"], "path")]
        for table, key in [*places, *((entry, "path") for entry in facts["data"])]:
            table[key] = Path(table[key]).name
        return facts

    def fingerprint(self) -> str:
        """Short hash of everything that changes the result; where it runs (threads, workers, device) does not count.

        Of a skeleton file counts what it says, of a bundled model which it is: not where they lie.
        """
        facts = self.to_dict()
        for key in ("init", "teacher"):
            path = Path(facts["model"][key])
            if facts["model"][key] and path == bundled_weights(path.stem):
                facts["model"][key] = path.stem
        if self.model.skeleton not in SKELETONS:
            facts["model"]["skeleton"] = load_skeleton(self.model.skeleton).to_dict()
        for key in ("workers", "processes", "keep_photos", "device", "threads"):
            facts["train"].pop(key)
        facts.pop("validation")
        for name, value in LATER.items():
            table, key = name.split(".")
            for entry in facts[table] if isinstance(facts[table], list) else [facts[table]]:
                if entry.get(key) == value:
                    entry.pop(key, None)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(path: str | Path, overrides: list[str] = ()) -> Recipe:
    """A recipe from a TOML file and overrides like `train.lr=0.001` or `stage.0.epochs=3` (values are TOML).

    Relative paths in it count from the recipe's folder, those in overrides from the working directory.
    Raises ValueError that names the file and the key.
    """
    path = Path(path)
    try:
        facts = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: there is no such recipe") from error
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML recipe ({error})") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path}: this is a folder; name the recipe file (.toml) in it") from error
    _resolve_paths(facts, path.parent)
    for override in overrides:
        _apply(facts, override)
    _resolve_paths(facts, Path())
    try:
        recipe = fill(Recipe, facts)
        _check_network(recipe)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return recipe


def _check_network(recipe: Recipe) -> None:
    """ValueError unless network and losses can be built, and the maps have the shapes of the codec's targets."""
    import torch

    from featherpose.losses import Criterion
    from featherpose.systems import build_network

    skeleton = load_skeleton(recipe.model.skeleton)
    facts, size = recipe.model.network, recipe.input_size
    codec = build_codec(recipe.model.codec, size, len(skeleton))
    Criterion(
        recipe.losses, skeleton, vote_radius=codec.vote_radius, softening=codec.softening,
        center_softening=codec.center_softening, **recipe.loss
    )  # fmt: skip
    targets = codec.encode(
        np.zeros((0, len(skeleton), 2), np.float32), np.zeros((0, len(skeleton)), np.int8)
    )
    with torch.device("meta"):  # shapes alone
        try:
            network = build_network(facts, len(skeleton))
            maps = network.eval()(torch.empty(1, 3, size[1], size[0]))
        except (TypeError, AttributeError, LookupError, RuntimeError, ArithmeticError) as error:
            raise ValueError(f"model.network = {facts} cannot be built ({type(error).__name__}: {error})") from error
    for name, map_ in maps.items():
        if name in targets and targets[name].shape != tuple(map_.shape[1:]):
            raise ValueError(
                f"the network's map '{name}' has the shape {tuple(map_.shape[1:])}, the codec's {targets[name].shape}; "
                "check model.codec.stride"
            )
    if recipe.train.norms == "folded" and not recipe.model.prune:
        _check_statistics(network, Path(recipe.model.init))


def _check_statistics(network: nn.Module, init: Path) -> None:
    """ValueError unless the model to start from has statistics for all norms that would keep them for ever.

    Context blocks may be new: they begin as nothing, by layers that keep the variance. A file that is not there is told of
    when the run starts.
    """
    import torch

    from featherpose.models.layers import ConvNorm
    from featherpose.models.necks import Context
    from featherpose.systems import build_network
    from featherpose.systems.files import spec_of

    if not init.is_file():
        return
    spec = spec_of(init) if init.suffix.lower() == ".safetensors" else None
    wanted, way_out = "train.norms = 'folded' needs a trained model's statistics for every norm", "use train.norms = 'live'"
    if spec is None:
        raise ValueError(f"{wanted}, but {init} is a classifier, without neck and heads; {way_out}")
    with torch.device("meta"):
        state = build_network(spec.network, len(spec.skeleton)).state_dict()
    given = {name: value.shape for name, value in state.items()}
    new = {unit for block in network.modules() if isinstance(block, Context) for unit in block.modules()}
    units = [(name, unit) for name, unit in network.named_modules() if isinstance(unit, ConvNorm) and unit not in new]
    missing = [name for name, unit in units if given.get(f"{name}.conv.weight") != unit.conv.weight.shape]
    if missing:
        some = f"{len(missing)} of {len(units)} ('{missing[0]}' first)"
        raise ValueError(f"{wanted}, but {init} has none for {some}; {way_out}")


def _apply(facts: dict, override: str) -> None:
    """Sets one value by its dotted name."""
    name, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override '{override}' is not NAME=VALUE, as in train.lr=0.001")
    try:
        value = loads(f"value = {text}")["value"]
    except TOMLDecodeError:
        value = text
    *parents, last = name.strip().split(".")
    place: Any = facts
    for part in parents:
        if isinstance(place, list):
            if not part.isdigit() or int(part) >= len(place):
                raise ValueError(f"override '{override}': the recipe has no entry '{part}' there, it has {len(place)}")
            place = place[int(part)]
        else:
            place = place.setdefault(part, [] if place is facts and part in ("data", "stage") else {})
        if not isinstance(place, (dict, list)):
            raise ValueError(f"override '{override}': '{part}' is a value, not a table")
    if isinstance(place, list):
        raise ValueError(f"override '{override}': name the entry by number, as in stage.0.epochs=3")
    place[last] = value


def _resolve_paths(facts: dict, folder: Path) -> None:
    """Makes paths absolute that count from a folder; names of bundled models become their files."""
    places = [(facts.get("model"), "init"), (facts.get("model"), "teacher"), (facts.get("validation"), "path")]
    places += [(entry, "path") for entry in (facts.get("data") if isinstance(facts.get("data"), list) else [])]
    model = facts.get("model")
    if isinstance(model, dict) and str(model.get("skeleton", "")).endswith((".toml", ".json")):
        places.append((model, "skeleton"))
    for key in ("init", "teacher"):
        if isinstance(model, dict) and isinstance(model.get(key), str):
            bundled = bundled_weights(model[key])
            model[key] = model[key] if bundled is None else str(bundled)
    for table, key in places:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
            table[key] = str((folder / Path(table[key]).expanduser()).resolve())

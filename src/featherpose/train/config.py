"""Recipes: everything a training run depends on, in one TOML file; unknown keys and contradictions are refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from featherpose.codecs import build_codec
from featherpose.data.augment import Augmentation
from featherpose.skeletons import did_you_mean, load_skeleton
from featherpose.toml import TOMLDecodeError, loads


@dataclass(frozen=True)
class ModelRules:
    name: str = "model"
    """Name the trained model carries in its spec."""
    skeleton: str = "coco17"
    """A built-in skeleton, or a .toml or .json file."""
    network: dict = field(default_factory=lambda: {"system": "movenet", "preset": "lite"})
    """`system`, `preset`, and any argument of the system's `build`."""
    codec: dict = field(default_factory=lambda: {"name": "movenet"})
    """`name` and any field of the codec; the curve's width is given for the last stage's grid."""
    init: str = ""
    """A model of featherpose (.safetensors) or an ImageNet classifier (.tflite, .safetensors) to start from."""


@dataclass(frozen=True)
class DataRules:
    path: str
    """A label file, or a folder with person_keypoints_SPLIT.json and SPLIT/."""
    split: str = ""
    repeat: float = 1.0
    """How often each photo is seen in an epoch; 0.5 draws half of them anew each time."""


@dataclass(frozen=True)
class Stage:
    """A part of the run at one input size."""

    input_size: tuple[int, int] = (192, 192)
    epochs: int = 10
    batch: int = 32
    augment: dict = field(default_factory=dict)
    """Overrides of [augment] for this stage."""

    def __post_init__(self) -> None:
        size = self.input_size
        size = (size, size) if isinstance(size, int) else tuple(int(v) for v in size)
        if len(size) != 2 or min(size) < 32 or any(v % 32 for v in size):
            raise ValueError(f"stage.input_size must be two multiples of 32, got {list(size)}")
        object.__setattr__(self, "input_size", size)
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(f"stage.epochs and stage.batch must be at least 1, got {self.epochs} and {self.batch}")


@dataclass(frozen=True)
class TrainRules:
    seed: int = 0
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
    """Steps of linear warm-up."""
    ema: float = 0.999
    """Decay of the averaged weights that are validated and kept; 0 switches averaging off."""
    clip: float = 5.0
    """Largest norm of the gradient, applied after backward; 0 switches clipping off."""
    freeze: int = 0
    """Backbone features up to this stride (4, 8, 16 or 32) keep their initial weights; 0 trains everything."""
    amp: str = "bf16"
    """Autocast type: bf16, or off."""
    workers: int = 1
    """Threads that prepare batches; 0 prepares them in the loop."""
    keep_photos: bool = True
    """Keep decoded photos in memory."""
    device: str = "auto"
    threads: int = 0
    """CPU threads of torch; 0 leaves torch's own choice."""


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


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    model: ModelRules = field(default_factory=ModelRules)
    data: tuple[DataRules, ...] = ()
    stage: tuple[Stage, ...] = (Stage(),)
    augment: Augmentation = field(default_factory=Augmentation)
    losses: dict = field(default_factory=lambda: {"heatmap": 1.0, "center": 1.0, "regression": 0.1, "offset": 1.0})
    loss: dict = field(default_factory=dict)
    """Options of losses.Criterion: k, joint_weights."""
    train: TrainRules = field(default_factory=TrainRules)
    validation: ValidationRules = field(default_factory=ValidationRules)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("the recipe has no [[data]]: name at least one data set with its path")
        for key in self.loss:
            if key not in ("k", "joint_weights"):
                raise ValueError(f"unknown key 'loss.{key}'{did_you_mean(key, ('k', 'joint_weights'))}")
        if self.train.amp not in ("bf16", "off"):
            raise ValueError(f"train.amp must be 'bf16' or 'off', got '{self.train.amp}'")
        if self.train.freeze not in (0, 4, 8, 16, 32):
            raise ValueError(f"train.freeze must be 0 or a stride (4, 8, 16, 32), got {self.train.freeze}")
        if self.train.freeze and not self.model.init:
            raise ValueError("train.freeze keeps initial weights, but model.init is empty: random weights would be frozen")
        if not 0 <= self.train.ema < 1:
            raise ValueError(f"train.ema must lie in [0, 1), got {self.train.ema}")
        if self.train.lr <= 0:
            raise ValueError(f"train.lr must be positive, got {self.train.lr}")
        skeleton = load_skeleton(self.model.skeleton)
        for stage in self.stage:
            build_codec(self.model.codec, stage.input_size, len(skeleton))
            self.augmentation(stage)

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) the finished model takes: the last stage's."""
        return self.stage[-1].input_size

    def augmentation(self, stage: Stage) -> Augmentation:
        """The rules of a stage: [augment] with the stage's overrides."""
        return _fill(Augmentation, {**asdict(self.augment), **stage.augment}, "stage.augment")

    def to_dict(self) -> dict:
        """Plain values, as in the TOML file with every default written out."""
        return json.loads(json.dumps(asdict(self)))

    def fingerprint(self) -> str:
        """Short hash of everything that changes the result; where it runs (threads, workers, device) does not count."""
        facts = self.to_dict()
        for key in ("workers", "keep_photos", "device", "threads"):
            facts["train"].pop(key)
        facts.pop("validation")
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(path: str | Path, overrides: list[str] = ()) -> Recipe:
    """A recipe from a TOML file and overrides like `train.lr=0.001` or `stage.0.epochs=3` (values are TOML).

    Relative paths in it are relative to the recipe's folder. Raises ValueError that names the file and the key.
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
    for override in overrides:
        _apply(facts, override)
    _resolve_paths(facts, path.parent)
    try:
        return _fill(Recipe, facts, "")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


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
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise ValueError(f"override '{override}': '{part}' is a value, not a table")
    if isinstance(place, list):
        raise ValueError(f"override '{override}': name the entry by number, as in stage.0.epochs=3")
    place[last] = value


def _resolve_paths(facts: dict, folder: Path) -> None:
    """Makes relative paths of the recipe relative to its folder."""
    places = [(facts.get("model"), "init"), (facts.get("validation"), "path")]
    places += [(entry, "path") for entry in facts.get("data", []) if isinstance(facts.get("data"), list)]
    model = facts.get("model")
    if isinstance(model, dict) and str(model.get("skeleton", "")).endswith((".toml", ".json")):
        places.append((model, "skeleton"))
    for table, key in places:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
            table[key] = str((folder / table[key]).resolve())


def _fill(kind: type, facts: Any, where: str) -> Any:
    """A dataclass from a dict, checking names and types on the way down."""
    label = where or "the recipe"
    if not isinstance(facts, dict):
        raise ValueError(f"'{label}' must be a table, got {facts!r}")
    known = {f.name: f for f in fields(kind)}
    values = {}
    for key, value in facts.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise ValueError(f"unknown key '{name}'{did_you_mean(key, known)}")
        values[key] = _convert(value, known[key], name)
    for key, f in known.items():
        if key not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"'{label}' lacks the key '{key}'")
    return kind(**values)


ENTRIES = {"data": DataRules, "stage": Stage}
TABLES = {"model": ModelRules, "augment": Augmentation, "train": TrainRules, "validation": ValidationRules}


def _convert(value: Any, f: Any, name: str) -> Any:
    if name in ENTRIES:
        if not isinstance(value, list):
            raise ValueError(f"'{name}' must be written as [[{name}]]")
        return tuple(_fill(ENTRIES[name], entry, f"{name}.{i}") for i, entry in enumerate(value))
    if name in TABLES:
        return value if is_dataclass(value) else _fill(TABLES[name], value, name)
    default = f.default if f.default is not MISSING else f.default_factory() if f.default_factory is not MISSING else ""
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is tuple:
        if isinstance(value, int):
            value = (value, value)
        if isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
            return tuple(value)
    if wanted is not tuple and type(value) is wanted:
        return value
    raise ValueError(f"'{name}' must be of type {wanted.__name__}, got {value!r}")

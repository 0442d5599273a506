"""The models that ship inside the package: `weights/index.json` names them, their files lie beside it.

{"default": "name", "models": {"name": {"file": "name.onnx", "sha256": "...", "summary": "one line"}}}

Beside NAME.onnx lie its card NAME.md and NAME.safetensors, the weights to train on from. A model that computes in 8 bits
has a twin NAME-float with the entry "of": "NAME", whose card and weights it shares: browsers are faster in float.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from featherpose.skeletons import did_you_mean

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class BundledModel:
    """One entry of the index."""

    name: str
    path: Path
    sha256: str
    """Of the file, lower-case hexadecimal."""
    summary: str
    """One line for a list."""
    default: bool
    """Whether a Predictor without a model takes this one."""
    of: str
    """Whose card and weights are this model's too: its own name, or that of the 8-bit model whose float twin it is."""

    @property
    def card(self) -> Path:
        return self.path.with_name(f"{self.of}.md")

    @property
    def weights(self) -> Path:
        """What to train on from."""
        return self.path.with_name(f"{self.of}.safetensors")


def bundled_models(folder: Path = WEIGHTS) -> dict[str, BundledModel]:
    """The shipped models by name, the default first; empty when this build ships none."""
    index = folder / "index.json"
    if not index.is_file():
        return {}
    try:
        facts = json.loads(index.read_text(encoding="utf-8"))
        default = facts["default"]
        models = {
            name: BundledModel(
                name, folder / entry["file"], entry["sha256"], entry["summary"], name == default, entry.get("of", name)
            )
            for name, entry in facts["models"].items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{index}: the list of bundled models is damaged ({error!r}); install featherpose again"
        ) from error
    return dict(sorted(models.items(), key=lambda item: not item[1].default))


def bundled_weights(name: str, folder: Path = WEIGHTS) -> Path | None:
    """The file to train a bundled model on from; None when no bundled model of that name has one."""
    model = bundled_models(folder).get(name)
    return model.weights if model is not None and model.weights.is_file() else None


def in_float(models: dict[str, BundledModel]) -> dict[str, BundledModel]:
    """The models without those that have a twin in float; each twin stands where its model stood."""
    twins = {model.of: model for model in models.values() if model.of != model.name}
    chosen = [twins.get(model.name, model) for model in models.values() if model.of == model.name]
    return {model.name: model for model in chosen}


def bundled_path(name: str | None = None, folder: Path = WEIGHTS) -> Path:
    """The file of a bundled model, its sha256 checked; None takes the default.

    Raises ValueError for an unknown name and for a file that is missing or damaged.
    """
    models = bundled_models(folder)
    if name is None:
        name = next((model.name for model in models.values() if model.default), None)
        if name is None:
            raise ValueError(
                "this build of featherpose ships no model; name a model file (featherpose predict --model FILE)"
            )
    if name not in models:
        hint = did_you_mean(name, models) if models else " (this build of featherpose ships none)"
        raise ValueError(f"unknown model '{name}': neither a file nor a bundled model{hint}")
    model = models[name]
    if not model.path.is_file():
        raise ValueError(f"{model.path}: the bundled model '{name}' is missing; install featherpose again")
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    if digest != model.sha256:
        raise ValueError(
            f"{model.path}: the bundled model is damaged (sha256 {digest[:12]}..., expected {model.sha256[:12]}...); "
            "install featherpose again"
        )
    return model.path

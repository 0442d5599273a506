"""Who runs a model file. A backend has two things:

- `spec`: the file's ModelSpec;
- `run(images) -> dict[str, np.ndarray]`, images (B, H, W, 3) uint8 RGB at `spec.input_size`.

With `spec.outputs == "raw"` it returns the codec's maps by name, float32: center (B, 1, H, W), heatmap (B, K, H, W),
regression and offset (B, K, 2, H, W), x before y. With "decoded": joints (B, K, 3) = x, y in input pixels and score,
and pose_score (B,).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from featherpose.runtime.bundled import bundled_path
from featherpose.spec import ModelSpec

BACKENDS = {
    ".onnx": "featherpose.runtime.backends.onnx:OnnxBackend",
    ".tflite": "featherpose.runtime.backends.tflite:TfliteBackend",
    ".safetensors": "featherpose.runtime.backends.torch:TorchBackend",
}
"""File suffix -> "module:Class"; the class is made as Class(path, threads=1)."""


class Backend(Protocol):
    """What every backend offers; nothing inherits from it."""

    spec: ModelSpec

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]: ...


def load_model(model: str | Path | None = None, threads: int = 1) -> Backend:
    """A model ready to run, from a file or by the name of a bundled model; None takes the bundled default.

    Raises FileNotFoundError for a missing file, ValueError for a file that is no pose model, ImportError when the
    backend's library is not installed.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if model is None or (not Path(model).suffix and not Path(model).exists()):
        path = bundled_path(None if model is None else str(model))
    else:
        path = Path(model)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a model file inside it ({', '.join(BACKENDS)})")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    if path.suffix.lower() not in BACKENDS:
        raise ValueError(f"{path}: '{path.suffix}' is not a known kind of model file; known: {', '.join(BACKENDS)}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the model file is empty (0 bytes)")
    module, name = BACKENDS[path.suffix.lower()].split(":")
    return getattr(import_module(module), name)(path, threads=threads)

"""Runs TFLite files of the official MoveNet kind by LiteRT, as the peer that ours are measured against.

Such a file decodes inside: one picture in, (1, 1, K, 3) out, y, x in shares of the input, and a score.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from featherpose.skeletons import COCO17
from featherpose.spec import ModelSpec

INPUT_DTYPES = (np.uint8, np.int32, np.float32)
"""What the published files take, always 0..255."""


class TfliteBackend:
    """A MoveNet SinglePose file with its decoding; see featherpose.runtime.backends for `run`'s contract.

    `spec` is made from the shapes of the file. The graph does not give its centre score away, so `pose_score` is the
    mean of the joint scores, as in Google's demos (tfjs-models/pose-detection).
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        """threads: for one picture. ImportError without LiteRT, ValueError for a file that is no MoveNet SinglePose."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                f"{path}: running a .tflite model needs LiteRT (pip install 'featherpose[tflite]')", name=error.name
            ) from error
        content = Path(path).read_bytes()
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: not a readable TFLite file, or a truncated one ({reason})") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check(path, inputs, outputs)
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._dtype = inputs[0]["dtype"]
        _, height, width, _ = (int(v) for v in inputs[0]["shape"])
        self.spec = ModelSpec(
            name=Path(path).stem,
            skeleton=COCO17,
            input_size=(width, height),
            codec={"name": "movenet"},
            outputs="decoded",
            provenance={"author": "Google", "licence": "Apache-2.0", "sha256": hashlib.sha256(content).hexdigest()},
        )

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """joints (B, K, 3) = x, y in input pixels and score, and pose_score (B,), for (B, H, W, 3) uint8 RGB images."""
        width, height = self.spec.input_size
        joints = np.empty((len(images), len(self.spec.skeleton), 3), np.float32)
        for i, image in enumerate(images):  # the graph holds tables for one picture, so there is no batch
            self._interpreter.set_tensor(self._input, image[None].astype(self._dtype))
            self._interpreter.invoke()
            found = self._interpreter.get_tensor(self._output)[0, 0]  # (K, 3), y, x, score
            joints[i] = found[:, [1, 0, 2]]
        joints[..., :2] *= (width, height)
        return {"joints": joints, "pose_score": joints[..., 2].mean(axis=1)}


def _check(path: str | Path, inputs: list[dict], outputs: list[dict]) -> None:
    """ValueError unless a file takes one picture and gives the joints of one person."""
    taken = [tuple(int(v) for v in entry["shape"]) for entry in inputs]
    given = [tuple(int(v) for v in entry["shape"]) for entry in outputs]
    if len(given) == 1 and given[0][1:] == (6, 56):
        raise ValueError(f"{path}: a MoveNet MultiPose file; featherpose runs the SinglePose ones (Lightning, Thunder)")
    fits = (
        len(taken) == len(given) == 1
        and len(taken[0]) == 4
        and (taken[0][0], taken[0][3]) == (1, 3)
        and inputs[0]["dtype"] in INPUT_DTYPES
        and outputs[0]["dtype"] == np.float32
        and given[0] == (1, 1, len(COCO17), 3)
    )
    if not fits:
        raise ValueError(
            f"{path}: not a MoveNet SinglePose file: it should take one picture (1, H, W, 3) and give (1, 1, 17, 3), "
            f"it takes {', '.join(map(str, taken))} and gives {', '.join(map(str, given))}"
        )

"""Our own models, and MoveNet files, as teachers: whatever runtime.backends runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featherpose.codecs import build_codec
from featherpose.geometry import invert, transform, warp
from featherpose.runtime.backends import load_model
from featherpose.skeletons import Skeleton


class PoseModelTeacher:
    """A pose model that finds the person nearest the middle of the crop it is shown."""

    kind = "pose"

    def __init__(
        self, path: str | Path, *, skeleton: Skeleton | None = None, threads: int = 1, flip: bool = True
    ) -> None:
        """skeleton must be None: such a model knows its joints. flip: the mean of two answers where they agree."""
        self._backend = load_model(path, threads)
        spec = self._backend.spec
        if skeleton is not None and skeleton != spec.skeleton:
            raise ValueError(f"{path}: this model names its joints itself ('{spec.skeleton.name}'); name no others")
        self.name, self.skeleton, self.input_size, self.flip = spec.name, spec.skeleton, spec.input_size, flip
        raw = spec.outputs == "raw"
        self._codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton)) if raw else None

    def look(self, images: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See featherpose.data.teacher.Teacher."""
        crops = np.stack([warp(i, m, self.input_size) for i, m in zip(images, to_input, strict=True)])
        xy, score = self._joints(crops)
        if self.flip:
            order, width = self.skeleton.flip_index(), self.input_size[0]
            other_xy, other_score = self._joints(np.ascontiguousarray(crops[:, :, ::-1]))
            other_xy = other_xy[:, order] * (-1, 1) + (width, 0)
            xy, score = mean_of_answers(xy, score, other_xy, other_score[:, order], width)
        return np.stack([transform(invert(m), points) for points, m in zip(xy, to_input, strict=True)]), score

    def _joints(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._backend.run(crops)
        if self._codec is None:
            return outputs["joints"][..., :2].astype(np.float64), np.clip(outputs["joints"][..., 2], 0, 1)
        xy, score, _ = self._codec.decode_batch(outputs)
        return xy.astype(np.float64), np.clip(score, 0, 1)


AGREE = 0.05
"""In widths of the input: answers farther apart are two opinions, not one with noise. A guess."""


def mean_of_answers(
    xy: np.ndarray, score: np.ndarray, other_xy: np.ndarray, other_score: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (B, K, 2) and scores (B, K) of two answers: their means where they agree, else the surer one, at half."""
    near = np.linalg.norm(xy - other_xy, axis=2) <= AGREE * width
    surer = np.where((score >= other_score)[..., None], xy, other_xy)
    mean_score = (score + other_score) / 2
    return np.where(near[..., None], (xy + other_xy) / 2, surer), np.where(near, mean_score, mean_score / 2)

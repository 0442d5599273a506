"""A model for tests of tracking that always finds the people it is told of, exactly, wherever it looks.

Its frames are ramps: red grows with x, green with y, blue is full. From what is left of the ramps in a crop it reads
where the crop was cut, and gives the maps that the codec encodes for the people who are there at that moment.
"""

from __future__ import annotations

import numpy as np

from featherpose.codecs.movenet import MAPS, MoveNetCodec
from featherpose.geometry import transform
from featherpose.skeletons import COCO17
from featherpose.spec import ModelSpec

SIZE_WH = (480, 360)
INPUT = 192

STANDING = {
    "nose": (0, -60), "left_eye": (3, -63), "right_eye": (-3, -63), "left_ear": (7, -61), "right_ear": (-7, -61),
    "left_shoulder": (15, -42), "right_shoulder": (-15, -42), "left_elbow": (22, -18), "right_elbow": (-22, -18),
    "left_wrist": (24, 4), "right_wrist": (-24, 4), "left_hip": (10, 0), "right_hip": (-10, 0),
    "left_knee": (11, 34), "right_knee": (-11, 34), "left_ankle": (12, 68), "right_ankle": (-12, 68),
}  # fmt: skip
"""Joints around the middle of the hips, pixels."""


def person(x: float, y: float = 200.0, scale: float = 1.0) -> np.ndarray:
    """(17, 2) joints of somebody standing with the middle of the hips at (x, y)."""
    return np.array([STANDING[name] for name in COCO17.joints], np.float64) * scale + (x, y)


def frame(size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """(H, W, 3) uint8: the ramps."""
    width, height = size_wh
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return np.stack([np.round(255 * x), np.round(255 * y), np.full_like(x, 255)], axis=2).astype(np.uint8)


class Told:
    """The backend. `people`: joints (K, 2) in frame pixels of those in view now; `strength`: their scores."""

    def __init__(self, size_wh: tuple[int, int] = SIZE_WH, outputs: str = "raw") -> None:
        self.spec = ModelSpec("told", COCO17, (INPUT, INPUT), {"name": "movenet"}, outputs=outputs)
        self.codec = MoveNetCodec((INPUT, INPUT), subcell=False)
        self.size_wh = size_wh
        self.people: list[np.ndarray] = []
        self.strength: list[float] = []
        self.passes = 0

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.passes += len(images)
        each = [self._maps(image) for image in images]
        if self.spec.outputs == "raw":
            return {name: np.stack([maps[name] for maps in each]) for name in MAPS}
        xy, score, pose_score = self.codec.decode_batch({name: np.stack([m[name] for m in each]) for name in MAPS})
        return {"joints": np.concatenate([xy, score[..., None]], axis=2), "pose_score": pose_score}

    def _maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        to_input = self._cut(image.astype(np.float64))
        strength = self.strength or [0.9] * len(self.people)
        empty = self.codec.encode(np.zeros((0, 17, 2)), np.zeros((0, 17), np.int8))
        best = {name: empty[name].copy() for name in MAPS}
        for joints, strong in zip(self.people, strength, strict=True):
            xy = transform(to_input, joints)
            inside = ((xy >= 0) & (xy < INPUT)).all(axis=1)
            if not inside.any():
                continue
            maps = self.codec.encode(np.where(inside[:, None], xy, np.nan)[None], 2 * inside[None].astype(np.int8))
            first = maps["regression_weight"][:1] > 0
            second = maps["offset_weight"] > 0
            nearest = (maps["center"] > best["center"])[:, None] & first[:, None]
            best["regression"] = np.where(nearest, maps["regression"], best["regression"])
            nearer = second & (maps["heatmap"] * strong >= best["heatmap"])
            best["offset"] = np.where(nearer[:, None], maps["offset"], best["offset"])
            best["center"] = np.maximum(best["center"], maps["center"] * strong)
            best["heatmap"] = np.maximum(best["heatmap"], maps["heatmap"] * strong)
        return best

    def _cut(self, image: np.ndarray) -> np.ndarray:
        """The map from the frame to the input, from the ramps that are left: scale and shift by least squares."""
        rows, columns = np.nonzero(image[..., 2] > 254)
        middle = np.stack([columns, rows], axis=1) + 0.5
        place = image[rows, columns, :2] / 255 * self.size_wh
        lines = [np.polyfit(place[:, axis], middle[:, axis], 1) for axis in (0, 1)]
        return np.array([[lines[0][0], 0.0, lines[0][1]], [0.0, lines[1][0], lines[1][1]]])

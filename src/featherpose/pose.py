"""A pose: the joints of one person in one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from featherpose.skeletons import Skeleton


@dataclass(frozen=True)
class Pose:
    """Joints of one person in pixels of the picture it was found in (docs/conventions.md).

    Raises ValueError when the shapes do not fit the skeleton or a value is not finite.
    """

    xy: np.ndarray
    """(K, 2) float32, pixels, origin at the top-left corner; joints may lie outside the picture."""
    score: np.ndarray
    """(K,) float32 in [0, 1]: how sure the model is that this point looks like the joint."""
    skeleton: Skeleton
    pose_score: float = 1.0
    """[0, 1]: how sure the model is that there is a person at all."""
    box_xyxy: np.ndarray | None = None
    """(4,) float32: the region of the picture the network looked at, or None."""

    def __post_init__(self) -> None:
        xy = np.asarray(self.xy, dtype=np.float32)
        score = np.asarray(self.score, dtype=np.float32)
        joints = len(self.skeleton)
        if xy.shape != (joints, 2) or score.shape != (joints,):
            raise ValueError(
                f"a pose of skeleton '{self.skeleton.name}' needs xy ({joints}, 2) and score ({joints},), "
                f"got {xy.shape} and {score.shape}"
            )
        box = None if self.box_xyxy is None else np.asarray(self.box_xyxy, dtype=np.float32).reshape(4)
        numbers = [self.pose_score, *xy.ravel().tolist(), *score.tolist(), *([] if box is None else box.tolist())]
        if not all(map(math.isfinite, numbers)):  # plain numbers: NumPy takes longer for so few
            raise ValueError("a pose has a coordinate or score that is not a number")
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "pose_score", float(self.pose_score))
        object.__setattr__(self, "box_xyxy", box)

    def to_dict(self) -> dict:
        """Plain numbers by joint name, rounded to .01 px and .001 score, for JSON."""
        return {
            "pose_score": round(self.pose_score, 3),
            "box_xyxy": None if self.box_xyxy is None else [round(float(v), 2) for v in self.box_xyxy],
            "joints": {
                name: {"x": round(float(x), 2), "y": round(float(y), 2), "score": round(float(s), 3)}
                for name, (x, y), s in zip(self.skeleton.joints, self.xy, self.score, strict=True)
            },
        }

"""Which part of the photo to look at next: the whole frame first, then a square around the person that was found.

The rule of the official MoveNet demos (tensorflow.org/hub/tutorials/movenet), which their published figures on whole
pictures depend on. All boxes are squares (x1, y1, x2, y2) in photo pixels and may reach outside the photo.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from featherpose.pose import Pose
from featherpose.skeletons import Skeleton, canonical_joint_name

SHOULDERS = ("left_shoulder", "right_shoulder")
HIPS = ("left_hip", "right_hip")
TORSO_MARGIN, BODY_MARGIN = 1.9, 1.2
"""Half of the crop in largest distances from the middle of the hips to the torso's and to all joints (official)."""
OTHER_MARGIN = 2.0
"""The same from the middle of the joints of a skeleton without a torso, which may be a small part of the body. By three small
networks of 3 and 5 joints: AR in frame + crop at 1.2 .058, .228, .332; 1.6 .088, .320, .354; 2.0 .104, .343, .344; 2.5 .113,
.357, .339."""
SMALLEST_HALF = 4.0
"""Pixels; joints that fall onto one point make no crop. A guess: nobody is recognised in 8 pixels."""


def whole_frame(size_wh: tuple[int, int]) -> np.ndarray:
    """(4,) float64: the square around the whole photo, as wide as its longer side and centred on it."""
    width, height = size_wh
    half = max(width, height) / 2
    return np.array([width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half])


def smart_crop(pose: Pose, size_wh: tuple[int, int], joint_threshold: float = 0.2) -> np.ndarray:
    """(4,) float64: the square to look at next, from the joints found so far; the whole frame when they do not tell.

    pose: joints in pixels of the photo whose (width, height) is size_wh. joint_threshold: a joint counts above it.
    A skeleton without both shoulders and both hips is cut around the middle of its joints that count, if half of them
    do; that part is our own, a guess.
    """
    counts, points = (pose.score > joint_threshold).tolist(), pose.xy.tolist()  # so few are quicker as plain numbers
    seen = [point for point, count in zip(points, counts, strict=True) if count]
    shoulders, hips = _torso(pose.skeleton)
    if shoulders and hips:
        if not (any(counts[k] for k in shoulders) and any(counts[k] for k in hips)):
            return whole_frame(size_wh)
        x, y = (sum(points[k][axis] for k in hips) / len(hips) for axis in (0, 1))
        torso = _farthest([points[k] for k in (*shoulders, *hips)], x, y)
    else:
        if not seen or len(seen) < len(points) / 2:
            return whole_frame(size_wh)
        x, y = ((min(values) + max(values)) / 2 for values in zip(*seen, strict=True))
        torso = 0.0
    width, height = size_wh
    to_border = max(x, y, width - x, height - y)
    margin = BODY_MARGIN if shoulders and hips else OTHER_MARGIN
    half = min(max(TORSO_MARGIN * torso, margin * _farthest(seen, x, y)), to_border)
    if half > max(width, height) / 2 or half < SMALLEST_HALF:
        return whole_frame(size_wh)
    return np.array([x - half, y - half, x + half, y + half])


def _farthest(points: list[list[float]], x: float, y: float) -> float:
    """The largest distance of the points from (x, y) along an axis."""
    return max(max(abs(px - x), abs(py - y)) for px, py in points)


@lru_cache(maxsize=8)
def _torso(skeleton: Skeleton) -> tuple[list[int], list[int]]:
    """Indices of the shoulders and of the hips; nothing for a skeleton that lacks one of the four."""
    place = {canonical_joint_name(name): k for k, name in enumerate(skeleton.joints)}
    if not all(name in place for name in (*SHOULDERS, *HIPS)):
        return [], []
    return [place[name] for name in SHOULDERS], [place[name] for name in HIPS]

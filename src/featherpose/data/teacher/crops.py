"""What part of a photo a teacher is shown: the person's box in the shape of its input, the trunk upright if wanted."""

from __future__ import annotations

import numpy as np

from featherpose.geometry import box_of_points, compose, rotation, scaling, transform, translation
from featherpose.skeletons import Skeleton, canonical_joint_name

MARGIN = 1.25
"""Sides of the crop in sides of the person's box, once the box has the input's shape: what top-down models of Simple
Baselines' line, PP-TinyPose among them, are trained with."""
UPRIGHT_FROM = 30.0
"""Degrees from which a leaning person is turned upright. Top-down models are trained with turns of up to 40 degrees;
measured with PP-TinyPose on lsp_extended val, turning from 30 on raises AR from .547 to .589, from 0 on to .598 (and
lowers it by .004 on coco_person, whose people stand)."""
SHORT_TRUNK = 0.15
"""In longer sides of the box: a shorter trunk is seen along its axis, and its direction says nothing. A guess."""


def person_map(
    box_xyxy: np.ndarray,
    input_size: tuple[int, int],
    *,
    degrees: float = 0.0,
    xy: np.ndarray | None = None,
) -> np.ndarray:
    """(2, 3) map from photo to input pixels that shows a person's box, widened to the input's shape, times MARGIN.

    degrees: the photo is turned by so much first, clockwise, about the box's middle. xy: (K, 2) labelled joints, NaN
    where there is none; a turned box is the one around the turned joints and what the box had beyond them.
    """
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    turn = compose(translation(-(x1 + x2) / 2, -(y1 + y2) / 2), rotation(degrees))
    joints = None if xy is None or degrees == 0 else box_of_points(xy)
    if joints is None:
        corners = transform(turn, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
        low, high = corners.min(axis=0), corners.max(axis=0)
    else:
        turned = box_of_points(transform(turn, np.asarray(xy, np.float64)))
        beyond = max(x2 - x1 - (joints[2] - joints[0]), y2 - y1 - (joints[3] - joints[1]), 0.0) / 4
        low, high = turned[:2] - beyond, turned[2:] + beyond
    width, height = np.maximum(high - low, 1.0)
    middle = (low + high) / 2
    scale = min(input_size[0] / width, input_size[1] / height) / MARGIN
    return compose(
        turn, translation(-middle[0], -middle[1]), scaling(scale), translation(input_size[0] / 2, input_size[1] / 2)
    )


def upright_degrees(xy: np.ndarray, skeleton: Skeleton, box_xyxy: np.ndarray) -> float:
    """By how many degrees, clockwise, a person has to be turned to stand upright; 0 where they nearly do.

    xy: (K, 2) labelled joints, NaN where there is none. 0 too without both shoulders and both hips, or when the trunk
    is seen along its axis.
    """
    place = {canonical_joint_name(name): k for k, name in enumerate(skeleton.joints)}
    ends = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    if not all(end in place for end in ends):
        return 0.0
    corners = xy[[place[end] for end in ends]].astype(np.float64)
    way = corners[:2].mean(axis=0) - corners[2:].mean(axis=0)  # from the hips to the shoulders
    side = max(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1])
    if not np.isfinite(way).all() or np.hypot(*way) < SHORT_TRUNK * side:
        return 0.0
    lean = float(np.degrees(np.arctan2(way[0], -way[1])))  # clockwise from upwards
    return -lean if abs(lean) >= UPRIGHT_FROM else 0.0

"""Parts of labelled photos that show nobody: what a network must stay silent on."""

from __future__ import annotations

import numpy as np

from featherpose.data.sample import Sample
from featherpose.geometry import box_of_points

SMALLEST = 0.25
"""The shortest region, as a share of the longest that fits into the photo: less is enlarged to a blur. A guess."""
MARGIN = 0.1
"""Boxes grow by this share of their longer side: hair, hands and feet stick out of a box around joints. A guess."""
TRIES = 30
"""Regions that are drawn before a photo counts as full of people."""


def background_region(sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> np.ndarray | None:
    """(x1, y1, x2, y2) in photo pixels: a part of the photo that touches no labelled or ignored person; None if none is found.

    It has the shape of `size_wh`, lies inside the photo, and its size is drawn log-uniformly. A person is the union of
    box and labelled joints. People that are not labelled at all cannot be avoided.
    """
    taken = _taken(sample)
    shape = np.asarray(size_wh, np.float64)
    longest = shape * (np.asarray(sample.size_wh) / shape).min()
    for _ in range(TRIES):
        size = longest * np.exp(rng.uniform(np.log(SMALLEST), 0))
        corner = rng.uniform(0, 1, 2) * (np.asarray(sample.size_wh) - size)
        region = np.concatenate([corner, corner + size])
        touched = (taken[:, :2] < region[2:]).all(axis=1) & (taken[:, 2:] > region[:2]).all(axis=1)
        if not touched.any():
            return region
    return None


def _taken(sample: Sample) -> np.ndarray:
    """(N, 4) boxes that background may not touch, with their margin."""
    boxes = []
    for box, xy in zip(sample.box_xyxy.astype(np.float64), sample.xy, strict=True):
        joints = box_of_points(xy)
        if joints is not None:
            box = np.concatenate([np.fmin(box[:2], joints[:2]), np.fmax(box[2:], joints[2:])])
        boxes.append(box)
    if sample.ignore_xyxy is not None:
        boxes += list(sample.ignore_xyxy.astype(np.float64))
    taken = np.array(boxes).reshape(-1, 4)
    margin = MARGIN * (taken[:, 2:] - taken[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([taken[:, :2] - margin, taken[:, 2:] + margin], axis=1)

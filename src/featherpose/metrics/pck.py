"""Percentage of correct keypoints: a joint is right when it lies within a radius, and what the radius is measured in.

Unlabelled joints never count, neither for nor against; joints of any score do.
"""

from __future__ import annotations

import numpy as np

from featherpose.metrics.truth import Truth, distances
from featherpose.skeletons import canonical_joint_name, did_you_mean

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
SCALE = 160
"""Pixel errors are given as if each crop were this wide, the scale of the article."""


def crop_length(truth: Truth) -> np.ndarray:
    """(N,) px: side of the square crop around each person, whatever region a protocol looked at."""
    return truth.crop_side


def torso_length(truth: Truth) -> np.ndarray:
    """(N,) px: left shoulder to right hip; NaN for persons who lack one of the four torso joints."""
    place = {canonical_joint_name(name): k for k, name in enumerate(truth.skeleton.joints)}
    if not all(name in place for name in TORSO):
        return np.full(len(truth.xy), np.nan)
    whole = truth.labelled[:, [place[name] for name in TORSO]].all(axis=1)
    length = np.linalg.norm(truth.xy[:, place["left_shoulder"]] - truth.xy[:, place["right_hip"]], axis=1)
    return np.where(whole, length, np.nan)


def box_length(truth: Truth) -> np.ndarray:
    """(N,) px: the longer side of the labelled box."""
    return (truth.box_xyxy[:, 2:] - truth.box_xyxy[:, :2]).max(axis=1)


def head_length(truth: Truth) -> np.ndarray:
    """(N,) px: the head segment of the set (MPII: 0.6 of the head box's diagonal); NaN where there is none."""
    return np.full(len(truth.xy), np.nan) if truth.head_size is None else truth.head_size


NORMALISERS = {
    "px5_at_160": (crop_length, 5 / SCALE),
    "torso_0.05": (torso_length, 0.05),
    "torso_0.1": (torso_length, 0.1),
    "torso_0.2": (torso_length, 0.2),
    "box_0.05": (box_length, 0.05),
    "box_0.1": (box_length, 0.1),
    "box_0.2": (box_length, 0.2),
    "head_0.5": (head_length, 0.5),
}
"""Name -> (length of each person, radius in that length). head_0.5 is PCKh of Andriluka et al., CVPR 2014."""


def hits(pred_xy: np.ndarray, truth: Truth, normaliser: str) -> np.ndarray:
    """(N, K) float64: 1 for a joint within the radius (the border counts), 0 for one outside, NaN for one not counted.

    pred_xy: (N, K, 2) photo pixels; NaN means "not found", a miss. normaliser: a key of NORMALISERS.
    Means of it over any axes are PCK figures: `truth.mean(hits(...))`, `truth.mean(hits(...), axis=0)` per joint.
    """
    if normaliser not in NORMALISERS:
        raise ValueError(f"unknown normaliser '{normaliser}'{did_you_mean(normaliser, NORMALISERS)}")
    length, factor = NORMALISERS[normaliser]
    radius = factor * length(truth)[:, None]  # (N, 1)
    away = distances(pred_xy, truth)
    counted = np.isfinite(radius) & ~np.isnan(away)
    return np.where(counted, np.where(counted, away, np.inf) <= np.nan_to_num(radius), np.nan)


def error_at_160(pred_xy: np.ndarray, truth: Truth) -> np.ndarray:
    """(N, K) pixels at a crop of 160 px: how far each labelled joint is off, NaN elsewhere, inf where not found."""
    return distances(pred_xy, truth) * (SCALE / truth.crop_side[:, None])

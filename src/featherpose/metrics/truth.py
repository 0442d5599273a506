"""What predictions are held against: labelled persons, read from labels and never through a decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.skeletons import Skeleton


@dataclass(frozen=True)
class Truth:
    """N labelled persons with K joints; every length in pixels of the person's own photo (docs/conventions.md)."""

    skeleton: Skeleton
    xy: np.ndarray
    """(N, K, 2) float64; NaN where a joint is not labelled."""
    visibility: np.ndarray
    """(N, K) int8: -1 unknown to the set, 0 unlabelled, 1 occluded, 2 visible."""
    box_xyxy: np.ndarray
    """(N, 4) float64: the person's box as labelled."""
    area: np.ndarray
    """(N,) float64, px^2: the object area that OKS uses."""
    crop_side: np.ndarray
    """(N,) float64: side of the square that the protocol "crop" cuts around the person."""
    head_size: np.ndarray | None = None
    """(N,) float64: length of the head segment, NaN where unknown; None where the set has none."""

    def __post_init__(self) -> None:
        persons, joints = len(self.xy), len(self.skeleton)
        shapes = {"xy": (persons, joints, 2), "visibility": (persons, joints), "box_xyxy": (persons, 4)}
        shapes |= {"area": (persons,), "crop_side": (persons,)}
        if self.head_size is not None:
            shapes["head_size"] = (persons,)
        for name, shape in shapes.items():
            values = np.asarray(getattr(self, name), np.int8 if name == "visibility" else np.float64)
            if values.shape != shape:
                raise ValueError(f"the truth's {name} must be {shape}, got {values.shape}")
            object.__setattr__(self, name, values)

    @property
    def labelled(self) -> np.ndarray:
        """(N, K) bool: the joints that count, occluded ones too."""
        return (self.visibility > 0) & np.isfinite(self.xy).all(axis=2)


def distances(pred_xy: np.ndarray, truth: Truth) -> np.ndarray:
    """(N, K) float64: from each predicted to its labelled joint, photo pixels; NaN where nothing is labelled.

    pred_xy: (N, K, 2) photo pixels; a coordinate that is not a number means "not found" and is infinitely far.
    """
    pred_xy = np.asarray(pred_xy, np.float64)
    if pred_xy.shape != truth.xy.shape:
        raise ValueError(f"predictions must be {truth.xy.shape} like the truth, got {pred_xy.shape}")
    found = np.isfinite(pred_xy).all(axis=2)
    labelled = truth.labelled
    away = np.where((labelled & found)[..., None], pred_xy - truth.xy, 0.0)
    return np.where(labelled, np.where(found, np.linalg.norm(away, axis=2), np.inf), np.nan)


def mean(values: np.ndarray, axis: int | None = None) -> np.ndarray | float:
    """The mean of what is not NaN; NaN, without a warning, where nothing is left."""
    counts = ~np.isnan(values)
    total = counts.sum(axis=axis)
    result = np.where(counts, values, 0.0).sum(axis=axis) / np.maximum(total, 1)
    result = np.where(total > 0, result, np.nan)
    return float(result) if axis is None else result

"""Several people: up to N poses from one pass, without doubles, and who is who over time.

The network's maps hold everybody in its view already: one pass serves all, only the decoding is done once per person.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featherpose.codecs import build_codec
from featherpose.geometry import crop_map, invert, transform, warp
from featherpose.pose import Pose
from featherpose.runtime.motion import alike
from featherpose.runtime.predictor import Predictor

DOUBLE = 0.5
"""Likeness from which two poses of one frame are one person: COCO's loosest OKS. A guess that held on the clips."""


def look_several(
    predictor: Predictor,
    image: np.ndarray,
    region_xyxy: np.ndarray,
    limit: int,
    *,
    threshold: float = 0.1,
    focus_xy: Sequence[float] | None = None,
) -> list[Pose]:
    """Up to `limit` poses found by one pass over a square region, surest first, in pixels of the photo.

    image: (H, W, 3) uint8 RGB. threshold: a person's least value in the centre map. focus_xy: a point of the photo; the
    person that the model finds from there comes first, whatever the value. Nobody comes twice. Models with their decoding
    inside give the one person they take.
    """
    spec = predictor.spec
    to_input = crop_map(region_xyxy, spec.input_size)
    if spec.outputs != "raw":
        return [predictor.look(image, region_xyxy)]
    outputs = predictor.backend.run(warp(image, to_input, spec.input_size)[None])
    maps = {name: values[0] for name, values in outputs.items()}
    codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton))
    focus = None if focus_xy is None else tuple(transform(to_input, np.asarray(focus_xy, np.float64)))
    xy, score, pose_score = codec.decode_several(maps, limit, threshold=threshold, focus_xy=focus)
    to_photo = invert(to_input)
    poses = [
        Pose(transform(to_photo, xy[n].astype(np.float64)), score[n], spec.skeleton, float(pose_score[n]), region_xyxy)
        for n in range(len(xy))
    ]
    return without_doubles(poses)


def without_doubles(poses: Sequence[Pose], double: float = DOUBLE) -> list[Pose]:
    """The poses in their order, less those that are too like one before them."""
    kept: list[Pose] = []
    for pose in poses:
        if all(alike(pose, other) < double for other in kept):
            kept.append(pose)
    return kept


def assign(value: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) with the largest sum of values, no row or column twice, none below `least`.

    value: (N, M). The Hungarian method in O(n^3): people in a frame are few, and SciPy is no requirement of the base.
    """
    rows, columns = value.shape
    if rows == 0 or columns == 0:
        return []
    if rows > columns:
        return sorted((row, column) for column, row in assign(value.T, least))
    # Pairs below `least` are worth nothing, so that they never push a good pair out.
    cost = -np.where(value >= least, value, 0.0)
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, np.int64)  # row (from 1) of each column, 0 nobody; column 0 is where a search starts
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        slack, before = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.int64)
        used = np.zeros(columns + 1, bool)
        while owner[column]:
            used[column] = True
            reduced = cost[owner[column] - 1] - row_price[owner[column]] - column_price[1:]
            better = ~used[1:] & (reduced < slack[1:])
            slack[1:][better], before[1:][better] = reduced[better], column
            nearest = 1 + int(np.argmin(np.where(used[1:], np.inf, slack[1:])))
            step = slack[nearest]
            row_price[owner[used]] += step
            column_price[used] -= step
            slack[~used] -= step
            column = nearest
        while column:
            owner[column] = owner[before[column]]
            column = before[column]
    pairs = [(int(owner[column]) - 1, column - 1) for column in range(1, columns + 1) if owner[column]]
    return sorted((row, column) for row, column in pairs if value[row, column] >= least)

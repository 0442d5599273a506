"""MoveNet's representation: where people are, where each joint roughly is from there, and what each cell looks like.

Four maps on a grid of `stride` pixels:

| map | shape | meaning |
|---|---|---|
| center | (1, H, W) | "a person's middle is here", in [0, 1] |
| regression | (K, 2, H, W) | from a person's middle to joint k, (x, y) in cells, between cell indices |
| heatmap | (K, H, W) | "this cell looks like joint k" of anybody, in [0, 1] |
| offset | (K, 2, H, W) | from the cell's top-left corner to joint k, (x, y) in cells |

Decoding takes the person nearest the focus (the middle, unless told otherwise), then for each joint the heatmap's
maximum weighted by the distance to where the regression expects it. Source: the graph of the official MoveNet
Lightning v4, and Votel and Li, "Next-Generation Pose Detection with MoveNet and TensorFlow.js", 2021.

Coordinates are (x, y) in input pixels, continuous, origin at the top-left corner (docs/conventions.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from featherpose.skeletons import did_you_mean

CURVES = ("gaussian", "exponential")
CENTERS = ("box", "mean")
REFINES = ("offset", "dark")

CUT_EXPONENT = 4.6052
"""Curves end where they fall to 0.01, as in Lightweight OpenPose (Osokin, 2018)."""


@dataclass(frozen=True)
class MoveNetCodec:
    """Targets from joints, and joints from maps.

    decode(encode(x)) gives a person's joints inside the picture back, to float32, unless another person's joint of the same
    kind is near, or `refine` is dark: tops of curves are only near the joints. ValueError for values that cannot be, or
    that contradict each other.
    """

    input_size: tuple[int, int]
    """(width, height) of the network input, pixels."""
    joints: int = 17
    """K."""
    stride: int = 4
    """Input pixels per grid cell."""
    curve: str = "gaussian"
    """gaussian: exp(-d^2 / (2 s^2)), the closed form of Lightweight OpenPose; exponential: exp(-d / s), pointed."""
    subcell: bool = False
    """False: the curve stands on the joint's cell and is exactly 1 there. True: it stands on the joint itself."""
    sigma_scale: float = 0.04
    """Width s of the curve in longer sides of the person's joint box (2 of 51 cells at 256x192 in Xiao et al. 2018)."""
    sigma_range: tuple[float, float] = (1.0, 2.0)
    """Smallest and largest s, cells."""
    center: str = "box"
    """A person's middle: of the smallest box around the labelled joints, or their mean."""
    center_sigma: float = 1.5
    """Width s of the centre's curve, in sigmas of the person's joints."""
    regression_radius: int = 2
    """The regression is written to all cells this near the centre cell, each with its own difference."""
    offset_radius: int = 1
    """The offset is written to all cells this near the joint's cell, so that a maximum beside it decodes well too."""
    unlabelled_weight: float = 0.25
    """Heatmap weight inside a person's box for joints that the set labels but this person has no label for."""
    softening: float = 1.8
    """Cells added to a distance before dividing by it (read from the official graph)."""
    center_softening: float = 0.0
    """The same for the distance from the picture's middle, where no other focus is given: the larger, the less it counts
    that somebody stands in the middle, and the more how sure the centre map is of them. 0: as `softening`."""
    vote_radius: int = 0
    """Decoding: all cells this near the best one say where the joint is, each by its own offset, and count by the square of
    their heatmap (after the Hough voting of PersonLab, Papandreou et al., ECCV 2018). 0: the best cell alone, as the
    official graph does. Not more than the `offset_radius` that the network was trained with, and 0 where `refine` is dark."""
    refine: str = "offset"
    """Decoding: what says where in its cell a joint is. offset: the offsets, see `vote_radius`. dark: the heatmap itself,
    by the top of the curve through the best cell and its neighbours (Zhang et al., Distribution-Aware Coordinate
    Representation, CVPR 2020, equation 8 without the mixed derivative, which a round curve does not have). It wants curves
    that stand on the joint (`subcell`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(int(v) for v in self.input_size))
        if not isinstance(self.sigma_range, (list, tuple)) or len(self.sigma_range) != 2:
            raise ValueError(f"codec movenet: sigma_range must be two numbers [low, high], got {self.sigma_range!r}")
        object.__setattr__(self, "sigma_range", tuple(float(v) for v in self.sigma_range))
        for name, choices in (("curve", CURVES), ("center", CENTERS), ("refine", REFINES)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"codec movenet: unknown {name} '{value}'{did_you_mean(value, choices)}")
        for name, low in (("joints", 1), ("stride", 1), ("regression_radius", 0), ("offset_radius", 0), ("vote_radius", 0)):
            value = getattr(self, name)
            if value != int(value) or value < low:
                raise ValueError(f"codec movenet: {name} must be a whole number, at least {low}, got {value}")
        if self.vote_radius > self.offset_radius:
            raise ValueError(
                f"codec movenet: vote_radius must not be more than offset_radius ({self.offset_radius}), got "
                f"{self.vote_radius}: cells farther from a joint never learned where it is"
            )
        if self.vote_radius and self.refine == "dark":
            raise ValueError(
                f"codec movenet: vote_radius = {self.vote_radius} would do nothing, as refine = 'dark' reads no offsets; "
                "leave one of the two out"
            )
        if not 0 <= self.sigma_scale < math.inf:
            raise ValueError(f"codec movenet: sigma_scale must be a number from 0 on, got {self.sigma_scale}")
        for name in ("center_sigma", "softening"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"codec movenet: {name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.center_softening < math.inf:
            raise ValueError(f"codec movenet: center_softening must be a number from 0 on, got {self.center_softening}")
        if not 0 <= self.unlabelled_weight <= 1:
            raise ValueError(f"codec movenet: unlabelled_weight must lie in [0, 1], got {self.unlabelled_weight}")
        if any(v % self.stride for v in self.input_size):
            raise ValueError(
                f"codec movenet: input_size {self.input_size} is not a multiple of the stride {self.stride}"
            )
        if not 0 < self.sigma_range[0] <= self.sigma_range[1] < math.inf:
            raise ValueError(f"codec movenet: sigma_range must be 0 < low <= high, got {self.sigma_range}")

    @property
    def middle_softening(self) -> float:
        """The softening of the distance from the picture's middle."""
        return self.center_softening or self.softening

    @property
    def grid(self) -> tuple[int, int]:
        """(W, H) cells."""
        return self.input_size[0] // self.stride, self.input_size[1] // self.stride

    # --- joints -> maps ---------------------------------------------------------------------------------------------

    def encode(
        self,
        xy: np.ndarray,
        visibility: np.ndarray,
        box_xyxy: np.ndarray | None = None,
        ignore_xyxy: np.ndarray | None = None,
        joint_weight: np.ndarray | None = None,
        teacher_xy: np.ndarray | None = None,
        teacher_score: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Target maps of every person in a picture.

        xy: (P, K, 2) input pixels, NaN where visibility <= 0. visibility: (P, K), see docs/conventions.md.
        box_xyxy: (P, 4) input pixels, the labelled boxes, only used to know where unlabelled joints may be.
        ignore_xyxy: (I, 4) input pixels, regions that are no background although nobody is labelled there.
        joint_weight: (P, K) in [0, 1], how far each joint can be trusted; None trusts all of them. It becomes the
        weight of the joint's curve, offset and regression, and of the rest of the person's box not being the joint.
        teacher_xy: (P, K, 2) input pixels, where another model sees each joint, NaN where it was not asked.
        teacher_score: (P, K) in [0, 1], how sure it is. With them come maps of their own, see below.

        Returns float32 maps `center`, `heatmap`, `regression`, `offset` as in this file's table, and for each of them
        `<name>_weight` in [0, 1]: (1, H, W) for the centre, (K, H, W) for the others. Weight 0 means "says nothing".
        With `teacher_xy` also `teacher_heatmap`, whose curves are as high as the teacher is sure, `teacher_offset`, and
        their weights; the other maps do not change.
        """
        width, height = self.grid
        k = self.joints
        maps = {
            "center": np.zeros((1, height, width), np.float32),
            "center_weight": np.ones((1, height, width), np.float32),
            "heatmap": np.zeros((k, height, width), np.float32),
            "heatmap_weight": np.ones((k, height, width), np.float32),
            "regression": np.zeros((k, 2, height, width), np.float32),
            "regression_weight": np.zeros((k, height, width), np.float32),
            "offset": np.zeros((k, 2, height, width), np.float32),
            "offset_weight": np.zeros((k, height, width), np.float32),
        }
        visibility = np.asarray(visibility)
        cells, labelled, inside = self._joints(xy, visibility)
        for rows, columns in [] if ignore_xyxy is None else self._regions(np.asarray(ignore_xyxy)):
            maps["heatmap_weight"][:, rows, columns] = 0
            maps["center_weight"][:, rows, columns] = 0
        low, high = _boxes(cells, labelled)
        self._unlabelled_joints(maps, low, high, visibility, box_xyxy, joint_weight)
        if teacher_xy is not None:
            maps.update(self._teacher_maps(teacher_xy, teacher_score, low, high, box_xyxy, ignore_xyxy))

        seen = np.flatnonzero(inside.any(axis=1))
        if len(seen) == 0:
            return maps
        cells, labelled, inside = cells[seen], labelled[seen], inside[seen]
        sigma = self._sigma(low[seen], high[seen])
        middle = self._middles(cells, inside)
        person, joint = np.nonzero(inside)
        points = cells[person, joint]
        if joint_weight is None:
            trust = np.ones(labelled.shape, np.float32)
        else:
            trust = np.asarray(joint_weight, np.float32)[seen]
        surest = np.where(inside, trust, 0).max(axis=1)  # one joint that stands makes the person stand
        only = np.zeros(len(seen), np.int64)  # the centre map has one channel
        self._draw(maps["center"], maps["center_weight"], only, middle, self.center_sigma * sigma, surest)
        self._draw(maps["heatmap"], maps["heatmap_weight"], joint, points, sigma[person], trust[person, joint])
        self._fill_regression(maps, middle, cells, labelled * trust)
        self._fill_offset(maps["offset"], maps["offset_weight"], joint, points, trust[person, joint])
        return maps

    def outline(
        self, xy: np.ndarray, visibility: np.ndarray, box_xyxy: np.ndarray, ignore_xyxy: np.ndarray | None,
        joint_weight: np.ndarray | None, *, people: int, ignored: int,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """What `encode` makes maps of, in small arrays of fixed shapes, for train/drawing.py.

        Arguments as for `encode`; people, ignored: places for so many people and regions. ValueError when they are too few.
        Returns, in cells: `people_cells` (P, K, 2), NaN for what is not labelled; `people_trust` (P, K), 0 there;
        `people_inside` (P, K) bool; `people_sigma` (P,); `people_middle` (P, 2); `people_most` (P, K), the most that the
        heatmap weighs in `people_region` (P, 4), x1, y1, x2, y2; `people_ignored` (I, 4); `people_unknown` (K,) bool.
        """
        k, visibility = self.joints, np.asarray(visibility)
        found, regions = len(visibility), [] if ignore_xyxy is None else self._regions(np.asarray(ignore_xyxy))
        if found > people or len(regions) > ignored:
            raise ValueError(f"{found} people and {len(regions)} regions, places for {people} and {ignored}")
        out = {
            "people_cells": np.full((people, k, 2), np.nan, np.float32), "people_trust": np.zeros((people, k), np.float32),
            "people_inside": np.zeros((people, k), bool), "people_sigma": np.ones(people, np.float32),
            "people_middle": np.zeros((people, 2), np.float32), "people_most": np.ones((people, k), np.float32),
            "people_region": np.zeros((people, 4), np.int16), "people_ignored": np.zeros((ignored, 4), np.int16),
            "people_unknown": (visibility < 0).any(axis=0),
        }  # fmt: skip
        for number, region in enumerate(regions):
            out["people_ignored"][number] = _corners(*region)
        cells, labelled, inside = self._joints(xy, visibility)
        low, high = _boxes(cells, labelled)
        most = self._most(visibility, joint_weight)
        for person, region in zip(*self._people_regions(low, high, box_xyxy, (most < 1).any(axis=1)), strict=True):
            out["people_region"][person] = _corners(*region)
        out["people_most"][:found], out["people_inside"][:found] = most, inside
        out["people_cells"][:found] = np.where(labelled[:, :, None], cells, np.nan)
        out["people_trust"][:found] = labelled if joint_weight is None else labelled * np.asarray(joint_weight, np.float32)
        seen = np.flatnonzero(inside.any(axis=1))
        if len(seen):
            out["people_sigma"][seen] = self._sigma(low[seen], high[seen])
            out["people_middle"][seen] = self._middles(cells[seen], inside[seen])
        return out

    def _joints(self, xy: np.ndarray, visibility: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Joints (P, K, 2) in continuous cells, which are labelled and which of those are in the picture, both (P, K)."""
        cells = np.asarray(xy, np.float64) / self.stride
        labelled = (visibility > 0) & np.isfinite(cells).all(axis=2)
        return cells, labelled, labelled & (cells >= 0).all(axis=2) & (cells < self.grid).all(axis=2)

    def _sigma(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """(P,) widths of people's curves in cells, from the corners (P, 2) of the boxes around their joints."""
        return np.clip(self.sigma_scale * (high - low).max(axis=1), *self.sigma_range)

    def _most(self, visibility: np.ndarray, joint_weight: np.ndarray | None) -> np.ndarray:
        """(P, K) float32: the most that a joint's heatmap weighs where it may be of this person, see `_unlabelled_joints`."""
        most = np.where(visibility == 0, np.float32(self.unlabelled_weight), np.float32(1))
        if joint_weight is not None:
            most = np.where(visibility > 0, np.maximum(joint_weight, self.unlabelled_weight), most).astype(np.float32)
        return most

    def _teacher_maps(
        self,
        teacher_xy: np.ndarray,
        teacher_score: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        box_xyxy: np.ndarray | None,
        ignore_xyxy: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """`teacher_heatmap`, `teacher_offset` and their weights; arguments as for `encode` and `_unlabelled_joints`.

        A curve's height is the teacher's score, as its own heatmap would have it: half hidden joints ask for less, and
        a guess for next to nothing. What it did not look at is not said: the weight is 1 in the boxes of people whom it
        was asked about, 0 in those of others, in ignored regions and far from everybody. An offset is weighted by the
        score.
        """
        width, height = self.grid
        k = self.joints
        maps = {
            "teacher_heatmap": np.zeros((k, height, width), np.float32),
            "teacher_heatmap_weight": np.zeros((k, height, width), np.float32),
            "teacher_offset": np.zeros((k, 2, height, width), np.float32),
            "teacher_offset_weight": np.zeros((k, height, width), np.float32),
        }
        cells = np.asarray(teacher_xy, np.float64) / self.stride  # (P, K, 2), continuous
        score = np.asarray(teacher_score, np.float32)
        asked = np.isfinite(cells).all(axis=2)
        labelled = np.isfinite(low).all(axis=1, keepdims=True)
        low, high = (np.where(labelled, a, b) for a, b in zip((low, high), _boxes(cells, asked), strict=True))
        weight = maps["teacher_heatmap_weight"]
        people, regions = self._people_regions(low, high, box_xyxy)
        for value, known in ((1, asked), (0, ~asked)):
            for person, (rows, columns) in zip(people, regions, strict=True):
                weight[known[person], rows, columns] = value
        for rows, columns in [] if ignore_xyxy is None else self._regions(np.asarray(ignore_xyxy)):
            weight[:, rows, columns] = 0

        inside = asked & (cells >= 0).all(axis=2) & (cells < (width, height)).all(axis=2)
        person, joint = np.nonzero(inside)
        if len(person):
            points, sure = cells[person, joint], score[person, joint]
            sigma = self._sigma(low, high)[person]
            known = np.ones(len(person), np.float32)
            self._draw(maps["teacher_heatmap"], weight, joint, points, sigma, known, top=sure)
            self._fill_offset(maps["teacher_offset"], maps["teacher_offset_weight"], joint, points, sure)
        return maps

    def middle(self, cells: np.ndarray) -> np.ndarray:
        """(2,) a person's middle in cells, from those of the joints (K, 2) in cells that are inside the grid; NaN for none."""
        inside = ((cells >= 0) & (cells < self.grid)).all(axis=1)  # NaN is not
        if not inside.any():
            return np.full(2, np.nan)
        return self._middles(cells[None], inside[None])[0]

    def _middles(self, cells: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """(P, 2) middles of people, continuous cells, from those joints of (P, K, 2) that are inside the picture."""
        if self.center == "mean":
            return np.stack([c[known].mean(axis=0) for c, known in zip(cells, inside, strict=True)])
        low, high = _boxes(cells, inside)
        return (low + high) / 2

    def _regions(self, box_xyxy: np.ndarray) -> list[tuple[slice, slice]]:
        """Rows and columns of the grid that each of (N, 4) boxes in input pixels touches."""
        width, height = self.grid
        box = np.asarray(box_xyxy, np.float64).reshape(-1, 4) / self.stride
        low = np.floor(box[:, :2]).clip(0, (width, height)).astype(np.int64).tolist()
        high = np.ceil(box[:, 2:]).clip(0, (width, height)).astype(np.int64).tolist()
        return [(slice(y1, y2), slice(x1, x2)) for (x1, y1), (x2, y2) in zip(low, high, strict=True)]

    def _unlabelled_joints(
        self,
        maps: dict,
        low: np.ndarray,
        high: np.ndarray,
        visibility: np.ndarray,
        box_xyxy: np.ndarray | None,
        joint_weight: np.ndarray | None,
    ) -> None:
        """Lowers the heatmap weight where a joint may be that nobody labelled; to 0 everywhere if the set never does.

        A joint that is labelled but not trusted in full may be elsewhere too: the weight sinks as far as its own, but
        no lower than without the label. low, high: (P, 2) corners of the boxes around each person's labelled joints,
        cells; infinite for none.
        """
        weight = maps["heatmap_weight"]
        weight[(visibility < 0).any(axis=0)] = 0
        most = self._most(visibility, joint_weight)
        doubtful = most < 1
        people, regions = self._people_regions(low, high, box_xyxy, doubtful.any(axis=1))
        for person, (rows, columns) in zip(people, regions, strict=True):
            region = weight[:, rows, columns]
            np.minimum(region, most[person][:, None, None], out=region, where=doubtful[person][:, None, None])

    def _people_regions(
        self, low: np.ndarray, high: np.ndarray, box_xyxy: np.ndarray | None, which: np.ndarray | bool = True
    ) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
        """Numbers of the people `which` (P,) that are anywhere, and the rows and columns where their joints may be.

        low, high: (P, 2) corners of the boxes around their joints, cells; widened by the box and a tenth.
        """
        if box_xyxy is not None:
            box = np.asarray(box_xyxy, np.float64).reshape(-1, 4) / self.stride
            low, high = np.minimum(low, box[:, :2]), np.maximum(high, box[:, 2:])
        people = np.flatnonzero(which & np.isfinite(low).all(axis=1))
        low, high = low[people], high[people]
        margin = 0.1 * (high - low)
        return people, self._regions(np.concatenate([low - margin, high + margin], axis=1) * self.stride)

    def _square(self, points: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cells around N points: columns and rows (N, 2 reach + 1), and which are in the grid (N, row, column)."""
        width, height = self.grid
        cell = np.floor(points).astype(np.int64)
        steps = np.arange(-reach, reach + 1)
        columns, rows = cell[:, :1] + steps, cell[:, 1:] + steps
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        return columns, rows, inside

    def _around(self, points: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cells around each of N points: which point (M,), row (M,), column (M,), for those inside the grid."""
        columns, rows, inside = self._square(points, reach)
        which, i, j = np.nonzero(inside)
        return which, rows[which, i], columns[which, j]

    def _draw(
        self,
        target: np.ndarray,
        weight: np.ndarray,
        channel: np.ndarray,
        points: np.ndarray,
        sigma: np.ndarray,
        trust: np.ndarray,
        *,
        top: np.ndarray | None = None,
    ) -> None:
        """Draws a curve at each of N points into its channel of (C, H, W) `target`; where they meet, the higher counts.

        sigma: (N,) cells. trust: (N,). The cells under a curve are known, so their weight becomes its point's trust.
        top: (N,) heights of the curves, 1 unless given.
        """
        ends = np.sqrt(2 * CUT_EXPONENT) if self.curve == "gaussian" else CUT_EXPONENT
        reach = int(np.ceil(sigma.max() * ends))
        columns, rows, inside = self._square(points, reach)
        peak = points - 0.5 if self.subcell else np.floor(points)  # where the curve is highest, in cell indices
        dx, dy = (columns - peak[:, :1]) ** 2, (rows - peak[:, 1:]) ** 2
        squared = dx[:, None, :] + dy[:, :, None]  # (N, rows, columns)
        width = sigma[:, None, None]
        exponent = squared / (2 * width**2) if self.curve == "gaussian" else np.sqrt(squared) / width
        which, i, j = np.nonzero((exponent <= CUT_EXPONENT) & inside)
        where = (channel[which] * target.shape[1] + rows[which, i]) * target.shape[2] + columns[which, j]
        value = np.exp(-exponent[which, i, j]).astype(np.float32)
        if top is not None:
            value *= top[which]
        np.maximum.at(target.reshape(-1), where, value)
        if (trust == 1).all():
            weight.reshape(-1)[where] = 1
        else:  # of several writes to a cell the last one stays: the highest curve's
            low_to_high = np.argsort(value, kind="stable")
            weight.reshape(-1)[where[low_to_high]] = trust[which[low_to_high]]

    def _fill_regression(self, maps: dict, middle: np.ndarray, cells: np.ndarray, trust: np.ndarray) -> None:
        """Writes the way to each labelled joint into the cells around each centre; the nearest person owns a cell.

        trust: (P, K), 0 where a joint is not labelled.
        """
        who, rows, columns = self._around(middle, self.regression_radius)
        distance = (rows + 0.5 - middle[who, 1]) ** 2 + (columns + 0.5 - middle[who, 0]) ** 2
        far_to_near = np.argsort(-distance, kind="stable")  # of several writes to a cell the last one stays
        who, rows, columns = who[far_to_near], rows[far_to_near], columns[far_to_near]
        way = np.nan_to_num(cells)[who] - 0.5 - np.stack([columns, rows], axis=1)[:, None]  # (M, K, 2), cell indices
        where = rows * self.grid[0] + columns
        maps["regression"].reshape(2 * self.joints, -1)[:, where] = way.reshape(len(who), -1).T
        maps["regression_weight"].reshape(self.joints, -1)[:, where] = trust[who].T

    def _fill_offset(
        self, offset: np.ndarray, weight: np.ndarray, channel: np.ndarray, points: np.ndarray, trust: np.ndarray
    ) -> None:
        """Writes the way from a cell's corner to the joint into the cells around it; the nearest one owns a cell."""
        which, rows, columns = self._around(points, self.offset_radius)
        way = points[which] - np.stack([columns, rows], axis=1)  # (M, 2)
        far_to_near = np.argsort(-((way - 0.5) ** 2).sum(axis=1), kind="stable")
        which, rows, columns, way = which[far_to_near], rows[far_to_near], columns[far_to_near], way[far_to_near]
        joint = channel[which]
        offset[joint, :, rows, columns] = way
        weight[joint, rows, columns] = trust[which]

    # --- maps -> joints ---------------------------------------------------------------------------------------------

    def decode(
        self, maps: dict[str, np.ndarray], focus_xy: tuple[float, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """The joints of the person nearest the focus: (K, 2) input pixels, (K,) scores in [0, 1], pose score in [0, 1].

        focus_xy: a point in input pixels; None means the middle of the input. Maps that are not finite where they are
        read give joints or scores that are not finite.
        """
        row, column = self._nearest(maps["center"][0], focus_xy)
        xy, score = self._joints_at(maps, [row], [column])
        return xy[0], score[0], float(maps["center"][0, row, column])

    def _nearest(self, center: np.ndarray, focus_xy: tuple[float, float] | None) -> tuple[int, int]:
        """(row, column) of the middle of the person nearest the focus, input pixels; None means the middle of the input."""
        height, width = center.shape
        if focus_xy is None:
            x, y, softening = width / 2, height / 2, self.middle_softening
        else:
            (x, y), softening = (v / self.stride for v in focus_xy), self.softening
        return divmod(int((center * _focus(width, height, x, y, softening)).argmax()), width)

    def _nearest_of(
        self, cells: dict[tuple[int, int], float], center: np.ndarray, floor: float, focus_xy: tuple[float, float]
    ) -> tuple[int, int]:
        """`_nearest` by way of the cells of at least `floor`, see `_cells`: of the others none may be the answer."""
        x, y = (v / self.stride for v in focus_xy)
        best, most = None, floor / self.softening  # what a cell below the floor comes to at most, right in the focus
        for (row, column), value in cells.items():
            near = value / (math.hypot(column - x, row - y) + self.softening)
            if near > most:
                best, most = (row, column), near
        return best or self._nearest(center, focus_xy)

    def _joints_at(
        self, maps: dict[str, np.ndarray], rows: list[int], columns: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joints of the people whose middles are these N cells: (N, K, 2) input pixels and (N, K) scores."""
        heatmap = maps["heatmap"]  # (K, H, W)
        joints, height, width = heatmap.shape
        if not rows:
            return np.zeros((0, joints, 2), np.float32), np.zeros((0, joints), np.float32)
        across, down = _indices(width, height)
        place = [row * width + column for row, column in zip(rows, columns, strict=True)]
        expected = maps["regression"].reshape(joints, 2, -1)[:, :, place].transpose(2, 0, 1)  # (N, K, 2)
        expected = expected + np.array([columns, rows], np.float32).T[:, None]  # cell indices
        dx = (across - expected[..., :1]) ** 2  # (N, K, W)
        dy = (down - expected[..., 1:]) ** 2  # (N, K, H)
        weighted, best = np.empty_like(heatmap), np.empty((len(rows), joints), np.int64)
        for n in range(len(rows)):  # one after the other, so that the maps stay in the processor's cache
            np.add(dy[n, :, :, None], dx[n, :, None, :], out=weighted)
            np.sqrt(weighted, out=weighted)
            weighted += np.float32(self.softening)
            np.divide(heatmap, weighted, out=weighted)
            weighted.reshape(joints, -1).argmax(axis=1, out=best[n])
        y, x = np.divmod(best, width)
        k = np.arange(joints)
        if self.refine == "dark":
            xy = self._top(heatmap, y, x)
        else:
            xy = self._vote(heatmap, maps["offset"], y, x) if self.vote_radius else maps["offset"][k, :, y, x]
        xy[..., 0] += x
        xy[..., 1] += y
        if not math.isfinite(expected.sum()):  # else every cell is equally far, and the first one would pass for a joint
            xy[~np.isfinite(expected).all(axis=2)] = np.nan
        return xy * self.stride, heatmap[k, y, x]

    def _top(self, heatmap: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(N, K, 2) from the corners of the cells y, x (N, K) to the top of the parabola through the logarithms of each
        cell's heatmap and its two neighbours', in x and in y; at most a cell from the middle, the middle if there is no top."""
        joints, height, width = heatmap.shape
        here, (across, down) = y * width + x, ((x > 0) & (x < width - 1), (y > 0) & (y < height - 1))
        steps = np.stack([across * 1, down * width], axis=-1)  # (N, K, 2), 0 at the rim: no neighbour on one side
        place = here[..., None, None] + steps[..., None] * _SIDES  # (N, K, 2, 3)
        values = heatmap.reshape(joints, -1)[np.arange(joints)[:, None, None], place]
        before, at, after = np.moveaxis(np.log(np.maximum(values, TOP_FLOOR)), -1, 0)
        bend = 2 * at - before - after
        flat = bend < TOP_FLAT
        away = (after - before) / (2 * np.where(flat, 1, bend))
        return np.where(flat, np.float32(0.5), 0.5 + np.minimum(np.maximum(away, -1), 1)).astype(np.float32)

    def _vote(self, heatmap: np.ndarray, offset: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(N, K, 2) cells from rows y, columns x (N, K): the mean of what the cells around say, by the heatmap's square."""
        joints, height, width = heatmap.shape
        across, down, steps = _around(self.vote_radius, width)  # (S,) each
        here, k = (y * width + x)[..., None], np.arange(joints)[:, None]
        place, inside = here + steps, True  # (N, K, S)
        reach = self.vote_radius
        if not (_within(x, reach, width - reach) and _within(y, reach, height - reach)):
            columns, rows = x[..., None] + across, y[..., None] + down
            inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            place = np.where(inside, place, here)
        weight = heatmap.reshape(joints, -1)[k, place]
        weight = (weight * weight + VOTE_FLOOR) * inside
        offset = offset.reshape(joints, 2, -1)
        votes = np.empty((*place.shape[:2], 2, len(steps)), np.float32)  # (N, K, 2, S)
        np.add(offset[k, 0, place], across, out=votes[:, :, 0])
        np.add(offset[k, 1, place], down, out=votes[:, :, 1])
        return np.einsum("nkas,nks->nka", votes, weight) / weight.sum(axis=-1, keepdims=True)

    def decode_batch(
        self, maps: dict[str, np.ndarray], focus_xy: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`decode` for maps with a leading B: (B, K, 2), (B, K), (B,). focus_xy: (B, 2) input pixels or None."""
        decoded = [
            self.decode({name: maps[name][b] for name in MAPS}, None if focus_xy is None else tuple(focus_xy[b]))
            for b in range(len(maps["heatmap"]))
        ]
        if not decoded:
            shapes = (0, self.joints, 2), (0, self.joints), (0,)
            return tuple(np.zeros(shape, np.float32) for shape in shapes)
        xy, score, pose_score = zip(*decoded, strict=True)
        return np.stack(xy), np.stack(score), np.array(pose_score, np.float32)

    def decode_several(
        self,
        maps: dict[str, np.ndarray],
        limit: int,
        *,
        threshold: float = 0.1,
        min_distance: float = 2.0,
        focus_xy: tuple[float, float] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The joints of up to `limit` people, surest first: (N, K, 2) input pixels, (N, K) scores, (N,) pose scores.

        maps: of one picture, as for `decode`. A person is a cell of the centre map of at least `threshold` that none
        within `min_distance` cells exceeds. focus_xy: with it, the person that `decode` finds there stands first,
        whatever their score, and peaks within `min_distance` of that cell are left out. The same person may come from
        two peaks (featherpose.runtime.several suppresses such doubles).
        """
        center = maps["center"][0]  # (H, W)
        cells = _cells(center, threshold)
        chosen = [] if focus_xy is None else [self._nearest_of(cells, center, threshold, focus_xy)]  # at most `limit`
        for row, column in _peaks(cells, min_distance):
            if len(chosen) >= limit:
                break
            if all((row - r) ** 2 + (column - c) ** 2 > min_distance**2 for r, c in chosen):
                chosen.append((row, column))
        rows, columns = [row for row, _ in chosen[:limit]], [column for _, column in chosen[:limit]]
        return *self._joints_at(maps, rows, columns), center[rows, columns]


MAPS = ("center", "heatmap", "regression", "offset")
"""The maps a network of this kind returns, in the order of an exported graph's outputs."""


VOTE_FLOOR = np.float32(1e-12)
"""Added to the weight of every vote, so that cells without any score still have a mean."""

_SIDES = np.array([-1, 0, 1])
TOP_FLOOR = np.float32(1e-6)
"""Heatmaps below it count as it: their logarithm says nothing."""
TOP_FLAT = np.float32(1e-3)
"""Curves that bend less have no top to speak of."""

MOST_CELLS = 512
"""Cells of the centre map that are looked at for peaks; people fill some ten each."""


def _cells(values: np.ndarray, threshold: float) -> dict[tuple[int, int], float]:
    """(row, column) -> value of the cells of (H, W) values that reach the threshold, row by row: few, for plain Python."""
    rows, columns = (values >= threshold).nonzero()
    return dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), values[rows, columns].tolist(), strict=True))


def _peaks(cells: dict[tuple[int, int], float], reach: float) -> Iterator[tuple[int, int]]:
    """(row, column) of the `_cells` that none within `reach` exceeds, best first."""
    steps = _steps(reach)
    for (row, column), value in sorted(cells.items(), key=lambda cell: -cell[1])[:MOST_CELLS]:
        if all(cells.get((row + down, column + across), value) <= value for down, across in steps):
            yield row, column


@lru_cache(maxsize=8)
def _steps(reach: float) -> list[tuple[int, int]]:
    """(down, across) from a cell to every other within reach, the nearest first."""
    sides = range(-int(reach), int(reach) + 1)
    steps = [(down, across) for down in sides for across in sides if 0 < down * down + across * across <= reach**2]
    return sorted(steps, key=lambda step: math.hypot(*step))


def _within(values: np.ndarray, low: int, high: int) -> bool:
    """Whether all of a few whole numbers are in [low, high)."""
    numbers = values.ravel().tolist()
    return min(numbers) >= low and max(numbers) < high


def _boxes(points: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corners (P, 2) of the boxes around the known ones of (P, K, 2) points; inf and -inf for none."""
    known = known[:, :, None]
    return points.min(axis=1, initial=np.inf, where=known), points.max(axis=1, initial=-np.inf, where=known)


def _corners(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a region."""
    return columns.start, rows.start, columns.stop, rows.stop


@lru_cache(maxsize=8)
def _indices(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)


@lru_cache(maxsize=8)
def _around(reach: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns and rows to each of (2 reach + 1)^2 cells around one, float32, and how far they are in a flat map."""
    down, across = (steps.ravel() for steps in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return across.astype(np.float32), down.astype(np.float32), down * width + across


@lru_cache(maxsize=64)
def _focus(width: int, height: int, x: float, y: float, softening: float) -> np.ndarray:
    """(H, W) weights 1 / (distance to (x, y) in cells + softening), section 2.1 of the official decoding."""
    columns, rows = _indices(width, height)
    distance = np.sqrt((rows[:, None] - np.float32(y)) ** 2 + (columns[None, :] - np.float32(x)) ** 2)
    distance += np.float32(softening)
    return np.divide(np.float32(1), distance, out=distance)

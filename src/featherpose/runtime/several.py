"""Several people: up to N poses from one pass, without doubles, and who is who over time.

The network's maps hold everybody in its view already: one pass serves all, only the decoding is done once per person.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featherpose.geometry import crop_map, invert, transform, transform_point, warp
from featherpose.pose import Pose
from featherpose.runtime.motion import Motion, alike, begin, colours_of, evidence, matches, moved_on, overlaps
from featherpose.runtime.one_euro import OneEuro, filter_of
from featherpose.runtime.photos import as_image
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.smart_crop import smart_crop, whole_frame

DOUBLE = 0.5
"""Likeness from which two poses of one frame are one person: COCO's loosest OKS. A guess that held on the clips."""
SPARE = 3
"""So many more than asked for are decoded: some come out twice, and some are nobody."""
FREE = 0.2
"""Most overlap of two people's boxes at which the clothes of each are seen."""


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
        return [predictor.look(image, region_xyxy, quick=True)]
    outputs = predictor.backend.run(warp(image, to_input, spec.input_size, quick=True)[None])
    maps = {name: values[0] for name, values in outputs.items()}
    focus = None if focus_xy is None else transform_point(to_input, focus_xy)
    xy, score, pose_score = predictor._codec.decode_several(maps, limit, threshold=threshold, focus_xy=focus)
    xy = transform(invert(to_input), xy.astype(np.float64))
    return without_doubles(
        [Pose(xy[n], score[n], spec.skeleton, float(pose_score[n]), region_xyxy) for n in range(len(xy))]
    )


def everybody(predictor: Predictor, image: np.ndarray, limit: int) -> list[Pose]:
    """Up to `limit` people of a photo, surest first: one look at the whole, then, if `predictor.refine`, a closer one at each.

    Raises ValueError for a limit below one, and for models with their decoding inside, which find one person.
    """
    look = SeveralTracker(predictor, limit=limit, smoothing=False, refine=predictor.refine)
    return list(look(image, 0.0).values())


def without_doubles(poses: Sequence[Pose], double: float = DOUBLE) -> list[Pose]:
    """The poses in their order, less those that are too like one before them."""
    if len(poses) < 2:
        return list(poses)
    similar = alike(poses) >= double
    kept: list[int] = []
    for index in range(len(poses)):
        if not similar[index, kept].any():
            kept.append(index)
    return [poses[index] for index in kept]


def assign(value: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) with the largest sum of values, no row or column twice, none below `least`.

    value: (N, M). The Hungarian method in O(n^3): people in a frame are few, and SciPy is no requirement of the base.
    """
    rows, columns = value.shape
    if rows == 0 or columns == 0:
        return []
    if rows > columns:
        return sorted((row, column) for column, row in assign(value.T, least))
    best = value.argmax(axis=1).tolist()
    wanted = [(row, column) for row, column in enumerate(best) if value[row, column] >= least]
    if len({column for _, column in wanted}) == len(wanted):  # each row can have its best: no sum is larger
        return wanted
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


def checked_time(timestamp: float) -> float:
    """A time in seconds; ValueError when it is no number."""
    try:
        seconds = float(timestamp)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"a timestamp must be a number of seconds, got {timestamp!r}")
    return seconds


def clothes_of(image: np.ndarray, poses: Sequence[Pose]) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """(N, 4, 3) colours of everybody's clothes, and a list of the same with None for who does not stand free of others.

    The first is for comparing, the second for learning: where two overlap, the one behind shows the other's clothes.
    """
    seen = colours_of(image, poses)
    if len(poses) < 2:
        return seen, list(seen)
    crowded = (overlaps(np.array([pose.xy for pose in poses])) >= FREE).sum(axis=1) > 1
    return seen, [None if near else colours for colours, near in zip(seen, crowded, strict=True)]


@dataclass
class _Person:
    """Somebody who has a number."""

    motion: Motion
    smoothing: OneEuro | None


class SeveralTracker:
    """Follows everybody, each under a number that stays: `SeveralTracker(predictor)(frame, timestamp) -> {id: Pose}`.

    One look at the whole frame serves all, so people must be large enough in it; `refine` looks at each more closely.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        limit: int = 6,
        smoothing: OneEuro | bool | None = True,
        refine: bool = False,
        found: float = 0.33,
        same: float = 0.2,
        memory: float = 1.0,
        clothes: float = 0.6,
    ) -> None:
        """limit: most people in a frame. smoothing: as Tracker takes it. refine: a second look at each, in one batch.

        found: least evidence (motion.evidence) of a new person. same: least value (motion.matches) of a known one.
        memory: seconds for which a number waits for its person. clothes: what different clothes take off that value.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1 person, got {limit}")
        if predictor.spec.outputs != "raw":
            raise ValueError(
                f"model '{predictor.spec.name}' has its decoding inside and finds one person; export it with --raw"
            )
        self.predictor, self.limit, self.refine = predictor, limit, refine
        self.found, self.same, self.memory, self.clothes = found, same, memory, clothes
        self._filter = filter_of(smoothing)
        self.reset()

    @property
    def state(self) -> str:
        """found or lost: whether anybody was seen in the last frame."""
        return "found" if self.poses else "lost"

    def reset(self) -> None:
        """Forgets everybody; numbers start again from 1."""
        self.poses: dict[int, Pose] = {}
        """The last frame's answer."""
        self._people: dict[int, _Person] = {}
        self._next, self._time, self._size_wh = 1, None, None
        self._before: float | None = None
        """Time of the frame before this one."""

    def __call__(self, frame: np.ndarray | None, timestamp: float) -> dict[int, Pose]:
        """Number -> pose, smoothed, of everybody seen in this frame; frames and times as Tracker takes them."""
        image = None if frame is None else as_image(frame)
        timestamp = checked_time(timestamp)
        if timestamp == self._time:
            return self.poses
        size_wh = None if image is None else (image.shape[1], image.shape[0])
        if (self._time is not None and timestamp < self._time) or (size_wh and self._size_wh not in (None, size_wh)):
            self.reset()
        self._before, self._time, self._size_wh = self._time, timestamp, size_wh or self._size_wh
        self.poses = {} if image is None else self._look(image)
        return self.poses

    def _look(self, image: np.ndarray) -> dict[int, Pose]:
        poses = look_several(self.predictor, image, whole_frame(self._size_wh), self.limit + SPARE)
        poses = [pose for pose in poses if evidence(pose) >= self.found][: self.limit]
        if self.refine:
            poses = self._closer(image, poses)
        seen, learned = clothes_of(image, poses)
        people = {k: p for k, p in self._people.items() if p.motion.seen_within(self.memory, self._time, self._before)}
        numbers = list(people)
        value = matches([person.motion for person in people.values()], poses, seen, self._time, self.clothes)
        pairs = assign(value, self.same)
        number_of = {index: numbers[row] for row, index in pairs}
        answer = {}
        for index, pose in enumerate(poses):
            number = number_of.get(index)
            if number is None:
                number, self._next = self._next, self._next + 1
                motion = begin(pose, self._time, learned[index])
                people[number] = _Person(motion, None if self._filter is None else self._filter.copy())
            else:
                people[number].motion = moved_on(people[number].motion, pose, self._time, learned[index])
            answer[number] = self._smoothed(people[number], pose)
        self._people = people
        return answer

    def _closer(self, image: np.ndarray, poses: list[Pose]) -> list[Pose]:
        """Everybody once more, each in a square of their own; whoever is not the same there stays as first seen."""
        threshold = self.predictor.spec.joint_threshold
        regions = [smart_crop(pose, self._size_wh, threshold) for pose in poses]
        again = self.predictor.look_batch([image] * len(poses), regions, named=True)
        return without_doubles([b if alike([a, b])[0, 1] >= DOUBLE else a for a, b in zip(poses, again, strict=True)])

    def _smoothed(self, person: _Person, pose: Pose) -> Pose:
        if person.smoothing is None:
            return pose
        seen = pose.score > self.predictor.spec.joint_threshold
        xy = person.smoothing(pose.xy, self._time, person.motion.size, score=pose.score, seen=seen)
        return replace(pose, xy=xy)

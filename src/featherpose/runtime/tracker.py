"""One person followed through a video: `Tracker(predictor)(frame, timestamp) -> Pose | None`.

Between frames it looks once, at the square that the last pose gives (smart_crop), and keeps to the person it had even
when others come near. The rules stand in docs/tracking.md with the figures that chose them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featherpose.geometry import middle_of, square_around, whole_pixels
from featherpose.pose import Pose
from featherpose.runtime.motion import (
    Motion,
    alike,
    begin,
    colour_likeness,
    counted,
    evidence,
    likeness,
    matches,
    moved_on,
    overlap,
)
from featherpose.runtime.one_euro import OneEuro, filter_of
from featherpose.runtime.photos import as_image
from featherpose.runtime.predictor import Predictor, checked_box, checked_point
from featherpose.runtime.several import DOUBLE, assign, checked_time, clothes_of, look_several
from featherpose.runtime.smart_crop import smart_crop, whole_frame

STATES = ("found", "uncertain", "lost")


@dataclass(frozen=True)
class Lock:
    """When a person counts as found, as the same one, and as gone. Scores in [0, 1], times in seconds."""

    found: float = 0.33
    """Least evidence (motion.evidence) to find somebody."""
    kept: float = 0.2
    """Least evidence to stay with somebody."""
    same: float = 0.2
    """Least value (motion.matches, times `own`) of a pose for the person followed."""
    own: float = 1.25
    """Factor of the match values of the person followed, against those of neighbours, who are remembered for long and come out
    doubled at times: a pose that fits both is the target's."""
    apart: float = 0.25
    """Who is so alike (motion.alike) to the person followed in the same frame does not become a neighbour: in a crowd the
    target comes out twice, the second time askew, more often than somebody is first seen right on top of them."""
    patience: float = 0.5
    """So long after they were last seen somebody is uncertain, then lost."""
    memory: float = 3.0
    """So long after they were last seen nobody else is taken instead."""
    doubt: float = 0.15
    """So long unseen, a person may be taken up again elsewhere than where they should be, but within `roam`."""
    roam: tuple[float, float] = (0.5, 1.5)
    """How far from where they should be they may come back: body sizes, and more for every second unseen."""
    alone: float = 2.0
    """`roam` is so much wider while no neighbour is remembered."""
    size_change: float = 1.7
    """By what factor, up or down, a lost person's size may have changed when they come back."""
    clothes: float = 0.6
    """What different clothes take off a likeness; 0 does not look at colours."""
    sure: float = 0.5
    """Likeness (motion.likeness) from which somebody who is alone in the picture is taken without a look at their clothes,"""
    dressing: float = 0.2
    """but for one in so many seconds."""
    same_clothes: float = 0.3
    """Least likeness of the clothes of somebody taken up again elsewhere."""
    people: int = 5
    """Most poses that are looked at in one frame."""
    center: float = 0.1
    """Least value of the centre map for those that are not the person followed."""
    others: float = 3.0
    """So long a neighbour is remembered without being seen."""


class Tracker:
    """Follows one person: the one nearest the middle of the first frame, or the one that `start` names.

    track = Tracker(Predictor())
    for frame, timestamp in video:
        pose = track(frame, timestamp)  # None while nobody is there
        track.state  # "found", "uncertain" or "lost"
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        smoothing: OneEuro | bool | None = True,
        lock: Lock | None = Lock(),
        crop_alpha: float = 1.0,
    ) -> None:
        """smoothing: a filter of its own, True for the default one, False or None for none.

        lock: None takes whoever is nearest the middle of the crop in every frame, as the official demos do.
        crop_alpha: share of the new crop in the crop that is looked at; 1 does not low-pass it, tfjs takes 0.9.
        """
        if not 0 < crop_alpha <= 1:
            raise ValueError(f"crop_alpha must be above 0 and at most 1, got {crop_alpha}")
        self.predictor = predictor
        self.lock = lock
        self.crop_alpha = crop_alpha
        self.smoothing = filter_of(smoothing)
        self.reset()

    def reset(self) -> None:
        """Forgets the person and the time: the next frame is a first frame. What `start` asked for stays."""
        self.state = "lost"
        """One of STATES, for the last frame."""
        self.pose: Pose | None = None
        """The last frame's pose, smoothed, as it was returned."""
        self._time: float | None = None
        self._before: float | None = None
        """Time of the frame before this one."""
        self._size_wh: tuple[int, int] | None = None
        self._forget()
        self._start: tuple[str, Sequence[float]] | None = getattr(self, "_start", None)
        self._asked_at: float | None = None
        """When the person of `start` was first looked for."""

    def _forget(self) -> None:
        self._motion: Motion | None = None
        self._others: list[Motion] = []
        self._crop: np.ndarray | None = None
        self._searches = 0
        self._clothes: np.ndarray | None = None
        if self.smoothing is not None:
            self.smoothing.reset()

    def start(self, *, point: tuple[float, float] | None = None, box: Sequence[float] | None = None) -> None:
        """Names the person to follow from the next frame on: nearest a point (x, y), or in a box (x1, y1, x2, y2).

        Pixels of the frame. Whoever was followed is forgotten. A point or box outside that frame is refused there. While
        nobody is to be seen (a picture that fades in), the next frames are asked too, for up to `Lock.memory`.
        """
        if (point is None) == (box is None):
            raise ValueError("give a point or a box to start from, one of them")
        self._start = ("point", point) if point is not None else ("box", box)
        self._asked_at = None

    def __call__(self, frame: np.ndarray | None, timestamp: float) -> Pose | None:
        """The person's pose in pixels of this frame, smoothed; None while they are lost.

        frame: an array as `photos.as_image` takes it, or None for a frame that is missing: then the person counts as not
        seen. timestamp: seconds. A time that stands still gives the last answer again; one that goes back, or a frame of
        another size, begins anew. ValueError for a frame that is no picture and a timestamp that is no number.
        """
        image = None if frame is None else as_image(frame)
        timestamp = checked_time(timestamp)
        if self._time is not None and timestamp == self._time and (self._start is None or self._asked_at is not None):
            return self.pose
        size_wh = None if image is None else (image.shape[1], image.shape[0])
        if size_wh is not None:
            self._check_start(size_wh)
        if (self._time is not None and timestamp < self._time) or (size_wh and self._size_wh not in (None, size_wh)):
            self.reset()
        self._before, self._time = self._time, timestamp
        if image is None:
            self._not_seen()
        else:
            self._size_wh = size_wh
            self._look(image)
        return self.pose

    def _check_start(self, size_wh: tuple[int, int]) -> None:
        """Refuses a place outside the frame before anything changes; it is not tried again."""
        if self._start is None:
            return
        kind, where = self._start
        try:
            checked_point(where, size_wh) if kind == "point" else checked_box(where, size_wh)
        except ValueError:
            self._start = None
            raise

    # --- one frame ----------------------------------------------------------------------------------------------------

    def _look(self, image: np.ndarray) -> None:
        if self._start is not None:
            self._look_for_asked(image)
        elif self.lock is None:
            self._follow_plainly(image)
        elif self._motion is None:
            self._find_anybody(image)
        elif self._motion.seen_within(self.lock.patience, self._time, self._before):
            self._follow(image)
        elif self._time - self._motion.seen_at <= self.lock.memory:
            self._search(image)
        else:
            self._forget()
            self._find_anybody(image)

    def _look_for_asked(self, image: np.ndarray) -> None:
        self._asked_at = self._time if self._asked_at is None else self._asked_at
        self._forget()
        pose = self._first_at(image, *self._start)
        found = self._is_somebody(pose)
        if found or self._time - self._asked_at > (self.lock or Lock()).memory:
            self._start = None
        self._seen(pose) if found else self._not_seen()

    def _is_somebody(self, pose: Pose) -> bool:
        return evidence(pose) >= (self.lock or Lock()).found

    def _first_at(self, image: np.ndarray, kind: str, where: Sequence[float]) -> Pose:
        if kind == "point":
            return self.predictor(image, point=checked_point(where, self._size_wh))
        box = checked_box(where, self._size_wh)
        region = square_around(box, self.predictor.spec.crop_margin)
        people = (self.lock or Lock()).people
        poses = look_several(self.predictor, image, region, people, focus_xy=middle_of(box))
        margin = 0.05 * float((box[2:] - box[:2]).max())
        return max(poses, key=lambda pose: overlap(box.reshape(2, 2), pose.xy[counted(pose)], margin))

    def _find_anybody(self, image: np.ndarray) -> None:
        """The first frame, or long after everybody was gone: who is nearest the middle."""
        pose = self.predictor.look(image, whole_frame(self._size_wh))
        if self._is_somebody(pose):
            pose = self._closer(image, pose)
        self._seen(pose) if self._is_somebody(pose) else self._not_seen()

    def _closer(self, image: np.ndarray, pose: Pose) -> Pose:
        """The same person by a second look, at the square that the first one gives."""
        region = smart_crop(pose, self._size_wh, self.predictor.spec.joint_threshold)
        if np.array_equal(region, whole_frame(self._size_wh)):
            return pose
        closer = self.predictor.look(image, region, focus_xy=begin(pose, self._time).centre_at(self._time))
        return closer if alike([pose, closer])[0, 1] >= DOUBLE else pose

    def _follow_plainly(self, image: np.ndarray) -> None:
        """The official rule: one look at the last crop, whoever is nearest its middle."""
        region = whole_frame(self._size_wh) if self._crop is None else whole_pixels(self._crop, self.predictor.spec.input_size)
        focus = None if self._crop is None else middle_of(region)
        pose = self.predictor.look(image, region, focus_xy=focus, quick=True)
        counts = pose.score > self.predictor.spec.joint_threshold
        if counts.any() and pose.score[counts].mean() >= OFFICIAL_LEAST_SCORE:
            self._seen(pose)
        else:
            self._forget()
            self._not_seen()

    def _follow(self, image: np.ndarray) -> None:
        """One look at the last crop, a little larger if that missed them."""
        unseen = self._time - self._motion.seen_at
        region = self._crop if self.state == "found" else square_around(self._crop, 1 + unseen)
        pose = self._mine(image, self._poses(image, region, self._motion.centre_at(self._time)))
        self._seen(pose) if pose is not None else self._not_seen()

    def _search(self, image: np.ndarray) -> None:
        """Lost, but not for long: the whole frame and a growing crop in turn, and a second look at who may be the same."""
        unseen = self._time - self._motion.seen_at
        self._searches += 1
        region, focus = whole_frame(self._size_wh), None
        if self._searches % 2 == 0:
            region, focus = square_around(self._crop, 1 + unseen), self._motion.centre_at(self._time)
        pose = self._mine(image, self._poses(image, region, focus))
        if pose is not None:
            pose = self._closer(image, pose)
        if pose is None or not self._is_somebody(pose):
            return self._not_seen()
        if self.smoothing is not None:
            self.smoothing.reset()
        self._motion = replace(begin(pose, self._time, self._motion.colours), size=self._motion.size)
        self._seen(pose)

    def _poses(self, image: np.ndarray, region: np.ndarray, focus: np.ndarray | None) -> list[Pose]:
        region = whole_pixels(region, self.predictor.spec.input_size)
        poses = look_several(
            self.predictor, image, region, self.lock.people, threshold=self.lock.center, focus_xy=focus
        )
        return [pose for pose in poses if evidence(pose) >= self.lock.kept]

    def _mine(self, image: np.ndarray, poses: list[Pose]) -> Pose | None:
        """Shares the poses out among the person followed and their neighbours; theirs, or None."""
        if self._is_plain(poses):
            return poses[0]
        tracks = [self._motion, *self._others]
        clothes, learned = clothes_of(image, poses)
        value = matches(tracks, poses, clothes, self._time, self.lock.clothes)
        value[0] *= self.lock.own
        pairs = dict(assign(value, self.lock.same))
        taken = {index for row, index in pairs.items() if row > 0}
        mine = pairs.get(0)
        if mine is None:
            mine = self._come_back(poses, clothes, taken)
        others = [
            moved_on(track, poses[pairs[row]], self._time, learned[pairs[row]]) if row in pairs else track
            for row, track in enumerate(self._others, 1)
        ]
        if mine is not None:  # somebody is known to be another only while the target is seen beside them
            rest = [i for i, pose in enumerate(poses) if i not in taken and i != mine and self._is_somebody(pose)]
            if rest:
                near = alike([poses[mine], *(poses[i] for i in rest)])[0, 1:] >= self.lock.apart
                others += [begin(poses[i], self._time, learned[i]) for i, same in zip(rest, near, strict=True) if not same]
        others = [track for track in others if track.seen_within(self.lock.others, self._time, self._before)]
        self._others = sorted(others, key=lambda track: -track.seen_at)[: 2 * self.lock.people]
        self._clothes = None if mine is None else learned[mine]
        return None if mine is None else poses[mine]

    def _is_plain(self, poses: list[Pose]) -> bool:
        """Whether there is nobody to be mistaken for: one pose, where the person should be, and no neighbour."""
        if len(poses) != 1 or self._others or self._time - self._motion.dressed_at >= self.lock.dressing:
            return False
        return likeness(self._motion, poses[0], self._time) >= self.lock.sure

    def _come_back(self, poses: list[Pose], clothes: np.ndarray, taken: set[int]) -> int | None:
        """Index of the pose, not a neighbour's, that may be the person after some time unseen; the nearest of several."""
        lock, motion = self.lock, self._motion
        unseen = self._time - motion.seen_at
        if unseen < lock.doubt:
            return None
        reach = (lock.roam[0] + lock.roam[1] * unseen) * motion.size * (1 if self._others else lock.alone)
        dressed = np.full(len(poses), np.nan)
        if lock.clothes and motion.colours is not None:
            dressed = colour_likeness(motion.colours, clothes)
        fits = []
        for index, pose in enumerate(poses):
            again = begin(pose, self._time)
            away = float(np.linalg.norm(again.centre_at(self._time) - motion.centre_at(self._time)))
            change = max(again.size / motion.size, motion.size / again.size)
            if np.isnan(dressed[index]):  # without clothes to tell by, it is too early while others are about
                strange = bool(self._others) and unseen < lock.patience
            else:
                strange = dressed[index] < lock.same_clothes
            near = away <= reach and change <= lock.size_change
            if index not in taken and near and not strange and self._is_somebody(pose):
                fits.append((away / reach + 0.5 * (change - 1), index))
        return min(fits)[1] if fits else None

    # --- what a frame ends with ---------------------------------------------------------------------------------------

    def _seen(self, pose: Pose) -> None:
        clothes, self._clothes = self._clothes, None
        if self._motion is None:
            self._motion = begin(pose, self._time)
        else:
            self._motion = moved_on(self._motion, pose, self._time, clothes)
        self._searches = 0
        self.state = "found"
        self.pose = pose
        if self.smoothing is not None:
            seen = pose.score > self.predictor.spec.joint_threshold
            xy = self.smoothing(pose.xy, self._time, self._motion.size, score=pose.score, seen=seen)
            self.pose = replace(pose, xy=xy)
        crop = smart_crop(self.pose, self._size_wh, self.predictor.spec.joint_threshold)
        self._crop = crop if self._crop is None else self._crop + self.crop_alpha * (crop - self._crop)

    def _not_seen(self) -> None:
        motion = self._motion
        if motion is None or self.lock is None or self._time - motion.seen_at > self.lock.patience:
            self.state, self.pose = "lost", None
            return
        self.state = "uncertain"
        pose = motion.pose
        self.pose = replace(pose, xy=motion.at(self._time), score=pose.score * UNCERTAIN_SCORE)


OFFICIAL_LEAST_SCORE = 0.25
"""tfjs: below this mean score of the joints that count, the next look is at the whole frame."""
UNCERTAIN_SCORE = 0.5
"""Scores of a pose that is only carried on are multiplied by it."""

"""How well one person is followed through a clip: on whom the track is, how fast it comes back, how calm and how late it is.

Every figure is taken from a `Track`: what came out for each frame of a clip, beside the truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featherpose.metrics.oks import average_recall, nearness
from featherpose.metrics.truth import mean
from featherpose.skeletons import Skeleton

SAME_PERSON = 0.5
"""OKS from which a track is taken to be on a person; COCO's loosest threshold."""
TRACKABLE = 0.25
"""Share of the target's joints that must be visible for a frame to count: in profile, about half of them are."""
GONE = 0.06
"""At most this share of visible joints (one of 17) and the target is hidden or out of the picture."""


@dataclass(frozen=True)
class Track:
    """T frames of one clip: what a tracker said, and the truth of P persons with K joints, the target in row 0."""

    name: str
    skeleton: Skeleton
    times: np.ndarray
    """(T,) seconds."""
    xy: np.ndarray
    """(T, K, 2) pixels as tracked; NaN in frames for which there was no pose."""
    score: np.ndarray
    """(T, K); 0 in frames for which there was no pose."""
    found: np.ndarray
    """(T,) bool: the tracker was sure that this is the target."""
    truth_xy: np.ndarray
    """(T, P, K, 2) pixels, NaN where unknown."""
    visibility: np.ndarray
    """(T, P, K): 0 unlabelled or outside the picture, 1 occluded, 2 visible."""
    area: np.ndarray
    """(T, P) px^2."""

    @property
    def seen(self) -> np.ndarray:
        """(T, P): share of each person's joints that are visible."""
        return (self.visibility == 2).mean(axis=2)

    @property
    def size(self) -> np.ndarray:
        """(T,) px: the target's size, the larger side of the box of all its joints; NaN where it is out of the picture."""
        return body_size(self.truth_xy[:, 0]) if self.truth_xy.shape[1] else np.full(len(self.times), np.nan)


def body_size(xy: np.ndarray) -> np.ndarray:
    """(T,): larger side of the box around the joints (T, K, 2) that are not NaN; NaN without two."""
    known = np.isfinite(xy).all(axis=2)
    low = np.where(known[..., None], xy, np.inf).min(axis=1)
    high = np.where(known[..., None], xy, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(known.sum(axis=1) >= 2, (high - low).max(axis=1), np.nan)


def similarity(track: Track) -> np.ndarray:
    """(T, P): OKS of the tracked pose with every person; NaN for persons without a labelled joint in that frame."""
    labelled = (track.visibility > 0) & np.isfinite(track.truth_xy).all(axis=3)
    away = ((track.xy[:, None] - track.truth_xy) ** 2).sum(axis=3)  # (T, P, K)
    near = nearness(np.where(np.isfinite(away), away, np.inf), track.area, track.skeleton)
    return mean(np.where(labelled, near, np.nan), axis=2)


def identities(numbered: Sequence[dict[int, np.ndarray]], track: Track) -> dict[str, float]:
    """How well everybody in a clip is found and keeps a number; the truth of `track` counts, not its own poses.

    numbered: T times number -> joints (K, 2). found: share of all persons in frames where they are TRACKABLE on whom a
    pose lies (OKS of SAME_PERSON). changes: how often per person the number of the nearest such pose is another than
    before. extra: poses per frame that lie on nobody in the picture.
    """
    persons = track.truth_xy.shape[1]
    found, changes, extra, last = [], 0, 0, [0] * persons
    for index, poses in enumerate(numbered):
        here = {
            name: np.asarray(value)[[index]] for name, value in vars(track).items() if name not in ("name", "skeleton")
        }
        similar = {
            n: np.nan_to_num(similarity(replace(track, **here | {"xy": xy[None]}))[0]) for n, xy in poses.items()
        }
        extra += sum(not (row >= SAME_PERSON).any() for row in similar.values())
        for person in np.flatnonzero(track.seen[index] >= TRACKABLE):
            near = {number: row[person] for number, row in similar.items() if row[person] >= SAME_PERSON}
            found.append(bool(near))
            if near:
                number = max(near, key=near.__getitem__)
                changes += last[person] not in (0, number)
                last[person] = number
    return {
        "found": float(np.mean(found)) if found else float("nan"),
        "changes": changes / persons if persons else float("nan"),
        "extra": extra / max(len(numbered), 1),
    }


def on_whom(similar: np.ndarray) -> np.ndarray:
    """(T,): the person with the largest OKS if that is SAME_PERSON or more, else -1."""
    if similar.shape[1] == 0:
        return np.full(len(similar), -1)
    filled = np.nan_to_num(similar)
    return np.where(filled.max(axis=1) >= SAME_PERSON, filled.argmax(axis=1), -1)


def following(tracks: Sequence[Track]) -> dict[str, float]:
    """Figures of many clips together; NaN where no clip tells. Only frames in which the tracker was sure are on somebody.

    AR: average recall over the frames in which the target is TRACKABLE; a frame without a pose counts 0.
    wrong: share of those frames in which the track is on another person.
    switches: how often per clip it goes over from the target to another person, gaps between them or not.
    reacquire: mean seconds until the track is on the target, after it was GONE and becomes TRACKABLE again, at most the
    time until the clip ends or the target is gone again. missed: share of such returns after which that never happened.
    stranger: share of the frames in which the target is GONE, but others are not, with the track on one of the others.
    false_alarm: share of the frames in which nobody is in the picture with a pose said to be found.
    """
    recalls, wrong, switches, waits, missed, stranger, alarms = [], [], [], [], [], [], []
    for track in tracks:
        persons = track.truth_xy.shape[1]
        similar = similarity(track)
        on = np.where(track.found, on_whom(similar), -1)
        seen = track.seen
        nobody = ~(track.visibility > 0).any(axis=(1, 2))
        alarms.append(track.found[nobody])
        if persons == 0:
            continue
        there, gone = seen[:, 0] >= TRACKABLE, seen[:, 0] <= GONE
        recalls.append(similar[there, 0])
        wrong.append(on[there] > 0)
        others = (seen[:, 1:] >= TRACKABLE).any(axis=1)
        stranger.append(on[gone & others] > 0)
        held = [person for person in on if person >= 0]
        switches.append(sum(a == 0 and b > 0 for a, b in itertools.pairwise(held)))
        for start, end in _returns(there, gone):
            back = np.flatnonzero(on[start:end] == 0)
            missed.append(len(back) == 0)
            stop = start + back[0] if len(back) else end - 1
            waits.append(track.times[stop] - track.times[start])
    return {
        "AR": average_recall(np.concatenate([*recalls, []]))["AR"],
        "wrong": _mean_of(wrong),
        "switches": float(np.mean(switches)) if switches else float("nan"),
        "reacquire": float(np.mean(waits)) if waits else float("nan"),
        "missed": float(np.mean(missed)) if missed else float("nan"),
        "stranger": _mean_of(stranger),
        "false_alarm": _mean_of(alarms),
    }


def _mean_of(parts: list[np.ndarray]) -> float:
    together = np.concatenate([*parts, np.zeros(0, bool)])
    return float(together.mean()) if len(together) else float("nan")


def _returns(there: np.ndarray, gone: np.ndarray) -> list[tuple[int, int]]:
    """(first frame, frame after the last) of every stay of the target after it was gone."""
    found, was_gone, start = [], False, None
    for index in range(len(there)):
        if gone[index]:
            if start is not None:
                found.append((start, index))
            was_gone, start = True, None
        elif there[index] and was_gone and start is None:
            start = index
    return [*found, *([(start, len(there))] if start is not None else [])]


def jitter(xy: np.ndarray, times: np.ndarray, size: float, counts: np.ndarray | None = None) -> dict[str, float]:
    """How much joints that stand still are shaken: root mean square of their acceleration over all frames.

    xy: (T, K, 2) pixels of joints whose truth does not move; NaN frames are left out. times: (T,) seconds. size: of the
    body, pixels. counts: (K,) bool, joints to take. Returns px_s2 (px/s^2), body_s2 (body sizes/s^2), and spread: the
    standard deviation of the positions in body sizes.
    """
    xy = xy if counts is None else xy[:, counts]
    first, second = np.diff(times[:-1]), np.diff(times[1:])
    steps = np.diff(xy, axis=0) / np.diff(times)[:, None, None]
    acceleration = 2 * np.diff(steps, axis=0) / (first + second)[:, None, None]
    squared = (acceleration**2).sum(axis=2)
    px = float(np.sqrt(mean(squared)))
    middle = mean(xy, axis=0)
    spread = float(np.sqrt(mean(((xy - middle) ** 2).sum(axis=2))))
    return {"px_s2": px, "body_s2": px / size, "spread": spread / size}


LARGEST_LAG = 0.3
"""Seconds; shifts are tried up to it, and as far ahead as a third of it."""
MOVING = 0.25
"""Body sizes a second above which a joint moves: a slower one tells no lag."""


def lag(xy: np.ndarray, truth_xy: np.ndarray, times: np.ndarray, size: np.ndarray) -> dict[str, float]:
    """By how many seconds the track runs behind the truth, and how far off it is on joints that move.

    xy, truth_xy: (T, K, 2) pixels, NaN where there is nothing. size: (T,) px, of the body. Only joints that are MOVING
    count. The lag is the shift s that makes the mean of |xy(t) - truth(t - s) - bias|
    smallest, each joint's constant bias taken out and errors above a fifth of the body cut off there. error is that mean
    at shift 0, in body sizes.
    """
    speed = np.linalg.norm(np.gradient(truth_xy, times, axis=0), axis=2) / size[:, None]
    limits = [shifted(truth_xy, times, shift) for shift in (-LARGEST_LAG / 3, LARGEST_LAG)]
    # the same frames for every shift, or the ends of a clip would decide
    with np.errstate(invalid="ignore"):
        counts = (speed > MOVING) & np.isfinite(xy + limits[0] + limits[1]).all(axis=2)
    if not counts.any():
        return {"seconds": float("nan"), "error": float("nan")}

    def error_at(shift: float) -> float:
        error = np.where(counts[..., None], (xy - shifted(truth_xy, times, shift)) / size[:, None, None], np.nan)
        away = np.linalg.norm(error - median_over_time(error), axis=2)
        return mean(np.where(counts, np.minimum(np.nan_to_num(away), 0.2), np.nan))

    def best_of(shifts: np.ndarray) -> float:
        """The smallest of the best: even motion in a straight line tells no lag at all."""
        errors = np.array([error_at(shift) for shift in shifts])
        good = shifts[errors <= errors.min() + 1e-9]
        return float(good[np.argmin(np.abs(good))])

    coarse = best_of(np.arange(-LARGEST_LAG / 3, LARGEST_LAG + 1e-9, 0.02))
    fine = coarse + np.arange(-0.02, 0.0201, 0.0025)
    seconds = best_of(fine[(fine >= -LARGEST_LAG / 3 - 1e-9) & (fine <= LARGEST_LAG + 1e-9)])
    return {"seconds": seconds, "error": error_at(0.0)}


def shifted(xy: np.ndarray, times: np.ndarray, seconds: float) -> np.ndarray:
    """(T, K, 2): the joints as they were `seconds` before each time, straight between frames; NaN outside."""
    flat = xy.reshape(len(times), -1)
    moved = [np.interp(times - seconds, times, column, left=np.nan, right=np.nan) for column in flat.T]
    return np.stack(moved, axis=1).reshape(xy.shape)


def median_over_time(values: np.ndarray) -> np.ndarray:
    """(K, 2): median over T of (T, K, 2), without a warning where all is NaN."""
    empty = np.isnan(values).all(axis=0)
    return np.nanmedian(np.where(empty, 0.0, values), axis=0)

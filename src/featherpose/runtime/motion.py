"""What is remembered of one body between frames: where it was, how fast it went, and how like it a new pose is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import compress
from statistics import median

import numpy as np

from featherpose.pose import Pose
from featherpose.skeletons import Skeleton, canonical_joint_name

VELOCITY_SECONDS = 0.15
"""Time constant of a body's velocity: long enough to forget one frame's error, short enough to turn with a walker."""
COLOUR_SECONDS = 1.0
"""Time constant of a body's colours."""
COLOUR_SPREAD = 0.12
"""Difference of colours, of 1, at which clothes are 1/e alike."""
HORIZON = 0.8
"""Seconds for which a body that is not seen is taken to go on as it went; then it stays where it would be."""
LIKENESS_REACH = (1.5, 2.0, 3.0)
"""Allowed distance of a joint in OKS sigmas times body size (of 0.42 body heights, as for an upright person of OKS area):
at once, more for every second unseen, at most. Measured on the synthetic clips of docs/tracking.md."""
SIZE_IN_DEVIATIONS = 3.0
OKS_LENGTH = 0.42
"""Root of an upright person's OKS area in body sizes: (.53 x 1 x .33) ** .5."""


@dataclass(frozen=True)
class Motion:
    """One body as last seen."""

    pose: Pose
    """As measured, not smoothed."""
    size: float
    """Of the body as `size_of` has it, pixels, low-passed."""
    velocity: np.ndarray
    """(2,) of the whole body, px/s."""
    seen_at: float
    """Seconds."""
    colours: np.ndarray | None = None
    """(C, 3) of its clothes as `colours_of` gives them, averaged over time, or None."""
    dressed_at: float = -math.inf
    """Seconds: when its clothes were last looked at."""

    @cached_property
    def points(self) -> list[list[float]]:
        """The (x, y) of the joints as plain numbers."""
        return self.pose.xy.tolist()

    @cached_property
    def counts(self) -> list[bool]:
        """Which joints count."""
        return _counted_of(self.pose.score.tolist())

    def at(self, timestamp: float) -> np.ndarray:
        """(K, 2) float64 pixels: the joints at a later time, the whole body moving on evenly for up to HORIZON."""
        return self.pose.xy + self.velocity * self._seconds_to(timestamp)

    def seen_within(self, seconds: float, timestamp: float, before: float | None) -> bool:
        """Whether it was seen so lately, or in the frame before, which may be far off; before: that frame's time."""
        return self.seen_at == before or timestamp - self.seen_at <= seconds

    def centre_at(self, timestamp: float) -> np.ndarray:
        """(2,) pixels: the middle of its joints at a later time, where the centre map should have a peak."""
        x, y = zip(*compress(self.points, self.counts), strict=True)
        middle = np.array([(min(x) + max(x)) / 2, (min(y) + max(y)) / 2])
        return middle + self.velocity * self._seconds_to(timestamp)

    def _seconds_to(self, timestamp: float) -> float:
        """Seconds for which it went on by then."""
        return min(max(timestamp - self.seen_at, 0.0), HORIZON)


def counted(pose: Pose, threshold: float = 0.2) -> np.ndarray:
    """(K,) bool: joints above a score; where fewer than two are, the better half."""
    return _counted(pose.score, threshold)


def _counted_of(score: list[float], threshold: float = 0.2) -> list[bool]:
    """`counted` for the scores of one body in plain numbers."""
    counts = [value > threshold for value in score]
    if sum(counts) < 2:
        middle = median(score)
        counts = [value >= middle for value in score]
    return counts


def _counted(score: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """`counted` for scores (..., K)."""
    counts = score > threshold
    few = np.add.reduce(counts, axis=-1, keepdims=True) < 2
    return np.where(few, score >= np.median(score, axis=-1, keepdims=True), counts) if few.any() else counts


def size_of(pose: Pose) -> float:
    """About the longer side of the body in pixels, at least one: 3 standard deviations of its joints, weighted by score.

    Steadier than the box of the joints that count, which jumps when a leg's score passes a threshold. The 3 is that of
    joints spread evenly over a length (12 ** .5) less a little for arms at the side.
    """
    return float(_sizes(pose.xy[None], pose.score[None])[0])


def _sizes(xy: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(N,) `size_of` of joints (N, K, 2) and scores (N, K)."""
    weight = (score + 1e-3)[:, None]  # (N, 1, K)
    weight /= weight.sum(axis=2, keepdims=True)
    away = xy - weight @ xy
    away *= away
    return np.maximum(SIZE_IN_DEVIATIONS * np.sqrt((weight @ away).sum(axis=(1, 2))), 1.0)


def evidence(pose: Pose) -> float:
    """How sure the model is that here is somebody, in [0, 1]: the mean score of the better half of the joints.

    Half, because of somebody before a web camera only the upper half is in the picture.
    """
    half = max(len(pose.score) // 2, 1)
    return sum(sorted(pose.score.tolist())[-half:]) / half


def begin(pose: Pose, timestamp: float, colours: np.ndarray | None = None) -> Motion:
    """A body seen for the first time, taken to be at rest."""
    return Motion(
        pose, size_of(pose), np.zeros(2), timestamp, colours, -math.inf if colours is None else timestamp
    )


def moved_on(motion: Motion, pose: Pose, timestamp: float, colours: np.ndarray | None = None) -> Motion:
    """The body after it was seen again; colours: seen on it now, or None when they may be somebody else's."""
    dt = timestamp - motion.seen_at
    if dt <= 0:
        return replace(motion, pose=pose)
    now = pose.xy.tolist()
    steps = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(now, motion.points, strict=True)]
    both = [a and b for a, b in zip(motion.counts, _counted_of(pose.score.tolist()), strict=True)]
    x, y = zip(*(compress(steps, both) if any(both) else steps), strict=True)
    velocity = np.array([median(x) / dt, median(y) / dt])
    share = dt / (dt + VELOCITY_SECONDS)
    undressed = timestamp - motion.dressed_at  # infinite if their clothes were never seen: then they are taken over
    return Motion(
        pose,
        size=motion.size + share * (size_of(pose) - motion.size),
        velocity=motion.velocity + share * (velocity - motion.velocity),
        seen_at=timestamp,
        colours=_averaged(motion.colours, colours, 1 - COLOUR_SECONDS / (undressed + COLOUR_SECONDS)),
        dressed_at=motion.dressed_at if colours is None else timestamp,
    )


def _averaged(before: np.ndarray | None, now: np.ndarray | None, share: float) -> np.ndarray | None:
    if before is None or now is None:
        return now if before is None else before
    # a part seen for the first time is taken over, one that is not seen stays as it was
    return np.where(np.isnan(before), now, np.where(np.isnan(now), before, before + share * (now - before)))


# --- likeness ---------------------------------------------------------------------------------------------------------


def likeness(motion: Motion, pose: Pose, timestamp: float) -> float:
    """How like a pose is to the body at that time, in [0, 1]: half OKS of the joints, half overlap of their boxes.

    The longer the body was not seen, the farther the joints may lie from where it should be. In plain numbers, as NumPy
    takes several times as long for one body; `matches` is the same for many.
    """
    first, growth, most = LIKENESS_REACH
    reach = min(first + growth * max(timestamp - motion.seen_at, 0.0), most) * motion.size
    expected, found = motion.at(timestamp).tolist(), pose.xy.tolist()
    known, score = motion.pose.score.tolist(), pose.score.tolist()
    near = total = 0.0
    for (x, y), (a, b), p, q, spread in zip(expected, found, known, score, _spreads(pose.skeleton).tolist(), strict=True):
        weight = math.sqrt(p * q)
        near += weight * math.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * (spread * reach) ** 2))
        total += weight
    theirs = _counted_of(score)
    both = [a and b for a, b in zip(motion.counts, theirs, strict=True)]
    if sum(both) < 2:
        both = [a or b for a, b in zip(motion.counts, theirs, strict=True)]
    shared = overlap(list(compress(expected, both)), list(compress(found, both)), 0.1 * motion.size)
    return (near / max(total, 1e-6) + shared) / 2


def matches(motions: Sequence[Motion], poses: Sequence[Pose], colours: np.ndarray, timestamp: float, clothes: float):
    """(M, N): how well N poses fit M bodies, at most 1: likeness, less up to `clothes` where the clothes differ.

    colours: (N, 4, 3) of the poses, as `colours_of` gives them.
    """
    if not motions or not poses:
        return np.zeros((len(motions), len(poses)))
    value = _likenesses(motions, poses, timestamp)
    if clothes:
        known = np.array([NO_COLOURS if motion.colours is None else motion.colours for motion in motions])
        same = colour_likeness(known[:, None], colours[None])
        value -= clothes * np.where(np.isnan(same), 0.0, 1 - same)
    return value


def _likenesses(motions: Sequence[Motion], poses: Sequence[Pose], timestamp: float) -> np.ndarray:
    """(M, N): `likeness` of everybody with everybody."""
    expected = np.array([motion.at(timestamp) for motion in motions])[:, None]  # (M, 1, K, 2)
    known = np.array([motion.pose.score for motion in motions])[:, None]
    found, score = _arrays(poses)  # (N, K, 2), (N, K)
    first, growth, most = LIKENESS_REACH
    size = np.array([motion.size for motion in motions])[:, None]
    unseen = np.array([max(timestamp - motion.seen_at, 0.0) for motion in motions])[:, None]
    reach = np.minimum(first + growth * unseen, most) * size
    joints = _oks(expected, found, known * score, reach, poses[0].skeleton)
    mine, theirs = _counted(known), _counted(score)
    both = mine & theirs
    both = np.where(both.sum(axis=2, keepdims=True) >= 2, both, mine | theirs)
    margin = 0.1 * size
    return (joints + _overlap(_boxes(expected, both, margin), _boxes(found, both, margin))) / 2


def _arrays(poses: Sequence[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N, K, 2) and scores (N, K)."""
    return np.array([pose.xy for pose in poses]), np.array([pose.score for pose in poses])


def alike(poses: Sequence[Pose]) -> np.ndarray:
    """(N, N): OKS-like similarity of poses in one frame, in [0, 1], weighted by scores: are two of them one person?"""
    xy, score = _arrays(poses)
    size = _sizes(xy, score)
    reach = np.minimum(size[:, None], size)
    return _oks(xy[:, None], xy[None], score[:, None] * score, reach, poses[0].skeleton)


def _oks(a_xy: np.ndarray, b_xy: np.ndarray, scores: np.ndarray, size: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(M, N): similarity of joints (..., K, 2), weighted by the roots of the products of their scores (M, N, K)."""
    spread = _spreads(skeleton) * size[..., None]
    away = a_xy - b_xy
    away *= away
    near = np.exp(-(away[..., 0] + away[..., 1]) / (2 * spread**2))
    weight = np.sqrt(scores)
    return (near * weight).sum(axis=-1) / np.maximum(weight.sum(axis=-1), 1e-6)


@lru_cache(maxsize=8)
def _spreads(skeleton: Skeleton) -> np.ndarray:
    """(K,) standard deviations of the joints in lengths of OKS, for a body of size 1."""
    return 2 * np.array(skeleton.sigmas) * OKS_LENGTH


def overlaps(xy: np.ndarray) -> np.ndarray:
    """(N, N): intersection over union of the boxes around N sets of joints (N, K, 2)."""
    boxes = np.concatenate([xy.min(axis=1), xy.max(axis=1)], axis=1)
    return _overlap(boxes[:, None], boxes[None])


def overlap(first_xy: Sequence, second_xy: Sequence, margin: float) -> float:
    """Intersection over union of the boxes around two sets of points (x, y), each grown by a margin in pixels.

    In plain numbers, see `likeness`.
    """
    inner = mine = theirs = 1.0
    for axis in (0, 1):
        a, b = [point[axis] for point in first_xy], [point[axis] for point in second_xy]
        low, high, left, right = min(a) - margin, max(a) + margin, min(b) - margin, max(b) + margin
        inner *= max(min(high, right) - max(low, left), 0.0)
        mine, theirs = mine * (high - low), theirs * (right - left)
    return float(inner / max(mine + theirs - inner, 1e-9))


def _boxes(xy: np.ndarray, counts: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """(M, N, 4): boxes around the joints that count, (..., K, 2) and (M, N, K), each grown by a margin (M, 1)."""
    low = np.where(counts[..., None], xy, np.inf).min(axis=-2)
    high = np.where(counts[..., None], xy, -np.inf).max(axis=-2)
    return np.concatenate([low - margin[..., None], high + margin[..., None]], axis=-1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4)."""
    inner = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0.0)
    inner = inner[..., 0] * inner[..., 1]
    first, second = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    area = first[..., 0] * first[..., 1] + second[..., 0] * second[..., 1]
    return inner / np.maximum(area - inner, 1e-9)


# --- clothes ----------------------------------------------------------------------------------------------------------

CLOTHES = (
    # the four corners of a part: points are spread evenly between them
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip", (0.2, 0.5)),
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip", (0.55, 0.9)),
    ("left_hip", "left_hip", "left_knee", "left_knee", (0.25, 0.6)),
    ("right_hip", "right_hip", "right_knee", "right_knee", (0.25, 0.6)),
)
"""Parts of a body whose colour tells people apart: chest, belly, thighs; the shares of the way down that are looked at."""


NO_COLOURS = np.full((len(CLOTHES), 3), np.nan)
GRID = 4
"""Points across and down each part of CLOTHES."""


def colours_of(image: np.ndarray, poses: Sequence[Pose], threshold: float = 0.2) -> np.ndarray:
    """(N, 4, 3) RGB in [0, 1] of N people's clothes: the mean colour of each of CLOTHES, NaN where its joints do not count.

    image: (H, W, 3) uint8 RGB; poses: in its pixels.
    """
    if not poses:
        return np.zeros((0, *NO_COLOURS.shape))
    weight, corners, known = _places(poses[0].skeleton)
    xy, score = _arrays(poses)
    whole = (known & ~((score <= threshold) @ corners))[..., None]  # (N, 4, 1): none of its corners is missing
    place = np.floor(weight @ xy).astype(np.int64).reshape(len(poses), len(CLOTHES), GRID * GRID, 2)
    x, y = place[..., 0], place[..., 1]
    inside = (x >= 0) & (x < image.shape[1]) & (y >= 0) & (y < image.shape[0]) & whole
    number = inside.sum(axis=2)[..., None]
    seen = (image[np.where(inside, y, 0), np.where(inside, x, 0)] * inside[..., None]).sum(axis=2)  # (N, 4, 3)
    return np.where(number > 0, seen / (255.0 * np.maximum(number, 1)), np.nan)


@lru_cache(maxsize=8)
def _places(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `colours_of` looks at on a skeleton.

    (4 x 16, K) shares of the joints in each point; (K, 4) bool, the joints that a part needs; (4,) bool, whether the
    skeleton has them.
    """
    place = {canonical_joint_name(name): k for k, name in enumerate(skeleton.joints)}
    weight = np.zeros((len(CLOTHES), GRID, GRID, len(skeleton)))
    known = np.array([all(name in place for name in names) for *names, _ in CLOTHES])
    across, down = np.linspace(0.2, 0.8, GRID)[:, None], np.linspace(0.0, 1.0, GRID)[None, :]
    for part, (*names, (first, last)), whole in zip(weight, CLOTHES, known, strict=True):
        low = first + (last - first) * down
        shares = ((1 - low) * (1 - across), (1 - low) * across, low * (1 - across), low * across)
        for name, share in zip(names if whole else (), shares, strict=False):
            part[..., place[name]] += share
    return weight.reshape(-1, len(skeleton)), (weight > 0).any(axis=(1, 2)).T, known


def colour_likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(...) in [0, 1]: how like two people's clothes (..., 4, 3) are; NaN where no part of both was seen."""
    squared = ((first - second) ** 2).sum(axis=-1) / 3
    known = ~np.isnan(squared)
    number = known.sum(axis=-1)
    apart = np.where(known, squared, 0.0).sum(axis=-1) / np.maximum(number, 1)
    return np.where(number > 0, np.exp(-apart / COLOUR_SPREAD**2), np.nan)

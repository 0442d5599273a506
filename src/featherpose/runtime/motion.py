"""What is remembered of one body between frames: where it was, how fast it went, and how like it a new pose is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from featherpose.geometry import box_of_points
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
    """Larger side of the box of its joints, pixels, low-passed."""
    velocity: np.ndarray
    """(2,) of the whole body, px/s."""
    seen_at: float
    """Seconds."""
    colours: np.ndarray | None = None
    """(C, 3) of its clothes as `colours_of` gives them, averaged over time, or None."""

    def at(self, timestamp: float) -> np.ndarray:
        """(K, 2) float64 pixels: the joints at a later time, the whole body moving on evenly for up to HORIZON."""
        return self.pose.xy + self.velocity * min(max(timestamp - self.seen_at, 0.0), HORIZON)

    def centre_at(self, timestamp: float) -> np.ndarray:
        """(2,) pixels: the middle of its joints at a later time, where the centre map should have a peak."""
        xy = self.at(timestamp)
        counts = counted(self.pose)
        box = box_of_points(xy[counts] if counts.any() else xy)
        return (box[:2] + box[2:]) / 2


def counted(pose: Pose, threshold: float = 0.2) -> np.ndarray:
    """(K,) bool: joints above a score; where fewer than two are, the better half."""
    counts = pose.score > threshold
    return counts if counts.sum() >= 2 else pose.score >= np.median(pose.score)


def size_of(pose: Pose) -> float:
    """About the longer side of the body in pixels, at least one: 3 standard deviations of its joints, weighted by score.

    Steadier than the box of the joints that count, which jumps when a leg's score passes a threshold. The 3 is that of
    joints spread evenly over a length (12 ** .5) less a little for arms at the side.
    """
    weight = (pose.score + 1e-3)[:, None] / (pose.score + 1e-3).sum()
    middle = (weight * pose.xy).sum(axis=0)
    return max(SIZE_IN_DEVIATIONS * float(np.sqrt((weight * (pose.xy - middle) ** 2).sum())), 1.0)


def evidence(pose: Pose) -> float:
    """How sure the model is that here is somebody, in [0, 1]: the mean score of the better half of the joints.

    Half, because of somebody before a web camera only the upper half is in the picture.
    """
    half = max(len(pose.score) // 2, 1)
    return float(np.sort(pose.score)[-half:].mean())


def begin(pose: Pose, timestamp: float, colours: np.ndarray | None = None) -> Motion:
    """A body seen for the first time, taken to be at rest."""
    return Motion(pose, size_of(pose), np.zeros(2), timestamp, colours)


def moved_on(motion: Motion, pose: Pose, timestamp: float, colours: np.ndarray | None = None) -> Motion:
    """The body after it was seen again; colours: seen on it now, or None when they may be somebody else's."""
    dt = timestamp - motion.seen_at
    if dt <= 0:
        return replace(motion, pose=pose)
    both = counted(motion.pose) & counted(pose)
    both = both if both.any() else np.ones(len(both), bool)
    velocity = np.median((pose.xy - motion.pose.xy)[both].astype(np.float64), axis=0) / dt
    share = dt / (dt + VELOCITY_SECONDS)
    return replace(
        motion,
        pose=pose,
        size=motion.size + share * (size_of(pose) - motion.size),
        velocity=motion.velocity + share * (velocity - motion.velocity),
        seen_at=timestamp,
        colours=_averaged(motion.colours, colours, dt / (dt + COLOUR_SECONDS)),
    )


def _averaged(before: np.ndarray | None, now: np.ndarray | None, share: float) -> np.ndarray | None:
    if before is None or now is None:
        return now if before is None else before
    # a part seen for the first time is taken over, one that is not seen stays as it was
    return np.where(np.isnan(before), now, np.where(np.isnan(now), before, before + share * (now - before)))


def likeness(motion: Motion, pose: Pose, timestamp: float) -> float:
    """How like a pose is to the body at that time, in [0, 1]: half OKS of the joints, half overlap of their boxes.

    The longer the body was not seen, the farther the joints may lie from where it should be.
    """
    expected = motion.at(timestamp)
    first, growth, most = LIKENESS_REACH
    reach = min(first + growth * max(timestamp - motion.seen_at, 0.0), most)
    spread = 2 * np.array(pose.skeleton.sigmas) * OKS_LENGTH * motion.size * reach
    weight = np.sqrt(motion.pose.score * pose.score)
    near = np.exp(-((pose.xy - expected) ** 2).sum(axis=1) / (2 * spread**2))
    joints = float((near * weight).sum() / max(weight.sum(), 1e-6))
    both = counted(motion.pose) & counted(pose)
    if both.sum() < 2:
        both = counted(motion.pose) | counted(pose)
    return (joints + overlap(expected[both], pose.xy[both], 0.1 * motion.size)) / 2


def alike(first: Pose, second: Pose) -> float:
    """OKS-like similarity of two poses in one frame, in [0, 1], weighted by their scores: are they one person twice?"""
    size = min(size_of(first), size_of(second))
    spread = 2 * np.array(first.skeleton.sigmas) * OKS_LENGTH * size
    weight = np.sqrt(first.score * second.score)
    near = np.exp(-((first.xy - second.xy) ** 2).sum(axis=1) / (2 * spread**2))
    return float((near * weight).sum() / max(weight.sum(), 1e-6))


def overlap(first_xy: np.ndarray, second_xy: np.ndarray, margin: float) -> float:
    """Intersection over union of the boxes around two sets of points, each grown by a margin in pixels."""
    a, b = box_of_points(first_xy), box_of_points(second_xy)
    grow = np.array([-margin, -margin, margin, margin])
    a, b = a + grow, b + grow
    inner = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0))
    return float(inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner))


CLOTHES = (
    # the four corners of a part: points are spread evenly between them
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip", (0.2, 0.5)),
    ("left_shoulder", "right_shoulder", "left_hip", "right_hip", (0.55, 0.9)),
    ("left_hip", "left_hip", "left_knee", "left_knee", (0.25, 0.6)),
    ("right_hip", "right_hip", "right_knee", "right_knee", (0.25, 0.6)),
)
"""Parts of a body whose colour tells people apart: chest, belly, thighs; the shares of the way down that are looked at."""


GRID = 4
"""Points across and down each part of CLOTHES."""


def colours_of(image: np.ndarray, pose: Pose, threshold: float = 0.2) -> np.ndarray:
    """(4, 3) RGB in [0, 1] of the clothes: the mean colour of each of CLOTHES, NaN where its joints do not count.

    image: (H, W, 3) uint8 RGB; pose: in its pixels.
    """
    weight, corners = _places(pose.skeleton)
    counts = np.array([len(some) > 0 and (pose.score[some] > threshold).all() for some in corners])
    place = np.floor(weight @ pose.xy).astype(np.int64).reshape(len(CLOTHES), GRID * GRID, 2)
    inside = ((place >= 0) & (place < (image.shape[1], image.shape[0]))).all(axis=2) & counts[:, None]
    number = inside.sum(axis=1)
    place = np.where(inside[..., None], place, 0)
    seen = np.where(inside[..., None], image[place[..., 1], place[..., 0]], 0).sum(axis=1)  # (4, 3)
    return np.where(number[:, None] > 0, seen / (255.0 * np.maximum(number, 1)[:, None]), np.nan)


@lru_cache(maxsize=8)
def _places(skeleton: Skeleton) -> tuple[np.ndarray, tuple[list[int], ...]]:
    """(4 x 16, K) shares of the joints in each point that is looked at, and the joints of each part; none: unknown."""
    place = {canonical_joint_name(name): k for k, name in enumerate(skeleton.joints)}
    weight, corners = np.zeros((len(CLOTHES), GRID, GRID, len(skeleton))), []
    across, down = np.linspace(0.2, 0.8, GRID)[:, None], np.linspace(0.0, 1.0, GRID)[None, :]
    for part, (*names, (first, last)) in zip(weight, CLOTHES, strict=True):
        corners.append([place[name] for name in names] if all(name in place for name in names) else [])
        low = first + (last - first) * down
        shares = ((1 - low) * (1 - across), (1 - low) * across, low * (1 - across), low * across)
        for k, share in zip(corners[-1], shares, strict=False):
            part[..., k] += share
    return weight.reshape(-1, len(skeleton)), tuple(corners)


def colour_likeness(first: np.ndarray | None, second: np.ndarray | None) -> float | None:
    """How like two people's clothes are, in [0, 1]; None where no part of both was seen."""
    if first is None or second is None:
        return None
    squared = ((first - second) ** 2).mean(axis=1)
    known = ~np.isnan(squared)
    return float(np.exp(-squared[known].mean() / COLOUR_SPREAD**2)) if known.any() else None


def match(motion: Motion, pose: Pose, timestamp: float, colours: np.ndarray | None, clothes: float) -> float:
    """How well a pose fits a body, at most 1: its likeness, less up to `clothes` where the clothes differ."""
    dressed = colour_likeness(motion.colours, colours) if clothes else None
    return likeness(motion, pose, timestamp) - (0.0 if dressed is None else clothes * (1 - dressed))

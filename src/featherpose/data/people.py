"""Other photos in a training picture: people pasted beside the target, and photos that shine through.

A set of a few thousand photos shows each person in one surrounding, with the same neighbours every time; a network that sees
them a hundred times learns that by heart. Pasting after Dwibedi et al., "Cut, Paste and Learn", ICCV 2017, and Ghiasi et al.,
"Simple Copy-Paste", CVPR 2021; they cut along masks, here a person comes with a piece of the own surrounding whose edges
fade, as joints and boxes are all the labels there are. Photos that shine through after mixup (Zhang et al., ICLR 2018), in
whose long distillations teacher and student see the mixture (Beyer et al., CVPR 2022); labels stay those of the stronger one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from featherpose.data.sample import OCCLUDED, PER_PERSON, PERHAPS, UNLABELLED, Sample, move_sample, with_people
from featherpose.geometry import (
    box_of_points,
    compose,
    middle_of,
    mirror,
    rotation,
    scaling,
    translation,
    warp,
)

FEWEST_JOINTS = 6
"""Who is pasted has so many labelled joints, or all that the skeleton has."""
SMALLEST = 40
"""Photo pixels: the longer side of who is pasted."""
AROUND = 0.1
"""The piece reaches beyond the person's box by this share of its longer side."""
SOFT = 0.12
"""Share of the piece's sides over which its edges fade. A guess, as all that follow."""
SIZE, NO_TARGET = (0.5, 1.1), (0.3, 0.8)
"""Longer side of who is pasted, in longer sides of the target; in shorter sides of the picture where it has none."""
TURN = 20.0
"""Degrees, the most that a piece is turned."""
COVERED = 0.3
"""The most that the boxes of the target and of who is pasted may overlap, of the smaller one."""
BEYOND = 0.15
"""A piece's middle lies outside the picture by at most this share of its side."""
TRIES = 12


@dataclass(frozen=True)
class Others:
    """Photos to take people and pictures from."""

    samples: list[Sample]
    read: Callable[[Sample], np.ndarray]
    """Gives a sample's photo, (H, W, 3) uint8 RGB."""

    def draw(self, photo_id: str, rng: np.random.Generator) -> Sample | None:
        """A sample of another photo, with people; None where a few draws find none."""
        for _ in range(TRIES):
            sample = self.samples[int(rng.integers(len(self.samples)))]
            if sample.photo_id != photo_id and sample.target >= 0:
                return sample
        return None


def shine_through(picture: np.ndarray, ghost: np.ndarray, share: float) -> np.ndarray:
    """`share` (0 to 1) of the second picture in the first; both (H, W, 3) uint8."""
    return np.rint(picture * np.float32(1 - share) + ghost * np.float32(share)).astype(np.uint8)


def paste_person(
    picture: np.ndarray, sample: Sample, photo: np.ndarray, source: Sample, rng: np.random.Generator
) -> tuple[np.ndarray, Sample]:
    """A copy of the picture with a person of another photo beside the target, and the labels with who can be seen in it.

    picture: (H, W, 3) uint8; sample: its labels, in its pixels. photo: that of `source`, (H', W', 3) uint8. The target's
    joints below the piece count as occluded, those of other people as unlabelled. Where nobody can be pasted, or no place is
    free, both are returned as they are.
    """
    person = _chosen(source, rng)
    if person < 0:
        return picture, sample
    box = _whole_box(source, person)
    size = np.array(picture.shape[1::-1])
    target = None if sample.target < 0 else sample.target_box()
    if target is not None and max(target[2:] - target[:2]) < 1:  # pixels: a single joint without a box has no size
        target = None
    longer = min(size) if target is None else max(target[2:] - target[:2])
    wanted = rng.uniform(*(NO_TARGET if target is None else SIZE)) * longer
    scale = wanted / max(box[2:] - box[:2])
    flipped = bool(rng.random() < 0.5)
    turn = rng.uniform(-TURN, TURN)
    half = (box[2:] - box[:2]) / 2 * scale
    middle = _free_place(half, target, size, rng)
    if middle is None:
        return picture, sample
    centre = middle_of(box)
    steps = [translation(*-centre), rotation(turn), scaling(scale)] + ([mirror(0)] if flipped else [])
    matrix = compose(*steps, translation(*middle))
    alpha = warp(_piece(box, photo.shape), matrix, tuple(size))
    if not (alpha > 0.5).any():
        return picture, sample
    shown = alpha[..., None]
    pasted = np.rint(picture * (1 - shown) + warp(photo, matrix, tuple(size)) * shown).astype(np.uint8)
    return pasted, _joined(_below(sample, alpha), _seen(source, matrix, tuple(size), alpha, flipped))


def _whole_box(sample: Sample, person: int) -> np.ndarray:
    return replace(sample, target=person).target_box()


def _chosen(source: Sample, rng: np.random.Generator) -> int:
    """A person of the photo that is worth pasting; -1 for nobody."""
    labelled = (source.visibility > 0).sum(axis=1)
    sides = (source.box_xyxy[:, 2:] - source.box_xyxy[:, :2]).max(axis=1, initial=0)
    good = np.flatnonzero((labelled >= min(FEWEST_JOINTS, len(source.skeleton))) & (sides >= SMALLEST))
    return int(rng.choice(good)) if len(good) else -1


def _free_place(
    half: np.ndarray, target: np.ndarray | None, size: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """(2,) pixels: a middle for a box with these half sides that leaves the target to be seen; None when none is found."""
    for _ in range(TRIES):
        middle = rng.uniform(-BEYOND, 1 + BEYOND, 2) * size
        if target is None:
            return middle
        overlap = np.minimum(middle + half, target[2:]) - np.maximum(middle - half, target[:2])
        smaller = min(np.prod(2 * half), np.prod(target[2:] - target[:2]))
        if np.prod(np.maximum(overlap, 0)) <= COVERED * smaller:
            return middle
    return None


def _piece(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32 in [0, 1]: how much of the photo is pasted; 0 outside a rectangle around the box."""
    grow = AROUND * max(box[2:] - box[:2])
    ramps = []
    for low, high, length in ((box[0], box[2], shape[1]), (box[1], box[3], shape[0])):
        first, last = max(low - grow, 0), min(high + grow, length)
        place = np.arange(length) + 0.5
        inside = np.minimum(place - first, last - place)
        ramps.append(np.clip(inside / max(SOFT * (last - first), 1e-6), 0, 1))
    return np.minimum(ramps[1][:, None], ramps[0][None]).astype(np.float32)


def _covered(xy: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(P, K) bool: joints (P, K, 2) in the picture at places where mostly the piece is seen."""
    height, width = alpha.shape
    with np.errstate(invalid="ignore"):
        inside = ((xy >= 0) & (xy < (width, height))).all(axis=-1)
    place = np.where(inside[..., None], xy, 0).astype(int)
    return inside & (alpha[place[..., 1], place[..., 0]] > 0.5)


def _below(sample: Sample, alpha: np.ndarray) -> Sample:
    """The picture's own people, below the piece."""
    hidden = _covered(sample.xy, alpha) & (sample.visibility > 0)
    target = np.arange(len(sample.xy))[:, None] == sample.target
    if sample.teacher_xy is not None:
        sample = _untaught(sample, _covered(sample.teacher_xy, alpha) & ~target)
    visibility = np.where(hidden & target, OCCLUDED, sample.visibility)
    return _without(replace(sample, visibility=visibility.astype(np.int8)), hidden & ~target)


def _without(sample: Sample, joints: np.ndarray) -> Sample:
    """The sample without the labels of these joints (P, K)."""
    return replace(
        sample,
        xy=np.where(joints[..., None], np.float32(np.nan), sample.xy),
        visibility=np.where(joints, UNLABELLED, sample.visibility).astype(np.int8),
    )


def _untaught(sample: Sample, joints: np.ndarray) -> Sample:
    """The sample without what a teacher said of these joints (P, K)."""
    return replace(
        sample,
        teacher_xy=np.where(joints[..., None], np.float32(np.nan), sample.teacher_xy),
        teacher_score=None if sample.teacher_score is None else np.where(joints, np.float32(0), sample.teacher_score),
    )


def _seen(source: Sample, matrix: np.ndarray, size_wh: tuple[int, int], alpha: np.ndarray, flipped: bool) -> Sample:
    """Who of the other photo can be seen in its piece, in the picture's pixels.

    People of whom the piece shows no labelled joint, and regions that are ignored there, are ignored here where it shows them.
    """
    moved = move_sample(source, matrix, size_wh, flipped=flipped)
    moved = _without(moved, ~_covered(moved.xy, alpha) & (moved.visibility > 0))
    if moved.teacher_xy is not None:  # it was asked about joints that nobody labelled too
        moved = _untaught(moved, ~_covered(moved.teacher_xy, alpha))
    known = (moved.visibility > 0).any(axis=1)
    stay = np.flatnonzero(known)
    rows, columns = (np.flatnonzero((alpha > 0.5).any(axis=axis)) for axis in (1, 0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
    boxes = moved.box_xyxy.copy()
    hidden = np.concatenate([moved.box_xyxy[~known], *([] if moved.ignore_xyxy is None else [moved.ignore_xyxy])])
    hidden = np.concatenate([np.maximum(hidden[:, :2], low), np.minimum(hidden[:, 2:], high)], axis=1)
    hidden = hidden[(hidden[:, 2:] > hidden[:, :2]).all(axis=1)]
    for person in stay:  # what the piece shows of them, and their joints in any case
        joints = box_of_points(moved.xy[person])
        boxes[person, :2] = np.minimum(np.maximum(boxes[person, :2], low), joints[:2])
        boxes[person, 2:] = np.maximum(np.minimum(boxes[person, 2:], high), joints[2:])
    return with_people(replace(moved, box_xyxy=boxes, ignore_xyxy=hidden.astype(np.float32)), stay)


def _joined(first: Sample, second: Sample) -> Sample:
    """The people and the ignored regions of both, the first sample's first; its target stays."""
    values = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in PER_PERSON}
    shapes = {"weight": first.visibility.shape[1:], "teacher_score": first.visibility.shape[1:],
              "teacher_xy": first.xy.shape[1:]}  # fmt: skip
    for name, missing in PERHAPS.items():
        parts = [getattr(sample, name) for sample in (first, second)]
        if all(part is None for part in parts):
            continue
        dtype = next(part.dtype for part in parts if part is not None)
        values[name] = np.concatenate([
            np.full((len(sample.xy), *shapes.get(name, ())), missing, dtype) if part is None else part
            for sample, part in zip((first, second), parts, strict=True)
        ])  # fmt: skip
    ignored = [sample.ignore_xyxy for sample in (first, second) if sample.ignore_xyxy is not None and len(sample.ignore_xyxy)]
    return replace(first, **values, ignore_xyxy=np.concatenate(ignored) if ignored else first.ignore_xyxy)

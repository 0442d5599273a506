"""A sample: one photo, every labelled person in it, and which of them is the target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featherpose.geometry import box_of_points, scale_of, transform
from featherpose.skeletons import Skeleton, joint_mapping

UNKNOWN = -1
"""Visibility of a joint that the data set does not label at all."""
UNLABELLED, OCCLUDED, VISIBLE = 0, 1, 2


@dataclass(frozen=True)
class Sample:
    """Labels of one photo in photo pixels (docs/conventions.md). Arrays have P persons and K joints."""

    photo: Path
    """File of the photo; a sample that was drawn rather than read names what drew it."""
    size_wh: tuple[int, int]
    """(width, height) of the photo, pixels."""
    skeleton: Skeleton
    xy: np.ndarray
    """(P, K, 2) float32, pixels; NaN where visibility <= 0."""
    visibility: np.ndarray
    """(P, K) int8: -1 unknown to the set, 0 unlabelled, 1 occluded, 2 visible."""
    box_xyxy: np.ndarray
    """(P, 4) float32, pixels: the person's box as labelled; the box of the joints where the set has none."""
    area: np.ndarray
    """(P,) float32, px^2: the object area that OKS uses."""
    target: int
    """Index of the target person; -1 when nobody is in the picture, or the photo's own target has no label that can be used."""
    photo_id: str
    """Crops of one original photo share it: splits never separate them."""
    sample_id: int = 0
    """The image id of the label file."""
    annotation_id: np.ndarray | None = None
    """(P,) int64: ids of the label file, or None."""
    head_size: np.ndarray | None = None
    """(P,) float32, px: length of the head segment where the set has one (MPII), for PCKh; NaN or None elsewhere."""
    ignore_xyxy: np.ndarray | None = None
    """(I, 4) float32: regions where people are known to be but are not labelled (crowds); never background."""
    weight: np.ndarray | None = None
    """(P, K) float32 in [0, 1]: how far each label can be trusted, 1 for a human's; None means 1 for all of them."""
    teacher_xy: np.ndarray | None = None
    """(P, K, 2) float32, pixels: where another model sees each joint, whoever labelled it; NaN where not asked."""
    teacher_score: np.ndarray | None = None
    """(P, K) float32 in [0, 1]: how sure that model is, 0 where it was not asked."""

    def __post_init__(self) -> None:
        persons, joints = len(self.xy), len(self.skeleton)
        shapes = {
            "xy": (persons, joints, 2),
            "visibility": (persons, joints),
            "box_xyxy": (persons, 4),
            "area": (persons,),
        }
        more = {"weight": (persons, joints), "teacher_xy": (persons, joints, 2), "teacher_score": (persons, joints)}
        shapes |= {name: shape for name, shape in more.items() if getattr(self, name) is not None}
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{self.photo}: {name} must be {shape}, got {np.shape(getattr(self, name))}")
        if not -1 <= self.target < persons:
            raise ValueError(f"{self.photo}: target {self.target} is not one of the {persons} persons")

    def target_box(self) -> np.ndarray:
        """(4,) float64, (x1, y1, x2, y2): union of the target's box and labelled joints, what crops are cut around.

        ValueError when the sample has no target.
        """
        if self.target < 0:
            raise ValueError(f"{self.photo}: nobody is labelled in this photo, so there is no target box")
        box = self.box_xyxy[self.target].astype(np.float64)
        joints = box_of_points(self.xy[self.target])
        return (
            box
            if joints is None
            else np.concatenate([np.minimum(box[:2], joints[:2]), np.maximum(box[2:], joints[2:])])
        )


def target_joints(sample: Sample) -> np.ndarray:
    """(N, 2) labelled joints of the target that lie inside the picture; (0, 2) without a target."""
    if sample.target < 0:
        return np.zeros((0, 2), np.float32)
    xy = sample.xy[sample.target][sample.visibility[sample.target] > 0]
    return xy[((xy >= 0) & (xy < sample.size_wh)).all(axis=1)]


def has_nobody(sample: Sample) -> bool:
    """Whether nobody is in the photo, as far as the labels tell: no people, and no regions with unlabelled ones."""
    return len(sample.xy) == 0 and (sample.ignore_xyxy is None or len(sample.ignore_xyxy) == 0)


def sample_of_nobody(photo: Path, size_wh: tuple[int, int], skeleton: Skeleton) -> Sample:
    """A photo in which nobody is, with no labels."""
    joints = len(skeleton)
    return Sample(
        photo=photo, size_wh=size_wh, skeleton=skeleton, xy=np.zeros((0, joints, 2), np.float32),
        visibility=np.zeros((0, joints), np.int8), box_xyxy=np.zeros((0, 4), np.float32),
        area=np.zeros(0, np.float32), target=-1, photo_id=photo.stem,
    )  # fmt: skip


PER_PERSON = ("xy", "visibility", "box_xyxy", "area")
PERHAPS = {"annotation_id": -1, "head_size": np.nan, "weight": 1.0, "teacher_xy": np.nan, "teacher_score": 0.0}
"""Values per person that a sample may lack, and what stands for them."""


def with_people(sample: Sample, people: np.ndarray | slice) -> Sample:
    """The same photo with these people alone in its labels, without a target; ignored regions stay."""
    values = {name: getattr(sample, name) for name in (*PER_PERSON, *PERHAPS)}
    return replace(sample, target=-1, **{name: None if v is None else v[people] for name, v in values.items()})


def without_people(sample: Sample) -> Sample:
    """The same photo with no people in its labels; ignored regions stay."""
    return with_people(sample, slice(0))


def move_sample(sample: Sample, matrix: np.ndarray, size_wh: tuple[int, int], *, flipped: bool = False) -> Sample:
    """The labels of a sample under an affine map; boxes become the upright boxes around their moved corners.

    flipped: the map mirrors, so left and right joints change places.
    """
    order = sample.skeleton.flip_index() if flipped else np.arange(len(sample.skeleton))
    area = sample.area * abs(np.linalg.det(matrix[:, :2]))
    return replace(
        sample,
        size_wh=tuple(size_wh),
        xy=transform(matrix, sample.xy)[:, order],
        visibility=sample.visibility[:, order],
        box_xyxy=_move_boxes(matrix, sample.box_xyxy),
        area=area.astype(np.float32),
        head_size=None if sample.head_size is None else sample.head_size * scale_of(matrix),
        ignore_xyxy=None if sample.ignore_xyxy is None else _move_boxes(matrix, sample.ignore_xyxy),
        weight=None if sample.weight is None else sample.weight[:, order],
        teacher_xy=None if sample.teacher_xy is None else transform(matrix, sample.teacher_xy)[:, order],
        teacher_score=None if sample.teacher_score is None else sample.teacher_score[:, order],
    )


def _move_boxes(matrix: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    if len(box_xyxy) == 0:
        return box_xyxy
    corners = transform(matrix, box_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)


def to_skeleton(sample: Sample, skeleton: Skeleton) -> Sample:
    """The same sample with the joints of another skeleton, matched by name; joints it does not label become UNKNOWN."""
    if sample.skeleton == skeleton:
        return sample
    xy, visibility = map_joints(sample.xy, sample.visibility, sample.skeleton, skeleton)
    more = {
        name: map_values(getattr(sample, name), sample.skeleton, skeleton, missing=missing)
        for name, missing in (("weight", 1.0), ("teacher_xy", np.nan), ("teacher_score", 0.0))
    }
    return replace(sample, skeleton=skeleton, xy=xy, visibility=visibility, **more)


def map_joints(
    xy: np.ndarray, visibility: np.ndarray, source: Skeleton, target: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """(P, K, 2) joints and (P, K) visibility of `source` on `target`; NaN and UNKNOWN where it has none."""
    place = joint_mapping(source, target)
    known = place >= 0
    out_xy = np.full((len(xy), len(target), 2), np.nan, dtype=np.float32)
    out_visibility = np.full((len(xy), len(target)), UNKNOWN, dtype=np.int8)
    out_xy[:, known] = xy[:, place[known]]
    out_visibility[:, known] = visibility[:, place[known]]
    return out_xy, out_visibility


def map_values(values: np.ndarray | None, source: Skeleton, target: Skeleton, *, missing: float) -> np.ndarray | None:
    """(P, K, ...) float32 values per joint of `source` on `target`; `missing` where it has none; None stays None."""
    if values is None:
        return None
    place = joint_mapping(source, target)
    known = place >= 0
    out = np.full((len(values), len(target), *values.shape[2:]), missing, dtype=np.float32)
    out[:, known] = values[:, place[known]]
    return out


def nearest_to_middle(box_xyxy: np.ndarray, size_wh: tuple[int, int]) -> int:
    """Index of the box whose centre lies nearest the middle of the photo; -1 for no boxes."""
    if len(box_xyxy) == 0:
        return -1
    centre = (box_xyxy[:, :2] + box_xyxy[:, 2:]) / 2
    return int(np.argmin(((centre - np.asarray(size_wh) / 2) ** 2).sum(axis=1)))

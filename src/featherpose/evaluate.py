"""How good a model is on labelled photos: the same function for a torch model, an ONNX file and a TFLite file.

It asks the predictor for one pose per target and holds it against the labels. What the model is shown is the protocol;
figures of different protocols do not compare, so every figure is reported with its protocol's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featherpose.data.sample import OCCLUDED, VISIBLE, Sample, to_skeleton
from featherpose.geometry import square_around
from featherpose.metrics import calibration, oks, pck
from featherpose.metrics.saturation import saturation_warning
from featherpose.metrics.truth import Truth, mean
from featherpose.pose import Pose
from featherpose.runtime.photos import read_photo
from featherpose.runtime.smart_crop import smart_crop, whole_frame
from featherpose.skeletons import Skeleton, canonical_joint_name, did_you_mean

CROP_MARGIN = 1.25
"""Side of the crop protocol's square in longer sides of the target's box."""
PEOPLE = ("target", "all")
"""Who is looked for: the target of each photo, or every labelled person (crop protocol only)."""
RIGHT = "box_0.1"
"""What counts as a right joint when scores are judged."""
SIZES = {"small": (0, 96), "medium": (96, 192), "large": (192, math.inf)}
"""Group -> longer side of the labelled box in photo pixels, from and below: what the photo itself has to show."""
POSTURES = {"upright": (0, 45), "lying": (45, 135), "inverted": (135, 181)}
"""Group -> degrees between the trunk (hips to shoulders) and upwards, from and below."""


Images = Sequence[np.ndarray]
Boxes = Sequence[np.ndarray]
Sizes = Sequence[tuple[int, int]]

# --- protocols: (predictor, images, crops, sizes_wh) -> one pose per image ------------------------------------------


def look_at_crops(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """One look at a square of 1.25 times the longer side of the target's box, zeros outside the photo."""
    return predictor.look_batch(images, crops)


def look_at_frames(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """One look at the whole photo padded to a square; the model takes whoever is nearest the middle."""
    return predictor.look_batch(images, [whole_frame(size) for size in sizes_wh])


def look_twice(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """The whole photo first, then the smart crop that the first answer gives: what `predict` does."""
    first = look_at_frames(predictor, images, crops, sizes_wh)
    threshold = predictor.spec.joint_threshold
    closer = [smart_crop(pose, size, threshold) for pose, size in zip(first, sizes_wh, strict=True)]
    return predictor.look_batch(images, closer)


PROTOCOLS = {"crop": look_at_crops, "frame": look_at_frames, "frame + crop": look_twice}


@dataclass(frozen=True)
class Evaluation:
    """What came out for one model, one set and one protocol. Figures are None where the set cannot tell them."""

    protocol: str
    """A key of PROTOCOLS."""
    people: str
    """One of PEOPLE."""
    area_factor: float | None
    """OKS area in box areas; None when the set's own areas were used."""
    figures: dict[str, float | None]
    """AR, AR50, AR75; COCO's AP, AP50, AP75, APM, APL, COCO_AR; the keys of pck.NORMALISERS; mean_oks;
    error_at_160 (mean), error_at_160_median, error_at_160_p90, px; joint_score_auc, pose_score_auc, in [0, 1]."""
    counts: dict[str, int]
    """photos, targets, joints (labelled), torsos (targets with all four torso joints)."""
    per_joint: dict[str, dict[str, float | None]]
    """Joint -> count, oks, the PCK figures, error_at_160."""
    per_group: dict[str, dict[str, float | None]]
    """Size, posture or visibility group -> targets or joints, AR, the PCK figures, error_at_160."""
    reliability: list[dict]
    """Joint scores against what was right, by tenths of the score (calibration.reliability)."""
    skipped: tuple[str, ...]
    """One sentence for each photo that could not be used."""
    samples: tuple[Sample, ...]
    """The N samples of the arrays below, as read; a sample stands here once for each person looked for."""
    truth: Truth
    """Their N labelled persons in the model's joints."""
    xy: np.ndarray
    """(N, K, 2) float64 predicted, photo pixels."""
    score: np.ndarray
    """(N, K)."""
    pose_score: np.ndarray
    """(N,)."""
    region_xyxy: np.ndarray
    """(N, 4): what the model looked at last, photo pixels."""
    oks: np.ndarray
    """(N,)."""

    @property
    def warning(self) -> str | None:
        """One sentence when a figure is saturated."""
        return saturation_warning(self.figures)

    def to_dict(self) -> dict:
        """All figures, rounded to six digits, for JSON; without the arrays per target."""
        names = ("protocol", "people", "area_factor", "figures", "counts", "per_joint", "per_group", "reliability")
        facts = {name: _rounded(getattr(self, name)) for name in names}
        return facts | {"skipped": list(self.skipped), "warning": self.warning}


def evaluate(
    predictor,
    samples: Sequence[Sample],
    *,
    protocol: str = "crop",
    people: str = "target",
    batch: int = 16,
    area_factor: float | None = oks.AREA_FACTOR,
    read: Callable[[Sample], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Every figure of one model on labelled photos.

    predictor: anything with `look_batch(images, regions) -> list[Pose]` and `spec` (runtime.predictor.Predictor).
    samples: of any skeleton; joints are matched with the model's by name, the others do not count.
    people: "target", or "all" for a crop of each labelled person, which is how AP with given boxes is published.
    area_factor: OKS area in areas of the labelled box; None takes the samples' own areas (masks).
    read: gives a sample's photo, (H, W, 3) uint8 RGB; the file is read unless given. progress: called (done, of all).

    Samples without a labelled target and photos that cannot be read are left out and told in `skipped`.
    Raises ValueError for unknown protocols, when no joint is shared, or nothing is left to measure.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'{did_you_mean(protocol, PROTOCOLS)}")
    if people not in PEOPLE:
        raise ValueError(f"unknown people '{people}'{did_you_mean(people, PEOPLE)}")
    if people == "all" and protocol != "crop":
        raise ValueError(
            f"people 'all' needs the protocol 'crop': with '{protocol}' the model finds one person per photo"
        )
    if not samples:
        raise ValueError("there are no samples to evaluate on")
    skeleton = predictor.spec.skeleton
    skipped: list[str] = []
    cases = [case for sample in samples for case in _cases(sample, skeleton, people, skipped)]
    if not cases:
        raise ValueError(
            f"none of the {len(samples)} samples has a target with a joint of the model's skeleton '{skeleton.name}'"
        )
    read = _read if read is None else read
    look = PROTOCOLS[protocol]
    kept: list[Sample] = []
    poses: list[Pose] = []
    for start in range(0, len(cases), batch):
        seen, images = [], []
        for case in cases[start : start + batch]:
            if images and case.photo == seen[-1].photo and case.sample_id == seen[-1].sample_id:
                images.append(images[-1])
                seen.append(case)
                continue
            try:
                image = read(case)
                if image.shape[1::-1] != tuple(case.size_wh):
                    raise ValueError(
                        f"{case.photo}: the photo has {image.shape[1]} x {image.shape[0]} pixels, "
                        f"its labels were made for {case.size_wh[0]} x {case.size_wh[1]}"
                    )
            except (OSError, ValueError) as error:
                skipped.append(str(error))
                continue
            images.append(image)
            seen.append(case)
        if images:
            crops = [square_around(case.target_box(), CROP_MARGIN) for case in seen]
            poses += look(predictor, images, crops, [case.size_wh for case in seen])
            kept += seen
        if progress is not None:
            progress(min(start + batch, len(cases)), len(cases))
    if not kept:
        raise ValueError(f"none of the {len(cases)} photos could be used; the first: {skipped[0]}")
    truth = truth_of(kept, skeleton, area_factor=area_factor)
    return score_poses(
        poses, truth, kept, protocol=protocol, people=people, area_factor=area_factor, skipped=tuple(skipped)
    )


def truth_of(samples: Sequence[Sample], skeleton: Skeleton, *, area_factor: float | None = oks.AREA_FACTOR) -> Truth:
    """The labels of the samples' targets in the joints of a skeleton, read as they stand."""
    mapped = [to_skeleton(sample, skeleton) for sample in samples]

    def of_targets(name: str) -> np.ndarray:
        return np.stack([getattr(sample, name)[sample.target] for sample in mapped])

    heads = [np.nan if s.head_size is None else float(s.head_size[s.target]) for s in mapped]
    box_xyxy = of_targets("box_xyxy").astype(np.float64)
    crops = np.stack([square_around(sample.target_box(), CROP_MARGIN) for sample in samples])
    return Truth(
        skeleton=skeleton,
        xy=of_targets("xy"),
        visibility=of_targets("visibility"),
        box_xyxy=box_xyxy,
        area=of_targets("area") if area_factor is None else oks.box_area(box_xyxy, area_factor),
        crop_side=crops[:, 2] - crops[:, 0],
        head_size=np.array(heads) if np.isfinite(heads).any() else None,
    )


def score_poses(
    poses: Sequence[Pose],
    truth: Truth,
    samples: Sequence[Sample],
    *,
    protocol: str,
    people: str = "target",
    area_factor: float | None = oks.AREA_FACTOR,
    skipped: tuple[str, ...] = (),
) -> Evaluation:
    """All figures of N poses held against N labelled persons, pose n against person n of sample n."""
    xy = np.stack([pose.xy for pose in poses]).astype(np.float64)
    score = np.stack([pose.score for pose in poses]).astype(np.float64)
    pose_score = np.array([pose.pose_score for pose in poses])
    labelled = truth.labelled
    per_joint_oks = oks.oks_per_joint(xy, truth)
    similarity = oks.oks(xy, truth)
    hits = {name: pck.hits(xy, truth, name) for name in pck.NORMALISERS}
    error = pck.error_at_160(xy, truth)
    right = hits[RIGHT] > 0

    errors = error[labelled]
    figures = oks.average_recall(similarity) | {name: mean(hit) for name, hit in hits.items()}
    figures |= _average_precision(xy, pose_score, truth, samples)
    figures |= {
        "mean_oks": mean(similarity),
        "error_at_160": float(errors.mean()),
        "error_at_160_median": float(np.median(errors)),
        "error_at_160_p90": float(np.percentile(errors, 90)),
        "joint_score_auc": calibration.auc(score[labelled], right[labelled]),
        "pose_score_auc": calibration.auc(pose_score, similarity >= 0.5),
    }
    per_joint = {
        joint: {"count": int(labelled[:, k].sum()), "oks": mean(per_joint_oks[:, k])}
        | {name: mean(hit[:, k]) for name, hit in hits.items()}
        | {"error_at_160": mean(error[:, k])}
        for k, joint in enumerate(truth.skeleton.joints)
    }
    per_group = {}
    for name, chosen in _groups(truth).items():  # (N, K) bool
        persons = (chosen & labelled).any(axis=1)
        per_group[name] = {"targets": int(persons.sum()), "joints": int((chosen & labelled).sum())}
        # OKS is a property of whole persons: groups of joints have none
        whole = (chosen | ~labelled)[persons].all()
        per_group[name] |= {"AR": oks.average_recall(similarity[persons])["AR"] if whole else None}
        per_group[name] |= {key: mean(np.where(chosen, hit, np.nan)) for key, hit in hits.items()}
        per_group[name] |= {"error_at_160": mean(np.where(chosen, error, np.nan))}
    return Evaluation(
        protocol=protocol,
        people=people,
        area_factor=area_factor,
        figures={name: _number(value) for name, value in figures.items()},
        counts={
            "photos": len({(sample.photo, sample.sample_id) for sample in samples}),
            "targets": len(samples),
            "joints": int(labelled.sum()),
            "torsos": int(np.isfinite(pck.torso_length(truth)).sum()),
        },
        per_joint={k: {n: _number(v) for n, v in row.items()} for k, row in per_joint.items()},
        per_group={k: {n: _number(v) for n, v in row.items()} for k, row in per_group.items()},
        reliability=calibration.reliability(score[labelled], right[labelled]),
        skipped=skipped,
        samples=tuple(samples),
        truth=truth,
        xy=xy,
        score=score,
        pose_score=pose_score,
        region_xyxy=np.stack([np.full(4, np.nan) if pose.box_xyxy is None else pose.box_xyxy for pose in poses]),
        oks=similarity,
    )


def _cases(sample: Sample, skeleton: Skeleton, people: str, skipped: list[str]) -> list[Sample]:
    """The sample once for each person to look for, as its target; nobody without a labelled joint of the skeleton."""
    counts = (to_skeleton(sample, skeleton).visibility > 0).any(axis=1)
    if people == "all":
        return [replace(sample, target=int(person)) for person in np.flatnonzero(counts)]
    if sample.target < 0 or not counts[sample.target]:
        skipped.append(f"{sample.photo}: no target with a labelled joint of the skeleton '{skeleton.name}'")
        return []
    return [sample]


def _read(sample: Sample) -> np.ndarray:
    return read_photo(sample.photo)


def _average_precision(xy: np.ndarray, pose_score: np.ndarray, truth: Truth, samples: Sequence[Sample]) -> dict:
    """COCO's figures; nothing where their library is not installed."""
    place: dict = {}
    photo = np.array([place.setdefault((sample.photo, sample.sample_id), len(place)) for sample in samples])
    try:
        return oks.average_precision(xy, pose_score, photo, truth, photo)
    except ImportError as error:
        if (error.name or "").split(".")[0] != "faster_coco_eval":
            raise
        return dict.fromkeys(oks.COCO_FIGURES)


def _groups(truth: Truth) -> dict[str, np.ndarray]:
    """(N, K) bool masks by name: sizes, postures, visible and occluded joints; groups of nobody are left out."""
    side = pck.box_length(truth)
    groups = {name: (side >= low) & (side < high) for name, (low, high) in SIZES.items()}
    angle = trunk_angle(truth)
    groups |= {name: (angle >= low) & (angle < high) for name, (low, high) in POSTURES.items()}
    masks = {name: np.repeat(chosen[:, None], len(truth.skeleton), axis=1) for name, chosen in groups.items()}
    masks |= {"visible joints": truth.visibility == VISIBLE, "occluded joints": truth.visibility == OCCLUDED}
    return {name: mask for name, mask in masks.items() if (mask & truth.labelled).any()}


def trunk_angle(truth: Truth) -> np.ndarray:
    """(N,) degrees in [0, 180] between upwards and the way from mid-hip to mid-shoulder; NaN without all four."""
    whole = np.isfinite(pck.torso_length(truth))
    if not whole.any():
        return np.full(len(truth.xy), np.nan)
    place = {canonical_joint_name(name): k for k, name in enumerate(truth.skeleton.joints)}
    shoulders, hips = [place[name] for name in pck.TORSO[:2]], [place[name] for name in pck.TORSO[2:]]
    way = truth.xy[:, shoulders].mean(axis=1) - truth.xy[:, hips].mean(axis=1)
    return np.where(whole, np.degrees(np.arctan2(np.abs(way[:, 0]), -way[:, 1])), np.nan)


def _number(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value

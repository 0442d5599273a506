"""What an evaluation finds: poses held against labels, figure by figure, joint by joint, group by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featherpose.data.sample import OCCLUDED, VISIBLE, Sample, to_skeleton
from featherpose.geometry import square_around
from featherpose.metrics import calibration, oks, pck
from featherpose.metrics.saturation import saturation_warning
from featherpose.metrics.truth import Truth, mean
from featherpose.pose import Pose
from featherpose.skeletons import Skeleton, canonical_joint_name

CROP_MARGIN = 1.25
"""Side of the crop protocol's square in longer sides of the target's box."""
RIGHT = "box_0.1"
"""What counts as a right joint when scores are judged."""
SAME_PERSON = 0.5
"""OKS from which a prediction is taken to be that person; COCO's loosest threshold."""
SIZES = {"small": (0, 96), "medium": (96, 192), "large": (192, math.inf)}
"""Group -> longer side of the labelled box in photo pixels, from and below: what the photo itself has to show."""
PRESENCE_STEP = 0.05
"""Between two thresholds of the curve of false alarms and misses."""
POSTURES = {"upright": (0, 45), "lying": (45, 135), "inverted": (135, 181)}
"""Group -> degrees between the trunk (hips to shoulders) and upwards, from and below."""


@dataclass(frozen=True)
class Evaluation:
    """What came out for one model, one set and one protocol; figures are None where the set cannot tell."""

    protocol: str
    """A key of evaluate.PROTOCOLS."""
    people: str
    """One of evaluate.PEOPLE."""
    area_factor: float | None
    """OKS area in box areas; None when the set's own areas were used."""
    figures: dict[str, float | None]
    """Figure -> value, or None where the set cannot tell. All in [0, 1] but the errors:

    AR, AR50, AR75, mean_oks; COCO's AP, AP50, AP75, APM, APL, COCO_AR; the keys of pck.NORMALISERS;
    error_at_160 (mean), error_at_160_median, error_at_160_p90, in pixels of a crop of 160;
    joint_score_auc (against RIGHT), pose_score_auc (against SAME_PERSON), see calibration.auc;
    wrong_person: share of the targets instead of whom another labelled person was found (SAME_PERSON or more);
    misses: share of the targets whose pose score lies below the model's pose_threshold;
    false_alarms: share of the photos without people whose pose score reaches it.
    """
    counts: dict[str, int]
    """photos, targets, joints (labelled), torsos (targets with all four torso joints)."""
    per_joint: dict[str, dict[str, float | None]]
    """Joint -> count, oks, the PCK figures, error_at_160."""
    per_group: dict[str, dict[str, float | None]]
    """Size, posture or visibility group -> targets or joints, AR, the PCK figures, error_at_160."""
    reliability: list[dict]
    """Joint scores against what was right, by tenths of the score (calibration.reliability)."""
    presence: dict
    """pose_threshold (the model's), targets, without_people (photos), misses, false_alarms, and `curve`: a row for each
    threshold from 0 to 1 with its misses and false_alarms; None where there is nobody, or no photo, to count."""
    targetless: int
    """Samples with people but without a target that has a labelled joint: nothing to hold a prediction against."""
    guessed: int
    """Joints of the people looked for that a teacher labelled, see evaluate.without_guesses: they count as unlabelled."""
    unreadable: tuple[str, ...]
    """One sentence for each photo that could not be read or is not the labels' photo."""
    samples: tuple[Sample, ...]
    """The N samples of the arrays below, without a teacher's joints; a sample stands here once for each person looked for."""
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
        names = ("protocol", "people", "area_factor", "figures", "counts", "targetless", "guessed", "unreadable")
        names += ("per_joint", "per_group", "reliability", "presence", "warning")
        return {name: _rounded(getattr(self, name)) for name in names}


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
    targetless: int = 0,
    guessed: int = 0,
    unreadable: tuple[str, ...] = (),
    pose_threshold: float = 0.1,
    nobody_scores: Sequence[float] = (),
) -> Evaluation:
    """All figures of N poses held against N labelled persons, pose n against person n of sample n.

    nobody_scores: the pose scores on photos without people. pose_threshold: from which a pose score means that somebody is
    there (ModelSpec.pose_threshold).
    """
    xy = np.stack([pose.xy for pose in poses]).astype(np.float64)
    score = np.stack([pose.score for pose in poses]).astype(np.float64)
    pose_score = np.array([pose.pose_score for pose in poses])
    labelled = truth.labelled
    per_joint_oks = oks.oks_per_joint(xy, truth)
    similarity = oks.oks(xy, truth)
    hits = {name: pck.hits(xy, truth, name) for name in pck.NORMALISERS}
    error = pck.error_at_160(xy, truth)
    right = hits[RIGHT] > 0

    presence = presence_figures(pose_score, np.asarray(nobody_scores, np.float64), pose_threshold)
    errors = error[labelled]
    figures = oks.average_recall(similarity) | {name: mean(hit) for name, hit in hits.items()}
    figures |= _average_precision(xy, pose_score, truth, samples)
    figures |= {
        "mean_oks": mean(similarity),
        "error_at_160": float(errors.mean()),
        "error_at_160_median": float(np.median(errors)),
        "error_at_160_p90": float(np.percentile(errors, 90)),
        "joint_score_auc": calibration.auc(score[labelled], right[labelled]),
        "wrong_person": _wrong_person(xy, similarity, samples, truth.skeleton, area_factor),
        "pose_score_auc": calibration.auc(pose_score, similarity >= SAME_PERSON),
        "misses": presence["misses"],
        "false_alarms": presence["false_alarms"],
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
        presence=presence,
        targetless=targetless,
        guessed=guessed,
        unreadable=unreadable,
        samples=tuple(samples),
        truth=truth,
        xy=xy,
        score=score,
        pose_score=pose_score,
        region_xyxy=np.stack([np.full(4, np.nan) if pose.box_xyxy is None else pose.box_xyxy for pose in poses]),
        oks=similarity,
    )


def presence_figures(pose_score: np.ndarray, nobody_score: np.ndarray, pose_threshold: float) -> dict:
    """How well the pose score tells somebody from nobody, at the model's threshold and as a curve over thresholds.

    pose_score: (N,) on pictures of a person. nobody_score: (M,) on pictures of nobody. Returns Evaluation.presence.
    """

    def at(threshold: float) -> dict[str, float | None]:
        return {
            "misses": float((pose_score < threshold).mean()) if len(pose_score) else None,
            "false_alarms": float((nobody_score >= threshold).mean()) if len(nobody_score) else None,
        }

    thresholds = np.arange(0, 1 + PRESENCE_STEP / 2, PRESENCE_STEP).round(6)
    return {
        "pose_threshold": float(pose_threshold),
        "targets": len(pose_score),
        "without_people": len(nobody_score),
        **at(pose_threshold),
        "curve": [{"threshold": float(threshold), **at(threshold)} for threshold in thresholds],
    }


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


def _wrong_person(
    xy: np.ndarray, similarity: np.ndarray, samples: Sequence[Sample], skeleton: Skeleton, area_factor: float | None
) -> float:
    """Share of the N predictions (N, K, 2) that are somebody else of the same photo."""
    others = [
        (n, replace(sample, target=person))
        for n, sample in enumerate(samples)
        for person in range(len(sample.xy))
        if person != sample.target
    ]
    if not others:
        return 0.0
    place = np.array([n for n, _ in others])
    with_others = oks.oks(xy[place], truth_of([other for _, other in others], skeleton, area_factor=area_factor))
    best = np.zeros(len(samples))
    np.maximum.at(best, place, np.nan_to_num(with_others))
    return float(((best >= SAME_PERSON) & (best > similarity)).mean())


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

"""How far a teacher can be trusted: its answers held against human labels, and the score from which it is taken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherpose.data.sample import OCCLUDED, to_skeleton
from featherpose.data.teacher.ask import Answers
from featherpose.evaluation import Evaluation, score_poses, truth_of
from featherpose.metrics.oks import oks_per_joint
from featherpose.pose import Pose
from featherpose.skeletons import Skeleton

RIGHT_OKS = 0.5
"""A teacher's joint is right when its own OKS reaches this: within 2.35 deviations of human labelling, so an eye has to
be nearer than a hip."""
RIGHT_SHARE = 0.8
"""The share of right joints that a step of the score has to reach. A guess, between the harm of wrong labels and
that of missing ones."""
STEP = 0.05
"""Steps of the score that are judged one by one."""
LEAST = 100
"""Labelled joints that a step needs; smaller ones are judged together with the next one below."""
JUDGED = 200
"""Labelled joints that a joint needs to be judged at all."""


@dataclass(frozen=True)
class Agreement:
    """A teacher's answers held against human labels."""

    evaluation: Evaluation
    """Of everybody with a labelled joint that the teacher knows, crop by box."""
    targets: dict[str, float | None]
    """The same figures over the photos' own targets alone, where a set says who they are."""
    right: np.ndarray
    """(N, K) bool: within RIGHT_OKS of the human's label."""


def agree(answers: Answers, skeleton: Skeleton, targets: dict[int, int]) -> Agreement:
    """Holds answers against the labels of the same people. targets: sample_id -> person who is the photo's target.

    Raises ValueError when no human labelled a joint that the teacher knows.
    """
    read = np.isfinite(answers.xy).all(axis=(1, 2))
    mapped = [to_skeleton(person, skeleton) for person in answers.people]
    known = [n for n, p in enumerate(mapped) if read[n] and (p.visibility[p.target] > 0).any()]
    if not known:
        raise ValueError(
            f"no human label of a joint of the teacher's ({', '.join(skeleton.joints)}) could be compared, so nothing "
            "says how far it can be trusted"
        )

    def score(rows: list[int]) -> Evaluation:
        people = [answers.people[n] for n in rows]
        poses = [Pose(answers.xy[n], answers.score[n], skeleton, float(answers.score[n].mean())) for n in rows]
        return score_poses(poses, truth_of(people, skeleton), people, protocol="crop", people="all")

    evaluation = score(known)
    own = [n for n in known if targets.get(answers.people[n].sample_id) == answers.people[n].target]
    with np.errstate(invalid="ignore"):
        right = oks_per_joint(evaluation.xy, evaluation.truth) >= RIGHT_OKS
    return Agreement(evaluation=evaluation, targets=score(own).figures if own else {}, right=right)


@dataclass(frozen=True)
class Threshold:
    """From which score on a teacher's joint is taken."""

    value: float | None
    """None: never."""
    judged: int
    """Human labels it was judged by."""
    reason: str
    """Where the value comes from, in words."""
    of_all: float | None = None
    """The same judged by all labelled joints, seen and hidden: for sets that never label this joint at all."""


def choose_thresholds(
    agreement: Agreement, *, share: float = RIGHT_SHARE, given: dict[str, float | None] | None = None
) -> dict[str, Threshold]:
    """Joint -> threshold, by the joints that humans labelled.

    The steps of the score are gone through from the top: the threshold is the lower end of the last step before the
    first one in which fewer than `share` are right. Judged by occluded joints where humans labelled JUDGED of them, as
    what a human left out is more often hidden than not; by all of them otherwise. Joints with fewer labels than that
    take `given` (`of_all` of another set), or else the highest threshold that was found here.
    """
    truth, score = agreement.evaluation.truth, agreement.evaluation.score
    result: dict[str, Threshold] = {}
    for k, joint in enumerate(truth.skeleton.joints):
        labelled, hidden = truth.labelled[:, k], truth.visibility[:, k] == OCCLUDED
        rows = hidden if hidden.sum() >= JUDGED else labelled
        if rows.sum() < JUDGED:
            continue
        value = lowest_good_score(score[rows, k], agreement.right[rows, k], share=share)
        which = "occluded" if rows is hidden else "labelled"
        reason = f"right in {share:.0%} or more of the {which} joints of every step above"
        of_all = lowest_good_score(score[labelled, k], agreement.right[labelled, k], share=share)
        reason = reason if value is not None else f"not {reason}"
        result[joint] = Threshold(value, int(rows.sum()), reason, of_all)
    found = [t.value for t in result.values() if t.value is not None]
    for joint in truth.skeleton.joints:
        if joint in result:
            continue
        if given is not None and joint in given:
            result[joint] = Threshold(given[joint], 0, "of another set")
        elif found:
            result[joint] = Threshold(max(found), 0, "too few human labels: the highest of the other joints")
        else:
            result[joint] = Threshold(None, 0, "too few human labels of any joint")
    return {joint: result[joint] for joint in truth.skeleton.joints}


def lowest_good_score(score: np.ndarray, right: np.ndarray, *, share: float = RIGHT_SHARE) -> float | None:
    """The lower end of the last step, from the top, before one with less than `share` right; None if the top one is.

    score, right: (N,) in [0, 1] and bool. Steps with fewer than LEAST joints are joined with the next one below.
    """
    step = np.minimum((np.asarray(score) / STEP + 1e-5).astype(int), round(1 / STEP) - 1)
    best: float | None = None
    count = good = 0
    for number in range(round(1 / STEP) - 1, -1, -1):
        inside = step == number
        count, good = count + int(inside.sum()), good + int(right[inside].sum())
        if count < LEAST:
            continue
        if good < share * count:
            break
        best, count, good = round(number * STEP, 4), 0, 0
    return best


def read_thresholds(report: Path) -> dict[str, float | None]:
    """Joint -> threshold out of the report (.json) of another labelling run; ValueError for any other file."""
    try:
        content = json.loads(Path(report).read_text(encoding="utf-8"))
        values = {joint: row["score_of_all"] for joint, row in content["thresholds"].items()}
        good = all(v is None or (isinstance(v, (int, float)) and 0 <= v <= 1) for v in values.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise ValueError(f"{report}: not the report of a labelling run (.report.json with 'thresholds')")
    return values

"""What a labelling run tells people: agreement, reliability, thresholds, what was added, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featherpose.data.label import Result
from featherpose.data.readers.sources import HUMAN, TEACHER
from featherpose.data.sample import Sample
from featherpose.data.teacher.ask import Answers
from featherpose.data.teacher.trust import RIGHT_OKS, Agreement, Threshold
from featherpose.geometry import scaling, warp
from featherpose.pose import Pose
from featherpose.runtime.draw import draw_pose, sheet
from featherpose.runtime.photos import read_photo
from featherpose.skeletons import Skeleton

FIGURES = ("AR", "AR50", "mean_oks", "px5_at_160", "torso_0.2", "box_0.05", "box_0.1", "error_at_160")
TILE = 320


def report_facts(
    agreement: Agreement,
    thresholds: dict[str, Threshold],
    result: Result,
    skeleton: Skeleton,
    *,
    facts: dict,
) -> dict:
    """Everything as plain values for JSON. facts: what was run (labels, teacher, options, seconds), put in front."""
    found = agreement.evaluation
    return {
        **facts,
        "agreement": {
            "people": found.counts["targets"],
            "joints": found.counts["joints"],
            "figures": {name: _round(found.figures[name]) for name in FIGURES},
            "targets_only": {name: _round(agreement.targets[name]) for name in FIGURES if name in agreement.targets},
            "per_joint": {
                joint: {name: _round(value) for name, value in row.items()} for joint, row in found.per_joint.items()
            },
        },
        "reliability": reliability(agreement),
        "right": f"OKS of the joint at least {RIGHT_OKS}",
        "thresholds": {
            joint: {"score": t.value, "score_of_all": t.of_all, "judged_by": t.judged, "reason": t.reason}
            for joint, t in thresholds.items()
        },
        "joints": joint_counts(result, skeleton),
        "swapped": {
            "pairs": sum(int(j.swapped.sum()) // 2 for j in result.joined),
            "people": sum(bool(j.swapped.any()) for j in result.joined),
        },
        "people_added": int((result.taken & ~_by_hand(result)).sum()),
    }


def reliability(agreement: Agreement) -> list[dict]:
    """Per tenth of the score: labelled joints, their mean score, share within .1 of the box and share right by OKS."""
    found = agreement.evaluation
    labelled = found.truth.labelled
    score, right = found.score[labelled], agreement.right[labelled]
    away = np.linalg.norm(found.xy - found.truth.xy, axis=2)[labelled]
    box = found.truth.box_xyxy
    side = np.repeat((box[:, 2:] - box[:, :2]).max(axis=1)[:, None], labelled.shape[1], axis=1)[labelled]
    tenth = np.minimum((score * 10 + 1e-5).astype(int), 9)  # float32 .9 is a hair less
    return [
        {
            "from": t / 10,
            "to": (t + 1) / 10,
            "joints": int((tenth == t).sum()),
            "mean_score": _round(score[tenth == t].mean()),
            "within_0.1_box": _round((away <= 0.1 * side)[tenth == t].mean()),
            "right": _round(right[tenth == t].mean()),
        }
        for t in range(10)
        if (tenth == t).any()
    ]


def joint_counts(result: Result, skeleton: Skeleton) -> dict[str, dict[str, int]]:
    """Joint -> labels of humans, labels added, and labels in the result."""
    sources = [j.source for j, taken in zip(result.joined, result.taken, strict=True) if taken]
    letters = np.array([list(source) for source in sources]).reshape(len(sources), len(skeleton))
    human, taught = (letters == HUMAN).sum(axis=0), (letters == TEACHER).sum(axis=0)
    return {
        joint: {"human": int(human[k]), "teacher": int(taught[k]), "both": int(human[k] + taught[k])}
        for k, joint in enumerate(skeleton.joints)
    }


def _by_hand(result: Result) -> np.ndarray:
    return np.array([HUMAN in joined.source for joined in result.joined], bool)


def report_text(report: dict) -> str:
    """The same for people, as Markdown."""
    agreement, joints = report["agreement"], report["joints"]
    teacher = report["teacher"]
    how = [f"kind {teacher['kind']}", f"input {teacher['input_size'][0]}x{teacher['input_size'][1]}"]
    how += ["mean of picture and mirror"] if teacher["flip"] else []
    how += ["leaning people turned upright by their human labels"] if teacher["upright"] else []
    before, added = (sum(row[key] for row in joints.values()) for key in ("human", "teacher"))
    lines = [
        f"# Labels of {report['labels']}, completed by {teacher['name']}",
        "",
        f"{', '.join(how)}. {report['people']} people in {report['photos']} photos, "
        f"{report['seconds']:.0f} s, {report['ms_per_person']:.0f} ms a person.",
        "",
        f"**{before:,} labels of humans, {added:,} added by the teacher, {before + added:,} together.** "
        f"People added: {report['people_added']}.",
    ]
    if report["dropped_joints"]:
        names = ", ".join(f"{name} {count:,}" for name, count in report["dropped_joints"].items())
        lines += ["", f"Human labels of joints that the result's skeleton does not have, left out: {names}."]
    swapped = report["swapped"]
    if swapped["pairs"]:
        lines += ["", f"Pairs whose left and right the teacher sees the other way round, left out: {swapped['pairs']:,}, "]
        lines[-1] += f"of {swapped['people']:,} people."
    if report["problems"] or report["unreadable"]:
        lines += ["", f"Labels that cannot be true, left out: {report['problems']}. Photos that cannot be read: "]
        lines[-1] += f"{len(report['unreadable'])}."
    lines += ["", "## Agreement with human labels", ""]
    rows = [["everybody", agreement["people"], *(_text(v) for v in agreement["figures"].values())]]
    if agreement["targets_only"] and report["targets"] < report["people"]:
        count = report["targets"]
        rows.append(["targets of the photos", count, *(_text(v) for v in agreement["targets_only"].values())])
    lines += table(["", "people", *FIGURES], rows)
    if teacher["upright"]:
        lines += [
            "",
            "Turning people upright uses the labels that are compared here, so these figures flatter the teacher.",
        ]
    lines += ["", "## Joint by joint", ""]
    lines += [
        "Threshold: from which score on the teacher's joint is taken where no human labelled it. By all labelled: the "
        "same judged by seen and hidden joints, for sets that never label the joint (`--thresholds`).",
        "",
    ]
    rows = []
    for joint, row in agreement["per_joint"].items():
        t = report["thresholds"][joint]
        counts = joints.get(joint, {"human": 0, "teacher": 0, "both": 0})
        cells = [joint, row["count"], *(_text(row[k]) for k in ("oks", "box_0.05", "box_0.1", "error_at_160"))]
        limits = ["never" if t[key] is None else f"{t[key]:.2f}" for key in ("score", "score_of_all")]
        limits[1] = limits[1] if t["judged_by"] else ""
        rows.append([*cells, *limits, t["reason"], *counts.values()])
    head = ["joint", "compared", "OKS", "within .05 box", "within .1 box", "error, px at 160", "threshold"]
    head += ["by all labelled", "why"]
    lines += table([*head, "human labels", "added", "together"], rows)
    lines += ["", "## Does its score mean anything?", ""]
    lines += [f"Joints that humans labelled, by tenths of the teacher's score; right: {report['right']}.", ""]
    rows = [
        [
            f"{r['from']:.1f} to {r['to']:.1f}",
            r["joints"],
            *(_text(r[k]) for k in ("mean_score", "within_0.1_box", "right")),
        ]
        for r in report["reliability"]
    ]
    lines += table(["score", "joints", "mean score", "within .1 box", "right"], rows)
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence]) -> list[str]:
    """Lines of a Markdown table; numbers to the right."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in row) + " |" for row in rows]


def label_sheet(
    answers: Answers, result: Result, skeleton: Skeleton, *, count: int, rng: np.random.Generator
) -> np.ndarray | None:
    """A sheet of `count` photos drawn from those that got labels: human joints filled, the teacher's hollow."""
    rows_of: dict[tuple, list[int]] = {}
    for n, person in enumerate(answers.people):
        if result.taken[n]:
            rows_of.setdefault((person.photo, person.sample_id), []).append(n)
    with_new = [rows for rows in rows_of.values() if any(TEACHER in result.joined[n].source for n in rows)]
    tiles, captions = [], []
    for place in rng.permutation(len(with_new))[:count]:
        rows = with_new[place]
        sample = answers.people[rows[0]]
        tiles.append(_draw_photo(sample, [result.joined[n] for n in rows], skeleton))
        added = sum(result.joined[n].source.count(TEACHER) for n in rows)
        human = sum(result.joined[n].source.count(HUMAN) for n in rows)
        captions.append(f"{sample.photo.name}\npeople: {len(rows)}, labels: {human} human, {added} teacher")
    return sheet(tiles, captions, columns=6, tile=TILE) if tiles else None


def _draw_photo(sample: Sample, people: list, skeleton: Skeleton) -> np.ndarray:
    """A photo, grown to a tile so that rings can be told from discs."""
    scale = TILE / max(sample.size_wh)
    size_wh = tuple(max(1, round(v * scale)) for v in sample.size_wh)
    canvas = warp(read_photo(sample.photo), scaling(scale), size_wh)
    for joined in people:
        shown = joined.visibility > 0
        pose = Pose(np.where(shown[:, None], joined.xy, 0) * scale, shown.astype(float), skeleton)
        canvas = draw_pose(canvas, pose, 0.5, hollow=np.array([letter == TEACHER for letter in joined.source]))
    return canvas


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) > 1 else f"{value:.3f}".replace("0.", ".", 1)


def _round(value: float | None) -> float | None:
    if isinstance(value, int):
        return value
    return None if value is None or not np.isfinite(value) else round(float(value), 4)

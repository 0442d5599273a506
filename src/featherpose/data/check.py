"""What is wrong with a set of labels, or looks wrong, and what the set consists of.

Two kinds of answers: errors cannot be true (or let training photos into the test); suspicions are rare enough in good
sets to be worth a look. Suspicions keep their labels, and a set with suspicions alone counts as clean.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from featherpose.data.readers import Problem
from featherpose.data.sample import Sample
from featherpose.data.splits import shared_photos
from featherpose.geometry import box_of_points
from featherpose.skeletons import Skeleton

MIN_JOINTS = 3
"""A person with fewer labelled joints shows hardly a pose."""
FEW_PEOPLE = 20
"""Of so few it says nothing that a joint is labelled on none."""
BOX_DISTANCE = 0.5
"""In longer sides of the box. Measured on 26,373 people of COCO: boxes end where the person is hidden; joints lie up
to 0.3 outside for 2 in 100 people, 0.5 or more for 6 in 10,000."""
LONG_BONE = 3.0
"""Times the bone's usual share of the person's size. Exceeded by 5 in 10,000 people of COCO, 2 in 100 of LSP."""
OPPOSED = -0.5
"""Cosine between two left-to-right lines of one trunk, below which they point in opposite directions."""
WIDE = 0.6
"""Such a line is trusted from this share of its usual length on: seen from the side it may point anywhere."""
CROSSED = 1.3
"""How much longer the two bones of a pair are than the same with left and right exchanged at one end."""

TRUNK_PAIRS = (("shoulder", "hip"), ("shoulder", "eye"), ("shoulder", "ear"))
CROSSING_BONES = (("shoulder", "hip"), ("shoulder", "elbow"), ("hip", "knee"))
"""Without forearms and lower legs: folded arms and crossed legs are no errors."""

AREA_SIDE = 160
"""Pixels: the longer side of the photo that joint-box areas are counted at (the article's input)."""
AREA_STEP, AREA_END = 1000, 16000
"""Bins of the area histogram, px^2 at AREA_SIDE; the last bin takes everything above."""


# --- photos ---------------------------------------------------------------------------------------------------------


def check_photos(
    samples: list[Sample], track: Callable[[Iterable], Iterable] = iter
) -> tuple[list[Problem], dict[str, list[Sample]]]:
    """Reads every photo: (errors, {content digest: samples}). `track` wraps the loop, for a progress display."""
    from featherpose.runtime.photos import read_photo

    problems, by_content = [], defaultdict(list)
    for sample in track(samples):
        name = sample.photo.name
        try:
            height, width = read_photo(sample.photo).shape[:2]
        except (OSError, ValueError) as error:
            problems.append(Problem("unreadable photo", name, None, str(error), "kept"))
            continue
        by_content[hashlib.blake2b(sample.photo.read_bytes(), digest_size=16).hexdigest()].append(sample)
        if (width, height) != tuple(sample.size_wh):
            listed = " x ".join(map(str, sample.size_wh))
            sentence = f"photo '{name}' is {width} x {height} pixels, the labels were made for {listed}"
            problems.append(Problem("other photo size", name, None, sentence, "kept"))
    return problems, dict(by_content)


def find_twins(by_content: dict[str, list[Sample]]) -> tuple[list[Problem], list[Problem]]:
    """Photos of one split that are the same file: (with other labels, an error; with the same labels, a suspicion)."""
    errors, suspicions = [], []
    for twins in by_content.values():
        if len(twins) < 2:
            continue
        first, second = twins[0].photo.name, twins[1].photo.name
        if len({_label_fingerprint(sample) for sample in twins}) > 1:
            sentence = f"photos '{first}' and '{second}' are the same file, but other joints are labelled in them"
            errors.append(Problem("same photo, other labels", first, None, sentence, "kept"))
        else:
            sentence = f"photos '{first}' and '{second}' are the same file with the same joints"
            suspicions.append(Problem("photo twice", first, None, sentence, "kept"))
    return errors, suspicions


def _label_fingerprint(sample: Sample) -> bytes:
    """Equal for samples with the same people, in whatever order."""
    return b"|".join(sorted(np.nan_to_num(xy, nan=-1e6).round(1).tobytes() for xy in sample.xy))


def find_leaks(parts: dict[str, list[Sample]], by_content: dict[str, dict[str, list[Sample]]]) -> list[Problem]:
    """Photos that two splits share, by `photo_id` or by content. by_content: {split: second answer of check_photos}.

    A `photo_id` that is the file's name says nothing beyond one split: many number the photos of each from 0.
    """
    problems = []
    named = {split: [s for s in samples if not _named_by_file(s)] for split, samples in parts.items()}
    for first, second in combinations(parts, 2):
        for photo_id in shared_photos(named[first], named[second]):
            sentence = f"crops of photo '{photo_id}' are in '{first}' and in '{second}'"
            problems.append(Problem("photo in two splits", photo_id, None, sentence, "kept"))
        for digest in sorted(by_content[first].keys() & by_content[second].keys()):
            a, b = by_content[first][digest][0].photo.name, by_content[second][digest][0].photo.name
            sentence = f"'{a}' of '{first}' and '{b}' of '{second}' are the same file"
            problems.append(Problem("photo in two splits", a, None, sentence, "kept"))
    return problems


def _named_by_file(sample: Sample) -> bool:
    """Whether the `photo_id` is the end of the photo's path, without the suffix, as readers have it where a file gives none."""
    return f"/{sample.photo.with_suffix('').as_posix()}".endswith(f"/{sample.photo_id}")


# --- people ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class People:
    """Everybody in a list of samples, as arrays over N people."""

    samples: list[Sample]
    skeleton: Skeleton
    xy: np.ndarray
    """(N, K, 2) float64, photo pixels, NaN where there is no label."""
    box_xyxy: np.ndarray
    """(N, 4) float64."""
    sample_index: np.ndarray
    """(N,) which sample a person stands in."""
    person_index: np.ndarray
    """(N,) which person of that sample it is."""

    def problem(self, row: int, kind: str, reason: str) -> Problem:
        sample = self.samples[self.sample_index[row]]
        ids = sample.annotation_id
        key = None if ids is None else int(ids[self.person_index[row]])
        sentence = f"annotation {key} of photo '{sample.photo.name}': {reason}"
        return Problem(kind, sample.photo.name, key, sentence, "kept")

    def joint(self, name: str) -> np.ndarray | None:
        """(N, 2) of one joint, or None when the skeleton does not have it."""
        return self.xy[:, self.skeleton.joints.index(name)] if name in self.skeleton.joints else None


def gather(samples: list[Sample]) -> People:
    """All people of samples that share a skeleton."""
    counts = [len(s.xy) for s in samples]
    return People(
        samples=samples,
        skeleton=samples[0].skeleton,
        xy=np.concatenate([s.xy for s in samples]).astype(np.float64),
        box_xyxy=np.concatenate([s.box_xyxy for s in samples]).astype(np.float64),
        sample_index=np.repeat(np.arange(len(samples)), counts),
        person_index=np.concatenate([np.arange(n) for n in counts]),
    )


def find_suspicions(samples: list[Sample], *, min_joints: int = MIN_JOINTS) -> list[Problem]:
    """Labels that are possible but rare: worth a look, not an error. Samples must share a skeleton."""
    people = gather(samples) if samples else None
    if people is None or len(people.xy) == 0:
        return []
    size, usual = body_size(people)
    return [
        *_never_labelled(people),
        *_few_joints(people, min_joints),
        *_no_size(people),
        *_joints_at_one_place(people),
        *_far_from_box(people),
        *_long_bones(people, size, usual),
        *_swapped_sides(people, size),
    ]


def body_size(people: People) -> tuple[np.ndarray, np.ndarray]:
    """How large each person is, (N,) pixels in torso lengths, and each bone's usual length in torsos, (B,).

    The torso goes from the middle of the shoulders to the middle of the hips. It is short when seen from above, so the
    median over the person's bones counts where it says more. NaN for people with neither a torso nor 4 bones, and for
    bones of a set in which no torso is labelled.
    """
    bones = people.skeleton.bone_index()
    length = np.linalg.norm(people.xy[:, bones[:, 0]] - people.xy[:, bones[:, 1]], axis=2)  # (N, B)
    ends = [people.joint(f"{side}_{part}") for part in ("shoulder", "hip") for side in ("left", "right")]
    if any(end is None for end in ends):
        torso = np.full(len(people.xy), np.nan)
    else:
        torso = np.linalg.norm(ends[0] + ends[1] - ends[2] - ends[3], axis=1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(torso[:, None] > 0, length / torso[:, None], np.nan)
        usual = np.array([_median(column) for column in ratio.T])
        relative = length / usual
        enough = np.isfinite(relative).sum(axis=1) >= 4
    by_bones = np.full(len(torso), np.nan)
    by_bones[enough] = [_median(row) for row in relative[enough]]
    return np.fmax(torso, by_bones), usual


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else float("nan")


def _never_labelled(people: People) -> list[Problem]:
    """Joints that the label file names and nobody has: a network learns that they are nowhere."""
    if len(people.xy) < FEW_PEOPLE:
        return []
    visibility = np.concatenate([sample.visibility for sample in people.samples])
    missing = np.flatnonzero((visibility <= 0).all(axis=0) & (visibility == 0).any(axis=0))
    sentence = (
        "joint '{}' is not labelled on any of {} people: if it is not meant to be, leave it out of the category's keypoints, "
        "else a network learns that it is nowhere"
    )
    names = [people.skeleton.joints[k] for k in missing]
    return [Problem("joint never labelled", "", None, sentence.format(name, len(people.xy)), "kept") for name in names]


def _few_joints(people: People, least: int) -> list[Problem]:
    count = np.isfinite(people.xy[..., 0]).sum(axis=1)
    rows = np.flatnonzero(count < min(least, len(people.skeleton)))
    return [
        people.problem(row, "few joints", f"{count[row]} of {len(people.skeleton)} joints labelled") for row in rows
    ]


def _no_size(people: People) -> list[Problem]:
    """A box as labelled has a size; the box of the joints, which stands in for a missing one, need not."""
    size = people.box_xyxy[:, 2:] - people.box_xyxy[:, :2]
    reason = (
        "it has no bbox, and all labelled joints lie within {:g} x {:g} pixels: errors have no size to be measured by, so "
        "evaluation leaves the person out; give the annotation a bbox"
    )
    rows = np.flatnonzero((size <= 0).any(axis=1))
    return [people.problem(row, "no size", reason.format(*size[row])) for row in rows]


def _joints_at_one_place(people: People) -> list[Problem]:
    problems = []
    names = people.skeleton.joints
    for a, b in combinations(range(len(names)), 2):
        for row in np.flatnonzero((people.xy[:, a] == people.xy[:, b]).all(axis=1)):
            x, y = people.xy[row, a]
            reason = f"{names[a]} and {names[b]} both lie at exactly ({x:g}, {y:g})"
            problems.append(people.problem(row, "two joints at one place", reason))
    return problems


def _far_from_box(people: People) -> list[Problem]:
    low, high = people.box_xyxy[:, None, :2], people.box_xyxy[:, None, 2:]
    side = np.maximum((high - low).max(axis=2), 1)
    distance = np.maximum(low - people.xy, people.xy - high).max(axis=2) / side
    problems = []
    for row in np.flatnonzero((distance > BOX_DISTANCE).any(axis=1)):
        joint = int(np.nanargmax(distance[row]))
        reason = f"{people.skeleton.joints[joint]} lies {distance[row, joint]:.1f} sides of the person's box outside it"
        problems.append(people.problem(row, "far from the box", reason))
    return problems


def _long_bones(people: People, size: np.ndarray, usual: np.ndarray) -> list[Problem]:
    bones = people.skeleton.bone_index()
    if len(bones) == 0:
        return []
    length = np.linalg.norm(people.xy[:, bones[:, 0]] - people.xy[:, bones[:, 1]], axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        times = length / (size[:, None] * usual)
    problems = []
    for row in np.flatnonzero((times > LONG_BONE).any(axis=1)):
        bone = int(np.nanargmax(times[row]))
        first, second = people.skeleton.bones[bone]
        reason = f"{first} to {second} is {times[row, bone]:.1f} times as long as in a usual body of this size"
        problems.append(people.problem(row, "long bone", reason))
    return problems


def _swapped_sides(people: People, size: np.ndarray) -> list[Problem]:
    reasons: dict[int, str] = {}
    across = {}
    for part in {part for pair in TRUNK_PAIRS for part in pair}:
        left, right = people.joint(f"left_{part}"), people.joint(f"right_{part}")
        if left is not None and right is not None:
            across[part] = left - right
    length = {part: np.linalg.norm(line, axis=1) for part, line in across.items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = {part: value > WIDE * _median(value / size) * size for part, value in length.items()}
        for first, second in TRUNK_PAIRS:
            if first in across and second in across:
                cosine = (across[first] * across[second]).sum(axis=1) / (length[first] * length[second])
                for row in np.flatnonzero(wide[first] & wide[second] & (cosine < OPPOSED)):
                    reasons.setdefault(row, f"left to right runs opposite ways in the {first}s and the {second}s")
        for first, second in CROSSING_BONES:
            ends = [people.joint(f"{side}_{part}") for part in (first, second) for side in ("left", "right")]
            if any(end is None for end in ends):
                continue
            own = np.linalg.norm(ends[0] - ends[2], axis=1) + np.linalg.norm(ends[1] - ends[3], axis=1)
            exchanged = np.linalg.norm(ends[0] - ends[3], axis=1) + np.linalg.norm(ends[1] - ends[2], axis=1)
            for row in np.flatnonzero(own > CROSSED * exchanged):
                reasons.setdefault(
                    row, f"the lines {first} to {second} cross; exchanging left and right uncrosses them"
                )
    return [people.problem(row, "sides swapped?", reasons[row]) for row in sorted(reasons)]


# --- what the set consists of ---------------------------------------------------------------------------------------


def count_labels(samples: list[Sample]) -> np.ndarray:
    """(K, 4) people per joint that are unknown, unlabelled, occluded, visible (visibility -1, 0, 1, 2)."""
    visibility = np.concatenate([sample.visibility for sample in samples])
    return np.stack([(visibility == value).sum(axis=0) for value in (-1, 0, 1, 2)], axis=1)


def joint_box_areas(samples: list[Sample]) -> np.ndarray:
    """(T,) px^2: the smallest box around each target's joints, in the photo scaled to AREA_SIDE on its longer side.

    Targets with fewer than two labelled joints are left out. The article on this rebuilt MoveNet is the source of the figure.
    """
    areas = []
    for sample in samples:
        if sample.target < 0 or np.isfinite(sample.xy[sample.target, :, 0]).sum() < 2:
            continue
        x1, y1, x2, y2 = box_of_points(sample.xy[sample.target])
        areas.append((x2 - x1) * (y2 - y1) * (AREA_SIDE / max(sample.size_wh)) ** 2)
    return np.array(areas)


def area_histogram(areas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(counts, lower edges) of the areas in bins of AREA_STEP; the last bin takes everything from AREA_END on."""
    edges = np.arange(0, AREA_END + 1, AREA_STEP)
    counts = np.bincount(np.minimum(areas // AREA_STEP, len(edges) - 1).astype(np.int64), minlength=len(edges))
    return counts, edges


def plot_areas(areas: np.ndarray, path: Path, *, title: str) -> None:
    """The area histogram as a PNG. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from featherpose.runtime.report import write_whole

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counts, edges = area_histogram(areas)
    axes.bar(edges, counts, width=AREA_STEP * 0.9, align="edge", color="#0072b2")
    axes.axvspan(
        2000, 12000, color="#e69f00", alpha=0.2, zorder=0, label="target scenes of the article, 2,000 to 12,000"
    )
    axes.set(title=title, xlabel=f"joint-box area, px² with the photo at {AREA_SIDE} px", ylabel="photos")
    axes.legend(frameon=False)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))

"""Labels completed by a teacher: a human's label first, the teacher's where the human has none and it can be trusted.

A teacher is trusted joint by joint from the score on at which it was right on the joints that humans labelled: see
teacher/trust.py. Its joints are marked as its own (data/readers/sources.py), so that training can weigh them and
nobody takes them for truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featherpose.data.readers import is_int, read_json
from featherpose.data.readers.sources import HUMAN, NEVER, NOBODY, TEACHER
from featherpose.data.sample import OCCLUDED, UNKNOWN, Sample, to_skeleton
from featherpose.data.splits import entries_of, relative_photo
from featherpose.data.teacher.ask import Answers
from featherpose.data.teacher.trust import Threshold
from featherpose.skeletons import Skeleton, joint_mapping

ADDED_JOINTS = 6
"""Somebody whom no human labelled is added from so many trusted joints on, or all that the skeleton has."""
SWAPPED = (0.4, 0.08, 0.6)
"""A human took left for right, as a teacher sees it, if it scores both joints at least this, they lie at least so many
longer sides of the box apart, and they are nearer its joints the other way round, by this share of the distances. Guesses."""
SAME_BOX = 0.5
"""Intersection over union above which a box is somebody who is known already."""


# --- people whom nobody labelled --------------------------------------------------------------------------------------


def read_boxes(path: Path, samples: Sequence[Sample]) -> dict[int, np.ndarray]:
    """sample_id -> (N, 4) xyxy boxes of people, from COCO detections or a COCO label file.

    Boxes of other photos are passed over. Raises OSError, or ValueError for a file that is no such list.
    """
    content = read_json(Path(path))
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise ValueError(f"{path}: neither a list of detections nor COCO labels with 'annotations'")
    known = {sample.sample_id for sample in samples}
    boxes: dict[int, list] = {}
    for entry in entries:
        box = entry.get("bbox") if isinstance(entry, dict) else None
        try:
            x, y, width, height = (float(v) for v in box)
            good = np.isfinite([x, y, width, height]).all() and width > 0 and height > 0
            if not good or not is_int(entry["image_id"]):
                raise ValueError
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ValueError(
                f"{path}: every box needs an image_id and a bbox of x, y, width, height with a positive size, "
                f"got {entry!r:.80}"
            ) from None
        if entry["image_id"] in known:
            boxes.setdefault(entry["image_id"], []).append([x, y, x + width, y + height])
    if not boxes:
        raise ValueError(f"{path}: none of its {len(entries)} boxes lies in one of the photos (matched by image_id)")
    return {key: np.array(of_photo) for key, of_photo in boxes.items()}


def add_people(samples: Sequence[Sample], boxes: dict[int, np.ndarray]) -> list[Sample]:
    """The samples with a person without any label for each box that covers nobody who is labelled or ignored already.

    Added people come last and have annotation id -1.
    """
    result = []
    for sample in samples:
        known = [sample.box_xyxy] + ([] if sample.ignore_xyxy is None else [sample.ignore_xyxy])
        known = np.concatenate(known)
        added = []
        for box in boxes.get(sample.sample_id, np.zeros((0, 4))):
            if overlap(box, np.concatenate([known, np.array(added).reshape(-1, 4)])).max(initial=0) <= SAME_BOX:
                added.append(box)
        if added:
            joints, new = len(sample.skeleton), np.array(added, np.float32)
            # of a joint that the set never labels nothing is known of these people either
            never = (sample.visibility == UNKNOWN).all(axis=0) & (len(sample.xy) > 0)
            visibility = np.tile(np.where(never, UNKNOWN, 0).astype(np.int8), (len(new), 1))
            ids = np.full(len(sample.xy), -1) if sample.annotation_id is None else sample.annotation_id
            sample = replace(
                sample,
                xy=np.concatenate([sample.xy, np.full((len(new), joints, 2), np.nan, np.float32)]),
                visibility=np.concatenate([sample.visibility, visibility]),
                box_xyxy=np.concatenate([sample.box_xyxy, new]),
                area=np.concatenate([sample.area, (new[:, 2] - new[:, 0]) * (new[:, 3] - new[:, 1])]),
                annotation_id=np.concatenate([ids, np.full(len(new), -1)]),
            )
        result.append(sample)
    return result


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of a box (4,) with boxes (N, 4), xyxy."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = shared.clip(0).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


# --- putting labels together ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Joined:
    """Labels of one person, human and teacher, in the joints of the result."""

    xy: np.ndarray
    """(K, 2), photo pixels; NaN where nobody is sure."""
    visibility: np.ndarray
    """(K,) 0 to 2; a teacher's joint is 1, as it does not say whether the joint is seen."""
    source: str
    """K letters of data/readers/sources.py."""
    score: np.ndarray
    """(K,) in [0, 1]: 1 for a human's, the teacher's score for its own, 0 for none."""
    swapped: np.ndarray
    """(K,) bool: human labels that were left out, see `swapped_joints`."""


def join(
    human: Sample, xy: np.ndarray, score: np.ndarray, thresholds: dict[str, Threshold], teacher: Skeleton,
    drop_swapped: bool = False,
) -> Joined:  # fmt: skip
    """A person's labels and a teacher's answer (K_teacher, 2), (K_teacher,), in the joints of the human sample.

    human: in the skeleton of the result, the person as its target. The teacher's joints outside the photo are not
    taken, as nobody could have seen them there. drop_swapped: human labels of a pair that the teacher sees the other way
    round are left out, and the teacher's are not taken: which of them is right, nobody knows.
    """
    joints, place = human.skeleton.joints, joint_mapping(teacher, human.skeleton)
    out_xy = human.xy[human.target].astype(np.float64)
    visibility = human.visibility[human.target]
    swapped = swapped_joints(human, xy, score, place) if drop_swapped else np.zeros(len(joints), bool)
    visibility = np.where(swapped, 0, visibility).astype(visibility.dtype)
    out_xy[swapped] = np.nan
    taught = np.zeros(len(joints), bool)
    out_score = (visibility > 0).astype(np.float64)
    for k in np.flatnonzero((visibility <= 0) & (place >= 0) & ~swapped):
        i = place[k]
        limit = thresholds[teacher.joints[i]].value
        if limit is None or not np.isfinite(xy[i]).all():
            continue
        inside = (xy[i] >= 0).all() and (xy[i] < human.size_wh).all()
        if inside and score[i] >= limit - 1e-6:
            out_xy[k], out_score[k], taught[k] = xy[i], score[i], True
    letters = [
        TEACHER if taught[k] else HUMAN if v > 0 else NEVER if v == UNKNOWN else NOBODY
        for k, v in enumerate(visibility)
    ]
    out_visibility = np.where(taught, OCCLUDED, np.maximum(visibility, 0))
    return Joined(out_xy, out_visibility, "".join(letters), out_score, swapped)


def swapped_joints(human: Sample, xy: np.ndarray, score: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(K,) bool: both joints of each pair that a human labelled the other way round than a teacher saw them (SWAPPED).

    human: the person as its target. xy, score: the teacher's answer; place: where its joints are, as joint_mapping tells.
    """
    swapped = np.zeros(len(human.skeleton), bool)
    low, high = np.split(human.box_xyxy[human.target], 2)
    least_score, apart, share = SWAPPED
    for names in human.skeleton.flip_pairs:
        pair = [human.skeleton.index(name) for name in names]
        own, seen = human.xy[human.target][pair].astype(np.float64), xy[place[pair]]
        known = (human.visibility[human.target][pair] > 0).all() and (place[pair] >= 0).all() and np.isfinite(seen).all()
        if not known or score[place[pair]].min() < least_score:
            continue
        if np.linalg.norm(own[0] - own[1]) < apart * (high - low).max():
            continue
        straight, crossed = (np.linalg.norm(own - order, axis=1).sum() for order in (seen, seen[::-1]))
        swapped[pair] = crossed < share * straight
    return swapped


@dataclass(frozen=True)
class Result:
    """A completed label file."""

    content: dict
    """COCO keypoint JSON."""
    joined: list[Joined]
    """One for each person of the answers."""
    taken: np.ndarray
    """(N,) bool: False for people from boxes of whom the teacher saw too little."""


def complete(
    content: dict,
    answers: Answers,
    thresholds: dict[str, Threshold],
    teacher: Skeleton,
    *,
    skeleton: Skeleton,
    photos_from: Path,
    samples: Sequence[Sample],
    all_joints: bool = False,
    drop_swapped: bool = False,
) -> Result:
    """The label file `content` in the joints of `skeleton`, with what a teacher adds; everything else stays.

    answers: of `people_of(samples)`. photos_from: the folder that file names will count from. all_joints: the teacher's
    answers for every joint are written too. drop_swapped: as `join` takes it. People without labels, and those whose
    labels cannot be true, stay as they are, without joints: the reader knows that they are no background.
    """
    joined = [
        join(to_skeleton(person, skeleton), answers.xy[n], answers.score[n], thresholds, teacher, drop_swapped)
        for n, person in enumerate(answers.people)
    ]
    by_hand = np.array([person.visibility[person.target].max() > 0 for person in answers.people], bool)
    taken = by_hand | np.array([j.source.count(TEACHER) >= min(ADDED_JOINTS, len(skeleton)) for j in joined], bool)
    categories = [c for c in content["categories"] if c.get("keypoints")]
    bones = (skeleton.bone_index() + 1).tolist()
    categories = [{**c, "keypoints": list(skeleton.joints), "skeleton": bones} for c in categories]
    images = {sample.sample_id: sample for sample in samples}
    others = {repr(c.get("id")) for c in content["categories"] if not c.get("keypoints")}
    entries = [e for e in entries_of(content["annotations"], "image_id", images) if repr(e.get("category_id")) not in others]
    posed = {repr(c.get("id")) for c in categories}
    entry_of = {}
    for entry in entries:
        read = repr(entry.get("category_id")) in posed and (entry.get("keypoints"), entry.get("bbox")) != (None, None)
        if read and is_int(entry.get("id")):
            entry_of.setdefault((entry["image_id"], entry["id"]), entry)
    place = joint_mapping(teacher, skeleton)
    next_id = max((entry["id"] for entry in entries if is_int(entry.get("id"))), default=0) + 1
    annotations, written = [], set()
    for n, person in enumerate(answers.people):
        key = int(person.annotation_id[person.target])
        if key < 0:
            x1, y1, x2, y2 = (round(float(v), 1) for v in person.box_xyxy[person.target])
            box = [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]
            entry = {"id": next_id, "image_id": person.sample_id, "category_id": categories[0].get("id"), "iscrowd": 0}
            entry |= {"bbox": box, "area": round(box[2] * box[3], 1)}
            next_id += 1
        else:
            entry = entry_of[person.sample_id, key]
            written.add(id(entry))
        labels = _keys(joined[n]) if taken[n] else {"keypoints": [0] * 3 * len(skeleton), "num_keypoints": 0}
        if all_joints and taken[n]:
            labels["teacher_keypoints"] = _teacher_keypoints(answers.xy[n], answers.score[n], place)
        annotations.append({**entry, **labels})
    nothing = {"keypoints": [0] * 3 * len(skeleton), "num_keypoints": 0}
    annotations += [{**entry, **nothing} for entry in entries if id(entry) not in written]
    result = {key: value for key, value in content.items() if key not in ("images", "annotations", "categories")}
    result["images"] = []
    for entry in entries_of(content["images"], "id", set(images)):
        sample = images.pop(entry["id"], None)
        if sample is not None:  # else the photo is listed twice
            result["images"].append({**entry, "file_name": relative_photo(sample.photo, photos_from)})
    return Result({**result, "annotations": annotations, "categories": categories}, joined, taken)


def _keys(joined: Joined) -> dict:
    """A person's labels as COCO keys; a human's to .01 px, a teacher's to .1."""
    keypoints = []
    for (x, y), v, letter in zip(joined.xy, joined.visibility, joined.source, strict=True):
        digits = 1 if letter == TEACHER else 2
        keypoints += [round(float(x), digits), round(float(y), digits), int(v)] if v > 0 else [0, 0, 0]
    return {
        "keypoints": keypoints,
        "num_keypoints": int((joined.visibility > 0).sum()),
        "keypoint_source": joined.source,
        "keypoint_score": [_short(s) for s in joined.score],
    }


def _teacher_keypoints(xy: np.ndarray, score: np.ndarray, place: np.ndarray) -> list:
    values = []
    for i in place:
        known = i >= 0 and np.isfinite(xy[i]).all()
        values += [round(float(xy[i, 0]), 1), round(float(xy[i, 1]), 1), _short(score[i])] if known else [0, 0, 0]
    return values


def _short(score: float) -> float | int:
    value = round(float(score), 2)
    return int(value) if value in (0, 1) else value


def beside(out: Path, suffix: str) -> Path:
    """A file that belongs to the result `out`: labelling_SPLIT and the suffix, which no reader takes for labels."""
    return out.with_name(f"labelling_{out.stem.removeprefix('person_keypoints_')}{suffix}")

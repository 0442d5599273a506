"""Who says where a joint is: the keys that `featherpose data label` adds to COCO annotations.

| key | of K joints | meaning |
|---|---|---|
| keypoint_source | a string of K letters | h a human, t a teacher, - nobody, ? nobody, as the set never labels it |
| keypoint_score | K numbers in [0, 1] | how far each can be trusted: 1 for a human's, the teacher's score for its own |
| teacher_keypoints | x, y, score of each | what the teacher sees, whoever labelled it; score 0 where it sees none |
"""

from __future__ import annotations

import numpy as np

from featherpose.data.readers import is_number

HUMAN, TEACHER, NOBODY, NEVER = "h", "t", "-", "?"
LETTERS = HUMAN + TEACHER + NOBODY + NEVER


def read_sources(persons: list[dict], joints: int) -> tuple[dict[str, np.ndarray], list[tuple[int, str]]]:
    """What the annotations of N people say about their joints, and (row, reason) of those that cannot be true.

    {"never": (N, K) bool, "weight": (N, K), "teacher_xy": (N, K, 2), "teacher_score": (N, K)}, float32; a key is there
    when at least one annotation has it. People without it have weight 1, and NaN and 0 from the teacher.
    """
    found: dict[str, np.ndarray] = {}
    bad: list[tuple[int, str]] = []
    for row, person in enumerate(persons):
        try:
            values = {**_weight(person, joints), **_teacher(person, joints)}
        except ValueError as error:
            bad.append((row, str(error)))
            continue
        for name, value in values.items():
            if name not in found:
                empty = {"never": False, "weight": 1.0, "teacher_xy": np.nan, "teacher_score": 0.0}[name]
                found[name] = np.full((len(persons), *value.shape), empty, value.dtype)
            found[name][row] = value
    return found, bad


def _weight(person: dict, joints: int) -> dict[str, np.ndarray]:
    if "keypoint_source" not in person and "keypoint_score" not in person:
        return {}
    source = person.get("keypoint_source")
    if not (isinstance(source, str) and len(source) == joints and set(source) <= set(LETTERS)):
        raise ValueError(f"'keypoint_source' must be {joints} letters out of '{LETTERS}', got {source!r:.60}")
    score = _numbers(person, "keypoint_score", joints)
    if ((score < 0) | (score > 1)).any():
        raise ValueError(f"'keypoint_score' must lie in [0, 1], got {score.min():g} to {score.max():g}")
    letters = np.array(list(source))
    return {
        "never": letters == NEVER,
        "weight": np.where(letters == TEACHER, score, 1).astype(np.float32),
    }


def _teacher(person: dict, joints: int) -> dict[str, np.ndarray]:
    if "teacher_keypoints" not in person:
        return {}
    values = _numbers(person, "teacher_keypoints", 3 * joints).reshape(joints, 3).astype(np.float32)
    if ((values[:, 2] < 0) | (values[:, 2] > 1)).any():
        raise ValueError(f"scores of 'teacher_keypoints' must lie in [0, 1], got up to {values[:, 2].max():g}")
    asked = values[:, 2:] > 0
    return {"teacher_xy": np.where(asked, values[:, :2], np.float32(np.nan)), "teacher_score": values[:, 2]}


def _numbers(person: dict, key: str, count: int) -> np.ndarray:
    values = person.get(key)
    if not (isinstance(values, list) and len(values) == count and all(map(is_number, values))):
        raise ValueError(f"'{key}' must hold {count} numbers, got {values!r:.60}")
    return np.array(values, np.float64)

"""Which joints a pose has: names, left/right pairs, bones and OKS sigmas.

A skeleton is data, not code: it comes from this file, from a TOML or JSON file of the user's, or from the spec of a
model. Joints of two skeletons are matched by name, never by position.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """The joints of one kind of body, in the order of every array that has a K axis."""

    name: str
    joints: tuple[str, ...]
    """K joint names, lower case with underscores; sides are written `left_` and `right_`."""
    flip_pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of joints that change places when a picture is mirrored."""
    bones: tuple[tuple[str, str], ...] = ()
    """Pairs of joints that are drawn as a line and compared by the bone loss."""
    sigmas: tuple[float, ...] = ()
    """K standard deviations of human labelling per joint, relative to the object scale (COCO: k_i = 2 sigma_i)."""

    def __post_init__(self) -> None:
        if not _is_list(self.joints) or not all(isinstance(joint, str) for joint in self.joints):
            raise ValueError(f"skeleton '{self.name}': joints must be a list of names, got {self.joints!r}")
        object.__setattr__(self, "joints", tuple(self.joints))
        for key in ("flip_pairs", "bones"):
            pairs = getattr(self, key)
            if not _is_list(pairs) or not all(_is_list(pair) and len(pair) == 2 for pair in pairs):
                raise ValueError(f"skeleton '{self.name}': each of {key} must be a pair of joint names, got {pairs!r}")
            object.__setattr__(self, key, tuple(tuple(pair) for pair in pairs))
        if not _is_list(self.sigmas) or not all(isinstance(s, Real) for s in self.sigmas):
            raise ValueError(f"skeleton '{self.name}': sigmas must be a list of numbers, got {self.sigmas!r}")
        sigmas = tuple(float(s) for s in self.sigmas) or (DEFAULT_SIGMA,) * len(self.joints)
        object.__setattr__(self, "sigmas", sigmas)
        if not self.joints:
            raise ValueError(f"skeleton '{self.name}' has no joints")
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f"skeleton '{self.name}' names a joint twice: {sorted(self.joints)}")
        if len(sigmas) != len(self.joints):
            raise ValueError(f"skeleton '{self.name}' has {len(self.joints)} joints but {len(sigmas)} sigmas")
        if not all(np.isfinite(s) and s > 0 for s in sigmas):
            raise ValueError(f"skeleton '{self.name}': every sigma must be a positive number, got {sigmas}")
        for first, second in (*self.flip_pairs, *self.bones):
            self.index(first), self.index(second)
        paired = [joint for pair in self.flip_pairs for joint in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"skeleton '{self.name}': a joint stands in two flip pairs")

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Position of a joint on the K axis; ValueError with the nearest name if there is none."""
        if joint not in self.joints:
            raise ValueError(f"skeleton '{self.name}' has no joint '{joint}'{did_you_mean(joint, self.joints)}")
        return self.joints.index(joint)

    def flip_index(self) -> np.ndarray:
        """(K,) int64: entry k is the joint whose place joint k takes in a mirrored picture."""
        order = np.arange(len(self))
        for first, second in self.flip_pairs:
            i, j = self.index(first), self.index(second)
            order[i], order[j] = j, i
        return order

    def bone_index(self) -> np.ndarray:
        """(B, 2) int64: the two joints of each bone."""
        return np.array([[self.index(a), self.index(b)] for a, b in self.bones], dtype=np.int64).reshape(-1, 2)

    def to_dict(self) -> dict:
        """Plain lists and numbers, for JSON."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "bones": [list(pair) for pair in self.bones],
            "sigmas": list(self.sigmas),
        }

    @staticmethod
    def from_dict(facts: dict) -> Skeleton:
        """Inverse of `to_dict`; ValueError when a key is missing or unknown."""
        if not isinstance(facts, dict):
            raise ValueError(f"skeleton: must be a table with a name and joints, got {facts!r}")
        known = {"name", "joints", "flip_pairs", "bones", "sigmas"}
        for key in facts:
            if key not in known:
                raise ValueError(f"skeleton: unknown key '{key}'{did_you_mean(key, known)}")
        for key in ("name", "joints"):
            if key not in facts:
                raise ValueError(f"skeleton: the key '{key}' is missing")
        return Skeleton(**facts)


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


DEFAULT_SIGMA = 0.08
"""For joints nobody has measured: between COCO's shoulder (.079) and knee (.087). A guess."""


def did_you_mean(word: str, choices) -> str:
    """`; did you mean 'x'?` with the nearest choice, or the list of choices when none is near."""
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(word), choices, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(choices))}"


@lru_cache(maxsize=4096)  # asked for every joint of every frame
def canonical_joint_name(name: str) -> str:
    """One spelling for a joint: 'Left Shoulder', 'leftShoulder', 'LShoulder', 'l_shoulder' all give 'left_shoulder'."""
    words = re.sub(r"([a-z])([A-Z])|^([LR])([A-Z][a-z])", r"\1\3_\2\4", name.strip())
    words = re.sub(r"[\s\-.]+", "_", words).lower().strip("_")
    side = {"l": "left", "r": "right"}
    parts = words.split("_")
    if parts[0] in side:
        parts[0] = side[parts[0]]
    elif parts[-1] in ("l", "r", "left", "right") and len(parts) > 1:
        parts = [side.get(parts[-1], parts[-1]), *parts[:-1]]
    return "_".join(parts)


def joint_mapping(source: Skeleton, target: Skeleton) -> np.ndarray:
    """(K of target,) int64: where each joint of `target` stands in `source`, -1 where `source` does not know it."""
    place = {canonical_joint_name(name): i for i, name in enumerate(source.joints)}
    return np.array([place.get(canonical_joint_name(name), -1) for name in target.joints], dtype=np.int64)


def _sides(*parts: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"left_{part}", f"right_{part}") for part in parts)


COCO17 = Skeleton(
    name="coco17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    flip_pairs=_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
    bones=(
        ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
        ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
    ),
    sigmas=(.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
)  # fmt: skip
"""COCO 2017 keypoints, with the sigmas of the official evaluation (cocodataset.org/#keypoints-eval)."""

LSP14 = Skeleton(
    name="lsp14",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
    ),
    flip_pairs=_sides("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
    bones=(
        ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "left_hip"),
        ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("right_wrist", "right_elbow"),
        ("right_elbow", "right_shoulder"), ("right_shoulder", "neck"), ("neck", "left_shoulder"),
        ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("neck", "head_top"),
        ("right_shoulder", "right_hip"), ("left_shoulder", "left_hip"),
    ),
    sigmas=(.089, .087, .107, .107, .087, .089, .062, .072, .079, .079, .072, .062, .079, .062),
)  # fmt: skip
"""Leeds Sports Pose (Johnson and Everingham, BMVC 2010); COCO's sigmas where the joint is COCO's, else a guess."""

MPII16 = Skeleton(
    name="mpii16",
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "neck",
        "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=_sides("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
    bones=(
        ("right_ankle", "right_knee"), ("right_knee", "right_hip"), ("right_hip", "pelvis"), ("pelvis", "left_hip"),
        ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("pelvis", "thorax"), ("thorax", "neck"),
        ("neck", "head_top"), ("right_wrist", "right_elbow"), ("right_elbow", "right_shoulder"),
        ("right_shoulder", "thorax"), ("thorax", "left_shoulder"), ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
    ),
    sigmas=(.089, .087, .107, .107, .087, .089, .107, .079, .079, .062, .062, .072, .079, .079, .072, .062),
)  # fmt: skip
"""MPII Human Pose (Andriluka et al., CVPR 2014); sigmas as for LSP14."""

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, LSP14, MPII16)}


def mirror_pairs(joints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The pairs (left_x, right_x) among joints, in whatever spelling."""
    place = {canonical_joint_name(joint): joint for joint in joints}
    pairs = ((name, "right_" + name.removeprefix("left_")) for name in place if name.startswith("left_"))
    return tuple((place[left], place[right]) for left, right in pairs if right in place)


def _is_sided(joint: str) -> bool:
    return canonical_joint_name(joint).startswith(("left_", "right_"))


def measured_sigmas(joints: Sequence[str]) -> tuple[float, ...]:
    """COCO's sigma for each joint that is one of COCO's, in whatever spelling, DEFAULT_SIGMA for others."""
    measured = dict(zip(COCO17.joints, COCO17.sigmas, strict=True))
    return tuple(measured.get(canonical_joint_name(joint), DEFAULT_SIGMA) for joint in joints)


def load_skeleton(name_or_path: str | Path) -> Skeleton:
    """A built-in skeleton by name, or one from a `.toml` or `.json` file with the keys of `Skeleton.to_dict`.

    Without `flip_pairs` they are those of `mirror_pairs`, without `sigmas` those of `measured_sigmas`.
    Raises ValueError for an unknown name, a file with missing or unknown keys, and flip pairs that leave a left and a
    right joint of one name unpaired, or pair two sided joints of other names (left_knee, right_ankle): mirrored pictures
    would be labelled wrongly. Joints without a side in their names may be paired as the file likes.
    """
    if str(name_or_path) in SKELETONS:
        return SKELETONS[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix not in (".toml", ".json"):
        raise ValueError(f"unknown skeleton '{name_or_path}'{did_you_mean(str(name_or_path), SKELETONS)}")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such skeleton file")
    try:
        if path.suffix == ".json":
            facts = json.loads(path.read_text(encoding="utf-8"))
        else:
            from featherpose.toml import loads

            facts = loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a readable {path.suffix[1:].upper()} file ({error})") from error
    try:
        skeleton = Skeleton.from_dict(facts)
        pairs = mirror_pairs(skeleton.joints)
        if "sigmas" not in facts:
            skeleton = replace(skeleton, sigmas=measured_sigmas(skeleton.joints))
        if "flip_pairs" not in facts:
            return replace(skeleton, flip_pairs=pairs)
        for first, second in skeleton.flip_pairs:
            if _is_sided(first) and _is_sided(second) and {first, second} not in map(set, pairs):
                raise ValueError(
                    f"flip_pairs has '{first}' with '{second}', which no mirror turns into each other; write left_ and right_ "
                    "before one name, or leave flip_pairs out: then all are found by name"
                )
        for left, right in pairs:
            if {left, right} not in map(set, skeleton.flip_pairs):
                raise ValueError(
                    f"'{left}' and '{right}' are no flip pair; add them, or leave flip_pairs out: then all are found by name"
                )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return skeleton

"""A body in space: bone lengths, joint angles with their limits, and the joints and frames they give.

Lengths are metres, angles degrees. A person's own axes are x to their left, y up, z forward; the world has y up and the
ground at y = 0. At rest (all angles zero) a person stands straight with hanging arms, palms inward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from featherpose.skeletons import COCO17


@dataclass(frozen=True)
class BodyPose:
    """Joint angles in degrees; the same words for both sides, so that mirroring is an exchange of names.

    `raise` lifts a limb away from hanging, `plane` says where to (0 forward, 90 outward, 180 backward), `twist` turns
    it about its own length (positive outward). Every pair of poses may be blended number by number: see `blend_poses`.
    """

    lean: float = 0.0
    """The whole body tips forward (90: on the belly, -90: on the back)."""
    roll: float = 0.0
    """The whole body tips to its left."""
    spin: float = 0.0
    """The body turns about its own length before it tips (lying on a side)."""
    lift: float = 0.0
    """Metres between the lowest point of the body and the ground."""
    bend: float = 0.0
    """The spine curls forward."""
    side: float = 0.0
    """The spine bends to the left."""
    twist: float = 0.0
    """The shoulders turn to the left against the hips."""
    nod: float = 0.0
    turn: float = 0.0
    """The head turns to the left."""
    tilt: float = 0.0
    """The head tips to the left."""
    left_arm_raise: float = 8.0
    left_arm_plane: float = 80.0
    left_arm_twist: float = 0.0
    left_elbow: float = 10.0
    left_wrist: float = 0.0
    left_grip: float = 25.0
    left_leg_raise: float = 0.0
    left_leg_plane: float = 0.0
    left_leg_twist: float = 0.0
    left_knee: float = 0.0
    left_ankle: float = 0.0
    right_arm_raise: float = 8.0
    right_arm_plane: float = 80.0
    right_arm_twist: float = 0.0
    right_elbow: float = 10.0
    right_wrist: float = 0.0
    right_grip: float = 25.0
    right_leg_raise: float = 0.0
    right_leg_plane: float = 0.0
    right_leg_twist: float = 0.0
    right_knee: float = 0.0
    right_ankle: float = 0.0


LIMITS = {
    "bend": (-35, 80), "side": (-45, 45), "twist": (-50, 50), "nod": (-45, 55), "turn": (-75, 75), "tilt": (-35, 35),
    "arm_raise": (-45, 178), "arm_plane": (-45, 160), "arm_twist": (-90, 95), "elbow": (0, 150), "wrist": (-60, 60),
    "grip": (0, 95), "leg_raise": (-35, 125), "leg_plane": (-20, 180), "leg_twist": (-40, 80), "knee": (0, 150),
    "ankle": (-30, 55),
}  # fmt: skip
"""Degrees a healthy adult reaches (rounded from textbook ranges of motion; a limit for drawing, not for medicine)."""

TURNS_AGAINST_THE_MIRROR = ("roll", "spin", "side", "twist", "turn", "tilt")


def within_limits(pose: BodyPose) -> BodyPose:
    """The nearest pose that a body can take."""
    changes = {}
    for field in fields(pose):
        limits = LIMITS.get(field.name.removeprefix("left_").removeprefix("right_"))
        if limits is not None:
            changes[field.name] = float(np.clip(getattr(pose, field.name), *limits))
    return replace(pose, **changes)


def mirror_pose(pose: BodyPose) -> BodyPose:
    """What the person sees in a mirror."""
    facts = {field.name: getattr(pose, field.name) for field in fields(pose)}
    swap = {"left": "right", "right": "left"}
    mirrored = {}
    for name, value in facts.items():
        side, _, part = name.partition("_")
        mirrored[f"{swap[side]}_{part}" if side in swap else name] = (
            -value if name in TURNS_AGAINST_THE_MIRROR else value
        )
    return BodyPose(**mirrored)


def blend_poses(first: BodyPose, second: BodyPose, share: float) -> BodyPose:
    """The pose `share` (0..1) of the way from the first to the second, for moving pictures."""
    values = {
        field.name: (1 - share) * getattr(first, field.name) + share * getattr(second, field.name)
        for field in fields(first)
    }
    return BodyPose(**values)


@dataclass(frozen=True)
class BodyShape:
    """Bone lengths in metres and the fullness of the body (1 is average).

    The defaults are an adult of 1.75 m by the segment ratios of Drillis and Contini (1966), then shifted by up to 2 cm
    (hips lower and wider apart, knees lower, ears lower, nose higher) to where a network trained on photos of COCO
    finds the joints of these drawings: its annotators point at places of the surface, not at bones.
    """

    torso: float = 0.515
    """From the middle of the hips to the middle of the shoulders."""
    shoulder: float = 0.175
    """From the spine to one shoulder."""
    hip: float = 0.105
    upper_arm: float = 0.30
    forearm: float = 0.265
    hand: float = 0.18
    thigh: float = 0.425
    shank: float = 0.42
    foot: float = 0.25
    ankle_height: float = 0.07
    neck: float = 0.085
    head: float = 0.235
    """From chin to crown."""
    girth: float = 1.0
    waist: float = 1.0
    bust: float = 0.0
    """0 flat to 1 full."""


ADULT = BodyShape()
"""The body for which the tables of `figure.py` and `limbs.py` are made."""

PARTS = {
    "torso": 1, "head": 2, "left_upper_arm": 3, "right_upper_arm": 4, "left_forearm": 5, "right_forearm": 6,
    "left_hand": 7, "right_hand": 8, "left_thigh": 9, "right_thigh": 10, "left_shank": 11, "right_shank": 12,
    "left_foot": 13,
    "right_foot": 14, "hair": 15, "skirt": 16,
}  # fmt: skip
"""Part of the body -> number in `mesh.Mesh.part`; 0 is no body."""


def shape_of_height(
    height: float, *, childness: float = 0.0, girth: float = 1.0, waist: float = 1.0, bust: float = 0.0
) -> BodyShape:
    """The average body of a height in metres; `childness` 1 has the large head and short limbs of a four-year-old."""
    adult, scale = ADULT, height / 1.75
    limbs, head = scale * (1 - 0.10 * childness), scale * (1 + 0.55 * childness)
    names = {
        "upper_arm": limbs, "forearm": limbs, "hand": limbs, "thigh": limbs, "shank": limbs, "foot": limbs,
        "head": head,
        "neck": scale * (1 - 0.3 * childness),
    }  # fmt: skip
    lengths = {
        f.name: getattr(adult, f.name) * names.get(f.name, scale)
        for f in fields(adult)
        if f.name not in ("girth", "waist", "bust")
    }
    return BodyShape(**lengths, girth=girth * (1 + 0.08 * childness), waist=waist, bust=bust)


def turn(axis: str, degrees: float | np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation about 'x', 'y' or 'z', right-handed."""
    if isinstance(degrees, (int, float)):  # many single angles: the arithmetic of arrays would cost the most
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array(_ROWS[axis](cos, sin, 1.0, 0.0)).reshape(3, 3)
    angle = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(angle)
    return np.stack(_ROWS[axis](cos, sin, one, zero), axis=-1).reshape(*angle.shape, 3, 3)


_ROWS = {
    "x": lambda cos, sin, one, zero: (one, zero, zero, zero, cos, -sin, zero, sin, cos),
    "y": lambda cos, sin, one, zero: (cos, zero, sin, zero, one, zero, -sin, zero, cos),
    "z": lambda cos, sin, one, zero: (cos, -sin, zero, sin, cos, zero, zero, zero, one),
}


@dataclass(frozen=True)
class Bones:
    """Where every bone is: origins (3,) and frames (3, 3) with columns left, up, forward; a limb lies along -up."""

    joints: np.ndarray
    """(17, 3) float64, the joints of COCO17."""
    frames: dict[str, np.ndarray]
    origins: dict[str, np.ndarray]


def spine_at(shape: BodyShape, pose: BodyPose, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) and frames (N, 3, 3) of the spine at shares of its length; 0 mid-hip, 1 mid-shoulder, straight on
    beyond both. The mid-hip is the origin; the heading is not applied.
    """
    root = turn("x", pose.lean) @ turn("y", pose.spin) @ turn("z", -pose.roll)
    knots = np.linspace(0.0, 1.0, 9)

    def frames(s: np.ndarray) -> np.ndarray:
        s = np.clip(s, 0.0, 1.0)
        return root @ turn("y", s * pose.twist) @ turn("x", s * pose.bend) @ turn("z", -s * pose.side)

    steps = frames((knots[1:] + knots[:-1]) / 2)[:, :, 1] * (shape.torso / 8)
    points = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    share = np.asarray(share, dtype=np.float64)
    frame = frames(share)
    inside = np.stack([np.interp(share, knots, points[:, i]) for i in range(3)], axis=1)
    beyond = (share - np.clip(share, 0.0, 1.0)) * shape.torso
    return inside + beyond[:, None] * frame[:, :, 1], frame


FACE_POINTS = {"nose": (0.0, -0.10, 0.49), "eye": (0.138, 0.03, 0.385), "ear": (0.335, -0.06, -0.04)}
"""Where the left side's face joints are in the head's frame, as shares of its height from its centre."""


def bones_of(shape: BodyShape, pose: BodyPose) -> Bones:
    """Joints and frames of a pose, the mid-hip at the origin, facing z."""
    (hips, chest), (root, chest_frame) = spine_at(shape, pose, np.array([0.0, 1.0]))
    origins: dict[str, np.ndarray] = {"hips": hips, "chest": chest}
    frames: dict[str, np.ndarray] = {"hips": root, "chest": chest_frame}
    joints: dict[str, np.ndarray] = {}

    neck_frame = chest_frame @ turn("y", 0.3 * pose.turn) @ turn("x", 0.4 * pose.nod) @ turn("z", -0.4 * pose.tilt)
    head_frame = chest_frame @ turn("y", pose.turn) @ turn("x", pose.nod) @ turn("z", -pose.tilt)
    neck = chest + 0.06 * shape.torso * chest_frame[:, 1]
    head = neck + shape.neck * neck_frame[:, 1] + shape.head * (0.42 * head_frame[:, 1] + 0.10 * head_frame[:, 2])
    origins |= {"neck": neck, "head": head}
    frames |= {"neck": neck_frame, "head": head_frame}
    joints["nose"] = head + head_frame @ (np.array(FACE_POINTS["nose"]) * shape.head)

    for side, sign in (("left", 1.0), ("right", -1.0)):
        mirror = np.array([sign, 1.0, 1.0])
        value = {
            name: getattr(pose, f"{side}_{name}") for name in ("arm_raise", "arm_plane", "arm_twist", "elbow", "wrist")
        }
        for part in ("eye", "ear"):
            joints[f"{side}_{part}"] = head + head_frame @ (np.array(FACE_POINTS[part]) * mirror * shape.head)
        # The shoulder blade rises with the arm: about a third of the way to the ear when it points up.
        rise = 0.0011 * max(value["arm_raise"] - 40.0, 0.0) * shape.shoulder / 0.175
        shoulder = chest + chest_frame @ np.array([sign * (shape.shoulder - 0.35 * rise), rise, 0.0])
        arm = chest_frame @ _limb(sign, value["arm_raise"], value["arm_plane"], value["arm_twist"])
        forearm = arm @ turn("x", -value["elbow"])
        elbow = shoulder - shape.upper_arm * arm[:, 1]
        wrist = elbow - shape.forearm * forearm[:, 1]
        hand = forearm @ turn("z", -sign * value["wrist"])

        value = {
            name: getattr(pose, f"{side}_{name}") for name in ("leg_raise", "leg_plane", "leg_twist", "knee", "ankle")
        }
        hip = hips + root @ np.array([sign * shape.hip, 0.0, 0.0])
        thigh = root @ _limb(sign, value["leg_raise"], value["leg_plane"], value["leg_twist"])
        shank = thigh @ turn("x", value["knee"])
        knee = hip - shape.thigh * thigh[:, 1]
        ankle = knee - shape.shank * shank[:, 1]
        foot = shank @ turn("x", value["ankle"])
        for name, origin, frame in (
            ("shoulder", shoulder, arm), ("elbow", elbow, forearm), ("wrist", wrist, hand),
            ("hip", hip, thigh), ("knee", knee, shank), ("ankle", ankle, foot),
        ):  # fmt: skip
            joints[f"{side}_{name}"] = origin
            origins[f"{side}_{name}"], frames[f"{side}_{name}"] = origin, frame
    return Bones(joints=np.stack([joints[name] for name in COCO17.joints]), frames=frames, origins=origins)


def _limb(sign: float, lift: float, plane: float, twist: float) -> np.ndarray:
    """Swings a hanging limb up by `lift` in a vertical plane, then turns it about itself; sign -1 is the right side."""
    return turn("y", sign * plane) @ turn("x", -lift) @ turn("y", sign * (twist - plane))

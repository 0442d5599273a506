"""What people do: random poses by kind, and random bodies.

The ranges are guesses made while looking at the drawings: wide enough for variety, narrow enough that few limbs pass
through the body. `within_limits` has the last word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np

from featherpose.data.synthetic.body import BodyPose, BodyShape, mirror_pose, shape_of_height, within_limits

Angles = dict[str, float]


def _arm(rng: np.random.Generator, kind: str) -> Angles:
    u = rng.uniform
    if kind == "hang":
        return {"arm_raise": u(6, 18), "arm_plane": u(60, 105), "arm_twist": u(-35, 5), "elbow": u(3, 30)}
    if kind == "hip":
        return {
            "arm_raise": u(40, 52),
            "arm_plane": u(95, 120),
            "arm_twist": u(-65, -50),
            "elbow": u(95, 110),
            "wrist": -20,
        }
    if kind == "bent":
        return {"arm_raise": u(5, 35), "arm_plane": u(0, 60), "arm_twist": u(-50, 10), "elbow": u(50, 125)}
    if kind == "forward":
        return {"arm_raise": u(55, 105), "arm_plane": u(-10, 45), "arm_twist": u(-30, 20), "elbow": u(0, 60)}
    if kind == "out":
        return {"arm_raise": u(60, 110), "arm_plane": u(75, 105), "arm_twist": u(-20, 60), "elbow": u(0, 40)}
    if kind == "up":
        return {"arm_raise": u(135, 175), "arm_plane": u(40, 100), "arm_twist": u(-10, 60), "elbow": u(0, 50)}
    if kind == "goal":
        return {"arm_raise": u(75, 115), "arm_plane": u(75, 100), "arm_twist": u(60, 95), "elbow": u(60, 115)}
    if kind == "phone":
        return {
            "arm_raise": u(25, 50),
            "arm_plane": u(20, 60),
            "arm_twist": u(-15, 10),
            "elbow": u(128, 142),
            "grip": 70,
        }
    if kind == "across":
        return {"arm_raise": u(25, 45), "arm_plane": u(10, 35), "arm_twist": u(-80, -55), "elbow": u(85, 105)}
    return {"arm_raise": u(5, 40), "arm_plane": u(140, 160), "arm_twist": u(-60, -20), "elbow": u(5, 50)}


ARMS = ("hang", "hang", "hip", "bent", "bent", "forward", "out", "up", "goal", "phone", "across", "back")


def _arms(rng: np.random.Generator, *kinds: str) -> Angles:
    """Both arms of the given kinds; in half of the cases both do the same."""
    left = str(rng.choice(kinds or ARMS))
    right = left if rng.random() < 0.5 else str(rng.choice(kinds or ARMS))
    return _sided("left", _arm(rng, left)) | _sided("right", _arm(rng, right))


def _sided(side: str, angles: Angles) -> Angles:
    return {f"{side}_{name}": value for name, value in angles.items()}


def _both(**angles: float) -> Angles:
    return _sided("left", angles) | _sided("right", angles)


def _head(rng: np.random.Generator, amount: float = 1.0) -> Angles:
    return {
        "nod": 12 * amount * rng.normal() + 3,
        "turn": 24 * amount * rng.normal(),
        "tilt": 7 * amount * rng.normal(),
    }


def _stand(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    legs = {"leg_raise": u(2, 12), "leg_plane": 90, "leg_twist": u(0, 20)}
    relaxed = {"leg_raise": u(2, 14), "leg_plane": u(30, 100), "leg_twist": u(0, 30), "knee": u(0, 25)}
    return (
        {"side": u(-6, 6), "bend": u(-4, 12), "twist": u(-12, 12), "roll": u(-2, 2)}
        | _head(rng) | _arms(rng) | _sided("left", legs) | _sided("right", relaxed)
    )  # fmt: skip


def _arms_raised(rng: np.random.Generator) -> Angles:
    return _stand(rng) | _arms(rng, "up", "goal", "out")


def _walk(rng: np.random.Generator, effort: float = 1.0) -> Angles:
    u, swing = rng.uniform, rng.uniform(0.5, 1.1) * effort
    elbow = 15 if effort < 1.3 else 85
    return {
        "lean": 3 * effort, "bend": u(0, 8) * effort, "twist": 8 * swing,
        "left_leg_raise": 30 * swing, "left_leg_plane": 5, "left_knee": u(5, 25) * effort, "left_ankle": u(-10, 5),
        "right_leg_raise": -22 * swing, "right_leg_plane": 5, "right_knee": u(15, 45) * effort, "right_ankle": u(5, 30),
        "left_arm_raise": -22 * swing, "left_arm_plane": 12, "left_elbow": u(0, 25) + elbow,
        "left_arm_twist": u(-30, 0), "right_arm_raise": 28 * swing, "right_arm_plane": 12,
        "right_elbow": u(0, 30) + elbow, "right_arm_twist": u(-30, 0),
    } | _head(rng, 0.7)  # fmt: skip


def _run(rng: np.random.Generator) -> Angles:
    return _walk(rng, rng.uniform(1.4, 2.0)) | {"lift": rng.uniform(0, 0.12)}


def _sit(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    legs = [
        {"leg_raise": u(78, 95), "leg_plane": u(5, 28), "leg_twist": u(-10, 15), "knee": u(65, 105), "ankle": u(-8, 10)}
        for _ in range(2)
    ]
    return (
        {"lean": u(-18, 12), "bend": u(0, 25), "twist": u(-15, 15), "side": u(-6, 6)} | _head(rng)
        | _arms(rng, "bent", "bent", "hang", "forward", "phone", "across", "goal")
        | _sided("left", legs[0]) | _sided("right", legs[1])
    )  # fmt: skip


def _sit_floor(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    lean = u(-20, 5)
    if rng.random() < 0.5:  # cross-legged
        # The angles that bring the ankles lowest and nearest the middle, found by trying all of them.
        legs = {"leg_raise": u(98, 108) + lean, "leg_plane": u(28, 40), "leg_twist": u(70, 80), "knee": u(136, 148)}
    else:
        knee = u(0, 85)  # the heels on the floor: the thighs rise by half of what the knees bend
        legs = {"leg_raise": 90 + knee / 2 + lean, "leg_plane": u(5, 25), "knee": knee, "ankle": u(0, 15)}
    return {"lean": lean, "bend": u(0, 30)} | _head(rng) | _arms(rng, "bent", "hang", "forward", "up") | _both(**legs)


def _squat(rng: np.random.Generator) -> Angles:
    u, depth = rng.uniform, rng.uniform(0.45, 1.0)
    lean = 38 * depth
    legs = {
        "leg_raise": 72 * depth + lean, "leg_plane": u(15, 40), "leg_twist": u(0, 20), "knee": 118 * depth,
        "ankle": -25 * depth,
    }  # fmt: skip
    return (
        {"lean": lean, "bend": u(-5, 20), "nod": u(-30, 5)}
        | _arms(rng, "forward", "forward", "bent", "up")
        | _both(**legs)
    )


def _lunge(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    return {
        "lean": u(0, 15), "left_leg_raise": u(60, 95), "left_leg_plane": 5, "left_knee": u(60, 100),
        "right_leg_raise": u(-28, -8),
        "right_knee": u(20, 80), "right_ankle": u(10, 40),
    } | _head(rng) | _arms(rng)  # fmt: skip


def _kneel(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    front = {"leg_raise": u(80, 95), "leg_plane": 8, "knee": u(80, 100)}
    back = {"leg_raise": u(-5, 15), "knee": u(85, 100), "ankle": u(20, 50)}
    legs = _sided("left", front if rng.random() < 0.6 else back) | _sided("right", back)
    return {"lean": u(-5, 20), "bend": u(0, 25)} | _head(rng) | _arms(rng, "bent", "forward", "hang", "up") | legs


def _lie(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    legs = [{"leg_raise": u(0, 60), "leg_plane": u(10, 60), "knee": u(0, 80)} for _ in range(2)]
    spin = float(rng.choice([0, 0, 0, 80, -80, 100]))
    return (
        {"lean": -90 + u(-4, 4), "spin": spin, "bend": u(0, 15)} | _head(rng)
        | _arms(rng, "hang", "out", "up", "bent", "goal") | _sided("left", legs[0]) | _sided("right", legs[1])
    )  # fmt: skip


def _plank(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    return {"lean": u(68, 80), "bend": u(-8, 8), "nod": u(-40, 0), "turn": u(-30, 30)} | _both(
        arm_raise=u(70, 90),
        arm_plane=u(0, 20),
        elbow=u(0, 40),
        leg_raise=u(-4, 10),
        leg_plane=20,
        ankle=u(-25, 0),
        wrist=0,
        grip=5,
    )


def _yoga(rng: np.random.Generator) -> Angles:
    u, kind = rng.uniform, rng.integers(5)
    if kind == 0:  # tree
        legs = _sided(
            "left", {"leg_raise": u(48, 62), "leg_plane": u(62, 85), "leg_twist": u(30, 45), "knee": u(115, 135)}
        )
        return legs | _arms(rng, "up", "goal", "out") | {"nod": u(-10, 5)}
    if kind == 1:  # warrior
        front = {"leg_raise": u(50, 72), "leg_plane": u(62, 80), "leg_twist": u(20, 45), "knee": u(55, 85)}
        back = {"leg_raise": u(38, 52), "leg_plane": u(85, 105), "leg_twist": u(0, 20)}
        arms = _both(arm_raise=u(82, 98), arm_plane=90, elbow=u(0, 12), grip=5)
        return _sided("left", front) | _sided("right", back) | arms | {"turn": u(20, 70)}
    if kind == 2:  # triangle
        arms = _both(arm_raise=u(80, 100), arm_plane=90, elbow=u(0, 10), grip=5)
        return (
            _both(leg_raise=u(22, 34), leg_plane=90, leg_twist=10)
            | arms
            | {"side": u(25, 45), "roll": u(10, 35), "turn": u(-40, 40)}
        )
    if kind == 3:  # downward dog
        fold = u(95, 112)
        legs = _both(leg_raise=fold, leg_plane=u(3, 12), ankle=-25)
        return (
            {"lean": u(112, 125), "nod": u(0, 20)}
            | legs
            | _both(arm_raise=u(160, 175), arm_plane=10, elbow=u(0, 12), grip=5)
        )
    fold = u(60, 100)  # forward fold
    return (
        {"lean": fold * 0.7, "bend": fold * 0.5}
        | _both(leg_raise=fold * 0.7, leg_plane=8)
        | _arms(rng, "forward", "forward", "up")
    )


def _jump(rng: np.random.Generator) -> Angles:
    u = rng.uniform
    legs = [
        {"leg_raise": u(-25, 75), "leg_plane": u(0, 80), "knee": u(0, 100), "ankle": u(0, 45), "leg_twist": u(-10, 30)}
        for _ in range(2)
    ]
    return (
        {"lift": u(0.15, 0.7), "lean": u(-25, 35), "roll": u(-25, 25), "bend": u(-20, 30), "side": u(-15, 15),
        "twist": u(-25, 25)}
        | _head(rng) | _arms(rng) | _sided("left", legs[0]) | _sided("right", legs[1])
    )  # fmt: skip


def _inverted(rng: np.random.Generator) -> Angles:
    angles = _jump(rng)
    return (
        angles
        | _arms(rng, "up", "out", "goal")
        | {"roll": float(rng.uniform(80, 280)), "lift": float(rng.uniform(0, 0.3))}
    )


POSES: dict[str, tuple[float, Callable[[np.random.Generator], Angles]]] = {
    "stand": (26, _stand), "arms_raised": (9, _arms_raised), "walk": (14, _walk), "run": (6, _run), "sit": (14, _sit),
    "sit_floor": (4, _sit_floor), "squat": (5, _squat), "lunge": (5, _lunge), "kneel": (3, _kneel), "lie": (4, _lie),
    "plank": (2, _plank), "yoga": (8, _yoga), "jump": (6, _jump), "inverted": (1, _inverted),
}  # fmt: skip
"""Kind of pose -> (how often, of a hundred or so; the function that draws its angles)."""


def random_pose(rng: np.random.Generator, kind: str) -> BodyPose:
    """A pose of one kind of `POSES`, mirrored in half of the cases, with a little unrest in every angle."""
    angles = POSES[kind][1](rng)
    pose = BodyPose(**{name: float(value) for name, value in angles.items()})
    unrest = rng.normal(0.0, 2.0, len(fields(pose)))
    quiet = ("lift", "roll", "spin", "lean")
    changes = {
        f.name: getattr(pose, f.name) + float(amount)
        for f, amount in zip(fields(pose), unrest, strict=True)
        if f.name not in quiet
    }
    pose = within_limits(replace(pose, **changes))
    return mirror_pose(pose) if rng.random() < 0.5 else pose


def random_shape(rng: np.random.Generator) -> BodyShape:
    """A child (one in seven) or an adult, every bone some per cent longer or shorter than average."""
    child = rng.random() < 0.15
    woman = rng.random() < 0.5
    childness = float(rng.uniform(0.3, 1.0)) if child else 0.0
    height = 1.75 - 0.75 * childness if child else float(rng.normal(1.64 if woman else 1.77, 0.07))
    adult_woman = woman and not child
    shape = shape_of_height(
        height, childness=childness,
        girth=float(np.clip(rng.normal(1.0, 0.13), 0.8, 1.4)),
        waist=float(rng.uniform(0.82, 0.98) if adult_woman else rng.uniform(0.95, 1.15)),
        bust=float(rng.uniform(0.3, 1.0)) if adult_woman else 0.0,
    )  # fmt: skip
    factor = rng.normal(1.0, 0.035, len(fields(shape)))
    varied = {
        f.name: getattr(shape, f.name) * float(np.clip(v, 0.91, 1.09))
        for f, v in zip(fields(shape), factor, strict=True)
        if f.name not in ("girth", "waist", "bust")
    }
    width = {"shoulder": 0.94, "hip": 1.05} if adult_woman else {}
    return replace(shape, **(varied | {name: varied[name] * v for name, v in width.items()}))

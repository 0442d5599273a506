"""Arms and legs, hands and feet. The tables are in metres for `body.ADULT`, made by eye like those of `figure.py`."""

from __future__ import annotations

import numpy as np

from featherpose.data.synthetic.body import ADULT, PARTS, BodyShape, Bones
from featherpose.data.synthetic.look import Cloth, Look
from featherpose.data.synthetic.mesh import (
    Mesh,
    blended_frames,
    cross,
    face_set,
    read_table,
    ring_points,
    rounded,
    skin_of,
)

ARM = rounded(np.array([
    (-0.155, 0.001, 0.001, 0.0), (-0.150, 0.016, 0.018, 0.0), (-0.130, 0.029, 0.032, 0.0),
    (-0.08, 0.043, 0.047, 0.0), (0.06, 0.052, 0.058, 0.0), (0.30, 0.048, 0.054, 0.0), (0.70, 0.042, 0.044, 0.0),
    (0.95, 0.038, 0.038, 0.0), (1.05, 0.038, 0.038, 0.0), (1.22, 0.040, 0.043, 0.0), (1.60, 0.033, 0.035, 0.0),
    (1.88, 0.024, 0.028, 0.0), (2.00, 0.021, 0.028, 0.0),
]))  # fmt: skip
"""Share of the upper arm (0..1) or 1 + share of the forearm, half width (palm to back), half depth, shift forward."""

LEG = rounded(np.array([
    (-0.16, 0.001, 0.001, -0.01), (-0.155, 0.025, 0.028, -0.01), (-0.12, 0.052, 0.058, -0.01),
    (0.00, 0.072, 0.088, -0.010), (0.25, 0.077, 0.088, 0.0), (0.60, 0.065, 0.070, 0.004),
    (0.92, 0.052, 0.056, 0.006), (1.03, 0.050, 0.054, 0.004), (1.14, 0.047, 0.052, -0.006),
    (1.33, 0.050, 0.057, -0.014), (1.60, 0.040, 0.045, -0.008), (1.88, 0.031, 0.036, -0.004),
    (2.00, 0.032, 0.038, -0.004), (2.07, 0.031, 0.040, 0.0),
]))  # fmt: skip
"""As ARM."""


def _limb(
    table: np.ndarray, bones: Bones, names: tuple[str, str], lengths: tuple[float, float], *, cloth: Cloth,
    cloth_end: float, look: Look, girth: float, scale: float, parts: tuple[int, int], face_size: float,
) -> list[Mesh]:  # fmt: skip
    """Upper and lower tube of an arm or leg; `cloth` covers it down to `cloth_end` in the table's units."""
    low, high = table[0, 0], table[-1, 0]
    total = lengths[0] * (1 - low) + lengths[1] * (high - 1)
    rings, around = counts(total, 0.06 * scale, face_size, most=24)
    t = np.linspace(low, high, rings)
    if low < cloth_end < high:
        t = np.sort(np.concatenate([t, [cloth_end - 0.012, cloth_end + 0.012]]))
    half_wide, half_deep, shift = read_table(table, t)
    shift = shift * scale
    covered = t < cloth_end
    hang = cloth.loose * np.clip((t - 0.1) / 1.9, 0, 1) * 0.05 * scale
    cover = np.where(covered, cloth.thickness + hang, 0.0)
    wide, deep = half_wide * scale * girth + cover, half_deep * scale * girth + cover
    upper, lower = bones.frames[names[0]], bones.frames[names[1]]
    start = bones.origins[names[0]]
    share = np.clip((t - 1) * lengths[0] / (0.11 * scale) + 0.5, 0, 1)
    frame = blended_frames(upper, lower, share * share * (3 - 2 * share))
    above = np.minimum(t, 1.0)[:, None] * lengths[0] * upper[:, 1]
    below = np.maximum(t - 1.0, 0.0)[:, None] * lengths[1] * lower[:, 1]
    centre = start - above - below + shift[:, None] * frame[:, :, 2]
    points = ring_points(centre, frame, wide, deep, around)
    angle = np.arange(around) * (2 * np.pi / around)
    points += folds(cloth, t * lengths[0], angle, covered)[..., None] * (points - centre[:, None])
    mid = (t[1:] + t[:-1]) / 2
    v = angle[None, :] + np.pi / around + 0 * mid[:, None]
    colour = cloth.paint(np.broadcast_to((mid * lengths[0])[:, None], v.shape), 0.06 * scale * v)
    colour[mid >= cloth_end] = look.skin
    faces = skin_of(points)
    split = int(np.searchsorted(mid, 1.0))
    gloss = 0.06 if cloth_end < 1.5 else 0.02
    return [
        face_set(faces[:split], colour[:split], part=parts[0], gloss=gloss),
        face_set(faces[split:], colour[split:], part=parts[1], gloss=gloss),
    ]


def arm_meshes(shape: BodyShape, look: Look, bones: Bones, side: str, grip: float, face_size: float) -> list[Mesh]:
    """Arm, shoulder muscle and hand; the fingers curl by `grip` degrees."""
    scale = (shape.upper_arm + shape.forearm) / (ADULT.upper_arm + ADULT.forearm)
    meshes = _limb(
        ARM, bones, (f"{side}_shoulder", f"{side}_elbow"), (shape.upper_arm, shape.forearm), cloth=look.top,
        cloth_end=look.sleeve, look=look, girth=0.5 + 0.5 * shape.girth, scale=scale,
        parts=(PARTS[f"{side}_upper_arm"], PARTS[f"{side}_forearm"]), face_size=face_size,
    )  # fmt: skip
    sign = 1.0 if side == "left" else -1.0
    meshes.append(_shoulder(shape, look, bones, side, sign))
    wrist, frame = bones.origins[f"{side}_wrist"], bones.frames[f"{side}_wrist"]
    unit, part = shape.hand / 0.18, PARTS[f"{side}_hand"]
    inward, down, forward = -sign * frame[:, 0], -frame[:, 1], frame[:, 2]
    along = np.array([-0.012, 0.02, 0.05, 0.08, 0.098])
    wide, deep = (
        np.array([0.019, 0.018, 0.016, 0.014, 0.008]) * unit,
        np.array([0.026, 0.034, 0.041, 0.041, 0.034]) * unit,
    )
    palm = ring_points(wrist + along[:, None] * unit * down, np.broadcast_to(frame, (5, 3, 3)), wide, deep, 8)
    colour = np.asarray(look.gloves if look.gloves is not None else look.skin)
    meshes.append(face_set(skin_of(palm), colour, part=part, gloss=0.05))
    knuckles = wrist + 0.085 * unit * down
    fine = face_size < 0.022
    fingers = [(-0.028, 0.060, 0.0085), (-0.010, 0.072, 0.0095), (0.010, 0.078, 0.0095), (0.029, 0.070, 0.009)]
    offset, length, radius = np.array(fingers if fine else [(0.0, 0.072, 0.033)]).T * unit
    roots = knuckles + offset[:, None] * forward
    thin = radius if fine else np.array([0.011 * unit])
    tone = np.where(np.arange(len(offset)) % 2, 0.95, 1.0)[:, None, None, None]
    faces = _fingers(roots, down, inward, forward, grip, length, thin, radius)
    meshes.append(face_set(faces, colour * (tone + np.zeros((*faces.shape[:3], 1))), part=part, gloss=0.05))
    thumb_down = (0.75 * down + 0.55 * forward + 0.25 * inward) / 0.963
    root = wrist + 0.03 * unit * down + 0.028 * unit * forward
    size = np.array([0.0115 * unit])
    sideways = np.cross(inward, thumb_down) * sign
    thumb = _fingers(root[None], thumb_down, inward, sideways, 0.3 * grip, np.array([0.075 * unit]), size, size)
    meshes.append(face_set(thumb, colour, part=part, gloss=0.05))
    return meshes


def _shoulder(shape: BodyShape, look: Look, bones: Bones, side: str, sign: float) -> Mesh:
    """The muscle between neck and shoulder, which follows a raised arm."""
    scale, chest = shape.torso / ADULT.torso, bones.frames["chest"]
    inner = bones.origins["chest"] + chest @ np.array([sign * 0.07, -0.025, -0.01]) * scale
    outer = bones.origins[f"{side}_shoulder"]
    outward = (outer - inner) / np.linalg.norm(outer - inner)
    front = chest[:, 2] - (chest[:, 2] @ outward) * outward
    front /= np.linalg.norm(front)
    frame = np.stack([np.cross(-outward, front), -outward, front], axis=1)
    share = np.array([0.0, 0.4, 0.75, 1.0, 1.15])
    centre = inner + share[:, None] * (outer - inner)
    radius = np.array([0.052, 0.050, 0.047, 0.042, 0.015]) * scale + look.top.thickness
    faces = skin_of(ring_points(centre, np.broadcast_to(frame, (5, 3, 3)), radius, radius * 1.1, 10))
    along = np.broadcast_to(np.linspace(0.40, 0.50, 4)[:, None] * scale, faces.shape[:2])
    return face_set(faces, look.top.paint(along, 0 * along), part=PARTS["torso"], gloss=0.02)


def _fingers(
    roots: np.ndarray, down: np.ndarray, inward: np.ndarray, across: np.ndarray, grip: float, length: np.ndarray,
    thin: np.ndarray, wide: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(N, 3, 6, 4, 3) faces of N fingers that curl by `grip` degrees at each of two knuckles; (3,) ways, metres."""
    bend = np.deg2rad(np.array([0.2, 0.55, 1.25, 1.9]) * grip)[:, None]
    ways = np.cos(bend) * down + np.sin(bend) * inward
    steps = np.concatenate([np.zeros((1, 3)), np.cumsum(ways[:3], axis=0) / 3])
    centre = roots[:, None] + length[:, None, None] * steps
    front = across / np.linalg.norm(across)
    left = cross(-ways, np.broadcast_to(front, ways.shape))
    frame = np.tile(np.stack([left, -ways, np.broadcast_to(front, ways.shape)], axis=2), (len(roots), 1, 1))
    taper = np.tile([1.0, 1.0, 0.92, 0.55], len(roots))
    rings = ring_points(centre.reshape(-1, 3), frame, np.repeat(thin, 4) * taper, np.repeat(wide, 4) * taper, 6)
    rows = np.delete(np.arange(len(rings) - 1), np.arange(3, len(rings) - 1, 4))  # not from one finger to the next
    return skin_of(rings)[rows].reshape(len(roots), 3, 6, 4, 3)


FOOT = rounded(np.array([
    (-0.064, 0.002, 0.004), (-0.058, 0.020, 0.026), (-0.046, 0.030, 0.040), (-0.02, 0.034, 0.046),
    (0.03, 0.034, 0.044), (0.075, 0.038, 0.034), (0.12, 0.044, 0.025), (0.16, 0.042, 0.019), (0.185, 0.030, 0.015),
    (0.195, 0.016, 0.010), (0.199, 0.002, 0.002),
]))  # fmt: skip
"""Metres ahead of the ankle, half width, half height, for a foot of 0.25 m."""


def leg_meshes(shape: BodyShape, look: Look, bones: Bones, side: str, face_size: float) -> list[Mesh]:
    """Leg and foot or shoe."""
    scale = (shape.thigh + shape.shank) / (ADULT.thigh + ADULT.shank)
    meshes = _limb(
        LEG, bones, (f"{side}_hip", f"{side}_knee"), (shape.thigh, shape.shank), cloth=look.bottom,
        cloth_end=look.leg_end, look=look, girth=0.3 + 0.7 * shape.girth, scale=scale,
        parts=(PARTS[f"{side}_thigh"], PARTS[f"{side}_shank"]), face_size=face_size,
    )  # fmt: skip
    ankle, frame, unit = bones.origins[f"{side}_ankle"], bones.frames[f"{side}_ankle"], shape.foot / 0.25
    rings = max(6, min(16, int(0.26 / face_size)))
    along = np.linspace(FOOT[0, 0], FOOT[-1, 0], rings)
    wide, high = (column * unit for column in read_table(FOOT, along))
    shoe = look.shoe is not None
    wide, high = (wide + 0.006, high + 0.006) if shoe else (wide, high)
    lie = np.stack([frame[:, 0], -frame[:, 2], frame[:, 1]], axis=1)  # the tube runs forward along -(-forward)
    height = high - shape.ankle_height
    centre = ankle + (along * unit)[:, None] * frame[:, 2] + height[:, None] * frame[:, 1]
    points = ring_points(centre, np.broadcast_to(lie, (rings, 3, 3)), wide, high, 12, power=2.5)
    colour = np.broadcast_to(np.asarray(look.shoe if shoe else look.skin), (rings - 1, 12, 3)).copy()
    if shoe and look.sole is not None:
        colour[:, 8:10] = colour[:, 7:11:3] = look.sole
    meshes.append(face_set(skin_of(points), colour, part=PARTS[f"{side}_foot"], gloss=0.12 if shoe else 0.04))
    return meshes


def counts(length: float, radius: float, face_size: float, *, most: int) -> tuple[int, int]:
    """Rings and faces to a ring of a tube (an even number, so that left and right are alike)."""
    rings = max(7, round(length / face_size) + 1)
    around = int(np.clip(2 * round(np.pi * radius / face_size), 8, most))
    return rings, around


def folds(cloth: Cloth, along: np.ndarray, angle: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """(N, M) shares of the radius by which the cloth swells and sinks."""
    waves = np.zeros((len(along), len(angle)))
    for depth, per_metre, turns, phase in cloth.waves:
        waves += depth * np.sin(per_metre * along[:, None] + turns * angle[None, :] + phase)
    return waves * covered[:, None]

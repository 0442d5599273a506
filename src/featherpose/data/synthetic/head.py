"""Head, face and hair. Every table is in shares of the head's height, from the head's centre: x left, y up, z forward.

The eyes, the tip of the nose and the ears lie where `body.FACE_POINTS` says, so that the face joints can be seen.
"""

from __future__ import annotations

import numpy as np

from featherpose.data.synthetic.body import FACE_POINTS, PARTS, BodyShape, Bones
from featherpose.data.synthetic.look import Look
from featherpose.data.synthetic.mesh import Mesh, disc, face_set, read_table, ring_points, rounded, skin_of

HEAD_PART, HAIR_PART = PARTS["head"], PARTS["hair"]

SKULL = rounded(np.array([
    (-0.500, 0.060, 0.260, 0.060), (-0.470, 0.120, 0.215, 0.140), (-0.400, 0.185, 0.155, 0.225),
    (-0.300, 0.235, 0.090, 0.300), (-0.200, 0.268, 0.045, 0.350), (-0.080, 0.290, 0.010, 0.388),
    (0.080, 0.310, -0.020, 0.408), (0.230, 0.312, -0.040, 0.408), (0.360, 0.265, -0.060, 0.350),
    (0.450, 0.172, -0.070, 0.235), (0.488, 0.085, -0.075, 0.115), (0.500, 0.010, -0.075, 0.020),
]))  # fmt: skip
"""Height, half width, shift forward, half depth."""

NOSE = np.array([
    (0.050, 0.032, 0.350, 0.035), (-0.020, 0.042, 0.365, 0.065), (-0.070, 0.058, 0.385, 0.090),
    (-0.105, 0.080, 0.395, 0.095), (-0.138, 0.075, 0.390, 0.065), (-0.160, 0.030, 0.385, 0.030),
])  # fmt: skip

HAIRLINE = np.array([(-0.50, -0.30), (-0.12, -0.24), (-0.04, 0.02), (0.10, 0.12), (0.24, 0.30), (0.50, 0.35)])
"""Forward position -> height above which hair grows."""

CUTS = {
    "crop": (0.018, 0.02), "short": (0.045, 0.05), "curly": (0.12, 0.25), "bob": (0.055, 0.04), "long": (0.055, 0.04),
    "bun": (0.03, 0.03), "ponytail": (0.03, 0.03),
}  # fmt: skip
"""Style -> (thickness, unrest as share of it)."""


def head_meshes(shape: BodyShape, look: Look, bones: Bones, face_size: float) -> list[Mesh]:
    """The faces of head, face, hair and hat at the place of the head's bones."""
    size, origin, frame = shape.head, bones.origins["head"], bones.frames["head"]

    def place(local: np.ndarray) -> np.ndarray:
        return origin + (np.asarray(local, dtype=np.float64) * size) @ frame.T

    fine = min(face_size, 0.02)
    rings = max(12, round(size / fine))
    around = int(np.clip(2 * round(np.pi * 0.34 * size / fine), 14, 44))
    # Rings crowd at crown and chin, where the outline turns.
    height = -0.5 * np.cos(np.linspace(0, np.pi, rings))[::-1]
    skull = _shell(height, around, 0.0)
    middle = skin_of(skull).mean(axis=2)
    colour = np.broadcast_to(np.asarray(look.skin), middle.shape).copy()
    cheek = ((np.abs(middle[..., 0]) - 0.17) / 0.08) ** 2 + ((middle[..., 1] + 0.15) / 0.1) ** 2
    cheeks = np.exp(-cheek) * (middle[..., 2] > 0.1)
    colour *= 1 + cheeks[..., None] * np.array([0.03, -0.07, -0.06])
    if look.beard > 0:
        chin = (middle[..., 1] < -0.17 - 0.5 * np.clip(0.15 - np.abs(middle[..., 0]), 0, 0.1)) & (
            middle[..., 2] > -0.02
        )
        share = look.beard * chin[..., None] * 0.85
        colour = (1 - share) * colour + share * np.asarray(look.hair)
    meshes = [
        face_set(place(skin_of(skull)), colour, part=HEAD_PART, gloss=0.10),
        *_features(look, place),
        *_ears(look, place),
    ]
    if look.hair_style != "bald":
        meshes += _hair(look, place, bones, size, height, around)
    if look.hat is not None:
        meshes += _hat(look, place, around)
    return meshes


def _shell(height: np.ndarray, around: int, thickness: float) -> np.ndarray:
    """(N, M, 3) rings of the skull, from the crown down, `thickness` outside of it."""
    wide, shift, deep = read_table(SKULL, height)
    grown = 1 + thickness / 0.31
    centre = np.stack([np.zeros_like(height), height * (1 + thickness * 1.6), shift], axis=1)
    return ring_points(centre, np.broadcast_to(np.eye(3), (len(height), 3, 3)), wide * grown, deep * grown, around)


def _front(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far forward the face lies at (x, y)."""
    wide, shift, deep = read_table(SKULL, y)
    return shift + deep * np.sqrt(np.clip(1 - (x / wide) ** 2, 0.05, 1))


def _features(look: Look, place) -> list[Mesh]:
    skin, hair = np.asarray(look.skin), np.asarray(look.hair)
    meshes = []
    y, wide, shift, deep = NOSE.T
    centre = np.stack([np.zeros(6), y, shift], axis=1)
    nose = skin_of(ring_points(centre, np.broadcast_to(np.eye(3), (6, 3, 3)), wide, deep, 12))
    shade = np.where(nose.mean(axis=2)[..., 1:2] < -0.125, 0.78, 1.0)
    meshes.append(face_set(place(nose), skin * shade, part=HEAD_PART, gloss=0.14, bias=0.002))

    spots: list[tuple] = []  # x, y, half width, half height, tip, bias, colour

    def spot(x: float, y: float, half_wide: float, half_high: float, colour, bias: float, tip: float = 0.0) -> None:
        spots.append((x, y, half_wide, half_high, tip, bias, *colour))

    eye_x, eye_y, _ = FACE_POINTS["eye"]
    for sign in (1.0, -1.0):
        x = sign * eye_x
        spot(x, eye_y + 0.005, 0.088, 0.062, skin * np.array([0.86, 0.78, 0.76]), 0.004)  # the socket
        if look.glasses is not None:
            dark = np.asarray(look.glasses) * 0.35
            spot(x, eye_y - 0.01, 0.115, 0.082, dark, 0.012)
            spot(x - 0.03 * sign, eye_y + 0.02, 0.035, 0.02, dark + 0.22, 0.013)
            continue
        spot(x, eye_y + 0.008, 0.072, 0.040, hair * 0.3 + skin * 0.25, 0.005)  # lashes and lid
        spot(x, eye_y, 0.064, 0.031, (0.90, 0.89, 0.87), 0.006)
        spot(x, eye_y + 0.002, 0.032, 0.031, look.eyes, 0.007)
        spot(x, eye_y + 0.002, 0.016, 0.016, (0.03, 0.03, 0.03), 0.008)
        spot(x, eye_y + 0.125, 0.088, 0.018, hair * 0.8 + skin * 0.1, 0.005, tip=-0.12 * sign)  # brow
    if look.glasses is not None:
        spot(0.001, eye_y, 0.05, 0.012, np.asarray(look.glasses) * 0.3, 0.012)
    for x in (-0.04, 0.04):
        spot(x, -0.152, 0.018, 0.010, skin * 0.35, 0.02)
    x, y, half_wide, half_high, tip, bias = np.array(spots)[:, :6].T
    slope = np.deg2rad(22) * np.sign(x)
    right = np.stack([np.cos(slope), tip, -np.sin(slope)], axis=1) * half_wide[:, None]
    up = np.multiply.outer(half_high, [0.0, 1.0, -0.1])
    corners = disc(np.stack([x, y, _front(x, y) + 0.012], axis=1), right, up)  # (N, 3, 4, 3)
    colour = np.repeat(np.array(spots)[:, 6:], 3, axis=0)
    meshes.append(face_set(place(corners), colour, part=HEAD_PART, gloss=0.1, bias=np.repeat(bias, 3)))

    # Lips: two bands between three curves over the mouth's width.
    x = np.linspace(-0.125, 0.125, 7)
    arch = 1 - (x / 0.125) ** 2
    lift = -0.045 * look.smile * arch
    opening = 0.022 * max(look.smile - 0.55, 0) / 0.45 * arch
    line = -0.262 + 0.02 * look.smile + lift
    curves = np.stack([line + opening + 0.030 * arch, line + opening, line - opening, line - opening - 0.036 * arch])
    points = np.stack([np.broadcast_to(x, curves.shape), curves, _front(x, curves) + 0.012], axis=2)
    bands = np.stack([points[1:, :-1], points[1:, 1:], points[:-1, 1:], points[:-1, :-1]], axis=2)
    teeth = (0.92, 0.90, 0.86)
    for band, colour in zip(bands, (np.asarray(look.lips) * 0.92, teeth, look.lips), strict=True):
        meshes.append(face_set(place(band), colour, part=HEAD_PART, gloss=0.1, bias=0.006))
    crease = np.stack([points[1], points[1] - np.array([0, 0.008, 0])])
    band = np.stack([crease[1, :-1], crease[1, 1:], crease[0, 1:], crease[0, :-1]], axis=1)
    meshes.append(face_set(place(band), np.asarray(look.lips) * 0.45, part=HEAD_PART, bias=0.007))
    return meshes


def ball(centre: np.ndarray, radii: tuple[float, float, float]) -> np.ndarray:
    """(60, 4, 3) faces of an upright ellipsoid."""
    angle = np.linspace(0.02, np.pi - 0.02, 7)
    centres = np.asarray(centre) + np.stack([0 * angle, radii[1] * np.cos(angle), 0 * angle], axis=1)
    frame = np.broadcast_to(np.eye(3), (7, 3, 3))
    points = ring_points(centres, frame, radii[0] * np.sin(angle), radii[2] * np.sin(angle), 10)
    return skin_of(points).reshape(-1, 4, 3)


def _ears(look: Look, place) -> list[Mesh]:
    x, y, z = FACE_POINTS["ear"]
    skin = np.asarray(look.skin) * np.array([0.97, 0.88, 0.86])
    meshes = []
    for sign in (1.0, -1.0):
        faces = ball(np.array([sign * (x - 0.02), y, z]), (0.035, 0.125, 0.07))
        hollow = np.where(
            np.hypot((faces.mean(axis=1)[:, 1] - y) / 0.08, (faces.mean(axis=1)[:, 2] - z) / 0.04) < 0.9, 0.72, 1.0
        )
        meshes.append(face_set(place(faces), skin * hollow[:, None], part=HEAD_PART, gloss=0.06))
    return meshes


def _hair(look: Look, place, bones: Bones, size: float, height: np.ndarray, around: int) -> list[Mesh]:
    rng = np.random.default_rng(look.top.seed + 1)
    thickness, unrest = CUTS[look.hair_style]
    shell = _shell(height, around, thickness)
    shell = shell * (1 + unrest * thickness * rng.normal(0, 1.0, shell.shape[:2])[..., None])
    faces = skin_of(shell)
    middle = faces.mean(axis=2)
    line = np.interp(middle[..., 2], HAIRLINE[:, 0], HAIRLINE[:, 1]) + 0.02 * rng.normal(0, 1.0, middle.shape[:2])
    if look.hair_style in ("bob", "long"):  # falls over the ears
        line = np.where(middle[..., 2] < 0.14, np.minimum(line, -0.30), line)
    grows = middle[..., 1] > line
    strands = 0.78 + 0.44 * rng.random((1, around)) * np.ones((len(height) - 1, 1)) + 0.1 * rng.random(middle.shape[:2])
    colour = np.asarray(look.hair) * strands[..., None]
    meshes = [face_set(place(faces[grows]), colour[grows], part=HAIR_PART, gloss=0.10, bias=0.004)]
    if look.hair_style in ("bob", "long"):
        meshes.append(_curtain(look, place, bones, size, rng))
    if look.hair_style == "bun":
        knot = ball(np.array([0.0, 0.30, -0.48]), (0.16, 0.15, 0.14))
        meshes.append(
            face_set(
                place(knot), np.asarray(look.hair) * (0.8 + 0.4 * rng.random((len(knot), 1))), part=HAIR_PART, gloss=0.1
            )
        )
    if look.hair_style == "ponytail":
        along = np.linspace(0, 1, 8)
        down = -bones.frames["chest"][:, 1]
        start = place(np.array([0.0, 0.22, -0.44]))
        back = -bones.frames["head"][:, 2]
        centre = start + size * (along[:, None] * 1.0 * down + (0.22 * np.sin(np.pi * along * 0.7))[:, None] * back)
        radius = size * np.array([0.05, 0.10, 0.115, 0.11, 0.10, 0.085, 0.06, 0.01])
        frame = np.broadcast_to(bones.frames["chest"], (8, 3, 3))
        tail = skin_of(ring_points(centre, frame, radius, radius, 10))
        meshes.append(
            face_set(
                tail,
                np.asarray(look.hair) * (0.8 + 0.4 * rng.random((1, 10, 1)) + np.zeros((7, 1, 1))),
                part=HAIR_PART,
                gloss=0.1,
            )
        )
    return meshes


def _curtain(look: Look, place, bones: Bones, size: float, rng: np.random.Generator) -> Mesh:
    """Hair that hangs from temple to temple round the back, seen from both sides."""
    length = 0.62 if look.hair_style == "bob" else 1.25
    drop = np.linspace(0.0, length, 12)
    angle = np.deg2rad(np.linspace(172, 368, 22))  # from the right temple round the back to the left one
    wide = np.interp(drop, [0, 0.3, 0.7, 1.25], [0.335, 0.36, 0.36, 0.30])
    deep = np.interp(drop, [0, 0.3, 0.7, 1.25], [0.44, 0.42, 0.36, 0.26])
    local = np.stack(
        [np.multiply.outer(wide, np.cos(angle)), np.zeros((12, 22)), np.multiply.outer(deep, np.sin(angle)) - 0.03],
        axis=2,
    )
    local *= 1 + 0.02 * rng.normal(0, 1.0, (12, 22, 1))
    local[..., 1] = 0.10
    points = place(local.reshape(-1, 3)).reshape(12, 22, 3)
    # The upper part hangs with the head, the rest with the back.
    share = np.clip(drop / 0.5, 0, 1)[:, None]
    down = -(1 - share) * bones.frames["head"][:, 1] - share * bones.frames["chest"][:, 1]
    points = points + (np.cumsum(down, axis=0) * (length * size / 11))[:, None]
    faces = skin_of(points, closed=False)
    strands = 0.75 + 0.5 * rng.random((1, 21, 1)) + 0.08 * rng.random((11, 21, 1))
    colour = np.asarray(look.hair) * strands
    both = np.concatenate([faces.reshape(-1, 4, 3), faces.reshape(-1, 4, 3)[:, ::-1]])
    return face_set(both, np.concatenate([colour.reshape(-1, 3)] * 2), part=HAIR_PART, gloss=0.08)


def _hat(look: Look, place, around: int) -> list[Mesh]:
    height = np.linspace(0.5, 0.16, 8)
    dome = _shell(height, around, 0.075)
    faces = skin_of(dome)
    colour = np.asarray(look.hat) * np.where(faces.mean(axis=2)[..., 1:2] < 0.25, 0.8, 1.0)
    brim = disc(np.array([0.0, 0.20, 0.46]), np.array([0.27, 0.0, 0.0]), np.array([0.0, 0.05, -0.24]))
    both = np.concatenate([brim, brim[:, ::-1]])
    return [
        face_set(place(faces), colour, part=HAIR_PART, gloss=0.04, bias=0.006),
        face_set(place(both), np.asarray(look.hat) * 0.85, part=HAIR_PART, gloss=0.04),
    ]

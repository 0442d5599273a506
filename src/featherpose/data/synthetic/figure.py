"""A dressed figure: what a person looks like, and the faces that draw them.

Radii and outlines are tables in metres for a body of average girth, made by eye from drawings of human proportions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from featherpose.data.synthetic.body import (
    ADULT,
    PARTS,
    BodyPose,
    BodyShape,
    Bones,
    bones_of,
    mirror_pose,
    spine_at,
    turn,
)
from featherpose.data.synthetic.head import head_meshes
from featherpose.data.synthetic.limbs import LEG, arm_meshes, counts, folds, leg_meshes
from featherpose.data.synthetic.look import Look
from featherpose.data.synthetic.mesh import (
    Mesh,
    cross,
    face_set,
    join,
    moved,
    read_table,
    ring_points,
    rounded,
    skin_of,
)


@dataclass(frozen=True)
class Figure:
    """One person: body, pose, clothes, and where they stand. Everything a moving picture changes is a plain number."""

    pose: BodyPose = field(default_factory=BodyPose)
    shape: BodyShape = field(default_factory=BodyShape)
    look: Look = field(default_factory=Look)
    heading: float = 0.0
    """Degrees to their left; at 0 they look along z, at the camera."""
    place: tuple[float, float] = (0.0, 0.0)
    """(x, z) of the mid-hip in the world, metres."""


@dataclass(frozen=True)
class Body:
    """A figure put on the ground of the world."""

    mesh: Mesh
    joints: np.ndarray
    """(17, 3) float64, metres, COCO17."""
    seat_height: float
    """Height of the lowest point of the torso, metres: where a seat would be."""
    scale: float
    """Size against an adult of 1.75 m."""


def mirror_figure(figure: Figure) -> Figure:
    """The figure in a world mirrored left to right (x becomes -x). Patterns of the clothes are not mirrored."""
    return replace(
        figure, pose=mirror_pose(figure.pose), heading=-figure.heading, place=(-figure.place[0], figure.place[1])
    )


def body_of(figure: Figure, face_size: float = 0.025) -> Body:
    """The figure's joints and faces in the world, its lowest point `pose.lift` above the ground.

    `face_size` is the edge of a face in metres: smaller looks better and takes longer.
    """
    shape, pose = figure.shape, figure.pose
    bones = bones_of(shape, pose)
    torso = _torso(figure, bones, face_size)
    meshes = [torso, *head_meshes(figure.shape, figure.look, bones, face_size)]
    for side in ("left", "right"):
        grip = getattr(pose, f"{side}_grip")
        meshes += arm_meshes(shape, figure.look, bones, side, grip, face_size)
        meshes += leg_meshes(shape, figure.look, bones, side, face_size)
    if figure.look.skirt > 0:
        meshes.append(_skirt(figure, bones, face_size))
    mesh = join(meshes)
    rise = pose.lift - float(mesh.quads[..., 1].min())
    offset = np.array([figure.place[0], rise, figure.place[1]])
    heading = turn("y", figure.heading)
    return Body(
        mesh=moved(mesh, heading, offset), joints=bones.joints @ heading.T + offset,
        seat_height=float(torso.quads[..., 1].min()) + rise, scale=shape.torso / ADULT.torso,
    )  # fmt: skip


TORSO = rounded(np.array([
    (-0.27, 0.002, 0.002, -0.015), (-0.25, 0.050, 0.040, -0.015), (-0.17, 0.140, 0.095, -0.018),
    (-0.04, 0.177, 0.114, -0.018), (0.08, 0.172, 0.116, -0.018), (0.20, 0.153, 0.103, -0.008),
    (0.38, 0.132, 0.092, 0.002), (0.55, 0.142, 0.100, 0.006), (0.74, 0.160, 0.110, 0.008),
    (0.88, 0.166, 0.102, 0.000), (0.97, 0.164, 0.084, -0.008), (1.03, 0.146, 0.066, -0.012),
    (1.08, 0.108, 0.058, -0.012), (1.13, 0.070, 0.055, -0.010), (1.20, 0.055, 0.056, -0.004),
    (1.36, 0.053, 0.057, 0.0),
]))  # fmt: skip
"""Share of the spine, half width, half depth, shift forward."""


def _torso(figure: Figure, bones: Bones, face_size: float) -> Mesh:
    shape, look = figure.shape, figure.look
    scale = shape.torso / ADULT.torso
    rings, around = counts(1.61 * shape.torso, 0.15 * scale, face_size, most=52)
    s = np.linspace(1.36, -0.27, rings)  # from the neck down
    hem = look.hem
    s = np.sort(np.concatenate([s, [hem - 0.004, hem + 0.004]]))[::-1]
    wide, deep, shift = read_table(TORSO, s)
    waist = 1 + (shape.waist - 1) * np.exp(-(((s - 0.40) / 0.16) ** 2))
    body = np.clip((1.05 - s) / 0.15, 0, 1)
    girth = 1 + (shape.girth - 1) * body
    belly = 1 + 0.35 * max(shape.girth - 1.1, 0) / 0.3 * np.exp(-(((s - 0.35) / 0.2) ** 2))
    # Shoulders and hips follow the bones; the waist lies between.
    width = np.interp(s, [0.0, 0.9], [shape.hip / ADULT.hip, shape.shoulder / ADULT.shoulder])
    width = np.where(s > 1.0, width + (scale - width) * np.clip((s - 1.0) / 0.1, 0, 1), width)
    wide, deep = wide * width * girth * waist, deep * scale * girth * waist * belly
    top = (s < 1.12) & (s > hem)
    cover = np.where(top, look.top.thickness, np.where(s <= hem, look.bottom.thickness * 0.6, 0.0))
    cover = cover + np.where(top, (0.010 + look.top.loose * 0.03) * np.exp(-(((s - hem) / 0.35) ** 2)), 0.0)
    centre, frame = spine_at(shape, figure.pose, s)
    # Above the shoulders the neck leans with the head.
    nape = bones.origins["head"] + bones.frames["head"] @ np.array([0.0, -0.34, -0.07]) * shape.head
    centre = centre + (np.clip((s - 1.06) / 0.30, 0, 1) ** 1.3)[:, None] * (nape - centre[0])
    points = ring_points(np.zeros_like(centre), frame, wide + cover, deep + cover, around, power=2.35)
    points += (centre + (shift * scale)[:, None] * frame[:, :, 2])[:, None]
    angle = np.arange(around) * (2 * np.pi / around)
    if shape.bust > 0:
        across = wide[:, None] * np.cos(angle)
        lobe = np.exp(-(((np.abs(across) - 0.075 * scale) / (0.055 * scale)) ** 2)) * (np.sin(angle) > 0)
        out = 0.05 * scale * shape.bust * lobe * np.exp(-(((s - 0.70) / 0.10) ** 2))[:, None]
        points += out[..., None] * frame[:, None, :, 2]
    points += folds(look.top, s * shape.torso, angle, top)[..., None] * (points - centre[:, None])
    mid = (s[1:] + s[:-1]) / 2
    v = angle[None, :] + np.pi / around
    along = np.broadcast_to((mid * shape.torso)[:, None], (len(mid), around))
    across = 0.15 * scale * (v + 0 * mid[:, None])
    colour = np.where(
        ((mid > hem) & (mid < 1.12))[:, None, None], look.top.paint(along, across),
        np.where((mid <= hem)[:, None, None], look.bottom.paint(along, across), np.asarray(look.skin)),
    )  # fmt: skip
    front = np.sin(v)
    sideways = np.abs(np.cos(v))
    neckline = (
        (mid > 1.0 - look.neckline)[:, None]
        & (front > 0)
        & (sideways < 0.10 + (mid - 1.0 + look.neckline)[:, None] * 2.2)
    )
    colour[neckline | np.broadcast_to((mid >= 1.10)[:, None], neckline.shape)] = look.skin
    if look.open_front is not None:
        strip = (
            (front > 0)
            & (sideways < 0.10 + 0.25 * np.clip(mid - 0.3, 0, 1)[:, None])
            & (mid > hem)[:, None]
            & (mid < 1.04)[:, None]
        )
        colour[strip] = look.open_front
    if look.logo is not None:
        spot = (front > 0) & ((sideways / 0.5) ** 2 + ((mid[:, None] - 0.66) / 0.13) ** 2 < 1)
        colour[spot & (np.sin(40 * mid[:, None] + 9 * np.cos(v)) > -0.5)] = look.logo
    colour[np.abs(mid - hem) < 0.006] *= 0.6
    return face_set(skin_of(points), colour, part=PARTS["torso"], gloss=0.02)


def _skirt(figure: Figure, bones: Bones, face_size: float) -> Mesh:
    """A skirt, dress or coat tail that hangs round both thighs, `look.skirt` thighs long."""
    shape, look = figure.shape, figure.look
    scale = shape.torso / ADULT.torso
    end = look.skirt
    rings, around = counts(end * shape.thigh + 0.15, 0.17 * scale, face_size, most=44)
    t = np.linspace(-0.42, end, rings)
    path = {}
    for side in ("left", "right"):
        upper, lower = bones.frames[f"{side}_hip"], bones.frames[f"{side}_knee"]
        start = bones.origins[f"{side}_hip"]
        low = (
            np.clip(t, 0, 1)[:, None] * shape.thigh * upper[:, 1]
            + np.maximum(t - 1, 0)[:, None] * shape.shank * lower[:, 1]
        )
        path[side] = start - low
    root = bones.frames["hips"]
    waist = np.minimum(t, 0)[:, None] * shape.thigh * root[:, 1]
    middle = (path["left"] + path["right"]) / 2 - waist
    spread = path["left"] - path["right"]
    distance = np.linalg.norm(spread, axis=1)
    left = spread / distance[:, None]
    way = np.gradient(middle, axis=0)
    up = -way / (np.linalg.norm(way, axis=1, keepdims=True) + 1e-9)
    left = left - (left * up).sum(axis=1, keepdims=True) * up
    left /= np.linalg.norm(left, axis=1, keepdims=True) + 1e-9
    frame = np.stack([left, up, cross(left, up)], axis=2)
    radius = read_table(LEG, np.maximum(t, 0))[0] * scale * (0.3 + 0.7 * shape.girth)
    radius = radius + look.bottom.thickness + 0.03 * look.bottom.loose * np.clip(t, 0, 1)
    flare = look.skirt_flare * np.clip(t + 0.1, 0, None) * 0.12 * scale
    # Round the hips it has to clear the torso and whatever hangs over it.
    clear = scale * shape.girth
    hips_wide = np.interp(t, [-0.42, -0.15, 0.0, 0.15, 0.3], [0.160, 0.182, 0.192, 0.185, 0.0])
    hips_wide *= shape.girth * shape.hip / ADULT.hip
    hips_deep = np.interp(t, [-0.42, -0.15, 0.1, 0.3], [0.112, 0.132, 0.132, 0.0]) * clear
    wide = np.maximum(distance / 2 + radius, hips_wide) + flare + 0.012
    deep = np.maximum(radius * 1.25, hips_deep) + flare + 0.016
    points = ring_points(middle, frame, wide, deep, around)
    angle = np.arange(around) * (2 * np.pi / around)
    pleats = 0.05 * look.skirt_flare * np.sin(angle * 9)[None, :] * np.clip(t, 0, 1)[:, None]
    points += pleats[..., None] * (points - middle[:, None])
    cloth = look.top if look.dress else look.bottom
    mid = (t[1:] + t[:-1]) / 2
    v = angle[None, :] + np.pi / around + 0 * mid[:, None]
    colour = cloth.paint(np.broadcast_to((-mid * shape.thigh)[:, None], v.shape), 0.17 * scale * v)
    return face_set(skin_of(points), colour, part=PARTS["skirt"], gloss=0.02)

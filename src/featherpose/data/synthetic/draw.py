"""Figures, furniture and a backdrop become a picture with exact labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from featherpose.data.sample import OCCLUDED, VISIBLE, Sample, nearest_to_middle
from featherpose.data.synthetic.body import PARTS
from featherpose.data.synthetic.figure import Body, Figure, body_of
from featherpose.data.synthetic.mesh import Mesh
from featherpose.data.synthetic.render import SUPERSAMPLE, Camera, Layer, Light, crease_shadow, render
from featherpose.skeletons import COCO17

FACE_PIXELS = 4.0
"""Edge of a face in pixels of the picture: below that, finer faces are not seen any more."""


@dataclass(frozen=True)
class Occluder:
    """Something flat in front of everything: a post, a leaf, the head of somebody nearer."""

    polygon_xy: np.ndarray
    """(N, 2) corners in pixels of the picture."""
    colour: tuple[float, float, float] = (0.3, 0.3, 0.3)
    """RGB in [0, 1]."""
    texture: np.ndarray | None = None
    """(H, W) float32 factors on the colour, or None."""


def draw_figures(
    figures: Sequence[Figure],
    camera: Camera,
    backdrop: np.ndarray,
    *,
    light: Light | None = None,
    props: Sequence[Mesh] = (),
    occluders: Sequence[Occluder] = (),
    shadow: float = 0.35,
    detail: float = 1.0,
    name: str = "synthetic",
) -> tuple[np.ndarray, Sample]:
    """Draws figures before a backdrop: (H, W, 3) uint8 RGB and its labels.

    `backdrop` is (H, W, 3), uint8 or float in [0, 1], and gives the size; `props` are furniture in the world;
    `shadow` is how dark the shadows on the ground are, 0 to 1; `detail` above 1 draws with finer faces. The same
    arguments give the same picture, bit for bit. The labels are those of `label_bodies`; figures of which nothing is
    in the picture have none.
    """
    bodies = [body_of(figure, face_size_for(figure, camera, detail)) for figure in figures]
    return draw_bodies(
        bodies, camera, backdrop, light=light or Light(), props=props, occluders=occluders, shadow=shadow, name=name
    )


def draw_bodies(
    bodies: Sequence[Body], camera: Camera, backdrop: np.ndarray, *, light: Light, props: Sequence[Mesh],
    occluders: Sequence[Occluder], shadow: float, name: str,
) -> tuple[np.ndarray, Sample]:  # fmt: skip
    """`draw_figures` for figures that already have faces."""
    size_wh = (backdrop.shape[1], backdrop.shape[0])
    if backdrop.dtype != np.uint8:
        backdrop = cv2.convertScaleAbs(np.maximum(backdrop, 0), alpha=255)
    if shadow > 0:
        backdrop = cv2.multiply(
            backdrop, cv2.merge([_ground_shadow(bodies, camera, light, size_wh, shadow)] * 3), scale=1 / 255
        )
    scene = _Scene(backdrop)
    for prop in props:
        layer = render(prop, camera, light, size_wh)
        if layer is not None:
            scene.add(layer, owner=0)
    layers = []
    for person, body in enumerate(bodies):
        layer = render(body.mesh, camera, light, size_wh)
        layers.append(layer)
        if layer is not None:
            metre = SUPERSAMPLE * camera.focal / max(float(camera.project(body.joints)[1].mean()), 0.5)
            scene.add(layer, owner=person + 1, shade=crease_shadow(layer.depth, 0.07 * metre))
    for occluder in occluders:
        scene.cover(occluder)
    image = cv2.cvtColor(cv2.resize(scene.pixels, size_wh, interpolation=cv2.INTER_AREA), cv2.COLOR_RGBA2RGB)
    return image, label_bodies(bodies, layers, scene, camera, size_wh, name)


def face_size_for(figure: Figure, camera: Camera, detail: float = 1.0) -> float:
    """Edge of the faces in metres at which a figure looks smooth through a camera; `detail` 2 halves it."""
    middle = np.array([figure.place[0], 0.5, figure.place[1]])
    depth = max(float(camera.project(middle)[1]), 0.5)
    return float(np.clip(FACE_PIXELS * depth / camera.focal / detail, 0.006, 0.06))


class _Scene:
    """The large picture while it grows: what is nearest at every pixel."""

    def __init__(self, backdrop: np.ndarray) -> None:
        large_wh = (backdrop.shape[1] * SUPERSAMPLE, backdrop.shape[0] * SUPERSAMPLE)
        pixels = cv2.cvtColor(backdrop, cv2.COLOR_RGB2RGBA)
        pixels[..., 3] = 0  # the last channel becomes the part number
        self.pixels = cv2.resize(pixels, large_wh, interpolation=cv2.INTER_LINEAR)
        self.depth = np.full(large_wh[::-1], np.inf, dtype=np.float32)
        self.owner = np.zeros(large_wh[::-1], dtype=np.uint8)  # 0 nobody, i + 1 figure i

    def add(self, layer: Layer, *, owner: int, shade: np.ndarray | None = None) -> None:
        """Puts a layer before whatever is farther away; `shade` (h, w) uint8 darkens it."""
        left, top, right, bottom = layer.window
        window = np.s_[top:bottom, left:right]
        mask = cv2.compare(layer.depth, self.depth[window], cv2.CMP_LT)
        pixels = layer.pixels
        if shade is not None:
            full = np.full_like(shade, 255)
            pixels = cv2.multiply(pixels, cv2.merge([shade, shade, shade, full]), scale=1 / 255)
        cv2.copyTo(pixels, mask, self.pixels[window])
        cv2.copyTo(layer.depth, mask, self.depth[window])
        self.owner[window][mask > 0] = owner

    def cover(self, occluder: Occluder) -> None:
        """Puts something flat before everything."""
        corners = np.round((np.asarray(occluder.polygon_xy) * SUPERSAMPLE - 0.5) * 16).astype(np.int32)
        mask = np.zeros(self.owner.shape, dtype=np.uint8)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, 4)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            return
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = mask[window]
        pixels = np.empty((*mask.shape, 4), dtype=np.uint8)
        colour = np.asarray(occluder.colour, dtype=np.float32) * 255
        if occluder.texture is not None:
            grown = cv2.resize(occluder.texture, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
            colour = grown[..., None] * colour
        pixels[..., :3] = np.clip(colour, 0, 255)
        pixels[..., 3] = 0
        cv2.copyTo(pixels, mask, self.pixels[window])
        where = mask > 0
        self.depth[window][where], self.owner[window][where] = 0.0, 0


OWN_PARTS = {
    "nose": ("head",), "eye": ("head",), "ear": ("head",), "shoulder": ("torso", "upper_arm"),
    "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip": ("torso", "thigh", "skirt"),
    "knee": ("thigh", "shank", "skirt"),
    "ankle": ("shank", "foot", "skirt"),
}  # fmt: skip
"""Joint -> parts of the same side (or of the middle) on whose surface it is seen."""

UNDER_SKIN = {
    "nose": 0.035, "eye": 0.03, "ear": 0.04, "shoulder": 0.12, "elbow": 0.085, "wrist": 0.07, "hip": 0.17, "knee": 0.11,
    "ankle": 0.10,
}  # fmt: skip
"""Metres, for an adult: a joint farther than this behind the surface that is seen there lies on the far side."""


def label_bodies(
    bodies: Sequence[Body],
    layers: Sequence[Layer | None],
    scene: _Scene,
    camera: Camera,
    size_wh: tuple[int, int],
    name: str,
) -> Sample:
    """Joints, boxes and areas of drawn bodies.

    A joint is VISIBLE where the nearest thing at its pixel is the person's own part round that joint and the joint lies
    within a limb's thickness behind it, otherwise OCCLUDED: behind something, on the far side, or outside the
    picture. Box and area are those of the person's whole silhouette inside the picture, whatever stands in front of
    it; the area counts pixels. Persons without a silhouette are left out.
    """
    xy, visibility, boxes, areas = [], [], [], []
    for person, (body, layer) in enumerate(zip(bodies, layers, strict=True)):
        if layer is None:
            continue
        mask = np.isfinite(layer.depth)
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = layer.window[:2]
        edges = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]) / SUPERSAMPLE
        boxes.append(np.minimum(edges, [*size_wh, *size_wh]))
        areas.append(np.count_nonzero(mask) / SUPERSAMPLE**2)
        joints_xy, joints_depth = camera.project(body.joints)
        xy.append(joints_xy)
        seen = [
            _is_seen(k, joints_xy[k], float(joints_depth[k]), person + 1, body.scale, scene) for k in range(len(COCO17))
        ]
        visibility.append(np.where(seen, VISIBLE, OCCLUDED))
    persons, joints = len(xy), len(COCO17)
    box_xyxy = np.array(boxes, dtype=np.float32).reshape(persons, 4)
    return Sample(
        photo=Path(name), size_wh=size_wh, skeleton=COCO17,
        xy=np.array(xy, dtype=np.float32).reshape(persons, joints, 2),
        visibility=np.array(visibility, dtype=np.int8).reshape(persons, joints), box_xyxy=box_xyxy,
        area=np.array(areas, dtype=np.float32), target=nearest_to_middle(box_xyxy, size_wh), photo_id=name,
    )  # fmt: skip


def _seen_on() -> np.ndarray:
    """(17, 256) bool: on which part numbers each joint is seen."""
    table = np.zeros((len(COCO17), 256), dtype=bool)
    for row, joint in zip(table, COCO17.joints, strict=True):
        side, _, word = joint.rpartition("_")
        row[[PARTS[name] for base in OWN_PARTS[word] for name in (base, f"{side}_{base}") if name in PARTS]] = True
    return table


SEEN_ON = _seen_on()


def _is_seen(k: int, xy: np.ndarray, joint_depth: float, owner: int, scale: float, scene: _Scene) -> bool:
    column, row = (int(v) for v in np.floor(xy * SUPERSAMPLE))
    height, width = scene.owner.shape
    if not (0 <= column < width and 0 <= row < height):
        return False
    word = COCO17.joints[k].rpartition("_")[2]
    # A feature of the face may lie on the very edge of the outline, half a pixel beside it.
    reach = 1 if word in ("nose", "eye", "ear") else 0
    window = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    near_enough = joint_depth - scene.depth[window] < UNDER_SKIN[word] * scale
    return bool((near_enough & (scene.owner[window] == owner) & SEEN_ON[k][scene.pixels[window][..., 3]]).any())


SHADOW_BONES = (
    ("left_shoulder", "left_elbow", 0.10), ("left_elbow", "left_wrist", 0.08), ("right_shoulder", "right_elbow", 0.10),
    ("right_elbow", "right_wrist", 0.08), ("left_hip", "left_knee", 0.16), ("left_knee", "left_ankle", 0.11),
    ("right_hip", "right_knee", 0.16), ("right_knee", "right_ankle", 0.11), ("left_ear", "right_ear", 0.20),
    ("left_shoulder", "right_hip", 0.26), ("right_shoulder", "left_hip", 0.26),
    ("left_shoulder", "right_shoulder", 0.15),
)  # fmt: skip
"""Bone and its thickness in metres."""


def _ground_shadow(
    bodies: Sequence[Body], camera: Camera, light: Light, size_wh: tuple[int, int], strength: float
) -> np.ndarray:
    """(H, W) uint8, 255 in full light: the lamp's shadow of every body on the ground, and a soft one below it."""
    way = light.direction()
    way = way / max(way[1], 0.35)
    factor = np.full(size_wh[::-1], 255, dtype=np.uint8)
    for slant, blur, share, shrink in ((way, 0.02, 1.0, 2), (np.array([0.0, 1.0, 0.0]), 0.10, 0.6, 4)):
        small_wh = (max(2, size_wh[0] // shrink), max(2, size_wh[1] // shrink))
        mask = np.full(small_wh[::-1], 255, dtype=np.uint8)
        ratio, metre = np.array(small_wh) / size_wh, 0.0
        for body in bodies:
            xy, depth = camera.project(body.joints - body.joints[:, 1:2] * slant)
            if depth.min() < 0.3:
                continue
            pixels_per_metre = camera.focal / depth * ratio[0]
            metre = max(metre, float(pixels_per_metre.mean()))
            spot = np.round(np.clip(xy * ratio - 0.5, -4e3, 8e3) * 8).astype(np.int32)
            for first, second, thick in SHADOW_BONES:
                i, j = COCO17.index(first), COCO17.index(second)
                pixels = int(np.clip(thick * body.scale * (pixels_per_metre[i] + pixels_per_metre[j]) / 2, 1, 255))
                cv2.line(mask, spot[i].tolist(), spot[j].tolist(), 255 * (1 - share * strength), pixels, cv2.LINE_8, 3)
        if metre > 0:
            soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, blur * metre))
            factor = cv2.multiply(factor, cv2.resize(soft, size_wh, interpolation=cv2.INTER_LINEAR), scale=1 / 255)
    return factor

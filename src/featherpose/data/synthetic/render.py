"""From faces in the world to pixels: the camera, the light, and one layer of depth and part numbers for every thing.

Drawing happens at SUPERSAMPLE times the size of the picture and is averaged down, which smooths the edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from featherpose.data.synthetic.body import turn
from featherpose.data.synthetic.mesh import Mesh, cross

SUPERSAMPLE = 2
SUB_PIXEL_BITS = 4
NEAR = 0.15
"""Metres: faces nearer to the camera are left out."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. At yaw and pitch 0 it looks along -z, so that a person of heading 0 faces it."""

    position: tuple[float, float, float] = (0.0, 1.2, 4.0)
    """Metres in the world."""
    yaw: float = 0.0
    """Degrees to its left."""
    pitch: float = 0.0
    """Degrees downward."""
    roll: float = 0.0
    """Degrees clockwise, seen from behind the camera."""
    focal: float = 320.0
    """Pixels of the picture."""
    centre_xy: tuple[float, float] = (128.0, 128.0)
    """Where the optical axis meets the picture, pixels; away from the middle in a picture cut out of a larger one."""

    def axes(self) -> np.ndarray:
        """(3, 3): rows are right, down and forward in the world."""
        pointing = turn("y", self.yaw) @ turn("x", -self.pitch) @ turn("z", -self.roll)
        return (pointing @ np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]).T).T

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Continuous pixels (..., 2) and depths (...) in metres along the axis of world points (..., 3)."""
        xyz = np.asarray(xyz, dtype=np.float64)
        right, down, depth = self.axes() @ (xyz.reshape(-1, 3) - np.asarray(self.position)).T
        scale = self.focal / np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        xy = np.stack([right * scale + self.centre_xy[0], down * scale + self.centre_xy[1]], axis=1)
        return xy.reshape(*xyz.shape[:-1], 2), depth.reshape(xyz.shape[:-1])


def mirror_camera(camera: Camera, width: float) -> Camera:
    """The camera of the mirrored world whose picture is the mirrored picture."""
    x, y, z = camera.position
    return replace(
        camera,
        position=(-x, y, z),
        yaw=-camera.yaw,
        roll=-camera.roll,
        centre_xy=(width - camera.centre_xy[0], camera.centre_xy[1]),
    )


@dataclass(frozen=True)
class Light:
    """One lamp far away and light from everywhere."""

    to_light: tuple[float, float, float] = (0.4, 0.8, 0.45)
    """Direction to the lamp, any length."""
    lamp: tuple[float, float, float] = (0.62, 0.60, 0.57)
    """RGB strength."""
    sky: tuple[float, float, float] = (0.52, 0.53, 0.55)
    """RGB from above."""
    ground: tuple[float, float, float] = (0.30, 0.29, 0.28)
    """RGB from below."""

    def direction(self) -> np.ndarray:
        """(3,) of length 1."""
        way = np.asarray(self.to_light, dtype=np.float64)
        return way / np.linalg.norm(way)


@dataclass(frozen=True)
class Layer:
    """One thing as seen by the camera, at SUPERSAMPLE times the picture, in a window of it."""

    window: tuple[int, int, int, int]
    """left, top, right, bottom in pixels of the large picture."""
    pixels: np.ndarray
    """(h, w, 4) uint8: red, green, blue, and the part number (0 no body)."""
    depth: np.ndarray
    """(h, w) float32 metres, inf where there is nothing."""


def render(mesh: Mesh, camera: Camera, light: Light, size_wh: tuple[int, int]) -> Layer | None:
    """What the camera sees of a mesh alone; None when nothing of it is in the picture."""
    large_wh = (size_wh[0] * SUPERSAMPLE, size_wh[1] * SUPERSAMPLE)
    q = mesh.quads
    normal = cross(q[:, 2] - q[:, 0], q[:, 3] - q[:, 1])
    view = np.asarray(camera.position, dtype=np.float32) - (q[:, 0] + q[:, 1] + q[:, 2] + q[:, 3]) / 4
    order = np.flatnonzero(np.einsum("fi,fi->f", normal, view) > 0)
    normal, view = _unit(normal[order]), _unit(view[order])
    xy, depth = camera.project(q[order])
    xy = xy * SUPERSAMPLE - 0.5  # OpenCV counts from pixel centres
    low, high = _over_corners(np.minimum, xy), _over_corners(np.maximum, xy)
    seen = (_over_corners(np.minimum, depth) > NEAR) & (high[:, 0] > -1) & (high[:, 1] > -1)
    seen &= (low[:, 0] < large_wh[0]) & (low[:, 1] < large_wh[1])
    middle = depth @ np.full(4, 0.25) - mesh.bias[order]
    turn_of = np.flatnonzero(seen)
    if len(turn_of) == 0:
        return None
    turn_of = turn_of[np.argsort(-middle[turn_of], kind="stable")]  # the farthest face first
    left, top = (max(int(np.floor(low[turn_of, i].min())), 0) for i in (0, 1))
    right, bottom = (min(int(np.ceil(high[turn_of, i].max())) + 2, large_wh[i]) for i in (0, 1))
    if right <= left or bottom <= top:
        return None
    if len(turn_of) >= 2**16:
        raise ValueError(
            f"a mesh may show at most 65535 faces, this one shows {len(turn_of)}: draw it with larger faces"
        )
    corners = np.clip(np.round((xy[turn_of] - (left, top)) * 2**SUB_PIXEL_BITS), -(2**22), 2**22).astype(np.int32)
    number = np.zeros((bottom - top, right - left), dtype=np.uint16)
    fill, bits = cv2.fillConvexPoly, SUB_PIXEL_BITS
    for i, corner in enumerate(corners, 1):
        fill(number, corner, i, 8, bits)
    faces = order[turn_of]
    look = np.zeros((len(faces) + 1, 4), dtype=np.uint8)  # RGB and part of every face
    lit = _lit(mesh.colour[faces], normal[turn_of], view[turn_of], mesh.gloss[faces], light)
    look[1:, :3] = np.clip(lit * 255 + 0.5, 0, 255)
    look[1:, 3] = mesh.part[faces]
    depths = np.concatenate([[np.inf], middle[turn_of]]).astype(np.float32)
    pixels = np.take(look.view(np.uint32)[:, 0], number).view(np.uint8).reshape(*number.shape, 4)
    return Layer((left, top, right, bottom), pixels, np.take(depths, number))


def _over_corners(choose, values: np.ndarray) -> np.ndarray:
    return choose(choose(values[:, 0], values[:, 1]), choose(values[:, 2], values[:, 3]))


def _unit(ways: np.ndarray) -> np.ndarray:
    return ways / (np.sqrt(np.einsum("fi,fi->f", ways, ways))[:, None] + 1e-12)


def _lit(colour: np.ndarray, normal: np.ndarray, view: np.ndarray, gloss: np.ndarray, light: Light) -> np.ndarray:
    """(F, 3) colours under the light: a soft terminator, sky and ground light, a highlight."""
    way = light.direction().astype(np.float32)
    toward = normal @ way
    lamp = np.clip((toward + 0.25) / 1.25, 0, 1)[:, None] ** 1.3 * np.asarray(light.lamp, dtype=np.float32)
    up = (0.5 + 0.5 * normal[:, 1])[:, None]
    around = up * np.asarray(light.sky, dtype=np.float32) + (1 - up) * np.asarray(light.ground, dtype=np.float32)
    shine = np.clip(np.einsum("fi,fi->f", normal, _unit(view + way)), 0, 1) ** 18 * gloss
    # Surfaces seen at a flat angle look darker: it sets a limb off against the body behind it.
    edge = 0.80 + 0.20 * np.clip(np.einsum("fi,fi->f", normal, view) * 2.2, 0, 1)
    return colour * (lamp + around) * edge[:, None] + shine[:, None]


def crease_shadow(depth: np.ndarray, size: float) -> np.ndarray:
    """(h, w) uint8, 255 in full light, less where something stands just in front: beside an arm, under the chin.

    `size` is the reach in pixels of the large picture. Worked out on every second pixel: the shadow is soft.
    """
    height, width = depth.shape
    some = depth[::2, ::2]
    seen = np.isfinite(some)
    metres = np.where(seen, some, np.float32(0))
    small_wh = (max(1, width // 8), max(1, height // 8))
    weight = cv2.resize(seen.astype(np.float32), small_wh, interpolation=cv2.INTER_AREA)
    total = cv2.resize(metres, small_wh, interpolation=cv2.INTER_AREA)
    sigma = max(size / 8, 0.6)
    weight, total = cv2.GaussianBlur(weight, (0, 0), sigma), cv2.GaussianBlur(total, (0, 0), sigma)
    around = cv2.resize(total / np.maximum(weight, 1e-3), some.shape[::-1], interpolation=cv2.INTER_LINEAR)
    dark = np.clip((metres - around - np.float32(0.015)) * np.float32(4.0), 0, 0.42) * seen
    return cv2.resize((255.5 - 255 * dark).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)

"""What is behind the people: a room, the open air, leaves, a studio, or lights out of focus.

Floors and walls are planes of the world seen by the same camera as the figures, so that people stand on them.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from featherpose.data.synthetic import textures
from featherpose.data.synthetic.render import Camera

TEXTURE_SIZE = 256
"""Pixels of one repeat of a floor or wall."""

SKY = 1e4
"""Metres: the depth of what a ray never meets."""


def rays(camera: Camera, size_wh: tuple[int, int]) -> np.ndarray:
    """(3, h, w) float32: the world direction of every pixel's centre, depth 1 along the axis."""
    axes = camera.axes().astype(np.float32)
    u = ((np.arange(size_wh[0], dtype=np.float32) + 0.5) - camera.centre_xy[0]) / camera.focal
    v = ((np.arange(size_wh[1], dtype=np.float32) + 0.5) - camera.centre_xy[1]) / camera.focal
    u, v = u.astype(np.float32), v.astype(np.float32)
    return axes[0][:, None, None] * u[None, None, :] + (
        axes[1][:, None, None] * v[None, :, None] + axes[2][:, None, None]
    )


def _depth(camera: Camera, way: np.ndarray, normal: np.ndarray, distance: float) -> np.ndarray:
    """(h, w) depths at which the rays meet the plane `normal . x = distance`, SKY where they do not."""
    normal = normal.astype(np.float32)
    speed = normal[0] * way[0] + normal[1] * way[1] + normal[2] * way[2]
    gap = np.float32(distance - normal @ np.asarray(camera.position))
    with np.errstate(divide="ignore"):
        depth = gap / speed
    return np.where(depth > 0, np.minimum(depth, np.float32(SKY)), np.float32(SKY))


def _along(camera: Camera, way: np.ndarray, depth: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(h, w) metres along an axis of the world at which the rays stand at their depths."""
    axis = axis.astype(np.float32)
    speed = axis[0] * way[0] + axis[1] * way[1] + axis[2] * way[2]
    return np.float32(axis @ np.asarray(camera.position)) + depth * speed


def _papered(
    texture: np.ndarray, a: np.ndarray, b: np.ndarray, metres: float, depth: np.ndarray, camera: Camera
) -> np.ndarray:
    """(h, w, 3) uint8: the texture, repeated every `metres`, melting into its mean where it is too far to resolve."""
    size = texture.shape[0]
    x, y = a * np.float32(size / metres), b * np.float32(-size / metres)
    x -= np.floor(x * np.float32(1 / size)) * np.float32(size)
    y -= np.floor(y * np.float32(1 / size)) * np.float32(size)
    picture = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    # The depth at which one pixel of the texture is one pixel of the picture, and some more.
    resolvable = np.float32(camera.focal * metres / size * 1.5)
    if float(depth.max()) <= resolvable:
        return picture
    mean = np.empty_like(picture)
    mean[:] = np.round(np.array(cv2.mean(texture)[:3])).astype(np.uint8)
    keep = np.minimum(resolvable / depth, np.float32(1))
    return cv2.blendLinear(picture, mean, keep, 1 - keep)


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


UP = np.array([0.0, 1.0, 0.0])
ACROSS = np.array([1.0, 0.0, 0.0])
TOWARD = np.array([0.0, 0.0, 1.0])


def room(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A floor, a wall behind, a wall at the side, with windows, pictures, doors and shelves."""
    way = rays(camera, size_wh)
    metres = float(rng.uniform(1.5, 4.0))
    floor = textures.FLOORS_INSIDE[int(rng.integers(len(textures.FLOORS_INSIDE)))](rng, TEXTURE_SIZE)
    wall = textures.WALLS_INSIDE[int(rng.integers(len(textures.WALLS_INSIDE)))](rng, TEXTURE_SIZE)
    yaw = np.deg2rad(rng.uniform(-35, 35))
    behind = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    beside = np.array([np.cos(yaw), 0.0, -np.sin(yaw)]) * rng.choice([-1, 1])
    skirting = textures.as_pixels(textures.muted(rng, 0.3, 0.95, 0.08)).reshape(3) if rng.random() < 0.6 else None
    dado = float(rng.uniform(0.8, 1.3)) if rng.random() < 0.2 else 0.0
    depths = np.stack([
        _depth(camera, way, UP, 0.0),
        _depth(camera, way, behind, -float(rng.uniform(1.9, 4.5))),
        _depth(camera, way, beside, -float(rng.uniform(2.2, 5.0))),
    ])  # fmt: skip
    nearest = depths.argmin(axis=0)
    picture = np.zeros((size_wh[1], size_wh[0], 3), dtype=np.uint8)
    for surface, normal in enumerate((UP, behind, beside)):
        mask = nearest == surface
        if not mask.any():
            continue
        window = _window(mask)
        way_seen, depth, mask = way[:, window[0], window[1]], depths[surface][window], mask[window]
        if surface == 0:
            a, b = _along(camera, way_seen, depth, ACROSS), _along(camera, way_seen, depth, TOWARD)
            seen = _papered(floor, a, b, metres, depth, camera)
        else:
            a, b = _along(camera, way_seen, depth, np.cross(UP, normal)), _along(camera, way_seen, depth, UP)
            seen = _papered(wall, a, b, metres, depth, camera)
            _furnish(rng, seen, a, b, mask)
            shade = float(rng.uniform(0.85, 1.05) if surface == 1 else rng.uniform(0.6, 0.95))
            light = np.float32(255 * shade) - np.float32(50) * np.exp(-4 * np.abs(b))  # darker toward the floor
            if dado:
                light[b < dado] *= np.float32(0.8)
            if skirting is not None:
                seen[b < 0.1] = skirting
            seen = cv2.multiply(seen, cv2.merge([cv2.convertScaleAbs(np.maximum(light, 0))] * 3), scale=1 / 255)
        cv2.copyTo(seen, mask.astype(np.uint8), picture[window])
    return picture


def _furnish(rng: np.random.Generator, seen: np.ndarray, a: np.ndarray, b: np.ndarray, where: np.ndarray) -> None:
    """Paints frames, windows, doors and cupboards on a wall, in place; `a`, `b` are metres along it and up."""
    low, high = max(float(a[where].min()), -8.0), min(float(a[where].max()), 8.0)
    for _ in range(int(rng.integers(0, 6))):
        middle, kind = rng.uniform(low, high), int(rng.integers(4))
        width = rng.uniform(0.3, 1.6)
        foot, top = ((1.1, 1.9), (0.9, 2.2), (0.0, 2.1), (0.0, rng.uniform(0.5, 1.9)))[kind]
        colour = textures.as_pixels(textures.muted(rng, 0.1, 0.9, 0.2)).reshape(3)
        edge = textures.as_pixels(textures.muted(rng, 0.1, 0.95, 0.1)).reshape(3)
        off = np.abs(a - np.float32(middle))
        inside = (off < width / 2) & (b > foot) & (b < top)
        if not inside.any():
            continue
        seen[inside] = edge
        inner = (off < width / 2 - 0.05) & (b > foot + 0.05) & (b < top - 0.05)
        if kind == 1:  # a window: bright, with a bar
            colour = np.array([215, 232, 250], dtype=np.uint8)
            inner &= off > 0.03
        seen[inner] = colour
        if kind == 3:
            seen[inside & (np.mod(b * 3, 1) < 0.08)] = edge // 2
        if kind == 0:
            blob = inner & (np.sin(a * rng.uniform(5, 20)) + np.sin(b * rng.uniform(5, 20)) > 0.3)
            seen[blob] = edge // 2 + colour // 4


def open_air(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """Sky, something at the horizon, and ground."""
    way = rays(camera, size_wh)
    rise = way[1] / np.sqrt(way[0] ** 2 + way[1] ** 2 + way[2] ** 2)
    zenith, horizon = (
        np.array([0.30, 0.52, 0.82]) * rng.uniform(0.7, 1.2),
        np.array([0.75, 0.85, 0.95]) * rng.uniform(0.8, 1.05),
    )
    if rng.random() < 0.35:
        zenith, horizon = np.full(3, rng.uniform(0.5, 0.85)), np.full(3, rng.uniform(0.7, 0.95))
    clouds = textures.fractal(rng, size_wh, cells=2, octaves=4, keep=0.55) * np.float32(0.35)
    clouds += np.float32(rng.uniform(-0.6, 0.3))
    share = np.clip(rise * np.float32(2.2), 0, 1)
    picture = textures.coloured(1 - 2 * share * (1 - np.clip(clouds, 0, 0.9)), zenith, horizon)
    if rise.max() > 0:
        _skyline(rng, picture, way, rise, horizon)
    metres = float(rng.uniform(1.5, 5.0))
    ground = textures.FLOORS_OUTSIDE[int(rng.integers(len(textures.FLOORS_OUTSIDE)))](rng, TEXTURE_SIZE)
    below = way[1] < -0.01
    if not below.any():
        return picture
    window = _window(below)
    way, below = way[:, window[0], window[1]], below[window]
    depth = _depth(camera, way, UP, 0.0)
    a, b = _along(camera, way, depth, ACROSS), _along(camera, way, depth, TOWARD)
    seen = _papered(ground, a, b, metres, depth, camera)
    if rng.random() < 0.2:  # lines of a court or a road
        spacing, turned = rng.uniform(2, 5), np.float32(rng.uniform(-0.5, 0.5))
        line = (np.mod(a + turned * b, spacing) < 0.08) | (np.mod(b - turned * a, 2 * spacing) < 0.08)
        seen[line & (depth < 30)] = 230
    cv2.copyTo(seen, below.astype(np.uint8), picture[window])
    return picture


def _skyline(
    rng: np.random.Generator, picture: np.ndarray, way: np.ndarray, rise: np.ndarray, horizon: np.ndarray
) -> None:
    """Paints hills, trees and houses above the horizon, in place: heights over the direction one looks in."""
    bearing = np.arctan2(way[0], -way[2])
    grid = np.linspace(-1.6, 1.6, 768)
    for layer in range(int(rng.integers(1, 4))):
        knots = rng.standard_normal(96)
        if rng.random() < 0.5:  # houses
            height = np.repeat(np.repeat(knots[::4], 4), 8)
        else:
            knots = np.convolve(knots, np.ones(3) / 3, mode="same")
            height = np.interp(np.linspace(0, 95, 768), np.arange(96), knots) + 0.12 * rng.standard_normal(768)
        height = np.interp(bearing, grid, height).astype(np.float32)
        size = rng.uniform(0.03, 0.25)
        solid = rise < size * (0.7 + 0.35 * height) - 0.04 * layer
        green = np.array([0.16, 0.28, 0.12]) + rng.uniform(-0.06, 0.08, 3)
        colour = green if rng.random() < 0.6 else textures.muted(rng, 0.25, 0.75, 0.1)
        haze = rng.uniform(0, 0.5)
        dark, light = (colour * k * (1 - haze) + horizon * haze for k in (0.6, 1.3))
        field = textures.fractal(rng, picture.shape[1::-1], cells=12, octaves=3, keep=0.8)
        cv2.copyTo(textures.coloured(field * np.float32(0.7), dark, light), solid.astype(np.uint8), picture)


def leaves(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A hedge or the edge of a wood, or any busy thing of another colour."""
    base = np.array([0.20, 0.32, 0.12]) if rng.random() < 0.6 else textures.muted(rng, 0.2, 0.7, 0.25)
    field = textures.fractal(rng, size_wh, cells=int(rng.integers(4, 14)), octaves=5, keep=0.85)
    field = np.float32(rng.uniform(0.3, 0.8)) * field + np.float32(0.3) * textures.fractal(
        rng, size_wh, cells=3, octaves=2
    )
    return textures.coloured(field, base * 0.25, base * 1.7)


def studio(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A soft gradient."""
    corner = np.stack([textures.muted(rng, 0.1, 0.95, 0.2) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    corner = 0.5 * corner + 0.5 * corner.mean(axis=(0, 1))
    return textures.as_pixels(cv2.resize(corner, size_wh, interpolation=cv2.INTER_LINEAR))


def lights(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A street or a hall far out of focus: soft lumps, discs of light, posts."""
    width, height = size_wh
    field = textures.fractal(rng, size_wh, cells=3, octaves=3)
    picture = textures.coloured(field, textures.muted(rng, 0.02, 0.4, 0.15), textures.muted(rng, 0.3, 0.8, 0.2))
    for _ in range(int(rng.integers(4, 24))):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        colour = textures.as_pixels(textures.muted(rng, 0.2, 1.0, 0.35)).ravel().tolist()
        if rng.random() < 0.7:
            cv2.circle(picture, (x, y), int(rng.uniform(0.01, 0.07) * width), colour, -1, cv2.LINE_AA)
        else:
            half = int(rng.uniform(0.01, 0.08) * width)
            cv2.rectangle(picture, (x - half, y), (x + half, height), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), max(float(rng.uniform(0.004, 0.02)) * width, 0.3))


BACKDROPS: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int], Camera], np.ndarray]]] = {
    "room": (34, room),
    "open_air": (36, open_air),
    "leaves": (10, leaves),
    "studio": (8, studio),
    "lights": (12, lights),
}
"""Kind of backdrop -> (how often, of a hundred; the function that paints (h, w, 3) uint8 RGB)."""

HAS_GROUND = ("room", "open_air")
"""Backdrops on which a shadow falls."""

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


def rays(camera: Camera, size_wh: tuple[int, int]) -> np.ndarray:
    """(3, h, w) float32: the world direction of every pixel's centre, depth 1 along the axis."""
    axes = camera.axes().astype(np.float32)
    u = ((np.arange(size_wh[0], dtype=np.float32) + 0.5) - camera.centre_xy[0]) / camera.focal
    v = ((np.arange(size_wh[1], dtype=np.float32) + 0.5) - camera.centre_xy[1]) / camera.focal
    return (
        axes[0][:, None, None] * u[None, None, :] + axes[1][:, None, None] * v[None, :, None] + axes[2][:, None, None]
    )


def _plane(
    camera: Camera, way: np.ndarray, normal: np.ndarray, distance: float, across: np.ndarray, up: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth and the two coordinates in metres at which each pixel's ray meets the plane `normal . x = distance`."""
    position = np.asarray(camera.position, dtype=np.float32)
    speed = np.tensordot(normal.astype(np.float32), way, axes=1)
    gap = np.float32(distance - normal @ position)
    with np.errstate(divide="ignore"):
        depth = gap / speed
    depth = np.where(depth > 0, np.minimum(depth, 1e4), np.float32(1e4))
    a = np.float32(across @ position) + depth * np.tensordot(across.astype(np.float32), way, axes=1)
    b = np.float32(up @ position) + depth * np.tensordot(up.astype(np.float32), way, axes=1)
    return depth, a, b


def _papered(
    texture: np.ndarray, a: np.ndarray, b: np.ndarray, metres: float, depth: np.ndarray, fade: float
) -> np.ndarray:
    """(h, w, 3) float32: the texture, repeated every `metres`, melting into its mean where it is too far to resolve."""
    size = texture.shape[0]
    scale = np.float32(size / metres)
    picture = cv2.remap(
        texture.astype(np.float32),
        np.mod(a * scale, size),
        np.mod(-b * scale, size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    mean = texture.reshape(-1, 3).mean(axis=0).astype(np.float32)
    keep = np.clip(fade / depth, 0, 1)[..., None]
    return mean + (picture - mean) * keep


def _resolvable(camera: Camera, metres: float) -> float:
    """Depth at which one pixel of the texture is one pixel of the picture."""
    return camera.focal * metres / TEXTURE_SIZE * 1.5


def room(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A floor, a wall behind, a wall at the side, with windows, pictures, doors and shelves."""
    way = rays(camera, size_wh)
    metres = float(rng.uniform(1.5, 4.0))
    floor = textures.FLOORS_INSIDE[int(rng.integers(len(textures.FLOORS_INSIDE)))](rng, TEXTURE_SIZE)
    depth, a, b = _plane(camera, way, np.array([0.0, 1, 0]), 0.0, np.array([1.0, 0, 0]), np.array([0.0, 0, 1]))
    fade = _resolvable(camera, metres)
    picture = _papered(floor, a, b, metres, depth, fade)
    wall = textures.WALLS_INSIDE[int(rng.integers(len(textures.WALLS_INSIDE)))](rng, TEXTURE_SIZE)
    yaw = np.deg2rad(rng.uniform(-35, 35))
    behind = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    beside = np.array([np.cos(yaw), 0.0, -np.sin(yaw)]) * rng.choice([-1, 1])
    skirting, dado = muted_or_none(rng, 0.6), rng.uniform(0.8, 1.3) if rng.random() < 0.2 else 0.0
    for normal, distance, shade in (
        (behind, -rng.uniform(0.7, 4.0), 1.0),
        (beside, -rng.uniform(1.5, 5.0), rng.uniform(0.65, 0.95)),
    ):
        up = np.array([0.0, 1.0, 0.0])
        far, a, b = _plane(camera, way, normal, distance, np.cross(up, normal), up)
        nearer = far < depth
        if not nearer.any():
            continue
        seen = _papered(wall, a, b, metres, far, fade) * np.float32(shade * rng.uniform(0.85, 1.1))
        _furnish(rng, seen, a, b, nearer)
        if dado:
            seen[b < dado] *= np.float32(0.8)
        if skirting is not None:
            seen[b < 0.1] = skirting
        # Corners are a little darker.
        seen *= (1 - 0.25 * np.exp(-np.abs(b) * 4))[..., None].astype(np.float32)
        picture = np.where(nearer[..., None], seen, picture)
        depth = np.minimum(depth, far)
    return picture


def muted_or_none(rng: np.random.Generator, chance: float) -> np.ndarray | None:
    """A colour for a skirting board in `chance` of the cases."""
    colour = textures.muted(rng, 0.3, 0.95, 0.08).astype(np.float32)
    return colour if rng.random() < chance else None


def _furnish(rng: np.random.Generator, seen: np.ndarray, a: np.ndarray, b: np.ndarray, where: np.ndarray) -> None:
    """Paints frames, windows, doors and cupboards on a wall, in place; `a`, `b` are metres along it and up."""
    low, high = float(a[where].min()), float(a[where].max())
    low, high = max(low, -8.0), min(high, 8.0)
    for _ in range(int(rng.integers(0, 6))):
        middle, kind = rng.uniform(low, high), int(rng.integers(4))
        width = rng.uniform(0.3, 1.6)
        foot, top = ((1.1, 1.9), (0.9, 2.2), (0.0, 2.1), (0.0, rng.uniform(0.5, 1.9)))[kind]
        colour = textures.muted(rng, 0.1, 0.9, 0.2).astype(np.float32)
        edge = textures.muted(rng, 0.1, 0.95, 0.1).astype(np.float32)
        inside = (np.abs(a - middle) < width / 2) & (b > foot) & (b < top)
        if not inside.any():
            continue
        seen[inside] = edge
        inner = (np.abs(a - middle) < width / 2 - 0.05) & (b > foot + 0.05) & (b < top - 0.05)
        if kind == 1:  # a window: bright, with a bar
            colour = np.array([0.85, 0.92, 1.0], dtype=np.float32) * np.float32(rng.uniform(0.7, 1.1))
            inner &= np.abs(a - middle) > 0.03
        seen[inner] = colour
        if kind == 3:
            seen[inside & (np.mod(b * 3, 1) < 0.08)] *= np.float32(0.6)
        if kind == 0:
            blob = inner & (np.sin(a * rng.uniform(5, 20)) + np.sin(b * rng.uniform(5, 20)) > 0.3)
            seen[blob] = edge * np.float32(0.7)


def open_air(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """Sky, something at the horizon, and ground."""
    way = rays(camera, size_wh)
    length = np.sqrt((way * way).sum(axis=0))
    rise = way[1] / length
    zenith, horizon = (
        np.array([0.30, 0.52, 0.82]) * rng.uniform(0.7, 1.2),
        np.array([0.75, 0.85, 0.95]) * rng.uniform(0.8, 1.05),
    )
    if rng.random() < 0.35:
        zenith, horizon = np.full(3, rng.uniform(0.5, 0.85)), np.full(3, rng.uniform(0.7, 0.95))
    share = np.clip(rise * 2.2, 0, 1)[..., None]
    picture = (horizon + share * (zenith - horizon)).astype(np.float32)
    clouds = np.clip(
        textures.fractal(rng, size_wh, cells=2, octaves=4, keep=0.55) * 0.5 - rng.uniform(-0.3, 0.5), 0, 1
    )[..., None]
    picture += (np.float32(0.95) - picture) * clouds * share**0.3
    # A silhouette along the horizon: hills, trees or houses, as heights over the direction.
    for layer in range(int(rng.integers(1, 4))):
        bearing = np.arctan2(way[0], -way[2])
        knots = rng.standard_normal(96)
        if rng.random() < 0.5:
            knots = np.repeat(knots[::4], 4)  # houses
            height = np.interp(bearing, np.linspace(-1.6, 1.6, 96 * 8), np.repeat(knots, 8))
        else:
            knots = np.convolve(knots, np.ones(3) / 3, mode="same")
            height = np.interp(bearing, np.linspace(-1.6, 1.6, 96), knots) + 0.15 * np.interp(
                bearing * 23 % 3.2 - 1.6, np.linspace(-1.6, 1.6, 96), knots
            )
        size = rng.uniform(0.03, 0.25)
        solid = rise < size * (0.7 + 0.35 * height) - 0.04 * layer
        green = np.array([0.16, 0.28, 0.12]) + rng.uniform(-0.06, 0.08, 3)
        colour = green if rng.random() < 0.6 else textures.muted(rng, 0.25, 0.75, 0.1)
        mottled = textures.coloured(
            0.7 * textures.fractal(rng, size_wh, cells=12, octaves=3, keep=0.8), colour * 0.6, colour * 1.3
        )
        haze = np.float32(rng.uniform(0, 0.5))
        picture = np.where(solid[..., None], mottled * (1 - haze) + horizon.astype(np.float32) * haze, picture)
    metres = float(rng.uniform(1.5, 5.0))
    ground = textures.FLOORS_OUTSIDE[int(rng.integers(len(textures.FLOORS_OUTSIDE)))](rng, TEXTURE_SIZE)
    depth, a, b = _plane(camera, way, np.array([0.0, 1, 0]), 0.0, np.array([1.0, 0, 0]), np.array([0.0, 0, 1]))
    seen = _papered(ground, a, b, metres, depth, _resolvable(camera, metres))
    if rng.random() < 0.25:  # lines of a court or a road
        spacing, turned = rng.uniform(2, 5), rng.uniform(-0.5, 0.5)
        line = (np.mod(a + turned * b, spacing) < 0.08) | (np.mod(b - turned * a, 2 * spacing) < 0.08)
        seen[line & (depth < 30)] = np.float32(0.92)
    return np.where((way[1] < -0.01)[..., None], seen, picture)


def leaves(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A hedge or the edge of a wood, or any busy thing of another colour."""
    base = np.array([0.20, 0.32, 0.12]) if rng.random() < 0.6 else textures.muted(rng, 0.2, 0.7, 0.25)
    field = textures.fractal(rng, size_wh, cells=int(rng.integers(4, 14)), octaves=5, keep=0.85)
    picture = textures.coloured(0.8 * field, base * 0.25, base * 1.7)
    return picture + 0.12 * textures.fractal(rng, size_wh, cells=3, octaves=2)[..., None]


def studio(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A soft gradient."""
    width, height = size_wh
    corner = np.stack([textures.muted(rng, 0.1, 0.95, 0.2) for _ in range(4)]).reshape(2, 2, 3).astype(np.float32)
    corner = 0.5 * corner + 0.5 * corner.mean(axis=(0, 1))
    picture = cv2.resize(corner, (width, height), interpolation=cv2.INTER_LINEAR)
    return picture * (1 + 0.05 * textures.fractal(rng, size_wh, cells=2, octaves=2))[..., None]


def lights(rng: np.random.Generator, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """A street or a hall far out of focus: soft lumps, discs of light, posts."""
    width, height = size_wh
    picture = textures.coloured(
        textures.fractal(rng, size_wh, cells=3, octaves=3),
        textures.muted(rng, 0.02, 0.4, 0.15),
        textures.muted(rng, 0.3, 0.8, 0.2),
    )
    picture = np.ascontiguousarray(picture, dtype=np.float32)
    for _ in range(int(rng.integers(4, 24))):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        colour = [float(v) for v in textures.muted(rng, 0.2, 1.0, 0.35)]
        if rng.random() < 0.7:
            cv2.circle(picture, (x, y), int(rng.uniform(0.01, 0.07) * width), colour, -1, cv2.LINE_AA)
        else:
            half = int(rng.uniform(0.01, 0.08) * width)
            cv2.rectangle(picture, (x - half, y), (x + half, height), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.004, 0.02)) * width)


BACKDROPS: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int], Camera], np.ndarray]]] = {
    "room": (34, room), "open_air": (36, open_air), "leaves": (10, leaves), "studio": (8, studio), "lights": (12, lights),
}  # fmt: skip
"""Kind of backdrop -> (how often, of a hundred; the function that paints (h, w, 3) float32 in about [0, 1])."""

HAS_GROUND = ("room", "open_air")
"""Backdrops on which a shadow falls."""

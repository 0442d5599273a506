"""Things that stand about: chairs under those who sit, tables, boxes, posts, and what hides people."""

from __future__ import annotations

import numpy as np

from featherpose.data.synthetic import textures
from featherpose.data.synthetic.body import turn
from featherpose.data.synthetic.draw import Occluder
from featherpose.data.synthetic.figure import Body, Figure
from featherpose.data.synthetic.mesh import Mesh, box, face_set, join, moved


def _coloured_box(rng: np.random.Generator, low: tuple, high: tuple, colour: np.ndarray) -> Mesh:
    faces = box(np.asarray(low), np.asarray(high))
    return face_set(faces, colour * (1 + 0.03 * rng.standard_normal((len(faces), 1))), gloss=0.05)


def seat_of(rng: np.random.Generator, figure: Figure, body: Body) -> Mesh:
    """A chair, a stool, a bench or a block under somebody who sits."""
    top = max(body.seat_height + 0.035, 0.06)
    scale = body.scale
    colour = textures.muted(rng, 0.1, 0.8, 0.2)
    wide = float(rng.uniform(0.22, 0.30)) if rng.random() < 0.7 else 0.8
    wide, deep = wide * scale, 0.24 * scale
    if rng.random() < 0.4:
        parts = [_coloured_box(rng, (-wide, 0, -deep), (wide, top, deep), colour)]
    else:
        parts = [_coloured_box(rng, (-wide, top - 0.05, -deep), (wide, top, deep), colour)]
        for x in (-wide, wide - 0.04):
            for z in (-deep, deep - 0.04):
                parts.append(_coloured_box(rng, (x, 0, z), (x + 0.04, top - 0.05, z + 0.04), colour * 0.8))
    if rng.random() < 0.5:
        back = float(rng.uniform(0.3, 0.6)) * scale
        parts.append(_coloured_box(rng, (-wide, top, -deep - 0.10), (wide, top + back, -deep - 0.05), colour * 0.95))
    return moved(join(parts), turn("y", figure.heading), np.array([figure.place[0], 0.0, figure.place[1]]))


def _table(rng: np.random.Generator, wide: float, top: float, colour: np.ndarray) -> Mesh:
    parts = [_coloured_box(rng, (-wide, top - 0.04, -0.35), (wide, top, 0.35), colour)]
    for x in (-0.9 * wide, 0.9 * wide):
        for z in (-0.3, 0.3):
            low, high = (x - 0.03, 0, z - 0.03), (x + 0.03, top - 0.04, z + 0.03)
            parts.append(_coloured_box(rng, low, high, colour * 0.8))
    return join(parts)


def furniture(rng: np.random.Generator, farthest: float) -> list[Mesh]:
    """Tables, boxes and posts beside and behind the middle."""
    things = []
    for _ in range(int(rng.integers(1, 4))):
        side = 1.0 if rng.random() < 0.5 else -1.0
        x, z = side * float(rng.uniform(0.7, 2.4)), float(rng.uniform(max(farthest, -2.5), 0.4))
        colour = textures.muted(rng, 0.08, 0.85, 0.2)
        kind = int(rng.integers(3))
        if kind == 0:
            low, high = (-rng.uniform(0.2, 0.5), 0, -0.3), (rng.uniform(0.2, 0.5), rng.uniform(0.3, 1.8), 0.3)
            mesh = _coloured_box(rng, low, high, colour)
        elif kind == 1:
            wide, top = float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.45, 0.9))
            mesh = _table(rng, wide, top, colour)
        else:
            half = float(rng.uniform(0.02, 0.09))
            mesh = _coloured_box(rng, (-half, 0, -half), (half, rng.uniform(1.5, 4.0), half), colour)
        things.append(moved(mesh, turn("y", float(rng.uniform(-40, 40))), np.array([x, 0.0, z])))
    return things


def random_occluder(rng: np.random.Generator, joints_xy: np.ndarray, size_wh: tuple[int, int]) -> Occluder:
    """A post, a rail, a block at the lower edge or a rounded lump that hides a part of the person with these joints."""
    xy = np.clip(joints_xy, 0, size_wh)
    low, high = xy.min(axis=0), xy.max(axis=0)
    side = float(np.maximum(high - low, 8).max())
    x, y = (float(v) for v in rng.uniform(low, high))
    width, height = size_wh
    kind = int(rng.choice(4, p=[0.3, 0.15, 0.2, 0.35]))
    if kind == 0:  # a post
        half, slope = side * float(rng.uniform(0.015, 0.06)), float(rng.normal(0, 0.06)) * height
        corners = [(x - half, -2), (x + half, -2), (x + half + slope, height + 2), (x - half + slope, height + 2)]
    elif kind == 1:  # a wall, a table, a row of heads at the lower edge
        y = float(rng.uniform(low[1] + 0.6 * (high[1] - low[1]), max(high[1], low[1] + 8)))
        slope = float(rng.normal(0, 0.03)) * height
        corners = [(-2, y), (width + 2, y + slope), (width + 2, height + 2), (-2, height + 2)]
    elif kind == 2:  # a rail or a net's edge
        half = side * float(rng.uniform(0.01, 0.04))
        corners = [(-2, y - half), (width + 2, y - half), (width + 2, y + half), (-2, y + half)]
    else:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = side * rng.uniform(0.07, 0.18) * (1 + 0.15 * np.sin(angle * rng.integers(1, 5) + rng.uniform(0, 6)))
        corners = np.stack([x + radius * np.cos(angle) * rng.uniform(0.6, 1.4), y + radius * np.sin(angle)], axis=1)
    texture = 1 + 0.06 * textures.fractal(rng, (64, 64), cells=4) + 0.05 * textures.noise(rng, (64, 64))
    colour = tuple(float(v) for v in textures.muted(rng, 0.05, 0.9, 0.25))
    return Occluder(np.asarray(corners, dtype=np.float64), colour, texture.astype(np.float32))

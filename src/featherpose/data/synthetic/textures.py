"""Flat pictures of what the world is made of: noise, cloth of clouds, grass, planks, tiles, bricks, wallpaper.

Fields are (h, w) float32 around 0; pictures are (h, w, 3) uint8 RGB; colours are (3,) floats in [0, 1].
"""

from __future__ import annotations

import cv2
import numpy as np


def fractal(
    rng: np.random.Generator, size_wh: tuple[int, int], *, cells: int = 3, octaves: int = 4, keep: float = 0.5
) -> np.ndarray:
    """(h, w) smooth noise around 0 with deviation near 1; the coarsest lumps are 1 / `cells` of the width."""
    width, height = size_wh
    total = np.zeros((height, width), dtype=np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        rows, columns = max(2, round(cells * height / width)) + 1, cells + 1
        coarse = rng.standard_normal((rows, columns), dtype=np.float32)
        total += weight * cv2.resize(coarse, size_wh, interpolation=cv2.INTER_CUBIC)
        power += weight**2
        weight *= keep
        cells *= 2
        if cells > width:
            break
    return total / np.float32(np.sqrt(power) * 0.8)


def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """float32 noise around 0 with deviation 1; triangular, since normal noise takes five times as long to draw."""
    pair = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    return (pair[0].astype(np.float32) + pair[1] - 255) * np.float32(1 / 104.5)


def coloured(field: np.ndarray, dark: np.ndarray, light: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: from `dark` at -1 to `light` at 1."""
    level = cv2.convertScaleAbs(np.maximum(field, -1), alpha=127.5, beta=127.5)
    share = np.linspace(0, 1, 256)[:, None]
    palette = np.clip((np.asarray(dark) * (1 - share) + np.asarray(light) * share) * 255 + 0.5, 0, 255).astype(np.uint8)
    return cv2.LUT(cv2.merge([level] * 3), palette.reshape(1, 256, 3))


def toned(colour: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: one colour, brightened and darkened by a field of factors around 1."""
    return coloured(factor - 1, np.zeros(3), 2 * np.asarray(colour))


def as_pixels(picture: np.ndarray) -> np.ndarray:
    """uint8 of a float picture in [0, 1]."""
    return cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255)


def muted(rng: np.random.Generator, low: float, high: float, chroma: float) -> np.ndarray:
    """(3,) a colour of the given brightness, at most `chroma` away from grey."""
    return np.clip(rng.uniform(low, high) + rng.uniform(-chroma, chroma, 3), 0, 1)


def _grain(rng: np.random.Generator, size: int, amount: float) -> np.ndarray:
    return np.float32(amount) * noise(rng, (size, size))


def _seamless(quarter: np.ndarray) -> np.ndarray:
    """Twice the size: a picture and its mirror images, so that it joins at its edges."""
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    return np.concatenate([half, half[::-1]], axis=0)


def grass(rng: np.random.Generator, size: int) -> np.ndarray:
    """Meadow, lawn or dry grass."""
    dark = np.array([0.10, 0.22, 0.05]) + rng.uniform(-0.05, 0.15, 3) * [1.4, 1, 0.6]
    size //= 2
    field = np.float32(0.5) * fractal(rng, (size, size), cells=3) + _grain(rng, size, 0.6)
    return _seamless(coloured(field, dark, dark + rng.uniform(0.12, 0.3) * np.array([1, 1.1, 0.6])))


def rough(rng: np.random.Generator, size: int) -> np.ndarray:
    """Asphalt, sand, snow, earth, carpet."""
    base = np.array(
        [(0.32, 0.32, 0.33), (0.78, 0.68, 0.50), (0.90, 0.92, 0.95), (0.42, 0.32, 0.23), (0.55, 0.52, 0.50)]
    )[int(rng.integers(5))]
    base = np.clip(base + rng.uniform(-0.08, 0.08, 3), 0, 1)
    size //= 2
    field = np.float32(0.6) * fractal(rng, (size, size), cells=3) + _grain(rng, size, 0.5)
    return _seamless(coloured(field, base * 0.85, base * 1.12))


def water(rng: np.random.Generator, size: int) -> np.ndarray:
    """Ripples."""
    base = np.array([0.14, 0.30, 0.38]) + rng.uniform(-0.08, 0.14, 3)
    size //= 2
    long = fractal(rng, (max(size // 4, 16), size), cells=4, keep=0.8)
    ripples = cv2.resize(long, (size, size), interpolation=cv2.INTER_LINEAR)
    return _seamless(coloured(np.float32(0.6) * ripples, base * 0.7, base * 1.3 + 0.05))


def planks(rng: np.random.Generator, size: int) -> np.ndarray:
    """A wooden floor, boards running down."""
    base = np.array([0.55, 0.38, 0.24]) * rng.uniform(0.5, 1.5) + rng.uniform(-0.04, 0.04, 3)
    count = int(rng.integers(5, 12))
    board = np.arange(size) * count // size
    tone = 1 + 0.12 * rng.standard_normal(count).astype(np.float32)[board]
    grain = cv2.resize(rng.standard_normal((8, size), dtype=np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    picture = toned(base, tone[None, :] + 0.06 * grain)
    seam = np.flatnonzero(np.diff(board, prepend=-1))
    picture[:, seam] //= 2
    for i, column in enumerate(seam):
        row = int(rng.integers(size))
        picture[row, column : (seam[i + 1] if i + 1 < count else size)] //= 2
    return picture


def tiles(rng: np.random.Generator, size: int) -> np.ndarray:
    """Tiles, a chessboard or pavement."""
    count = int(rng.choice([2, 4, 6, 8]))
    first = muted(rng, 0.25, 0.9, 0.12)
    second = muted(rng, 0.2, 0.9, 0.12) if rng.random() < 0.35 else first
    cell = np.arange(size) * count // size
    odd = (cell[:, None] + cell[None, :]) % 2
    tone = 1 + 0.06 * rng.standard_normal((count, count)).astype(np.float32)[cell[:, None], cell[None, :]]
    tone += _grain(rng, size, 0.02)
    picture = toned(first, tone)
    if second is not first:
        cv2.copyTo(toned(second, tone), odd.astype(np.uint8), picture)
    gap = np.flatnonzero(np.diff(cell, prepend=-1))
    joint = as_pixels(first * rng.uniform(0.5, 1.2)).reshape(3)
    for offset in (0, 1):
        picture[np.minimum(gap + offset, size - 1)] = joint
        picture[:, np.minimum(gap + offset, size - 1)] = joint
    return picture


def bricks(rng: np.random.Generator, size: int) -> np.ndarray:
    """A brick wall."""
    rows = int(rng.integers(10, 18))
    columns = rows // 3 + 1
    base = np.array([0.55, 0.30, 0.22]) if rng.random() < 0.6 else muted(rng, 0.3, 0.85, 0.06)
    y, x = np.arange(size) * rows / size, np.arange(size) * columns / size
    row = y.astype(int)
    shifted = x[None, :] + 0.5 * (row % 2)[:, None]
    column = shifted.astype(int) % columns
    tone = 1 + 0.12 * rng.standard_normal((rows, columns)).astype(np.float32)[row[:, None], column]
    mortar = (y % 1 < 0.14)[:, None] | (shifted % 1 < 0.06)
    picture = toned(base, tone + _grain(rng, size, 0.05))
    picture[mortar] = as_pixels(muted(rng, 0.5, 0.8, 0.03)).reshape(3)
    return picture


def plaster(rng: np.random.Generator, size: int) -> np.ndarray:
    """A painted wall."""
    base = muted(rng, 0.45, 0.95, 0.12)
    size //= 2
    uneven = np.float32(0.025) * fractal(rng, (size, size), cells=4) + _grain(rng, size, 0.008)
    return _seamless(toned(base, 1 + uneven))


def wallpaper(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes, dots, panels or a curtain."""
    base, second = muted(rng, 0.35, 0.9, 0.15), muted(rng, 0.3, 0.9, 0.2)
    x = np.linspace(0, 2 * np.pi, size, endpoint=False, dtype=np.float32)
    count, kind = int(rng.integers(3, 14)), int(rng.integers(4))
    if kind == 0:
        field = np.tile(np.sign(np.sin(count * x)), (size, 1))
    elif kind == 1:
        field = np.where(np.sin(count * x)[:, None] * np.sin(count * x)[None, :] > 0.6, 1.0, -1.0)
    elif kind == 2:
        field = np.tile(np.where(np.sin(count * x) > 0.97, 1.0, -1.0), (size, 1))
    else:
        field = np.tile(np.sin(2 * count * x + np.sin(3 * x)), (size, 1))
    return coloured(field, base, second)


FLOORS_OUTSIDE = (grass, grass, rough, rough, water, tiles)
FLOORS_INSIDE = (planks, tiles, rough, plaster)
WALLS_INSIDE = (plaster, plaster, plaster, wallpaper, bricks, tiles, planks)

"""Surfaces made of small four-cornered faces: tubes along a line, discs, boxes.

A tube is a stack of rings that runs down its frames' second axis (a limb along -up): so every face looks outward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """F faces of one thing. Lengths are metres in the world frame of `body.py`."""

    quads: np.ndarray
    """(F, 4, 3) float32: corners, counter-clockwise seen from outside."""
    colour: np.ndarray
    """(F, 3) float32, RGB in [0, 1], before light."""
    part: np.ndarray
    """(F,) uint8: which part of the body (`body.PARTS`) or 0."""
    gloss: np.ndarray
    """(F,) float32 in [0, 1]: strength of the highlight."""
    bias: np.ndarray
    """(F,) float32, metres: how much nearer than it is a face counts, so that paint lies on top of what is painted."""


def face_set(
    quads: np.ndarray, colour: np.ndarray, *, part: int = 0, gloss: float = 0.0, bias: float | np.ndarray = 0.0
) -> Mesh:
    """Faces (..., 4, 3) of one part; `colour` is (3,) or one per face, `bias` one number or one per face."""
    quads = np.asarray(quads, dtype=np.float32).reshape(-1, 4, 3)
    count = len(quads)
    colours, parts = np.empty((count, 3), dtype=np.float32), np.empty(count, dtype=np.uint8)
    glosses, biases = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    colours[:] = np.reshape(colour, (-1, 3))
    parts[:], glosses[:], biases[:] = part, gloss, bias
    return Mesh(quads, colours, parts, glosses, biases)


def join(meshes: list[Mesh]) -> Mesh:
    """All faces of several meshes as one."""
    return Mesh(
        *(np.concatenate([getattr(m, n) for m in meshes]) for n in ("quads", "colour", "part", "gloss", "bias"))
    )


def moved(mesh: Mesh, rotation: np.ndarray, offset: np.ndarray) -> Mesh:
    """The mesh turned by (3, 3) about the origin, then moved by (3,) metres."""
    corners = mesh.quads.reshape(-1, 3) @ rotation.T.astype(np.float32) + offset.astype(np.float32)
    return Mesh(corners.reshape(-1, 4, 3), mesh.colour, mesh.part, mesh.gloss, mesh.bias)


def ring_points(
    centre: np.ndarray,
    frame: np.ndarray,
    half_wide: np.ndarray,
    half_deep: np.ndarray,
    around: int,
    *,
    power: float = 2.0,
) -> np.ndarray:
    """(N, around, 3): N rings about centres (N, 3) in frames (N, 3, 3); the first point lies on the frame's first axis.

    `power` 2 is an ellipse, larger is boxier (a superellipse).
    """
    angle = np.arange(around) * (2 * np.pi / around)
    cos, sin = np.cos(angle), np.sin(angle)
    if power != 2.0:
        stretch = (np.abs(cos) ** power + np.abs(sin) ** power) ** (-1 / power)
        cos, sin = cos * stretch, sin * stretch
    wide, deep = np.multiply.outer(half_wide, cos), np.multiply.outer(half_deep, sin)
    return centre[:, None] + wide[..., None] * frame[:, None, :, 0] + deep[..., None] * frame[:, None, :, 2]


def skin_of(rings: np.ndarray, *, closed: bool = True) -> np.ndarray:
    """(N - 1, M, 4, 3) faces between rings (N, M, 3); open tubes have M - 1 faces to a ring."""
    steps, around = len(rings) - 1, rings.shape[1]
    faces = np.empty((steps, around if closed else around - 1, 4, 3))
    for corner, row in ((0, rings[:-1]), (3, rings[1:])):
        faces[:, :, corner] = row if closed else row[:, :-1]
    for corner, row in ((1, rings[:-1]), (2, rings[1:])):
        faces[:, : around - 1, corner] = row[:, 1:]
        if closed:
            faces[:, -1, corner] = row[:, 0]
    return faces


def rounded(table: np.ndarray) -> np.ndarray:
    """(96, columns): a table whose first column ascends, its rows joined by a rounded (monotone cubic) curve."""
    x, y = table[:, 0], table[:, 1:]
    at = np.linspace(x[0], x[-1], 96)
    step = np.diff(x)[:, None]
    slope = np.diff(y, axis=0) / step
    # Fritsch-Carlson: the harmonic mean of the neighbouring slopes, zero where they disagree, never overshoots.
    agree = slope[1:] * slope[:-1] > 0
    mean = np.where(agree, 2 * slope[1:] * slope[:-1] / np.where(agree, slope[1:] + slope[:-1], 1.0), 0.0)
    tangent = np.concatenate([slope[:1], mean, slope[-1:]])
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    h = step[i]
    t = np.clip((at - x[i])[:, None] / h, 0.0, 1.0)
    cubic = (2 * t**3 - 3 * t**2 + 1) * y[i] + (t**3 - 2 * t**2 + t) * h * tangent[i]
    cubic = cubic + (3 * t**2 - 2 * t**3) * y[i + 1] + (t**3 - t**2) * h * tangent[i + 1]
    return np.concatenate([at[:, None], cubic], axis=1)


def read_table(table: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns of a `rounded` table, each at the places (N,) of its first column."""
    return tuple(np.interp(at, table[:, 0], table[:, i]) for i in range(1, table.shape[1]))


def blended_frames(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N, 3, 3): frames between two (3, 3) ones at shares (N,), made square again; for the rings round a bent joint."""
    mixed = (1 - share)[:, None, None] * first + share[:, None, None] * second
    up = mixed[:, :, 1] / (np.linalg.norm(mixed[:, :, 1], axis=1, keepdims=True) + 1e-9)
    left = mixed[:, :, 0] - (mixed[:, :, 0] * up).sum(axis=1, keepdims=True) * up
    left /= np.linalg.norm(left, axis=1, keepdims=True) + 1e-9
    return np.stack([left, up, cross(left, up)], axis=2)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 3) vector products, quicker than NumPy's own for small arrays."""
    ax, ay, az, bx, by, bz = *a.T, *b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def disc(centre: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(..., 3, 4, 3): eight-cornered discs or ellipses with centres and half axes (..., 3), seen from right x up."""
    angle = np.arange(8) * (np.pi / 4) + np.pi / 8
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    corner = centre[..., None, :] + cos * right[..., None, :] + sin * up[..., None, :]
    return corner[..., [[0, 1, 2, 3], [0, 3, 4, 7], [4, 5, 6, 7]], :]


def box(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(F, 4, 3): the six sides of an upright box cut into faces of about a quarter of a metre."""
    faces = []
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    for axis, (u, v) in ((0, (1, 2)), (1, (2, 0)), (2, (0, 1))):
        nu, nv = (max(1, int(np.ceil((high[k] - low[k]) / 0.25))) for k in (u, v))
        gu, gv = np.linspace(low[u], high[u], nu + 1), np.linspace(low[v], high[v], nv + 1)
        grid = np.empty((nv + 1, nu + 1, 3))
        grid[..., u], grid[..., v] = gu[None, :], gv[:, None]
        for value, outward in ((low[axis], False), (high[axis], True)):
            grid[..., axis] = value
            side = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2).reshape(-1, 4, 3)
            faces.append(side if outward else side[:, ::-1])
    return np.concatenate(faces)

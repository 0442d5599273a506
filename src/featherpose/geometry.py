"""Affine maps, crops and flips: the one place that turns the pixel convention (docs/conventions.md) into code.

Every map is a (2, 3) float64 array acting on columns (x, y, 1) in continuous pixels with the origin at the top-left
corner of the top-left pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from featherpose.skeletons import Skeleton

PIXEL_CENTRE = 0.5
"""OpenCV's warps count from the centre of the first pixel; ours from its corner."""

WHOLE = 1e-6
"""Pixels: so near a border between pixels is on it."""

LARGEST = 32_000
"""Longer pictures are cut to the part that is seen: OpenCV 4 warps at most 32,766 pixels a side."""


def identity() -> np.ndarray:
    """The map that moves nothing."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def translation(x: float, y: float) -> np.ndarray:
    """Moves by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def scaling(x: float, y: float | None = None) -> np.ndarray:
    """Multiplies x and y about the origin (one factor for both unless two are given)."""
    return np.array([[x, 0.0, 0.0], [0.0, x if y is None else y, 0.0]])


def rotation(degrees: float) -> np.ndarray:
    """Turns about the origin; positive is clockwise on the screen, as y points down."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])


def mirror(width: float) -> np.ndarray:
    """Mirrors a picture of the given width left to right: x becomes width - x."""
    return np.array([[-1.0, 0.0, width], [0.0, 1.0, 0.0]])


def compose(*maps: np.ndarray) -> np.ndarray:
    """One map that applies the given ones in order, the first one first."""
    a, b, c, d, e, f = 1.0, 0.0, 0.0, 0.0, 1.0, 0.0
    for matrix in maps:  # plain numbers: for matrices this small NumPy's calls would take most of the time
        (p, q, r), (s, t, u) = matrix.tolist()
        a, b, c, d, e, f = p * a + q * d, p * b + q * e, p * c + q * f + r, s * a + t * d, s * b + t * e, s * c + t * f + u
    return np.array([[a, b, c], [d, e, f]])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The map back; ValueError if the map flattens the plane."""
    (a, b, c), (d, e, f) = matrix.tolist()
    area = a * e - b * d
    if abs(area) < 1e-12:
        raise ValueError("this affine map has no inverse: its scale is zero")
    return np.array([[e, -b, b * f - c * e], [-d, a, c * d - a * f]]) / area


def transform(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Points (..., 2) moved by a map; NaN stays NaN, the dtype stays a float."""
    xy = np.asarray(xy)
    dtype = xy.dtype if xy.dtype.kind == "f" else np.float64
    (a, b, c), (d, e, f) = matrix.tolist()
    if b == d == 0:  # a crop: most maps turn nothing, and a product of matrices takes NumPy longer than it looks
        return (xy * (a, e) + (c, f)).astype(dtype, copy=False)
    return (xy @ matrix[:, :2].T + matrix[:, 2]).astype(dtype, copy=False)


def transform_point(matrix: np.ndarray, xy: Sequence[float]) -> tuple[float, float]:
    """One point (x, y) moved by a map."""
    (a, b, c), (d, e, f) = matrix.tolist()
    x, y = (float(v) for v in xy)
    return a * x + b * y + c, d * x + e * y + f


def scale_of(matrix: np.ndarray) -> float:
    """By what factor a map stretches lengths (the root of the area factor)."""
    (a, b), (d, e) = matrix[:, :2].tolist()
    return abs(a * e - b * d) ** 0.5


def letterbox(size_wh: tuple[float, float], out_wh: tuple[int, int]) -> np.ndarray:
    """Shrinks or grows a picture until it fits, and centres it: the whole photo with padding on two sides."""
    scale = min(out_wh[0] / size_wh[0], out_wh[1] / size_wh[1])
    return compose(
        translation(-size_wh[0] / 2, -size_wh[1] / 2), scaling(scale), translation(out_wh[0] / 2, out_wh[1] / 2)
    )


def crop_map(box_xyxy: np.ndarray, out_wh: tuple[int, int]) -> np.ndarray:
    """Takes a box of the photo onto the input, keeping the aspect ratio (a box of another shape is letterboxed)."""
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    scale = min(out_wh[0] / (x2 - x1), out_wh[1] / (y2 - y1))
    x, y = (out_wh[0] - scale * (x1 + x2)) / 2, (out_wh[1] - scale * (y1 + y2)) / 2
    return np.array([[scale, 0.0, x], [0.0, scale, y]])


def middle_of(box_xyxy: np.ndarray) -> np.ndarray:
    """(2,) float64, the middle of a box (x1, y1, x2, y2)."""
    box = np.asarray(box_xyxy, np.float64)
    return (box[:2] + box[2:]) / 2


def square_around(box_xyxy: np.ndarray, margin: float) -> np.ndarray:
    """The square with the box's centre and `margin` times its longer side, of one pixel at least, as (x1, y1, x2, y2)."""
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    half = max(x2 - x1, y2 - y1, 1.0) * margin / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return np.array([cx - half, cy - half, cx + half, cy + half])


def whole_pixels(square_xyxy: np.ndarray, out_wh: tuple[int, int]) -> np.ndarray:
    """The square moved and resized by less than a pixel, so that it begins and ends between pixels of the photo.

    A quick `warp` wants such squares. Where it halves the photo first, they are pixels of the halved one.
    """
    x1, y1, x2, y2 = np.asarray(square_xyxy, np.float64).tolist()
    step = 2 ** _halvings((x2 - x1) / max(out_wh))
    side = max(round((x2 - x1) / step), 1) * step
    step = 2 ** _halvings(side / max(out_wh))  # rounding up may have come to one more
    left, top = (step * round(((a + b - side) / 2) / step) for a, b in ((x1, x2), (y1, y2)))
    return np.array([left, top, left + side, top + side], np.float64)


def box_of_points(xy: np.ndarray) -> np.ndarray | None:
    """The smallest (x1, y1, x2, y2) around the points (N, 2) that are not NaN; None when there is none."""
    xy = np.asarray(xy).reshape(-1, 2)
    xy = xy[np.isfinite(xy).all(axis=1)]
    return None if len(xy) == 0 else np.concatenate([xy.min(axis=0), xy.max(axis=0)]).astype(np.float64)


def flip_joints(values: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Reorders the K axis (first of a (K, ...) array) as mirroring does; coordinates themselves are not touched."""
    return values[skeleton.flip_index()]


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    out_wh: tuple[int, int],
    *,
    border: tuple[int, int, int] = (0, 0, 0),
    quick: bool = False,
) -> np.ndarray:
    """The picture seen through an affine map: (out_h, out_w, C) of the picture's dtype, bilinear.

    Shrinking by two or more first halves the part that is needed by averages, as often as it can be, so that nothing is
    skipped over.
    Outside the picture stands `border` (R, G, B).
    quick: a part of whole pixels (`whole_pixels`) is resized, which takes OpenCV a third of the time of a warp and gives the
    same within a grey level.
    """
    halvings = _halvings(1 / scale_of(matrix))
    part = _whole_part(matrix, out_wh, image.shape, 2**halvings) if quick else None
    if part is not None:
        return _resized(image, *part, halvings, out_wh, border)
    channels = image.shape[2:]
    if halvings or max(image.shape[:2]) > LARGEST:
        left, top, right, bottom = _needed(matrix, out_wh, image.shape, 2**halvings)
        image = image[top:bottom, left:right]
        for _ in range(halvings):
            image = _padded(_halved(image))
        matrix = compose(scaling(2**halvings), translation(left, top), matrix)
    centred = compose(translation(PIXEL_CENTRE, PIXEL_CENTRE), matrix, translation(-PIXEL_CENTRE, -PIXEL_CENTRE))
    seen = cv2.warpAffine(
        image, centred, out_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(*border, 0)
    )
    return cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB) if seen.shape[2:] == (4,) != channels else seen


def _halvings(shrinking: float) -> int:
    """How often a picture is halved before it is warped to 1 / shrinking of its size."""
    return max(0, math.floor(math.log2(shrinking) + 1e-6))  # the last digit of a quarter costs none


def _whole_part(
    matrix: np.ndarray, out_wh: tuple[int, int], shape: tuple[int, ...], step: int
) -> tuple[int, int, int, int] | None:
    """The part (left, top, right, bottom) of a picture (H, W, ...) that a map shows, which may reach outside.

    None where it is not made of whole pixels, `step` wide, where it is enlarged (pixels beside the part count then), turned
    or mirrored, and where it shows nothing of the picture.
    """
    (a, b, c), (d, e, f) = matrix.tolist()
    if b or d or not 0 < a <= 1 or not 0 < e <= 1:
        return None
    corners = (-c / a, -f / e, (out_wh[0] - c) / a, (out_wh[1] - f) / e)
    left, top, right, bottom = (step * round(v / step) for v in corners)
    if max(abs(v - r) for v, r in zip(corners, (left, top, right, bottom), strict=True)) > WHOLE:
        return None
    if left >= shape[1] or top >= shape[0] or right <= 0 or bottom <= 0:
        return None
    return left, top, right, bottom


def _resized(
    image: np.ndarray,
    left: int, top: int, right: int, bottom: int,
    halvings: int, out_wh: tuple[int, int], border: tuple[int, int, int],
) -> np.ndarray:  # fmt: skip
    """A part of the picture, halved and resized as `warp` has it: what OpenCV does in a third of the time of a warp."""
    seen = image[max(top, 0) : bottom, max(left, 0) : right]
    for _ in range(halvings):
        seen = _halved(seen)
    step = 2**halvings
    above, before = max(-top, 0) // step, max(-left, 0) // step
    below, behind = (bottom - top) // step - above - seen.shape[0], (right - left) // step - before - seen.shape[1]
    if above or below or before or behind:
        sides = above, below, before, behind
        seen = cv2.copyMakeBorder(seen, *sides, cv2.BORDER_CONSTANT, value=(*border, 0))
    return cv2.resize(seen, out_wh, interpolation=cv2.INTER_LINEAR)


def _padded(image: np.ndarray) -> np.ndarray:
    """RGB bytes with a fourth channel of no meaning: OpenCV warps four in half the time of three."""
    if image.dtype == np.uint8 and image.shape[2:] == (3,):
        return cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    return image


def _halved(image: np.ndarray) -> np.ndarray:
    """Every 2 x 2 pixels averaged; an odd last row or column is doubled first. OpenCV is fast for this factor alone."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _needed(matrix: np.ndarray, out_wh: tuple[int, int], shape: tuple[int, ...], step: int) -> tuple[int, int, int, int]:
    """The part (left, top, right, bottom) of a picture (H, W, ...) that is seen, with a rim; at least one pixel.

    A part that begins between pixels, `step` wide when they are halved, keeps them whole.
    """
    height, width = shape[:2]
    (a, b, c), (d, e, f) = invert(matrix).tolist()
    corners = [(x, y) for x in (0, out_wh[0]) for y in (0, out_wh[1])]
    across, down = [a * x + b * y + c for x, y in corners], [d * x + e * y + f for x, y in corners]
    left, top = (min(max(_before(min(v), step), 0), size - 1) for v, size in ((across, width), (down, height)))
    right, bottom = min(math.ceil(max(across)) + 2, width), min(math.ceil(max(down)) + 2, height)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _before(place: float, step: int) -> int:
    """Where a rim before a place begins: so that pixels are halved from the place on if it stands between them."""
    whole = step * round(place / step)
    return whole - 2 * step if abs(place - whole) <= WHOLE else math.floor(place) - 2

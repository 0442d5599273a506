"""Pictures of results: a pose over a photo, and sheets of many pictures with captions."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featherpose.geometry import PIXEL_CENTRE, box_of_points, letterbox, warp
from featherpose.pose import Pose
from featherpose.skeletons import canonical_joint_name

SIDE_COLOURS = {"left": (86, 180, 233), "right": (230, 159, 0), "middle": (0, 158, 115)}
"""RGB of the person's own sides; told apart by colour-blind readers too (Okabe and Ito, 2008)."""
OUTLINE = (24, 24, 24)
SUBPIXEL_BITS = 4
"""OpenCV draws at 1/16 of a pixel."""

BACKGROUND, INK = (250, 250, 250), (32, 32, 32)
CAPTION_SIZE = 13
"""Letter height, pixels."""


def draw_pose(image: np.ndarray, pose: Pose, threshold: float = 0.2, hollow: np.ndarray | None = None) -> np.ndarray:
    """A copy of the photo with bones coloured by side and joints on top; joints below the threshold are left out.

    image: (H, W, 3) uint8 RGB. pose: joints in its pixels. Lines grow with the person, from 1 px up to 1/60 of it.
    hollow: (K,) bool, joints that are drawn as rings, white inside, to tell them from the others.
    """
    canvas = np.ascontiguousarray(image).copy()
    counts = pose.score >= threshold
    if not counts.any():
        return canvas
    box = box_of_points(pose.xy[counts])
    size = min(max(box[2] - box[0], box[3] - box[1]), max(image.shape[:2]))
    line = max(1, round(size / 60))
    radius = line * 1.1 + 0.5
    sides = [_side(name) for name in pose.skeleton.joints]
    bones = [(a, b) for a, b in pose.skeleton.bone_index() if counts[a] and counts[b]]

    for thickness, outlined in ((line + 2 if line > 1 else 0, True), (line, False)):
        for a, b in bones:
            if thickness:
                colour = OUTLINE if outlined else SIDE_COLOURS[_side_of_bone(sides[a], sides[b])]
                cv2.line(canvas, _fixed(pose.xy[a]), _fixed(pose.xy[b]), colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    for k in np.flatnonzero(counts):
        discs = [(radius + 1, OUTLINE), (radius, SIDE_COLOURS[sides[k]])]
        if hollow is not None and hollow[k]:
            discs.append((max(radius - 1.5, radius / 2), (255, 255, 255)))
        for r, colour in discs:
            fixed_radius = round(r * 2**SUBPIXEL_BITS)
            cv2.circle(canvas, _fixed(pose.xy[k]), fixed_radius, colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas


def draw_people(image: np.ndarray, people: Mapping[int, Pose], threshold: float = 0.2) -> np.ndarray:
    """A copy of the picture with everybody's pose, as `draw_pose` draws it, and their number above them."""
    canvas, scale = np.ascontiguousarray(image).copy(), max(image.shape[:2]) / 1280
    for number, pose in people.items():
        canvas = draw_pose(canvas, pose, threshold)
        counts = pose.score >= threshold
        if counts.any():
            x, y = pose.xy[counts].min(axis=0)
            write_text(canvas, str(number), (x, max(y - 16 * scale, 36 * scale)))
    return canvas


def write_text(
    canvas: np.ndarray, text: str, xy: tuple[float, float], ink: tuple[int, int, int] = (255, 255, 255)
) -> None:
    """Writes into a picture, as large as fits it, in an RGB on a dark rim; xy: where the text begins, at its foot."""
    text, scale = plain_text(text), max(canvas.shape[:2]) / 1280
    place = (round(float(xy[0])), round(float(xy[1])))
    for thickness, colour in ((4, OUTLINE), (2, ink)):
        thickness = max(1, round(thickness * scale))
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)


def draw_box(image: np.ndarray, box_xyxy: np.ndarray, colour: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """A copy of the picture with a thin rectangle; box in its pixels, sides outside of it are not seen."""
    canvas = np.ascontiguousarray(image).copy()
    corners = _fixed(np.asarray(box_xyxy)[:2]), _fixed(np.asarray(box_xyxy)[2:])
    cv2.rectangle(canvas, *corners, colour, max(1, round(max(image.shape[:2]) / 400)), cv2.LINE_AA, SUBPIXEL_BITS)
    return canvas


def sheet(
    images: Sequence[np.ndarray], captions: Sequence[str] | None = None, columns: int | None = None, tile: int = 256
) -> np.ndarray:
    """One (H, W, 3) uint8 RGB picture of many: each fitted into a square of `tile` pixels, its caption below.

    images: (H, W, 3) uint8 RGB of any sizes. captions: one per picture, lines separated by newlines; a line that is too
    long is cut short. columns: as many as make the sheet about square unless given. Raises ValueError for no pictures.
    """
    if not images:
        raise ValueError("a sheet needs at least one picture")
    captions = [""] * len(images) if captions is None else [plain_text(str(caption)) for caption in captions]
    if len(captions) != len(images):
        raise ValueError(f"a sheet of {len(images)} pictures needs as many captions, got {len(captions)}")
    columns = min(len(images), columns or int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    lines = max(len(caption.splitlines()) for caption in captions)
    font = ImageFont.load_default(CAPTION_SIZE)
    line_height = round(CAPTION_SIZE * 1.35)
    gap = 4
    cell_height = tile + lines * line_height + gap
    canvas = np.full((rows * cell_height + gap, columns * (tile + gap) + gap, 3), BACKGROUND, np.uint8)
    corners = [(gap + (i % columns) * (tile + gap), gap + (i // columns) * cell_height) for i in range(len(images))]
    for image, (x, y) in zip(images, corners, strict=True):
        height, width = image.shape[:2]
        canvas[y : y + tile, x : x + tile] = warp(image, letterbox((width, height), (tile, tile)), (tile, tile))
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    for caption, (x, y) in zip(captions, corners, strict=True):
        for i, text in enumerate(caption.splitlines()):
            pen.text((x, y + tile + i * line_height), _shortened(text, font, tile), INK, font)
    return np.asarray(picture)


def plain_text(text: str) -> str:
    """The text in letters that the fonts here have: without accents, and ? for what is left ("Löwe" becomes "Lowe")."""
    letters = [c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)]
    return "".join(letters).encode("ascii", "replace").decode()


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut in its middle until it fits: the ends of file names tell them apart."""
    if font.getlength(text) <= width:
        return text
    keep = len(text) - 1
    while keep > 2 and font.getlength(text[: keep // 2] + "..." + text[-(keep - keep // 2) :]) > width:
        keep -= 1
    return text[: keep // 2] + "..." + text[-(keep - keep // 2) :]


def _side(joint: str) -> str:
    side = canonical_joint_name(joint).split("_")[0]
    return side if side in ("left", "right") else "middle"


def _side_of_bone(first: str, second: str) -> str:
    """The side both ends agree on; an end in the middle has no say, and left to right is the middle."""
    sides = {first, second} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    """Continuous pixels as OpenCV's fixed-point pixel centres; points far outside are held where its integers end."""
    x, y = np.clip((np.asarray(xy, np.float64) - PIXEL_CENTRE) * 2**SUBPIXEL_BITS, -(2**27), 2**27)
    return round(x), round(y)

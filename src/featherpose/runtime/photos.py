"""Photos as every part of featherpose sees them: (H, W, 3) uint8 RGB, turned the way a person looks at them.

Files are read by Pillow rather than OpenCV: it refuses a truncated JPEG instead of filling it up with grey, and knows
Adobe's inverted CMYK, EXIF rotation, palettes and transparency. Only 16-bit colour TIFF, which it cannot read, goes to
OpenCV. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""What is looked for in folders; a file that is named itself may have any suffix."""

DRAWN_SUFFIX = ".pose.jpg"
"""Our own drawings; not looked for in folders, so that drawings beside the photos are not predicted again."""

MAX_PIXELS = 178_956_970
"""Larger pictures are refused: Pillow's own limit against decompression bombs, 20,000 x 8,947 pixels. Reading takes at
most about 7 bytes per pixel, 1.25 GB at the limit (11 when EXIF asks for a turn)."""


class NoPicture(ValueError):
    """The content is of no kind that is known or allowed."""


class TooLarge(ValueError):
    """The picture may be whole, but it is refused."""


def read_photo(path: str | Path) -> np.ndarray:
    """The photo in a file: (H, W, 3) uint8 RGB, EXIF rotation applied, the first frame of several.

    Transparent parts become black, as the padding around a photo is: what an alpha channel hides is arbitrary.
    Raises OSError for a file that cannot be opened, ValueError for one that is no whole picture of at most MAX_PIXELS.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a photo")
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such photo")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes), expected a photo")
    with path.open("rb") as file:
        try:
            return _decoded(file, path)
        except NoPicture:
            with _quiet_pillow():
                deep = _read_deep_tiff(path)
            if deep is None:
                raise
            return deep


def decode_photo(
    data: bytes, name: str = "photo", *, formats: Sequence[str] | None = None, max_pixels: int | None = None
) -> np.ndarray:
    """`read_photo` for a file's content that is in memory already; its header is judged before anything is unpacked.

    name: for messages. formats: Pillow's names of those that are allowed ("JPEG"); all it knows unless given, but no
    16-bit colour TIFF. max_pixels: MAX_PIXELS unless given. Raises NoPicture, TooLarge, and ValueError for truncated or
    damaged data.
    """
    return _decoded(io.BytesIO(data), name, formats, max_pixels)


def _decoded(
    file: BinaryIO, name: str | Path, formats: Sequence[str] | None = None, max_pixels: int | None = None
) -> np.ndarray:
    with _quiet_pillow():
        try:
            with _open(file, name, formats, max_pixels) as picture:
                return _rgb(picture)
        except UnidentifiedImageError as error:
            kinds = ", ".join(formats or (suffix[1:] for suffix in PHOTO_SUFFIXES))
            raise NoPicture(f"{name}: not a picture that can be read; known kinds: {kinds}") from error
        except (TooLarge, MemoryError):
            raise
        except Exception as error:  # Pillow tells of bad data in many ways: SyntaxError, TypeError, struct.error
            raise ValueError(f"{name}: the picture is truncated or damaged ({error})") from error


def photo_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the photo in a file as `read_photo` gives it, from its header alone where possible."""
    try:
        with Path(path).open("rb") as file, _quiet_pillow(), _open(file, Path(path)) as picture:
            width, height = picture.size
            return (height, width) if _orientation(picture) in SIDEWAYS else (width, height)
    except (TooLarge, MemoryError):
        raise
    except Exception:  # what Pillow cannot read goes to OpenCV, and what is broken is told there
        height, width = read_photo(path).shape[:2]
        return width, height


STRIP = 1024
"""Rows that are handed over at a time."""

EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the picture upright."""


def list_photos(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The photos that files and folders name, in the given order; each once, those of a folder sorted by path.

    Folders are searched through all their levels for PHOTO_SUFFIXES; hidden files and our own drawings are left out.
    Raises FileNotFoundError for a path that is not there, ValueError for a folder without photos.
    """
    found: dict[str, Path] = {}
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        path = Path(path)
        if path.is_dir():
            inside = sorted(_photos_inside(path))
            if not inside:
                raise ValueError(f"{path}: no photo in this folder or below; looked for {', '.join(PHOTO_SUFFIXES)}")
        elif path.exists():
            inside = [path]
        else:
            raise FileNotFoundError(f"{path}: there is no such photo or folder")
        for photo in inside:
            found.setdefault(os.path.realpath(photo), photo)
    if not found:
        raise ValueError("no photo was named")
    return list(found.values())


def _photos_inside(folder: Path) -> list[Path]:
    photos = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            wanted = name.lower().endswith(PHOTO_SUFFIXES) and not name.lower().endswith(DRAWN_SUFFIX)
            if wanted and not name.startswith("."):
                photos.append(Path(root) / name)
    return photos


def as_image(array: np.ndarray) -> np.ndarray:
    """An array as a photo: (H, W, 3) uint8 RGB.

    array: (H, W), (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGB and alpha (composited on black); uint8, uint16 over
    its full range, or floats in [0, 1]. Raises ValueError for everything else.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(f"expected a photo as a path or a numpy array, got {type(array).__name__}")
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = "; put the channels last" if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        raise ValueError(f"a photo must have the shape (H, W), (H, W, 3) or (H, W, 4), got {shape}{hint}")
    if array.size == 0:
        raise ValueError(f"a photo must have at least one pixel, got the shape {shape}")
    array = _as_bytes(array)
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint16)
        array = ((array[:, :, :3] * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """uint8 of the same shape, rounded to the nearest step."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise ValueError(f"a photo of floats must lie in [0, 1], got {low:g} to {high:g}; give uint8 for 0 to 255")
        return np.rint(array * 255).astype(np.uint8)
    raise ValueError(f"a photo must be uint8, uint16 or floats in [0, 1], got {array.dtype}")


def _open(
    file: BinaryIO, name: str | Path, formats: Sequence[str] | None = None, max_pixels: int | None = None
) -> Image.Image:
    """A picture whose size is known and allowed; its pixels are not read yet."""
    try:
        picture = Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        most = max_pixels or MAX_PIXELS
        raise TooLarge(f"{name}: too large, at most {most:,} pixels are read ({error})") from error
    _check_size(picture.size, name, max_pixels)
    return picture


def _check_size(size_wh: tuple[int, int], name: str | Path, max_pixels: int | None = None) -> None:
    width, height = size_wh
    most = max_pixels or MAX_PIXELS
    if width * height > most:
        raise TooLarge(f"{name}: too large, {width:,} x {height:,} pixels; at most {most:,} are read")


@contextmanager
def _quiet_pillow():
    """Pillow warns of large pictures and odd EXIF entries; what matters is raised as an error here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for none and for what is none. Other entries are not looked at."""
    value = picture.getexif().get(EXIF_ORIENTATION, 1)
    return next((known for known in TURNS if known == value), 1)


def _rgb(picture: Image.Image) -> np.ndarray:
    turn = TURNS.get(_orientation(picture))
    if turn is not None:  # ImageOps.exif_transpose writes the EXIF data anew, which fails for odd entries
        picture = picture.transpose(turn)
    if picture.mode.startswith("I"):  # 16-bit grey, which some versions of Pillow open as 32-bit integers
        return as_image(np.asarray(picture).astype(np.uint16))
    if picture.mode == "F":
        return as_image(np.asarray(picture))
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    width, height = picture.size
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, STRIP):  # at once, Pillow would need several more copies of the whole picture
        bottom = min(top + STRIP, height)
        image[top:bottom] = as_image(np.asarray(picture.crop((0, top, width, bottom)).convert(mode)))
    return image


def _read_deep_tiff(path: Path) -> np.ndarray | None:
    """A TIFF of 16 bits per colour, which Pillow does not know; None when it is something else."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return None
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        try:
            file.seek(tags.next)
            tags.load(file)
            _check_size((tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]), path)
        except (OSError, KeyError, SyntaxError, struct.error):  # the directory is cut off or damaged
            return None
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        return None
    if array.ndim == 3:
        array = cv2.cvtColor(array, cv2.COLOR_BGRA2RGBA if array.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return as_image(array)

"""Writing a split of a data set: OUT/SPLIT/*.jpg and OUT/person_keypoints_SPLIT.json, all of it or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY = 93
LONGEST_JPEG = 65500
"""Pixels of a side that libjpeg writes."""


def check_place(out: Path, split: str, *, photo_name: str, overwrite: bool, source: Path | None = None) -> None:
    """ValueError for a split that is no plain word; FileExistsError when OUT holds something that would be lost.

    photo_name: pattern of the photos that may be replaced, if `overwrite` is set; a label file may be if it lists such photos
    alone and says it is ours. Other splits may lie beside. source: the label file that the split is made from, never replaced.
    """
    if not split or Path(split).name != split or split.startswith("."):
        raise ValueError(f"the split must be a plain word such as train or val, got '{split}'")
    photos, labels = _places(out, split)
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: this is a file; name a folder for the data set")
    if not out.is_dir():
        return
    if source is not None and labels.exists() and labels.samefile(source):
        raise FileExistsError(f"{labels}: the new split is made from this label file, it would be lost; choose another folder")
    names = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")}
    splits = {name.removeprefix("person_keypoints_").removesuffix(".json") for name in names if name.endswith(".json")}
    others = {name for s in splits - {split} for name in (s, f"person_keypoints_{s}.json")}
    if names - others and not overwrite:
        raise FileExistsError(f"{out}: the folder is not empty; choose another one, or say --overwrite")
    if photos.exists() and not photos.is_dir():
        raise FileExistsError(f"{photos}: this is a file, and the photos of split '{split}' belong there; move it away")
    if photos.is_dir():
        ours = {path.name for path in photos.glob(photo_name)}
        strange = sorted(path.name for path in photos.iterdir() if path.name not in ours)
        if strange:
            raise FileExistsError(
                f"{photos}: holds '{strange[0]}', which is none of '{photo_name}'; it would be lost: move it away"
            )
    if labels.exists() and not _is_ours(labels, photo_name):
        raise FileExistsError(
            f"{labels}: was not written here for photos named '{photo_name}'; it would be lost: move it away, or choose "
            "another folder"
        )


class SplitFolder:
    """What `new_split` gives: photos are added one by one, the labels are written at its end."""

    def __init__(self, partial: Path, labels: Path) -> None:
        self._partial = partial
        self.labels = labels
        """The label file that will be there."""
        self.facts: dict = {}
        """What goes into it: COCO's info, images, annotations and categories."""

    def add(self, name: str, image: np.ndarray) -> None:
        """Writes a picture, (H, W, 3) uint8 RGB, as a JPEG of that name. ValueError when it is empty or too long for that."""
        packed = None
        if image.size and max(image.shape[:2]) <= LONGEST_JPEG:
            _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if packed is None:
            raise ValueError(f"{name}: {image.shape[1]}x{image.shape[0]} pixels cannot be written as a JPEG")
        _write(self._partial / name, packed.tobytes())


@contextmanager
def new_split(out: Path, split: str) -> Iterator[SplitFolder]:
    """Photos are collected in a hidden folder and the labels come last: a stopped run leaves nothing that looks finished.

    An earlier split of that name is replaced at the end; ask `check_place` first. OSError when the disk is full.
    """
    photos, labels = _places(out, split)
    there_before = out.exists()
    partial, partial_labels = out / f".{split}.partial", out / f".{labels.name}.partial"
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        folder = SplitFolder(partial, labels)
        yield folder
        _write(partial_labels, json.dumps(folder.facts, allow_nan=False).encode())
        labels.unlink(missing_ok=True)
        if photos.exists():
            shutil.rmtree(photos)
        partial.replace(photos)
        partial_labels.replace(labels)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        partial_labels.unlink(missing_ok=True)
        if not there_before and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise


def _places(out: Path, split: str) -> tuple[Path, Path]:
    return out / split, out / f"person_keypoints_{split}.json"


def _is_ours(labels: Path, photo_name: str) -> bool:
    """Whether a label file names featherpose as its writer, and lists photos of that pattern alone."""
    try:
        facts = json.loads(labels.read_text("utf-8"))
        names = [image["file_name"] for image in facts["images"]]
        return "featherpose" in facts["info"]["description"] and all(fnmatchcase(name, photo_name) for name in names)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:  # a full disk is told without the name of the file
        raise OSError(error.errno, error.strerror, str(path)) from error

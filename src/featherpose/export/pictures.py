"""Pictures to compare files on, and to calibrate with: cut as a predictor would cut them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featherpose.data.readers import find_labels, read_dataset, splits_of
from featherpose.data.sample import Sample
from featherpose.data.synthetic.scene import draw_scene
from featherpose.geometry import crop_map, square_around, warp
from featherpose.runtime.photos import list_photos, read_photo
from featherpose.runtime.smart_crop import whole_frame
from featherpose.spec import ModelSpec

PICTURES = 32
"""How many pictures are compared: some 500 joints, a few seconds in torch on one core."""


class LeftOut(UserWarning):
    """Photos that cannot be read were left out."""


def photos(path: str | Path, input_size: tuple[int, int], count: int = PICTURES) -> np.ndarray:
    """Up to `count` photos, evenly chosen from a file or folder, whole and padded: (N, H, W, 3) uint8 RGB.

    Those that cannot be read are left out with one warning (LeftOut); ValueError when none can.
    """
    return _pictures(path, _evenly(list_photos(path), count), lambda photo: letterboxed(read_photo(photo), input_size))


def letterboxed(image: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """A whole photo on a square of zeros, at the input size."""
    height, width = image.shape[:2]
    return warp(image, crop_map(whole_frame((width, height)), input_size), input_size)


def scenes(input_size: tuple[int, int], count: int = PICTURES, *, seed: int = 0) -> np.ndarray:
    """Synthetic people, one to three in a picture: (N, H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    return np.stack([draw_scene(rng, input_size, persons=1 + i % 3)[0] for i in range(count)])


def crops(path: str | Path, spec: ModelSpec, count: int, *, split: str | None = None) -> np.ndarray:
    """Up to `count` pictures as the model will see them, evenly chosen: (N, H, W, 3) uint8 RGB.

    path: a label file or a data folder (split: "train" unless given), whose targets are cut out with the model's crop
    margin; or a photo or folder of photos without labels, which are taken whole and padded. Photos that cannot be read are
    left out with one warning (LeftOut); ValueError when none can.
    """
    path = Path(path)
    if not _labelled(path):
        if split is not None:
            raise ValueError(f"{path}: a split ('{split}') needs a data folder with person_keypoints_SPLIT.json")
        return photos(path, spec.input_size, count)
    split = split_of(path, split)
    labels = find_labels(path, split=split)
    samples = [sample for sample in read_dataset(labels, problems=[]) if sample.target >= 0]
    if not samples:
        raise ValueError(f"{labels}: no photo with a labelled person to cut out")

    def crop(sample: Sample) -> np.ndarray:
        box = square_around(sample.target_box(), spec.crop_margin)
        return warp(read_photo(sample.photo), crop_map(box, spec.input_size), spec.input_size)

    return _pictures(path, _evenly(samples, count), crop)


def split_of(path: str | Path, split: str | None) -> str | None:
    """The split of a data folder that `crops` takes pictures of, None where there is none."""
    return "train" if split is None and Path(path).is_dir() and _labelled(Path(path)) else split


def _pictures(path: str | Path, things: list, read: Callable[..., np.ndarray]) -> np.ndarray:
    """What `read` makes of the things that can be read, stacked; one warning of the others."""
    pictures, errors = [], []
    for thing in things:
        try:
            pictures.append(read(thing))
        except (OSError, ValueError) as error:
            errors.append(error)
    if not pictures:
        raise ValueError(f"{path}: none of the {len(things)} photos can be read; the first: {errors[0]}")
    if errors:
        told = f"{path}: {len(errors)} of {len(things)} photos cannot be read and were left out; the first: {errors[0]}"
        warnings.warn(told, LeftOut, stacklevel=3)
    return np.stack(pictures)


def _labelled(path: Path) -> bool:
    """Whether it is a label file or a data folder, no folder of mere photos."""
    return path.suffix.lower() == ".json" or bool(path.is_dir() and splits_of(path))


def _evenly(things: list, count: int) -> list:
    places = np.linspace(0, len(things) - 1, min(count, len(things))).round().astype(int)
    return [things[i] for i in np.unique(places)]

"""Parts of labelled photos that show nobody: what a network must stay silent on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from featherpose.data.sample import Sample
from featherpose.data.split_folder import check_place, new_split
from featherpose.geometry import box_of_points

SMALLEST = 0.25
"""The shortest region, as a share of the longest that fits into the photo: less is enlarged to a blur. A guess."""
MARGIN = 0.1
"""Boxes grow by this share of their longer side: hair, hands and feet stick out of a box around joints. A guess."""
TRIES = 30
"""Regions that are drawn before a photo counts as full of people."""
FEWEST_PIXELS = 48
"""Sides of pictures that are written: smaller ones show a network at 192 px hardly anything. A guess."""
PHOTO_NAME = "background-*.jpg"


def background_region(sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> np.ndarray | None:
    """(x1, y1, x2, y2) in photo pixels: a part of the photo that touches no labelled or ignored person; None if none is found.

    It has the shape of `size_wh`, lies inside the photo, and its size is drawn log-uniformly. A person is the union of
    box and labelled joints. People that are not labelled at all cannot be avoided.
    """
    taken = _taken(sample)
    shape = np.asarray(size_wh, np.float64)
    longest = shape * (np.asarray(sample.size_wh) / shape).min()
    for _ in range(TRIES):
        size = longest * np.exp(rng.uniform(np.log(SMALLEST), 0))
        corner = rng.uniform(0, 1, 2) * (np.asarray(sample.size_wh) - size)
        region = np.concatenate([corner, corner + size])
        touched = (taken[:, :2] < region[2:]).all(axis=1) & (taken[:, 2:] > region[:2]).all(axis=1)
        if not touched.any():
            return region
    return None


def write_background(
    samples: Sequence[Sample], out: Path, *, split: str, seed: int = 0, overwrite: bool = False, source: Path | None = None,
    track: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> tuple[Path, int, int]:  # fmt: skip
    """Cuts a square of background out of every photo that has one, as a data set without annotations.

    The label file, how many pictures there are, and how many photos could not be read. The same arguments give the same
    files; `photo_id`s stay, so that splits can be told apart. source: the samples' label file, which is never overwritten.
    Raises what `check_place` raises, ValueError when no photo
    has such a part, and OSError when the disk is full.
    """
    from featherpose.data.loader import Photos
    from featherpose.data.synthetic.dataset import category_of

    read = Photos(keep=False)
    check_place(out, split, photo_name=PHOTO_NAME, overwrite=overwrite, source=source)
    images: list[dict] = []
    unreadable = 0
    with new_split(out, split) as folder:
        for number, sample in enumerate(track(samples), 1):
            region = background_region(sample, (1, 1), np.random.default_rng([seed, number]))
            if region is None or (region[2:] - region[:2]).min() < FEWEST_PIXELS:
                continue
            x1, y1, x2, y2 = np.round(region).astype(int).tolist()
            try:
                image = read(sample)[y1:y2, x1:x2]
            except (OSError, ValueError):
                unreadable += 1
                continue
            name = PHOTO_NAME.replace("*", f"{number:06d}")
            folder.add(name, image)
            height, width = image.shape[:2]
            facts = {"id": number, "file_name": name, "width": width, "height": height, "coco_id": sample.photo_id}
            images.append(facts)
        if not images:
            raise ValueError(f"none of the {len(samples)} photos has a part of {FEWEST_PIXELS} pixels that shows nobody")
        info = {"description": f"background of labelled photos, cut by featherpose, seed {seed}"}
        folder.facts = {"info": info, "images": images, "annotations": [], "categories": [category_of(samples[0].skeleton)]}
    return folder.labels, len(images), unreadable


def _taken(sample: Sample) -> np.ndarray:
    """(N, 4) boxes that background may not touch, with their margin."""
    boxes = []
    for box, xy in zip(sample.box_xyxy.astype(np.float64), sample.xy, strict=True):
        joints = box_of_points(xy)
        if joints is not None:
            box = np.concatenate([np.fmin(box[:2], joints[:2]), np.fmax(box[2:], joints[2:])])
        boxes.append(box)
    if sample.ignore_xyxy is not None:
        boxes += list(sample.ignore_xyxy.astype(np.float64))
    taken = np.array(boxes).reshape(-1, 4)
    margin = MARGIN * (taken[:, 2:] - taken[:, :2]).max(axis=1, keepdims=True)
    return np.concatenate([taken[:, :2] - margin, taken[:, 2:] + margin], axis=1)

"""A folder of synthetic scenes in the form of COCO's keypoint sets, as `data/readers/coco.py` reads it back."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from featherpose.data.sample import Sample
from featherpose.data.split_folder import check_place, new_split
from featherpose.data.synthetic.scene import draw_scene
from featherpose.skeletons import COCO17, Skeleton

PHOTO_NAME = "synthetic-*.jpg"


def seed_of(split: str) -> int:
    """The seed of a split for which none is given: 0 for "train", a number of its own for any other name."""
    return 0 if split == "train" else zlib.crc32(split.encode())


def write_dataset(
    out: Path, *, count: int, size_wh: tuple[int, int] = (256, 256), persons: tuple[int, int] = (1, 1),
    seed: int | None = None, split: str = "train", overwrite: bool = False,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:  # fmt: skip
    """Draws `count` scenes into OUT/SPLIT/*.jpg and OUT/person_keypoints_SPLIT.json; the path of the latter.

    `persons` are the fewest and most people asked for in a scene; `track` may show the progress of the loop. The same
    arguments give the same files, and a stopped run leaves nothing that looks finished (data/split_folder.py). Joints
    outside the picture are unlabelled in the file, as in COCO. seed: `seed_of` the split unless given.

    Raises ValueError for numbers that make no sense and for a seed that draws photos of another split of `out` again,
    FileExistsError when `out` holds something and `overwrite` is not
    set, or holds photos that were not drawn here, and OSError when the disk is full.
    """
    check_request(out, count=count, size_wh=size_wh, persons=persons, seed=seed, split=split, overwrite=overwrite)
    fewest, most = persons
    seed = seed_of(split) if seed is None else seed
    rng = np.random.default_rng(seed)
    others = [folder for folder in out.glob("[!.]*") if folder.name != split] if out.is_dir() else []
    images: list[dict] = []
    annotations: list[dict] = []
    with new_split(out, split) as folder:
        for number in track(range(1, count + 1)):
            image, sample = draw_scene(rng, size_wh, int(rng.integers(fewest, most + 1)))
            name = f"{sample.photo_id}.jpg"
            for other in others:
                if (other / name).exists():
                    raise ValueError(
                        f"{out / split}: seed {seed} draws photos of split '{other.name}' again; choose another --seed"
                    )
            folder.add(name, image)
            people = coco_annotations(sample, image_id=number, first_id=len(annotations) + 1)
            annotations += people
            target = people[sample.target]["id"]
            width, height = size_wh
            images.append({"id": number, "file_name": name, "width": width, "height": height, "target": target})
        folder.facts = {
            "info": {"description": f"drawn by featherpose synth, seed {seed}"},
            "images": images,
            "annotations": annotations,
            "categories": [category_of(COCO17)],
        }
    return folder.labels


SIDE = (16, 16384)
"""Pixels: shortest and longest side of a picture."""
MOST_PIXELS = 2**26
MOST_PERSONS = 100


def check_request(
    out: Path, *, count: int, size_wh: tuple[int, int], persons: tuple[int, int], seed: int | None, split: str,
    overwrite: bool,
) -> None:  # fmt: skip
    """Raises what `write_dataset` raises before it draws anything."""
    fewest, most = persons
    if count < 1:
        raise ValueError(f"the number of scenes must be at least 1, got {count}")
    width, height = size_wh
    if not SIDE[0] <= min(size_wh) <= max(size_wh) <= SIDE[1] or width * height > MOST_PIXELS:
        raise ValueError(
            f"a picture's sides must be {SIDE[0]} to {SIDE[1]} pixels, {MOST_PIXELS / 1e6:.0f} million in all, got "
            f"{width}x{height}"
        )
    if most > MOST_PERSONS:
        raise ValueError(f"at most {MOST_PERSONS} people are drawn in a scene, got {most}")
    if not 1 <= fewest <= most:
        raise ValueError(
            f"the number of persons must be a range like 1-3 that starts at 1 or more, got {fewest}-{most}"
        )
    if seed is not None and seed < 0:
        raise ValueError(f"the seed must be 0 or more, got {seed}")
    check_place(out, split, photo_name=PHOTO_NAME, overwrite=overwrite)


def category_of(skeleton: Skeleton) -> dict:
    """The category "person" of a label file with these joints; of COCO17 it is COCO's own."""
    bones = (skeleton.bone_index() + 1).tolist()
    return {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(skeleton.joints), "skeleton": bones}


def coco_annotations(sample: Sample, *, image_id: int, first_id: int) -> list[dict]:
    """One annotation per person; joints outside the picture are written as unlabelled."""
    annotations = []
    for person in range(len(sample.xy)):
        xy = sample.xy[person].astype(np.float64)
        inside = ((xy >= 0) & (xy < sample.size_wh)).all(axis=1) & (sample.visibility[person] > 0)
        visibility = np.where(inside, sample.visibility[person], 0)
        keypoints = np.concatenate([np.where(inside[:, None], xy.round(2), 0.0), visibility[:, None]], axis=1)
        x1, y1, x2, y2 = (float(v) for v in sample.box_xyxy[person])
        annotations.append(
            {
                "id": first_id + person,
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": [int(v) if i % 3 == 2 else float(v) for i, v in enumerate(keypoints.ravel())],
                "num_keypoints": int(inside.sum()),
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                "area": round(float(sample.area[person]), 2),
            }
        )
    return annotations

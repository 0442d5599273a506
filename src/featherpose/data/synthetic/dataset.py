"""A folder of synthetic scenes in the form of COCO's keypoint sets, as `data/readers/coco.py` reads it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from featherpose.data.sample import Sample
from featherpose.data.synthetic.scene import draw_scene
from featherpose.skeletons import COCO17

PHOTO_NAME = "synthetic-*.jpg"
JPEG_QUALITY = 93


def write_dataset(
    out: Path, *, count: int, size_wh: tuple[int, int] = (256, 256), persons: tuple[int, int] = (1, 1), seed: int = 0,
    split: str = "train", overwrite: bool = False, track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:  # fmt: skip
    """Draws `count` scenes into OUT/SPLIT/*.jpg and OUT/person_keypoints_SPLIT.json; the path of the latter.

    `persons` are the fewest and most people asked for in a scene; `track` may show the progress of the loop. The same
    arguments give the same files. Photos are collected in a hidden folder and the label file is written last, so that a
    stopped run leaves nothing that looks finished. Joints outside the picture are unlabelled in the file, as in COCO.

    Raises ValueError for numbers that make no sense, FileExistsError when `out` holds something and `overwrite` is not
    set, or holds photos that were not drawn here, and OSError when the disk is full.
    """
    check_request(out, count=count, persons=persons, seed=seed, split=split, overwrite=overwrite)
    photos, labels = _places(out, split)
    fewest, most = persons
    there_before = out.exists()
    partial, partial_labels = out / f".{split}.partial", out / f".{labels.name}.partial"
    try:
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        rng = np.random.default_rng(seed)
        images: list[dict] = []
        annotations: list[dict] = []
        for number in track(range(1, count + 1)):
            image, sample = draw_scene(rng, size_wh, int(rng.integers(fewest, most + 1)))
            name = f"{sample.photo_id}.jpg"
            _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            _write(partial / name, packed.tobytes())
            people = coco_annotations(sample, image_id=number, first_id=len(annotations) + 1)
            annotations += people
            images.append(
                {
                    "id": number,
                    "file_name": name,
                    "width": size_wh[0],
                    "height": size_wh[1],
                    "target": people[sample.target]["id"],
                }
            )
        content = {
            "info": {"description": f"drawn by featherpose synth, seed {seed}"},
            "images": images,
            "annotations": annotations,
            "categories": [coco_category()],
        }
        _write(partial_labels, json.dumps(content, allow_nan=False).encode())
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
    return labels


def check_request(out: Path, *, count: int, persons: tuple[int, int], seed: int, split: str, overwrite: bool) -> None:
    """Raises what `write_dataset` raises before it draws anything."""
    fewest, most = persons
    if count < 1:
        raise ValueError(f"the number of scenes must be at least 1, got {count}")
    if not 1 <= fewest <= most:
        raise ValueError(
            f"the number of persons must be a range like 1-3 that starts at 1 or more, got {fewest}-{most}"
        )
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, got {seed}")
    if not split or Path(split).name != split or split.startswith("."):
        raise ValueError(f"the split must be a plain word such as train or val, got '{split}'")
    photos, _ = _places(out, split)
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out}: this is a file; name a folder for the data set")
    if not out.is_dir():
        return
    names = {entry.name for entry in out.iterdir() if not entry.name.startswith(".")}
    # Other splits of the same set may lie beside this one.
    splits = {name.removeprefix("person_keypoints_").removesuffix(".json") for name in names if name.endswith(".json")}
    others = {name for s in splits - {split} for name in (s, f"person_keypoints_{s}.json")}
    if names - others and not overwrite:
        raise FileExistsError(f"{out}: the folder is not empty; choose another one, or say --overwrite")
    if photos.exists() and not photos.is_dir():
        raise FileExistsError(f"{photos}: this is a file, and the photos of split '{split}' belong there; move it away")
    if photos.is_dir():
        drawn = {path.name for path in photos.glob(PHOTO_NAME)}
        strange = sorted(path.name for path in photos.iterdir() if path.name not in drawn)
        if strange:
            raise FileExistsError(
                f"{photos}: holds '{strange[0]}', which was not drawn by synth; it would be lost: move it away"
            )


def _places(out: Path, split: str) -> tuple[Path, Path]:
    return out / split, out / f"person_keypoints_{split}.json"


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:  # a full disk is told without the name of the file
        raise OSError(error.errno, error.strerror, str(path)) from error


def coco_category() -> dict:
    """COCO's own category "person"."""
    bones = (COCO17.bone_index() + 1).tolist()
    return {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.joints), "skeleton": bones}


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

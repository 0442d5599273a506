"""A training task small enough for tests: three coloured dots on noise, and a recipe for a very small net."""

import json
from pathlib import Path

import cv2
import numpy as np

JOINTS = ("head", "left_hand", "right_hand")
COLOURS = ((255, 40, 40), (40, 255, 40), (60, 60, 255))  # RGB

RECIPE = """
[model]
name = "tiny"
skeleton = "three.json"
network = { system = "movenet", backbone = "shufflenet_v2", width = 0.25, neck = { 8 = 16, 16 = 16 }, head_width = 16 }

[[data]]
path = "data"
split = "train"

[[stage]]
input_size = 64
epochs = 2
batch = 4

[train]
lr = 0.01
warmup = 2
ema = 0.9
threads = 1

[validation]
path = "data"
split = "val"
pictures = 2
"""


def write_split(folder: Path, split: str, count: int, *, joints=JOINTS, size: int = 64, seed: int = 0) -> Path:
    """Photos `folder`/SPLIT/*.png and their label file, as `featherpose` reads them; returns the label file."""
    rng = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        picture = rng.integers(60, 140, (size, size, 3), dtype=np.uint8)
        xy = rng.uniform(0.2, 0.8, (3, 2)) * size
        for (x, y), colour in zip(xy, COLOURS, strict=True):
            cv2.circle(picture, (int(x), int(y)), 4, colour, -1)
        cv2.imwrite(str(folder / split / f"{number}.png"), picture[:, :, ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "width": size, "height": size})
        low, high = xy.min(axis=0) - 8, xy.max(axis=0) + 8
        annotations.append({
            "id": number, "image_id": number, "category_id": 1, "bbox": [*low, *(high - low)],
            "keypoints": [value for x, y in xy for value in (x, y, 2)],
        })  # fmt: skip
    labels = folder / f"person_keypoints_{split}.json"
    categories = [{"id": 1, "name": "person", "keypoints": list(joints), "skeleton": [[1, 2], [1, 3]]}]
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return labels


def write_task(folder: Path, *, photos: int = 12) -> Path:
    """Data, skeleton and recipe in a folder; returns the recipe."""
    write_split(folder / "data", "train", photos)
    write_split(folder / "data", "val", 4, seed=1)
    bones = [[JOINTS[0], JOINTS[1]], [JOINTS[0], JOINTS[2]]]
    skeleton = {"name": "three", "joints": JOINTS, "flip_pairs": [JOINTS[1:]], "bones": bones}
    (folder / "three.json").write_text(json.dumps(skeleton))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def log_lines(folder: Path, *kinds: str) -> list[dict]:
    """The lines of a run's log without what differs from run to run (the clock)."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    clock = ("time", "photos_per_s", "seconds")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines if line["kind"] in kinds]

"""Label files of other programs become samples: one file per format.

Readers take labels as they stand: nothing is shifted, guessed or repaired. A label that cannot be true is a `Problem`;
it is left out, and either collected or raised.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherpose.skeletons import Skeleton, did_you_mean

if TYPE_CHECKING:
    from featherpose.data.sample import Sample

READERS = {"coco": "featherpose.data.readers.coco:read_coco"}
"""Format -> function(labels, photos, *, skeleton, problems) -> list[Sample], as an import string."""

LABELS_NAME = "person_keypoints_{split}.json"
"""Name of a split's label file in a data folder, COCO's own."""
LARGEST = float(np.finfo(np.float32).max)
"""Numbers beyond it cannot be kept."""


@dataclass(frozen=True)
class Problem:
    """One label that cannot be true, and what was done about it."""

    kind: str
    """Short name of the sort of problem, for counting: 'joint at the origin'."""
    photo: str
    """File name of the photo as the label file writes it; '' when the label belongs to none."""
    annotation: int | None
    """Id of the annotation in the label file, or None when the photo itself is meant."""
    sentence: str
    """What is wrong, with the value."""
    action: str
    """'dropped photo', 'dropped person', 'dropped joint', 'dropped box' or 'kept'."""


def find_reader(name: str):
    """The reader function of a format; ValueError with the nearest name for an unknown one."""
    if name not in READERS:
        raise ValueError(f"unknown label format '{name}'{did_you_mean(name, READERS)}")
    module, function = READERS[name].split(":")
    return getattr(importlib.import_module(module), function)


def read_dataset(
    path: str | Path,
    *,
    split: str | None = None,
    photos: str | Path | None = None,
    skeleton: Skeleton | None = None,
    problems: list[Problem] | None = None,
    reader: str = "coco",
) -> list[Sample]:
    """Every sample of a label file, or of one split of a data folder.

    path: a label file, or a folder with `person_keypoints_SPLIT.json` and the photos in `SPLIT/`.
    photos: the folder of the photos; without it, the folder named by the label file's SPLIT next to it, else the label
    file's own folder.
    skeleton: joints are mapped onto it by name; None keeps the joints of the file.
    problems: impossible labels are appended here; with None, the first one raises ValueError. So does a file none of whose
    photos can be used, after its problems have been appended.
    """
    labels = find_labels(path, split=split)
    photos = photos_folder(labels) if photos is None else Path(photos)
    return find_reader(reader)(labels, photos, skeleton=skeleton, problems=problems)


def read_json(path: Path):
    """What a JSON file in UTF-8 holds, with or without a byte order mark; OSError, or ValueError naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error


def is_int(value) -> bool:
    """Whether a value of a JSON file is an integer of 64 bits; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_number(value) -> bool:
    """Whether a value of a JSON file is a number of at most LARGEST; true, false, NaN and infinity are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def photos_folder(labels: Path) -> Path:
    """Where a label file's photos are counted from: the folder SPLIT beside it if there is one, else its own folder."""
    sibling = labels.parent / labels.stem.removeprefix("person_keypoints_")
    return sibling if sibling.is_dir() else labels.parent


def splits_of(folder: str | Path) -> list[str]:
    """Names of the splits whose label files lie in a data folder, sorted."""
    before, after = LABELS_NAME.split("{split}")
    return sorted(p.name[len(before) : -len(after)] for p in Path(folder).glob(LABELS_NAME.format(split="*")))


def find_labels(path: str | Path, *, split: str | None = None) -> Path:
    """The label file that `path` and `split` mean; ValueError naming the splits there are when it is not clear."""
    path = Path(path)
    if path.is_file():
        if split is not None and path.name != LABELS_NAME.format(split=split):
            raise ValueError(f"{path}: a split ('{split}') is chosen within a folder; this is one label file")
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such label file or data folder")
    splits = splits_of(path)
    if not splits:
        raise ValueError(
            f"{path}: no label file named {LABELS_NAME.format(split='SPLIT')} in this folder; name the file itself"
        )
    if split is None:
        if len(splits) > 1:
            raise ValueError(f"{path}: which split? this folder has {', '.join(splits)}")
        split = splits[0]
    if split not in splits:
        raise ValueError(f"{path}: no split '{split}' in this folder{did_you_mean(split, splits)}")
    return path / LABELS_NAME.format(split=split)

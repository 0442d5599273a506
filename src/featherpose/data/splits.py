"""Training and testing parts that never share a photo."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container
from pathlib import Path

from featherpose.data.readers import is_int
from featherpose.data.sample import Sample


def split_by_photo(samples: list[Sample], fractions: list[float], *, seed: int = 0) -> list[list[Sample]]:
    """Parts of about the given fractions; all crops of one photo come into the same part.

    Which part a photo comes into depends on its `photo_id` and the seed alone: photos added later move no other.
    The fractions are met on average, not to the photo. Raises ValueError unless they are positive and add up to 1.
    """
    if not fractions or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions of a split must be positive and add up to 1, got {list(fractions)}")
    parts: list[list[Sample]] = [[] for _ in fractions]
    for sample in samples:
        place, upper = 0, fractions[0]
        where = photo_number(sample.photo_id, seed=seed)
        while where >= upper and place < len(fractions) - 1:
            place += 1
            upper += fractions[place]
        parts[place].append(sample)
    return parts


def label_parts(
    content: dict, samples: list[Sample], parts: dict[str, float], folders: dict[str, Path], *, seed: int = 0
) -> dict[str, dict]:
    """Parts of a COCO label file, as `split_by_photo` has them: name -> its content.

    content: the file. samples: what the reader makes of it. parts: name -> fraction. folders: name -> where the part's
    file names count from. ValueError when a part would have no photo.
    """
    chosen = split_by_photo(samples, list(parts.values()), seed=seed)
    made = {}
    for name, members in zip(parts, chosen, strict=True):
        if not members:
            raise ValueError(f"of {len(samples)} photos none would be in '{name}'; give it a larger share, or another --seed")
        photos = {sample.sample_id: relative_photo(sample.photo, folders[name]) for sample in members}
        images = [
            {**image, "file_name": photos[image["id"]]} for image in entries_of(content["images"], "id", photos)
        ]
        people = entries_of(content["annotations"], "image_id", photos)
        made[name] = {**content, "images": images, "annotations": people}
    return made


def entries_of(entries: list[dict], key: str, photos: Container[int]) -> list[dict]:
    """The entries of a COCO label file that are these photos' by their image id, which stands under `key`."""
    return [entry for entry in entries if is_int(entry.get(key)) and entry[key] in photos]


def photo_number(photo_id: str, *, seed: int = 0) -> float:
    """A number in [0, 1) that belongs to this photo for ever, evenly spread over photos."""
    digest = hashlib.blake2b(f"{seed}/{photo_id}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def relative_photo(photo: Path, folder: Path) -> str:
    """How a label file whose photos are counted from `folder` names a photo; forward slashes."""
    try:
        return Path(os.path.relpath(photo.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return photo.resolve().as_posix()


def shared_photos(first: list[Sample], second: list[Sample]) -> list[str]:
    """The photo ids that both lists hold, sorted."""
    return sorted({sample.photo_id for sample in first} & {sample.photo_id for sample in second})

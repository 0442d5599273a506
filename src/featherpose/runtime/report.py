"""What was found, as files: one JSON with everything, one CSV with a row per joint.

Coordinates are pixels of the photo as a person sees it (EXIF rotation applied), as docs/conventions.md has them.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import featherpose
from featherpose.pose import Pose
from featherpose.spec import ModelSpec

UNITS = "pixels of the photo with its EXIF rotation applied; origin at the top-left corner of the top-left pixel"

CSV_COLUMNS = (
    "photo", "width", "height", "skeleton", "model", "model_version", "featherpose_version", "found", "pose_score",
    "x1", "y1", "x2", "y2", "joint", "x", "y", "score",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One photo and the pose found in it."""

    photo: Path
    size_wh: tuple[int, int]
    pose: Pose | None = None
    """None where several people were asked for."""
    drawing: str | None = None
    """Name of the drawn picture beside the report, or None."""
    people: Sequence[Pose] | None = None
    """Those who were found where several were asked for, surest first."""


@dataclass(frozen=True)
class Skipped:
    """One photo that could not be read, and why."""

    photo: Path
    reason: str


def write_report(
    folder: Path, findings: Sequence[Finding], skipped: Sequence[Skipped], spec: ModelSpec, asked: int
) -> None:
    """`poses.json` and `poses.csv` in a folder that exists; asked: how many photos there were to look at."""
    write_json(folder / "poses.json", findings, skipped, spec, asked)
    write_csv(folder / "poses.csv", findings, spec)


def write_json(
    path: Path, findings: Sequence[Finding], skipped: Sequence[Skipped], spec: ModelSpec, asked: int
) -> None:
    """Everything: versions, model, skeleton, and per photo its size, box and joints by name with scores."""
    facts = {
        "featherpose_version": featherpose.__version__,
        "model": {"name": spec.name, "version": spec.version, "input_size": list(spec.input_size)},
        "thresholds": {"pose": spec.pose_threshold, "joint": spec.joint_threshold},
        "units": UNITS,
        "skeleton": spec.skeleton.to_dict(),
        "asked": asked,
        "photos": [
            {
                "photo": str(finding.photo),
                "size_wh": list(finding.size_wh),
                **_who(finding, spec),
                "drawing": finding.drawing,
            }
            for finding in findings
        ],
        "skipped": [{"photo": str(item.photo), "reason": item.reason} for item in skipped],
    }
    write_whole(path, lambda temporary: temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8"))


def _who(finding: Finding, spec: ModelSpec) -> dict:
    if finding.people is not None:
        return {"found": bool(finding.people), "people": [pose.to_dict() for pose in finding.people]}
    return {"found": is_found(finding.pose, spec), **finding.pose.to_dict()}


def write_csv(path: Path, findings: Sequence[Finding], spec: ModelSpec) -> None:
    """One row per joint, with the photo's facts repeated, for spreadsheets and data frames.

    Where several people were asked for, a column `person` numbers them, and a photo of nobody has one row.
    """
    several = any(finding.people is not None for finding in findings)
    at = CSV_COLUMNS.index("pose_score")
    columns = [*CSV_COLUMNS[:at], *(["person"] if several else []), *CSV_COLUMNS[at:]]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(columns)
            for finding in findings:
                who = _who(finding, spec)
                model = (spec.skeleton.name, spec.name, spec.version, featherpose.__version__)
                photo = [finding.photo, *finding.size_wh, *model, int(who["found"])]
                for number, facts in enumerate(who["people"] if several else [who], 1):
                    pose = [*([number] if several else []), facts["pose_score"], *(facts["box_xyxy"] or [""] * 4)]
                    for name, joint in facts["joints"].items():
                        rows.writerow([*photo, *pose, name, *joint.values()])
                if several and not who["people"]:
                    rows.writerow([*photo, *[""] * (len(columns) - len(photo))])

    write_whole(path, write)


def write_picture(path: Path, image: np.ndarray) -> None:
    """A picture (H, W, 3) uint8 RGB as JPEG or PNG, by the suffix."""
    kind = {".jpg": {"format": "JPEG", "quality": 92}, ".png": {"format": "PNG"}}[path.suffix.lower()]
    write_whole(path, lambda temporary: Image.fromarray(image).save(temporary, **kind))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a temporary file and gives it the name `path` when it is complete; else nothing remains."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def give_name(part: Path, path: Path) -> None:
    """Gives a finished file its name. OSError that tells where it stands when that cannot be: it is not thrown away."""
    try:
        part.replace(path)
    except OSError as error:
        raise OSError(f"{path} cannot be replaced ({error.strerror}), the new file is {part}") from error


def is_found(pose: Pose, spec: ModelSpec) -> bool:
    """Whether the model says that somebody is there."""
    return pose.pose_score >= spec.pose_threshold


def drawing_names(photos: Sequence[Path], suffix: str) -> list[str]:
    """A file name for the drawing of each photo, all different on any file system: the photo's stem where it is unique.

    Photos of the same stem get their folder's name in front, and a number behind where that is not enough.
    """
    count = Counter(photo.stem.casefold() for photo in photos)
    taken = {stem for stem, photos_of_it in count.items() if photos_of_it == 1}
    names: list[str] = []
    for photo in photos:
        name = photo.stem
        if count[name.casefold()] > 1:
            base = "-".join(part for part in (photo.resolve().parent.name, photo.stem) if part)
            name, number = base, 1
            while name.casefold() in taken:
                number += 1
                name = f"{base}-{number}"
            taken.add(name.casefold())
        names.append(name + suffix)
    return names

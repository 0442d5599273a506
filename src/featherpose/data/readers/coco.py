"""COCO keypoint JSON, with any joint names (cocodataset.org/#format-data, section "keypoint detection").

Ids of annotations need only differ within a photo. Some keys are read beyond COCO's own where a file has them:
`images[].target`, the annotation the photo was cut around, `images[].coco_id`, the original photo that several crops share
(without it a photo is known by its file name with the folders, without the suffix), and the keys of
data/readers/sources.py, which tell a teacher's joints from a human's. Coordinates are read as they stand.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import numpy as np

from featherpose.data.readers import Problem, is_int, is_number, read_json
from featherpose.data.readers.sources import read_sources
from featherpose.data.sample import UNKNOWN, Sample, map_joints, map_values, nearest_to_middle
from featherpose.geometry import box_of_points
from featherpose.skeletons import (
    SKELETONS,
    Skeleton,
    canonical_joint_name,
    joint_mapping,
    measured_sigmas,
    mirror_pairs,
)

FAR = 1.0
"""A joint this many longer sides of the photo outside it cannot be meant. A guess: crops may well cut joints off."""


def read_coco(
    labels: Path, photos: Path, *, skeleton: Skeleton | None = None, problems: list[Problem] | None = None
) -> list[Sample]:
    """One sample per photo of the file, with every labelled person in it.

    labels: the JSON file. photos: the folder that `images[].file_name` counts from.
    skeleton: joints are mapped onto it by name, joints the file does not label become unknown. With None: the built-in
    skeleton with the same joint names, else one made from the category.
    problems: labels that cannot be true are left out and appended here; with None they raise ValueError.

    Crowds and people with a box but no labelled joint become `ignore_xyxy`, and so do the boxes of people whose label
    was dropped: they are no background. Where such a person has no usable box, the whole photo is ignored. A photo whose
    `target` has no usable label keeps its other people and has target -1. Missing areas (absent or 0) become the box area,
    missing boxes the box of the joints.

    Raises ValueError when the file is not COCO keypoint JSON, no joint is shared with `skeleton`, no photo is there, or none
    can be used; in the last case `problems` has the reasons.
    """
    labels, photos = Path(labels), Path(photos)
    found: list[Problem] = []
    content = _load(labels)
    joint_names, bones, categories = _category(labels, content["categories"])
    try:
        source = skeleton_from_category(joint_names, bones, name=labels.stem)
    except ValueError as error:
        raise ValueError(f"{labels}: {error}") from error
    wanted = skeleton or next((s for s in SKELETONS.values() if set(s.joints) == set(source.joints)), source)
    if (joint_mapping(source, wanted) < 0).all():
        raise ValueError(
            f"{labels}: none of its joints ({', '.join(source.joints)}) is a joint of skeleton '{wanted.name}' "
            f"({', '.join(wanted.joints)}); rename the joints, or choose another skeleton"
        )
    if not content["images"]:
        raise ValueError(f"{labels}: the list 'images' is empty, so there is nothing to read")
    images = _images(labels, photos, content["images"], found)
    if not images:
        if problems is not None:
            problems.extend(found)
        raise ValueError(
            f"{labels}: none of its {len(content['images'])} photos can be used, first: {found[0].sentence}; "
            f"list them with `featherpose data check {labels}`"
        )
    listed = {entry["id"] for entry in content["images"] if is_int(entry.get("id"))}
    persons, dropped = _persons(content["annotations"], images, listed, categories, found)
    xyv = _keypoints(persons, images, source, found)
    sources = _sources(persons, images, xyv, found)
    samples = _samples(photos, images, persons, dropped, xyv, sources, source, wanted, found)
    if problems is not None:
        problems.extend(found)
    elif found:
        count = f"{len(found)} labels that cannot be true" if len(found) > 1 else "a label that cannot be true"
        raise ValueError(
            f"{labels}: {count}, first: {found[0].sentence}; list them with `featherpose data check {labels}`"
        )
    return samples


def skeleton_from_category(joint_names: list[str], bones: list, *, name: str) -> Skeleton:
    """A skeleton of the category's joints: pairs by left_/right_, sigmas of COCO where a joint is COCO's, else a guess.

    bones: COCO's `skeleton`, pairs of positions that count from 1.
    """
    joints = [canonical_joint_name(joint) for joint in joint_names]
    lines = []
    for bone in bones:
        if not (isinstance(bone, list) and len(bone) == 2 and all(is_int(v) and 1 <= v <= len(joints) for v in bone)):
            raise ValueError(f"the category's bone {bone} must be two joint numbers from 1 to {len(joints)}")
        lines.append((joints[bone[0] - 1], joints[bone[1] - 1]))
    sigmas = measured_sigmas(joints)
    return Skeleton(name=name, joints=tuple(joints), flip_pairs=mirror_pairs(joints), bones=tuple(lines), sigmas=sigmas)


# --- the file -------------------------------------------------------------------------------------------------------


def _load(labels: Path) -> dict:
    try:
        content = read_json(labels)
    except FileNotFoundError:
        raise FileNotFoundError(f"{labels}: there is no such label file") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{labels}: not COCO keypoint JSON, the list '{key}' is missing")
        for entry in content[key]:
            if not isinstance(entry, dict):
                raise ValueError(f"{labels}: not COCO keypoint JSON, '{key}' holds {entry!r:.40} instead of an object")
    return content


def _category(labels: Path, entries: list[dict]) -> tuple[list[str], list, dict]:
    """Joint names, bones, and {repr of category id: has joints} of the one category that has joints."""
    posed = [entry for entry in entries if entry.get("keypoints")]
    if not posed:
        names = ", ".join(str(entry.get("name")) for entry in entries) or "none at all"
        raise ValueError(
            f"{labels}: no category has 'keypoints' (categories: {names}); this is a file for another task than poses"
        )
    names = posed[0]["keypoints"]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"{labels}: categories[].keypoints must be a list of joint names, got {names!r:.60}")
    if any(entry["keypoints"] != names for entry in posed):
        raise ValueError(f"{labels}: its categories have different joints; write one label file per kind of body")
    return (
        names,
        posed[0].get("skeleton") or [],
        {repr(entry.get("id")): bool(entry.get("keypoints")) for entry in entries},
    )


def _images(labels: Path, photos: Path, entries: list[dict], found: list[Problem]) -> dict[int, dict]:
    """{image id: entry} of the photos that can be used."""
    names = {id(e): e["file_name"].replace("\\", "/") for e in entries if isinstance(e.get("file_name"), str)}
    present: dict[str, set[str]] = {}
    for folder in {os.path.dirname(name) for name in names.values()}:
        present[folder] = _files(photos / folder)
    names_of: dict[int, dict[str, None]] = {}
    for entry in entries:
        if is_int(entry.get("id")) and id(entry) in names:
            names_of.setdefault(entry["id"], {})[names[id(entry)]] = None
    images: dict[int, dict] = {}
    missing = 0
    for entry in entries:
        name = names.get(id(entry), "")
        size_wh = entry.get("width"), entry.get("height")
        if not is_int(entry.get("id")) or not name or not all(is_number(v) and v >= 1 for v in size_wh):
            kind, reason = "bad photo entry", f"needs an integer id, a file_name, width and height; got {entry!r:.90}"
        elif os.path.basename(name) not in present[os.path.dirname(name)]:
            kind, reason = "missing photo", f"there is no such file in {photos}"
            missing += 1
        elif other := next((other for other in names_of[entry["id"]] if other != name), None):
            kind = "duplicate image id"
            reason = f"its id {entry['id']} belongs to '{other}' too, so nobody knows whose the labels are"
        elif entry["id"] in images:
            kind, reason = "duplicate image id", f"it is listed twice with its id {entry['id']}"
        else:
            images[entry["id"]] = {**entry, "file_name": name}
            continue
        found.append(Problem(kind, name, None, f"photo '{name}': {reason}", "dropped photo"))
    if missing and missing == len(entries):
        raise ValueError(f"{labels}: none of its {missing} photos is in {photos}; name the folder that holds them")
    return images


def _files(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as files:
            return {file.name for file in files}
    except OSError:
        return set()  # every photo in it is then reported as missing


# --- persons --------------------------------------------------------------------------------------------------------


def _persons(
    entries: list[dict], images: dict, listed: set, categories: dict, found: list[Problem]
) -> tuple[list[dict], list[dict]]:
    """The annotations of people in usable photos: (those to read, those that are dropped).

    listed: ids of all photos, usable or not.
    """
    persons, dropped, seen = [], [], set()
    for entry in entries:
        key, image, category = entry.get("id"), entry.get("image_id"), repr(entry.get("category_id"))
        if category in categories and not categories[category]:
            continue  # a thing without joints in a file with several categories
        photo = images[image]["file_name"] if is_int(image) and image in images else ""
        if not is_int(key):
            kind, reason = "bad annotation id", f"its id must be an integer of 64 bits, got {key!r:.40}"
        elif category not in categories:
            kind, reason = "unknown category", f"category_id {category:.40} is not one of the file's categories"
        elif not is_int(image) or image not in listed:
            kind, reason = "unknown photo", f"image_id {image!r:.40} is not one of the file's images"
        elif not photo:
            continue  # the photo has been reported
        elif (image, key) in seen:
            kind, reason = "duplicate annotation id", "another annotation of this photo has this id too"
        elif entry.get("keypoints") is None and entry.get("bbox") is None:
            kind, reason = "missing keys", "it has neither 'keypoints' nor 'bbox'"
        else:
            seen.add((image, key))
            persons.append(entry)
            continue
        found.append(_person_problem(kind, photo, entry, reason, "dropped person"))
        if photo:
            dropped.append(entry)
    return persons, dropped


def _keypoints(persons: list[dict], images: dict, source: Skeleton, found: list[Problem]) -> np.ndarray:
    """(N, K, 3) float64 x, y, visibility in file order; visibility 0 wherever there is no label to trust."""
    joints = len(source)
    nothing = [0.0] * (3 * joints)
    lists = [nothing if p.get("iscrowd") or p.get("keypoints") is None else p["keypoints"] for p in persons]
    try:
        xyv = np.array(lists, dtype=np.float64).reshape(len(persons), joints, 3)
    except (ValueError, TypeError, OverflowError):  # some list has another length or holds something else: find out which
        xyv = np.zeros((len(persons), joints, 3))
        for row, values in enumerate(lists):
            if isinstance(values, list) and len(values) == 3 * joints and all(map(_is_float, values)):
                xyv[row] = np.array(values, dtype=np.float64).reshape(joints, 3)
                continue
            length = f"{len(values)} values" if isinstance(values, list) else repr(values)[:40]
            if isinstance(values, list) and len(values) == 3 * joints:
                length = f"{next(v for v in values if not _is_float(v))!r:.20} among them"
            reason = (
                f"'keypoints' must hold {3 * joints} numbers (x, y, visibility of {joints} joints), it has {length}"
            )
            photo = images[persons[row]["image_id"]]["file_name"]
            found.append(_person_problem("wrong keypoints", photo, persons[row], reason, "dropped person"))

    x, y, visibility = xyv[..., 0], xyv[..., 1], xyv[..., 2]
    size_wh = [(images[p["image_id"]]["width"], images[p["image_id"]]["height"]) for p in persons]
    size_wh = np.array(size_wh, dtype=np.float64).reshape(-1, 1, 2)
    reach = FAR * size_wh.max(axis=2, keepdims=True)
    labelled = visibility > 0
    with np.errstate(invalid="ignore"):
        checks = {
            "visibility": ~np.isin(visibility, (0, 1, 2)),
            "not a number": labelled & ~(np.isfinite(x) & np.isfinite(y)),
            "far outside the photo": labelled
            & ((xyv[..., :2] < -reach) | (xyv[..., :2] > size_wh + reach)).any(axis=2),
            "joint at the origin": labelled & (x == 0) & (y == 0),
        }
    told = np.zeros_like(labelled)
    for kind, wrong in checks.items():
        for row, joint in np.argwhere(wrong & ~told):
            entry, name = images[persons[row]["image_id"]], source.joints[joint]
            reason = {
                "visibility": f"{name} has visibility {visibility[row, joint]:g}, which must be 0, 1 or 2",
                "not a number": f"{name} lies at ({x[row, joint]:g}, {y[row, joint]:g})",
                "far outside the photo": f"{name} lies at ({x[row, joint]:g}, {y[row, joint]:g}), far outside the "
                f"photo of {entry['width']} x {entry['height']}",
                "joint at the origin": f"{name} lies at exactly (0, 0) with visibility {visibility[row, joint]:g}, "
                "which is how unlabelled joints look",
            }[kind]
            found.append(_person_problem(kind, entry["file_name"], persons[row], reason, "dropped joint"))
        told |= wrong
    visibility[told] = 0
    return xyv


def _sources(persons: list[dict], images: dict, xyv: np.ndarray, found: list[Problem]) -> dict[str, np.ndarray]:
    """Whose labels these are; people with impossible answers lose theirs (in `xyv`), as they could be anybody's."""
    sources, bad = read_sources(persons, xyv.shape[1])
    for row, reason in bad:
        photo = images[persons[row]["image_id"]]["file_name"]
        found.append(_person_problem("wrong sources", photo, persons[row], reason, "dropped person"))
        xyv[row, :, 2] = 0
    if "never" in sources:
        xyv[..., 2][sources.pop("never") & (xyv[..., 2] <= 0)] = UNKNOWN
    return sources


def _boxes(persons: list[dict], images: dict, found: list[Problem]) -> np.ndarray:
    """(N, 4) float64 xyxy as labelled; NaN where a person has no box or an impossible one."""
    xywh = np.full((len(persons), 4), np.nan)
    for row, person in enumerate(persons):
        box = person.get("bbox")
        if box is None:
            continue
        if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and box[2] > 0 and box[3] > 0:
            xywh[row] = box
            continue
        reason = f"its bbox (x, y, width, height) must be four numbers with a positive size, got {box!s:.60}"
        photo = images[person["image_id"]]["file_name"]
        found.append(_person_problem("bad box", photo, person, reason, "dropped box"))
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _samples(
    photos: Path,
    images: dict,
    persons: list[dict],
    dropped: list[dict],
    xyv: np.ndarray,
    sources: dict[str, np.ndarray],
    source: Skeleton,
    wanted: Skeleton,
    found: list,
) -> list[Sample]:
    boxes = _boxes(persons, images, found)
    xy_of_file = np.where(xyv[..., 2:] > 0, xyv[..., :2], np.nan)
    visibility = xyv[..., 2].astype(np.int8)
    xy, visibility = map_joints(xy_of_file.astype(np.float32), visibility, source, wanted)
    empty = {"weight": 1.0, "teacher_xy": np.nan, "teacher_score": 0.0}
    sources = {name: map_values(v, source, wanted, missing=empty[name]) for name, v in sources.items()}
    labelled = (visibility > 0).any(axis=1)
    areas = np.zeros(len(persons))
    rows_of: dict[int, list[int]] = {key: [] for key in images}
    told = {(problem.photo, problem.annotation) for problem in found}
    for row, person in enumerate(persons):
        rows_of[person["image_id"]].append(row)
        photo = images[person["image_id"]]["file_name"]
        if np.isnan(boxes[row, 0]):
            of_joints = box_of_points(xy[row] if labelled[row] else xy_of_file[row])
            if of_joints is not None:
                boxes[row] = of_joints
            elif (photo, person["id"]) not in told:
                reason = (
                    "it has neither a labelled joint nor a bbox, so the person may be anywhere and nothing in the photo counts "
                    "as background; give it a bbox"
                )
                found.append(_person_problem("no place", photo, person, reason, "dropped person"))
        area = person.get("area") or 0
        if not is_number(area) or area < 0:
            reason = f"its area must be a positive number, got {area!r:.40}"
            found.append(_person_problem("bad area", photo, person, reason, "kept"))
            area = 0
        x1, y1, x2, y2 = boxes[row]
        areas[row] = area or (x2 - x1) * (y2 - y1)
    keys = np.array([person["id"] for person in persons], dtype=np.int64)
    boxes = boxes.astype(np.float32)
    ignored: dict[int, list] = {key: [] for key in images}
    hidden = [(persons[row], boxes[row]) for row in np.flatnonzero(~labelled)]
    hidden += zip(dropped, _boxes(dropped, images, found), strict=True)
    for entry, box in hidden:
        image = images[entry["image_id"]]
        whole = [0, 0, image["width"], image["height"]]
        ignored[entry["image_id"]].append(box if (box[2:] > box[:2]).all() else whole)
    ids_of: dict[int, list] = {key: [] for key in images}
    for entry in [*persons, *dropped]:
        ids_of[entry["image_id"]].append(entry.get("id"))

    samples = []
    for key, image in images.items():
        rows = np.array(rows_of[key], dtype=np.int64)
        people = rows[labelled[rows]]
        size_wh = (int(image["width"]), int(image["height"]))
        samples.append(
            Sample(
                photo=photos / image["file_name"],
                size_wh=size_wh,
                skeleton=wanted,
                xy=xy[people],
                visibility=visibility[people],
                box_xyxy=boxes[people],
                area=areas[people].astype(np.float32),
                target=_target(image, keys[people], boxes[people], size_wh, ids_of[key], found),
                photo_id=_photo_id(image),
                sample_id=key,
                annotation_id=keys[people],
                ignore_xyxy=np.array(ignored[key], np.float32) if ignored[key] else None,
                **{name: values[people] for name, values in sources.items()},
            )
        )
    return samples


def _photo_id(image: dict) -> str:
    if image.get("coco_id") is not None:
        return str(image["coco_id"])
    return PurePosixPath(image["file_name"]).with_suffix("").as_posix()


def _target(image: dict, keys: np.ndarray, boxes: np.ndarray, size_wh: tuple[int, int], all_keys: list, found) -> int:
    """Index of the target among the labelled people; never somebody else because the real target has no label."""
    if image.get("target") is None:
        return nearest_to_middle(boxes, size_wh)
    if image["target"] in keys.tolist():
        return keys.tolist().index(image["target"])
    if image["target"] not in all_keys:
        name = image["file_name"]
        sentence = f"photo '{name}': its target {image['target']!r:.40} is not an annotation of this photo"
        found.append(Problem("unknown target", name, None, sentence, "kept"))
    return -1


def _person_problem(kind: str, photo: str, person: dict, reason: str, action: str) -> Problem:
    key = person.get("id")
    where = f"annotation {key!s:.40}" + (f" of photo '{photo}'" if photo else "")
    return Problem(kind, photo, key if is_int(key) else None, f"{where}: {reason}", action)


def _is_float(value) -> bool:
    """Whether a value can stand among keypoints: NaN and infinity are reported joint by joint."""
    return is_number(value) or isinstance(value, float)

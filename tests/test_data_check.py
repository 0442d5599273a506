"""`featherpose data check`: what is wrong is named and makes the exit code 1, what looks wrong is shown."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli import run
from featherpose.codecs.movenet import MoveNetCodec
from featherpose.data.check import (
    AREA_STEP,
    area_histogram,
    check_photos,
    count_labels,
    find_leaks,
    find_suspicions,
    find_twins,
    joint_box_areas,
)
from featherpose.data.sample import Sample
from featherpose.data.target_sheet import PANEL, draw_targets, suspicion_sheet
from featherpose.skeletons import COCO17

STANDING = {
    "nose": (50, 10), "left_eye": (53, 8), "right_eye": (47, 8), "left_ear": (56, 9), "right_ear": (44, 9),
    "left_shoulder": (62, 25), "right_shoulder": (38, 25), "left_elbow": (68, 40), "right_elbow": (32, 40),
    "left_wrist": (70, 55), "right_wrist": (30, 55), "left_hip": (58, 60), "right_hip": (42, 60),
    "left_knee": (58, 85), "right_knee": (42, 85), "left_ankle": (58, 110), "right_ankle": (42, 110),
}  # fmt: skip
"""Somebody who faces us, on a photo of 100 x 120."""


def person(**moved):
    """(17, 2); joints given by name stand elsewhere, or are unlabelled with None."""
    xy = {**STANDING, **moved}
    return np.array([(np.nan, np.nan) if xy[name] is None else xy[name] for name in COCO17.joints], np.float32)


def sample_of(*people, photo="1.jpg", **changes):
    xy = np.stack(people)
    facts = {
        "photo": Path(photo),
        "size_wh": (100, 120),
        "skeleton": COCO17,
        "xy": xy,
        "visibility": np.where(np.isfinite(xy[..., 0]), 2, 0).astype(np.int8),
        "box_xyxy": np.tile(np.array([25, 5, 75, 115], np.float32), (len(xy), 1)),
        "area": np.full(len(xy), 5500, np.float32),
        "target": 0,
        "photo_id": Path(photo).stem,
        "annotation_id": np.arange(len(xy)) + 1,
    }
    return Sample(**{**facts, **changes})


def exchanged(*parts):
    return {f"{a}_{part}": STANDING[f"{b}_{part}"] for part in parts for a, b in (("left", "right"), ("right", "left"))}


SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")

SUSPICIOUS = {
    "nothing": (person(), set()),
    "seen from behind": (person(**exchanged(*SIDED)), set()),
    "folded arms": (person(**exchanged("wrist")), set()),
    "hips swapped": (person(**exchanged("hip", "knee", "ankle")), {"sides swapped?"}),
    "knees swapped": (
        person(left_knee=(42, 64), right_knee=(58, 64), left_ankle=None, right_ankle=None),
        {"sides swapped?"},
    ),
    "face swapped": (person(**exchanged("eye", "ear")), {"sides swapped?"}),
    "two at one place": (person(left_wrist=STANDING["left_elbow"]), {"two joints at one place"}),
    "long arm": (person(right_wrist=(32, 119), right_elbow=(32, 27)), {"long bone"}),
    "outside the box": (person(left_ankle=(58, 175)), {"far from the box", "long bone"}),
    "two joints": (person(**dict.fromkeys(COCO17.joints[2:])), {"few joints"}),
    "one joint": (person(**dict.fromkeys(COCO17.joints[1:])), {"few joints"}),
}


@pytest.mark.parametrize(("xy", "kinds"), SUSPICIOUS.values(), ids=SUSPICIOUS)
def test_what_looks_wrong_is_named(xy, kinds):
    usual = [sample_of(person(), photo=f"{n}.jpg") for n in range(5)]
    found = find_suspicions([*usual, sample_of(xy, photo="odd.jpg")])
    assert {p.kind for p in found} == kinds
    assert all(p.photo == "odd.jpg" and p.annotation == 1 and p.action == "kept" for p in found)


def test_nobody_raises_no_suspicion():
    assert find_suspicions([]) == []
    shapes = {"xy": (0, 17, 2), "visibility": (0, 17), "box_xyxy": (0, 4), "area": (0,)}
    empty = sample_of(person(), target=-1, **{name: np.zeros(shape) for name, shape in shapes.items()})
    assert find_suspicions([empty]) == []


def test_labels_are_counted_by_visibility():
    visibility = np.full((2, 17), 2, np.int8)
    visibility[0, 0], visibility[1, 0], visibility[:, 1] = 1, 0, -1
    counts = count_labels([sample_of(person(), person(), visibility=visibility)])
    assert (
        counts[0].tolist() == [0, 1, 1, 0] and counts[1].tolist() == [2, 0, 0, 0] and counts[2].tolist() == [0, 0, 0, 2]
    )


def test_the_joint_box_area_is_that_of_the_photo_at_160_pixels():
    (area,) = joint_box_areas([sample_of(person()), sample_of(person(**dict.fromkeys(COCO17.joints[1:])))])
    assert area == pytest.approx(40 * 102 * (160 / 120) ** 2)  # x 30 to 70, y 8 to 110
    counts, edges = area_histogram(np.array([0, 999, 1000, 15999, 16000, 25000]))
    assert counts[[0, 1, 15, 16]].tolist() == [2, 1, 1, 2] and counts.sum() == 6 and edges[1] == AREA_STEP


def test_targets_are_drawn_from_the_codec_with_unknown_joints_in_red():
    codec = MoveNetCodec(input_size=(128, 128))
    visibility = np.full((1, 17), 2, np.int8)
    visibility[0, 0], visibility[0, 1] = -1, 0
    xy = person(nose=None, left_eye=None)
    drawn = draw_targets(np.zeros((128, 128, 3), np.uint8), sample_of(xy, visibility=visibility), codec)
    assert drawn.shape == (2 * PANEL, 2 * PANEL, 3) and drawn.dtype == np.uint8
    weights = drawn[PANEL:, :PANEL]
    assert weights[5, 5].tolist() == [110, 0, 0]  # the nose: unknown
    assert weights[20, 51 + 20].tolist() == [30, 40, 130]  # the left eye: unlabelled, inside the box
    assert weights[5, 102 + 5].tolist() == [90, 90, 90]  # the right eye: known, background


# --- files ----------------------------------------------------------------------------------------------------------


def annotation(number, image, xy):
    xyv = [v for x, y in xy.tolist() for v in ((0, 0, 0) if np.isnan(x) else (round(x, 1), round(y, 1), 2))]
    facts = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": xyv}
    return {**facts, "bbox": [25, 5, 50, 110], "area": 5500}


def write_split(folder, split, photos, labels=(), seed=0):
    """photos: {file name: coco_id}; labels: annotations, one standing person per photo unless given."""
    rng = np.random.default_rng(seed)
    (folder / split).mkdir()
    images = []
    for number, (name, coco_id) in enumerate(photos.items(), 1):
        noise = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / split / name), cv2.resize(noise, (100, 120)))
        images.append({"id": number, "file_name": name, "width": 100, "height": 120, "coco_id": coco_id})
    labels = labels or [annotation(image["id"], image["id"], person()) for image in images]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.joints), "skeleton": []}
    content = {"images": images, "annotations": list(labels), "categories": [category]}
    (folder / f"person_keypoints_{split}.json").write_text(json.dumps(content))


def read_csv(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_clean_set_passes_and_is_drawn(tmp_path, capsys):
    write_split(tmp_path, "train", {"a.jpg": 1, "b.jpg": 2})
    write_split(tmp_path, "val", {"c.jpg": 3}, seed=1)
    out = tmp_path / "out"
    assert run(["data", "check", str(tmp_path), "--out", str(out), "--samples", "2", "--input-size", "96"]) == 0
    assert read_csv(out / "problems.csv") == []
    sheet = cv2.imread(str(out / "targets-train.png"))
    assert sheet.shape[1] > 2 * 2 * PANEL  # two photos side by side
    assert (out / "targets-val.png").is_file()
    printed = capsys.readouterr().out
    assert "errors: 0, suspicions: 0" in printed and "joint-box area" in printed
    assert not list(out.glob(".*")), "nothing half-written stays behind"


def test_errors_make_the_exit_code_1_and_are_listed(tmp_path, capsys):
    bad = person()
    bad[3] = (900, 10)
    write_split(tmp_path, "train", {"a.jpg": 1, "b.jpg": 2, "c.jpg": 3}, [annotation(5, 1, bad)])
    write_split(tmp_path, "val", {"d.jpg": 2}, seed=1)
    shutil.copy(tmp_path / "train" / "a.jpg", tmp_path / "train" / "c.jpg")
    photo = (tmp_path / "train" / "b.jpg").read_bytes()
    (tmp_path / "train" / "b.jpg").write_bytes(photo[: len(photo) // 2])
    out = tmp_path / "out"
    assert run(["data", "check", str(tmp_path), "--out", str(out), "--samples", "1"]) == 1
    kinds = {(row["severity"], row["kind"]) for row in read_csv(out / "problems.csv")}
    assert kinds == {
        ("error", "far outside the photo"),
        ("error", "same photo, other labels"),
        ("error", "unreadable photo"),
        ("error", "photo in two splits"),
    }
    assert "errors: 4" in capsys.readouterr().out


def test_one_split_alone_is_checked_without_the_other(tmp_path):
    write_split(tmp_path, "train", {"a.jpg": 1})
    write_split(tmp_path, "val", {"b.jpg": 1})  # leaks, but is not asked for
    out = tmp_path / "out"
    assert run(["data", "check", str(tmp_path), "--split", "val", "--out", str(out), "--samples", "0"]) == 0
    assert sorted(p.name for p in out.iterdir()) in (["areas-val.png", "problems.csv"], ["problems.csv"])


def test_photos_of_another_size_than_the_labels_are_errors(tmp_path):
    write_split(tmp_path, "train", {"a.jpg": 1})
    (problem,) = check_photos([sample_of(person(), photo=tmp_path / "train" / "a.jpg", size_wh=(120, 100))])[0]
    assert problem.kind == "other photo size" and "100 x 120" in problem.sentence


def test_twins_with_the_same_labels_are_only_suspicious():
    one, two = sample_of(person(), person(nose=None)), sample_of(person(nose=None), person(), photo="2.jpg")
    assert [len(found) for found in find_twins({"digest": [one, two]})] == [0, 1]
    assert [len(found) for found in find_twins({"digest": [one, sample_of(person())]})] == [1, 0]
    assert [len(found) for found in find_twins({"digest": [one]})] == [0, 0]


def test_a_leak_is_found_by_photo_id_and_by_content():
    one, two = (sample_of(person(), photo=f"{name}.jpg", photo_id=f"photo {name}") for name in "12")
    contents = {"train": {"x": [one]}, "val": {"y": [two]}}
    assert find_leaks({"train": [one], "val": [two]}, contents) == []
    assert len(find_leaks({"train": [one], "val": [two]}, {**contents, "val": {"x": [two]}})) == 1
    assert len(find_leaks({"train": [one], "val": [one]}, contents)) == 1


def test_photos_of_one_name_in_two_splits_are_no_leak():
    """Splits are often numbered from 0, each."""
    train, val = sample_of(person(), photo="train/0.jpg"), sample_of(person(), photo="val/0.jpg")
    assert find_leaks({"train": [train], "val": [val]}, {"train": {"x": [train]}, "val": {"y": [val]}}) == []


def test_names_with_folders_are_no_leak_either():
    def named(split, **facts):
        return sample_of(person(), **{"photo": f"{split}/scene_1/color.png", "photo_id": "scene_1/color", **facts})

    contents = {split: {split: [named(split)]} for split in ("train", "val")}
    assert find_leaks({split: [named(split)] for split in contents}, contents) == []
    (leak,) = find_leaks({split: [named(split, photo_id="1/color")] for split in contents}, contents)
    assert leak.photo == "1/color"


def test_somebody_without_a_size_is_suspicious():
    box = np.array([[50, 10, 50, 10]], np.float32)  # of the nose alone, where there is no bbox
    (_, problem) = find_suspicions([sample_of(person(**dict.fromkeys(COCO17.joints[1:])), box_xyxy=box)])
    assert problem.kind == "no size" and problem.annotation == 1 and "give the annotation a bbox" in problem.sentence


def test_every_photo_is_named_where_none_can_be_used(tmp_path, capsys):
    write_split(tmp_path, "train", {"a.jpg": 1, "b.jpg": 2})
    write_split(tmp_path, "val", {"c.jpg": 3}, seed=1)
    labels = tmp_path / "person_keypoints_train.json"
    content = json.loads(labels.read_text())
    for image in content["images"]:
        del image["width"]
    labels.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert run(["data", "check", str(tmp_path), "--out", str(out), "--samples", "0"]) == 1
    assert [(row["split"], row["kind"]) for row in read_csv(out / "problems.csv")] == [("train", "bad photo entry")] * 2
    assert "errors: 2" in capsys.readouterr().out


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, capsys):
    (tmp_path / "labels.json").write_text("{")
    assert run(["data", "check", str(tmp_path / "labels.json"), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "not a readable JSON file" in error and len(error.splitlines()) == 1


def test_a_joint_that_is_named_and_labelled_on_nobody_is_told():
    """With the joints that the file does not name (visibility -1) nothing is wrong."""
    without = [sample_of(person(nose=None, left_eye=None), photo=f"{n}.jpg") for n in range(20)]
    for sample in without:
        sample.visibility[:, COCO17.joints.index("left_eye")] = -1
    told = [problem for problem in find_suspicions(without) if problem.kind == "joint never labelled"]
    assert len(told) == 1 and told[0].photo == "" and "joint 'nose' is not labelled on any of 20 people" in told[0].sentence
    assert suspicion_sheet(without, told, count=4) is None  # nobody in particular to draw
    assert not any(problem.kind == "joint never labelled" for problem in find_suspicions(without[:19]))

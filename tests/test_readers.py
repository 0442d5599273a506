"""COCO keypoint JSON: read as it stands, impossible labels reported and left out, files of another kind refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.cli import run
from featherpose.data.readers import READERS, find_reader, read_dataset
from featherpose.data.readers.coco import read_coco
from featherpose.data.sample import UNKNOWN, has_nobody
from featherpose.data.splits import photo_number, shared_photos, split_by_photo
from featherpose.skeletons import COCO17, DEFAULT_SIGMA, LSP14, Skeleton

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_photos = pytest.mark.skipif(not DATA.is_dir(), reason="the photos in ../shared/data are not on this machine")

THREE = ["Nose", "leftHand", "right-hand"]


def annotation(number, image=1, keypoints=(10, 10, 2, 20, 30, 2, 30, 20, 1), **changes):
    facts = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [5, 5, 30, 30], "area": 600}
    return {**facts, "keypoints": list(keypoints), **changes}


def image(number, **changes):
    return {"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80, **changes}


def content(annotations, images=None, joints=THREE, **category):
    return {
        "images": [image(1)] if images is None else images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": joints, "skeleton": [[2, 1], [1, 3]], **category}],
    }


@pytest.fixture
def read(tmp_path):
    """Writes a label file and photos 1.jpg to 3.jpg, and reads it."""

    def write_and_read(facts, **options):
        photos = tmp_path / "photos"
        photos.mkdir(exist_ok=True)
        for number in (1, 2, 3):
            (photos / f"{number}.jpg").touch()
        labels = tmp_path / "labels.json"
        labels.write_text(facts if isinstance(facts, str) else json.dumps(facts))
        return read_coco(labels, photos, **options)

    return write_and_read


# --- what is read ---------------------------------------------------------------------------------------------------


def test_labels_are_read_as_they_stand(read):
    (sample,) = read(content([annotation(7, keypoints=[10.5, 11, 2, 0, 0, 0, 30, 20.25, 1])]))
    assert sample.xy[0, 0].tolist() == [10.5, 11] and sample.xy[0, 2].tolist() == [30, 20.25]
    assert np.isnan(sample.xy[0, 1]).all()
    assert sample.visibility.tolist() == [[2, 0, 1]]
    assert sample.box_xyxy.tolist() == [[5, 5, 35, 35]]
    assert sample.area.tolist() == [600] and sample.annotation_id.tolist() == [7]
    assert sample.size_wh == (100, 80) and sample.sample_id == 1 and sample.ignore_xyxy is None


def test_every_person_is_in_the_sample_and_the_target_is_the_one_the_file_names(read):
    people = [annotation(3, bbox=[40, 30, 20, 20]), annotation(9, bbox=[0, 0, 8, 8])]
    (sample,) = read(content(people))
    assert sample.annotation_id.tolist() == [3, 9] and sample.target == 0  # nearest the middle
    (sample,) = read(content(people, images=[image(1, target=9)]))
    assert sample.target == 1


def test_crops_of_one_original_share_its_photo_id(read):
    samples = read(content([], images=[image(1, coco_id=139), image(2, coco_id=139), image(3)]))
    assert [s.photo_id for s in samples] == ["139", "139", "3"]
    assert [s.target for s in samples] == [-1, -1, -1]


def test_a_photo_without_coco_id_is_known_by_its_file_name_with_the_folders(read, tmp_path):
    names = ["scene_001/color.png", "scene_002\\color.v2.png", "3.jpg"]
    for name in names[:2]:
        file = tmp_path / "photos" / name.replace("\\", "/")
        file.parent.mkdir(parents=True)
        file.touch()
    samples = read(content([], images=[image(n, file_name=name) for n, name in enumerate(names)]))
    assert [s.photo_id for s in samples] == ["scene_001/color", "scene_002/color.v2", "3"]
    (sample,) = read(content([], images=[image(1, coco_id=None)]))
    assert sample.photo_id == "1"


def test_a_byte_order_mark_is_passed_over(read):
    (sample,) = read("\ufeff" + json.dumps(content([annotation(1)])))
    assert len(sample.xy) == 1


def test_a_skeleton_is_made_from_the_category(read):
    (sample,) = read(content([annotation(1)]))
    assert sample.skeleton.joints == ("nose", "left_hand", "right_hand")
    assert sample.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert sample.skeleton.bones == (("left_hand", "nose"), ("nose", "right_hand"))
    assert sample.skeleton.sigmas == (0.026, DEFAULT_SIGMA, DEFAULT_SIGMA)


def test_the_joints_of_a_builtin_skeleton_are_recognised_in_any_order(read):
    joints = list(reversed(COCO17.joints))
    xyv = [value for k in range(17) for value in (k, 2 * k + 1, 2)]
    (sample,) = read(content([annotation(1, keypoints=xyv)], joints=joints))
    assert sample.skeleton == COCO17
    assert sample.xy[0, COCO17.index("nose")].tolist() == [16, 33]
    assert sample.xy[0, COCO17.index("right_ankle")].tolist() == [0, 1]


def test_joints_that_the_file_does_not_know_become_unknown(read):
    (sample,) = read(content([annotation(1)]), skeleton=COCO17)
    assert sample.xy[0, 0].tolist() == [10, 10]
    assert sample.visibility[0].tolist() == [2] + [UNKNOWN] * 16
    assert np.isnan(sample.xy[0, 1:]).all()


def test_crowds_and_people_without_joints_are_ignored_regions(read):
    people = [
        annotation(1),
        annotation(2, iscrowd=1, bbox=[50, 50, 10, 20]),
        annotation(3, keypoints=[0] * 9, bbox=[60, 10, 10, 10]),
    ]
    del people[2]["keypoints"]
    (sample,) = read(content(people))
    assert sample.annotation_id.tolist() == [1]
    assert sample.ignore_xyxy.tolist() == [[50, 50, 60, 70], [60, 10, 70, 20]]


def test_a_person_without_a_box_gets_the_box_of_the_joints(read):
    person = annotation(1)
    del person["bbox"], person["area"]
    (sample,) = read(content([person]))
    assert sample.box_xyxy.tolist() == [[10, 10, 30, 30]] and sample.area.tolist() == [400]


# --- labels that cannot be true -------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
BAD_LABELS = {
    "length": (annotation(2, keypoints=[1, 2, 2]), "wrong keypoints", "dropped person"),
    "text": (annotation(2, keypoints=[1, 2, 2, "x", 2, 2, 3, 3, 2]), "wrong keypoints", "dropped person"),
    "nan": (annotation(2, keypoints=[NAN, 2, 2, 5, 5, 2, 6, 6, 2]), "not a number", "dropped joint"),
    "infinite": (annotation(2, keypoints=[INF, 2, 2, 5, 5, 2, 6, 6, 2]), "not a number", "dropped joint"),
    "visibility 3": (annotation(2, keypoints=[4, 4, 3, 5, 5, 2, 6, 6, 2]), "visibility", "dropped joint"),
    "visibility -1": (annotation(2, keypoints=[4, 4, -1, 5, 5, 2, 6, 6, 2]), "visibility", "dropped joint"),
    "far away": (annotation(2, keypoints=[4, 400, 2, 5, 5, 2, 6, 6, 2]), "far outside the photo", "dropped joint"),
    "origin": (annotation(2, keypoints=[0, 0, 1, 5, 5, 2, 6, 6, 2]), "joint at the origin", "dropped joint"),
    "duplicate id": (annotation(1, keypoints=[4, 4, 2, 5, 5, 2, 6, 6, 2]), "duplicate annotation id", "dropped person"),
    "text id": (annotation("two"), "bad annotation id", "dropped person"),
    "unknown photo": (annotation(2, image=77), "unknown photo", "dropped person"),
    "unhashable photo": (annotation(2, image=[1]), "unknown photo", "dropped person"),
    "enormous id": (annotation(2**63), "bad annotation id", "dropped person"),
    "enormous joint": (annotation(2, keypoints=[10**400, 2, 2, 5, 5, 2, 6, 6, 2]), "wrong keypoints", "dropped person"),
    "enormous area": (annotation(2, area=10**400), "bad area", "kept"),
    "enormous box": (annotation(2, bbox=[5, 5, 10**400, 4]), "bad box", "dropped box"),
    "enormous score": (annotation(2, teacher_keypoints=[10**400] * 9), "wrong sources", "dropped person"),
    "no place": (annotation(2, keypoints=[0] * 9, bbox=None), "no place", "dropped person"),
    "crowd without a box": (annotation(2, iscrowd=1, bbox=None), "no place", "dropped person"),
    "category": (annotation(2, category_id=5), "unknown category", "dropped person"),
    "negative box": (annotation(2, bbox=[5, 5, -3, 4]), "bad box", "dropped box"),
    "empty box": (annotation(2, bbox=[5, 5, 0, 0]), "bad box", "dropped box"),
    "short box": (annotation(2, bbox=[5, 5]), "bad box", "dropped box"),
    "nan area": (annotation(2, area=NAN), "bad area", "kept"),
    "nothing": ({"id": 2, "image_id": 1, "category_id": 1}, "missing keys", "dropped person"),
}


@pytest.mark.parametrize(("person", "kind", "action"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_label_that_cannot_be_true_is_reported_and_left_out(read, person, kind, action):
    problems = []
    good = annotation(1)
    (sample,) = read(content([good, person]), problems=problems)
    assert [(p.kind, p.action) for p in problems] == [(kind, action)]
    assert sample.xy[0].tolist() == [[10, 10], [20, 30], [30, 20]]  # the good label is untouched
    if action == "dropped person":
        assert len(sample.xy) == 1
    elif action == "dropped joint":
        assert sample.visibility[1].tolist() == [0, 2, 2] and np.isnan(sample.xy[1, 0]).all()
        assert np.isfinite(sample.xy[1, 1:]).all()
    assert np.isfinite(sample.box_xyxy).all() and np.isfinite(sample.area).all()


@pytest.mark.parametrize(("person", "kind", "action"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_without_a_list_for_problems_reading_stops_with_one_sentence(read, person, kind, action):
    with pytest.raises(ValueError, match=r"labels\.json: a label that cannot be true.*featherpose data check"):
        read(content([annotation(1), person]))


DROPPED = {
    "wrong keypoints": {"keypoints": [1, 2]},
    "duplicate id": {"id": 1},
    "text id": {"id": "two"},
    "unknown category": {"category_id": 5},
    "wrong sources": {"keypoint_source": "nobody's"},
}


@pytest.mark.parametrize("change", DROPPED.values(), ids=DROPPED)
def test_a_dropped_person_is_no_background(read, change):
    (sample,) = read(content([annotation(1), annotation(2, **{"bbox": [50, 40, 10, 10], **change})]), problems=[])
    assert sample.annotation_id.tolist() == [1] and sample.ignore_xyxy.tolist() == [[50, 40, 60, 50]]
    for box in (None, [50, 40, 0, 10], ["50", 40, 10, 10]):
        (sample,) = read(content([annotation(1), annotation(2, **{"bbox": box, **change})]), problems=[])
        assert sample.annotation_id.tolist() == [1] and sample.ignore_xyxy.tolist() == [[0, 0, 100, 80]]


def test_of_somebody_without_joints_and_box_the_whole_photo_is_ignored(read):
    for person in (annotation(2, keypoints=[0] * 9, bbox=None), {"id": 2, "image_id": 1, "category_id": 1}):
        (sample,) = read(content([person]), problems=[])
        assert sample.target == -1 and sample.ignore_xyxy.tolist() == [[0, 0, 100, 80]] and not has_nobody(sample)


def test_a_thing_without_joints_is_nobody(read):
    facts = content([annotation(1, category_id=2), annotation("dog", category_id=2)])
    facts["categories"].append({"id": 2, "name": "dog"})
    (sample,) = read(facts)
    assert has_nobody(sample)


def test_a_person_whose_joints_the_skeleton_lacks_is_ignored_in_the_box_of_the_joints(read):
    (sample,) = read(content([annotation(1, keypoints=[0, 0, 0, 20, 30, 2, 30, 20, 1], bbox=None)]), skeleton=COCO17)
    assert len(sample.xy) == 0 and sample.ignore_xyxy.tolist() == [[20, 20, 30, 30]]


def test_ids_of_annotations_may_start_anew_in_every_photo(read):
    images = [image(1, target=2), image(2, target=2)]
    people = [annotation(n, image=m, bbox=[m, n, 30, 30]) for m in (1, 2) for n in (1, 2)]
    samples = read(content(people, images))
    assert [(s.annotation_id.tolist(), s.target) for s in samples] == [([1, 2], 1)] * 2
    assert [s.box_xyxy[s.target, 0] for s in samples] == [1, 2]


def test_nobody_else_becomes_the_target_when_the_targets_label_is_dropped(read):
    problems = []
    people = [annotation(1), annotation(2, keypoints=[1, 2])]
    (sample,) = read(content(people, images=[image(1, target=2)]), problems=problems)
    assert sample.target == -1 and len(sample.xy) == 1 and len(problems) == 1


BAD_PHOTOS = {
    "missing": ([image(1), image(4)], "missing photo", ["1.jpg"]),
    "other folder": ([image(1), image(2, file_name="else/2.jpg")], "missing photo", ["1.jpg"]),
    "no size": ([image(1), {"id": 2, "file_name": "2.jpg"}], "bad photo entry", ["1.jpg"]),
    "text id": ([image(1), image("2")], "bad photo entry", ["1.jpg"]),
    "same photo twice": ([image(1), image(1)], "duplicate image id", ["1.jpg"]),
    "enormous size": ([image(1), image(2, width=10**400)], "bad photo entry", ["1.jpg"]),
    "list as target": ([image(1, target=[1])], "unknown target", ["1.jpg"]),
    "text as target": ([image(1, target="1")], "unknown target", ["1.jpg"]),
    "enormous target": ([image(1, target=10**30)], "unknown target", ["1.jpg"]),
    "unknown target": ([image(1, target=55)], "unknown target", ["1.jpg"]),
}


@pytest.mark.parametrize(("images", "kind", "left"), BAD_PHOTOS.values(), ids=BAD_PHOTOS)
def test_a_photo_that_cannot_be_used_is_reported_and_skipped(read, images, kind, left):
    problems = []
    samples = read(content([annotation(1)], images=images), problems=problems)
    assert [p.kind for p in problems] == [kind]
    assert [s.photo.name for s in samples] == left


def test_two_photos_with_one_id_are_both_dropped_as_their_labels_could_be_either_ones(read):
    problems = []
    images = [image(1), image(1, file_name="2.jpg"), image(3)]
    samples = read(content([annotation(1), annotation(2, image=3)], images=images), problems=problems)
    assert [s.photo.name for s in samples] == ["3.jpg"]
    assert {p.photo for p in problems} == {"1.jpg", "2.jpg"}


@pytest.mark.parametrize("other", [{"file_name": "4.jpg"}, {"file_name": "2.jpg", "width": None}], ids=["missing", "no size"])
def test_a_photo_does_not_get_the_people_of_another_with_its_id_that_cannot_be_used(read, other):
    for images in ([image(1), image(1, **other), image(3)], [image(1, **other), image(1), image(3)]):
        problems = []
        (sample,) = read(content([annotation(1), annotation(2, image=3)], images), problems=problems)
        assert sample.photo.name == "3.jpg" and len(problems) == 2
        (told,) = [p.sentence for p in problems if p.kind == "duplicate image id"]
        assert told.startswith("photo '1.jpg': its id 1 belongs to ") and other["file_name"] in told


# --- files that cannot be used at all -------------------------------------------------------------------------------

BAD_FILES = {
    "text": ("joints, many of them", "not a readable JSON file"),
    "truncated": (json.dumps(content([annotation(1)]))[:-20], "not a readable JSON file"),
    "list": ("[1, 2]", "the list 'images' is missing"),
    "no annotations": (json.dumps({"images": [], "categories": []}), "the list 'annotations' is missing"),
    "strings": (json.dumps({"images": ["a.jpg"], "annotations": [], "categories": []}), "instead of an object"),
    "boxes only": (content([annotation(1)], joints=[]), "no category has 'keypoints'"),
    "joint twice": (content([annotation(1)], joints=["nose", "l_hand", "left_hand"]), "names a joint twice"),
    "bone 0": (content([annotation(1)], skeleton=[[0, 1]]), "from 1 to 3"),
    "empty": (content([], images=[]), "nothing to read"),
    "no photos": (content([annotation(1)], images=[image(8), image(9)]), "none of its 2 photos"),
    "no sizes": (
        content([annotation(1)], images=[image(1, width=None), image(2, height=None)]),
        r"none of its 2 photos can be used, first: photo '1.jpg': needs an integer id.*featherpose data check",
    ),
}


@pytest.mark.parametrize(("facts", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_used_is_refused_with_one_sentence(read, facts, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        read(facts, problems=[])
    assert "labels.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_skeleton_without_a_common_joint_is_refused(read):
    with pytest.raises(ValueError, match="none of its joints"):
        read(content([annotation(1)]), skeleton=Skeleton(name="tail", joints=("tail",)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such label file"):
        read_coco(tmp_path / "nothing.json", tmp_path)


# --- folders and formats --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "1.jpg").touch()
        (tmp_path / f"person_keypoints_{split}.json").write_text(json.dumps(content([annotation(1)])))
    return tmp_path


def test_a_folder_is_read_by_split(folder):
    (sample,) = read_dataset(folder, split="val")
    assert sample.photo == folder / "val" / "1.jpg"
    (sample,) = read_dataset(folder / "person_keypoints_train.json")
    assert sample.photo == folder / "train" / "1.jpg"
    (sample,) = read_dataset(folder / "person_keypoints_train.json", photos=folder / "val")
    assert sample.photo == folder / "val" / "1.jpg"


def test_a_split_that_is_not_clear_is_asked_for(folder):
    with pytest.raises(ValueError, match="train, val"):
        read_dataset(folder)
    with pytest.raises(ValueError, match="did you mean 'train'"):
        read_dataset(folder, split="trian")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_dataset(folder / "nowhere")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_can_be_found(name):
    assert callable(find_reader(name))


def test_an_unknown_format_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        find_reader("cocos")


# --- splits ---------------------------------------------------------------------------------------------------------


def test_a_split_keeps_crops_together_and_does_not_move_when_photos_are_added(read):
    def fake(number, photo):
        (sample,) = read(content([], images=[image(1, coco_id=photo)]))
        return sample

    samples = [fake(n, n // 2) for n in range(60)]
    parts = split_by_photo(samples, [0.7, 0.3], seed=1)
    assert shared_photos(*parts) == []
    assert sum(map(len, parts)) == 60 and all(len(part) % 2 == 0 for part in parts) and min(map(len, parts)) > 0
    before = {s.photo_id for s in split_by_photo(samples[:30], [0.7, 0.3], seed=1)[0]}
    assert before <= {s.photo_id for s in parts[0]}
    assert shared_photos(samples[:5], samples[5:]) == ["2"]
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_photo(samples, [0.7, 0.7])


def test_photo_numbers_are_spread_evenly():
    numbers = np.array([photo_number(str(n)) for n in range(4000)])
    counts, _ = np.histogram(numbers, bins=4, range=(0, 1))
    assert counts.sum() == 4000 and abs(counts - 1000).max() < 120  # 4 standard deviations


# --- real photos ----------------------------------------------------------------------------------------------------


@needs_photos
def test_real_labels_are_read_whole():
    samples = read_dataset(DATA / "coco_person", split="val")
    assert len(samples) == 739 and sum(len(s.xy) for s in samples) == 2547
    assert all(s.skeleton == COCO17 and s.target >= 0 for s in samples)
    first = samples[0]
    assert first.annotation_id[first.target] == 2 and first.photo_id == "77"
    assert first.xy[first.target, COCO17.index("right_ear")].tolist() == pytest.approx([86.6, 75.1], abs=1e-4)


@needs_photos
def test_lsp_on_coco_leaves_the_face_unknown():
    samples = read_dataset(DATA / "lsp_extended", split="val", skeleton=COCO17)
    assert len(samples) == 340
    assert all((s.visibility[:, :5] == UNKNOWN).all() and (s.visibility[:, 5:] >= 0).all() for s in samples)
    assert read_dataset(DATA / "lsp_extended", split="val")[0].skeleton == LSP14


def test_one_label_file_becomes_train_and_val(tmp_path, capsys):
    images = [image(number, coco_id=number // 2) for number in range(40)]  # two crops of each photo
    labels = tmp_path / "labels" / "all.json"
    labels.parent.mkdir()
    for entry in images:
        (labels.parent / entry["file_name"]).touch()
    labels.write_text(json.dumps(content([annotation(n, image=n) for n in range(40)], images)))
    out = tmp_path / "photos"
    assert run(["data", "split", str(labels), "--out", str(out), "--val", "0.3"]) == 0
    parts = {name: read_dataset(out, split=name) for name in ("train", "val")}
    assert shared_photos(parts["train"], parts["val"]) == []
    assert sum(len(part) for part in parts.values()) == 40 and 4 <= len(parts["val"]) <= 20
    assert all(sample.photo.resolve().parent == labels.parent and len(sample.xy) == 1 for sample in parts["val"])
    assert "photos, " in capsys.readouterr().out
    before = (out / "person_keypoints_val.json").read_text()
    assert run(["data", "split", str(labels), "--out", str(out), "--seed", "5"]) == 1
    assert "is there already" in capsys.readouterr().err and (out / "person_keypoints_val.json").read_text() == before
    for wrong, text in ((["--val", "1"], "between 0 and 1"), (["--val", "1e-9", "--overwrite"], "none would be in 'val'")):
        assert run(["data", "split", str(labels), "--out", str(out), *wrong]) == 1
        assert text in capsys.readouterr().err


def test_a_split_tells_of_photos_that_it_leaves_out(tmp_path, capsys):
    images = [image(number, file_name=f"scene_{number}/color.png") for number in range(30)]
    images += [image(30, width=None), image([31]), image(32)]  # no size, no usable id, not there
    people = [annotation(n, image=n) for n in range(33)] + [annotation(33, image=[3]), annotation("34", image=4)]
    for entry in images[:-1]:
        (tmp_path / entry["file_name"]).parent.mkdir(exist_ok=True)
        (tmp_path / entry["file_name"]).touch()
    labels = tmp_path / "all.json"
    labels.write_text("\ufeff" + json.dumps(content(people, images)), encoding="utf-8")
    out = tmp_path / "photos"
    assert run(["data", "split", str(labels), "--out", str(out), "--val", "0.3"]) == 0
    parts = [read_dataset(out, split=name, problems=[]) for name in ("train", "val")]
    assert sum(map(len, parts)) == 30 and min(map(len, parts)) >= 3
    told = capsys.readouterr().err
    assert f"6 labels cannot be true: featherpose data check {labels} lists them; photos left out: 3" in told

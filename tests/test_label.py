"""Labels completed by a teacher: human first, the teacher where it can be trusted, and every joint says whose it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherpose.cli import run
from featherpose.codecs.movenet import MoveNetCodec
from featherpose.data import teacher as teacher_package
from featherpose.data.label import add_people, complete, join, overlap, read_boxes
from featherpose.data.label_report import joint_counts
from featherpose.data.readers import read_dataset
from featherpose.data.sample import UNKNOWN, Sample, move_sample, to_skeleton
from featherpose.data.teacher.ask import Answers, Kept, ask, fingerprint, people_of
from featherpose.data.teacher.trust import Threshold, agree, choose_thresholds, lowest_good_score
from featherpose.geometry import mirror, transform
from featherpose.skeletons import Skeleton

NAN = np.nan
BODY = Skeleton("body", ("nose", "left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),))
HANDS = Skeleton("hands", ("right_hand", "left_hand", "neck"))
SIZE = (100, 80)


def sample(xy, visibility, *, skeleton=BODY, number=1, boxes=None, **changes):
    """A photo with P people; xy (P, K, 2)."""
    xy, visibility = np.array(xy, np.float32), np.array(visibility, np.int8)
    boxes = (
        np.tile(np.array([10, 10, 60, 70], np.float32), (len(xy), 1)) if boxes is None else np.array(boxes, np.float32)
    )
    facts = {
        "photo": Path(f"{number}.png"),
        "size_wh": SIZE,
        "skeleton": skeleton,
        "xy": np.where(visibility[..., None] > 0, xy, NAN),
        "visibility": visibility,
        "box_xyxy": boxes,
        "area": np.full(len(xy), 3000, np.float32),
        "target": 0,
        "photo_id": str(number),
        "sample_id": number,
        "annotation_id": np.arange(len(xy)) + 10 * number,
    }
    return Sample(**{**facts, **changes})


def sure(value, joints=BODY.joints):
    return {joint: Threshold(value, 500, "") for joint in joints}


# --- from which score on ----------------------------------------------------------------------------------------------


def steps(*rows):
    """(score, right) of joints in the middle of their step: rows (its low end, how many, how many right)."""
    score = np.concatenate([np.full(count, low + 0.02) for low, count, _ in rows])
    right = np.concatenate([np.arange(count) < good for _, count, good in rows])
    return score, right


STEPS = {
    "all right": ([(0.9, 100, 100), (0.5, 100, 100), (0.1, 100, 100)], 0.1),
    "exactly the share": ([(0.9, 100, 80)], 0.9),
    "one too few": ([(0.9, 100, 79)], None),
    "ends above the bad step": ([(0.9, 100, 95), (0.6, 100, 85), (0.55, 100, 60), (0.2, 100, 99)], 0.6),
    "few joints wait for the next step": ([(0.9, 40, 40), (0.85, 20, 5), (0.8, 60, 60)], 0.8),
    "few joints at the end say nothing": ([(0.9, 100, 100), (0.3, 10, 10)], 0.9),
    "nobody": ([(0.9, 0, 0)], None),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_threshold_is_the_end_of_the_last_good_step(name):
    rows, expected = STEPS[name]
    assert lowest_good_score(*steps(*rows), share=0.8) == expected


def test_a_score_of_one_belongs_to_the_top_step():
    assert lowest_good_score(np.ones(100), np.ones(100, bool)) == 0.95


def answered(visibility, wrong, score, count=300):
    """`count` people whose nose the teacher finds, or misses by far where `wrong`, at their scores."""
    people, xy = [], []
    for n in range(count):
        people.append(sample([[[30, 30], [20, 50], [40, 50]]], [[visibility[n], 0, 0]], number=n))
        xy.append([[90.0 if wrong[n] else 30.0, 30.0], [20, 50], [40, 50]])
    scores = np.stack([score, np.full(count, 0.9), np.full(count, 0.9)], axis=1)
    return Answers(people, np.array(xy, np.float32), scores.astype(np.float32), ())


def test_thresholds_are_judged_by_occluded_joints_where_there_are_enough():
    score = np.where(np.arange(300) % 2, 0.92, 0.42)
    occluded = np.arange(300) < 220
    wrong = occluded & (score < 0.5)  # surely wrong where hidden, always right where seen
    agreement = agree(answered(np.where(occluded, 1, 2), wrong, score), BODY, {})
    thresholds = choose_thresholds(agreement)
    # the bad step is the one at .40; those between hold nobody, so the last good one ends at .90
    assert (thresholds["nose"].value, thresholds["nose"].judged) == (0.9, 220)
    agreement = agree(answered(np.where(np.arange(300) < 190, 1, 2), wrong, score), BODY, {})
    assert choose_thresholds(agreement)["nose"].judged == 300


def test_joints_that_nobody_labelled_take_a_given_threshold_or_the_highest():
    agreement = agree(answered(np.full(300, 2), np.zeros(300, bool), np.full(300, 0.72)), BODY, {})
    thresholds = choose_thresholds(agreement, given={"left_hand": 0.45})
    assert [t.value for t in thresholds.values()] == [0.7, 0.45, 0.7]
    assert [t.judged for t in thresholds.values()] == [300, 0, 0]
    few = choose_thresholds(agree(answered(np.full(9, 2), np.zeros(9, bool), np.full(9, 0.7), 9), BODY, {}))
    assert [t.value for t in few.values()] == [None] * 3


def test_an_unsure_teacher_is_never_trusted():
    agreement = agree(answered(np.full(300, 2), np.ones(300, bool), np.full(300, 0.9)), BODY, {})
    assert choose_thresholds(agreement)["nose"].value is None


def test_nothing_to_compare_is_told():
    nobody = [sample([[[0, 0]] * 3], [[0, 0, 0]])]
    with pytest.raises(ValueError, match="no human label"):
        agree(Answers(nobody, np.zeros((1, 3, 2), np.float32), np.ones((1, 3), np.float32), ()), BODY, {})


# --- joining ----------------------------------------------------------------------------------------------------------

FOUND = np.array([[31, 31], [21, 51], [41, 51]], np.float32)

JOINS = {
    "human first": ((2, 1, 2), (1, 1, 1), 0.5, "hhh", (2, 1, 2)),
    "teacher where the human has none": ((2, 0, 0), (1, 0.9, 0.4), 0.5, "ht-", (2, 1, 0)),
    "at the threshold": ((2, 0, 0), (1, 0.5, 0.4), 0.5, "ht-", (2, 1, 0)),
    "never": ((2, 0, 0), (1, 1, 1), None, "h--", (2, 0, 0)),
    "unknown to the set": ((-1, 2, -1), (0.9, 1, 0.2), 0.5, "th?", (1, 2, 0)),
}


@pytest.mark.parametrize("name", JOINS)
def test_the_human_comes_first(name):
    visibility, score, threshold, source, out = JOINS[name]
    human = sample([[[30, 30], [20, 50], [40, 50]]], [visibility])
    joined = join(human, FOUND, np.array(score), sure(threshold), BODY)
    assert joined.source == source and joined.visibility.tolist() == list(out)
    for k, letter in enumerate(source):
        expected = {"h": human.xy[0, k], "t": FOUND[k]}.get(letter, [NAN, NAN])
        assert np.array_equal(joined.xy[k], expected, equal_nan=True)
        assert joined.score[k] == {"h": 1, "t": score[k]}.get(letter, 0)


def test_nothing_outside_the_photo_is_taken():
    human = sample([[[30, 30]] * 3], [[2, 0, 0]])
    found = np.array([[30, 30], [-1, 40], [40, 80]], np.float32)  # the photo is 100 x 80
    assert join(human, found, np.ones(3), sure(0.5), BODY).source == "h--"


@pytest.mark.parametrize(
    ("seen", "score", "dropped"),
    [
        ([[40, 50], [20, 50]], 0.9, True),
        ([[40, 50], [20, 50]], 0.3, False),  # not sure enough
        ([[21, 50], [39, 50]], 0.9, False),  # the same way round
        ([[32, 50], [31, 50]], 0.9, False),  # hardly nearer when crossed
    ],
)
def test_a_pair_that_the_teacher_sees_the_other_way_round_is_left_out(seen, score, dropped):
    person = sample([[[30, 30], [20, 50], [40, 50]]], [[2, 2, 1]])
    xy, scores = np.array([[30, 30], *seen], float), np.array([0.9, score, score])
    joined = join(person, xy, scores, sure(0.5), BODY, drop_swapped=True)
    assert joined.swapped.tolist() == [False, dropped, dropped]
    assert joined.source == ("h--" if dropped else "hhh")
    assert joined.visibility.tolist() == ([2, 0, 0] if dropped else [2, 2, 1])
    assert np.isnan(joined.xy[1:]).all() == dropped and joined.score.tolist() == ([1, 0, 0] if dropped else [1, 1, 1])
    assert join(person, xy, scores, sure(0.5), BODY).source == "hhh", "unless it is asked for"


def test_near_joints_and_half_labelled_pairs_are_never_swapped():
    near = sample([[[30, 30], [28, 50], [32, 50]]], [[2, 2, 2]])
    half = sample([[[30, 30], [20, 50], [40, 50]]], [[2, 2, 0]])
    for person, seen in ((near, [[32, 50], [28, 50]]), (half, [[40, 50], [20, 50]])):
        assert not join(person, np.array([[30, 30], *seen], float), np.full(3, 0.9), sure(2.0), BODY, True).swapped.any()


def test_joints_are_matched_by_name():
    human = sample([[[30, 30]] * 3], [[2, 0, 0]])
    joined = join(human, FOUND, np.ones(3), sure(0.5, HANDS.joints), HANDS)
    assert joined.source == "htt"
    assert joined.xy[1].tolist() == FOUND[1].tolist() and joined.xy[2].tolist() == FOUND[0].tolist()


# --- people from boxes ------------------------------------------------------------------------------------------------


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    assert overlap(np.array([0, 0, 10, 10], float), boxes).tolist() == [1, 50 / 150, 0]


def test_boxes_of_known_people_add_nobody():
    before = sample([[[30, 30]] * 3], [[2, -1, 0]], ignore_xyxy=np.array([[70, 0, 100, 40]], np.float32))
    boxes = {1: np.array([[12, 10, 60, 70], [70, 2, 100, 40], [0, 0, 9, 20], [0, 0, 9, 21]], float)}
    (after,) = add_people([before], boxes)
    assert after.box_xyxy[1:].tolist() == [[0, 0, 9, 20]] and after.annotation_id.tolist() == [10, -1]
    assert np.isnan(after.xy[1]).all() and after.visibility[1].tolist() == [0, UNKNOWN, 0]
    assert add_people([before], {}) == [before]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("boxes", "not a readable JSON"),
        ({"boxes": []}, "neither a list"),
        ([{"image_id": 1, "bbox": [1, 2, 3]}], "every box needs"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 0]}], "every box needs"),
        ([{"bbox": [1, 2, 3, 4]}], "every box needs"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 10**400]}], "every box needs"),
        ([{"image_id": 9, "bbox": [1, 2, 3, 4]}], "none of its 1 boxes"),
    ],
    ids=["text", "other", "three", "flat", "no photo", "enormous", "other photos"],
)
def test_bad_boxes_are_refused(tmp_path, content, said):
    path = tmp_path / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=said):
        read_boxes(path, [sample([[[30, 30]] * 3], [[2, 2, 2]])])


# --- asking and going on ----------------------------------------------------------------------------------------------


class FakeTeacher:
    """Sees every person's joints 1 px to the right of (30, 30), (20, 50), (40, 50), at scores by joint."""

    name, kind, skeleton, input_size, flip = "fake", "heatmap", BODY, (64, 64), False

    def __init__(self, path=None, *, skeleton=None, threads=1, flip=True, stop_at=None):
        self.scores = np.array(json.loads(Path(path).read_text())) if path else np.array([0.9, 0.8, 0.3])
        self.asked, self.stop_at = 0, stop_at

    def look(self, images, to_input):
        if self.stop_at is not None and self.asked >= self.stop_at:
            raise KeyboardInterrupt
        self.asked += len(images)
        xy = np.array([[31, 30], [21, 50], [41, 50]], float)
        return np.tile(xy, (len(images), 1, 1)), np.tile(self.scores, (len(images), 1))


def black(of_sample):
    if of_sample.sample_id == 4:
        raise ValueError("4.png: the picture is truncated")
    return np.zeros((60 if of_sample.sample_id == 5 else 80, 100, 3), np.uint8)


def some_people(count=8):
    return people_of([sample([[[30, 30]] * 3] * 2, [[2, 2, 0]] * 2, number=n) for n in range(count)])


def test_everybody_is_asked_about_and_bad_photos_are_told():
    told = []
    answers = ask(FakeTeacher(), some_people(), read=black, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)
    assert np.isnan(answers.xy[8:12]).all() and np.isfinite(np.delete(answers.xy, range(8, 12), axis=0)).all()
    assert answers.unreadable[0] == "4.png: the picture is truncated"
    assert answers.unreadable[1] == "5.png: the photo has 100 x 60 pixels, its labels were made for 100 x 80"


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    def keep(key="a"):
        return Kept(tmp_path / "answers.npz", key, lambda: 0.0)

    whole = ask(FakeTeacher(), some_people(), read=black)
    with pytest.raises(KeyboardInterrupt):
        ask(FakeTeacher(stop_at=6), some_people(), read=black, keep=keep())
    teacher = FakeTeacher()
    answers = ask(teacher, some_people(), read=black, keep=keep())
    assert teacher.asked == 12 - 6 and np.array_equal(answers.xy, whole.xy, equal_nan=True)
    assert answers.unreadable == whole.unreadable  # the bad photos are tried again

    for other in (keep("b"), keep()):  # another teacher's answers and a damaged file are not used
        teacher = FakeTeacher()
        ask(teacher, some_people(), read=black, keep=other)
        assert teacher.asked == 12
        (tmp_path / "answers.npz").write_bytes(b"PK damaged")


def test_a_fingerprint_is_of_contents(tmp_path):
    model, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    model.write_text("a")
    weights.write_text("b")
    first = fingerprint(model, True)
    assert fingerprint(model, True) == first != fingerprint(model, False)
    weights.write_text("c")
    assert fingerprint(model, True) != first


# --- files: what is written is read back ------------------------------------------------------------------------------


def label_file(folder, split="train", photos=3, joints=BODY.joints):
    """A data folder: photo n has one person with a nose, a left hand in photo 0 only, and a box without labels."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for n in range(photos):
        Image.fromarray(np.full((80, 100, 3), n % 256, np.uint8)).save(folder / split / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": 100, "height": 80, "coco_id": 7, "target": 10 + n})
        hand = [20.25, 50, 1] if n == 0 else [0, 0, 0]
        person = {"image_id": n, "category_id": 1, "iscrowd": 0}
        annotations.append(
            {"id": 10 + n, **person, "keypoints": [30, 30, 2, *hand, 0, 0, 0], "bbox": [10, 10, 50, 60], "extra": n}
        )
        annotations.append({"id": 1000 + n, **person, "bbox": [70, 0, 20, 20]})
    category = {"id": 1, "name": "person", "keypoints": list(joints), "skeleton": []}
    labels = folder / f"person_keypoints_{split}.json"
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return labels


def completed(folder, out, *, all_joints=False, skeleton=BODY, scores=(0.9, 0.8, 0.3)):
    labels = label_file(folder)
    samples = read_dataset(labels)
    teacher = FakeTeacher()
    teacher.scores = np.array(scores)
    answers = ask(teacher, people_of(samples))
    out.mkdir()
    result = complete(
        json.loads(labels.read_text()), answers, sure(0.5), BODY,
        skeleton=skeleton, photos_from=out, samples=samples, all_joints=all_joints,
    )  # fmt: skip
    path = out / "person_keypoints_train.json"
    path.write_text(json.dumps(result.content))
    return result, path


def test_completed_labels_are_read_back_with_their_sources(tmp_path):
    result, path = completed(tmp_path / "data", tmp_path / "out")
    samples = read_dataset(path)
    assert [s.photo.resolve() for s in samples] == [tmp_path / "data" / "train" / f"{n}.png" for n in range(3)]
    assert [(s.photo_id, s.target, s.annotation_id.tolist()) for s in samples] == [("7", 0, [10 + n]) for n in range(3)]
    assert samples[0].xy[0, 1].tolist() == [20.25, 50] and samples[1].xy[0, 1].tolist() == [21, 50]
    assert [s.visibility[0].tolist() for s in samples] == [[2, 1, 0]] * 3
    assert samples[0].weight[0].tolist() == [1, 1, 1]
    assert samples[1].weight[0].tolist() == pytest.approx([1, 0.8, 1])
    assert samples[0].ignore_xyxy.tolist() == [[70, 0, 90, 20]] and samples[0].teacher_xy is None
    entry = next(a for a in result.content["annotations"] if a["id"] == 11)
    assert entry["keypoint_source"] == "ht-" and entry["keypoint_score"] == [1, 0.8, 0] and entry["extra"] == 1
    assert entry["num_keypoints"] == 2
    assert joint_counts(result, BODY)["left_hand"] == {"human": 1, "teacher": 2, "both": 3}


def test_human_labels_alone_have_no_weight(tmp_path):
    assert read_dataset(label_file(tmp_path))[0].weight is None


def test_the_teachers_view_of_all_joints_is_read_back(tmp_path):
    _, path = completed(tmp_path / "data", tmp_path / "out", all_joints=True)
    first = read_dataset(path)[0]
    assert first.teacher_xy[0].tolist() == [[31, 30], [21, 50], [41, 50]]
    assert first.teacher_score[0].tolist() == pytest.approx([0.9, 0.8, 0.3])
    mapped = to_skeleton(first, HANDS)
    assert mapped.teacher_xy[0, :2].tolist() == [[41, 50], [21, 50]] and np.isnan(mapped.teacher_xy[0, 2]).all()
    assert mapped.teacher_score[0].tolist() == pytest.approx([0.3, 0.8, 0])
    assert mapped.weight[0].tolist() == [1, 1, 1]


def test_joints_that_the_set_never_labels_stay_unknown_where_the_teacher_is_unsure(tmp_path):
    more = Skeleton("more", ("tail", *BODY.joints))
    _, path = completed(tmp_path / "data", tmp_path / "out", skeleton=more)
    assert read_dataset(path)[1].visibility[0].tolist() == [UNKNOWN, 2, 1, 0]


def answered_labels(folder, change, boxes=None):
    """(content of the result, its samples) for 2 photos whose label file `change` has changed; boxes: of people to add."""
    labels = label_file(folder, photos=2)
    content = json.loads(labels.read_text())
    change(content)
    labels.write_text(json.dumps(content))
    samples = add_people(read_dataset(labels, problems=[]), boxes or {})
    result = complete(
        content, ask(FakeTeacher(), people_of(samples)), sure(0.5), BODY, skeleton=BODY, photos_from=folder, samples=samples
    )
    labels.write_text(json.dumps(result.content))
    return result.content, read_dataset(labels, photos=folder, problems=[])


def test_people_of_one_id_in_two_photos_are_told_apart(tmp_path):
    """In the second file the first photo is missing, so its annotation comes first and belongs to nobody."""

    def same_ids(content):
        content["annotations"][2]["id"] = content["images"][1]["target"] = 10

    def without_the_first(content):
        same_ids(content)
        content["images"][0]["file_name"] = "gone.png"

    content, samples = answered_labels(tmp_path / "both", same_ids)
    assert [(s.annotation_id.tolist(), s.target) for s in samples] == [([10], 0)] * 2
    assert [a["extra"] for a in content["annotations"][:2]] == [0, 1]
    content, samples = answered_labels(tmp_path / "gone", without_the_first)
    assert [(s.annotation_id.tolist(), s.target) for s in samples] == [([10], 0)]
    assert content["annotations"][0]["extra"] == 1 and len(content["annotations"]) == 2


def test_people_who_are_added_get_ids_that_nobody_has(tmp_path):
    def with_a_stranger(content):
        content["annotations"].append({**content["annotations"][0], "id": 1002, "category_id": 9, "bbox": [70, 60, 10, 10]})

    boxes = {0: np.array([[60, 0, 100, 40]], float)}
    content, _ = answered_labels(tmp_path / "set", with_a_stranger, boxes)
    ids = [entry["id"] for entry in content["annotations"]]
    assert 1003 in ids and len(set(ids)) == len(ids)


def test_people_whose_labels_cannot_be_true_are_no_background_in_the_result(tmp_path):
    def spoil(content):
        first, crowd = content["annotations"][:2]
        content["categories"].append({"id": 2, "name": "dog"})
        content["annotations"] += [
            {**first, "id": "text", "bbox": [60, 60, 10, 10]},
            {**first, "bbox": [0, 70, 10, 10]},
            {**first, "id": 90, "category_id": 3, "bbox": [80, 60, 10, 10]},
            {**first, "id": 91, "category_id": 2, "bbox": [1, 1, 5, 5]},
            {**first, "id": 92, "image_id": [0]},
        ]
        content["images"].append({**content["images"][0], "id": [0]})
        del crowd["bbox"]

    _, (first, second) = answered_labels(tmp_path, spoil)
    boxes = [[0, 0, 100, 80], [0, 70, 10, 80], [60, 60, 70, 70], [80, 60, 90, 70]]
    assert first.annotation_id.tolist() == [10] and sorted(first.ignore_xyxy.tolist()) == boxes
    assert second.ignore_xyxy.tolist() == [[70, 0, 90, 20]]


def test_a_category_without_an_id_is_that_of_annotations_without_one(tmp_path):
    def without_ids(content):
        del content["categories"][0]["id"]
        for entry in content["annotations"]:
            del entry["category_id"]

    _, samples = answered_labels(tmp_path, without_ids)
    assert [len(s.xy) for s in samples] == [1, 1]


@pytest.mark.parametrize(("scores", "taken"), [((0.9, 0.8, 0.05), False), ((0.9, 0.8, 0.3), True)])
def test_people_of_whom_too_little_is_seen_stay_boxes(tmp_path, scores, taken):
    """Of three joints all must be trusted."""
    labels = label_file(tmp_path, photos=1)
    samples = add_people(read_dataset(labels), {0: np.array([[60.0, 30.0, 80.0, 70.0]])})
    teacher = FakeTeacher()
    teacher.scores = np.array(scores)
    answers = ask(teacher, people_of(samples))
    result = complete(
        json.loads(labels.read_text()), answers, sure(0.1), BODY, skeleton=BODY, photos_from=tmp_path, samples=samples
    )
    assert result.taken.tolist() == [True, taken]
    added = result.content["annotations"][1]
    assert added["bbox"] == [60, 30, 20, 40] and added["num_keypoints"] == (3 if taken else 0) and added["id"] == 1001


BAD_SOURCES = {
    "letters": {"keypoint_source": "hx-", "keypoint_score": [1, 1, 0]},
    "too few": {"keypoint_source": "ht", "keypoint_score": [1, 1]},
    "no score": {"keypoint_source": "hht"},
    "score": {"keypoint_source": "hht", "keypoint_score": [1, 1, 1.5]},
    "not a number": {"keypoint_source": "hht", "keypoint_score": [1, 1, "a"]},
    "teacher": {"teacher_keypoints": [1, 2, 3]},
    "teacher's score": {"teacher_keypoints": [1, 2, 3] * 3},
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_sources_that_cannot_be_true_cost_the_person(tmp_path, name):
    labels = label_file(tmp_path, photos=2)
    content = json.loads(labels.read_text())
    content["annotations"][0] |= BAD_SOURCES[name]
    labels.write_text(json.dumps(content))
    problems = []
    first, second = read_dataset(labels, problems=problems)
    assert [(p.kind, p.action, p.annotation) for p in problems] == [("wrong sources", "dropped person", 10)]
    assert len(first.xy) == 0 and len(second.xy) == 1 and first.target == -1


# --- weights on their way to the targets ------------------------------------------------------------------------------


def test_weights_move_with_their_joints_when_a_photo_is_mirrored():
    before = sample([[[30, 30], [20, 50], [40, 50]]], [[2, 1, 1]])
    before = replace(
        before,
        weight=np.array([[1, 0.4, 0.7]], np.float32),
        teacher_xy=before.xy + 1,
        teacher_score=np.array([[0.9, 0.4, 0.7]], np.float32),
    )
    after = move_sample(before, mirror(100), SIZE, flipped=True)
    assert after.weight.tolist() == pytest.approx(np.array([[1, 0.7, 0.4]]))
    assert after.xy[0, 1].tolist() == [60, 50]  # the right hand's place, mirrored
    assert after.teacher_xy[0].tolist() == transform(mirror(100), before.teacher_xy[0])[[0, 2, 1]].tolist()
    assert after.teacher_score.tolist() == pytest.approx(np.array([[0.9, 0.7, 0.4]]))


@pytest.mark.parametrize("changes", [{"weight": np.ones((1, 2))}, {"teacher_xy": np.ones((1, 3))}])
def test_weights_of_another_shape_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        sample([[[30, 30]] * 3], [[2, 2, 2]], **changes)


CODEC = MoveNetCodec(input_size=(128, 128), joints=3, sigma_range=(1.0, 1.0))


def encoded(weights, xy=((40, 40), (24, 80), (88, 80)), people=1, **options):
    xy = np.array([xy] * people, np.float32)
    visibility = np.full(xy.shape[:2], 2, np.int8)
    weight = None if weights is None else np.array([weights] * people, np.float32)
    return CODEC.encode(xy, visibility, joint_weight=weight, **options)


def test_full_weights_change_nothing():
    box = np.array([[10, 10, 110, 110]], np.float32)
    plain, full = encoded(None, box_xyxy=box), encoded([1, 1, 1], box_xyxy=box)
    assert all(plain[name].tobytes() == full[name].tobytes() for name in plain)


def test_a_weight_scales_the_curve_the_offset_and_the_regression_of_its_joint_alone():
    plain, maps = encoded(None), encoded([1, 0.4, 1])
    for name in ("center", "heatmap", "regression", "offset", "center_weight"):
        assert np.array_equal(plain[name], maps[name]), name
    assert maps["heatmap_weight"][1, 20, 6] == np.float32(0.4)
    assert maps["offset_weight"][1, 20, 6] == np.float32(0.4)
    row, column = np.argwhere(maps["center"][0] == 1)[0]
    assert maps["regression_weight"][:, row, column].tolist() == pytest.approx([1, 0.4, 1])
    for joint in (0, 2):
        for name in ("heatmap_weight", "offset_weight", "regression_weight"):
            assert np.array_equal(plain[name][joint], maps[name][joint])


def test_where_a_joint_is_not_is_no_surer_than_where_it_is():
    maps = encoded([1, 0.4, 0.1])
    assert maps["heatmap_weight"][1, 15, 14] == np.float32(0.4)  # elsewhere in the person's box
    assert maps["heatmap_weight"][2, 15, 14] == np.float32(CODEC.unlabelled_weight)  # as without a label
    assert maps["heatmap_weight"][1, 30, 30] == 1  # outside of it


def test_of_two_curves_the_higher_one_says_how_much_it_counts():
    xy = np.array([[(40, 40), (24, 80), (88, 80)], [(48, 40), (24, 100), (88, 100)]], np.float32)  # noses 2 cells apart
    weight = np.array([[1, 1, 1], [0.4, 1, 1]], np.float32)
    maps = CODEC.encode(xy, np.full((2, 3), 2, np.int8), joint_weight=weight)
    assert maps["heatmap_weight"][0, 10, 10] == 1 and maps["heatmap_weight"][0, 10, 12] == np.float32(0.4)


def test_somebody_whom_only_a_teacher_saw_is_as_sure_as_their_surest_joint():
    maps = encoded([0.3, 0.6, 0.5])
    assert maps["center_weight"][0][maps["center"][0] == 1].tolist() == pytest.approx([0.6])
    assert encoded([1, 0.6, 0.5])["center_weight"].min() == 1


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def teach(tmp_path, monkeypatch):
    """Runs `data label` with FakeTeacher on 240 photos: all noses right, so that the nose is judged at .9."""
    monkeypatch.setitem(teacher_package.KINDS, "pose", f"{__name__}:FakeTeacher")
    monkeypatch.chdir(tmp_path)
    Path("scores.fake").write_text("[0.9, 0.92, 0.3]")
    label_file(Path("data"), photos=240)

    def call(*arguments, teacher="scores.fake", out="out"):
        return run(["data", "label", "data", "--split", "train", "--teacher", teacher, "--out", out, *arguments])

    return call


def test_the_command_writes_labels_a_report_and_a_sheet(teach, capsys):
    assert teach("--pictures", "3", "--joints-for-all") == 0
    printed = capsys.readouterr().out
    samples = read_dataset("out", split="train")
    assert len(samples) == 240 and sum((s.weight < 1).sum() for s in samples) == 239
    assert all(s.teacher_xy is not None for s in samples)
    report = json.loads(Path("out/labelling_train.report.json").read_text())
    assert report["thresholds"]["nose"]["score"] == 0.9 and report["thresholds"]["left_hand"]["score"] == 0.9
    assert report["joints"]["left_hand"] == {"human": 1, "teacher": 239, "both": 240}
    assert report["labels"] == "data/train" and report["teacher"]["name"] == "fake"
    assert report["reliability"][0] | {"mean_score": 0} == {
        "from": 0.9, "to": 1.0, "joints": 241, "mean_score": 0, "within_0.1_box": 1.0, "right": 1.0,
    }  # fmt: skip
    assert "| left_hand | 1 |" in printed and Path("out/labelling_train.report.md").read_text() in printed
    assert Image.open("out/labelling_train.sheet.png").size[0] > 900
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


def test_other_thresholds_need_no_second_look(teach, monkeypatch, capsys):
    assert teach("--out", "o", "--pictures", "0") == 0
    monkeypatch.setattr(FakeTeacher, "look", None)
    assert teach("--out", "o", "--pictures", "0", "--right-share", "1", "--limit", "200") == 0
    report = json.loads(Path("o/labelling_train.report.json").read_text())
    assert report["right_share"] == 1 and report["photos"] == 200


def test_thresholds_of_another_set_are_used_for_joints_that_this_one_does_not_label(teach, capsys):
    assert teach("--pictures", "0") == 0
    Path("given.json").write_text(
        json.dumps({"thresholds": {"left_hand": {"score_of_all": 0.95}, "right_hand": {"score_of_all": 0.2}}})
    )
    assert teach("--pictures", "0", "--thresholds", "given.json") == 0
    samples = read_dataset("out", split="train")
    assert samples[1].visibility[0].tolist() == [2, 0, 1]


def test_unreadable_photos_are_told_by_the_exit_code(teach, capsys):
    Path("data/train/3.png").write_bytes(b"no picture")
    assert teach("--pictures", "0") == 1
    assert "skipped: data/train/3.png" in capsys.readouterr().err
    assert read_dataset("out", split="train")[3].visibility[0].tolist() == [2, 0, 0]


BAD_CALLS = {
    "unknown kind": (["--teacher-kind", "heatmaps"], "did you mean 'heatmap'"),
    "unknown skeleton": (["--skeleton", "coco18"], "did you mean 'coco17'"),
    "onto itself": (["--out", "data"], "overwrite the labels"),
    "no report": (["--thresholds", "data/person_keypoints_train.json"], "not the report of a labelling run"),
    "no boxes": (["--boxes", "scores.fake"], "every box needs"),
    "no photos": (["--photos", "out-of-town"], "none of its 240 photos"),
    "no such model": (["--teacher", "none.onnx"], "none.onnx"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_gives_one_sentence_and_writes_nothing(teach, capsys, name):
    arguments, said = BAD_CALLS[name]
    assert teach(*arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and said in error
    assert not Path("out").exists()


def test_labels_of_a_teacher_are_not_taken_for_a_humans(teach, capsys):
    assert teach("--pictures", "0") == 0
    capsys.readouterr()
    assert run(["data", "label", "out", "--teacher", "scores.fake", "--out", "again"]) == 1
    assert "start from the human ones" in capsys.readouterr().err

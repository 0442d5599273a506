"""Samples: shapes are checked, the target is the person in the middle, joints move between skeletons by name."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.data.sample import UNKNOWN, Sample, nearest_to_middle, to_skeleton
from featherpose.skeletons import COCO17, LSP14, Skeleton

PAIR = Skeleton(name="pair", joints=("left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),))


def make_sample(persons=1, skeleton=PAIR, **changes):
    joints = len(skeleton)
    facts = {
        "photo": Path("p.jpg"),
        "size_wh": (100, 80),
        "skeleton": skeleton,
        "xy": np.arange(persons * joints * 2, dtype=np.float32).reshape(persons, joints, 2),
        "visibility": np.full((persons, joints), 2, np.int8),
        "box_xyxy": np.tile(np.array([10, 10, 20, 30], np.float32), (persons, 1)),
        "area": np.full(persons, 200, np.float32),
        "target": 0 if persons else -1,
        "photo_id": "p",
    }
    return Sample(**{**facts, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"xy": np.zeros((1, 3, 2))},
        {"visibility": np.zeros((2, 2))},
        {"box_xyxy": np.zeros((1, 2))},
        {"area": np.zeros(2)},
        {"target": 1},
        {"target": -2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_sample_with_wrong_shapes_is_refused_with_its_photo(changes):
    with pytest.raises(ValueError, match=r"p\.jpg"):
        make_sample(**changes)


def test_the_target_is_the_box_whose_centre_is_nearest_the_middle():
    boxes = np.array([[0, 0, 10, 10], [40, 30, 60, 50], [80, 60, 100, 80]], np.float32)
    assert nearest_to_middle(boxes, (100, 80)) == 1
    assert nearest_to_middle(boxes[[0, 2, 1]], (100, 80)) == 2
    assert nearest_to_middle(boxes[:0], (100, 80)) == -1


def test_the_target_box_holds_the_labelled_box_and_the_joints_outside_it():
    xy = np.array([[[5, 15], [np.nan, np.nan]]], np.float32)
    sample = make_sample(xy=xy, visibility=np.array([[2, 0]], np.int8))
    assert sample.target_box().tolist() == [5, 10, 20, 30]


def test_an_empty_photo_has_no_target_box():
    with pytest.raises(ValueError, match="nobody"):
        make_sample(persons=0).target_box()


def test_lsp_on_coco_moves_joints_by_name_and_leaves_the_face_unknown():
    sample = to_skeleton(make_sample(persons=2, skeleton=LSP14), COCO17)
    for person in range(2):
        for joint, name in enumerate(COCO17.joints):
            if name in LSP14.joints:
                place = 28 * person + 2 * LSP14.index(name)
                assert sample.xy[person, joint].tolist() == [place, place + 1], name
                assert sample.visibility[person, joint] == 2
            else:
                assert name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
                assert np.isnan(sample.xy[person, joint]).all() and sample.visibility[person, joint] == UNKNOWN


def test_a_joint_that_is_unlabelled_stays_unlabelled_and_does_not_become_unknown():
    xy = np.full((1, 14, 2), np.nan, np.float32)
    sample = make_sample(skeleton=LSP14, xy=xy, visibility=np.zeros((1, 14), np.int8))
    mapped = to_skeleton(sample, COCO17)
    assert mapped.visibility[0, COCO17.index("left_hip")] == 0
    assert mapped.visibility[0, COCO17.index("nose")] == UNKNOWN

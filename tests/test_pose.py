"""Poses: validated when made, plain numbers for JSON."""

import json

import numpy as np
import pytest

from featherpose.pose import Pose
from featherpose.skeletons import COCO17, Skeleton

PAIR = Skeleton("pair", ("left_hand", "right_hand"))


def test_lists_become_float32_arrays():
    pose = Pose([[1, 2], [3, 4]], [0.5, 1], PAIR, pose_score=np.float32(0.25), box_xyxy=[0, 0, 10, 20])
    assert (pose.xy.dtype, pose.score.dtype, pose.box_xyxy.dtype) == (np.float32,) * 3
    assert pose.xy.tolist() == [[1, 2], [3, 4]]
    assert type(pose.pose_score) is float
    assert pose.box_xyxy.tolist() == [0, 0, 10, 20]


def test_joints_may_lie_outside_the_picture():
    assert Pose([[-50, 2], [3, 9000]], [0.5, 1], PAIR).xy[0, 0] == -50


@pytest.mark.parametrize(
    ("xy", "score"),
    [
        (np.zeros((3, 2)), np.zeros(2)),
        (np.zeros((2, 3)), np.zeros(2)),
        (np.zeros((2, 2)), np.zeros(3)),
        (np.zeros((1, 2, 2)), np.zeros((1, 2))),
    ],
    ids=["joints", "a third coordinate", "scores", "a batch"],
)
def test_wrong_shapes_are_refused_with_the_skeleton(xy, score):
    with pytest.raises(ValueError, match=r"skeleton 'pair' needs xy \(2, 2\) and score \(2,\), got"):
        Pose(xy, score, PAIR)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["xy", "score", "pose_score", "box_xyxy"])
def test_what_is_not_a_number_is_refused(bad, where):
    facts = {"xy": np.zeros((2, 2)), "score": np.zeros(2), "pose_score": 0.5, "box_xyxy": np.zeros(4)}
    if where == "pose_score":
        facts[where] = bad
    else:
        facts[where].flat[1] = bad
    with pytest.raises(ValueError, match="not a number"):
        Pose(skeleton=PAIR, **facts)


def test_to_dict_is_plain_and_rounded():
    pose = Pose([[1.23456, 2], [3, -4.5678]], [0.12345, 1], PAIR, pose_score=0.98765, box_xyxy=(0, 1, 2.999, 4))
    facts = json.loads(json.dumps(pose.to_dict()))
    assert facts == {
        "pose_score": 0.988,
        "box_xyxy": [0, 1, 3, 4],
        "joints": {
            "left_hand": {"x": 1.23, "y": 2, "score": 0.123},
            "right_hand": {"x": 3, "y": -4.57, "score": 1},
        },
    }


def test_to_dict_without_a_box_has_every_joint_in_order():
    facts = Pose(np.zeros((17, 2)), np.zeros(17), COCO17).to_dict()
    assert facts["box_xyxy"] is None
    assert list(facts["joints"]) == list(COCO17.joints)

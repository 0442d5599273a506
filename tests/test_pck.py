"""PCK by named lengths, pixel errors, calibration and the saturation warning, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featherpose.metrics.calibration import auc, reliability
from featherpose.metrics.pck import NORMALISERS, error_at_160, hits
from featherpose.metrics.saturation import saturation_warning
from featherpose.metrics.truth import Truth, distances, mean
from featherpose.skeletons import Skeleton

TRUNK = Skeleton(
    "trunk",
    ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
    sigmas=(0.05,) * 5,
)
# Left shoulder to right hip: (48, 64), 80 px. Longer side of the box: 128 px. Crop: 160 px.
XY = np.array([[80, 16], [112, 48], [48, 48], [96, 112], [64, 112]], float)
RADIUS = {
    "px5_at_160": 5.0,
    "torso_0.05": 4.0,
    "torso_0.1": 8.0,
    "torso_0.2": 16.0,
    "box_0.05": 6.4,
    "box_0.1": 12.8,
    "box_0.2": 25.6,
    "head_0.5": 10.0,
}


def person(xy=XY, *, scale=1.0, skeleton=TRUNK, visibility=None, head=20.0) -> Truth:
    xy = np.asarray(xy, float)[None] * scale
    return Truth(
        skeleton,
        xy,
        np.where(np.isfinite(xy).all(axis=2), 2, 0) if visibility is None else np.array([visibility]),
        np.array([[16, 16, 144, 100]], float) * scale,
        area=np.ones(1),
        crop_side=np.array([160.0 * scale]),
        head_size=None if head is None else np.array([head * scale]),
    )


def test_every_normaliser_has_a_radius_here():
    assert set(NORMALISERS) == set(RADIUS)


@pytest.mark.parametrize("name", NORMALISERS)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_joints_inside_the_radius_are_right_and_outside_are_wrong(name, scale):
    truth = person(scale=scale)
    inside = truth.xy + np.array([0.6, -0.8]) * RADIUS[name] * scale * 0.999
    outside = truth.xy + np.array([0.6, -0.8]) * RADIUS[name] * scale * 1.001
    assert (hits(inside, truth, name) == 1).all()
    assert (hits(outside, truth, name) == 0).all()


def test_the_border_counts_as_inside():
    assert (hits(person().xy + np.array([4, 0]), person(), "torso_0.05") == 1).all()


def test_a_radius_is_no_squared_distance():
    # 5 / 160 of the crop compared with a squared distance would let 31 px of 192 pass: 26 px here
    assert (hits(person().xy + np.array([20, 0]), person(), "px5_at_160") == 0).all()


def test_swapped_sides_are_wrong():
    swapped = person().xy[:, TRUNK.flip_index()]
    assert hits(swapped, person(), "box_0.2")[0].tolist() == [1, 0, 0, 0, 0]


def test_unlabelled_joints_never_count():
    xy = XY.copy()
    xy[0] = np.nan
    for nonsense in (0.0, 999.0, np.nan):
        pred = XY.copy()
        pred[0] = nonsense
        hit = hits(pred[None], person(xy), "px5_at_160")
        assert np.isnan(hit[0, 0]) and mean(hit) == 1
        assert np.isnan(distances(pred[None], person(xy))[0, 0])


@pytest.mark.parametrize("visibility", [-1, 0])
def test_joints_without_visibility_never_count(visibility):
    truth = person(visibility=[visibility, 1, 2, 2, 2])
    assert np.isnan(hits(truth.xy, truth, "box_0.1")[0, 0])
    assert mean(hits(truth.xy, truth, "box_0.1")) == 1


def test_a_joint_that_was_not_found_is_a_miss():
    pred = XY.copy()
    pred[2] = np.nan
    assert hits(pred[None], person(), "box_0.2")[0].tolist() == [1, 1, 0, 1, 1]
    assert error_at_160(pred[None], person())[0, 2] == np.inf


def test_torso_needs_all_four_joints():
    xy = XY.copy()
    xy[2] = np.nan  # the right shoulder, which the length itself does not use
    assert np.isnan(hits(XY[None], person(xy), "torso_0.2")).all()
    assert mean(hits(XY[None], person(xy), "box_0.2")) == 1


def test_a_skeleton_without_a_torso_has_no_torso_figure():
    hands = Skeleton("hands", ("left_hand", "right_hand"))
    truth = person(XY[:2], skeleton=hands)
    assert math.isnan(mean(hits(truth.xy, truth, "torso_0.2")))
    assert mean(hits(truth.xy, truth, "box_0.2")) == 1


def test_head_needs_a_head_size():
    assert np.isnan(hits(XY[None], person(head=None), "head_0.5")).all()
    assert np.isnan(hits(XY[None], person(head=np.nan), "head_0.5")).all()


def test_an_unknown_normaliser_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'torso_0\.2'"):
        hits(XY[None], person(), "torso_02")


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_errors_are_given_at_a_crop_of_160(scale):
    truth = person(scale=scale)
    assert error_at_160(truth.xy + np.array([3, 4]) * scale, truth) == pytest.approx(np.full((1, 5), 5.0))


def test_means_leave_out_what_is_unknown():
    values = np.array([[1, np.nan], [0, np.nan]])
    assert mean(values) == 0.5
    assert mean(values, axis=0)[0] == 0.5 and np.isnan(mean(values, axis=0)[1])
    assert math.isnan(mean(np.array([np.nan])))


# --- calibration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "score", "right", "expected"),
    [
        ("perfect", [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ("upside down", [0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ("three of four pairs in order", [0.1, 0.6, 0.5, 0.9], [0, 0, 1, 1], 0.75),
        ("ties count half", [0.5, 0.5, 0.5], [0, 1, 1], 0.5),
        ("a tie among order", [0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1], 3.5 / 4),
    ],
)
def test_auc_by_hand(name, score, right, expected):
    assert auc(np.array(score), np.array(right)) == pytest.approx(expected)


def test_auc_is_unknown_when_all_are_right():
    assert math.isnan(auc(np.array([0.1, 0.9]), np.array([1, 1])))


def test_reliability_by_hand():
    rows = reliability(np.array([0.05, 0.81, 0.85, 0.89, 1.0]), np.array([0, 1, 1, 0, 1]))
    assert [(row["from"], row["count"]) for row in rows] == [(0.0, 1), (0.8, 3), (0.9, 1)]
    assert rows[1]["mean_score"] == pytest.approx(0.85) and rows[1]["share_right"] == pytest.approx(2 / 3)


# --- saturation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "figures", "said", "unsaid"),
    [
        ("saturated", {"torso_0.2": 0.985, "torso_0.05": 0.7, "AR": 0.8}, ["torso_0.2 0.985", "judge by AR 0.800"], []),
        ("strict one saturated too", {"AR": 0.98, "AR75": 0.9}, ["AR 0.980", "judge by AR75"], ["judge by AR 0"]),
        ("far apart", {"box_0.2": 0.9, "box_0.05": 0.3}, ["box_0.2 0.900 against box_0.05 0.300"], ["cannot tell"]),
        ("all of them", {"AR": 1.0, "AR50": 1.0}, ["harder photos"], []),
    ],
)
def test_the_warning_names_what_is_saturated_and_what_to_judge_by(name, figures, said, unsaid):
    sentence = saturation_warning(figures)
    assert sentence is not None and "\n" not in sentence
    assert all(part in sentence for part in said) and not any(part in sentence for part in unsaid)


@pytest.mark.parametrize(
    "figures",
    [
        {"AR": 0.47, "AR50": 0.75, "px5_at_160": 0.52, "torso_0.05": 0.25, "torso_0.2": 0.70, "box_0.2": 0.84},
        {"AR": None, "torso_0.2": float("nan")},
        {},
    ],
)
def test_no_warning_without_reason(figures):
    assert saturation_warning(figures) is None

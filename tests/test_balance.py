"""Groups of poses: the same shape wherever it stands, with gaps or mirrored, is one group; rare groups are drawn more often."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.data.balance import MOST, PoseGroups, balance_report, balanced_weights, draw_weighted, group_poses
from featherpose.data.loader import Part, epoch_order
from featherpose.data.sample import Sample
from featherpose.skeletons import COCO17

STANDING = np.array([
    (50, 10), (53, 8), (47, 8), (56, 9), (44, 9), (62, 25), (38, 25), (68, 40), (32, 40), (70, 55), (30, 55), (58, 60),
    (42, 60), (58, 85), (42, 85), (58, 110), (42, 110),
], np.float32)  # fmt: skip
LYING = STANDING[:, ::-1].copy()
ARMS_UP = STANDING.copy()
ARMS_UP[[7, 8, 9, 10]] = [(70, 10), (30, 10), (72, -10), (28, -10)]


def sample_of(xy, target=0):
    xy = np.asarray(xy, np.float32)[None]
    return Sample(
        photo=Path("p.png"), size_wh=(200, 200), skeleton=COCO17, xy=xy,
        visibility=np.where(np.isfinite(xy[..., 0]), 2, 0).astype(np.int8), box_xyxy=np.array([[0, 0, 99, 99]], np.float32),
        area=np.array([900], np.float32), target=target, photo_id="p",
    )  # fmt: skip


def crowd(counts=(60, 20, 10), seed=0):
    """People standing, lying and with their arms up, of all sizes and places, a little different, some joints missing."""
    rng = np.random.default_rng(seed)
    samples, kinds = [], []
    for kind, (pose, count) in enumerate(zip((STANDING, LYING, ARMS_UP), counts, strict=True)):
        for _ in range(count):
            xy = (pose + rng.normal(0, 1.5, pose.shape)) * rng.uniform(0.3, 3) + rng.uniform(0, 100, 2)
            if rng.random() < 0.5:  # mirrored
                xy = (xy * (-1, 1))[COCO17.flip_index()]
            xy[rng.permutation(17)[: rng.integers(0, 6)]] = np.nan
            samples.append(sample_of(xy))
            kinds.append(kind)
    return samples, np.array(kinds)


def test_the_same_shape_is_one_group():
    samples, kinds = crowd()
    groups = group_poses(samples, groups=3)
    assert np.mean(groups.group == kinds) > 0.95  # the largest first
    assert np.array_equal(groups.group, group_poses(samples, groups=3).group)


def test_mean_poses_have_the_shape_of_their_group():
    samples, _ = crowd((60, 20, 10))
    centre = group_poses(samples, groups=3).centre
    assert centre.shape == (3, 17, 2)
    assert np.abs(centre.mean(axis=1)).max() < 1e-9
    expected = STANDING - STANDING.mean(axis=0)
    expected /= np.sqrt((expected**2).sum(axis=1).mean())
    assert min(np.abs(centre[0] - e).max() for e in (expected, (expected * (-1, 1))[COCO17.flip_index()])) < 0.1


def test_who_shows_no_pose_is_in_no_group():
    few = STANDING.copy()
    few[5:] = np.nan
    dot = np.zeros((17, 2))
    samples = [*crowd()[0], sample_of(few), sample_of(dot), sample_of(STANDING, target=-1)]
    assert group_poses(samples, groups=3).group[-3:].tolist() == [-1, -1, -1]
    assert group_poses(samples[-3:]).count.tolist() == []
    assert group_poses([]).group.shape == (0,)


def test_few_photos_make_few_groups():
    samples, _ = crowd((9, 0, 0))
    assert len(group_poses(samples).centre) == 1
    with pytest.raises(ValueError, match="at least 1, got 0"):
        group_poses(samples, groups=0)


def groups_of(*counts):
    group = np.repeat(np.arange(len(counts)), counts)
    return PoseGroups(np.concatenate([group, [-1]]), np.zeros((len(counts), 17, 2)), COCO17)


@pytest.mark.parametrize(("balance", "shares"), [(0, (90, 10)), (1, (50, 50)), (0.5, (75, 25))])
def test_balance_makes_groups_alike(balance, shares):
    """Of 100 photos 90 and 10: with .5 in proportion to the roots, 3 to 1. The one without a group stays 1."""
    groups = groups_of(90, 10)
    weight = balanced_weights(groups, balance)
    assert weight[-1] == 1 and weight.mean() == pytest.approx(1)
    assert [weight[groups.group == g].sum() for g in (0, 1)] == pytest.approx(shares)


def test_no_photo_is_drawn_too_often():
    groups = groups_of(980, 18, 2)
    weight = balanced_weights(groups, 1)
    assert weight.max() == MOST and weight.mean() == pytest.approx(1)
    report = balance_report(groups, 1)
    assert report["groups"][2]["times"] == MOST and report["without_group"] == 1
    assert sum(row["share_after"] for row in report["groups"]) == pytest.approx(1000 / 1001, abs=1e-4)


@pytest.mark.parametrize("count", [1, 7, 100, 1000])
def test_drawing_keeps_to_the_weights(count):
    weight = np.array([0.2, 1, 1, 3.8])
    drawn = np.bincount(draw_weighted(weight, count, np.random.default_rng(count)), minlength=4)
    assert drawn.sum() == count
    assert np.abs(drawn - count * weight / weight.sum()).max() <= 1


def test_an_epoch_of_balanced_poses_is_as_long_and_shows_rare_ones_more_often():
    samples, kinds = crowd((90, 9, 9))
    plain, balanced = Part(samples, 1.5), Part(samples, 1.5, balance=1)
    order = epoch_order([balanced], seed=0, epoch=0)
    assert len(order) == plain.seen == balanced.seen == len(epoch_order([plain], seed=0, epoch=0))
    shares = np.bincount(kinds[order[:, 1]], minlength=3) / len(order)
    assert shares[0] < 0.75 and min(shares[1:]) > 0.11  # .83 and .08 before
    assert np.array_equal(order, epoch_order([balanced], seed=0, epoch=0))
    assert not np.array_equal(order, epoch_order([balanced], seed=0, epoch=1))


def test_without_balance_every_photo_comes_once():
    samples, _ = crowd((20, 0, 0))
    order = epoch_order([Part(samples)], seed=3, epoch=1)
    assert sorted(order[:, 1].tolist()) == list(range(20)) and Part(samples, balance=0.0).weight is None

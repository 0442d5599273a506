"""The MoveNet codec: decoding undoes encoding, and every number of the targets is as computed by hand."""

import numpy as np
import pytest
from golden.make import naive_decode, noise

from featherpose.codecs import CODECS, build_codec
from featherpose.codecs.movenet import CUT_EXPONENT, MAPS, MoveNetCodec
from featherpose.geometry import (
    compose,
    crop_map,
    flip_joints,
    invert,
    mirror,
    rotation,
    scaling,
    square_around,
    transform,
    translation,
)
from featherpose.skeletons import COCO17, Skeleton

NAN = np.nan
CLOSE = 1e-4
"""Pixels: float32 offsets times the stride."""


def person(*points):
    """(1, K, 2) joints and (1, K) visibility 2; None is an unlabelled joint."""
    xy = np.array([[(NAN, NAN) if point is None else point for point in points]], np.float32)
    return xy, np.where(np.isfinite(xy[:, :, 0]), 2, 0).astype(np.int8)


def people(*persons):
    xy, visibility = zip(*persons, strict=True)
    return np.concatenate(xy), np.concatenate(visibility)


def random_person(rng, codec, joints=None):
    """(1, K, 2) joints anywhere inside the input, (1, K) visibility."""
    xy = rng.uniform(0, 1, (1, joints or codec.joints, 2)) * codec.input_size
    return xy.astype(np.float32), np.full(xy.shape[:2], 2, np.int8)


# --- decode(encode(x)) == x ----------------------------------------------------------------------------------------

CODEC_CASES = {
    "plain": {},
    "exponential": {"curve": "exponential"},
    "on the joint": {"subcell": True},
    "on the joint, exponential": {"subcell": True, "curve": "exponential"},
    "mean": {"center": "mean"},
    "one joint": {"joints": 1},
    "three joints": {"joints": 3},
    "wide": {"input_size": (160, 96)},
    "high": {"input_size": (96, 192), "center": "mean", "center_sigma": 1.0},
    "stride 8": {"stride": 8, "input_size": (192, 160)},
    "stride 2": {"stride": 2, "input_size": (64, 96), "curve": "exponential"},
    "stride 1": {"stride": 1, "input_size": (40, 24), "joints": 5},
    "votes of 9 cells": {"vote_radius": 1},
    "votes of 25 cells": {"vote_radius": 2, "offset_radius": 2},
    "no surroundings": {"regression_radius": 0, "offset_radius": 0},
    "wide surroundings": {"regression_radius": 4, "offset_radius": 3},
    "wide curves": {"sigma_scale": 0.2, "sigma_range": (1, 6)},
    "narrow curves": {"sigma_range": (0.3, 0.5), "center_sigma": 1.0},
}


@pytest.mark.parametrize("name", CODEC_CASES)
def test_decode_inverts_encode(name):
    codec = MoveNetCodec(**{"input_size": (96, 96), "joints": 17, **CODEC_CASES[name]})
    rng = np.random.default_rng(1)
    for _ in range(20):
        xy, visibility = random_person(rng, codec)
        found, score, pose_score = codec.decode(codec.encode(xy, visibility))
        assert np.abs(found - xy[0]).max() < CLOSE
        assert 0.3 < pose_score <= 1  # read between the peak and the focus
        if not codec.subcell:
            assert (score == 1).all()


@pytest.mark.parametrize("subcell", [False, True])
@pytest.mark.parametrize("curve", ["gaussian", "exponential"])
def test_decode_inverts_encode_at_the_borders_of_cells_and_picture(curve, subcell):
    """Corners of cells, the first and the last position inside the picture."""
    codec = MoveNetCodec((64, 96), 6, curve=curve, subcell=subcell)
    last = np.nextafter(np.float32(64), 0), np.nextafter(np.float32(96), 0)
    xy, visibility = person((0, 0), last, (0, last[1]), (32, 48), (3.9999, 4.0001), (60, 0.5))
    found, _, _ = codec.decode(codec.encode(xy, visibility))
    assert np.abs(found - xy[0]).max() < CLOSE


def spread_people(rng, codec, count, gap=5):
    """People whose middles, and whose joints of the same kind, are `gap` cells apart."""
    grid = np.array(codec.grid)
    while True:
        middles = rng.uniform(0.15, 0.85, (count, 2)) * grid
        xy = middles[:, None] + rng.normal(0, 4, (count, codec.joints, 2))
        xy = np.clip(xy, 0.01, grid - 0.01)
        centres = (xy.min(axis=1) + xy.max(axis=1)) / 2
        groups = np.concatenate([xy.transpose(1, 0, 2), centres[None]])  # (K + 1, P, 2)
        distance = np.linalg.norm(groups[:, :, None] - groups[:, None], axis=3)
        distance[:, np.arange(count), np.arange(count)] = np.inf
        if distance.min() > gap:
            return (xy * codec.stride).astype(np.float32), centres * codec.stride


@pytest.mark.parametrize("curve", ["gaussian", "exponential"])
@pytest.mark.parametrize("center", ["box", "mean"])
def test_of_several_people_the_one_nearest_the_focus_is_found(curve, center):
    codec = MoveNetCodec((192, 160), 4, curve=curve, center=center)
    rng = np.random.default_rng(2)
    for _ in range(15):
        xy, middles = spread_people(rng, codec, 3)
        maps = codec.encode(xy, np.full(xy.shape[:2], 2, np.int8))
        for wanted in range(3):
            middle = xy[wanted].mean(axis=0) if center == "mean" else middles[wanted]
            found, _, _ = codec.decode(maps, focus_xy=tuple(middle))
            assert np.abs(found - xy[wanted]).max() < CLOSE


def test_without_a_focus_the_person_in_the_middle_is_found():
    codec = MoveNetCodec((96, 96), 2)
    left, middle, right = (person((x - 5, 40), (x + 5, 60)) for x in (10, 50, 86))
    maps = codec.encode(*people(left, right, middle))
    for focus, wanted in ((None, middle), ((0, 50), left), ((95, 50), right), ((-500, 50), left), ((48, 48), middle)):
        assert codec.decode(maps, focus)[0] == pytest.approx(wanted[0][0], abs=CLOSE)


def test_joints_outside_the_picture_are_expected_there_but_drawn_nowhere():
    codec = MoveNetCodec((64, 64), 3)
    xy, visibility = person((10.5, 20.25), (50, 41), (-12, 70))
    maps = codec.encode(xy, visibility)
    assert not maps["heatmap"][2].any()
    assert not maps["offset_weight"][2].any()
    cy, cx = np.argwhere(maps["center"][0] == 1)[0]
    assert (cx, cy) == (7, 7)  # the middle (30.25, 30.625) of the joints inside
    assert maps["regression_weight"][2, cy, cx] == 1
    assert maps["regression"][2, :, cy, cx].tolist() == [-3 - 0.5 - 7, 17.5 - 0.5 - 7]
    found, score, _ = codec.decode(maps)
    assert np.abs(found[:2] - xy[0, :2]).max() < CLOSE
    assert score[2] == 0


def test_votes_by_hand():
    codec = MoveNetCodec((48, 48), joints=1, vote_radius=1)
    shapes = {"center": (1,), "heatmap": (1,), "regression": (1, 2), "offset": (1, 2)}
    maps = {name: np.zeros((*shape, 12, 12), np.float32) for name, shape in shapes.items()}
    maps["center"][0, 6, 6] = 1
    maps["heatmap"][0, 6, 6], maps["heatmap"][0, 6, 7], maps["heatmap"][0, 3, 3] = 0.9, 0.3, 0.5  # the last is too far
    maps["offset"][0, 0, 6, 6], maps["offset"][0, 0, 6, 7] = 0.25, -0.5
    xy, score, _ = codec.decode(maps)
    # weights .81 and .09: x = (.81 * 6.25 + .09 * 6.5) / .9 = 6.275 cells, y = 6
    assert xy.tolist() == [[pytest.approx(4 * 6.275, abs=1e-3), pytest.approx(24, abs=1e-3)]]
    assert score.tolist() == [pytest.approx(0.9)]


def test_tops_of_curves_that_stand_on_the_joint_are_the_joints():
    codec = MoveNetCodec((96, 96), 17, subcell=True, refine="dark", sigma_range=(1.0, 1.0))
    rng = np.random.default_rng(2)
    for _ in range(20):
        xy = rng.uniform(8, 88, (1, 17, 2)).astype(np.float32)
        maps = codec.encode(xy, np.full((1, 17), 2, np.int8))
        maps["offset"][:] = np.nan  # is not read
        found, _, _ = codec.decode(maps)
        assert np.abs(found - xy[0]).max() < 2e-3


def test_tops_by_hand():
    codec = MoveNetCodec((48, 48), joints=4, refine="dark")
    maps = codec.encode(np.zeros((0, 4, 2)), np.zeros((0, 4), np.int8))
    maps = {name: maps[name] for name in ("center", "heatmap", "regression", "offset")}
    maps["center"][0, 6, 6] = 1
    maps["heatmap"][0, 6, 5:8], maps["heatmap"][0, 5, 6], maps["heatmap"][0, 7, 6] = (0.1, 0.8, 0.4), 0.4, 0.4
    maps["heatmap"][1, 6, 11], maps["heatmap"][1, 5, 11] = 0.8, 0.4  # at the rim: no neighbour to the right, one above
    maps["heatmap"][2] = 0.3
    maps["heatmap"][3, 6, 6:8] = 0.8, 0.79999  # nearly as high beside it: no more than a cell away
    found, score, _ = codec.decode(maps)
    # ln 8 and ln 2 below the best: (ln .4 - ln .1) / 2 (ln 8 + ln 2) = ln 4 / 2 ln 16 = .25 to the right; level in y
    assert found[0] == pytest.approx([4 * 6.75, 4 * 6.5], abs=1e-3)
    assert found[1, 0] == pytest.approx(4 * 11.5) and found[1, 1] == pytest.approx(4 * (6.5 - _rise(0.8, 0.4, 1e-6)), abs=1e-3)
    assert (found[2] % 4 == 2).all(), "a flat map: the middle of a cell"
    assert score.tolist() == [pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.3), pytest.approx(0.8)]
    assert found[3, 0] == pytest.approx(4 * 7, abs=1e-2) and found[3, 1] == pytest.approx(4 * 6.5)


def _rise(best, one, other):
    """How far the top lies from the best cell's middle towards the higher neighbour."""
    return np.log(one / other) / (2 * np.log(best**2 / (one * other)))


@pytest.mark.parametrize(("x", "y"), [(64, 10), (10, 64), (-0.001, 10), (10, -0.001)])
def test_the_far_edge_is_outside_and_the_near_edge_inside(x, y):
    codec = MoveNetCodec((64, 64), 2)
    maps = codec.encode(*person((30, 30), (x, y)))
    assert not maps["heatmap"][1].any()
    assert maps["heatmap"][0].max() == 1


def test_someone_wholly_outside_leaves_no_trace():
    codec = MoveNetCodec((64, 64), 2)
    maps = codec.encode(*person((-30, -30), (-20, 100)))
    for name in ("center", "heatmap", "regression", "regression_weight", "offset_weight"):
        assert not maps[name].any()


def test_unlabelled_joints_are_left_out_of_the_middle_and_the_others_are_found():
    codec = MoveNetCodec((96, 96), 4)
    xy, visibility = person((20.7, 30.1), None, (60.3, 80.9), None)
    found, score, _ = codec.decode(codec.encode(xy, visibility))
    assert np.abs(found[[0, 2]] - xy[0, [0, 2]]).max() < CLOSE
    assert score.tolist() == [1, 0, 1, 0]


def test_a_coordinate_without_visibility_is_not_used():
    codec = MoveNetCodec((96, 96), 2)
    xy = np.array([[[20, 20], [70, 70]]], np.float32)
    maps = codec.encode(xy, np.array([[2, 0]], np.int8))
    assert not maps["heatmap"][1].any()
    assert np.argwhere(maps["center"][0] == 1).tolist() == [[5, 5]]


@pytest.mark.parametrize("persons", [0, 1])
def test_nobody_gives_empty_maps(persons):
    codec = MoveNetCodec((64, 96), 3)
    maps = codec.encode(np.full((persons, 3, 2), NAN), np.zeros((persons, 3), np.int8), np.zeros((persons, 4)))
    for name, shape in (("center", (1, 24, 16)), ("heatmap", (3, 24, 16)), ("regression", (3, 2, 24, 16))):
        assert maps[name].shape == shape
        assert not maps[name].any()
    assert codec.decode(maps)[2] == 0


@pytest.mark.parametrize("center_sigma", [0.5, 1.0])
def test_the_person_is_read_where_the_regression_is_known(center_sigma):
    """The focus pulls the maximum of the centre off its peak, d (D + 1.8 - d) = s^2 for a person D cells away: with s
    up to 2 by less than the radius of 2 cells. (With s of 3, the default on large inputs, by 3 cells and more.)"""
    codec = MoveNetCodec((192, 192), 2, center_sigma=center_sigma)
    for x in np.arange(44, 148, 1.7):
        maps = codec.encode(*person((x - 40, 10), (x + 40, 180)))  # 42 cells high: s = 1.7
        _, _, pose_score = codec.decode(maps)
        row, column = np.argwhere(maps["center"][0] == np.float32(pose_score)).T
        assert (maps["regression_weight"][0, row, column] == 1).all()


# --- flips and affine maps -----------------------------------------------------------------------------------------

MIRRORED = Skeleton(
    "m", ("a", "left_b", "right_b", "left_c", "right_c"), (("left_b", "right_b"), ("left_c", "right_c"))
)


@pytest.mark.parametrize("skeleton", [COCO17, MIRRORED], ids=lambda s: s.name)
@pytest.mark.parametrize("size", [(96, 96), (160, 64)])
def test_the_mirrored_person_decodes_to_the_mirrored_joints(skeleton, size):
    codec = MoveNetCodec(size, len(skeleton))
    rng = np.random.default_rng(3)
    for _ in range(10):
        xy, visibility = random_person(rng, codec)
        mirrored = flip_joints(transform(mirror(size[0]), xy[0]), skeleton)
        found, _, _ = codec.decode(codec.encode(mirrored[None], visibility))
        before, _, _ = codec.decode(codec.encode(xy, visibility))
        assert np.abs(found - flip_joints(transform(mirror(size[0]), before), skeleton)).max() < CLOSE


def test_maps_of_a_mirrored_picture_are_the_mirrored_maps():
    """Joints on the middle of their cells; then every target is a mirror image, offsets and regression included."""
    codec = MoveNetCodec((64, 64), 5)
    rng = np.random.default_rng(4)
    xy = (rng.integers(0, 16, (1, 5, 2)) + 0.5).astype(np.float32) * 4
    while ((xy[0].min(axis=0) + xy[0].max(axis=0)) % 8 != 4).any():
        xy = (rng.integers(0, 16, (1, 5, 2)) + 0.5).astype(np.float32) * 4  # until the middle is a cell's middle, too
    maps = codec.encode(xy, np.full((1, 5), 2))
    mirrored = codec.encode(flip_joints(transform(mirror(64), xy[0]), MIRRORED)[None], np.full((1, 5), 2))
    flip = MIRRORED.flip_index()
    assert np.array_equal(mirrored["center"], maps["center"][:, :, ::-1])
    assert np.array_equal(mirrored["heatmap"], maps["heatmap"][flip][:, :, ::-1])
    for name in ("heatmap_weight", "regression_weight", "offset_weight"):
        assert np.array_equal(mirrored[name], maps[name][flip][:, :, ::-1])
    known = mirrored["regression_weight"] > 0
    back = maps["regression"][flip][:, :, :, ::-1]
    assert mirrored["regression"][:, 0][known] == pytest.approx(-back[:, 0][known])
    assert mirrored["regression"][:, 1][known] == pytest.approx(back[:, 1][known])
    known = mirrored["offset_weight"] > 0
    back = maps["offset"][flip][:, :, :, ::-1]
    assert mirrored["offset"][:, 0][known] == pytest.approx(1 - back[:, 0][known])


@pytest.mark.parametrize(
    "matrix",
    [
        compose(translation(-48, -48), rotation(37), scaling(0.6), translation(48, 48)),
        scaling(0.5),
        translation(-0.3, 0.7),
        compose(translation(-48, -48), rotation(-90), translation(48, 48)),
    ],
    ids=["turned and smaller", "half", "a part of a pixel", "quarter turn"],
)
def test_a_moved_person_decodes_to_the_moved_joints(matrix):
    codec = MoveNetCodec((96, 96), 17)
    rng = np.random.default_rng(5)
    for _ in range(10):
        xy = rng.uniform(15, 80, (1, 17, 2)).astype(np.float32)
        moved = transform(matrix, xy)
        inside = ((moved >= 0) & (moved < 96)).all(axis=2)[0]
        found, _, _ = codec.decode(codec.encode(moved, np.full((1, 17), 2)))
        before, _, _ = codec.decode(codec.encode(xy, np.full((1, 17), 2)))
        assert inside.sum() >= 10
        assert np.abs(found - transform(matrix, before))[inside].max() < 2 * CLOSE


# --- targets by hand -----------------------------------------------------------------------------------------------


def test_the_gaussian_stands_on_the_joints_cell():
    """Joint at (13, 22) px of stride 4: cell (3, 5). One joint has no size, so s is the smallest, 1 cell."""
    codec = MoveNetCodec((64, 64), 1, sigma_range=(1, 2))
    heatmap = codec.encode(*person((13, 22)))["heatmap"][0]
    assert heatmap[5, 3] == 1
    assert heatmap[5, 4] == heatmap[4, 3] == pytest.approx(np.exp(-0.5))
    assert heatmap[7, 3] == pytest.approx(np.exp(-2))
    assert heatmap[6, 2] == pytest.approx(np.exp(-1))
    assert heatmap[5, 6] == pytest.approx(np.exp(-4.5))  # 3 cells: above the cut of exp(-4.6052)
    assert heatmap[5, 7] == 0  # 4 cells: exp(-8)
    assert np.count_nonzero(heatmap) == 29  # cells with dx^2 + dy^2 <= 9.2: a disc of radius 3


def test_the_exponential_falls_with_the_distance_itself():
    codec = MoveNetCodec((64, 64), 1, curve="exponential", sigma_range=(2, 2))
    heatmap = codec.encode(*person((30, 30)))["heatmap"][0]  # cell (7, 7)
    assert heatmap[7, 7] == 1
    assert heatmap[7, 8] == pytest.approx(np.exp(-0.5))
    assert heatmap[10, 11] == pytest.approx(np.exp(-2.5))  # 3, 4, 5
    assert heatmap[7, 15] == pytest.approx(np.exp(-4))
    assert heatmap[15, 13] == 0  # 10 cells of 2: exp(-5) is below the cut


def test_on_the_joint_the_curve_is_centred_between_cells():
    """(14, 22) px is (3.5, 5.5) cells, the middle of cell (3, 5): the same as on the cell. (16, 24) is a corner."""
    codec = MoveNetCodec((64, 64), 1, subcell=True)
    on_cell = MoveNetCodec((64, 64), 1)
    assert np.array_equal(codec.encode(*person((14, 22)))["heatmap"], on_cell.encode(*person((14, 22)))["heatmap"])
    heatmap = codec.encode(*person((16, 24)))["heatmap"][0]
    assert heatmap[5:7, 3:5] == pytest.approx(np.full((2, 2), np.exp(-0.25)))
    assert heatmap.max() < 1


@pytest.mark.parametrize(
    ("length", "sigma"), [(10, 1.0), (100, 1.0), (160, 1.6), (184, 1.84), (400, 2.0)], ids=lambda v: str(v)
)
def test_the_curve_grows_with_the_person_between_its_limits(length, sigma):
    """s = 0.04 of the longer side in cells, from 1 to 2: a person of 160 px is 40 cells, so s = 1.6."""
    codec = MoveNetCodec((416, 416), 2)
    heatmap = codec.encode(*person((6, 6), (10, 6 + length)))["heatmap"][0]
    assert heatmap[1, 2] == pytest.approx(np.exp(-1 / (2 * sigma**2)), rel=1e-5)


def test_the_size_of_a_person_counts_joints_outside_the_picture():
    codec = MoveNetCodec((64, 64), 2)
    heatmap = codec.encode(*person((6, 6), (6, 166)))["heatmap"][0]
    assert heatmap[1, 2] == pytest.approx(np.exp(-1 / (2 * 1.6**2)), rel=1e-5)


def test_the_centre_is_wider_than_the_joints():
    codec = MoveNetCodec((64, 64), 1, center_sigma=1.5)
    center = codec.encode(*person((30, 30)))["center"][0]
    assert center[7, 7] == 1
    assert center[7, 8] == pytest.approx(np.exp(-1 / (2 * 1.5**2)))


def test_the_middle_is_that_of_the_box_or_the_mean():
    """Joints at x = 2, 2, 2, 62: the box's middle is 32 (cell 8), the mean 17 (cell 4)."""
    joints = ((2, 10), (2, 10), (2, 10), (62, 10))
    box = MoveNetCodec((64, 64), 4).encode(*person(*joints))
    mean = MoveNetCodec((64, 64), 4, center="mean").encode(*person(*joints))
    assert np.argwhere(box["center"][0] == 1).tolist() == [[2, 8]]
    assert np.argwhere(mean["center"][0] == 1).tolist() == [[2, 4]]


@pytest.mark.parametrize("curve", ["gaussian", "exponential"])
@pytest.mark.parametrize("apart", [0, 1, 2, 3])
def test_several_close_joints_keep_a_maximum_of_exactly_one(curve, apart):
    codec = MoveNetCodec((96, 96), 1, curve=curve, sigma_range=(2, 2))
    columns = [10 + apart * i for i in range(3)]
    maps = codec.encode(*people(*(person((4 * c + 1.3, 41)) for c in columns)))
    assert maps["heatmap"].max() == 1
    assert maps["center"].max() == 1
    assert all(maps["heatmap"][0, 10, c] == 1 for c in columns)
    if apart >= 2:  # between two curves the higher one counts, they do not add up
        step = np.exp(-1 / 8) if curve == "gaussian" else np.exp(-1 / 2)
        assert maps["heatmap"][0, 10, columns[0] + 1] == pytest.approx(step)


def test_regression_is_written_around_the_centre_with_each_cells_own_difference():
    """Joints (9, 10) and (19, 22) px: (2.25, 2.5) and (4.75, 5.5) cells, middle (3.5, 4): cell (3, 4)."""
    codec = MoveNetCodec((64, 64), 2, regression_radius=2)
    maps = codec.encode(*person((9, 10), (19, 22)))
    regression, weight = maps["regression"], maps["regression_weight"]
    assert regression[0, :, 4, 3].tolist() == [2.25 - 0.5 - 3, 2.5 - 0.5 - 4]
    assert regression[1, :, 4, 3].tolist() == [4.75 - 0.5 - 3, 5.5 - 0.5 - 4]
    assert regression[0, :, 4, 1].tolist() == [0.75, -2]
    assert regression[1, :, 6, 5].tolist() == [-0.75, -1]
    known = np.zeros((16, 16), bool)
    known[2:7, 1:6] = True
    for k in range(2):
        assert np.array_equal(weight[k] == 1, known)
        assert not regression[k][:, ~known].any()


def test_an_unlabelled_joint_has_no_regression():
    maps = MoveNetCodec((64, 64), 2).encode(*person((30, 30), None))
    assert not maps["regression_weight"][1].any()
    assert maps["regression_weight"][0].sum() == 25


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearest_person_owns_a_cell_of_the_regression(order):
    """Middles at (3.6, 4.5) and (6.6, 4.5) cells; the cells 4 and 5 are near both, 4.5 belongs to the first."""
    codec = MoveNetCodec((64, 64), 1, regression_radius=2)
    first, second = person((3.6 * 4, 18)), person((6.6 * 4, 18))
    both = [(first, second)[i] for i in order]
    maps = codec.encode(*people(*both))
    row = maps["regression"][0, 0, 4]
    columns = np.arange(1, 9)
    owner = np.where(columns <= 4, 3.6, 6.6)
    assert row[1:9] == pytest.approx(owner - 0.5 - columns, abs=1e-5)
    assert np.flatnonzero(maps["regression_weight"][0, 4]).tolist() == columns.tolist()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_unlabelled_joint_of_the_nearest_person_is_not_taken_from_the_next_one(order):
    codec = MoveNetCodec((64, 64), 2, regression_radius=2)
    pair = person((14, 18), None), person((26, 18), (26, 18))
    maps = codec.encode(*people(*[pair[i] for i in order]))
    assert np.flatnonzero(maps["regression_weight"][1, 4]).tolist() == [5, 6, 7, 8]


def test_offsets_are_written_around_the_joint():
    """(9, 10) px is (2.25, 2.5) cells: from the corner of cell (2, 2) it is (.25, .5) away, from (1, 3) (1.25, -.5)."""
    maps = MoveNetCodec((64, 64), 1, offset_radius=1).encode(*person((9, 10)))
    assert maps["offset"][0, :, 2, 2].tolist() == [0.25, 0.5]
    assert maps["offset"][0, :, 3, 1].tolist() == [1.25, -0.5]
    assert maps["offset_weight"].sum() == 9
    assert maps["offset_weight"][0, 1:4, 1:4].all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearest_joint_owns_a_cell_of_the_offsets(order):
    """Joints at 3.4 and 5.5 cells: cell 4 (its middle 4.5) is 1.1 from the first and 1 from the second."""
    codec = MoveNetCodec((64, 64), 1, offset_radius=1)
    pair = person((3.4 * 4, 18)), person((5.5 * 4, 18))
    row = codec.encode(*people(*[pair[i] for i in order]))["offset"][0, 0, 4]
    assert row[2:7] == pytest.approx([1.4, 0.4, 1.5, 0.5, -0.5], abs=1e-5)


def test_the_surroundings_end_at_the_border():
    codec = MoveNetCodec((64, 64), 1, regression_radius=2, offset_radius=1)
    maps = codec.encode(*person((1, 63)))  # cell (0, 15)
    assert np.argwhere(maps["regression_weight"][0]).tolist() == [[r, c] for r in (13, 14, 15) for c in (0, 1, 2)]
    assert np.argwhere(maps["offset_weight"][0]).tolist() == [[14, 0], [14, 1], [15, 0], [15, 1]]


def test_the_example_of_the_pipeline_page():
    """docs/pipeline.md: a box of 120 x 320 pixels, cut out with 1.25 longer sides, and its wrist there and back."""
    to_input = crop_map(square_around(np.array([200, 80, 320, 400]), 1.25), (192, 192))
    xy = transform(to_input, np.array([[[200, 80], [320, 400], [312, 220]]], np.float64))
    assert xy[0, 2] == pytest.approx((120.96, 86.4))
    codec = MoveNetCodec((192, 192), 3)
    maps = codec.encode(xy, np.full((1, 3), 2))
    assert maps["heatmap"][2, 21, 30] == maps["center"][0, 24, 24] == 1
    assert maps["heatmap"][2, 21, 31] == pytest.approx(np.exp(-1 / (2 * 1.536**2)))
    assert maps["regression"][2, :, 24, 24] == pytest.approx((5.74, -2.9))
    assert maps["regression"][2, :, 24, 25] == pytest.approx((4.74, -2.9))
    assert maps["offset"][2, :, 21, 30] == pytest.approx((0.24, 0.6), abs=1e-6)
    assert maps["offset"][2, :, 21, 31] == pytest.approx((-0.76, 0.6), abs=1e-6)
    assert transform(invert(to_input), codec.decode(maps)[0][2]) == pytest.approx((312, 220), abs=1e-3)


# --- weights -------------------------------------------------------------------------------------------------------


def test_every_target_has_a_weight_and_float32():
    maps = MoveNetCodec((64, 96), 3).encode(*person((30, 30), (40, 50), None))
    assert list(maps) == [name for map_ in MAPS for name in (map_, f"{map_}_weight")]
    for name, values in maps.items():
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name
    assert maps["center_weight"].shape == (1, 24, 16)
    for name in ("heatmap_weight", "regression_weight", "offset_weight"):
        assert maps[name].shape == (3, 24, 16)


def test_a_joint_the_set_does_not_label_says_nothing_anywhere():
    codec = MoveNetCodec((64, 64), 2)
    xy, visibility = person((30, 30), None)
    visibility[0, 1] = -1
    maps = codec.encode(xy, visibility, np.array([[10, 10, 50, 50]]))
    assert not maps["heatmap_weight"][1].any()
    assert (maps["heatmap_weight"][0] == 1).all()
    assert not maps["regression_weight"][1].any()
    assert not maps["offset_weight"][1].any()


def test_an_unlabelled_joint_is_less_certain_only_inside_the_persons_box():
    """Box (16, 24)-(36, 44) px and a tenth more on each side: (14, 22)-(38, 46) touches columns 3-9, rows 5-11."""
    codec = MoveNetCodec((64, 64), 2, unlabelled_weight=0.25)
    weight = codec.encode(*person((26, 34), None), np.array([[16, 24, 36, 44]]))["heatmap_weight"]
    known = np.ones((16, 16))
    known[5:12, 3:10] = 0.25
    assert np.array_equal(weight[1], known)
    assert (weight[0] == 1).all()


def test_without_a_box_the_labelled_joints_say_where_the_person_is():
    codec = MoveNetCodec((64, 64), 3)
    weight = codec.encode(*person((16, 24), (36, 44), None))["heatmap_weight"]
    assert np.argwhere(weight[2] < 1).min(axis=0).tolist() == [5, 3]
    assert np.argwhere(weight[2] < 1).max(axis=0).tolist() == [11, 9]


def test_the_box_of_an_unlabelled_joint_grows_by_joints_outside_it():
    """Box (16, 24)-(36, 44), a joint at (6, 34): together (6, 24)-(36, 44), then (3, 22)-(39, 46)."""
    codec = MoveNetCodec((64, 64), 2)
    weight = codec.encode(*person((6, 34), None), np.array([[16, 24, 36, 44]]))["heatmap_weight"]
    assert np.argwhere(weight[1] < 1).min(axis=0).tolist() == [5, 0]
    assert np.argwhere(weight[1] < 1).max(axis=0).tolist() == [11, 9]


def test_someone_without_any_labelled_joint_lowers_all_joints_in_the_box():
    codec = MoveNetCodec((64, 64), 2)
    xy, visibility = person(None, None)
    maps = codec.encode(xy, visibility, np.array([[20, 20, 40, 40]]))
    assert (maps["heatmap_weight"][:, 5:10, 5:10] == 0.25).all()
    assert (maps["heatmap_weight"] < 1).sum() == 2 * 7 * 7  # (18, 18)-(42, 42) touches the cells 4 to 10


def test_a_box_outside_the_picture_lowers_nothing():
    codec = MoveNetCodec((64, 64), 2)
    maps = codec.encode(*person(None, None), np.array([[-90, -80, -20, -30]]))
    assert (maps["heatmap_weight"] == 1).all()


def test_a_labelled_joint_in_an_uncertain_region_is_certain_where_it_is_drawn():
    """The second person's joint lies in the box where the first one's is missing: under its curve it is known."""
    codec = MoveNetCodec((64, 64), 2)
    xy, visibility = people(person((32, 32), None), person((40, 40), (32, 32)))
    weight = codec.encode(xy, visibility, np.array([[8, 8, 56, 56], [30, 30, 42, 42]]))["heatmap_weight"]
    assert weight[1, 8, 8] == 1
    assert weight[1, 3, 3] == 0.25


def test_ignored_regions_are_no_background():
    """(10, 20)-(30, 41) px touches columns 2 to 7 and rows 5 to 10."""
    codec = MoveNetCodec((64, 64), 2)
    maps = codec.encode(*person((50, 50), (60, 60)), None, np.array([[10, 20, 30, 41]]))
    silent = np.zeros((16, 16), bool)
    silent[5:11, 2:8] = True
    assert np.array_equal(maps["center_weight"][0] == 0, silent)
    assert np.array_equal(maps["heatmap_weight"][0] == 0, silent)
    assert np.array_equal(maps["heatmap_weight"][1] == 0, silent)


def test_a_labelled_joint_counts_even_in_an_ignored_region():
    codec = MoveNetCodec((64, 64), 1)
    maps = codec.encode(*person((32, 32)), None, np.array([[0, 0, 64, 64]]))
    assert maps["heatmap_weight"][0, 8, 8] == 1
    assert maps["center_weight"][0, 8, 8] == 1
    assert maps["heatmap_weight"][0, 0, 0] == 0
    assert np.array_equal(maps["heatmap_weight"] == 1, maps["heatmap"] > 0)


def test_encode_leaves_its_arguments_alone():
    codec = MoveNetCodec((64, 64), 3)
    xy, visibility = person((30, 30), (40, 50), None)
    box, ignore = np.array([[20, 20, 50, 60.0]]), np.array([[0, 0, 10, 10.0]])
    before = [a.copy() for a in (xy, visibility, box, ignore)]
    codec.encode(xy, visibility, box, ignore)
    for a, b in zip((xy, visibility, box, ignore), before, strict=True):
        assert np.array_equal(a, b, equal_nan=True)


def test_what_one_person_has_does_not_depend_on_the_order_of_people():
    codec = MoveNetCodec((192, 160), 4)
    rng = np.random.default_rng(6)
    xy, _ = spread_people(rng, codec, 3)
    visibility = np.full(xy.shape[:2], 2, np.int8)
    maps, turned = codec.encode(xy, visibility), codec.encode(xy[::-1], visibility)
    for name in maps:
        assert np.array_equal(maps[name], turned[name]), name


# --- a teacher's answers -------------------------------------------------------------------------------------------


def with_teacher(xy, visibility, points, scores, codec=None, **options):
    codec = codec or MoveNetCodec((64, 64), xy.shape[1])
    seen = np.array([[(NAN, NAN) if point is None else point for point in person] for person in points])
    return codec.encode(xy, visibility, teacher_xy=seen, teacher_score=np.array(scores, np.float32), **options)


@pytest.mark.parametrize("subcell", [False, True])
def test_a_sure_teacher_who_agrees_gives_the_targets_of_the_labels(subcell):
    codec = MoveNetCodec((64, 64), 3, subcell=subcell)
    points = [(13, 22), (40, 30), (33, 57)]
    maps = with_teacher(*person(*points), [points], [[1, 1, 1]], codec)
    for name in ("heatmap", "offset", "offset_weight"):
        assert np.array_equal(maps[f"teacher_{name}"], maps[name]), name
    plain = codec.encode(*person(*points))
    assert all(np.array_equal(plain[name], maps[name]) for name in plain)


def test_a_teachers_curve_is_as_high_as_its_score():
    xy, visibility = person((30, 30), (30, 30), None)
    maps = with_teacher(xy, visibility, [[(30, 30), (30, 30), (14, 50)]], [[1, 0.25, 0.5]])
    heatmap, offset = maps["teacher_heatmap"], maps["teacher_offset"]
    assert heatmap.max(axis=(1, 2)) == pytest.approx([1, 0.25, 0.5])
    assert np.allclose(heatmap[1], 0.25 * heatmap[0])
    assert np.unravel_index(heatmap[2].argmax(), (16, 16)) == (12, 3)  # y, x; nobody labelled it
    assert offset[2, :, 12, 3] == pytest.approx([0.5, 0.5])
    assert maps["teacher_offset_weight"].max(axis=(1, 2)) == pytest.approx([1, 0.25, 0.5])
    assert not maps["heatmap"][2].any()


def test_a_teacher_says_nothing_far_from_whom_it_was_asked_about():
    """Person 1 is asked, box cells 2 to 5 and a tenth; person 2 is not; joint 2 of person 1 is not; a corner is ignored."""
    xy, visibility = people(person((12, 12), (20, 20)), person((44, 44), (52, 52)))
    box = np.array([[8, 8, 24, 24], [40, 40, 56, 56]])
    maps = with_teacher(xy, visibility, [[(12, 12), None], [None, None]], [[0.5, 0], [0, 0]], box_xyxy=box,
                        ignore_xyxy=np.array([[0, 20, 64, 64]]))  # fmt: skip
    weight = maps["teacher_heatmap_weight"]
    wanted = np.zeros((16, 16), bool)
    wanted[1:5, 1:7] = True  # rows from 5 on are ignored
    assert set(np.unique(weight)) == {0, 1} and not weight[1].any()
    curve = maps["teacher_heatmap"][0] > 0
    assert np.array_equal(weight[0] > 0, wanted | curve)
    assert not maps["teacher_heatmap"][1].any() and not maps["teacher_offset_weight"][1].any()


def test_an_unknown_joint_of_a_set_is_learned_from_the_teacher_alone():
    xy, _ = person((20, 20), None)
    maps = with_teacher(xy, np.array([[2, -1]]), [[(20, 20), (28, 36)]], [[0.9, 0.8]])
    assert not maps["heatmap_weight"][1].any()
    assert maps["teacher_heatmap_weight"][1, 9, 7] == 1 and maps["teacher_heatmap"][1, 9, 7] == pytest.approx(0.8)


@pytest.mark.parametrize("persons", [0, 2])
def test_a_teacher_that_was_never_asked_gives_empty_maps(persons):
    nothing = np.full((persons, 3, 2), NAN)
    maps = MoveNetCodec((64, 64), 3).encode(nothing, np.zeros((persons, 3), np.int8), teacher_xy=nothing,
                                            teacher_score=np.zeros((persons, 3)))  # fmt: skip
    names = [name for name in maps if name.startswith("teacher")]
    assert len(names) == 4 and not any(maps[name].any() for name in names)


# --- maps -> joints ------------------------------------------------------------------------------------------------


def tiny_maps(joints=1, width=4, height=4):
    maps = {
        "center": np.zeros((1, height, width), np.float32),
        "heatmap": np.zeros((joints, height, width), np.float32),
        "regression": np.zeros((joints, 2, height, width), np.float32),
        "offset": np.zeros((joints, 2, height, width), np.float32),
    }
    maps["center"][0, min(1, height - 1), 1] = 0.8
    return maps


@pytest.mark.parametrize(
    ("far_value", "far_column", "winner"),
    [(0.9, 3, 1), (0.9, 2, 2), (0.77, 2, 1), (0.78, 2, 2), (1.0, 3, 1)],
    ids=[
        ".9 / 3.8 < .5 / 1.8",
        ".9 / 2.8 > .5 / 1.8",
        ".77 / 2.8 < .5 / 1.8",
        ".78 / 2.8 > .5 / 1.8",
        "1 / 3.8 < .5 / 1.8",
    ],
)
def test_the_distance_to_the_expected_place_decides(far_value, far_column, winner):
    """The person at cell (1, 1) expects the joint at (1, 1), where the value is .5."""
    maps = tiny_maps()
    maps["heatmap"][0, 1, 1] = 0.5
    maps["heatmap"][0, 1, far_column] = far_value
    maps["offset"][0, :, 1, 1:] = [[0.25, 0.25, 0.25], [0.5, 0.5, 0.5]]
    xy, score, pose_score = MoveNetCodec((16, 16), 1).decode(maps)
    assert xy.tolist() == [[4 * (winner + 0.25), 4 * 1.5]]
    assert score == np.float32(0.5 if winner == 1 else far_value)  # the plain value, not lowered by the distance
    assert pose_score == np.float32(0.8)


def test_the_focus_weighs_the_centres():
    """.8 at (1, 1), .9 at (3, 3); the middle of 4 x 4 cells is (2, 2), as far from both: the higher one."""
    maps = tiny_maps()
    maps["center"][0, 3, 3] = 0.9
    maps["regression"][0, :, 1, 1] = -1
    maps["heatmap"][0, 0, 0] = maps["heatmap"][0, 3, 3] = 1
    codec = MoveNetCodec((16, 16), 1)
    assert codec.decode(maps)[0].tolist() == [[12, 12]]
    assert codec.decode(maps, (8, 8))[0].tolist() == [[12, 12]]
    assert codec.decode(maps, (4, 4))[0].tolist() == [[0, 0]]
    assert codec.decode(maps, (-40, -40))[2] == np.float32(0.8)


@pytest.mark.parametrize(("way", "column"), [(-2.6, 2), (-2.4, 3), (-5.4, 0), (2.6, 8), (2.4, 7)])
def test_regression_is_neither_rounded_nor_cut_toward_zero(way, column):
    """The person at column 5 and equal values everywhere: the nearest column to 5 + way wins."""
    maps = tiny_maps(width=12, height=1)
    maps["center"][:] = 0
    maps["center"][0, 0, 5] = 1
    maps["heatmap"][:] = 0.5
    maps["regression"][0, 0, 0, 5] = way
    xy, _, _ = MoveNetCodec((48, 4), 1).decode(maps)
    assert xy.tolist() == [[4 * column, 0]]


@pytest.mark.parametrize("size", [(12, 12), (16, 8), (5, 9)])
@pytest.mark.parametrize("stride", [1, 4])
def test_decode_is_the_published_formula(size, stride):
    """Against a cell-by-cell implementation in double precision, on maps without structure."""
    codec = MoveNetCodec((size[0] * stride, size[1] * stride), 3, stride)
    rng = np.random.default_rng(7)
    for case in range(12):
        maps = {name: values.astype(np.float32) for name, values in noise(rng, 3, *size).items()}
        focus = None if case % 2 else tuple(rng.uniform(-1, 2, 2) * codec.input_size)
        wanted_xy, wanted_score, wanted_pose_score, lead = naive_decode(maps, stride, focus)
        if lead < 1e-5:
            continue  # single precision cannot tell the two best cells apart
        xy, score, pose_score = codec.decode(maps, focus)
        assert np.abs(xy - wanted_xy).max() < 1e-3
        assert score.tolist() == wanted_score
        assert pose_score == wanted_pose_score


def test_decode_batch_is_decode_one_by_one():
    codec = MoveNetCodec((48, 32), 3)
    rng = np.random.default_rng(8)
    maps = {name: np.stack([noise(rng, 3, 12, 8)[name].astype(np.float32) for _ in range(4)]) for name in MAPS}
    focus = rng.uniform(0, 30, (4, 2))
    for given in (None, focus):
        xy, score, pose_score = codec.decode_batch(maps, given)
        for b in range(4):
            one = codec.decode({name: maps[name][b] for name in MAPS}, None if given is None else tuple(given[b]))
            assert np.array_equal(xy[b], one[0])
            assert np.array_equal(score[b], one[1])
            assert pose_score[b] == np.float32(one[2])


def test_an_empty_batch_gives_nobody():
    codec = MoveNetCodec((48, 32), 3)
    maps = {name: np.stack([values])[:0] for name, values in tiny_maps(3, 12, 8).items()}
    assert [a.shape for a in codec.decode_batch(maps)] == [(0, 3, 2), (0, 3), (0,)]


def test_decode_leaves_the_maps_alone_and_returns_its_own_arrays():
    codec = MoveNetCodec((48, 32), 3)
    maps = {name: values.astype(np.float32) for name, values in noise(np.random.default_rng(9), 3, 12, 8).items()}
    before = {name: values.copy() for name, values in maps.items()}
    xy, score, _ = codec.decode(maps)
    xy[:], score[:] = -1, -1
    assert all(np.array_equal(maps[name], before[name]) for name in maps)


@pytest.mark.parametrize("name", ["center", "heatmap", "regression"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_maps_do_not_pass_for_joints(name, bad):
    """A diverged network shows as NaN or infinity (which a Pose refuses), not as a joint at the first cell."""
    maps = tiny_maps(2)
    maps["heatmap"][:, 2, 2] = 0.9
    maps[name][-1, ..., 1, 1] = bad
    xy, score, pose_score = MoveNetCodec((16, 16), 2).decode(maps)
    assert not (np.isfinite(xy).all() and np.isfinite(score).all() and np.isfinite(pose_score))
    if name != "center":
        assert np.isfinite(xy[0]).all()  # the other joint is whole


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"curve": "gausian"}, "unknown curve 'gausian'; did you mean 'gaussian'"),
        ({"center": "boxes"}, "unknown center 'boxes'; did you mean 'box'"),
        ({"stride": 5}, "not a multiple of the stride 5"),
        ({"stride": 0}, "stride must be a whole number, at least 1"),
        ({"stride": 2.5}, "stride must be a whole number, at least 1"),
        ({"joints": 0}, "joints must be a whole number, at least 1"),
        ({"regression_radius": -1}, "regression_radius must be a whole number, at least 0"),
        ({"offset_radius": 1.5}, "offset_radius must be a whole number, at least 0"),
        ({"vote_radius": 2}, r"vote_radius must not be more than offset_radius \(1\), got 2"),
        ({"vote_radius": 1, "refine": "dark"}, "vote_radius = 1 would do nothing, as refine = 'dark' reads no offsets"),
        ({"sigma_range": 3}, r"sigma_range must be two numbers \[low, high\], got 3"),
        ({"sigma_range": (1, 2, 3)}, "sigma_range must be two numbers"),
        ({"sigma_range": (0, 2)}, "sigma_range must be 0 < low <= high"),
        ({"sigma_range": (2, 1)}, "sigma_range must be 0 < low <= high"),
        ({"sigma_scale": -1}, "sigma_scale must be a number from 0 on"),
        ({"center_sigma": 0}, "center_sigma must be positive"),
        ({"softening": 0}, "softening must be positive"),
        ({"center_softening": -1}, "center_softening must be a number from 0 on"),
        ({"unlabelled_weight": 2}, "unlabelled_weight must lie in"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_settings_are_refused(facts, sentence):
    with pytest.raises(ValueError, match=f"codec movenet: .*{sentence}"):
        MoveNetCodec(**{"input_size": (96, 96), **facts})


def test_a_codec_is_built_from_the_facts_of_a_spec():
    facts = {"name": "movenet", "stride": 8, "sigma_range": [1.0, 3.0]}
    codec = build_codec(facts, (128, 96), 14)
    assert codec == MoveNetCodec((128, 96), 14, 8, sigma_range=(1, 3))
    assert codec.grid == (16, 12)
    assert "name" in facts  # the caller's dict is whole


def test_unknown_codecs_and_keys_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown codec 'movnet'; did you mean 'movenet'"):
        build_codec({"name": "movnet"}, (96, 96), 17)
    with pytest.raises(ValueError, match="codec movenet: unknown key 'curv'; did you mean 'curve'"):
        build_codec({"name": "movenet", "curv": "gaussian"}, (96, 96), 17)
    with pytest.raises(ValueError, match="unknown key 'joints'"):
        build_codec({"name": "movenet", "joints": 3}, (96, 96), 17)
    with pytest.raises(ValueError, match="unknown codec 'None'"):
        build_codec({}, (96, 96), 17)


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_inverts_itself(name):
    codec = build_codec({"name": name}, (128, 96), 17)
    xy, visibility = random_person(np.random.default_rng(10), codec)
    assert np.abs(codec.decode(codec.encode(xy, visibility))[0] - xy[0]).max() < CLOSE


def test_the_cut_is_at_a_hundredth():
    assert np.exp(-CUT_EXPONENT) == pytest.approx(0.01, rel=1e-4)

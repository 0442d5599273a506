"""Augmentation: whatever is done to the photo, the joints stay on their pixels and keep the right names."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.data.augment import (
    NO_AUGMENTATION,
    PROBABILITIES,
    Augmentation,
    augment,
    augment_choices,
    draw_map,
)
from featherpose.data.background import background_region
from featherpose.data.limbs import Limb, LimbBank
from featherpose.data.sample import Sample, move_sample
from featherpose.geometry import (
    compose,
    crop_map,
    mirror,
    rotation,
    scaling,
    square_around,
    transform,
    translation,
    warp,
)
from featherpose.pose import Pose
from featherpose.runtime.smart_crop import smart_crop, whole_frame
from featherpose.skeletons import COCO17, Skeleton

SIZE = (96, 96)
PHOTO = (240, 200)
STANDING = {
    "nose": (120, 40), "left_eye": (124, 36), "right_eye": (116, 36), "left_ear": (130, 38), "right_ear": (110, 38),
    "left_shoulder": (140, 62), "right_shoulder": (100, 62), "left_elbow": (152, 88), "right_elbow": (90, 86),
    "left_wrist": (158, 110), "right_wrist": (78, 104), "left_hip": (134, 112), "right_hip": (106, 112),
    "left_knee": (138, 146), "right_knee": (104, 144), "left_ankle": (142, 180), "right_ankle": (98, 178),
}  # fmt: skip


def box_around(xy):
    return np.concatenate([np.nanmin(xy, axis=0), np.nanmax(xy, axis=0)])


def make_sample(*persons, target=0, **changes):
    """Each person: (K, 2) joints of COCO17; NaN is unlabelled."""
    xy = np.array(persons or [list(STANDING.values())], np.float32)
    facts = {
        "photo": Path("p.png"),
        "size_wh": PHOTO,
        "skeleton": COCO17,
        "xy": xy,
        "visibility": np.where(np.isnan(xy[:, :, 0]), 0, 2).astype(np.int8),
        "box_xyxy": np.array([box_around(person) for person in xy], np.float32),
        "area": np.full(len(xy), 1000, np.float32),
        "target": target,
        "photo_id": "p",
    }
    return Sample(**{**facts, **changes})


def nobody(**changes):
    empty = {"xy": np.zeros((0, 17, 2), np.float32), "visibility": np.zeros((0, 17), np.int8),
             "box_xyxy": np.zeros((0, 4), np.float32), "area": np.zeros(0, np.float32), "target": -1}  # fmt: skip
    return make_sample(**{**empty, **changes})


def spot(point):
    """A photo with one soft white spot of about 8 pixels."""
    columns, rows = np.meshgrid(np.arange(PHOTO[0]) + 0.5, np.arange(PHOTO[1]) + 0.5)
    light = 255 * np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / 8)
    return np.repeat(light.round().astype(np.uint8)[..., None], 3, axis=2)


def centre_of_light(image):
    light = image[..., 0].astype(np.float64)
    rows, columns = np.indices(light.shape)
    return np.array([(light * (columns + 0.5)).sum(), (light * (rows + 0.5)).sum()]) / light.sum()


def noise_photo(seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (PHOTO[1] // 8, PHOTO[0] // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, PHOTO, interpolation=cv2.INTER_LINEAR)


# --- joints follow pixels ------------------------------------------------------------------------------------------

MOVES = {
    "nothing": {},
    "closer": {"crop_scale": (0.6, 0.8)},
    "farther": {"crop_scale": (2, 5)},
    "shift": {"shift": 0.3},
    "flip": {"flip": 1},
    "rotation": {"rotate": 1, "rotate_deviation": 40},
    "any rotation": {"upside_down": 1},
    "half body": {"half_body": 1},
    "other target": {"other_target": 1},
    "whole photo": {"whole_photo": 1},
    "second look": {"second_look": 1},
    "blur": {"blur": 1},
    "stretch": {"stretch": 0.4},
    "everything": {"crop_scale": (0.8, 2.5), "shift": 0.2, "flip": 0.5, "rotate": 0.5, "upside_down": 0.3,
                   "half_body": 0.4, "other_target": 0.5, "stretch": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("size", [SIZE, (64, 96), (128, 64)], ids=["square", "high", "wide"])
@pytest.mark.parametrize("name", MOVES)
def test_every_joint_stays_on_its_pixels(name, size):
    """A spot is drawn at one joint of the photo; it must be found at that joint of the result, by name."""
    rules = replace(NO_AUGMENTATION, **MOVES[name])
    first = np.array(list(STANDING.values()), np.float32)
    sample = make_sample(first, first * 0.6 + 20)
    checked = 0
    for seed in range(6):
        for person in range(2):
            for joint in (0, 3, 9, 10, 16):
                picture, moved = augment(
                    spot(sample.xy[person, joint]), sample, size_wh=size, rules=rules, rng=np.random.default_rng(seed)
                )
                assert picture.shape == (size[1], size[0], 3)
                # Which joint is it now? In a mirrored picture a left wrist is a right one.
                straight = np.linalg.det(affine_between(sample.xy[person], moved.xy[person])[:, :2]) > 0
                now = joint if straight else COCO17.flip_index()[joint]
                x, y = moved.xy[person, now]
                if 8 < x < size[0] - 8 and 8 < y < size[1] - 8:
                    assert centre_of_light(picture) == pytest.approx((x, y), abs=0.6 if rules.blur else 0.35)
                    checked += 1
    assert checked >= 12


def affine_between(before, after):
    """The affine map that takes the joints before to the joints after, in their own order or with the sides swapped."""
    columns = np.concatenate([before, np.ones((17, 1))], axis=1)
    fits = []
    for order in (np.arange(17), COCO17.flip_index()):
        solution, *_ = np.linalg.lstsq(columns, after[order], rcond=None)
        fits.append((np.abs(columns @ solution - after[order]).max(), solution.T))
    error, matrix = min(fits, key=lambda fit: fit[0])
    assert error < 1e-2
    return matrix


def test_mirroring_swaps_names_and_sides():
    """The same crop twice: mirrored, the left wrist is where the right one was, counted from the other edge."""
    sample, photo = make_sample(), noise_photo()
    plain, straight = augment(photo, sample, size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    rules = replace(NO_AUGMENTATION, flip=1)
    mirrored, moved = augment(photo, sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert np.abs(mirrored.astype(int) - plain[:, ::-1]).max() <= 1
    for joint, other in (("nose", "nose"), ("left_wrist", "right_wrist"), ("right_ankle", "left_ankle")):
        x, y = straight.xy[0, COCO17.index(joint)]
        assert moved.xy[0, COCO17.index(other)] == pytest.approx((96 - x, y), abs=1e-3)


def test_mirroring_swaps_visibility_too():
    xy = np.array([list(STANDING.values())], np.float32)
    xy[0, COCO17.index("left_wrist")] = np.nan
    sample = make_sample(*xy)
    _, moved = augment(
        noise_photo(), sample, size_wh=SIZE, rules=replace(NO_AUGMENTATION, flip=1), rng=np.random.default_rng(0)
    )
    assert moved.visibility[0, COCO17.index("right_wrist")] == 0
    assert moved.visibility[0, COCO17.index("left_wrist")] == 2
    assert np.isnan(moved.xy[0, COCO17.index("right_wrist")]).all()
    assert np.isfinite(moved.xy[0, COCO17.index("left_wrist")]).all()


# --- labels under a map --------------------------------------------------------------------------------------------

PAIR = Skeleton("pair", ("left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),))


def pair_sample():
    return Sample(
        photo=Path("p.png"), size_wh=(100, 80), skeleton=PAIR,
        xy=np.array([[[10, 20], [30, 60]], [[np.nan, np.nan], [50, 40]]], np.float32),
        visibility=np.array([[2, 1], [0, 2]], np.int8),
        box_xyxy=np.array([[8, 18, 32, 64], [40, 30, 60, 50]], np.float32),
        area=np.array([400, 100], np.float32), target=1, photo_id="p", head_size=np.array([8, np.nan], np.float32),
        ignore_xyxy=np.array([[0, 0, 20, 10]], np.float32),
    )  # fmt: skip


def test_move_sample_by_hand():
    """Half the size: lengths halve, the area quarters."""
    moved = move_sample(pair_sample(), scaling(0.5), (50, 40))
    assert moved.size_wh == (50, 40)
    assert moved.xy[0].tolist() == [[5, 10], [15, 30]]
    assert np.isnan(moved.xy[1, 0]).all()
    assert moved.box_xyxy.tolist() == [[4, 9, 16, 32], [20, 15, 30, 25]]
    assert moved.area.tolist() == [100, 25]
    assert moved.head_size[0] == 4
    assert np.isnan(moved.head_size[1])
    assert moved.ignore_xyxy.tolist() == [[0, 0, 10, 5]]
    assert moved.visibility.tolist() == [[2, 1], [0, 2]]
    assert moved.target == 1


def test_boxes_stay_upright_under_a_rotation():
    """A quarter turn about the origin: (x, y) becomes (-y, x), so (8, 18)-(32, 64) becomes (-64, 8)-(-18, 32)."""
    moved = move_sample(pair_sample(), rotation(90), (80, 100))
    assert moved.box_xyxy[0] == pytest.approx((-64, 8, -18, 32), abs=1e-4)
    assert moved.xy[0, 0] == pytest.approx((-20, 10), abs=1e-5)
    assert moved.area == pytest.approx([400, 100])
    eighth = move_sample(pair_sample(), compose(translation(-50, -40), rotation(45)), (80, 100))
    assert eighth.box_xyxy[1] == pytest.approx(np.array([-1, -1, 1, 1]) * 200**0.5, abs=1e-4)  # a square on its corner


def test_a_mirrored_sample_keeps_its_boxes_upright():
    moved = move_sample(pair_sample(), mirror(100), (100, 80), flipped=True)
    assert moved.box_xyxy.tolist() == [[68, 18, 92, 64], [40, 30, 60, 50]]
    assert moved.xy[0].tolist() == [[70, 60], [90, 20]]
    assert moved.visibility.tolist() == [[1, 2], [2, 0]]
    assert moved.ignore_xyxy.tolist() == [[80, 0, 100, 10]]


def test_types_stay_small():
    moved = move_sample(pair_sample(), rotation(10), (100, 80))
    assert (moved.xy.dtype, moved.box_xyxy.dtype, moved.area.dtype) == (np.float32,) * 3
    assert moved.visibility.dtype == np.int8


# --- the crop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SIZE, (64, 96)])
def test_no_augmentation_is_the_crop_of_the_protocol(size):
    sample, photo = make_sample(), noise_photo()
    sample = replace(sample, box_xyxy=sample.box_xyxy + np.array([[-10, -4, 3, 2]], np.float32))
    picture, moved = augment(photo, sample, size_wh=size, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    matrix = crop_map(square_around(sample.target_box(), 1.25), size)
    assert np.abs(picture.astype(int) - warp(photo, matrix, size)).max() <= 1
    assert moved.xy == pytest.approx(transform(matrix, sample.xy), abs=1e-3)
    assert moved.size_wh == size
    assert moved.target == 0


def test_the_side_of_the_crop_is_drawn_from_its_range():
    """Log-uniform between 1 and 4 longer sides: people of 96 to 24 pixels, half of them above 48."""
    rules = replace(NO_AUGMENTATION, crop_scale=(1, 4))
    box = box_around(np.array(list(STANDING.values())))
    longer = (box[2:] - box[:2]).max()
    sizes = []
    for seed in range(300):
        _, moved = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        after = box_around(moved.xy[0])
        assert (after[:2] + after[2:]) / 2 == pytest.approx((48, 48), abs=1e-3)
        sizes.append((after[2:] - after[:2]).max())
    assert 24 <= min(sizes) < 26
    assert 92 < max(sizes) <= 96
    assert 0.4 < np.mean(np.array(sizes) > 48) < 0.6
    assert longer == pytest.approx(144)


def test_a_stretch_keeps_the_area_and_reaches_its_share():
    rules = Augmentation(**{**vars(NO_AUGMENTATION), "stretch": 0.4})
    longest = []
    for seed in range(200):
        matrix, _ = draw_map(make_sample(), 0, SIZE, rules, np.random.default_rng(seed))
        plain, _ = draw_map(make_sample(), 0, SIZE, NO_AUGMENTATION, np.random.default_rng(seed))
        assert np.linalg.det(matrix[:, :2]) == pytest.approx(np.linalg.det(plain[:, :2]))
        longest.append(np.linalg.svd(matrix[:, :2])[1][0] / np.linalg.svd(plain[:, :2])[1][0])
        # the middle of the crop stays
        middle = transform(np.linalg.inv(np.vstack([plain, [0, 0, 1]]))[:2], np.array([[48.0, 48.0]]))
        assert transform(matrix, middle)[0] == pytest.approx([48, 48])
    assert min(longest) < 1.02
    assert 1.38 < max(longest) <= 1.4 + 1e-9


def test_the_shift_is_a_share_of_the_side():
    rules = replace(NO_AUGMENTATION, shift=0.25)
    shifts = []
    for seed in range(200):
        _, moved = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        box = box_around(moved.xy[0])
        shifts.append((box[:2] + box[2:]) / 2 - 48)
    shifts = np.array(shifts)
    assert np.abs(shifts).max() <= 24
    assert (shifts.min(axis=0) < -20).all()
    assert (shifts.max(axis=0) > 20).all()


def turn_of(moved):
    """Degrees by which the line from the right to the left shoulder has turned, clockwise."""
    before = np.subtract(STANDING["left_shoulder"], STANDING["right_shoulder"])
    after = moved.xy[0, COCO17.index("left_shoulder")] - moved.xy[0, COCO17.index("right_shoulder")]
    return np.rad2deg(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))


def test_rotations_are_normal_and_end_at_80_degrees():
    rules = replace(NO_AUGMENTATION, rotate=1, rotate_deviation=40)
    turns = np.array([
        turn_of(augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1])
        for seed in range(300)
    ])  # fmt: skip
    assert np.abs(turns).max() <= 80 + 1e-3
    assert 33 < turns.std() < 42
    assert abs(turns.mean()) < 7


def test_upside_down_means_any_angle():
    rules = replace(NO_AUGMENTATION, upside_down=1, rotate=1, rotate_deviation=0)
    turns = np.array([
        turn_of(augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1])
        for seed in range(200)
    ]) % 360  # fmt: skip
    assert (np.histogram(turns, bins=4, range=(0, 360))[0] > 25).all()


def test_flips_happen_as_often_as_asked():
    """In the photo the left wrist hangs lower; in a mirrored one the right wrist does."""
    rules = replace(NO_AUGMENTATION, flip=0.25)
    wrists = np.array([
        augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1].xy[0, 9:11]
        for seed in range(400)
    ])  # fmt: skip
    assert (wrists[:, 0, 0] > wrists[:, 1, 0]).all()  # names change with the sides: left is on the right all the same
    assert 0.19 < np.mean(wrists[:, 0, 1] < wrists[:, 1, 1]) < 0.31


@pytest.mark.parametrize("seed", range(8))
def test_half_a_body_fills_the_crop(seed):
    """The upper or the lower joints are cut out with 1.3 times their longer side, times the crop's scale."""
    rules = replace(NO_AUGMENTATION, half_body=1, crop_scale=(1, 1))
    _, moved = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
    halves = {"upper": slice(0, 11), "lower": slice(11, 17)}
    full = {}
    for name, joints in halves.items():
        box = box_around(moved.xy[0, joints])
        full[name] = (box[:2] + box[2:]) / 2 == pytest.approx((48, 48), abs=1e-3) and (
            (box[2:] - box[:2]).max() == pytest.approx(96 / 1.3, abs=1e-3)
        )
    assert sorted(full.values()) == [False, True]


def test_both_halves_are_cut():
    rules = replace(NO_AUGMENTATION, half_body=1)
    heads_inside = [
        augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1].xy[0, 0, 1]
        > 0
        for seed in range(60)
    ]
    assert 25 < sum(heads_inside) < 50  # six in ten


def test_half_a_body_of_three_joints_is_the_whole_person():
    xy = np.full((17, 2), np.nan, np.float32)
    xy[[0, 5, 6, 11, 12]] = np.array(list(STANDING.values()))[[0, 5, 6, 11, 12]]
    sample = make_sample(xy)
    rules = replace(NO_AUGMENTATION, half_body=1)
    for seed in range(6):
        _, moved = augment(noise_photo(), sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        plain = transform(crop_map(square_around(sample.target_box(), 1.25), SIZE), sample.xy)
        assert moved.xy == pytest.approx(plain, abs=1e-3, nan_ok=True)


def test_another_target_must_be_large_and_well_labelled():
    """Of four people only the first and the third have six joints and a fifth of the photo."""
    standing = np.array(list(STANDING.values()), np.float32)
    few = standing.copy()
    few[5:] = np.nan
    sample = make_sample(standing, standing * 0.2 + 5, standing * 0.7 + 30, few)
    rules = replace(NO_AUGMENTATION, other_target=1)
    chosen = []
    for seed in range(40):
        _, moved = augment(noise_photo(), sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        chosen.append(moved.target)
        box = box_around(moved.xy[moved.target])
        assert (box[:2] + box[2:]) / 2 == pytest.approx((48, 48), abs=1e-3)
        assert moved.xy.shape == (4, 17, 2)  # everybody is still there
    assert set(chosen) == {0, 2}


def test_when_nobody_else_is_good_the_target_stays():
    few = np.full((17, 2), np.nan, np.float32)
    few[0:3] = [[10, 10], [30, 30], [20, 80]]
    rules = replace(NO_AUGMENTATION, other_target=1)
    _, moved = augment(noise_photo(), make_sample(few), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert moved.target == 0


# --- pixels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["colour", "grey", "blur", "cutout"])
def test_changing_pixels_moves_no_joint(name):
    sample, photo = make_sample(), noise_photo()
    for seed in range(5):
        plain, straight = augment(photo, sample, size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(seed))
        rules = replace(NO_AUGMENTATION, **{name: 1})
        picture, moved = augment(photo, sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        assert (picture.shape, picture.dtype) == (plain.shape, np.uint8)
        assert not np.array_equal(picture, plain)
        assert np.array_equal(moved.xy, straight.xy)
        assert np.array_equal(moved.visibility, straight.visibility)


def test_grey_is_grey():
    rules = replace(NO_AUGMENTATION, grey=1)
    picture, _ = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()


def test_colour_of_no_strength_changes_nothing():
    photo = noise_photo()
    plain, _ = augment(photo, make_sample(), size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    rules = replace(NO_AUGMENTATION, colour=1, colour_strength=0)
    picture, _ = augment(photo, make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert np.abs(picture.astype(int) - plain).max() <= 1


def test_the_cut_out_is_one_rectangle_of_the_asked_size():
    rules = replace(NO_AUGMENTATION, cutout=1, cutout_size=(0.25, 0.5))
    photo = noise_photo()
    for seed in range(20):
        plain, _ = augment(
            photo, make_sample(), size_wh=(96, 64), rules=NO_AUGMENTATION, rng=np.random.default_rng(seed)
        )
        picture, _ = augment(photo, make_sample(), size_wh=(96, 64), rules=rules, rng=np.random.default_rng(seed))
        rows, columns = np.nonzero((picture != plain).any(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 24 - 1 <= width <= 48
        assert 16 - 1 <= height <= 32
        assert len(rows) > 0.9 * height * width


@pytest.mark.parametrize("size", [(32, 32), (64, 32)])
def test_every_rule_works_at_the_smallest_input(size):
    rules = Augmentation(
        flip=1, rotate=1, half_body=1, other_target=1, colour=1, grey=1, blur=1, cutout=1, cutout_size=(0.01, 1)
    )
    for seed in range(20):
        picture, moved = augment(
            noise_photo(), make_sample(), size_wh=size, rules=rules, rng=np.random.default_rng(seed)
        )
        assert picture.shape == (size[1], size[0], 3)
        assert np.isfinite(moved.xy).all()


# --- the rest ------------------------------------------------------------------------------------------------------


def test_the_same_generator_gives_the_same_picture():
    photo, sample = noise_photo(), make_sample()
    first = augment(photo, sample, size_wh=SIZE, rules=Augmentation(), rng=np.random.default_rng(7))
    again = augment(photo, sample, size_wh=SIZE, rules=Augmentation(), rng=np.random.default_rng(7))
    other = augment(photo, sample, size_wh=SIZE, rules=Augmentation(), rng=np.random.default_rng(8))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1].xy, again[1].xy)
    assert not np.array_equal(first[0], other[0])


def test_photo_and_sample_are_left_alone():
    photo, sample = noise_photo(), make_sample()
    before = photo.copy(), sample.xy.copy(), sample.box_xyxy.copy()
    for seed in range(5):
        augment(photo, sample, size_wh=SIZE, rules=Augmentation(), rng=np.random.default_rng(seed))
    assert np.array_equal(photo, before[0])
    assert np.array_equal(sample.xy, before[1])
    assert np.array_equal(sample.box_xyxy, before[2])


def test_a_photo_without_people_is_cut_around_its_middle():
    """240 x 200 pixels, the side 1.25 times 240 = 300: a scale of .32, the middle in the middle."""
    picture, moved = augment(
        spot((120, 100)), nobody(), size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0)
    )
    assert centre_of_light(picture) == pytest.approx((48, 48), abs=0.2)
    assert moved.target == -1
    assert moved.xy.shape == (0, 17, 2)
    assert moved.box_xyxy.shape == (0, 4)
    edge, _ = augment(spot((20, 100)), nobody(), size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    assert centre_of_light(edge) == pytest.approx((48 - 100 * 0.32, 48), abs=0.2)


def test_the_whole_photo_is_shown_however_small_its_target():
    """240 x 200 pixels in 96: a side of 216 to 276 pixels, moved by 4 % of it at most; the target stays who it was."""
    rules = replace(NO_AUGMENTATION, whole_photo=1, other_target=1, half_body=1)
    standing = list(STANDING.values())
    sample = make_sample(standing, standing, target=1)
    sides, middles = [], []
    for seed in range(40):
        _, moved = augment(noise_photo(), sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
        assert moved.target == 1
        matrix = affine_between(sample.xy[1], moved.xy[1])
        sides.append(SIZE[0] / matrix[0, 0])
        middles.append(transform(matrix, np.array([[120.0, 100.0]]))[0] / SIZE)
    assert 216 <= min(sides) < 226 < 266 < max(sides) <= 276
    off = np.abs(np.array(middles) - 0.5)
    assert 0.03 < off.max() <= 0.0401


def test_a_second_look_is_the_smart_crop_of_the_labelled_joints():
    """The crop of `predict`, up to a fifth larger or smaller and moved by 5 %; the whole photo without hips."""
    rules = replace(NO_AUGMENTATION, second_look=1, other_target=1, half_body=1)
    standing = np.array(list(STANDING.values()), np.float32)
    sample = make_sample(standing, standing * 0.5 + 60, target=1)
    pose = Pose(sample.xy[1], np.ones(17), COCO17)
    crop = smart_crop(pose, PHOTO)
    assert crop[2] - crop[0] < 200
    for wanted, seen in ((crop, sample), (whole_frame(PHOTO), _without_hips(sample))):
        sides, middles = [], []
        for seed in range(40):
            _, moved = augment(noise_photo(), seen, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))
            assert moved.target == 1
            matrix = affine_between(sample.xy[0], moved.xy[0])
            sides.append(SIZE[0] / matrix[0, 0] / (wanted[2] - wanted[0]))
            middles.append(transform(matrix, (wanted[:2] + wanted[2:])[None] / 2)[0] / SIZE)
        assert 0.85 <= min(sides) < 0.9 < 1.1 < max(sides) <= 1.2001
        off = np.abs(np.array(middles) - 0.5)
        assert 0.03 < off.max() <= 0.0501


def _without_hips(sample):
    """The target loses its hips; the other person keeps all joints."""
    visibility, xy = sample.visibility.copy(), sample.xy.copy()
    visibility[1, 11:13], xy[1, 11:13] = 0, np.nan
    return replace(sample, visibility=visibility, xy=xy)


def test_every_rule_stands_a_photo_without_people():
    rules = Augmentation(flip=1, rotate=1, half_body=1, other_target=1, whole_photo=0.5, second_look=1, colour=1, cutout=1)
    picture, moved = augment(noise_photo(), nobody(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert picture.shape == (96, 96, 3)
    assert len(moved.xy) == 0


def test_people_without_a_target_move_with_the_photo():
    sample = make_sample(target=-1)
    _, moved = augment(noise_photo(), sample, size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    matrix = crop_map(square_around(np.array([0, 0, *PHOTO]), 1.25), SIZE)
    assert moved.xy == pytest.approx(transform(matrix, sample.xy), abs=1e-3)


def test_a_target_without_a_size_is_shown_in_the_whole_photo():
    """A single labelled joint and no box."""
    xy = np.full((17, 2), np.nan, np.float32)
    xy[0] = (50, 60)
    sample = make_sample(xy)
    picture, moved = augment(noise_photo(), sample, size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(0))
    assert picture.shape == (96, 96, 3)
    matrix = crop_map(square_around(np.array([0, 0, *PHOTO]), 1.25), SIZE)
    assert moved.xy[0, 0] == pytest.approx(transform(matrix, xy[0]), abs=1e-3)


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_probability_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"augment\.{name} is a probability in \[0, 1\], got"):
        Augmentation(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crop_scale", (2, 1)),
        ("crop_scale", (0, 1)),
        ("crop_scale", (float("nan"), 1)),
        ("cutout_size", (-0.1, 0.2)),
        ("cutout_size", (0.5, 1.2)),
        ("colour_strength", -0.1),
        ("colour_strength", 1.5),
        ("shift", -0.1),
        ("rotate_deviation", -5),
        ("drop_size", (0, 0.2)),
        ("drop_size", (0.5, 1.2)),
        ("joint_area", (2000, 1000)),
        ("joint_area", (0, 1000)),
        ("joint_area", (2000, 30000)),
        ("joint_area", (float("nan"), 2000)),
        ("shine_share", (0.5, 1.2)),
        ("stretch", -0.1),
        ("stretch", 1),
        ("stretch", float("nan")),
        ("paste_choices", 0),
        ("paste_choices", 17),
    ],
)
def test_an_impossible_range_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"augment\.{name} .*got"):
        Augmentation(**{name: value})


def test_a_camera_and_several_ways_of_pasting_exclude_each_other():
    Augmentation(camera=0.1, paste_choices=3)
    with pytest.raises(ValueError, match=r"augment\.camera does not go with augment\.paste_choices above 1"):
        Augmentation(camera=0.1, paste_parts=0.5, paste_choices=3)


@pytest.mark.parametrize(("area", "mode"), [((0, 0), 5000), ((2000, 4000), 5000), ((2000, 4000), 1000)])
def test_a_mode_outside_its_range_is_refused(area, mode):
    with pytest.raises(ValueError, match=r"augment\.joint_area_mode must lie in augment\.joint_area"):
        Augmentation(joint_area=area, joint_area_mode=mode)


# --- pictures of older recipes -------------------------------------------------------------------------------------

NEXT_NUMBERS = [0.299712, 0.203455, 0.187253, 0.104399, 0.430496, 0.974186, 0.627468, 0.98896, 0.646858, 0.299181]
"""What each generator gives after a picture, as before the rules that came later: they drew nothing and changed nothing."""


def test_rules_that_are_off_draw_no_random_number():
    first = np.array(list(STANDING.values()), np.float32)
    sample, photo = make_sample(first, first * 0.6 + 20), noise_photo()
    for seed, expected in enumerate(NEXT_NUMBERS):
        rng = np.random.default_rng(seed)
        augment(photo, sample, size_wh=SIZE, rules=Augmentation(), rng=rng)
        assert rng.random() == pytest.approx(expected, abs=1e-6)


# --- holes on joints -----------------------------------------------------------------------------------------------


def changed(rules, seed, *, sample=None, size=SIZE, bank=None):
    """(H, W) bool: where a rule changes the plain picture; and the labels."""
    sample = make_sample() if sample is None else sample
    facts = {"size_wh": size, "bank": bank}
    plain, _ = augment(noise_photo(), sample, rules=NO_AUGMENTATION, rng=np.random.default_rng(seed), **facts)
    picture, moved = augment(noise_photo(), sample, rules=rules, rng=np.random.default_rng(seed), **facts)
    return (picture != plain).any(axis=2), moved


def test_dropped_joints_are_hidden_and_stay_labelled():
    """One to five of 17 joints lie under a hole; a hole changes nearly every pixel that it covers."""
    rules = replace(NO_AUGMENTATION, drop_joints=1, drop_size=(0.1, 0.1))
    counts = []
    for seed in range(40):
        hidden, moved = changed(rules, seed)
        assert (moved.visibility[0] == 2).all()
        cells = np.floor(moved.xy[0]).astype(int)
        counts.append(sum(hidden[y - 1 : y + 2, x - 1 : x + 2].mean() > 0.8 for x, y in cells))
        assert hidden.sum() <= 5 * 11 * 11
    assert min(counts) >= 1
    assert max(counts) > 3


def test_holes_stay_near_joints_of_the_target():
    first = np.array(list(STANDING.values()), np.float32)
    sample = make_sample(first * 0.5, first * 0.5 + 100)  # somebody else at the lower right
    rules = replace(NO_AUGMENTATION, drop_joints=1, drop_size=(0.05, 0.1))
    for seed in range(20):
        hidden, moved = changed(rules, seed, sample=sample)
        rows, columns = np.nonzero(hidden)
        near = np.abs(np.stack([columns, rows], axis=1)[:, None] - moved.xy[0]).max(axis=2).min(axis=1)
        assert near.max() <= 0.1 * 96 * (0.5 + 0.3) + 2


@pytest.mark.parametrize("name", ["drop_joints", "paste_parts"])
def test_nobody_has_no_joints_to_hide(name):
    bank = one_limb()
    for sample in (nobody(), make_sample(np.full((17, 2), 500, np.float32), target=-1)):
        assert not changed(replace(NO_AUGMENTATION, **{name: 1}), 0, sample=sample, bank=bank)[0].any()


# --- pasted limbs --------------------------------------------------------------------------------------------------


def one_limb(photo_id="other", share=0.2):
    """A red limb without soft edges."""
    rgb = np.zeros((20, 8, 3), np.uint8)
    rgb[..., 0] = 255
    return LimbBank((Limb(rgb, np.ones((20, 8), np.float32), share, photo_id),))


def test_limbs_are_pasted_near_joints_and_the_labels_stay():
    """20 % of 144 px at a scale of 96 / 180: 15 px times .7 to 1.3, up to three of them."""
    rules = replace(NO_AUGMENTATION, paste_parts=1)
    sizes = []
    for seed in range(40):
        pasted, moved = changed(rules, seed, bank=one_limb())
        plain = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=NO_AUGMENTATION, rng=np.random.default_rng(seed))
        assert np.array_equal(moved.xy, plain[1].xy) and np.array_equal(moved.visibility, plain[1].visibility)
        sizes.append(pasted.sum())
    assert max(sizes) <= 3 * (15.4 * 1.3 + 2) ** 2 * 0.5
    assert np.mean(np.array(sizes) > 0) > 0.9


def test_nobody_gets_limbs_of_the_own_photo():
    assert not changed(replace(NO_AUGMENTATION, paste_parts=1), 0, bank=one_limb(photo_id="p"))[0].any()


def test_pasting_needs_a_bank():
    with pytest.raises(ValueError, match="needs a bank of limbs"):
        changed(replace(NO_AUGMENTATION, paste_parts=1), 0)


def test_ways_of_pasting_differ_in_the_limbs_alone():
    """Colour, blur and holes are the same in all of them, and the first way is the only one of a single choice."""
    rules = Augmentation(paste_parts=1, paste_choices=4, colour=1, cutout=1, drop_joints=1)
    facts = {"size_wh": SIZE, "rules": rules, "bank": one_limb()}
    ways, moved = augment_choices(noise_photo(), make_sample(), rng=np.random.default_rng(3), **facts)
    assert ways.shape == (4, 96, 96, 3)
    assert len({way.tobytes() for way in ways}) == 4
    first, once = augment(noise_photo(), make_sample(), rng=np.random.default_rng(3), **facts)
    assert np.array_equal(first, ways[0]) and np.array_equal(once.xy, moved.xy)
    differ = (ways != ways[0]).any(axis=(0, 3)).mean()
    assert 0 < differ < 0.5


def test_where_nothing_is_pasted_all_ways_are_the_same():
    rules = Augmentation(paste_parts=1e-9, paste_choices=3)
    ways, _ = augment_choices(
        noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0), bank=one_limb()
    )
    assert ways.shape == (3, 96, 96, 3) and (ways == ways[0]).all()


# --- the area of people --------------------------------------------------------------------------------------------


def area_at_160(moved):
    box = box_around(moved.xy[0])
    return np.prod(box[2:] - box[:2]) * (160 / min(moved.size_wh)) ** 2


@pytest.mark.parametrize("size", [SIZE, (128, 64)])
def test_the_joint_box_has_the_area_that_is_asked_for(size):
    rules = replace(NO_AUGMENTATION, joint_area=(3000, 3000))
    _, moved = augment(noise_photo(), make_sample(), size_wh=size, rules=rules, rng=np.random.default_rng(0))
    assert area_at_160(moved) == pytest.approx(3000, rel=1e-4)


def test_areas_are_drawn_triangularly_within_their_range():
    """Of a triangle over 2,000 to 6,000 with its peak at 3,000 a quarter lies below the peak; the mean is 3,667."""
    rules = replace(NO_AUGMENTATION, joint_area=(2000, 6000), joint_area_mode=3000)
    sample = make_sample()
    areas = []
    for seed in range(600):
        matrix, _ = draw_map(sample, 0, SIZE, rules, np.random.default_rng(seed))
        areas.append(area_at_160(move_sample(sample, matrix, SIZE)))
    assert 2000 <= min(areas) < 2300 and 5500 < max(areas) <= 6000
    assert np.mean(areas) == pytest.approx(11000 / 3, rel=0.03)
    assert np.mean(np.array(areas) < 3000) == pytest.approx(0.25, abs=0.06)


def test_nobody_is_cut_closer_than_the_crop_scale_allows():
    """The body is 80 x 144: at its closest it covers 80 / 144 of 160 x 160 px."""
    rules = replace(NO_AUGMENTATION, joint_area=(20000, 20000), crop_scale=(1, 1.5))
    _, moved = augment(noise_photo(), make_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0))
    assert area_at_160(moved) == pytest.approx(160 * 160 * 80 / 144, rel=1e-3)


def test_a_person_without_an_area_is_cut_by_the_crop_scale():
    xy = np.full((17, 2), np.nan, np.float32)
    xy[0] = (50, 60)
    rules = replace(NO_AUGMENTATION, joint_area=(2000, 6000))
    box = np.array([[30, 40, 70, 80]], np.float32)
    _, moved = augment(
        noise_photo(), make_sample(xy, box_xyxy=box), size_wh=SIZE, rules=rules, rng=np.random.default_rng(0)
    )
    assert moved.box_xyxy[0, 2] - moved.box_xyxy[0, 0] == pytest.approx(96 / 1.25)


# --- background ----------------------------------------------------------------------------------------------------


def corner_sample(**changes):
    """Somebody in the upper left quarter of a photo of 240 x 200."""
    return make_sample(np.array(list(STANDING.values()), np.float32) * 0.4, **changes)


@pytest.mark.parametrize("size", [SIZE, (128, 64)])
def test_background_touches_nobody_and_lies_inside_the_photo(size):
    sample = corner_sample(ignore_xyxy=np.array([[150, 120, 240, 200]], np.float32))
    taken = np.concatenate([sample.box_xyxy, sample.ignore_xyxy])
    found = [background_region(sample, size, np.random.default_rng(seed)) for seed in range(60)]
    regions = np.array([region for region in found if region is not None])
    assert len(regions) > 40
    assert (regions[:, :2] >= 0).all() and (regions[:, 2:] <= np.array(PHOTO) + 1e-9).all()
    for box in taken:
        assert not ((regions[:, :2] < box[2:]).all(axis=1) & (regions[:, 2:] > box[:2]).all(axis=1)).any()
    shape = regions[:, 2:] - regions[:, :2]
    assert shape[:, 0] / shape[:, 1] == pytest.approx(size[0] / size[1])
    assert shape[:, 0].max() > 1.5 * shape[:, 0].min()


def test_a_picture_of_background_has_no_people_in_its_labels():
    rules = replace(NO_AUGMENTATION, background=1)
    for seed in range(5):
        picture, moved = augment(
            noise_photo(), corner_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed)
        )
        assert picture.shape == (96, 96, 3)
        assert picture.any(axis=2).any(axis=1).all() and picture.any(axis=2).any(axis=0).all()  # no empty border
        assert moved.target == -1 and len(moved.xy) == len(moved.box_xyxy) == len(moved.visibility) == 0


def test_a_photo_full_of_people_is_cut_as_ever():
    box = np.array([[0, 0, *PHOTO]], np.float32)
    facts = {"size_wh": SIZE, "rng": np.random.default_rng(0)}
    rules = replace(NO_AUGMENTATION, background=1)
    picture, moved = augment(noise_photo(), make_sample(box_xyxy=box), rules=rules, **facts)
    plain, _ = augment(noise_photo(), make_sample(box_xyxy=box), rules=NO_AUGMENTATION, **facts)
    assert moved.target == 0 and len(moved.xy) == 1
    assert np.array_equal(picture, plain)


def test_a_share_of_the_pictures_is_background():
    rules = replace(NO_AUGMENTATION, background=0.25)
    empty = [
        augment(noise_photo(), corner_sample(), size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1].target < 0
        for seed in range(300)
    ]
    assert 0.18 < np.mean(empty) < 0.32


def test_another_target_of_a_small_skeleton_has_all_of_its_joints():
    climber = Skeleton("climber", ("head", "a", "b", "c", "d"), (), ())
    xy = np.array([[[20, 20], [40, 20], [20, 80], [40, 80], [30, 50]]], np.float32)
    xy = np.concatenate([xy, xy + np.float32((40, 0)), xy])
    xy[2, 0] = np.nan
    visibility = np.where(np.isfinite(xy[..., 0]), 2, 0).astype(np.int8)
    sample = replace(
        make_sample(), skeleton=climber, xy=xy, visibility=visibility,
        box_xyxy=np.stack([box_around(p) for p in xy]).astype(np.float32), area=np.full(3, 900, np.float32),
    )  # fmt: skip
    rules = replace(NO_AUGMENTATION, other_target=1)
    chosen = {
        augment(noise_photo(), sample, size_wh=SIZE, rules=rules, rng=np.random.default_rng(seed))[1].target
        for seed in range(20)
    }
    assert chosen == {0, 1}

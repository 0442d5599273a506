"""Geometry: one pixel convention, checked by hand on points and by single bright pixels on pictures."""

import math

import cv2
import numpy as np
import pytest

from featherpose.geometry import (
    _whole_part,
    box_of_points,
    compose,
    crop_map,
    flip_joints,
    identity,
    invert,
    letterbox,
    mirror,
    rotation,
    scale_of,
    scaling,
    square_around,
    transform,
    transform_point,
    translation,
    warp,
    whole_pixels,
)
from featherpose.skeletons import COCO17, Skeleton

BILINEAR = 0.1
"""Grey levels that a ramp of one level per pixel may be off: OpenCV 4 counts positions in 1/32 px."""


def at(matrix, x, y):
    return transform(matrix, np.array([x, y], np.float64)).tolist()


@pytest.mark.parametrize(
    ("matrix", "point", "moved"),
    [
        (identity(), (3, 4), (3, 4)),
        (translation(10, -2), (3, 4), (13, 2)),
        (scaling(2), (3, 4), (6, 8)),
        (scaling(2, 0.5), (3, 4), (6, 2)),
        (mirror(100), (3, 4), (97, 4)),
        (mirror(100), (100, 4), (0, 4)),
        (rotation(90), (1, 0), (0, 1)),
        (rotation(90), (0, 1), (-1, 0)),
        (rotation(45), (1, 0), (0.5**0.5, 0.5**0.5)),
        (rotation(-90), (1, 0), (0, -1)),
    ],
    ids=["identity", "translation", "scaling", "scaling by axis", "mirror", "mirror of the right edge", "x turns down",
         "y turns left", "an eighth of a turn", "the other way"],
)  # fmt: skip
def test_maps_move_points_as_computed_by_hand(matrix, point, moved):
    assert matrix.shape == (2, 3)
    assert at(matrix, *point) == pytest.approx(moved)


def test_compose_applies_the_first_map_first():
    assert at(compose(translation(1, 0), scaling(10)), 2, 3) == [30, 30]
    assert at(compose(scaling(10), translation(1, 0)), 2, 3) == [21, 30]
    assert at(compose(translation(1, 2), scaling(2), mirror(100)), 3, 4) == [92, 12]
    assert at(compose(), 2, 3) == [2, 3]


def test_invert_undoes_a_map():
    matrix = compose(rotation(33), scaling(0.3, 2), translation(7, -9), mirror(64))
    assert compose(matrix, invert(matrix)) == pytest.approx(identity())
    assert invert(compose(translation(1, 2), scaling(4))) == pytest.approx(np.array([[0.25, 0, -1], [0, 0.25, -2]]))


def test_a_map_onto_a_line_has_no_inverse():
    with pytest.raises(ValueError, match="no inverse"):
        invert(scaling(3, 0))


def test_transform_keeps_shape_and_float_type():
    points = np.zeros((2, 5, 17, 2), np.float32)
    assert transform(translation(1, 2), points).shape == points.shape
    assert transform(translation(1, 2), points).dtype == np.float32
    assert transform(translation(0.5, 0), np.array([[1, 2]])).tolist() == [[1.5, 2]]  # integers become floats


def test_nan_stays_nan_and_touches_nobody_else():
    points = np.array([[1, 2], [np.nan, np.nan], [3, 4]], np.float32)
    moved = transform(compose(rotation(30), scaling(2)), points)
    assert np.isnan(moved[1]).all()
    assert np.isfinite(moved[[0, 2]]).all()


def test_scale_is_the_root_of_the_area_factor():
    assert scale_of(scaling(2, 8)) == pytest.approx(4)
    assert scale_of(compose(mirror(10), rotation(12), scaling(0.25))) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("size_wh", "out_wh", "corners"),
    [
        ((100, 50), (200, 200), [(0, 50), (200, 150)]),
        ((50, 100), (200, 200), [(50, 0), (150, 200)]),
        ((400, 200), (100, 100), [(0, 25), (100, 75)]),
        ((64, 64), (128, 96), [(16, 0), (112, 96)]),
        ((3, 2), (96, 64), [(0, 0), (96, 64)]),
    ],
    ids=["wide photo", "high photo", "shrinking", "input is wide", "same shape"],
)
def test_letterbox_fits_the_photo_and_centres_it(size_wh, out_wh, corners):
    matrix = letterbox(size_wh, out_wh)
    assert at(matrix, 0, 0) == pytest.approx(corners[0])
    assert at(matrix, *size_wh) == pytest.approx(corners[1])


def test_crop_map_takes_the_box_onto_the_input():
    matrix = crop_map(np.array([10, 20, 30, 40]), (100, 100))
    assert at(matrix, 10, 20) == pytest.approx((0, 0))
    assert at(matrix, 30, 40) == pytest.approx((100, 100))
    assert at(matrix, 20, 25) == pytest.approx((50, 25))


def test_crop_map_letterboxes_a_box_of_another_shape():
    matrix = crop_map(np.array([-10, 0, 30, 20]), (80, 80))  # 40 x 20 becomes 80 x 40
    assert at(matrix, -10, 0) == pytest.approx((0, 20))
    assert at(matrix, 30, 20) == pytest.approx((80, 60))


def test_square_around_keeps_the_centre_and_the_longer_side():
    assert square_around(np.array([10, 20, 30, 60]), 1.0).tolist() == [0, 20, 40, 60]
    assert square_around(np.array([10, 20, 30, 60]), 1.25).tolist() == [-5, 15, 45, 65]
    assert square_around(np.array([0, 0, 8, 2]), 2).tolist() == [-4, -7, 12, 9]


def test_box_of_points_leaves_out_nan():
    points = np.array([[5, 1], [np.nan, np.nan], [2, 9], [3, 3]], np.float32)
    assert box_of_points(points).tolist() == [2, 1, 5, 9]
    assert box_of_points(points[1:2]) is None
    assert box_of_points(np.zeros((0, 2))) is None
    assert box_of_points(points[2]).tolist() == [2, 9, 2, 9]


def test_a_square_around_a_point_is_as_large_as_around_a_pixel():
    assert square_around(np.array([3.0, 4, 3, 4]), 2.0).tolist() == [2, 3, 4, 5]
    assert square_around(np.array([3.0, 4, 7, 6]), 1.5).tolist() == [2, 2, 8, 8]


def test_flip_joints_swaps_rows_by_the_pairs():
    skeleton = Skeleton("s", ("left", "middle", "right"), flip_pairs=(("left", "right"),))
    assert flip_joints(np.array([[1, 2], [3, 4], [5, 6]]), skeleton).tolist() == [[5, 6], [3, 4], [1, 2]]
    twice = flip_joints(flip_joints(np.arange(17), COCO17), COCO17)
    assert twice.tolist() == list(range(17))


# --- pictures ------------------------------------------------------------------------------------------------------


def centre_of_light(image):
    """(x, y) of the middle of what is bright, continuous pixels."""
    light = image[..., 0].astype(np.float64)
    rows, columns = np.indices(light.shape)
    return np.array([(light * (columns + 0.5)).sum(), (light * (rows + 0.5)).sum()]) / light.sum()


TURNED = compose(translation(-32, -32), rotation(30), translation(32, 32))
WARPS = {
    "nothing": identity(),
    "whole pixels": translation(3, -2),
    "half pixels": translation(0.5, 0.25),
    "twice as large": scaling(2),
    "half": scaling(0.5),
    "a third": scaling(1 / 3),
    "a quarter": scaling(0.25),
    "an odd factor": scaling(0.37),
    "three quarters": scaling(0.75),
    "turned": TURNED,
    "turned and shrunk": compose(TURNED, scaling(0.25), translation(5, 3)),
    "mirrored": mirror(64),
    "mirrored and shrunk": compose(mirror(64), scaling(0.5)),
    "mirrored, turned, shrunk": compose(mirror(64), TURNED, scaling(0.4), translation(2, 1)),
    "cut out and shrunk": crop_map(np.array([7, 5, 59, 57]), (20, 20)),
}


@pytest.mark.parametrize("name", WARPS)
def test_a_bright_spot_lands_where_transform_says(name):
    """A soft spot 20 pixels wide keeps its middle, whatever the map; a shift of half a pixel would show."""
    rows, columns = np.indices((64, 64)) + 0.5
    image = np.repeat(np.exp(-((columns - 28) ** 2 + (rows - 32) ** 2) / 50).astype(np.float32)[..., None], 3, axis=2)
    found = centre_of_light(warp(image, WARPS[name], (128, 128)))
    assert found == pytest.approx(at(WARPS[name], 28, 32), abs=0.05)


@pytest.mark.parametrize(
    ("matrix", "pixel"),
    [
        (identity(), (20, 12)),
        (translation(4, 5), (24, 17)),
        (mirror(64), (43, 12)),  # x 20.5 becomes 43.5
        (compose(translation(-32, -32), rotation(90), translation(32, 32)), (51, 20)),  # (20.5, 12.5) -> (51.5, 20.5)
    ],
    ids=["nothing", "shift", "mirror", "quarter turn"],
)
def test_a_single_pixel_stays_a_single_pixel(matrix, pixel):
    image = np.zeros((64, 64, 3), np.uint8)
    image[12, 20] = (200, 100, 50)
    warped = warp(image, matrix, (64, 64))
    column, row = pixel
    assert warped[row, column].tolist() == [200, 100, 50]
    assert np.count_nonzero(warped.any(axis=2)) == 1


def test_a_single_pixel_grows_around_its_own_centre():
    """Twice as large: the centre (20.5, 12.5) comes to (41, 25), between four pixels that are equally bright."""
    image = np.zeros((32, 32, 1), np.float32)
    image[12, 20] = 16
    warped = warp(image, scaling(2), (64, 64)).reshape(64, 64)
    assert warped[24:26, 40:42].tolist() == [[9, 9], [9, 9]]  # 3/4 x 3/4 of 16
    assert warped[23:27, 39:43].sum() == pytest.approx(64)
    assert warped.sum() == pytest.approx(64)


@pytest.mark.parametrize(("factor", "pixel"), [(2, (10, 6)), (4, (5, 3)), (8, (2, 1))])
def test_shrinking_averages_whole_blocks(factor, pixel):
    """One bright pixel of 64 x 64 in its block of factor x factor pixels; none is skipped over."""
    image = np.zeros((64, 64, 1), np.float32)
    image[12, 20] = factor**2
    warped = warp(image, scaling(1 / factor), (64 // factor, 64 // factor)).reshape(64 // factor, -1)
    column, row = pixel
    assert warped[row, column] == pytest.approx(1, abs=1e-3)
    assert warped.sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", WARPS)
def test_a_ramp_is_the_ramp_at_the_points_it_came_from(name):
    """Value = x + 2 y of a pixel's centre; after any map each pixel shows that of the point it looks at."""
    rows, columns = np.indices((64, 64)) + 0.5
    image = np.repeat((columns + 2 * rows).astype(np.float32)[..., None], 3, axis=2)
    warped = warp(image, WARPS[name], (48, 40))
    rows, columns = np.indices((40, 48)) + 0.5
    seen = transform(invert(WARPS[name]), np.stack([columns, rows], axis=2))
    reach = 1 + 1 / scale_of(WARPS[name])
    inside = ((seen > reach) & (seen < 64 - reach)).all(axis=2)
    assert inside.sum() > 40
    error = np.abs(warped[..., 0] - (seen[..., 0] + 2 * seen[..., 1]))[inside]
    assert error.max() < 3 * BILINEAR


@pytest.mark.parametrize("name", ["nothing", "half", "a quarter", "turned and shrunk"])
def test_outside_the_picture_stands_the_border_colour(name):
    image = np.full((64, 64, 3), 200, np.uint8)
    matrix = compose(WARPS[name], translation(30, 40))
    assert warp(image, matrix, (90, 100))[0, 0].tolist() == [0, 0, 0]
    warped = warp(image, matrix, (90, 100), border=(1, 2, 3))
    assert warped.shape == (100, 90, 3)
    assert warped[0, 0].tolist() == [1, 2, 3]
    x, y = at(matrix, 32, 32)
    assert warped[int(y), int(x)].tolist() == [200, 200, 200]


@pytest.mark.parametrize("scale", [1, 0.25])
def test_a_region_wholly_outside_is_all_border(scale):
    warped = warp(np.full((64, 64, 3), 200, np.uint8), compose(scaling(scale), translation(500, 0)), (32, 32))
    assert not warped.any()


@pytest.mark.parametrize("side", [40_000, 33_000])
def test_very_long_pictures_are_no_obstacle(side):
    """OpenCV 4 refuses to warp pictures of more than 32,766 pixels a side."""
    image = np.zeros((20, side, 3), np.uint8)
    image[8:12, side - 12 : side - 8] = 255
    warped = warp(image, crop_map(np.array([side - 20, 0, side, 20]), (40, 40)), (40, 40))
    assert centre_of_light(warped) == pytest.approx((20, 20), abs=0.05)
    tall = warp(
        np.ascontiguousarray(image.transpose(1, 0, 2)), crop_map(np.array([0, side - 20, 20, side]), (40, 40)), (40, 40)
    )
    assert centre_of_light(tall) == pytest.approx((20, 20), abs=0.05)


def test_a_whole_very_long_picture_shrinks():
    image = np.zeros((20, 40_000, 3), np.uint8)
    image[:, 20_000:] = 200
    warped = warp(image, letterbox((40_000, 20), (64, 64)), (64, 64))
    assert warped.shape == (64, 64, 3)
    assert warped[32, 31].max() < 20 and warped[32, 33].min() > 150 and warped[20].max() == 0


@pytest.mark.parametrize("scale", (1.5, 0.7, 0.4, 0.2))
def test_colours_are_three_pictures_of_grey(scale):
    image = np.random.default_rng(0).integers(0, 256, (91, 120, 3), dtype=np.uint8)
    matrix = compose(scaling(scale), translation(3.25, -2.5))
    seen = warp(image, matrix, (48, 40), border=(10, 20, 30))
    alone = [warp(image[..., c].copy(), matrix, (48, 40), border=(10 * (c + 1),) * 3) for c in range(3)]
    np.testing.assert_allclose(seen, np.stack(alone, axis=2), atol=1)  # OpenCV rounds one channel and four differently


PARTS = [(20, 10, 70, 60), (-13, 4, 60, 77), (30, 24, 110, 104), (50, 60, 154, 164), (-40, -8, 168, 200), (0, 0, 120, 120)]
"""Squares in and around a picture of 120 x 91, to be seen at 48 pixels: the larger ones of whole halved pixels."""


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["colour", "grey", "float"])
def test_parts_of_whole_pixels_are_resized_to_what_a_warp_shows(part, kind):
    image = np.random.default_rng(0).integers(0, 256, (91, 120, 3), dtype=np.uint8)
    image = {"colour": image, "grey": image[..., 0].copy(), "float": image.astype(np.float32)}[kind]
    matrix = crop_map(np.array(part, float), (48, 48))
    step = max(1, 2 ** math.floor(math.log2((part[2] - part[0]) / 48)))
    assert _whole_part(matrix, (48, 48), image.shape, step) == part
    resized = warp(image, matrix, (48, 48), border=(10, 20, 30), quick=True)
    warped = warp(image, matrix, (48, 48), border=(10, 20, 30))
    assert resized.shape == warped.shape and resized.dtype == warped.dtype
    np.testing.assert_allclose(resized.astype(float), warped.astype(float), atol=1.01)


@pytest.mark.parametrize("matrix", [scaling(2), mirror(64), rotation(5), compose(scaling(0.5), translation(0.3, 0))])
def test_parts_that_are_not_of_whole_pixels_are_warped(matrix):
    assert _whole_part(matrix, (32, 32), (64, 64, 3), 1) is None


def test_a_point_moves_as_points_do():
    matrix = compose(rotation(20), scaling(0.3, 2), translation(4, -7))
    assert transform_point(matrix, (3.5, -8)) == pytest.approx(transform(matrix, np.array([3.5, -8])).tolist())


def test_a_square_of_whole_pixels_is_less_than_a_pixel_from_what_was_asked_for():
    rng = np.random.default_rng(0)
    for _ in range(200):
        x, y, side = rng.uniform(-100, 600), rng.uniform(-100, 600), rng.uniform(2, 1500)
        asked = np.array([x, y, x + side, y + side])
        whole = whole_pixels(asked, (192, 192))
        pixel = max(1, 2 ** math.floor(math.log2(side / 192)))
        assert np.abs(whole - asked).max() <= pixel and not (whole % pixel).any()
        assert whole[2] - whole[0] == whole[3] - whole[1]


def test_warp_leaves_the_picture_alone():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    before = image.copy()
    for matrix in WARPS.values():
        warp(image, matrix, (32, 32))
    assert np.array_equal(image, before)


def test_warp_takes_a_view_as_well_as_an_array():
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8), (5, 5), 0)
    view, copy = image[5:45, 8:60], image[5:45, 8:60].copy()
    for matrix in WARPS.values():
        assert np.array_equal(warp(view, matrix, (32, 32)), warp(copy, matrix, (32, 32)))

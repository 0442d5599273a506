"""Drawings show what counts, where it is, in the colour of its side, and leave the photo alone."""

import numpy as np
import pytest

from featherpose import Pose, Skeleton
from featherpose.runtime.draw import SIDE_COLOURS, draw_box, draw_pose, plain_text, sheet, write_text

ARM = Skeleton("arm", ("neck", "left_hand", "right_hand"), bones=(("neck", "left_hand"), ("neck", "right_hand")))
GREY = np.full((200, 300, 3), 90, np.uint8)


def _pose(score=(1, 1, 1), xy=((150, 60), (250, 140), (50, 140))):
    return Pose(np.array(xy, float), np.array(score, float), ARM)


def test_bones_and_joints_have_the_colour_of_their_side():
    drawn = draw_pose(GREY, _pose())
    for (x, y), colour in {
        (150, 60): SIDE_COLOURS["middle"],
        (250, 140): SIDE_COLOURS["left"],
        (200, 100): SIDE_COLOURS["left"],
        (100, 100): SIDE_COLOURS["right"],
        (50, 140): SIDE_COLOURS["right"],
    }.items():
        assert tuple(drawn[y, x]) == colour
    assert tuple(drawn[100, 150]) == (90, 90, 90)


def test_joints_below_the_threshold_and_their_bones_are_left_out():
    drawn = draw_pose(GREY, _pose(score=(1, 0.1, 1)), threshold=0.2)
    assert tuple(drawn[140, 250]) == tuple(drawn[100, 200]) == (90, 90, 90)
    assert tuple(drawn[100, 100]) == SIDE_COLOURS["right"]
    np.testing.assert_array_equal(draw_pose(GREY, _pose(score=(0, 0, 0))), GREY)


def test_the_photo_itself_is_not_drawn_upon():
    photo = GREY.copy()
    draw_pose(photo, _pose())
    draw_box(photo, [10, 10, 50, 50])
    np.testing.assert_array_equal(photo, GREY)


def test_lines_grow_with_the_person():
    small = draw_pose(GREY, _pose(xy=((150, 60), (160, 70), (140, 70))))
    assert (small != GREY).any(axis=2).sum() * 10 < (draw_pose(GREY, _pose()) != GREY).any(axis=2).sum()


@pytest.mark.parametrize("xy", [[(1e7, 0), (0, -1e7), (5, 5)], [(-3, -3), (305, 205), (0, 0)]])
def test_joints_far_outside_do_not_break_the_drawing(xy):
    assert draw_pose(GREY, _pose(xy=xy)).shape == GREY.shape


def test_a_drawing_on_one_pixel_works():
    assert draw_pose(np.zeros((1, 1, 3), np.uint8), _pose()).shape == (1, 1, 3)


def test_a_box_is_drawn_along_its_sides():
    changed = (draw_box(GREY, [20, 30, 120, 130]) != GREY).any(axis=2)
    assert changed[80, 20] and changed[30, 70] and changed[80, 119] and not changed[80, 70] and not changed[10, 10]


def test_a_sheet_holds_every_picture_in_its_tile():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    tiles = [np.full((100, 100, 3), colour, np.uint8) for colour in colours]
    picture = sheet(tiles, ["a", "b\nsecond line", "c" * 200], columns=2, tile=100)
    rows = [4, 4, (picture.shape[0] - 4) // 2 + 4]
    for colour, row, column in zip(colours, rows, [4, 108, 4], strict=True):
        assert (picture[row : row + 100, column : column + 100] == colour).all()
    assert (picture[104:140, 4:104] != 250).any()  # the caption


def test_a_sheet_pads_pictures_that_are_not_square():
    picture = sheet([np.full((50, 100, 3), 200, np.uint8)], tile=80)
    assert tuple(picture[44, 44]) == (200, 200, 200) and tuple(picture[8, 44]) == (0, 0, 0)


def test_captions_are_written_in_letters_that_the_font_has():
    """Löwe as one letter, as macOS writes it in two, and a letter that no font here has."""
    assert plain_text("Löwe.jpg") == plain_text("Lo\u0308we.jpg") == "Lowe.jpg" and plain_text("a\nß") == "a\n?"
    np.testing.assert_array_equal(sheet([GREY], ["Löwe"]), sheet([GREY], ["Lowe"]))
    pictures = [GREY.copy(), GREY.copy()]
    for picture, text in zip(pictures, ("Löwe", "Lowe"), strict=True):
        write_text(picture, text, (10, 100))
    np.testing.assert_array_equal(*pictures)


def test_a_sheet_needs_pictures_and_as_many_captions():
    with pytest.raises(ValueError, match="at least one picture"):
        sheet([])
    with pytest.raises(ValueError, match="sheet of 1 pictures needs as many captions, got 2"):
        sheet([GREY], ["a", "b"])

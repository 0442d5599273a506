"""Figures of tracking against values worked out by hand, and one bad track for each."""

import numpy as np
import pytest

from featherpose import Skeleton
from featherpose.metrics.tracking import (
    Track,
    body_size,
    following,
    identities,
    jitter,
    lag,
    on_whom,
    shifted,
    similarity,
)

TWO = Skeleton("two", ("head", "foot"), sigmas=(0.1, 0.1))
HERE, THERE = np.array([[50.0, 50.0], [50.0, 150.0]]), np.array([[250.0, 50.0], [250.0, 150.0]])
NOWHERE = np.full((2, 2), np.nan)


def track(on, seen, other=True, found=None):
    """A track at 10 frames a second: `on` and `seen` a letter per frame.

    on: t on the target, o on the other, x between them, . no pose. seen: v the target is visible, - gone. other: whether
    a second person is in the picture all the time.
    """
    places = {"t": HERE, "o": THERE, "x": (HERE + THERE) / 2, ".": NOWHERE}
    xy = np.stack([places[letter] for letter in on])
    truth, visibility, area = [], [], []
    for letter in seen:
        here = letter == "v"
        rows = [HERE if here else NOWHERE] + ([THERE] if other else [])
        truth.append(rows)
        visibility.append([[2, 2] if here else [0, 0]] + ([[2, 2]] if other else []))
        area.append([5000.0 * here] + ([5000.0] if other else []))
    said = np.array([letter != "." for letter in on]) if found is None else np.array(found)
    times, score = np.arange(len(on)) / 10, np.ones(xy.shape[:2])
    return Track("hand", TWO, times, xy, score, said, np.array(truth), np.array(visibility), np.array(area))


def test_similarity_is_oks_by_hand():
    some = track("t", "v")
    np.testing.assert_allclose(similarity(some), [[1, 0]], atol=1e-6)
    # 10 px beside one joint: exp(-100 / (2 * 5000 * .2 ** 2)) = exp(-.25)
    some.xy[0, 0, 0] += 10
    assert similarity(some)[0, 0] == pytest.approx((1 + np.exp(-0.25)) / 2)


def test_on_whom_needs_half_an_oks():
    np.testing.assert_array_equal(on_whom(similarity(track("tox.", "vvvv"))), [0, 1, -1, -1])
    np.testing.assert_array_equal(on_whom(np.zeros((3, 0))), [-1, -1, -1])


FOLLOWING = {
    "always right": (track("tttt", "vvvv"), {"AR": 1, "wrong": 0, "switches": 0}),
    # 2 of 8 frames are right
    "over to another": (track("ttoooooo", "vvvvvvvv"), {"AR": 0.25, "wrong": 0.75, "switches": 1}),
    "over with a gap, back, and over again": (track("t..oottoo", "vvvvvvvvv"), {"switches": 2, "wrong": 4 / 9}),
    "no pose is not another": (track("t...", "vvvv"), {"AR": 0.25, "wrong": 0, "switches": 0}),
    # back in frame 5, found in frame 7, .2 s later
    "found again": (track("tt....." + "ttt", "vv---vvvvv"), {"reacquire": 0.2, "missed": 0}),
    # back for .4 s until the clip ends
    "never found again": (track("tt........", "vv---vvvvv"), {"reacquire": 0.4, "missed": 1}),
    # first stay: missed after .1 s; second: found at once
    "two returns": (track("t.....tt", "v-vv--vv"), {"reacquire": 0.05, "missed": 0.5}),
    "on a stranger while gone": (track("tooott", "v----v"), {"stranger": 0.75, "switches": 1, "wrong": 0}),
    "a false alarm": (track("txxt", "v--v", other=False), {"false_alarm": 1}),
    "a false alarm that it was not sure of": (
        track("txxt", "v--v", other=False, found=(True, False, True, True)),
        {"false_alarm": 0.5},
    ),
}


@pytest.mark.parametrize("some, expected", FOLLOWING.values(), ids=FOLLOWING)
def test_figures_of_following(some, expected):
    figures = following([some])
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_what_no_clip_tells_is_not_a_number():
    figures = following([track("tttt", "vvvv")])
    assert all(np.isnan(figures[name]) for name in ("reacquire", "missed", "stranger", "false_alarm"))


def test_clips_without_anybody_count_false_alarms_only():
    alone = track("x.x.", "----", other=False)
    empty = Track(
        "empty", TWO, alone.times, alone.xy, alone.score, alone.found, np.zeros((4, 0, 2, 2)), np.zeros((4, 0, 2)),
        np.zeros((4, 0)),
    )  # fmt: skip
    figures = following([empty, track("tttt", "vvvv")])
    assert figures["false_alarm"] == 0.5 and figures["AR"] == 1 and figures["switches"] == 0


def test_everybody_is_found_and_keeps_a_number():
    numbered = [{1: HERE, 2: THERE}, {1: HERE, 3: THERE}, {1: THERE, 4: HERE + 400}, {}]
    # target: 1, 1, none, gone; other: 2, 3, 1, none. 5 of 3 + 4 are found; the other changes twice; one pose is nobody's
    figures = identities(numbered, track("....", "vvv-"))
    assert figures == pytest.approx({"found": 5 / 7, "changes": 2 / 2, "extra": 1 / 4})


def test_body_size_is_the_longer_side_of_what_is_known():
    np.testing.assert_array_equal(body_size(np.stack([HERE, NOWHERE])), [100, np.nan])


# --- calm and late ----------------------------------------------------------------------------------------------------


def test_jitter_by_hand():
    # x goes 0, 1, 0, 1 at 10 frames a second: speeds +-10 px/s, accelerations +-200 px/s^2
    xy = np.zeros((4, 1, 2))
    xy[1::2, 0, 0] = 1
    figures = jitter(xy, np.arange(4) / 10, size=50.0)
    assert figures["px_s2"] == pytest.approx(200) and figures["body_s2"] == pytest.approx(4)
    assert figures["spread"] == pytest.approx(0.5 / 50)


def test_jitter_knows_uneven_times_and_leaves_joints_out():
    times = np.array([0, 0.1, 0.3, 0.4, 0.8])
    xy = np.zeros((5, 2, 2))
    xy[:, 0, 0] = 30 * times  # evenly moving: no acceleration
    xy[2, 1] = 40
    assert jitter(xy, times, 50.0, np.array([True, False]))["px_s2"] == pytest.approx(0, abs=1e-9)
    assert jitter(xy, times, 50.0)["px_s2"] > 100


def swinging():
    times = np.arange(90) / 30
    xy = np.stack([100 * np.sin(4 * times), 60 * np.cos(3 * times)], axis=1)[:, None] + np.zeros((1, 3, 1))
    return times, xy, np.full(90, 200.0)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, -0.04])
def test_lag_is_the_delay(delay):
    times, xy, size = swinging()
    assert lag(shifted(xy, times, delay), xy, times, size)["seconds"] == pytest.approx(delay, abs=0.003)


def test_lag_is_not_fooled_by_a_constant_offset_or_lost_frames():
    times, xy, size = swinging()
    late = shifted(xy, times, 0.05) + 17
    late[20:30] = np.nan
    figures = lag(late, xy, times, size)
    assert figures["seconds"] == pytest.approx(0.05, abs=0.003) and figures["error"] > 0.02
    exact = lag(xy + 17, xy, times, size)
    assert exact["seconds"] == pytest.approx(0, abs=0.003) and exact["error"] == pytest.approx(0, abs=1e-9)


def test_joints_that_do_not_move_tell_no_lag():
    times, xy, size = swinging()
    still = np.zeros_like(xy)
    assert np.isnan(lag(xy, still, times, size)["seconds"])

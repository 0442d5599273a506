"""The One-Euro filter: by hand, by symmetry, and what it is for. The golden vectors are read by test_golden_live.py."""

import math

import numpy as np
import pytest

from featherpose.runtime.one_euro import TFJS, OneEuro, alpha

PAPER = {"power": 1.0, "by_score": 0.0}


def run(smooth, xy, dt=1 / 30, size=1.0, **options):
    """(T, K, 2): the filtered joints of (T, K, 2)."""
    return np.stack([smooth(row, n * dt, size, **options) for n, row in enumerate(xy)])


def test_alpha_is_that_of_the_paper():
    # te = 0.1 s, tau = 1 / (2 pi 0.5): alpha = 1 / (1 + tau / te)
    assert alpha(0.5, 0.1) == pytest.approx(1 / (1 + 1 / (2 * math.pi * 0.5) / 0.1))


def test_two_steps_by_hand():
    smooth = OneEuro(min_cutoff=1.0, beta=2.0, derivative_cutoff=1.0, **PAPER)
    first = smooth(np.array([[0.0, 0.0]]), 0.0, 10.0)
    np.testing.assert_array_equal(first, [[0, 0]])
    a = alpha(1.0, 0.1)
    speed = a * 5.0  # 3 and 4 px in .1 s of a body of 10 px: 5 body sizes a second, filtered once from rest
    second = smooth(np.array([[3.0, 4.0]]), 0.1, 10.0)
    np.testing.assert_allclose(second, alpha(1 + 2 * speed, 0.1) * np.array([[3.0, 4.0]]))


def test_the_power_applies_to_the_speed_and_the_score_to_the_cutoff():
    smooth = OneEuro(min_cutoff=1.0, beta=2.0, derivative_cutoff=1.0, power=2.0, by_score=1.0)
    smooth(np.zeros((2, 2)), 0.0, 10.0)
    speed = alpha(1.0, 0.1) * 5.0
    found = smooth(np.array([[3.0, 4.0], [3.0, 4.0]]), 0.1, 10.0, score=np.array([1.0, 0.25]))
    shares = [alpha((1 + 2 * speed**2) * score, 0.1) for score in (1.0, 0.25)]
    np.testing.assert_allclose(found, np.outer(shares, [3.0, 4.0]))


def test_one_speed_for_both_axes_follows_a_slanting_way_straight():
    way = np.arange(30)[:, None, None] * np.array([[[3.0, 0.3]]])
    together = run(OneEuro(), way, size=100)
    np.testing.assert_allclose(together[..., 1], 0.1 * together[..., 0], atol=1e-9)
    apart = run(OneEuro(joint_speed=False), way, size=100)
    assert np.abs(apart[..., 1] - 0.1 * apart[..., 0]).max() > 0.1


def test_a_still_joint_is_calmed_and_a_quick_one_hardly_delayed():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (90, 4, 2))
    calm = run(OneEuro(), noise, size=150, score=np.full(4, 0.8))
    assert calm[30:].std() < 0.4 * noise[30:].std()
    t = np.arange(90) / 30
    swing = np.stack([100 * np.sin(6 * t), 0 * t], axis=1)[:, None] + 0.2 * noise[:, :1]
    assert np.abs(run(OneEuro(), swing, size=150, score=np.ones(1))[30:] - swing[30:]).max() < 12


def test_a_larger_body_is_smoothed_alike():
    xy = np.random.default_rng(1).normal(0, 3, (20, 5, 2)).cumsum(axis=0)
    np.testing.assert_allclose(run(OneEuro(), 7 * xy, size=700), 7 * run(OneEuro(), xy, size=100))
    limited = {"limit": (0.01, 0.1)}
    np.testing.assert_allclose(run(OneEuro(**limited), 7 * xy, size=700), 7 * run(OneEuro(**limited), xy, size=100))


def test_real_time_stamps_count():
    step = np.concatenate([np.zeros((1, 1, 2)), np.ones((1, 1, 2))])
    soon, late = (run(OneEuro(beta=0.0), step, dt=dt)[-1, 0, 0] for dt in (0.02, 0.5))
    assert soon < late < 1


@pytest.mark.parametrize("time", [0.1, 0.05, -3.0], ids=["stands still", "goes back", "goes far back"])
def test_a_time_that_does_not_go_on_changes_nothing(time):
    smooth = OneEuro()
    smooth(np.zeros((1, 2)), 0.0)
    last = smooth(np.ones((1, 2)), 0.1)
    np.testing.assert_array_equal(smooth(np.full((1, 2), 50.0), time), last)
    after = smooth(np.ones((1, 2)), 0.2)
    assert (after > last).all() and (after < 1).all()


def test_a_joint_that_was_long_unseen_starts_afresh_where_it_reappears():
    smooth = OneEuro(forget=0.25)
    here, there = np.zeros((2, 2)), np.array([[0.0, 0.0], [50.0, 0.0]])
    smooth(here, 0.0, 100)
    for n in range(1, 12):
        smooth(here, n / 30, 100, seen=[True, False])
    back = smooth(there, 12 / 30, 100, seen=[True, True])
    np.testing.assert_array_equal(back, there)


def test_a_joint_that_was_unseen_for_a_moment_goes_on():
    smooth = OneEuro(forget=0.25, beta=0.0)
    here, there = np.zeros((1, 2)), np.array([[50.0, 0.0]])
    smooth(here, 0.0, 100)
    smooth(here, 1 / 30, 100, seen=[False])
    assert smooth(there, 2 / 30, 100, seen=[True])[0, 0] < 25


@pytest.mark.parametrize(
    "broken", [
        {"xy": np.full((2, 2), np.nan)}, {"timestamp": np.nan}, {"size": 0.0}, {"size": np.nan}, {"size": np.inf},
        {"score": np.array([np.nan, 1])},
    ],
    ids=str,
)
def test_numbers_that_are_none_are_refused_and_the_filter_goes_on(broken):
    filters = OneEuro(), OneEuro()
    for smooth in filters:
        smooth(np.zeros((2, 2)), 0.0)
    with pytest.raises(ValueError, match="must be finite numbers and the size positive"):
        filters[0](**{"xy": np.ones((2, 2)), "timestamp": 0.5, **broken})
    assert np.array_equal(*(smooth(np.ones((2, 2)), 1.0) for smooth in filters))


def test_the_limit_of_tfjs_shortens_long_steps_only():
    xy = np.zeros((2, 1, 2))
    xy[1] = 0.5
    free = {key: value for key, value in TFJS.items() if key != "limit"} | {"beta": 0.0}
    share = alpha(2.5, 1 / 30)
    np.testing.assert_allclose(run(OneEuro(**free), xy)[1], share * 0.5)
    # no speed counts for the limit when its second number is 0: threshold .5, step .5 log 2
    found = run(OneEuro(**free, limit=(0.5, 0.0)), xy)[1]
    np.testing.assert_allclose(found, share * 0.5 * math.log(2))


def test_a_copy_has_the_settings_and_remembers_nothing():
    smooth = OneEuro(beta=3.0)
    smooth(np.zeros((1, 2)), 0.0)
    other = smooth.copy()
    assert other.settings == smooth.settings
    np.testing.assert_array_equal(other(np.ones((1, 2)), 1.0), [[1, 1]])


def test_what_is_returned_is_not_the_filters_own_memory():
    smooth = OneEuro()
    first = smooth(np.zeros((1, 2)), 0.0)
    first += 100
    assert np.abs(smooth(np.zeros((1, 2)), 0.1)).max() == 0


BAD = {
    "no cut-off": ({"min_cutoff": 0.0}, "min_cutoff must be a positive"),
    "not a number": ({"derivative_cutoff": float("nan")}, "derivative_cutoff must be a positive"),
    "below zero": ({"beta": -1.0}, "beta must be 0 or more"),
    "limit": ({"limit": (0.0, 1.0)}, "limit must be two numbers"),
}


@pytest.mark.parametrize("settings, sentence", BAD.values(), ids=BAD)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        OneEuro(**settings)

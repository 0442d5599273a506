"""The golden vectors of following one person: they hold what the tracker answers today, and they tell rules apart."""

import json
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from golden import make_lock

from featherpose.runtime import tracker

PATH = Path(__file__).parent / "golden" / "lock.json"
GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made():
    return json.loads(json.dumps(make_lock.make()))


def test_the_file_is_as_described(made):
    assert made.keys() == GOLDEN.keys()
    assert {key: made[key] for key in ("version", "tolerance", "size_wh", "skeleton")} == {
        key: GOLDEN[key] for key in ("version", "tolerance", "size_wh", "skeleton")
    }
    assert PATH.stat().st_size < 200_000


@pytest.mark.parametrize("number", range(len(GOLDEN["tracks"])), ids=[case["name"] for case in GOLDEN["tracks"]])
def test_the_tracker_still_answers_so(made, number):
    golden, now = GOLDEN["tracks"][number], made["tracks"][number]
    assert now["frames"] == golden["frames"]
    _agree(now["expected"], golden["expected"])


def _agree(now, golden):
    assert [frame["state"] for frame in now] == [frame["state"] for frame in golden]
    for mine, told in zip(now, golden, strict=True):
        assert (mine["xy"] is None) == (told["xy"] is None)
        if told["xy"] is not None:
            assert np.abs(np.subtract(mine["xy"], told["xy"])).max() < GOLDEN["tolerance"]
            assert mine["score"] == pytest.approx(told["score"], abs=1e-3)


@pytest.mark.parametrize("number", range(len(GOLDEN["crowds"])), ids=[case["name"] for case in GOLDEN["crowds"]])
def test_everybody_still_has_the_same_number(made, number):
    golden, now = GOLDEN["crowds"][number], made["crowds"][number]
    assert now["frames"] == golden["frames"]
    for mine, told in zip(now["expected"], golden["expected"], strict=True):
        assert [one["person"] for one in mine] == [one["person"] for one in told]
        for one, other in zip(mine, told, strict=True):
            assert np.abs(np.subtract(one["xy"], other["xy"])).max() < GOLDEN["tolerance"]


@pytest.mark.parametrize("change", [{"found": 0.2}, {"memory": 2.0}, {"limit": 7}, {"same": 0.8}, {"clothes": 0.0}])
def test_another_rule_for_everybody_would_be_noticed(change):
    with mock.patch.object(make_lock, "SeveralTracker", partial(make_lock.SeveralTracker, **change)):
        cases = make_lock.crowd_cases()
    told = [frame for case in GOLDEN["crowds"] for frame in case["expected"]]
    assert [frame for case in cases for frame in case["expected"]] != told


def test_pairs_and_several_people_are_still_so(made):
    assert made["assign"] == GOLDEN["assign"]
    for mine, told in zip(made["several"], GOLDEN["several"], strict=True):
        assert (mine["case"], mine["focus_xy"]) == (told["case"], told["focus_xy"])
        assert np.allclose(mine["expected"]["xy"], told["expected"]["xy"], atol=GOLDEN["tolerance"])


OTHER_LOCKS = (
    {"clothes": 0.0}, {"doubt": 0.5}, {"memory": 2.0}, {"kept": 0.1}, {"patience": 0.3}, {"own": 1.0}, {"apart": 1.0},
)  # fmt: skip


@pytest.mark.parametrize("change", OTHER_LOCKS)
def test_another_rule_would_be_noticed(change):
    class Other(tracker.Tracker):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, lock=tracker.Lock(**change), **options)

    with mock.patch.object(tracker, "Tracker", Other):
        cases = make_lock.track_cases()
    told = [frame["xy"] for case in GOLDEN["tracks"] for frame in case["expected"]]
    assert [frame["xy"] for case in cases for frame in case["expected"]] != told

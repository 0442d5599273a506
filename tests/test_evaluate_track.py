"""Scoring what follows a target: the table's figures from clips, and the verb."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from moving_people import SIZE_WH, Told, frame, person
from tiny_training import write_split

from featherpose import COCO17
from featherpose.cli import run
from featherpose.data.sample import UNKNOWN
from featherpose.data.sequences import Clip, People, synthetic_clip
from featherpose.evaluate_track import WAYS, calmness, drawn, figures_of, follow, plain, shared_joints, shown
from featherpose.metrics.tracking import Track
from featherpose.pose import Pose
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.tracker import Lock, Tracker
from featherpose.skeletons import Skeleton


def told_clip(backend, *places, name="walk"):
    """A clip of ramps in which the model is told of two people at (target x, other x) as each frame is drawn."""

    def draw(index):
        people = [person(x) for x in places[index]]
        backend.people = people
        return frame(), People(np.stack(people), np.full((2, 17), 2, np.int8), np.full(2, 3000.0))

    return Clip(name, SIZE_WH, np.arange(len(places)) / 30, 2, COCO17, draw)


def test_a_tracker_is_started_on_the_target_and_scored_against_it():
    backend = Told()
    clip = told_clip(backend, *((150 + 40 * math.sin(n / 5), 320 + n) for n in range(40)))
    figures = figures_of([follow(clip, Tracker(Predictor(backend), smoothing=False, lock=Lock(clothes=0)))])
    assert figures["AR"] > 0.9 and figures["wrong"] == 0 and figures["switches"] == 0
    assert figures["lag_ms"] == pytest.approx(0, abs=5)


def test_the_plain_choice_takes_whoever_is_nearest_the_middle():
    backend = Told()
    clip = told_clip(backend, *((100, 260) for _ in range(5)))
    assert figures_of([follow(clip, WAYS["every frame"](Predictor(backend)))])["wrong"] == 1


def test_a_clip_in_memory_has_the_same_frames():
    clip = synthetic_clip("empty", 1, size_wh=(64, 48))
    kept = drawn(clip)
    for (image, time, _), (again, later, _) in zip(clip, kept, strict=True):
        np.testing.assert_array_equal(image, again)
        assert time == later


def test_calmness_takes_still_clips_for_jitter_and_the_others_for_lag():
    times = np.arange(60) / 30
    still = np.repeat(person(240)[None], 60, axis=0)
    shaken = still + np.random.default_rng(0).normal(0, 1, still.shape)
    moving = still + (100 * np.sin(4 * times))[:, None, None]
    seen, area = np.full((60, 1, 17), 2), np.full((60, 1), 3000.0)

    def track(name, xy, truth):
        return Track(name, COCO17, times, xy, np.ones((60, 17)), np.ones(60, bool), truth[:, None], seen, area)

    late = np.concatenate([moving[:1], moving[:1], moving[:-2]])
    figures = calmness([track("still-1", shaken, still), track("walk-1", late, moving)])
    assert figures["lag_ms"] == pytest.approx(2000 / 30, abs=4)
    # noise of 1 px in x and y: the second difference has variance 6, over .0333^4, in both
    assert figures["jitter_px_s2"] == pytest.approx(math.sqrt(12) * 900, rel=0.1)
    wild = still + 100 * (shaken - still)
    several = calmness([track("still-1", shaken, still), track("still-2", shaken, still), track("still-3", wild, still)])
    assert several["jitter_median"] == figures["jitter_body_s2"] == figures["jitter_median"]
    assert several["jitter_body_s2"] > 30 * several["jitter_median"]
    assert math.isnan(calmness([track("walk-1", late, moving)])["jitter_median"])


def test_figures_as_cells_and_as_json():
    assert shown("wrong", 0.1234) == "12.3 %" and shown("AR", 0.5) == "0.500" and shown("lag_ms", math.nan) == "-"
    assert plain({"a": {"b": math.nan, "c": 1 / 3}, "n": 2}) == {"a": {"b": None, "c": 0.333333}, "n": 2}


def test_the_verb_prints_a_table_and_writes_all_figures(tmp_path, capsys):
    file = tmp_path / "figures.json"
    assert (
        run(["evaluate-track", "lite", "--clips", "1", "--kind", "empty", "--way", "tracker", "--json", str(file)]) == 0
    )
    out = capsys.readouterr().out
    assert "tracker" in out and "false alarm" in out and max(len(line) for line in out.splitlines()) <= 100
    facts = json.loads(file.read_text())
    assert 0 <= facts["figures"]["lite"]["tracker"]["empty"]["false_alarm"] <= 1
    assert facts["figures"]["lite"]["tracker"]["all"]["AR"] is None


@pytest.mark.parametrize("option, word", [("--way", "traker"), ("--kind", "crosing")])
def test_unknown_words_are_refused_with_the_nearest(option, word, capsys):
    assert run(["evaluate-track", "lite", option, word]) == 1
    assert "did you mean" in capsys.readouterr().err


def in_order(names, name="turned"):
    """The COCO skeleton with its joints in another order, or fewer."""
    pairs = tuple(pair for pair in COCO17.flip_pairs if set(pair) <= set(names))
    return Skeleton(name, tuple(names), pairs, ())


@pytest.mark.parametrize("kept", [17, 14])
def test_joints_of_a_model_are_matched_with_the_clips_by_name(kept):
    """A model that tells the truth in another order, of all or of some joints."""
    names = COCO17.joints[::-1][:kept]
    order = [COCO17.joints.index(name) for name in names]
    clip = synthetic_clip("alone", 3, size_wh=(160, 120))

    class Knows:
        state = "found"
        predictor = SimpleNamespace(spec=SimpleNamespace(skeleton=in_order(names)))
        frames = iter(clip)

        def start(self, *, box):
            pass

        def __call__(self, image, timestamp):
            people = next(self.frames)[2]
            return Pose(people.xy[0][order], np.ones(kept), in_order(names), 1.0)

    track = follow(clip, Knows())
    assert figures_of([track])["AR"] == pytest.approx(1)
    assert ((track.visibility == UNKNOWN).all(axis=(0, 1)) == ~np.isin(COCO17.joints, names)).all()


def test_a_model_that_shares_no_joint_with_the_clips_is_refused():
    with pytest.raises(ValueError, match="skeleton 'paws' has no joint of the clips' 'coco17'"):
        shared_joints(Skeleton("paws", ("paw", "tail"), (), ()), COCO17)


def test_photos_that_are_too_few_are_told_before_a_clip_is_drawn(tmp_path, capsys, monkeypatch):
    write_split(tmp_path, "val", 2)
    monkeypatch.setattr("featherpose.evaluate_track.synthetic_clip", None)
    assert run(["evaluate-track", "lite", "--photos", str(tmp_path), "--clips", "1"]) == 1
    assert "photos with 12 labelled joints of the target are needed, the set has 0" in capsys.readouterr().err

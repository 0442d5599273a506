"""One person followed: by a model that is told exactly who is where, so that only the tracker's rules decide."""

import numpy as np
import pytest
from moving_people import SIZE_WH, Told, frame, person

from featherpose.geometry import whole_pixels
from featherpose.pose import Pose
from featherpose.runtime import tracker as tracker_module
from featherpose.runtime.motion import begin, moved_on
from featherpose.runtime.one_euro import OneEuro
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.smart_crop import smart_crop
from featherpose.runtime.tracker import Lock, Tracker
from featherpose.skeletons import COCO17

FRAME = frame()
LOCK = Lock(clothes=0)
"""The ramps change colour with the place, so these people wear no clothes that last."""


def tracker(**options):
    backend = Told()
    return Tracker(Predictor(backend), **{"smoothing": False, "lock": LOCK, **options}), backend


def play(track, backend, scenes, start=0.0, fps=30.0):
    """The poses and states of a list of frames, each a list of people."""
    poses, states = [], []
    for number, people in enumerate(scenes):
        backend.people = people
        poses.append(track(FRAME, start + number / fps))
        states.append(track.state)
    return poses, states


def off(pose, joints):
    return np.abs(pose.xy - joints).max()


def test_a_walker_is_followed_with_one_look_a_frame():
    track, backend = tracker()
    scenes = [[person(100 + 4 * n)] for n in range(40)]
    poses, states = play(track, backend, scenes)
    assert states == ["found"] * 40
    assert max(off(pose, scene[0]) for pose, scene in zip(poses, scenes, strict=True)) < 3
    assert backend.passes == 41  # two looks at the first frame


def test_the_first_frame_takes_whoever_is_nearest_the_middle():
    track, backend = tracker()
    poses, _ = play(track, backend, [[person(100), person(260)]])
    assert off(poses[0], person(260)) < 3


@pytest.mark.parametrize("where", [{"point": (95, 190)}, {"box": (70, 130, 130, 270)}], ids=["point", "box"])
def test_start_names_the_person_whatever_was_followed_before(where):
    track, backend = tracker()
    both = [person(100), person(260)]
    play(track, backend, [both] * 3)
    track.start(**where)
    poses, states = play(track, backend, [both] * 5, start=1.0)
    assert states == ["found"] * 5
    assert max(off(pose, both[0]) for pose in poses) < 3


def test_a_start_that_is_refused_is_not_tried_again():
    track, backend = tracker()
    track.start(point=(1000, 10))
    backend.people = [person(240)]
    with pytest.raises(ValueError, match="outside the photo of 480 x 360"):
        track(FRAME, 0.0)
    assert track(FRAME, 0.1) is not None
    with pytest.raises(ValueError, match="a point or a box"):
        track.start()


@pytest.mark.parametrize("where", [{"point": (1000, 10)}, {"box": (500, 0, 600, 90)}], ids=["point", "box"])
def test_a_start_that_is_refused_changes_nothing(where):
    track, backend = tracker()
    both = [person(100), person(260)]
    track.start(point=(95, 190))
    play(track, backend, [both] * 3)
    track.start(**where)
    with pytest.raises(ValueError, match="outside the photo"):
        track(FRAME, 1.0)
    poses, states = play(track, backend, [both] * 2, start=0.1)
    assert states == ["found"] * 2 and max(off(pose, both[0]) for pose in poses) < 3


def test_the_target_is_kept_when_somebody_crosses_in_front():
    track, backend = tracker()
    track.start(point=(130, 190))
    scenes = []
    for n in range(50):
        target, other = person(130 + 4 * n, 200), person(330 - 4 * n, 208)
        scenes.append([other] if abs(target[0, 0] - other[0, 0]) < 24 else [target, other])
    poses, states = play(track, backend, scenes)
    assert off(poses[-1], scenes[-1][0]) < 4
    assert states[-1] == "found"


def test_a_neighbour_who_comes_to_the_middle_of_the_crop_is_not_taken():
    track, backend = tracker()
    track.start(point=(240, 190))
    scenes = [[person(240 - n, 200), person(330 - 2 * n, 205)] for n in range(35)]
    poses, _ = play(track, backend, scenes)
    assert max(off(pose, scene[0]) for pose, scene in zip(poses, scenes, strict=True)) < 4


def looks_at_clothes(monkeypatch, scenes, **options):
    """In which of the frames clothes were looked at."""
    track, backend = tracker(lock=Lock(**options))
    looked, real = [], tracker_module.clothes_of
    monkeypatch.setattr(
        tracker_module, "clothes_of", lambda image, poses: looked.append(round(30 * track._time)) or real(image, poses)
    )
    play(track, backend, scenes)
    return looked


def test_clothes_of_somebody_alone_are_looked_at_a_few_times_a_second(monkeypatch):
    alone, two = [person(240)], [person(240), person(290)]
    assert looks_at_clothes(monkeypatch, [alone] * 21, dressing=0.19) == [1, 7, 13, 19]
    assert looks_at_clothes(monkeypatch, [alone] * 21, dressing=0.0) == list(range(1, 21))
    neighbour = [alone] * 10 + [two] + [alone] * 10
    assert looks_at_clothes(monkeypatch, neighbour, dressing=0.19) == [1, 7, *range(10, 21)]
    assert looks_at_clothes(monkeypatch, [alone] * 4 + [[person(300)]]) == [1, 4], "not where they should be"


def test_colours_are_averaged_by_the_time_since_the_last_look():
    red, blue = np.tile([1.0, 0, 0], (4, 1)), np.tile([0, 0, 1.0], (4, 1))
    pose = Pose(person(240), np.full(17, 0.9), COCO17)
    motion = begin(pose, 0.0, red)
    for n in range(1, 15):
        motion = moved_on(motion, pose, n / 30)
    assert motion.dressed_at == 0 and motion.colours is red
    motion = moved_on(motion, pose, 0.5, blue)
    np.testing.assert_allclose(motion.colours, 2 / 3 * red + 1 / 3 * blue)  # .5 s of .5 s + the time constant of 1 s
    with np.errstate(all="raise"):
        never = moved_on(begin(pose, 0.0), pose, 0.5, blue)
    assert never.colours is blue and never.dressed_at == 0.5


def test_somebody_hidden_is_uncertain_then_lost_then_found_again():
    track, backend = tracker()
    seen, hidden = [[person(240)]] * 10, [[]] * 30
    poses, states = play(track, backend, seen + hidden + [[person(250)]] * 5)
    assert states[9] == "found" and states[10:25] == ["uncertain"] * 15 and states[25:40] == ["lost"] * 15
    assert states[-3:] == ["found"] * 3
    assert poses[24] is not None and poses[25] is None
    assert off(poses[24], person(240)) < 3, "an uncertain pose is carried on"
    assert poses[24].score.max() == pytest.approx(0.5 * poses[9].score.max(), abs=0.01)


def test_a_walker_who_is_hidden_is_carried_on_along_their_way():
    track, backend = tracker()
    poses, states = play(track, backend, [[person(100 + 4 * n)] for n in range(20)] + [[]] * 10)
    assert states[-1] == "uncertain"
    assert abs(poses[-1].xy[:, 0].mean() - person(100 + 4 * 29)[:, 0].mean()) < 10


def test_a_known_neighbour_is_not_taken_instead_until_the_memory_ends():
    track, backend = tracker(lock=Lock(clothes=0, memory=1.0))
    track.start(point=(200, 190))
    both, other = [person(200), person(270)], [person(270)]
    play(track, backend, [both] * 10)
    _, states = play(track, backend, [other] * 25, start=1 / 3)
    assert "found" not in states
    poses, states = play(track, backend, [other] * 15, start=1 / 3 + 25 / 30)
    assert states[-1] == "found" and off(poses[-1], other[0]) < 3


def test_nobody_gives_nothing():
    track, backend = tracker()
    poses, states = play(track, backend, [[]] * 5)
    assert poses == [None] * 5 and states == ["lost"] * 5


def test_a_weak_likeness_of_somebody_is_nobody():
    track, backend = tracker()
    backend.strength = [0.2]
    _, states = play(track, backend, [[person(240)]] * 3)
    assert states == ["lost"] * 3


def test_a_time_that_stands_still_gives_the_last_answer_without_a_look():
    track, backend = tracker()
    (pose,), _ = play(track, backend, [[person(240)]])
    passes = backend.passes
    assert track(FRAME, 0.0) is pose and backend.passes == passes


def test_a_time_that_goes_back_begins_anew():
    track, backend = tracker()
    track.start(point=(100, 190))
    both = [person(100), person(260)]
    poses, _ = play(track, backend, [both] * 3, start=5.0)
    assert off(poses[-1], both[0]) < 3
    poses, states = play(track, backend, [both], start=1.0)
    assert states == ["found"] and off(poses[0], both[1]) < 3


def test_a_missing_frame_counts_as_one_in_which_nobody_was_seen():
    track, backend = tracker()
    assert track(None, 0.0) is None and track.state == "lost"
    play(track, backend, [[person(240)]] * 3, start=0.1)
    assert track(None, 0.3) is not None and track.state == "uncertain"
    assert track(None, 2.0) is None and track.state == "lost"


def test_a_frame_of_another_size_begins_anew():
    track, backend = tracker()
    play(track, backend, [[person(240)]] * 3)
    smaller = (240, 180)
    backend.size_wh, backend.people = smaller, [person(120, 100, 0.5)]
    pose = track(frame(smaller), 0.2)
    assert track.state == "found" and off(pose, person(120, 100, 0.5)) < 3


SAME = {
    "uint16": lambda image: image.astype(np.uint16) * 257,
    "floats in [0, 1]": lambda image: image / 255,
    "with alpha": lambda image: np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]),
}


@pytest.mark.parametrize("turned", SAME.values(), ids=SAME)
def test_frames_of_other_dtypes_are_the_same_frames(turned):
    track, backend = tracker()
    backend.people = [person(240)]
    pose = track(turned(FRAME), 0.0)
    assert off(pose, person(240)) < 3


@pytest.mark.parametrize(
    "image, time, sentence",
    [
        (FRAME, float("nan"), "timestamp must be a number"),
        (np.zeros((4, 4, 7), np.uint8), 0.0, "must have the shape"),
        ("frame.png", 0.0, "got str"),
    ],
    ids=["time", "shape", "path"],
)
def test_what_is_no_frame_is_refused(image, time, sentence):
    track, _ = tracker()
    with pytest.raises(ValueError, match=sentence):
        track(image, time)


def test_the_official_rule_takes_whoever_is_nearest_the_middle_of_the_crop():
    track, backend = tracker(lock=None)
    track.start(point=(200, 190))
    scenes = [[person(200)]] * 3 + [[person(240, 170), person(200, 200)]] * 3 + [[person(240, 170)]] * 3
    poses, states = play(track, backend, scenes)
    assert off(poses[-1], person(240, 170)) < 3 and states == ["found"] * 9


def test_the_low_passed_crop_moves_by_its_share():
    track, backend = tracker(lock=None, crop_alpha=0.9)
    threshold = track.predictor.spec.joint_threshold
    for number, share in enumerate((0.1, 0.1 * 0.1)):  # what is left of the 20 px after one crop and after two
        track.reset()
        play(track, backend, [[person(200)], *[[person(220)]] * (number + 1)])
        wanted, kept = smart_crop(track.pose, SIZE_WH, threshold), track._crop
        assert np.abs(kept - wanted).max() == pytest.approx(share * 20, abs=0.5)
        assert np.array_equal(track(FRAME, 0.2).box_xyxy, whole_pixels(kept, track.predictor.spec.input_size))
    with pytest.raises(ValueError, match="crop_alpha"):
        Tracker(track.predictor, crop_alpha=0)


def test_smoothing_calms_a_trembling_person_and_can_be_left_out():
    rng = np.random.default_rng(0)
    scenes = [[person(240) + rng.normal(0, 1.0, 2)] for _ in range(40)]
    plain, backend = tracker(smoothing=False)
    rough = np.stack([pose.xy for pose in play(plain, backend, scenes)[0]])[10:]
    for smoothing in (True, OneEuro(min_cutoff=0.5)):
        calm, backend = tracker(smoothing=smoothing)
        smooth = np.stack([pose.xy for pose in play(calm, backend, scenes)[0]])[10:]
        assert smooth.std(axis=0).mean() < 0.5 * rough.std(axis=0).mean()


def test_a_model_that_decodes_by_itself_is_followed_too():
    backend = Told(outputs="decoded")
    track = Tracker(Predictor(backend), lock=LOCK)
    scenes = [[person(150 + 3 * n)] for n in range(20)]
    poses, states = play(track, backend, scenes)
    assert states == ["found"] * 20 and off(poses[-1], scenes[-1][0]) < 6

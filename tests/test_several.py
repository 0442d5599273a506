"""Several people: peaks of the centre map, doubles, who is who, and what a body is remembered by."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from moving_people import SIZE_WH, Told, frame, person

from featherpose import COCO17, Pose
from featherpose.codecs.movenet import MoveNetCodec, _cells, _peaks
from featherpose.runtime import several as several_module
from featherpose.runtime.motion import (
    alike,
    begin,
    colour_likeness,
    colours_of,
    evidence,
    likeness,
    matches,
    moved_on,
    overlap,
    size_of,
)
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.several import SeveralTracker, assign, look_several, without_doubles
from featherpose.runtime.smart_crop import whole_frame

FRAME = frame()


def pose(x, y=200.0, scale=1.0, score=0.9):
    return Pose(person(x, y, scale), np.full(17, score), COCO17)


# --- peaks ------------------------------------------------------------------------------------------------------------


def maps_of(*people, strength=()):
    """Maps of a 192 px input with people at hips (x, y), a third of the usual size."""
    codec = MoveNetCodec((192, 192))
    backend = Told((192, 192))
    backend.people, backend.strength = [person(x, y, 0.5) for x, y in people], list(strength)
    return codec, backend._maps(frame((192, 192)))


@pytest.mark.parametrize("reach", [1.0, 2.0, 2.9])
def test_peaks_are_the_cells_that_none_within_reach_exceeds(reach):
    values = np.random.default_rng(0).integers(0, 12, (15, 20)).astype(np.float32) / 12  # many cells are equal
    cells = list(itertools.product(range(15), range(20)))
    near = {a: [b for b in cells if (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 <= reach**2] for a in cells}
    tops = [a for a in cells if values[a] >= 0.5 and all(values[b] <= values[a] for b in near[a])]
    assert list(_peaks(_cells(values, 0.5), reach)) == sorted(tops, key=lambda cell: -values[cell])


def test_people_come_by_their_scores_and_no_more_than_asked_for():
    codec, maps = maps_of((40, 90), (100, 90), (160, 90), strength=(0.5, 0.9, 0.7))
    xy, score, pose_score = codec.decode_several(maps, 9)
    middles = (xy.min(axis=1) + xy.max(axis=1))[:, 0] / 2
    np.testing.assert_allclose(middles, [100, 160, 40], atol=3)
    np.testing.assert_allclose(pose_score, [0.9, 0.7, 0.5], atol=0.01)
    assert score.shape == (3, 17)
    assert len(codec.decode_several(maps, 2)[0]) == 2
    assert len(codec.decode_several(maps, 9, threshold=0.6)[0]) == 2


def test_the_one_at_the_focus_comes_first_and_is_what_decode_finds():
    codec, maps = maps_of((40, 90), (100, 90), (160, 90), strength=(0.5, 0.9, 0.7))
    xy, score, pose_score = codec.decode_several(maps, 9, focus_xy=(40, 90))
    one = codec.decode(maps, focus_xy=(40, 90))
    np.testing.assert_array_equal(xy[0], one[0])
    np.testing.assert_array_equal(score[0], one[1])
    assert pose_score[0] == one[2] and len(xy) == 3


def test_doubles_and_nobodies_take_no_places(monkeypatch):
    """Three are asked for; the surest three peaks are one person twice and a shadow."""
    seen = [pose(100), pose(101), pose(160), pose(220), pose(280)]
    seen[1] = replace(seen[1], score=seen[1].score * 0.2)  # what is left when doubles were taken out, and is nobody
    asked = []

    def look(predictor, image, region, limit, **_):
        asked.append(limit)
        return seen[:limit]

    monkeypatch.setattr(several_module, "look_several", look)
    track = SeveralTracker(Predictor(Told()), limit=3, clothes=0)
    found = track(FRAME, 0.0)
    assert asked[0] > 3 and len(found) == 3
    assert [one.xy[0, 0] for one in found.values()] == [seen[i].xy[0, 0] for i in (0, 2, 3)]


def test_peaks_close_together_are_one():
    codec = MoveNetCodec((192, 192))
    _, maps = maps_of((100, 90))
    maps["center"][:] = 0
    maps["center"][0, 20, 20], maps["center"][0, 20, 22], maps["center"][0, 20, 30] = 0.9, 0.8, 0.7
    maps["center"][0, 20, 23] = 0.75  # on the slope of the second, three cells from the first
    assert len(codec.decode_several(maps, 9, min_distance=2.0)[0]) == 2
    assert len(codec.decode_several(maps, 9, min_distance=1.0)[0]) == 3


@pytest.mark.parametrize("rules", [{}, {"vote_radius": 2, "offset_radius": 2}, {"refine": "dark"}], ids=str)
def test_an_empty_map_holds_nobody(rules):
    codec, maps = maps_of()
    codec = replace(codec, **rules)
    xy, score, pose_score = codec.decode_several(maps, 5)
    assert xy.shape == (0, 17, 2) and score.shape == (0, 17) and pose_score.shape == (0,)
    assert len(codec.decode_several(maps, 5, focus_xy=(90, 90))[0]) == 1


def test_one_look_finds_everybody_in_the_pixels_of_the_photo():
    backend = Told()
    backend.people = [person(100), person(240), person(380)]
    poses = look_several(Predictor(backend), FRAME, whole_frame(SIZE_WH), 6)
    assert backend.passes == 1 and len(poses) == 3
    found = sorted(poses, key=lambda p: p.xy[0, 0])
    for one, joints in zip(found, backend.people, strict=True):
        assert np.abs(one.xy - joints).max() < 4


# --- who is who -------------------------------------------------------------------------------------------------------


def test_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for rows, columns in itertools.product(range(5), range(5)):
        value = rng.random((rows, columns))
        pairs = assign(value, 0.0)
        assert len(pairs) == min(rows, columns)
        assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
        small, large = sorted((rows, columns))
        table = value if rows <= columns else value.T
        best = max(
            sum(table[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(large), small)
        )
        assert sum(value[r, c] for r, c in pairs) == pytest.approx(best)


def test_assignment_leaves_out_what_is_too_little():
    assert assign(np.array([[0.9, 0.1], [0.8, 0.1]]), 0.3) == [(0, 0)]
    assert assign(np.array([[0.9, 0.6], [0.8, 0.1]]), 0.3) == [(0, 1), (1, 0)], "two good pairs beat the best one"
    assert assign(np.array([[0.2]]), 0.3) == []


def test_the_same_person_twice_is_a_double_and_a_neighbour_is_not():
    twice = pose(102, 201)
    kept = without_doubles([pose(100), twice, pose(130)])
    assert [p.xy[0, 0] for p in kept] == [100, 130]
    same = alike([pose(100), twice, pose(130)])
    assert same[0, 1] > 0.8 > 0.2 > same[0, 2] and same[0, 0] == pytest.approx(1)


def everybody(track, backend, scenes, start=0.0):
    found = []
    for number, people in enumerate(scenes):
        backend.people = people
        found.append(track(FRAME, start + number / 30))
    return found


def at(poses, joints):
    """The number of the pose that lies on these joints."""
    return [number for number, one in poses.items() if np.abs(one.xy - joints).max() < 5]


def test_numbers_stay_through_a_crossing():
    backend = Told()
    track = SeveralTracker(Predictor(backend), smoothing=False, clothes=0.0)
    scenes = []
    for n in range(60):
        a, b = person(110 + 4 * n, 195), person(350 - 4 * n, 210)
        scenes.append([b] if abs(a[0, 0] - b[0, 0]) < 24 else [a, b])
    found = everybody(track, backend, scenes)
    for side in (0, 1):
        assert at(found[0], scenes[0][side]) == at(found[-1], scenes[-1][side]) != []
    assert sorted(found[-1]) == [1, 2]


def test_a_number_waits_for_its_person_and_is_never_given_again():
    backend = Told()
    track = SeveralTracker(Predictor(backend), smoothing=False, clothes=0.0, memory=0.5)
    here = [person(240)]
    found = everybody(track, backend, [here] * 3 + [[]] * 10 + [here] * 2)
    assert found[5] == {} and list(found[-1]) == [1]
    found = everybody(track, backend, [[]] * 20 + [here], start=1.0)
    assert list(found[-1]) == [2]


def test_everybody_has_a_filter_of_their_own():
    rng = np.random.default_rng(0)
    scenes = [[person(100) + rng.normal(0, 1, 2), person(380) + rng.normal(0, 1, 2)] for _ in range(40)]
    spread = {}
    for smoothing in (True, False):
        backend = Told()
        found = everybody(SeveralTracker(Predictor(backend), smoothing=smoothing, clothes=0.0), backend, scenes)[10:]
        spread[smoothing] = [np.stack([poses[number].xy for poses in found]).std(axis=0).mean() for number in (1, 2)]
    assert all(calm < 0.6 * rough for calm, rough in zip(spread[True], spread[False], strict=True))


def test_a_second_look_finds_small_people_more_exactly():
    backend = Told()
    backend.people = [person(120, 150, 0.4), person(360, 150, 0.4)]
    errors = {}
    for refine in (False, True):
        track = SeveralTracker(Predictor(backend), smoothing=False, refine=refine)
        poses = sorted(track(FRAME, 0.0).values(), key=lambda p: p.xy[0, 0])
        errors[refine] = max(np.abs(p.xy - j).mean() for p, j in zip(poses, backend.people, strict=True))
    assert errors[True] < errors[False]


def test_times_and_limits_of_several_people():
    backend = Told()
    backend.people = [person(240)]
    track = SeveralTracker(Predictor(backend))
    first = track(FRAME, 1.0)
    assert track(FRAME, 1.0) is first and backend.passes == 1
    assert track(None, 1.1) == {}
    track(FRAME, 0.0)
    assert list(track.poses) == [1], "a time that goes back begins anew"
    with pytest.raises(ValueError, match="at least 1 person"):
        SeveralTracker(Predictor(backend), limit=0)
    with pytest.raises(ValueError, match="finds one person"):
        SeveralTracker(Predictor(Told(outputs="decoded")))
    with pytest.raises(ValueError, match="timestamp"):
        track(FRAME, float("inf"))


# --- what a body is remembered by -------------------------------------------------------------------------------------


def test_the_size_of_a_body_is_about_its_longer_side_and_survives_unsure_legs():
    whole = pose(100)
    assert size_of(whole) == pytest.approx(131, rel=0.2)
    assert size_of(pose(100, scale=2.0)) == pytest.approx(2 * size_of(whole))
    score = whole.score.copy()
    score[-4:] = 0.15  # knees and ankles
    assert size_of(Pose(whole.xy, score, COCO17)) > 0.65 * size_of(whole)


def test_evidence_is_that_of_the_better_half():
    score = np.zeros(17)
    score[:8] = 0.8
    assert evidence(Pose(person(0), score, COCO17)) == pytest.approx(0.8)


def test_a_body_goes_on_as_it_went_for_a_while():
    motion = begin(pose(100), 0.0)
    for n in range(1, 60):
        motion = moved_on(motion, pose(100 + 3 * n), n / 30)
    assert motion.velocity == pytest.approx([90, 0], abs=1)
    assert motion.at(59 / 30 + 0.2)[0, 0] == pytest.approx(100 + 3 * 59 + 18, abs=1)
    assert motion.at(100.0)[0, 0] == motion.at(200.0)[0, 0] < 480


def test_likeness_falls_with_distance_and_is_laxer_after_a_while():
    motion = begin(pose(100), 0.0)
    near, far = pose(105), pose(130)
    assert likeness(motion, pose(100), 0.03) == pytest.approx(1.0, abs=1e-6)
    assert 1 > likeness(motion, near, 0.03) > likeness(motion, far, 0.03)
    assert likeness(motion, far, 0.6) > likeness(motion, far, 0.03)


def test_overlap_by_hand():
    a, b = np.array([[0, 0], [2, 2]]), np.array([[1, 0], [3, 2]])
    assert overlap(a, b, 0.0) == pytest.approx(2 / 6)
    assert overlap(a, b, 1.0) == pytest.approx(3 * 4 / (16 + 16 - 12))
    assert overlap(a, b + 10, 0.0) == 0


def test_clothes_are_seen_part_by_part():
    image = np.zeros((400, 480, 3), np.uint8)
    image[:200], image[200:] = (255, 0, 0), (0, 0, 255)  # hips at 200: red above, blue below
    (colours,) = colours_of(image, [pose(100)])
    np.testing.assert_allclose(colours, [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    score = np.full(17, 0.9)
    score[COCO17.index("left_knee")] = 0.1
    (unsure,) = colours_of(image, [Pose(person(100), score, COCO17)])
    assert np.isnan(unsure[2]).all() and not np.isnan(unsure[3]).any()
    assert np.isnan(colours_of(image, [pose(-500)])).all(), "out of the picture nothing is seen"


def test_different_clothes_lower_a_match_and_unknown_ones_do_not():
    red, blue = np.tile([1.0, 0, 0], (4, 1)), np.tile([0, 0, 1.0], (4, 1))
    assert colour_likeness(red, red) == 1 and colour_likeness(red, blue) < 0.01
    assert np.isnan(colour_likeness(red, np.full((4, 3), np.nan)))
    motion = begin(pose(100), 0.0, red)
    same, blank = [pose(100)], np.full((4, 3), np.nan)
    assert matches([motion], same, red[None], 0.0, 0.6) == pytest.approx(1)
    assert matches([motion], same, blue[None], 0.0, 0.6) == pytest.approx(0.4, abs=0.01)
    assert matches([motion], same, blank[None], 0.0, 0.6) == matches([motion], same, blue[None], 0.0, 0.0)
    assert matches([], same, red[None], 0.0, 0.6).shape == (0, 1)


def test_matches_of_many_are_those_of_each():
    rng = np.random.default_rng(0)
    poses = [Pose(person(100 + 20 * n) + rng.normal(0, 4, (17, 2)), rng.uniform(0, 1, 17), COCO17) for n in range(4)]
    motions = [begin(p, 0.1 * n) for n, p in enumerate(poses[:3])]
    table = matches(motions, poses, np.full((4, 4, 3), np.nan), 0.5, 0.6)
    for m, n in itertools.product(range(3), range(4)):
        assert table[m, n] == pytest.approx(likeness(motions[m], poses[n], 0.5))

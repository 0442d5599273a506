"""People of other photos are pasted with their labels, hide joints and are cut off as they stand; photos shine through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.augment import NO_AUGMENTATION, Augmentation, augment
from featherpose.data.people import AROUND, COVERED, Others, paste_person, shine_through
from featherpose.data.sample import Sample
from featherpose.skeletons import Skeleton

LINE = Skeleton("line", ("left_end", "middle", "right_end"), flip_pairs=(("left_end", "right_end"),))
SIZE = (160, 120)


def people(*starts, photo="a", target=0, skeleton=LINE, **changes):
    """Somebody of 60x40 px for each (x, y) of a left upper corner; joints at the corners and in the middle."""
    low = np.array(starts, np.float32).reshape(-1, 1, 2)
    xy = low + np.array([[0, 0], [30, 20], [60, 40]], np.float32)
    sample = Sample(
        photo=Path(f"{photo}.png"), size_wh=SIZE, skeleton=skeleton, xy=xy, visibility=np.full(xy.shape[:2], 2, np.int8),
        box_xyxy=np.concatenate([low, low + np.array([60, 40])], axis=2)[:, 0].astype(np.float32),
        area=np.full(len(xy), 1200, np.float32), target=target if len(xy) else -1, photo_id=photo,
    )  # fmt: skip
    return replace(sample, **changes)


def grey(value):
    return np.full((SIZE[1], SIZE[0], 3), value, np.uint8)


def marked(sample, value=20):
    """A dark photo with a white dot of 5 px on each joint."""
    photo = grey(value)
    for x, y in sample.xy.reshape(-1, 2).astype(int):
        photo[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 255
    return photo


def pasted(seed, *, sample=None, source=None, photo=None):
    sample = people((50, 40)) if sample is None else sample
    source = people((50, 40), photo="b") if source is None else source
    photo = marked(source) if photo is None else photo
    return paste_person(grey(120), sample, photo, source, np.random.default_rng(seed))


SEEDS = range(40)


def test_joints_of_the_pasted_person_lie_where_they_are_seen():
    """The photo is dark but for its joints: the lightest pixels of the piece are there."""
    seen = 0
    for seed in SEEDS:
        picture, labels = pasted(seed)
        for x, y in labels.xy[1:][labels.visibility[1:] > 0]:
            around = picture[max(int(y) - 1, 0) : int(y) + 2, max(int(x) - 1, 0) : int(x) + 2]
            assert around.max() > 120
            seen += 1
    assert seen > len(SEEDS)


def test_left_stays_left_where_the_piece_is_mirrored():
    """Turned by 20 degrees at most the left end is on the left, or, mirrored, was renamed: then it is the lower one."""
    plain = mirrored = 0
    for seed in range(100):
        _, labels = pasted(seed)
        for xy, visibility in zip(labels.xy[1:], labels.visibility[1:], strict=True):
            if (visibility > 0).all():
                assert xy[0, 0] < xy[2, 0]
                plain, mirrored = plain + (xy[0, 1] < xy[2, 1]), mirrored + (xy[0, 1] > xy[2, 1])
    assert plain > 5
    assert mirrored > 5


def test_the_target_stays_to_be_seen_and_the_target():
    """Boxes may overlap by COVERED of the smaller one, before the piece is turned; the piece is a little larger."""
    target = people((50, 40))
    for seed in SEEDS:
        picture, labels = pasted(seed, sample=target)
        assert labels.target == 0
        assert np.array_equal(labels.xy[0], target.xy[0])
        own = (picture[40:80, 50:110] == 120).all(axis=2).mean()
        assert own > 1 - COVERED - 0.3


def test_joints_below_a_piece_are_occluded_or_gone():
    """A neighbour of the target below a light piece loses the joints that it hides; the target's own count as occluded."""
    both = people((50, 40), (52, 42))
    hidden = gone = 0
    for seed in range(200):
        picture, labels = pasted(seed, sample=both, photo=grey(255))
        for person, (xy, visibility) in enumerate(zip(both.xy, labels.visibility[:2], strict=True)):
            for (x, y), state in zip(xy.astype(int), visibility, strict=True):
                below = picture[y, x, 0] > 120 + 0.5 * 135 + 12
                above = picture[y, x, 0] < 120 + 0.5 * 135 - 12
                if below:
                    assert state == (1 if person == 0 else 0)
                    hidden, gone = hidden + (person == 0), gone + (person == 1)
                if above:
                    assert state == 2
    assert hidden > 10
    assert gone > 10


def test_somebody_half_in_the_piece_comes_with_that_half():
    """The second person of the photo stands 10 px above the one who is pasted, with two joints labelled: the middle one lies in
    the piece, the left end outside it."""
    source = people((60, 60), (60, 50), photo="b")
    xy, visibility = source.xy.copy(), np.array([[2, 2, 2], [2, 2, 0]], np.int8)  # with two joints nobody is chosen
    xy[1, 2] = np.nan
    source = replace(source, xy=xy, visibility=visibility)
    alone = halves = 0
    for seed in range(200):
        _, labels = pasted(seed, source=source, photo=grey(255))
        shown = labels.xy[labels.visibility > 0]
        assert ((shown >= 0) & (shown < SIZE)).all()
        assert np.isnan(labels.xy[labels.visibility <= 0]).all()
        alone += len(labels.xy) == 2
        if len(labels.xy) == 3:
            assert labels.visibility[2, 1] == 2 and labels.visibility[2, 2] == 0
            halves += labels.visibility[2, 0] == 0
    assert halves > 10
    assert alone > 10  # the piece lies so that the second person's joint is outside the picture, or too near its edge


def test_boxes_and_sizes_of_pasted_people_are_those_of_what_is_seen():
    """Boxes hold the joints, none reaches beyond the picture by more than the joints do, areas shrink with the piece."""
    source = people((50, 40), photo="b", head_size=np.array([10], np.float32))
    checked = 0
    for seed in SEEDS:
        _, labels = pasted(seed, source=source)
        if len(labels.xy) < 2:
            continue
        checked += 1
        box, joints = labels.box_xyxy[1], labels.xy[1][labels.visibility[1] > 0]
        assert (joints >= box[:2] - 1e-3).all() and (joints <= box[2:] + 1e-3).all()
        assert (box[:2] >= -1e-3).all() and (box[2:] <= np.array(SIZE) + 1e-3).all()
        scale = labels.head_size[1] / 10  # the target is 60 px long, as who is pasted was
        assert 0.49 < scale < 1.11
        assert labels.area[1] == pytest.approx(1200 * scale**2, rel=1e-3)
    assert checked > 20


def test_people_who_are_seen_without_a_joint_are_no_background():
    """Somebody without any labelled joint beside who is pasted, and a crowd: both are ignored where the piece shows them."""
    source = people((50, 40), (50, 45), photo="b", ignore_xyxy=np.array([[60, 50, 90, 70]], np.float32))
    xy, visibility = source.xy.copy(), np.array([[2, 2, 2], [0, 0, 0]], np.int8)
    xy[1] = np.nan
    source = replace(source, xy=xy, visibility=visibility)
    regions = 0
    for seed in SEEDS:
        picture, labels = pasted(seed, source=source, photo=grey(255))
        if (picture == 120).all():
            continue
        assert len(labels.xy) <= 2
        for x1, y1, x2, y2 in labels.ignore_xyxy:
            assert picture[int((y1 + y2) / 2), int((x1 + x2) / 2), 0] > 120  # the piece is there
            regions += 1
    assert regions > len(SEEDS)


def test_a_teacher_says_nothing_of_what_is_not_seen():
    """Its joints are dropped by their own places, labelled or not: outside the piece, and of neighbours below it."""
    told = people((50, 40)).xy
    outside = told + np.array([0, 60], np.float32)  # below the piece's lower edge
    source = people((50, 40), photo="b", teacher_xy=outside, teacher_score=np.full((1, 3), 0.9, np.float32))
    both = people((50, 40), (52, 42), teacher_xy=np.repeat(told, 2, axis=0), teacher_score=np.full((2, 3), 0.9, np.float32))
    both = replace(both, visibility=np.array([[2, 2, 2], [0, 0, 0]], np.int8))
    gone = 0
    for seed in range(200):
        picture, labels = pasted(seed, sample=both, source=source, photo=grey(255))
        assert np.isnan(labels.teacher_xy[2:]).all()
        assert np.isfinite(labels.teacher_xy[0]).all()
        for (x, y), kept in zip(told[0].astype(int), np.isfinite(labels.teacher_xy[1]).all(axis=1), strict=True):
            if picture[y, x, 0] > 120 + 0.5 * 135 + 12:
                assert not kept
                gone += 1
            elif picture[y, x, 0] < 120 + 0.5 * 135 - 12:
                assert kept
    assert gone > 10


def test_edges_fade():
    """The steepest step across the edge of a white piece on grey is small beside the step from grey to white."""
    looked = 0
    for seed in range(20):
        picture, _ = pasted(seed, photo=grey(255))
        if (picture != 120).any(axis=2).sum() > 400:
            assert np.abs(np.diff(picture[..., 0].astype(int), axis=1)).max() < 60
            looked += 1
    assert looked > 10


def test_people_too_small_or_with_too_few_joints_are_not_pasted():
    few = people((50, 40), photo="b", visibility=np.array([[2, 0, 0]], np.int8))
    tiny = people((50, 40), photo="b")
    tiny = replace(tiny, box_xyxy=np.array([[50, 40, 60, 50]], np.float32))
    for source in (few, tiny, people(photo="b")):
        picture, labels = pasted(0, source=source)
        assert (picture == 120).all()
        assert len(labels.xy) == 1


def test_where_no_place_is_free_nothing_is_pasted():
    full = people((0, 0), box_xyxy=np.array([[-200, -200, 360, 320]], np.float32))
    picture, labels = pasted(1, sample=full)
    assert (picture == 120).all()
    assert len(labels.xy) == 1


def test_somebody_stands_beside_a_target_without_a_size():
    """A single labelled joint and no box."""
    dot = people((50, 40))
    xy = np.array([[[50, 40], [np.nan, np.nan], [np.nan, np.nan]]], np.float32)
    dot = replace(dot, xy=xy, visibility=np.array([[2, 0, 0]], np.int8), box_xyxy=np.array([[50, 40, 50, 40]], np.float32))
    assert (dot.target_box()[2:] == dot.target_box()[:2]).all()
    counts = {len(pasted(seed, sample=dot)[1].xy) for seed in SEEDS}
    assert counts == {1, 2} or counts == {2}


def test_a_picture_of_nobody_can_be_given_somebody():
    """Without a target there is none afterwards: who is pasted is a person of the picture all the same."""
    found = [pasted(seed, sample=people())[1] for seed in SEEDS]
    assert {labels.target for labels in found} == {-1}
    assert max(len(labels.xy) for labels in found) == 1


@pytest.mark.parametrize("given", ["first", "second", "both"])
def test_values_that_one_sample_lacks_are_filled_in(given):
    more = {"weight": np.full((1, 3), 0.5, np.float32), "teacher_xy": np.full((1, 3, 2), 7, np.float32),
            "teacher_score": np.full((1, 3), 0.25, np.float32), "head_size": np.array([4], np.float32),
            "annotation_id": np.array([9])}  # fmt: skip
    sample = people((50, 40), **(more if given != "second" else {}))
    source = people((50, 40), photo="b", **(more if given != "first" else {}))
    labels = next(found for seed in SEEDS if len((found := pasted(seed, sample=sample, source=source)[1]).xy) == 2)
    own, other = given != "second", given != "first"
    assert labels.weight[:, 0].tolist() == [0.5 if own else 1, 0.5 if other else 1]
    assert np.isfinite(labels.teacher_xy[0]).all() == own
    assert labels.annotation_id.tolist() == [9 if own else -1, 9 if other else -1]
    assert labels.head_size.dtype == np.float32
    assert labels.teacher_score.shape == (2, 3)


def test_the_piece_reaches_a_little_beyond_the_box():
    """Of a person of 60x40 px: the piece is wider than the box by AROUND on each side, faded away at its edge."""
    from featherpose.data.people import _piece

    alpha = _piece(np.array([50, 40, 110, 80]), (SIZE[1], SIZE[0]))
    columns = np.flatnonzero(alpha.max(axis=0) > 0)
    assert columns[[0, -1]] == pytest.approx([50 - 60 * AROUND, 109 + 60 * AROUND], abs=1)
    assert alpha.max() == 1


def test_a_photo_shines_through_by_its_share():
    assert (shine_through(grey(100), grey(200), 0.25) == 125).all()
    assert (shine_through(grey(100), grey(200), 0) == 100).all()


# --- as rules of augmentation ----------------------------------------------------------------------------------------


def others_of(*samples, value=255):
    return Others(list(samples), lambda sample: grey(value))


def test_others_never_come_from_the_own_photo_and_are_not_empty():
    rng = np.random.default_rng(0)
    others = others_of(people((50, 40)), people((50, 40), photo="b"), people(photo="c"))
    assert {others.draw("a", rng).photo_id for _ in range(20)} == {"b"}
    assert others_of(people((50, 40))).draw("a", rng) is None


@pytest.mark.parametrize(
    ("rule", "pastes"), [({"paste_people": 1}, True), ({"shine_through": 1, "shine_share": (0.5, 0.5)}, False)]
)
def test_rules_bring_other_photos_in(rule, pastes):
    rules = replace(NO_AUGMENTATION, **rule)
    sample, grown, lighter = people((50, 40)), 0, 0
    for seed in SEEDS:
        facts = {"size_wh": (96, 96), "rng": np.random.default_rng(seed)}
        others = others_of(people((50, 40), photo="b"))
        picture, moved = augment(grey(120), sample, rules=rules, others=others, **facts)
        _, plain = augment(grey(120), sample, rules=NO_AUGMENTATION, **{**facts, "rng": np.random.default_rng(seed)})
        grown += len(moved.xy) > 1
        lighter += picture.max() > 150
        assert moved.target == 0
        assert np.array_equal(moved.xy[0], plain.xy[0])
    assert grown > 20 if pastes else grown == 0
    assert lighter > 20


def test_rules_that_need_other_photos_say_so():
    for rule in ({"paste_people": 1}, {"shine_through": 1}):
        with pytest.raises(ValueError, match=r"paste_people and shine_through need other photos"):
            augment(grey(1), people((50, 40)), size_wh=(96, 96), rules=Augmentation(**rule), rng=np.random.default_rng(0))

"""Clips whose truth is exact: the same seed, the same person, the right place."""

from pathlib import Path

import numpy as np
import pytest

from featherpose import COCO17
from featherpose.data.sample import Sample
from featherpose.data.sequences import CLIPS, TARGET, photo_clip, synthetic_clip
from featherpose.metrics.tracking import GONE, TRACKABLE

SMALL = {"size_wh": (160, 120)}


def at_seconds(clip, *seconds):
    return [clip.draw(int(np.argmin(np.abs(clip.times - s)))) for s in seconds]


@pytest.mark.parametrize("kind", CLIPS)
def test_every_kind_gives_frames_with_truth(kind):
    clip = synthetic_clip(kind, 3, **SMALL)
    image, people = clip.draw(len(clip) // 2)
    assert image.shape == (120, 160, 3) and image.dtype == np.uint8
    assert people.xy.shape == (clip.persons, 17, 2) and people.visibility.shape == (clip.persons, 17)
    assert people.area.shape == people.seen.shape == (clip.persons,)
    assert clip.persons == (0 if kind == "empty" else len(people.xy))
    assert (np.diff(clip.times) > 0).all() and clip.times[0] == 0
    seen = people.visibility > 0
    assert ((people.xy[seen] >= 0) & (people.xy[seen] < (160, 120))).all()
    assert (people.area[seen.any(axis=1)] > 0).all()


def test_the_same_seed_draws_the_same_clip_in_any_order():
    first, second = synthetic_clip("crossing", 5, **SMALL), synthetic_clip("crossing", 5, **SMALL)
    late, early = first.draw(40), first.draw(3)
    for (image, people), (again, truth) in ((early, second.draw(3)), (late, second.draw(40))):
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(people.xy, truth.xy)
    assert not np.array_equal(synthetic_clip("crossing", 6, **SMALL).draw(3)[0], early[0])


def test_reading_a_clip_gives_its_frames_in_time():
    clip = synthetic_clip("empty", 0, **SMALL)
    times = [time for _, time, _ in clip]
    np.testing.assert_array_equal(times, clip.times)
    assert len(clip) == len(times) == 60


def test_people_cross_and_keep_their_rows():
    clip = synthetic_clip("crossing", 1, **SMALL)
    (_, before), (_, after) = at_seconds(clip, 0.5, clip.times[-1] - 0.1)
    middle = [people.xy.mean(axis=1)[:, 0] for people in (before, after)]
    assert (middle[0][0] < middle[0][1]) != (middle[1][0] < middle[1][1])


def test_the_hidden_target_is_hidden_and_comes_out():
    clip = synthetic_clip("hidden", 1, **SMALL)
    seen = [people.seen[TARGET] for _, people in at_seconds(clip, 0.1, 2.1, clip.times[-1])]
    assert seen[0] > TRACKABLE and seen[1] <= GONE and seen[2] > TRACKABLE


def test_whoever_leaves_is_out_of_the_picture_and_unknown_there():
    clip = synthetic_clip("leaving", 0, **SMALL)
    (_, here), (_, away), (_, back) = at_seconds(clip, 0.1, 3.0, clip.times[-1])
    assert here.seen[TARGET] > TRACKABLE and back.seen[TARGET] > TRACKABLE
    assert not away.visibility.any() and away.area[TARGET] == 0 and np.isnan(away.xy).all()


def test_the_one_who_stands_still_only_has_noise():
    clip = synthetic_clip("still", 2, **SMALL)
    (image, people), (later, truth) = clip.draw(10), clip.draw(50)
    np.testing.assert_array_equal(people.xy, truth.xy)
    difference = image.astype(float) - later
    assert 3 < difference.std() < 8, "two frames of noise 4 differ by about 4 * 2 ** .5, less where it is cut off"


def test_walkers_move_and_their_limbs_with_them():
    clip = synthetic_clip("alone", 0, **SMALL)
    xy = np.stack([people.xy[TARGET] for _, people in at_seconds(clip, 1.0, 1.2, 1.4)])
    ankle = xy[:, COCO17.index("left_ankle")] - xy[:, COCO17.index("left_hip")]
    assert np.abs(np.diff(xy.mean(axis=1), axis=0)).max() > 2 and np.abs(np.diff(ankle, axis=0)).max() > 1


# --- photos -----------------------------------------------------------------------------------------------------------

DOT = 60, 40


def dotted_photo():
    """A grey photo with a white dot at the target's left wrist; somebody else beside, in the first row."""
    image = np.full((120, 160, 3), 90, np.uint8)
    image[DOT[1] - 3 : DOT[1] + 3, DOT[0] - 3 : DOT[0] + 3] = 255
    xy = np.full((2, 17, 2), np.nan, np.float32)
    visibility = np.zeros((2, 17), np.int8)
    xy[0, 0], xy[1, COCO17.index("left_wrist")], xy[1, 5], xy[1, 16] = (150, 60), DOT, (40, 20), (90, 110)
    visibility[np.isfinite(xy).all(axis=2)] = 2
    visibility[1, 5] = -1
    box = np.array([[140, 40, 159, 100], [40, 20, 90, 110]], np.float32)
    sample = Sample(Path("dots.png"), (160, 120), COCO17, xy, visibility, box, np.array([700.0, 3000.0]), 1, "dots")
    return image, sample


@pytest.mark.parametrize("motion", ["still", "slow", "quick"])
def test_the_labels_of_a_photo_move_with_its_pixels(motion):
    image, sample = dotted_photo()
    clip = photo_clip(image, sample, motion, 4, noise=0.0)
    places, errors = [], []
    for index in range(0, len(clip), 7):
        frame, people = clip.draw(index)
        wrist = people.xy[TARGET, COCO17.index("left_wrist")]
        light = np.clip(frame[..., 0].astype(float) - 91, 0, None)
        rows, columns = np.indices(light.shape) + 0.5
        dot = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        errors.append(dot - wrist)
        places.append(wrist)
    assert np.abs(errors).max() < 0.2
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    moved = np.ptp(places, axis=0).max()
    assert moved < 0.01 if motion == "still" else moved > 5


def test_the_target_of_a_photo_is_in_the_first_row_and_areas_follow_the_zoom():
    image, sample = dotted_photo()
    clip = photo_clip(image, sample, "quick", 4, noise=0.0)
    (_, first), (_, later) = clip.draw(0), clip.draw(12)
    assert clip.persons == 2
    for people in (first, later):
        joints = people.xy[TARGET]
        length = np.linalg.norm(joints[COCO17.index("left_wrist")] - joints[16])
        plain = np.linalg.norm(np.array(DOT) - (90, 110))
        assert people.area[TARGET] == pytest.approx(3000 * (length / plain) ** 2, rel=1e-5)
        assert people.visibility[TARGET, 5] == 0, "a joint that the set does not know stays unknown"


def test_every_frame_of_a_still_photo_has_noise_of_its_own():
    image, sample = dotted_photo()
    clip = photo_clip(image, sample, "still", 4)
    assert not np.array_equal(clip.draw(0)[0], clip.draw(1)[0])


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'crossing'"):
        synthetic_clip("crosing", 0)
    image, sample = dotted_photo()
    with pytest.raises(ValueError, match="did you mean 'quick'"):
        photo_clip(image, sample, "quik", 0)

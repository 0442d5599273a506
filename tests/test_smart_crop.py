"""The next place to look at, computed by hand from the rule of the official demos."""

import numpy as np
import pytest

from featherpose import COCO17, Pose, Skeleton
from featherpose.runtime.smart_crop import smart_crop, whole_frame

SIZE = (400, 300)


def _pose(places: dict, sure=(), skeleton=COCO17) -> Pose:
    """Joints by name; those in `sure` count (all of `places` unless given), the others have score 0."""
    xy, score = np.zeros((len(skeleton), 2)), np.zeros(len(skeleton))
    for name, place in places.items():
        xy[skeleton.index(name)] = place
        score[skeleton.index(name)] = 0.9 if not sure or name in sure else 0.0
    return Pose(xy, score, skeleton)


TORSO = {"left_hip": (190, 160), "right_hip": (210, 160), "left_shoulder": (190, 130), "right_shoulder": (210, 130)}


def test_the_whole_frame_is_a_square_around_the_photo():
    np.testing.assert_array_equal(whole_frame((400, 300)), [0, -50, 400, 350])
    np.testing.assert_array_equal(whole_frame((1, 3)), [-1, 0, 2, 3])


CROPS = {
    # middle of the hips (200, 160); the torso reaches 30 px up: half = 1.9 * 30
    "torso alone": (TORSO, (), [143, 103, 257, 217]),
    # the wrist is 80 px to the left: half = 1.2 * 80
    "a far wrist": ({**TORSO, "left_wrist": (120, 150)}, (), [104, 64, 296, 256]),
    # torso joints take part whatever their score, once one hip and one shoulder count
    "one side": ({**TORSO, "left_shoulder": (190, 100)}, ("right_hip", "right_shoulder"), [86, 46, 314, 274]),
    # the wrist's score is too low
    "an unsure wrist": ({**TORSO, "left_wrist": (120, 150)}, tuple(TORSO), [143, 103, 257, 217]),
    # 1.2 * 160 = 192, no more than 200 to either border
    "near the limit": ({**TORSO, "left_wrist": (40, 150)}, (), [8, -32, 392, 352]),
}


@pytest.mark.parametrize("places, sure, box", CROPS.values(), ids=CROPS)
def test_the_crop_is_centred_on_the_hips_and_holds_the_body(places, sure, box):
    np.testing.assert_allclose(smart_crop(_pose(places, sure), SIZE), box, atol=1e-4)


WHOLE = {
    "nobody": ({}, ()),
    "no hip": (TORSO, ("left_shoulder", "right_shoulder")),
    "no shoulder": (TORSO, ("left_hip", "right_hip")),
    # half would be 1.2 * 195 = 234; cut to the 210 px to the right border it is still more than 400 / 2
    "larger than the frame": ({**TORSO, "left_wrist": (5, 150), "left_hip": (170, 160)}, ()),
    "all on one point": (dict.fromkeys(TORSO, (100, 100)), ()),
}


@pytest.mark.parametrize("places, sure", WHOLE.values(), ids=WHOLE)
def test_the_whole_frame_is_taken_when_the_joints_do_not_tell(places, sure):
    np.testing.assert_array_equal(smart_crop(_pose(places, sure), SIZE), whole_frame(SIZE))


def test_the_crop_ends_at_the_farthest_border_of_the_photo():
    # middle (200, 160), farthest border 200 px away; 1.9 * 110 = 209 is cut to 200, which is the frame's half
    places = {**TORSO, "left_shoulder": (190, 50)}
    np.testing.assert_allclose(smart_crop(_pose(places), SIZE), [0, -40, 400, 360], atol=1e-4)


def test_the_threshold_itself_does_not_count():
    pose = _pose(TORSO)
    assert np.array_equal(smart_crop(pose, SIZE, joint_threshold=float(pose.score.max())), whole_frame(SIZE))


def test_a_mirrored_pose_has_a_mirrored_crop():
    places = {**TORSO, "left_wrist": (120, 150), "right_ankle": (215, 230)}
    box = smart_crop(_pose(places), SIZE)
    mirrored = smart_crop(_pose({name: (400 - x, y) for name, (x, y) in places.items()}), SIZE)
    np.testing.assert_allclose(mirrored, [400 - box[2], box[1], 400 - box[0], box[3]], atol=1e-4)


HAND = Skeleton("hand", ("wrist", "thumb", "little"))


def test_a_skeleton_without_a_torso_is_cut_around_its_joints():
    pose = _pose({"wrist": (100, 100), "thumb": (140, 100), "little": (120, 160)}, skeleton=HAND)
    # middle of their box (120, 130); 2 * 30
    np.testing.assert_allclose(smart_crop(pose, SIZE), [60, 70, 180, 190], atol=1e-4)
    one = _pose({"wrist": (100, 100)}, skeleton=HAND)
    np.testing.assert_array_equal(smart_crop(one, SIZE), whole_frame(SIZE))


def test_other_spellings_of_the_torso_joints_are_known():
    names = ("Left Hip", "rightHip", "l_shoulder", "r_shoulder")
    skeleton = Skeleton("own", names)
    places = dict(zip(names, [(190, 160), (210, 160), (190, 130), (210, 130)], strict=True))
    np.testing.assert_allclose(smart_crop(_pose(places, skeleton=skeleton), SIZE), [143, 103, 257, 217], atol=1e-4)

"""Limbs: strips around bones, cut from visible people, the same for the same seed, pasted into other photos."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.data.limbs import LONGEST, LimbBank, build_bank, paste_limbs
from featherpose.data.sample import Sample
from featherpose.skeletons import Skeleton

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), bones=(("shoulder", "elbow"), ("elbow", "wrist")))
XY = np.array([[[20, 50], [60, 50], [60, 90]]], np.float32)


def arm(number=0, xy=XY, visibility=2, skeleton=ARM):
    people = len(xy)
    return Sample(
        photo=Path(f"{number}.png"), size_wh=(120, 100), skeleton=skeleton, xy=np.asarray(xy, np.float32),
        visibility=np.full((people, 3), visibility, np.int8), box_xyxy=np.array([[15, 30, 65, 95]] * people, np.float32),
        area=np.full(people, 900, np.float32), target=0, photo_id=str(number),
    )  # fmt: skip


def red_to_blue(sample):
    """Red grows to the right, blue downwards."""
    rows, columns = np.indices((100, 120))
    return np.stack([columns, np.full((100, 120), 10 + int(sample.photo_id)), rows], axis=2).astype(np.uint8)


def test_a_limb_is_the_strip_around_its_bone_turned_downwards():
    """Upper arm of 40 px: 56 px long (a fifth more at each end), 13 wide (a fifth of 65). It ran rightwards: red grows."""
    limbs = build_bank([arm()], red_to_blue, seed=0).limbs
    upper = max(limbs, key=lambda limb: np.ptp(limb.rgb[..., 0]))
    assert upper.rgb.shape == (56, 13, 3)
    assert upper.share == pytest.approx(56 / 65)
    middle = upper.rgb[:, 6, 0].astype(int)
    assert middle[[0, 28, 55]] == pytest.approx([12, 40, 67], abs=1)
    assert np.ptp(upper.rgb[28, :, 2]) == pytest.approx(12, abs=1)


def test_edges_are_soft_and_the_outside_of_the_photo_is_not_pasted():
    (limb, *_) = build_bank([arm()], red_to_blue, seed=0).limbs
    assert limb.alpha[0].max() == limb.alpha[:, 0].max() == 0
    assert limb.alpha.max() == 1
    at_the_border = XY + np.array([-20, 0], np.float32)  # the shoulder stands on the photo's left edge
    limbs = build_bank([arm(xy=at_the_border)], red_to_blue, seed=0).limbs
    assert min(limb.alpha[: len(limb.alpha) // 8].max() for limb in limbs) == 0


def test_the_bank_depends_on_the_seed_alone_and_is_bounded():
    samples = [arm(number) for number in range(30)]
    first, again, other = (build_bank(samples, red_to_blue, seed=seed, limit=10) for seed in (0, 0, 1))
    assert len(first.limbs) == 10
    assert [limb.photo_id for limb in first.limbs] == [limb.photo_id for limb in again.limbs]
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(first.limbs, again.limbs, strict=True))
    assert [limb.photo_id for limb in first.limbs] != [limb.photo_id for limb in other.limbs]


def test_large_limbs_are_kept_small():
    large = arm(xy=np.array([[[5, 10], [110, 10], [110, 95]]], np.float32))
    assert max(max(limb.rgb.shape[:2]) for limb in build_bank([large], red_to_blue, seed=0).limbs) <= LONGEST


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (arm(visibility=1), "found no limb to paste in 1 photos"),
        (arm(xy=np.array([[[20, 50], [24, 50], [24, 54]]])), "found no limb to paste"),
        (arm(skeleton=Skeleton("dots", ("a", "b", "c"))), "skeleton 'dots' has none"),
    ],
    ids=["nobody visible", "too short", "no bones"],
)
def test_data_without_limbs_are_refused(sample, said):
    with pytest.raises(ValueError, match=said):
        build_bank([sample], red_to_blue, seed=0)


def test_a_photo_that_cannot_be_read_is_named():
    def broken(sample):
        raise ValueError(f"{sample.photo}: the picture is truncated")

    with pytest.raises(ValueError, match=r"0\.png"):
        build_bank([arm()], broken, seed=0)


def test_pasting_leaves_the_picture_alone_and_repeats_itself():
    bank = LimbBank(build_bank([arm(1)], red_to_blue, seed=0).limbs)
    picture = red_to_blue(arm())
    before = picture.copy()
    pasted = paste_limbs(picture, arm(), bank, np.random.default_rng(5))
    assert np.array_equal(picture, before) and (pasted != picture).any() and pasted.dtype == np.uint8
    assert np.array_equal(pasted, paste_limbs(picture, arm(), bank, np.random.default_rng(5)))
    assert bank.others("1") == [] and len(bank.others("0")) == len(bank.limbs)

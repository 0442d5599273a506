"""Maps drawn on the device are those that the loader draws, whatever is labelled, trusted or ignored."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.codecs.movenet import MoveNetCodec  # noqa: E402
from featherpose.train.drawing import MapDrawer  # noqa: E402

WIDTH, HEIGHT, JOINTS = 96, 64, 5
EXACT = 1e-5


def people(rng, count, *, trust):
    """Joints (count, JOINTS, 2) in and around the picture, visibilities, boxes, trusts."""
    middle = rng.uniform((-10, -10), (WIDTH + 10, HEIGHT + 10), (count, 1, 2))
    xy = (middle + rng.normal(0, 12, (count, JOINTS, 2))).astype(np.float32)
    visibility = rng.choice([0, 1, 2], (count, JOINTS), p=[0.3, 0.2, 0.5]).astype(np.int8)
    visibility[rng.random(count) < 0.15] = 0  # a box alone
    xy[visibility <= 0] = np.nan
    box = np.concatenate([middle[:, 0] - 15, middle[:, 0] + 15], axis=1).astype(np.float32)
    return xy, visibility, box, rng.choice(trust, (count, JOINTS)).astype(np.float32)


def compare(codec, pictures, *, places=7, ignored=3):
    """Both ways of drawing the same pictures: (xy, visibility, boxes, ignored, trust) each."""
    made = [codec.outline(*labels, people=places, ignored=ignored) for labels in pictures]
    shapes = [{name: value.shape for name, value in outline.items()} for outline in made]
    assert all(shape == shapes[0] for shape in shapes)
    batch = {name: np.stack([outline[name] for outline in made]) for name in made[0]}
    drawn = MapDrawer(codec, lambda facts: {name: torch.from_numpy(value) for name, value in facts.items()})(batch)
    wanted = [codec.encode(xy, visibility, box, ignore, joint_weight=trust) for xy, visibility, box, ignore, trust in pictures]
    assert set(drawn) == set(wanted[0])
    for name, value in drawn.items():
        for number, maps in enumerate(wanted):
            assert value[number].shape == maps[name].shape, name
            np.testing.assert_allclose(value[number].numpy(), maps[name], atol=EXACT, err_msg=f"{name} of picture {number}")
    return drawn


@pytest.mark.parametrize("curve", ["gaussian", "exponential"])
@pytest.mark.parametrize("subcell", [False, True])
@pytest.mark.parametrize("center", ["box", "mean"])
def test_maps_are_those_of_encode(curve, subcell, center):
    codec = MoveNetCodec(
        (WIDTH, HEIGHT), JOINTS, curve=curve, subcell=subcell, center=center, offset_radius=2, sigma_scale=0.1,
        center_sigma=1.3,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    pictures = []
    for count in (1, 2, 5, 7, 0, 3):
        xy, visibility, box, _ = people(rng, count, trust=[1])
        region = rng.uniform(0, 60, (count % 3, 2))
        ignore = np.concatenate([region, region + 20], axis=1).astype(np.float32) if count % 2 else None
        pictures.append((xy, visibility, box, ignore, None))
    drawn = compare(codec, pictures)
    for name, value in drawn.items():
        assert 0 < float((value != 0).float().mean()) < 1, name  # neither empty nor full


@pytest.mark.parametrize("sigma_range", [(1.0, 3.0), (2.0, 2.0)])  # of equal width: equally high where two are as near
def test_trust_and_unknown_joints_count(sigma_range):
    codec = MoveNetCodec((WIDTH, HEIGHT), JOINTS, sigma_range=sigma_range, sigma_scale=0.2)
    rng = np.random.default_rng(2)
    pictures = []
    for number in range(8):
        xy, visibility, box, trust = people(rng, 4, trust=[0.0, 0.1, 0.5, 1.0])
        if number % 2:  # a set that never labels the last joint
            visibility[:, -1], xy[:, -1] = -1, np.nan
        pictures.append((xy, visibility, box, None, trust))
    drawn = compare(codec, pictures, places=4, ignored=0)
    assert drawn["offset_weight"].unique().tolist() == pytest.approx([0.0, 0.1, 0.5, 1.0])
    assert not drawn["heatmap_weight"][1, -1].any() and drawn["heatmap_weight"][0, -1].any()


def test_pictures_without_anybody_are_empty():
    codec = MoveNetCodec((WIDTH, HEIGHT), JOINTS)
    nobody = (np.zeros((0, JOINTS, 2)), np.zeros((0, JOINTS), np.int8), np.zeros((0, 4)), None, None)
    drawn = compare(codec, [nobody, nobody], places=2, ignored=0)
    assert not drawn["heatmap"].any() and drawn["heatmap_weight"].all() and not drawn["regression_weight"].any()


def test_more_people_than_places_are_refused():
    codec = MoveNetCodec((WIDTH, HEIGHT), JOINTS)
    xy, visibility, box, _ = people(np.random.default_rng(0), 3, trust=[1])
    with pytest.raises(ValueError, match="3 people and 0 regions, places for 2 and 1"):
        codec.outline(xy, visibility, box, None, None, people=2, ignored=1)

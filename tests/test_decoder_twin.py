"""The decoder inside exported graphs finds the same cells as the codec, whatever the maps."""

from __future__ import annotations

import numpy as np
import pytest

# ruff: noqa: E402
torch = pytest.importorskip("torch")

from featherpose.codecs.movenet import MoveNetCodec
from featherpose.export.graph import Decoder

K = 5


def random_maps(rng, batch, width, height, *, heat=lambda rng, shape: rng.random(shape), reach=8.0):
    return {
        "center": rng.random((batch, 1, height, width)).astype(np.float32),
        "heatmap": heat(rng, (batch, K, height, width)).astype(np.float32),
        "regression": (reach * rng.standard_normal((batch, K, 2, height, width))).astype(np.float32),
        "offset": rng.standard_normal((batch, K, 2, height, width)).astype(np.float32),
    }


def spiky(rng, shape):
    """Mostly nothing, with a few equally good cells: argmax must choose by distance."""
    return np.where(rng.random(shape) > 0.98, 0.9, 0.01)


def corner_center(maps, row, column):
    maps["center"][:] = 0.001
    maps["center"][:, 0, row, column] = 0.999
    return maps


RULES = (
    {"vote_radius": 0}, {"vote_radius": 1}, {"vote_radius": 2, "offset_radius": 2}, {"refine": "dark"},
    {"softening": 4.0}, {"softening": 4.0, "center_softening": 16.0, "vote_radius": 1},
)  # fmt: skip
CASES = {
    "one picture": lambda rng: random_maps(rng, 1, 24, 24),
    "a batch": lambda rng: random_maps(rng, 7, 24, 24),
    "wider than high": lambda rng: random_maps(rng, 3, 32, 16),
    "higher than wide": lambda rng: random_maps(rng, 3, 16, 32),
    "heatmaps of equal peaks": lambda rng: random_maps(rng, 4, 24, 24, heat=spiky),
    "regression far outside": lambda rng: random_maps(rng, 4, 24, 24, reach=100),
    "person at the first cell": lambda rng: corner_center(random_maps(rng, 2, 24, 24), 0, 0),
    "person at the last cell": lambda rng: corner_center(random_maps(rng, 2, 24, 24), 23, 23),
    "flat maps, all cells equal": lambda rng: {
        name: np.full_like(values, 0.25) for name, values in random_maps(rng, 2, 24, 24).items()
    },
}


def decode_both(maps, **rules):
    height, width = maps["heatmap"].shape[2:]
    codec = MoveNetCodec(input_size=(4 * width, 4 * height), joints=K, **rules)
    joints, pose_score = Decoder(codec)({name: torch.from_numpy(values) for name, values in maps.items()})
    return codec.decode_batch(maps), (joints.numpy(), pose_score.numpy())


@pytest.mark.parametrize("case", CASES)
def test_twin_finds_the_same_cells(case):
    maps = CASES[case](np.random.default_rng(0))
    maps["offset"][:] = 0  # the joints are then the corners of their cells
    (xy, _, _), (joints, _) = decode_both(maps)
    assert np.array_equal(joints[:, :, :2], xy)


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_twin_gives_the_same_joints_and_scores(case, rules):
    maps = CASES[case](np.random.default_rng(1))
    (xy, score, pose_score), (joints, twin_pose_score) = decode_both(maps, **rules)
    assert np.abs(joints[:, :, :2] - xy).max() < 1e-3
    assert np.array_equal(joints[:, :, 2], score)
    assert np.array_equal(twin_pose_score, pose_score)


def test_twin_follows_a_negative_regression():
    """By hand: the person at cell (12, 12); the joint's two equal peaks lie left and right; regression points left."""
    maps = random_maps(np.random.default_rng(2), 1, 24, 24, heat=lambda rng, shape: np.zeros(shape))
    corner_center(maps, 12, 12)
    maps["heatmap"][0, :, 12, [3, 20]] = 0.5
    maps["regression"][0, :, 0], maps["regression"][0, :, 1] = -8.5, 0.0
    maps["offset"][0, :, 0], maps["offset"][0, :, 1] = 0.75, -0.25
    _, (joints, pose_score) = decode_both(maps)
    assert np.allclose(joints[0], [4 * 3.75, 4 * 11.75, 0.5])
    assert pose_score == np.float32(0.999)

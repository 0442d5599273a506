"""The network that learns where pasted limbs hurt: it pastes as NumPy does, raises the loss, and is part of a checkpoint."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from test_limbs import arm, red_to_blue
from tiny_training import write_task

from featherpose.data.limbs import LONGEST, MOST_PASTED, WIDE, Limb, Placed, build_bank, pack, paste, place_limbs
from featherpose.train import adversary
from featherpose.train.adversary import Adversary
from featherpose.train.checkpoint import read_facts
from featherpose.train.config import read_recipe
from featherpose.train.loop import Interrupted, train


def placed_limbs(seed):
    """A picture, limbs of another photo in it, and the same as tensors."""
    sample = arm()
    placed = place_limbs(sample, build_bank([arm(1)], red_to_blue, seed=0), np.random.default_rng(seed))
    picture = 255 - red_to_blue(sample)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    return picture, placed, (image, *(torch.from_numpy(values)[None] for values in pack(placed, sample)))


def test_an_untrained_adversary_pastes_where_limbs_were_drawn():
    for seed in range(4):
        picture, placed, tensors = placed_limbs(seed)
        expected = paste(picture, placed).astype(float)
        assert np.abs(expected - picture).max() > 40
        with torch.no_grad():
            got = Adversary()(*tensors)[0].permute(1, 2, 0).numpy()
        assert np.abs(got - expected).max() <= 3  # OpenCV rounds places to 1/32 px, alpha has 8 bits, each paste rounds
        assert np.abs(got - expected).mean() < 0.3


def test_the_widest_limb_fits_into_its_strip():
    limb = Limb(np.zeros((LONGEST, WIDE, 3), np.uint8), np.ones((LONGEST, WIDE), np.float32), 0.3, "1")
    strips, places = pack([Placed(limb, np.zeros(2), 0.0, 1.0)], arm())
    assert strips.shape == (MOST_PASTED, LONGEST, WIDE, 4) and places.shape == (MOST_PASTED, 7)
    assert (strips[0, ..., 3] == 255).all() and not strips[1:].any()
    thick = arm(xy=np.array([[[5, 5], [115, 5], [115, 95]]], np.float32))
    assert max(limb.rgb.shape[1] for limb in build_bank([thick], red_to_blue, seed=0).limbs) <= WIDE


def test_no_limb_is_no_change():
    image = torch.rand(2, 3, 40, 50) * 255
    strips, places = (torch.from_numpy(np.stack([values] * 2)) for values in pack([], arm()))
    assert torch.equal(adversary.paste(image, strips, places), image)


def white_limb(batch):
    """White limbs in the middle of black pictures of 64x64, all drawn at the same place."""
    strip, places = pack([Placed(Limb(np.full((20, 8, 3), 255, np.uint8), np.ones((20, 8), np.float32), 0.3, "1"),
                                 np.array([32.0, 32.0]), 0.0, 1.0)], arm())  # fmt: skip
    places[:, 6] = 40
    return torch.zeros(batch, 3, 64, 64), *(torch.from_numpy(np.stack([v] * batch)) for v in (strip, places))


def test_it_moves_limbs_to_where_the_loss_is_large():
    """The loss is how white the right half is: what lowers it for others makes the adversary move limbs to the right."""
    image, strips, places = white_limb(4)
    rival = Adversary()
    optimizer = torch.optim.Adam(rival.parameters(), lr=adversary.RATE)

    def loss():
        return rival(image, strips, places)[..., 32:].mean()

    before = loss().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    moved = rival.moved(image, strips, places)
    assert loss().item() > 1.3 * before and (moved[:, 0, 0] > 34).all()
    assert ((moved[:, 0, :2] - places[:, 0, :2]).abs() <= adversary.AWAY * 40 + 1e-4).all()
    assert ((moved[:, 0, 3] / places[:, 0, 3]).log().abs() <= math.log(1.3) + 1e-4).all()


def test_the_pose_network_gets_the_gradient_as_it_is():
    image, strips, places = white_limb(1)
    weight = torch.ones((), requires_grad=True)
    pasted = Adversary()(image, strips, places)
    (weight * pasted.mean()).backward()
    assert weight.grad == pasted.mean() > 0


LEVERS = ["augment.paste_parts=0.8", "augment.paste_adversary=true", "stage.0.epochs=1", "validation.path="]


def test_a_run_with_an_adversary_is_the_same_after_a_stop(tmp_path, monkeypatch):
    recipe = read_recipe(write_task(tmp_path), LEVERS)
    train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "halves", stop_after=1)
    assert read_facts(tmp_path / "halves/checkpoint.safetensors")["step"] == 1
    train(recipe, tmp_path / "halves", resume=True)
    whole = (tmp_path / "whole/model.safetensors").read_bytes()
    assert whole == (tmp_path / "halves/model.safetensors").read_bytes()
    monkeypatch.setattr("featherpose.train.adversary._Reversed.apply", lambda values: values.detach())
    train(recipe, tmp_path / "idle")  # limbs stay where they were drawn
    assert whole != (tmp_path / "idle/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("levers", "said"),
    [
        (["augment.paste_adversary=true"], "augment.paste_parts is 0"),
        ([*LEVERS, "augment.paste_choices=2"], "does not go with augment.paste_choices above 1"),
        ([*LEVERS, "augment.camera=0.2"], "augment.camera does not go with augment.paste_adversary"),
        (["augment.paste_adversary=1"], "'augment.paste_adversary' must be true or false"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(tmp_path, levers, said):
    with pytest.raises(ValueError, match=said):
        read_recipe(write_task(tmp_path), levers)

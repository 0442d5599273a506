"""Training with the levers on the data: the hardest pasting is chosen, photos without people count, a stop changes nothing."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tiny_training import log_lines, write_split, write_task

from featherpose.systems.files import load_network
from featherpose.train.config import read_recipe
from featherpose.train.hardest import hardest
from featherpose.train.loop import Interrupted, train


class Brightness(torch.nn.Module):
    """Answers every picture with heatmaps of its mean brightness."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3)

    def forward(self, image):
        self.norm(image)
        return {"heatmap": (image.mean(dim=(1, 2, 3)) / 255)[:, None, None, None].expand(-1, 2, 4, 4)}


def test_the_picture_with_the_largest_error_is_taken():
    """Targets of 0: the brightest picture is the worst; targets of 1: the darkest."""
    levels = torch.tensor([[10, 200, 90], [10, 200, 90], [50, 50, 50]])
    images = levels[..., None, None, None].expand(-1, -1, 8, 8, 3).to(torch.uint8)
    heatmap = torch.stack([torch.zeros(2, 4, 4), torch.ones(2, 4, 4), torch.zeros(2, 4, 4)])
    network = Brightness().train()
    before = network.norm.running_mean.clone()
    chosen = hardest(network, images, {"heatmap": heatmap, "heatmap_weight": torch.ones(3, 2, 4, 4)})
    assert chosen.shape == (3, 8, 8, 3) and chosen[:, 0, 0, 0].tolist() == [200, 10, 50]
    assert network.training and network.norm.training and torch.equal(network.norm.running_mean, before)


def test_what_has_no_weight_is_no_error():
    images = torch.tensor([10, 200])[None, :, None, None, None].expand(1, 2, 8, 8, 3).to(torch.uint8)
    targets = {"heatmap": torch.zeros(1, 2, 4, 4), "heatmap_weight": torch.zeros(1, 2, 4, 4)}
    assert hardest(Brightness(), images, targets)[0, 0, 0, 0] == 10  # the first of equals


LEVERS = [
    "augment.drop_joints=0.5", "augment.paste_parts=0.7", "augment.paste_choices=2", "augment.background=0.2",
    "augment.joint_area=[2000, 9000]", "data.0.balance=0.5", "stage.0.epochs=1", "validation.path=",
]  # fmt: skip


def test_all_levers_at_once_are_the_same_run_after_a_stop(tmp_path):
    recipe = read_recipe(write_task(tmp_path), LEVERS)
    train(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "halves", stop_after=1)
    train(recipe, tmp_path / "halves", resume=True)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "halves/model.safetensors").read_bytes()


def test_training_on_photos_without_people_teaches_silence(tmp_path):
    """One set with people, one without annotations; the center map's target is 0 on the second."""
    task = write_task(tmp_path)
    labels = write_split(tmp_path / "empty", "train", 8, seed=5)
    labels.write_text(json.dumps({**json.loads(labels.read_text()), "annotations": []}))
    more = f"data=[{{path='{task.parent / 'data'}', split='train'}}, {{path='{tmp_path / 'empty'}', split='train'}}]"
    noise = np.random.default_rng(0).integers(60, 140, (8, 64, 64, 3), dtype=np.uint8)
    for number, picture in enumerate(noise):
        cv2.imwrite(str(tmp_path / "empty" / "train" / f"{number}.png"), picture)

    def surest(name, *overrides):
        """How sure of somebody in pictures of noise a run makes its network, at its surest place."""
        recipe = read_recipe(task, [*overrides, "train.ema=0", "validation.path="])
        network, _ = load_network(train(recipe, tmp_path / name))
        with torch.no_grad():
            maps = network(torch.from_numpy(noise).permute(0, 3, 1, 2).float())
        return float(maps["center"].amax(dim=(1, 2, 3)).mean())

    assert surest("run", more, "stage.0.epochs=6") < 0.8 * surest("without", "stage.0.epochs=10")
    (start,) = log_lines(tmp_path / "run", "start")
    assert start["samples"] == 20 and start["problems"] == {}
    assert all(np.isfinite(line["loss"]) for line in log_lines(tmp_path / "run", "train"))


def test_levers_change_the_fingerprint_only_when_they_are_on(tmp_path):
    task = write_task(tmp_path)
    plain = read_recipe(task).fingerprint()
    off = ["augment.drop_joints=0.0", "augment.paste_choices=1", "augment.joint_area=[0, 0]", "data.0.balance=0"]
    assert read_recipe(task, off).fingerprint() == plain
    for lever in (*LEVERS[:6], "augment.drop_size=[0.1, 0.2]"):
        assert read_recipe(task, [lever]).fingerprint() != plain, lever


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.0.balance=1.5", "data.balance must be in [0, 1]; got 1.5"),
        ("data.0.balanse=1", "unknown key 'data.0.balanse'; did you mean 'balance'?"),
        ("augment.paste_choices=1.5", "'augment.paste_choices' must be a whole number"),
        ("stage.0.augment.background=2.0", "augment.background is a probability"),
    ],
)
def test_wrong_levers_are_refused_by_name(tmp_path, override, said):
    with pytest.raises(ValueError) as error:
        read_recipe(write_task(tmp_path), [override])
    assert said in str(error.value)

"""Pruning: a narrower network keeps the channels that matter."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
import torch
from tiny_training import write_task
from torch import nn

from featherpose.models.layers import has_folded_norms
from featherpose.skeletons import Skeleton, load_skeleton
from featherpose.spec import ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, save_model
from featherpose.train.config import read_recipe
from featherpose.train.distributed import Process
from featherpose.train.loop import Run
from featherpose.train.prune import channel_importance, narrowed

WIDE = {"system": "movenet", "backbone": "mobilenet_v1", "width": 0.5, "neck": {8: 32, 16: 32}, "head_width": 32}
SLIM = {**WIDE, "width": 0.25, "neck": {8: 16, 16: 16}, "head_width": 16}
COCO = load_skeleton("coco17")
MOBILE = "model.network.backbone=mobilenet_v1"
ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def half_dead(facts):
    """A network whose every second channel is 0 behind its norm, and counts for nothing."""
    network = build_network(facts, 17).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, 0.1, 0.5)
            with torch.no_grad():
                module.weight[::2] = 0
                module.bias[::2] = 0
    return network


def test_context_that_the_recipe_lacks_is_left_out():
    slim = narrowed(half_dead({**WIDE, "context": 2}), SLIM, COCO, losses)
    assert len(slim.neck.context) == 0 and slim.backbone.stem.conv.out_channels == 8


def losses(network):
    for _ in range(3):
        yield sum((value - 1).square().mean() for value in network(torch.rand(2, 3, 64, 64) * 255).values())


@pytest.mark.parametrize("heads", ["movenet", "two_level"])
def test_channels_that_do_nothing_go_first_and_the_function_stays(heads):
    network, image = half_dead({**WIDE, "heads": heads}), torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        expected = {name: value.clone() for name, value in network(image).items()}
    slim = narrowed(network, {**SLIM, "heads": heads}, COCO, losses).eval()
    with torch.no_grad():
        given = slim(image)
    for name, value in given.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)
    assert slim.backbone.stem.conv.out_channels == 8


def test_importance_by_hand():
    norm = nn.BatchNorm2d(2).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 1.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.ones(1, 2, 1, 1)
    found = channel_importance(norm, (norm(x).sum() for _ in range(2)))[norm]
    # Of each batch: weight times its gradient (the normalised 1) plus bias times its gradient, 1; squared.
    assert found.tolist() == pytest.approx([2 * (2 + 1) ** 2, 2 * 1.0], rel=1e-4)


@pytest.mark.parametrize(
    ("facts", "layer"),
    [({**WIDE, "width": 0.75}, "backbone.layers.0"), ({**SLIM, "backbone": "mobilenet_v2"}, "backbone")],
    ids=["a wider network", "another backbone"],
)
def test_what_is_no_narrower_network_is_refused(facts, layer):
    with pytest.raises(ValueError, match="cannot be narrowed") as error:
        narrowed(build_network(WIDE, 17), facts, COCO, losses)
    assert layer in str(error.value)


def test_a_shuffled_network_is_refused():
    facts = {**WIDE, "backbone": "shufflenet_v2"}
    with pytest.raises(ValueError, match="MobileNets can be pruned, ShuffleNetV2 cannot"):
        narrowed(build_network(facts, 17), {**facts, "head_width": 16}, COCO, losses)


def test_a_recipe_narrows_its_initial_model(tmp_path):
    task = write_task(tmp_path)
    skeleton = load_skeleton(str(tmp_path / "three.json"))
    mobile = "model.network.backbone=mobilenet_v1"
    wide, init = read_recipe(task, [mobile]).model.network, tmp_path / "wide.safetensors"
    network = build_network(wide, 3)
    spec = {"name": "wide", "skeleton": skeleton, "input_size": (64, 64), "codec": {"name": "movenet"}, "network": wide}
    save_model(init, network, ModelSpec(**spec))
    slimmer = ["model.network.neck={8=8, 16=8}", "model.network.head_width=8"]
    asked = [mobile, f"model.init='{init}'", "model.prune=true", *slimmer]
    alone = Process(0, 1, torch.device("cpu"))
    run = Run(read_recipe(task, asked), tmp_path / "run", alone, lambda line: None)
    assert run.network.heads.heatmap.hidden.conv.weight.shape[0] == 8
    kept = run.network.heads.heatmap.hidden.conv.weight.flatten(1)[:, 0]
    assert set(kept.tolist()) <= set(network.heads.heatmap.hidden.conv.weight.flatten().tolist())
    # Batches are prepared as for a step: with ways of pasting to choose from, and with a teacher's answers.
    pasting = ["augment.paste_parts=1", "augment.paste_choices=2"]
    teaching = [f"model.teacher='{init}'", "losses={heatmap=1, imitation=1}"]
    for more in (pasting, teaching):
        other = Run(read_recipe(task, [*asked, *more]), tmp_path / "run", alone, lambda line: None)
        assert other.network.heads.heatmap.hidden.conv.weight.shape[0] == 8
    with pytest.raises(ValueError, match=r"model\.prune narrows a trained model"):
        read_recipe(task, ["model.prune=true"])


def test_squeezes_without_a_norm_are_narrowed_too():
    facts = {"system": "movenet", "backbone": "mobilenet_v3_small", "neck": {8: 16, 16: 16}, "head_width": 16}
    slim = narrowed(build_network({**facts, "width": 1.0}, 17), {**facts, "width": 0.5}, COCO, losses)
    assert slim.eval()(torch.zeros(1, 3, 64, 64))["heatmap"].isfinite().all()


def wider_start(folder, skeleton, *, fold=False):
    """A task, and the path of a model with wider heads."""
    task = write_task(folder)
    wide = {**read_recipe(task, [MOBILE]).model.network, "head_width": 32}
    network = build_network(wide, 3)
    if fold:  # as an imported model has them
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
                module.running_var.fill_(1 - module.eps)
        assert has_folded_norms(network)
    path = folder / "wide.safetensors"
    save_model(path, network, ModelSpec("wide", skeleton, (64, 64), {"name": "movenet"}, network=wide))
    return task, [MOBILE, f"model.init='{path}'", "model.prune=true"]


def test_a_skeleton_of_another_name_is_pruned_and_of_other_joints_refused(tmp_path):
    write_task(tmp_path)
    skeleton = load_skeleton(str(tmp_path / "three.json"))
    task, asked = wider_start(tmp_path, replace(skeleton, name="renamed"))
    run = Run(read_recipe(task, asked), tmp_path / "run", ALONE, lambda line: None)
    given = load_network(tmp_path / "wide.safetensors")[0].heads.heatmap.hidden.conv.weight
    kept = run.network.heads.heatmap.hidden.conv.weight.flatten(1)
    assert len(kept) == 16 and all((row == given.flatten(1)).all(dim=1).any() for row in kept)
    task, asked = wider_start(tmp_path, Skeleton("other", ("a", "b", "c"), (), ()))
    with pytest.raises(ValueError, match=r"model\.prune wants the joints of the trained model"):
        Run(read_recipe(task, asked), tmp_path / "run", ALONE, lambda line: None)


def test_folded_norms_get_statistics_before_they_are_pruned(tmp_path):
    write_task(tmp_path)
    task, asked = wider_start(tmp_path, load_skeleton(str(tmp_path / "three.json")), fold=True)
    run = Run(read_recipe(task, asked), tmp_path / "run", ALONE, lambda line: None)
    assert not has_folded_norms(run.network)

"""MobileNetV3 and MicroNet cost what their papers say, their units compute what the equations say, and they export."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from featherpose.models.backbones import build_backbone
from featherpose.models.backbones.micronet import VARIANTS, DepthwisePair, ShiftMax
from featherpose.models.backbones.mobilenet_v3 import SqueezeExcite
from featherpose.models.cost import count_macs, count_parameters
from featherpose.systems import build_network


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


# (name, width) -> (million multiply-accumulates at 224, million weights) in Tables 3 and 4 and Figure 1 of the paper,
# or what its authors published with the weights of width .75; channels of the classifier's hidden layer
V3 = {
    ("mobilenet_v3_large", 1.0): (219, 5.4, 1280),
    ("mobilenet_v3_large", 0.75): (155, 4.0, 1280),
    ("mobilenet_v3_small", 1.0): (56, 2.5, 1024),
    ("mobilenet_v3_small", 0.75): (44, 2.0, 1024),
}


@pytest.mark.parametrize(("name", "width"), V3)
def test_mobilenet_v3_costs_what_the_paper_says(name, width):
    macs, weights, hidden = V3[name, width]
    backbone = build_backbone(name, width=width)
    classifier = backbone.channels[32] * hidden + hidden * 1000
    assert (count_macs(backbone, (224, 224)) + classifier) / 1e6 == pytest.approx(macs, rel=0.015)
    assert (count_parameters(backbone) + classifier + hidden + 1000) / 1e6 == pytest.approx(weights, abs=0.08)


# variant -> (million multiply-accumulates at 224, million weights) as published, channels of the classifier's hidden layer
MICRO = {"m0": (4, 1.0, 640), "m1": (6, 1.8, 960), "m2": (12, 2.4, 1024), "m3": (21, 2.6, 1024)}


@pytest.mark.parametrize("variant", MICRO)
def test_micronet_costs_what_the_paper_says(variant):
    macs, weights, hidden = MICRO[variant]
    backbone = build_backbone("micronet", variant=variant)
    sums = []

    def count(module, _, output):
        sums.append(2 * module.sums * output.numel())

    for module in backbone.modules():
        if isinstance(module, ShiftMax):
            module.register_forward_hook(count)
    classifier = backbone.channels[32] * hidden + hidden * 1000
    total = count_macs(backbone, (224, 224)) + sum(sums) + classifier  # count_macs leaves Dynamic Shift-Max's sums out
    assert total / 1e6 == pytest.approx(macs, rel=0.07)
    assert (count_parameters(backbone) + classifier) / 1e6 == pytest.approx(weights, abs=0.04)


@pytest.mark.parametrize("width", [0.35, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_micronet_of_any_width_runs(variant, width):
    backbone = build_backbone("micronet", variant=variant, width=width).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 64, 32))
    assert {s: tuple(f.shape[1:]) for s, f in features.items()} == {
        s: (backbone.channels[s], 64 // s, 32 // s) for s in (4, 8, 16, 32)
    }
    if width == 1.0:
        assert [backbone.channels[s] for s in (4, 8)] == {"m0": [8, 12], "m1": [8, 16], "m2": [12, 24], "m3": [16, 24]}[variant]


@pytest.mark.parametrize(
    ("name", "arguments", "channels"),
    [
        ("mobilenet_v3_large", {"last": 0}, 160),
        ("mobilenet_v3_small", {"last": 0}, 96),
        ("mobilenet_v3_small", {"last": 64}, 64),
        ("mobilenet_v3_small", {}, 576),
        ("micronet", {"variant": "m1", "last": False}, 96),
    ],
)
def test_the_last_pointwise_convolution_can_be_left_out(name, arguments, channels):
    backbone = build_backbone(name, **arguments).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 32, 32))[32].shape[1] == backbone.channels[32] == channels


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "micronet"])
def test_the_early_modules_in_a_row_give_the_feature(name, stride):
    backbone = build_backbone(name).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(torch.nn.Sequential(*backbone.early(stride))(x), backbone(x)[stride])


def test_an_unknown_micronet_names_the_known():
    with pytest.raises(ValueError, match="micronet: unknown variant 'm9'; known: m0, m1, m2, m3"):
        build_backbone("micronet", variant="m9")


def test_squeeze_excite_by_hand():
    unit = SqueezeExcite(8)
    for layer in (unit.reduce, unit.expand):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    unit.reduce.weight.data[0, 0] = 1.0
    unit.expand.weight.data[:3, 0, 0, 0] = torch.tensor([1.0, -3.0, 3.0])
    x = torch.zeros(1, 8, 1, 2)
    x[0, :, 0] = torch.tensor([1.0, 2.0])
    x[0, 0, 0] = torch.tensor([0.0, 3.0])  # mean 1.5
    with torch.no_grad():
        y = unit(x)[0, :, 0]
    # hard sigmoid (z + 3) / 6 of 1.5, -4.5, 4.5 and 0
    torch.testing.assert_close(y[0], torch.tensor([0.0, 2.25]))
    torch.testing.assert_close(y[1], torch.tensor([0.0, 0.0]))
    torch.testing.assert_close(y[2], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(y[3], torch.tensor([0.5, 1.0]))


def shift_max(start) -> ShiftMax:
    """Four channels in two groups, whose dense layers say nothing: the weights are those of the start."""
    unit = ShiftMax(4, groups=2, squeeze=8, start=start)
    torch.nn.init.zeros_(unit.weigh.weight)
    return unit


def test_dynamic_shift_max_by_hand():
    x = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)
    # groups (1, 2) and (3, 4): the next group, one further in it
    shifted = [4.0, 3, 2, 1]
    with torch.no_grad():
        assert shift_max(((1.0,), (0.0,)))(x).flatten().tolist() == [1, 2, 3, 4]
        assert shift_max(((0.0,), (1.0,)))(x).flatten().tolist() == shifted
        assert shift_max(((1.0, 0.0), (0.0, 1.0)))(x).flatten().tolist() == [4, 3, 3, 4]
        assert shift_max(((1.0, 0.5), (0.0, 0.5)))(x).flatten().tolist() == [2.5, 2.5, 3, 4]


def test_dynamic_shift_max_weighs_by_what_the_picture_shows():
    unit = shift_max(((1.0,), (0.0,)))
    torch.nn.init.ones_(unit.reduce.weight)
    unit.weigh.weight.data[0] = 1.0  # a of channel 0 rises with the mean of all channels
    x = torch.ones(2, 4, 1, 1)
    x[1] *= 10
    with torch.no_grad():
        y = unit(x)[:, :, 0, 0]
    assert y[:, 1:].tolist() == [[1, 1, 1], [10, 10, 10]]
    assert y[:, 0].tolist() == pytest.approx([3, 30])  # the gate is open: start + 2


def test_a_factorised_depthwise_convolution_is_the_product_of_its_halves():
    pair = DepthwisePair(1, 3, stride=2).eval()
    for unit, line in zip(pair, ([1.0, 2, 3], [5.0, 7, 11]), strict=True):
        unit.conv.weight.data = torch.tensor(line).view_as(unit.conv.weight)
        unit.norm.eps = 0
    kernel = torch.outer(torch.tensor([1.0, 2, 3]), torch.tensor([5.0, 7, 11]))
    x = torch.rand(1, 1, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(pair(x), torch.nn.functional.conv2d(x, kernel[None, None], stride=2, padding=1))


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small", "micronet"])
def test_fresh_weights_carry_the_picture_to_every_level(name):
    """Features of different pictures differ, and every weight gets a gradient; laid out as training lays them out."""
    network = build_network({"system": "movenet", "backbone": name}, 17).train().to(memory_format=torch.channels_last)
    features = network.backbone(torch.rand(4, 3, 64, 64) * 2 - 1)
    for stride, feature in features.items():
        assert 0.05 < float(feature.detach().std(dim=0).mean()) < 20, f"stride {stride}"
    sum(((f - 1) ** 2).mean() for f in features.values()).backward()
    without = [n for n, p in network.backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


EXPORTED = {
    "mobilenet_v3_small": {"backbone": "mobilenet_v3_small", "width": 0.35},
    "micronet": {"backbone": "micronet", "backbone_arguments": {"variant": "m0"}},
}


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_file_agrees_with_torch(name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from featherpose.export.onnx import export_onnx
    from featherpose.skeletons import COCO17
    from featherpose.spec import ModelSpec

    facts = {"system": "movenet", **EXPORTED[name]}
    network = build_network(facts, 17)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        for head in network.heads.children():
            head.out.weight.normal_(0, 0.3)
    spec = ModelSpec(name="toy", skeleton=COCO17, input_size=(64, 64), codec={"name": "movenet"}, network=facts)
    _, parity = export_onnx(network.eval(), spec, tmp_path / "toy.onnx", images=images)
    assert parity.agrees
    assert parity.max_map["heatmap"] < 1e-3

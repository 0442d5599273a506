"""Networks are what they say: shapes, channels, cost, padding, and batch norms that fold and unfold."""

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from featherpose.codecs.movenet import MAPS
from featherpose.models.backbones import BACKBONES, build_backbone
from featherpose.models.backbones.shufflenet_v2 import channel_shuffle
from featherpose.models.cost import count_macs, count_parameters
from featherpose.models.heads import PRIOR, Out, TwoLevelHeads
from featherpose.models.layers import (
    Conv2d,
    ConvNorm,
    FastSigmoid,
    StridedDepthwise,
    fold_batch_norms,
    has_folded_norms,
    make_divisible,
    set_folded,
    unfold_batch_norms,
)
from featherpose.models.necks import FPN, Context, double
from featherpose.systems import build_network
from featherpose.systems.movenet import PRESETS, build


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


# --- shapes and cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.35, 0.75, 1.0, 1.4])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbones_features_are_as_declared(name, width):
    backbone = build_backbone(name, width=width).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96))
    shapes = {stride: tuple(feature.shape) for stride, feature in features.items()}
    assert set(shapes) == {4, 8, 16, 32}
    assert shapes == {s: (2, backbone.channels[s], 64 // s, 96 // s) for s in shapes}


@pytest.mark.parametrize("last", [0, 64])
@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2"])
def test_the_last_convolution_can_be_left_out(name, last):
    backbone = build_backbone(name, last=last).eval()
    with torch.no_grad():
        deepest = backbone(torch.zeros(1, 3, 32, 32))[32]
    assert deepest.shape[1] == backbone.channels[32] == (last or {"mobilenet_v2": 320, "shufflenet_v2": 464}[name])


@pytest.mark.parametrize("joints", [1, 17])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_maps_have_their_shapes_and_ranges(preset, joints):
    network = build(preset=preset, joints=joints).eval()
    with torch.no_grad():
        maps = network(torch.rand(2, 3, 64, 96) * 255)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "center": (2, 1, 16, 24),
        "heatmap": (2, joints, 16, 24),
        "regression": (2, joints, 2, 16, 24),
        "offset": (2, joints, 2, 16, 24),
    }
    for name in ("center", "heatmap"):
        assert maps[name].min() >= 0 and maps[name].max() <= 1
        assert maps[name].mean() == pytest.approx(PRIOR, abs=0.05)  # as the heads' initial bias says


# width, input size -> million multiply-accumulates (the graph of the official Lightning, and networks made like it)
COSTS = {(1.0, 192): 270.5, (0.75, 192): 203, (0.5, 192): 120, (0.35, 192): 92, (1.0, 160): 188, (1.0, 256): 481}


@pytest.mark.parametrize(("width", "size"), COSTS)
def test_the_official_network_costs_what_it_should(width, size):
    macs = count_macs(build(preset="lightning", width=width), (size, size)) / 1e6
    assert macs == pytest.approx(COSTS[width, size], abs=0.6)


# width -> million weights, once batch norms are folded
WEIGHTS = {1.0: 2.32, 0.75: 1.45, 0.5: 0.79, 0.35: 0.50}


@pytest.mark.parametrize("width", WEIGHTS)
def test_the_official_network_has_as_many_weights_as_it_should(width):
    assert count_parameters(build(preset="lightning", width=width)) / 1e6 == pytest.approx(WEIGHTS[width], abs=0.006)


def test_macs_by_hand():
    unit = ConvNorm(4, 8, 3, stride=2, groups=4)
    # 8 channels on 5 x 3 cells, each 1 channel of input by 3 x 3
    assert count_macs(torch.nn.Sequential(Conv2d(3, 4, 1), unit), (10, 6)) == 10 * 6 * 4 * 3 + 5 * 3 * 8 * 9
    assert unit.training


def test_unknown_names_offer_the_nearest():
    with pytest.raises(ValueError, match="unknown backbone 'mobilnet_v2'; did you mean 'mobilenet_v2'"):
        build_backbone("mobilnet_v2")
    with pytest.raises(ValueError, match="unknown preset 'lightening' of movenet; did you mean 'lightning'"):
        build(preset="lightening")
    with pytest.raises(ValueError, match="unknown key 'widht'; did you mean 'width'"):
        build_network({"system": "movenet", "widht": 1}, 17)


def test_an_argument_overrides_its_preset():
    network = build_network({"system": "movenet", "preset": "article", "width": 0.5, "neck": {"8": 16, "16": 16}}, 3)
    assert network.backbone.channels[8] == 58
    assert list(network.neck.laterals) == ["16", "8"]
    assert network.heads.heatmap.out.out_channels == 3


@pytest.mark.parametrize("heads", ["movenet", "two_level"])
@pytest.mark.parametrize("backbone", ["mobilenet_v1", "mobilenet_v2", "shufflenet_v2"])
def test_an_activation_replaces_every_relu(backbone, heads):
    def kinds(**more):
        network = build(joints=3, backbone=backbone, width=0.25, neck={4: 8, 8: 8, 16: 8, 32: 8}, heads=heads, **more)
        rectifiers = (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.Mish)
        return [type(module).__name__ for module in network.modules() if isinstance(module, rectifiers)]

    assert "Mish" not in kinds() and set(kinds(act="mish")) == {"Mish"}
    assert len(kinds(act="mish")) == len(kinds())
    only = kinds(act="mish", backbone_arguments={"act": "relu6"})
    assert set(only) == {"ReLU6", "Mish"}


def test_an_unknown_activation_offers_the_nearest():
    with pytest.raises(ValueError, match="unknown act 'mihs' of movenet; did you mean 'mish'"):
        build(act="mihs")


def test_two_level_heads_double_a_regression_exactly():
    """Ways to one joint fall by a cell per cell; at half the resolution they fall by two, and doubling restores them."""
    fine = 3.5 - torch.arange(8.0)
    coarse = fine.view(4, 2).mean(dim=1)
    doubled = double(coarse.expand(1, 1, 4, 4))[0, 0]
    assert torch.allclose(doubled[:, 1:-1], fine[1:-1].expand(8, 6))


def test_two_level_heads_read_both_levels():
    heads = TwoLevelHeads({4: 8, 8: 12}, 3, hidden=16).eval()
    for module in heads.modules():
        if isinstance(module, Out):
            torch.nn.init.normal_(module.out.weight)
    features = {4: torch.rand(1, 8, 8, 8), 8: torch.rand(1, 12, 4, 4)}
    before = heads(features)
    coarse = heads({**features, 8: torch.rand(1, 12, 4, 4)})
    fine = heads({**features, 4: torch.rand(1, 8, 8, 8)})
    for name in MAPS:
        assert torch.equal(before[name], coarse[name]) == (name in ("heatmap", "offset"))
        assert torch.equal(before[name], fine[name]) == (name in ("center", "regression"))


def test_context_begins_as_nothing_and_then_sees_everything():
    torch.manual_seed(0)
    plain = build(preset="lite").eval()
    given = build(preset="lite", context=2).eval()
    missing, unexpected = given.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("neck.context.") for name in missing)
    image = torch.rand(1, 3, 96, 96) * 255
    before, after = plain(image), given(image)
    assert all(torch.equal(before[name], after[name]) for name in MAPS)

    block = Context(8).eval()
    block.initialise()
    torch.nn.init.ones_(block.project.norm.weight)
    x = torch.rand(1, 8, 6, 6)
    changed = x.clone()
    changed[:, :, 0, 0] += 1
    difference = (block(changed) - block(x)).abs().sum(dim=1)[0]
    assert (difference[:4, :4] > 1e-6).all() and (difference[4:] == 0).all(), "7x7 cells: three to each side"


def test_a_negative_context_is_refused():
    with pytest.raises(ValueError, match="context must be a number of blocks, 0 or more, got -1"):
        build(preset="lite", context=-1)


def test_context_costs_little():
    more = count_macs(build(preset="lite", context=4), (192, 192)) - count_macs(build(preset="lite"), (192, 192))
    # 6x6 cells of 64 channels, four times: 49 weights a channel, then 64 to 128 and back
    assert more == 4 * 36 * (64 * 49 + 2 * 64 * 128)


def test_a_shorter_mobilenet_v1():
    x = torch.rand(1, 3, 64, 64)
    for layers, strides in ((13, [4, 8, 16, 32]), (12, [4, 8, 16, 32]), (11, [4, 8, 16])):
        network = build_backbone("mobilenet_v1", width=0.25, layers=layers).eval()
        features = network(x)
        assert list(features) == strides
        assert {s: f.shape[1] for s, f in features.items()} == network.channels
    with pytest.raises(ValueError, match="layers must be 11 to 13, got 10"):
        build_backbone("mobilenet_v1", layers=10)


BAD_PYRAMIDS = {
    "a level between is missing": ({4: 8, 16: 8}, "neighbouring strides"),
    "unequal where they are added": ({8: 8, 16: 24, 32: 16}, "need equal widths, got 16 and 24"),
}


@pytest.mark.parametrize("name", BAD_PYRAMIDS)
def test_a_pyramid_that_cannot_be_added_is_refused(name):
    channels, sentence = BAD_PYRAMIDS[name]
    with pytest.raises(ValueError, match=sentence):
        FPN({4: 24, 8: 32, 16: 64, 32: 320}, channels=channels)


# channels times width -> multiple of 8 that is at most a tenth smaller
ROUNDED = {32 * 0.35: 16, 24 * 0.35: 8, 16 * 0.5: 8, 24 * 0.5: 16, 32 * 1.75: 56, 3: 8}


@pytest.mark.parametrize("value", ROUNDED)
def test_channels_are_rounded_as_the_paper_does(value):
    assert make_divisible(value) == ROUNDED[value]


# --- layers by hand -------------------------------------------------------------------------------------------------


def ones(kernel, stride, padding):
    conv = Conv2d(1, 1, kernel, stride=stride, padding=padding)
    torch.nn.init.ones_(conv.weight)
    return conv


NUMBERED = torch.arange(16.0).view(1, 1, 4, 4)
#   0  1  2  3
#   4  5  6  7
#   8  9 10 11
#  12 13 14 15

# padding -> sums under a 3x3 kernel of ones, stride 2
SUMS = {
    # TensorFlow's SAME on an even size pads right and bottom only: the first window is rows 0 to 2, columns 0 to 2
    "tf": [[45, 39], [66, 50]],
    # torch pads all around: the first window has only rows 0, 1 and columns 0, 1 of the picture
    "symmetric": [[10, 24], [51, 90]],
}


@pytest.mark.parametrize("padding", SUMS)
def test_a_strided_convolution_pads_as_its_name_says(padding):
    with torch.no_grad():
        assert ones(3, 2, padding)(NUMBERED)[0, 0].tolist() == SUMS[padding]


def test_five_by_five_pads_one_before_and_two_after():
    assert Conv2d(1, 1, 5, stride=2).before == (1, 2, 1, 2)
    assert Conv2d(1, 1, 5, stride=1).before is None


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("padding", SUMS)
def test_the_gradient_of_a_strided_depthwise_convolution_is_what_torch_says(padding, kernel):
    conv = Conv2d(4, 4, kernel, stride=2, groups=4, padding=padding).double()
    x = torch.randn(2, 4, 12, 16, dtype=torch.double, requires_grad=True)
    expected = conv(x)
    gradient = torch.randn_like(expected)
    given = StridedDepthwise.apply(x, conv.weight, 2, kernel // 2 if conv.before is None else conv.before[0])
    assert torch.allclose(given, expected)
    for mine, theirs in zip(
        torch.autograd.grad(given, (x, conv.weight), gradient),
        torch.autograd.grad(expected, (x, conv.weight), gradient),
        strict=True,
    ):
        assert torch.allclose(mine, theirs)


def test_training_in_bfloat16_takes_the_fast_gradient_and_evaluation_does_not():
    conv, x = Conv2d(4, 4, 3, stride=2, groups=4), torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert "StridedDepthwise" in conv(x).grad_fn.name()
        with torch.no_grad():
            assert conv(x).grad_fn is None
    assert "Convolution" in conv(x).grad_fn.name()


def test_without_a_stride_both_paddings_agree():
    with torch.no_grad():
        assert torch.equal(ones(3, 1, "tf")(NUMBERED), ones(3, 1, "symmetric")(NUMBERED))


def test_fast_sigmoid_by_hand():
    values = FastSigmoid()(torch.tensor([0.0, 1.0, -1.0, 49.0, -49.0, 1e6]))
    torch.testing.assert_close(values, torch.tensor([0.5, 0.75, 0.25, 0.99, 0.01, 1.0]))


def test_channel_shuffle_by_hand():
    x = torch.tensor([1.0, 2, 3, 10, 20, 30]).view(1, 6, 1, 1)
    assert channel_shuffle(x).flatten().tolist() == [1, 10, 2, 20, 3, 30]


# --- batch norms ----------------------------------------------------------------------------------------------------


def shaken(network):
    """Batch norms as after some training, in eval mode."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
            torch.nn.init.normal_(module.bias)
    return network.eval()


def test_set_folded_computes_exactly_weight_times_x_plus_bias():
    unit = shaken(ConvNorm(3, 8, 3, act="linear"))
    weight, bias, x = torch.randn(8, 3, 3, 3), torch.randn(8), torch.randn(2, 3, 6, 6)
    set_folded(unit, weight, bias)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), F.conv2d(x, weight, bias, padding=1), rtol=1e-6, atol=1e-6)


def test_set_folded_refuses_another_shape():
    with pytest.raises(ValueError, match=r"of shape \(8, 3, 3, 3\) cannot take weights \(8, 3, 1, 1\)"):
        set_folded(ConvNorm(3, 8, 3), torch.zeros(8, 3, 1, 1), torch.zeros(8))


@pytest.mark.parametrize("name", BACKBONES)
def test_folded_norms_train_what_is_evaluated(name):
    net, x = shaken(build_backbone(name, width=0.5)), torch.randn(2, 3, 64, 64)
    expected = net(x)
    for module in net.modules():
        if isinstance(module, ConvNorm):
            module.folded = True
    statistics = {name: value.clone() for name, value in net.state_dict().items()}
    for stride, feature in net.train()(x).items():
        torch.testing.assert_close(feature, expected[stride], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(dict(net.state_dict()), statistics)


def test_unfolding_does_not_change_what_a_network_computes():
    network = shaken(build(width=0.35, joints=2, neck={8: 16, 16: 16}, head_width=8))
    batches = [torch.rand(2, 3, 64, 64) * 255 for _ in range(2)]
    x = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        before = network(x)
        unfold_batch_norms(network, batches)
        after = network(x)
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-3 * float(before[name].abs().max()))


def test_unfolding_gives_the_measured_statistics():
    unit = ConvNorm(1, 2, 1, act="linear").eval()
    set_folded(unit, torch.tensor([1.0, -2.0]).view(2, 1, 1, 1), torch.tensor([5.0, 7.0]))
    batches = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([4.0, 6.0]).view(2, 1, 1, 1)]
    unfold_batch_norms(unit, batches)  # W x is 0, 2, 4, 6 and 0, -4, -8, -12
    torch.testing.assert_close(unit.norm.running_mean, torch.tensor([3.0, -6.0]))
    torch.testing.assert_close(unit.norm.running_var, torch.tensor([5.0, 20.0]))
    torch.testing.assert_close(unit.norm.weight, torch.tensor([5.001, 20.001]).sqrt())
    torch.testing.assert_close(unit.norm.bias, torch.tensor([5.0 + 3, 7 - 6]))


def test_after_unfolding_training_starts_from_the_same_function():
    """Live statistics of the measured pictures are the stored ones, so train mode computes what eval mode does."""
    network = torch.nn.Sequential(ConvNorm(3, 4, 3, act="relu"), ConvNorm(4, 4, 1, act="linear"))
    assert not has_folded_norms(network)
    for unit in network:
        set_folded(unit, torch.randn_like(unit.conv.weight), torch.randn(4))
    batch = torch.randn(8, 3, 8, 8)
    assert has_folded_norms(network)
    unfold_batch_norms(network, [batch])
    assert not has_folded_norms(network)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(batch), network.eval()(batch), rtol=1e-3, atol=1e-3)


def test_norms_in_the_convolutions_change_no_map():
    network = build_network({"system": "movenet", "preset": "nano"}, 17).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5), (module.running_mean, -0.5, 0.5),
                                      (module.running_var, 0.5, 2.0)):  # fmt: skip
                torch.nn.init.uniform_(values, low, high)
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        expected = network(image)
        fold_batch_norms(network)
        given = network(image)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for name, value in given.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)

"""8-bit files compute their body in 8 bits and the rest in float, say so, and are not written when joints go astray."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the package 'onnx' (extra 'train')")

import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_training import JOINTS, write_split

from featherpose.cli import run
from featherpose.evaluate import evaluate
from featherpose.export import quantise
from featherpose.export.pictures import crops
from featherpose.export.quantise import (
    PARTS,
    Shift,
    _clip_pairs,
    compare_files,
    pointwise_codes,
    quantise_onnx,
    quantised_nodes,
    store_float,
)
from featherpose.runtime.backends import load_model
from featherpose.runtime.predictor import Predictor
from featherpose.skeletons import Skeleton
from featherpose.spec import SPEC_KEY, ModelSpec

THREE = Skeleton("three", JOINTS)
SPEC = ModelSpec(
    name="toy",
    skeleton=THREE,
    input_size=(64, 64),
    codec={"name": "movenet"},
    provenance={"licence": "none", "export": {"weights": "float32", "opset": 18}, "parity": {"moved": 0}},
)
CHANNELS = {"center": 1, "heatmap": 3, "regression": 6, "offset": 6}


def toy_graph(
    *, half: bool = False, heads: str = "network.heads.", spec: ModelSpec = SPEC, depthwise: bool = False
) -> onnx.ModelProto:
    """A network laid out and named as an export: two strided convolutions, one more for the neck, four heads.

    depthwise: with two such ones behind the first.
    It is made to see the dots of tiny_training: the heads follow the colours of the picture.
    """
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def constant(name, values, dtype=np.float32):
        weights.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def conv(name, x, cin, cout, kernel, stride=1, bias=None):
        scale = (2 / (cin * kernel * kernel)) ** 0.5
        weight = constant(f"{name}.weight", rng.normal(0, scale, (cout, cin, kernel, kernel)))
        if half and weights[-1].dims[0] * weights[-1].dims[1] > 40:
            values = numpy_helper.to_array(weights[-1]).astype(np.float16)
            weights[-1].CopyFrom(numpy_helper.from_array(values, f"{weight}.half"))
            nodes.append(helper.make_node("Cast", [f"{weight}.half"], [weight], name=f"{weight}.float", to=1))
        inputs = [x, weight, constant(f"{name}.bias", rng.normal(0, 0.1, cout) if bias is None else bias)]
        pads = [kernel // 2] * 4
        made = helper.make_node("Conv", inputs, [name], name=f"conv_{name}", strides=[stride, stride], pads=pads)
        nodes.append(made)
        return name

    def unary(kind, x, **attributes):
        nodes.append(helper.make_node(kind, [x], [f"{x}.{kind}"], name=f"{kind}_{x}", **attributes))
        return f"{x}.{kind}"

    x = unary("Cast", unary("Transpose", "image", perm=[0, 3, 1, 2]), to=1)
    nodes.append(helper.make_node("Div", [x, constant("half_range", 127.5)], ["scaled"], name="div"))
    x = unary("Relu", conv("network.backbone.stem.conv", "scaled", 3, 16, 3, 2))
    for name in ("a", "b") if depthwise else ():
        inputs = [x, constant(f"network.{name}.weight", np.ones((16, 1, 1, 1)))]
        nodes.append(helper.make_node("Conv", inputs, [name], name=f"conv_network.{name}", group=16))
        x = unary("Relu", name)
    x = unary("Relu", conv("network.backbone.layers.0.conv", x, 16, 24, 3, 2))
    y = unary("Relu", conv("network.backbone.layers.1.conv", x, 24, 24, 3))
    nodes.append(helper.make_node("Add", [x, y], ["sum"], name="add"))
    x = unary("Relu", conv("network.neck.smooth.4.conv", "sum", 24, 16, 1))
    outputs = []
    for name, channels in CHANNELS.items():
        hidden = unary("Relu", conv(f"{heads}{name}.hidden.conv", x, 16, 16, 1))
        out = conv(f"{heads}{name}.out", hidden, 16, channels, 1)
        shape = [-1, channels, 16, 16] if name in ("center", "heatmap") else [-1, 3, 2, 16, 16]
        if name in ("center", "heatmap"):
            nodes.append(helper.make_node("Sigmoid", [out], [name], name=f"sigmoid_{name}"))
        else:
            shape_name = constant(f"{name}_shape", shape, np.int64)
            nodes.append(helper.make_node("Reshape", [out, shape_name], [name], name=f"reshape_{name}"))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape[1:]]))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 64, 64, 3])
    graph = helper.make_graph(nodes, "toy", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A float file, the same with float16 weights, and a data folder of 40 training photos."""
    folder = tmp_path_factory.mktemp("quantise")
    onnx.save(toy_graph(), str(folder / "toy.onnx"))
    onnx.save(toy_graph(half=True), str(folder / "half.onnx"))
    onnx.save(toy_graph(heads="head_"), str(folder / "foreign.onnx"))
    write_split(folder / "data", "train", 40)
    write_split(folder / "data", "val", 4, seed=1)
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """(path, shift) of the 8-bit version of the float file."""
    path = folder / "toy_int8.onnx"
    return path, quantise_onnx(folder / "toy.onnx", path, data=folder / "data", count=16)


def kinds(path) -> dict[str, str]:
    """Convolution -> "int8" where its weights and its input come out of a DequantizeLinear, else "float"."""
    graph = onnx.load(str(path)).graph
    quantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {
        node.name.removeprefix("conv_network."): "int8" if set(node.input[:2]) <= quantised else "float"
        for node in graph.node
        if node.op_type == "Conv"
    }


def test_the_body_is_in_8_bits_and_the_rest_in_float(made):
    found = kinds(made[0])
    assert found.pop("backbone.stem.conv") == "float"
    assert found.pop("backbone.layers.0.conv") == "int8"
    assert found.pop("backbone.layers.1.conv") == "int8"
    assert found.pop("neck.smooth.4.conv") == "float"
    assert len(found) == 8
    assert set(found.values()) == {"float"}


@pytest.mark.parametrize(
    ("keep", "more"),
    [
        (("first", "neck"), ["heads"]),
        (("first", "heads"), ["neck"]),
        (("neck", "heads"), ["backbone.stem"]),
        ((), ["backbone.stem", "neck", "heads"]),
    ],
)
def test_each_part_can_be_in_8_bits_too(keep, more):
    model = toy_graph()
    usual, found = quantised_nodes(model), quantised_nodes(model, keep)
    added = [name.removeprefix("conv_network.") for name in found if name not in usual and name.startswith("conv")]
    assert set(usual) < set(found)
    assert {part for part in more if any(name.startswith(part) for name in added)} == set(more)
    assert all(name.startswith(tuple(more)) for name in added)
    for always in ("div", "sigmoid_center", "sigmoid_heatmap", "reshape_offset", "Cast_image.Transpose"):
        assert always not in found


def test_a_depthwise_convolution_right_behind_the_first_stays_float_with_it():
    model = toy_graph(depthwise=True)
    kept, all_of_it = set(quantised_nodes(model)), set(quantised_nodes(model, ("neck", "heads")))
    assert "conv_network.b" in kept and "conv_network.backbone.layers.0.conv" in kept
    between = "Relu_network.backbone.stem.conv"
    assert all_of_it - kept == {"conv_network.backbone.stem.conv", between, "conv_network.a"}


@pytest.mark.parametrize("kind", ["HardSwish", "Mish"])
def test_the_neck_stays_float_behind_any_activation(kind):
    model = toy_graph()
    (activation,) = (node for node in model.graph.node if node.name == "Relu_network.neck.smooth.4.conv")
    activation.op_type = kind
    found = quantised_nodes(model)
    assert "conv_network.backbone.layers.1.conv" in found
    assert not {"conv_network.neck.smooth.4.conv", activation.name} & set(found)


def test_weights_have_a_scale_per_channel_and_activations_one(made):
    graph = onnx.load(str(made[0])).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    scales = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            scales[node.input[0]] = tensors[node.input[1]].dims
    weight = next(name for name in scales if "layers.0.conv.weight" in name)
    assert tensors[weight].data_type == TensorProto.INT8
    assert list(scales[weight]) == [24]
    zeros = [node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert {tensors[name].data_type for name in zeros} == {TensorProto.UINT8}


def test_the_file_says_what_it_is(made, folder):
    path, shift = made
    spec = load_model(path).spec
    assert spec == replace(SPEC, provenance=spec.provenance)
    assert spec.provenance["licence"] == "none"
    assert spec.provenance["export"] == {"weights": "int8", "opset": 18}
    assert "parity" not in spec.provenance  # the one with torch was the float file's
    told = spec.provenance["quantisation"]
    assert told["float"] == ["first", "neck", "heads"]
    assert (told["pictures"], told["method"]) == (16, "minmax")
    assert (told["data"], told["split"]) == ("data", "train")
    assert told["shift"] == shift.to_dict()
    assert path.stat().st_size < 1.2 * (folder / "toy.onnx").stat().st_size


def test_joints_move_a_little(made):
    """Neither not at all, which would mean that nothing was quantised, nor far."""
    _, shift = made
    assert 0 < shift.median_px < 1
    assert shift.median_px <= shift.p95_px <= shift.largest_px
    assert shift.pictures == 10  # a quarter of 40


@pytest.mark.parametrize("batch", [1, 3])
def test_an_8_bit_file_runs_at_any_batch(made, batch):
    maps = load_model(made[0]).run(np.zeros((batch, 64, 64, 3), np.uint8))
    assert {name: values.shape for name, values in maps.items()} == {
        "center": (batch, 1, 16, 16),
        "heatmap": (batch, 3, 16, 16),
        "regression": (batch, 3, 2, 16, 16),
        "offset": (batch, 3, 2, 16, 16),
    }


def test_an_8_bit_file_is_evaluated_like_any_other(made, folder):
    from featherpose.data.readers import read_dataset

    samples = read_dataset(folder / "data", split="val")
    assert evaluate(Predictor(made[0]), samples).counts["targets"] == 4


def test_float16_weights_become_float_first(folder, tmp_path):
    model = onnx.load(str(folder / "half.onnx"))
    store_float(model)
    assert [node.op_type for node in model.graph.node].count("Cast") == 1  # the one of the picture
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT, TensorProto.INT64}
    onnx.save(model, str(tmp_path / "float.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    before, after = (load_model(path).run(images) for path in (folder / "half.onnx", tmp_path / "float.onnx"))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_ranges_can_be_found_otherwise(folder, tmp_path, method, capsys):
    path = tmp_path / "a.onnx"
    shift = quantise_onnx(folder / "half.onnx", path, data=folder / "data", count=8, method=method)
    assert 0 < shift.median_px < shift.limit_px
    assert load_model(path).spec.provenance["quantisation"]["method"] == method
    assert capsys.readouterr().out == ""


def multiplied_by_old_x86(codes, inputs):
    """vpmaddubsw and vpaddd: products of neighbours are added in 16 bits that saturate. codes (O, I), inputs (I,) uint8."""
    products = codes.astype(np.int64) * inputs
    return np.clip(products.reshape(len(codes), -1, 2).sum(axis=2), -(2**15), 2**15 - 1).sum(axis=1)


def test_pointwise_weights_never_overflow_and_lose_less_than_with_seven_bits():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 24)).astype(np.float32)
    weight[3, :2] = 3.0, 3.1  # neighbours that are both large
    weight[5] = 0
    codes, scale = pointwise_codes(weight)
    assert codes.dtype == np.int8 and codes.shape == weight.shape and scale.shape == (32,)
    assert np.abs(codes.astype(int)).max() > 100, "a weight beside a small one uses all 8 bits"
    assert (codes[5] == 0).all() and scale[5] > 0
    for inputs in (np.full(24, 255), rng.integers(0, 256, 24), np.where(weight[3] > 0, 255, 0)):
        assert (multiplied_by_old_x86(codes, inputs) == codes.astype(np.int64) @ inputs).all()
    largest = np.abs(weight).max(axis=1, keepdims=True).clip(min=1e-9)
    plain = np.rint(weight / largest * 127)
    assert (multiplied_by_old_x86(plain, np.full(24, 255)) != plain.astype(np.int64) @ np.full(24, 255)).any()

    lost = np.square(codes * scale[:, None] - weight).sum(axis=1)
    before = np.square(np.rint(weight / largest * 64) * largest / 64 - weight).sum(axis=1)
    assert (lost <= before * (1 + 1e-6)).all() and lost.sum() < 0.6 * before.sum()


def test_pairs_are_clipped_by_halves():
    codes = np.array([[127, 126, -127, -5, 127, -127, 100]], float)
    assert _clip_pairs(codes).tolist() == [[65, 63, -125, -3, 127, -127, 100]]


def largest_codes(model) -> dict[str, int]:
    """Weight -> the largest magnitude of its codes."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.input[0].removesuffix("_quantized"): int(np.abs(tensors[node.input[0]].astype(int)).max())
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors and tensors[node.input[0]].dtype == np.int8
    }


def test_only_weights_that_overflow_nowhere_have_more_than_seven_bits():
    rng = np.random.default_rng(1)
    shapes = {"depthwise": (8, 1, 3, 3), "dense": (8, 8, 3, 3), "grouped": (8, 4, 1, 1), "pointwise": (8, 8, 1, 1)}
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["gemm"] = rng.standard_normal((4, 8)).astype(np.float32)
    nodes, x = [helper.make_node("Cast", ["image"], ["picture"], to=1)], "picture"
    for name, shape in shapes.items():
        pads = [shape[2] // 2] * 4
        nodes.append(helper.make_node("Conv", [x, name], [f"{name}.y"], name=name, group=8 // shape[1], pads=pads))
        x = f"{name}.y"
    nodes.append(helper.make_node("ReduceMean", [x, "axes"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Gemm", ["mean", "gemm"], ["out"], name="gemm", transB=1))
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 8])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4])]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    graph = helper.make_graph(nodes, "all", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    images = rng.integers(0, 256, (8, 8, 8, 8), dtype=np.uint8)
    largest = largest_codes(quantise._quantise(model, list(weights), images, "minmax"))
    assert (largest["depthwise"], largest["dense"], largest["grouped"], largest["gemm"]) == (127, 64, 64, 64)
    assert largest["pointwise"] > 64


@pytest.mark.parametrize("name", ["lite", "nano"])
def test_bundled_files_overflow_nowhere(name):
    model = onnx.load(str(Path(quantise.__file__).parents[1] / "weights" / f"{name}.onnx"))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    codes = [tensors[w] for w in tensors if w.endswith(".weight_quantized")]
    depthwise = [values for values in codes if values.shape[1] == 1]
    pointwise = [values[:, :, 0, 0].astype(int) for values in codes if values.shape[1] > 1]
    assert len(depthwise) > 10 and all(np.abs(values.astype(int)).max() == 127 for values in depthwise)
    assert len(pointwise) > 10 and max(np.abs(w[:, ::2] + w[:, 1::2]).max() for w in pointwise) <= 128


def test_a_file_has_the_codes_of_its_weights(folder, tmp_path):
    quantise_onnx(folder / "toy.onnx", tmp_path / "a.onnx", data=folder / "data", count=8, keep=())
    name = "network.neck.smooth.4.conv.weight"
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(folder / "toy.onnx")).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "a.onnx")).graph.initializer}
    codes, scale = pointwise_codes(before[name][:, :, 0, 0])
    assert (after[f"{name}_quantized"][:, :, 0, 0] == codes).all() and (after[f"{name}_scale"] == scale).all()


# --- the gate -----------------------------------------------------------------------------------------------------------


class Maps:
    """A backend that finds its joints where it is told, in pixels, with a score."""

    def __init__(self, xy, score):
        self.spec = replace(SPEC, outputs="decoded")
        self.joints = np.concatenate([xy, np.full((3, 1), score)], axis=1)[None]

    def run(self, images):
        return {"joints": np.repeat(self.joints, len(images), axis=0), "pose_score": np.ones(len(images))}


def test_shifts_by_hand():
    xy = np.array([[10.0, 10], [20, 20], [30, 30]])
    images = np.zeros((2, 64, 64, 3), np.uint8)
    shift = compare_files(Maps(xy, 0.9), Maps(xy + np.array([[0, 0], [3, 4], [0, 1]]), 0.8), images)
    assert (shift.pictures, shift.joints) == (2, 6)
    assert (shift.median_px, shift.largest_px, shift.limit_px) == (1, 5, pytest.approx(1.28))
    assert shift.median_score == pytest.approx(0.1)
    assert shift.acceptable


def test_joints_that_the_float_file_does_not_see_do_not_count():
    xy = np.array([[10.0, 10], [20, 20], [30, 30]])
    reference, other = Maps(xy, 0.9), Maps(xy + np.array([[0, 0], [0, 0], [50, 0]]), 0.9)
    reference.joints[0, 2, 2] = 0.1
    shift = compare_files(reference, other, np.zeros((1, 64, 64, 3), np.uint8))
    assert (shift.joints, shift.largest_px) == (2, 0)
    reference.joints[..., 2] = 0.1  # it sees nothing at all: then all count
    assert compare_files(reference, other, np.zeros((1, 64, 64, 3), np.uint8)).joints == 3


def test_no_number_is_no_small_shift():
    assert not Shift(1, 1, float("nan"), 0, 0, 0, 1.0).acceptable


def test_an_absurd_file_is_refused_and_not_left_behind(folder, tmp_path, monkeypatch):
    """The scale of an activation is a hundred times too large, as after calibrating on the wrong pictures."""

    def spoilt(model, *arguments, **options):
        result = original(model, *arguments, **options)
        for tensor in result.graph.initializer:
            if tensor.name.startswith("sum") and tensor.name.endswith("_scale"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(100), tensor.name))
        return result

    original = quantise._quantise
    monkeypatch.setattr(quantise, "_quantise", spoilt)
    path = tmp_path / "a.onnx"
    path.write_bytes(b"an earlier file")
    with pytest.raises(ValueError, match=r"a\.onnx: not written, quantising moves joints too far: .* px in the median"):
        quantise_onnx(folder / "toy.onnx", path, data=folder / "data", count=8)
    assert path.read_bytes() == b"an earlier file"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


BAD = {
    "part": ({"keep": ["head"]}, ValueError, "unknown part 'head' to keep in float; did you mean 'heads'"),
    "method": ({"method": "entropie"}, ValueError, "unknown calibration method 'entropie'; did you mean 'entropy'"),
    "name": ({"path": "a.tflite"}, ValueError, r"a\.tflite: an ONNX file's name must end in \.onnx"),
    "folder": ({"path": "missing/a.onnx"}, FileNotFoundError, "there is no such folder"),
    "photos": ({"data": "missing.jpg"}, FileNotFoundError, "there is no such photo or folder"),
    "split": ({"split": "trian"}, ValueError, "no split 'trian' in this folder; did you mean 'train'"),
    "not ours": ({"source": "foreign.onnx"}, ValueError, r"foreign\.onnx: nothing to quantise was found"),
    "itself": ({"path": None}, ValueError, "would replace its source"),
    "too few": ({"split": "val"}, ValueError, "4 pictures are too few to quantise on; give at least 10"),
    "no such number": ({"count": 7}, ValueError, "ranges are found on 8 pictures or more, got 7"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_told_in_one_sentence(folder, tmp_path, case):
    arguments, kind, message = BAD[case]
    arguments = {"data": folder / "data", **arguments}
    source = folder / arguments.pop("source", "toy.onnx")
    name = arguments.pop("path", "a.onnx")
    with pytest.raises(kind, match=message):
        quantise_onnx(source, source if name is None else tmp_path / name, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_8_bit_file_is_not_quantised_again(made, folder, tmp_path):
    with pytest.raises(ValueError, match=r"toy_int8\.onnx: is quantised already; start from the float file"):
        quantise_onnx(made[0], tmp_path / "a.onnx", data=folder / "data")


@pytest.mark.parametrize(("count", "places"), [(8, [0, 4, 8, 12, 17, 21, 25, 29]), (30, range(30))])
def test_the_pictures_to_calibrate_on_are_spread_over_all(folder, tmp_path, monkeypatch, count, places):
    """Of 40 pictures 10 are measured on; of the other 30 a few are taken from all over, or all in their order."""

    class Told(Exception):
        """The pictures that were chosen."""

    def tell(model, body, images, method):
        raise Told(images[:, 0, 0, 0].tolist())

    pictures = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 64, 64, 3))
    monkeypatch.setattr(quantise, "crops", lambda *arguments, **options: pictures)
    monkeypatch.setattr(quantise, "_quantise", tell)
    with pytest.raises(Told) as told:
        quantise_onnx(folder / "toy.onnx", tmp_path / "a.onnx", data=folder / "data", count=count)
    others = [i for i in range(40) if i not in np.linspace(0, 39, 10).round()]
    assert told.value.args[0] == [others[place] for place in places]


# --- pictures -----------------------------------------------------------------------------------------------------------


def test_people_of_a_data_folder_are_cut_out_as_the_model_sees_them(folder):
    from featherpose.data.readers import read_dataset
    from featherpose.geometry import crop_map, square_around, warp
    from featherpose.runtime.photos import read_photo

    images = crops(folder / "data", SPEC, 3)
    assert images.shape == (3, 64, 64, 3)
    first = read_dataset(folder / "data", split="train")[0]
    expected = warp(read_photo(first.photo), crop_map(square_around(first.target_box(), 1.25), (64, 64)), (64, 64))
    assert np.array_equal(images[0], expected)


def test_a_folder_without_training_photos_is_not_calibrated_on_those_to_be_scored(tmp_path):
    write_split(tmp_path, "val", 4)
    with pytest.raises(ValueError, match="no split 'train'"):
        crops(tmp_path, SPEC, 3)
    assert len(crops(tmp_path, SPEC, 3, split="val")) == 3


def test_photos_without_labels_are_whole(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((20, 10, 3), 200, np.uint8))
    images = crops(tmp_path, SPEC, 5)
    assert images.shape == (1, 64, 64, 3)
    assert (images[0, 32, 32] == 200).all() and (images[:, :, :14] == 0).all()
    with pytest.raises(ValueError, match="a split \\('train'\\) needs a data folder"):
        crops(tmp_path, SPEC, 5, split="train")


# --- the command --------------------------------------------------------------------------------------------------------


def test_command_quantises_an_exported_file_without_torch(folder, tmp_path):
    source = tmp_path / "toy.onnx"
    source.write_bytes((folder / "toy.onnx").read_bytes())
    script = (
        "import sys; from featherpose.cli import run; "
        f"code = run(['export', {str(source)!r}, '--int8', '--data', {str(folder / 'data')!r}, '--pictures', '8']); "
        "sys.exit(code or 100 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "toy_int8.onnx: 0.0 MB, int8" in done.stdout
    assert "at the 95th percentile" in " ".join(done.stdout.split())
    assert load_model(tmp_path / "toy_int8.onnx").spec.provenance["quantisation"]["pictures"] == 8


COMMANDS = {
    "no photos": (["{}/toy.onnx", "--int8"], "--int8 needs --data"),
    "half": (["{}/toy.onnx", "--int8", "--half", "--data", "{}/data"], "--half and --int8 exclude each other"),
    "decoder": (["{}/toy.onnx", "--int8", "--decoder", "--data", "{}/data"], "--decoder needs the .safetensors model"),
    "float": (["{}/toy.onnx"], "expected a trained model, a .safetensors file"),
    "split": (["{}/toy.safetensors", "--split", "val"], "--split is for 8-bit files; give --int8 too"),
    "pictures": (["{}/toy.safetensors", "--pictures", "9"], "--pictures is for 8-bit files; give --int8 too"),
    "method": (["{}/toy.safetensors", "--method", "minmax"], "--method is for 8-bit files; give --int8 too"),
    "keep": (["{}/toy.safetensors", "--keep", ""], "--keep is for 8-bit files; give --int8 too"),
    "opset": (["{}/toy.onnx", "--int8", "--data", "{}/data", "--opset", "19"], "--opset needs the .safetensors model"),
    "missing": (["{}/missing.onnx", "--int8", "--data", "{}/data"], "missing.onnx: there is no such model file"),
    "part": (["{}/toy.onnx", "--int8", "--data", "{}/data", "--keep", "hands"], "unknown part 'hands' to keep in float"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_command_tells_of_bad_options_in_one_line(folder, capsys, case):
    arguments, message = COMMANDS[case]
    before = sorted(folder.iterdir())
    assert run(["export", *(argument.format(folder) for argument in arguments)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in " ".join(error.split())
    assert sorted(folder.iterdir()) == before


def test_a_trained_model_is_exported_and_quantised_with_its_decoder_in_float(tmp_path, folder):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from featherpose.systems import build_network
    from featherpose.systems.files import save_model

    facts = {"system": "movenet", "backbone": "mobilenet_v1", "width": 0.25, "heads": "two_level", "head_width": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(facts, joints=3)
        with torch.no_grad():  # batch norms with the statistics of pictures, so that its maps depend on them
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0
            network.train()(torch.from_numpy(crops(folder / "data", SPEC, 8)).permute(0, 3, 1, 2).float())
            for name in ("center", "heatmap", "regression", "offset"):
                getattr(network.heads, name).out.weight.normal_(0, 0.2)
    save_model(tmp_path / "toy.safetensors", network.eval(), replace(SPEC, network=facts, provenance={}))
    command = ["export", str(tmp_path / "toy.safetensors"), "--int8", "--decoder", "--pictures", "16"]
    assert run([*command, "--data", str(folder / "data")]) == 0
    path = tmp_path / "toy_joints_int8.onnx"
    assert load_model(path).spec.outputs == "decoded"
    graph = onnx.load(str(path)).graph
    quantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_float = [node for node in convolutions if not set(node.input[:2]) <= quantised]
    parts = [node.input[1].removeprefix("network.").split(".conv")[0] for node in in_float]
    assert [part for part in parts if not part.startswith("heads.")] == [
        "backbone.stem", "backbone.layers.0.depthwise", "neck.smooth.8.pointwise", "neck.smooth.4.pointwise"
    ]  # fmt: skip
    assert len([part for part in parts if part.startswith("heads.")]) == 8
    for node in graph.node:  # what decodes takes nothing that was rounded
        if node.op_type in ("ArgMax", "Sqrt", "Sigmoid", "GatherElements"):
            assert not set(node.input) & quantised
    assert {node.op_type for node in graph.node} >= {"ArgMax", "Sigmoid"}
    assert PARTS == ("first", "neck", "heads")

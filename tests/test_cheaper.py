"""Cheaper graphs give the same numbers, and what does not fit is left as it was."""

import numpy as np
import pytest

# ruff: noqa: E402
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from featherpose.export.cheaper import double_by_products, normalise_in_weights

RNG = np.random.default_rng(1)


def model_of(nodes, tensors, *, outputs=("y",), size=(2, 3, 5, 4)):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *size[1:]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "k", "h", "w"]) for name in outputs],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model, x):
    onnx.checker.check_model(model)
    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


def kinds(model):
    return [node.op_type for node in model.graph.node]


def resize(name="x", out="y", **options):
    usual = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return helper.make_node("Resize", [name, "", "scales"], [out], name=f"resize_{out}", **{**usual, **options})


def test_doubling_by_products_gives_the_same_maps():
    model = model_of([resize()], {"scales": [1, 1, 2, 2]})
    x = RNG.normal(size=(2, 3, 5, 4)).astype(np.float32)
    before = run(model, x)
    assert double_by_products(model) == 1
    assert kinds(model) == ["MatMul", "MatMul"]
    assert before[0].shape == (2, 3, 10, 8)
    np.testing.assert_allclose(run(model, x)[0], before[0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({"mode": "nearest"}, [1, 1, 2, 2]),
        ({"coordinate_transformation_mode": "align_corners"}, [1, 1, 2, 2]),
        ({}, [1, 1, 3, 2]),
    ],
)
def test_other_ways_to_resize_are_left_alone(options, scales):
    model = model_of([resize(**options)], {"scales": scales})
    assert double_by_products(model) == 0
    assert kinds(model) == ["Resize"]


def test_doubling_between_layers_in_8_bits_is_left_alone():
    nodes = [resize(out="r"), helper.make_node("QuantizeLinear", ["r", "scale"], ["q"])]
    nodes.append(helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]))
    model = model_of(nodes, {"scales": [1, 1, 2, 2], "scale": 0.1})
    assert double_by_products(model) == 0
    assert kinds(model) == ["Resize", "QuantizeLinear", "DequantizeLinear"]


def normalised(*more, outputs=("y",)):
    """x / 50 - 1.5 under a padded convolution."""
    nodes = [
        helper.make_node("Div", ["x", "scale"], ["d"], name="d"),
        helper.make_node("Sub", ["d", "shift"], ["s"], name="s"),
        helper.make_node("Conv", ["s", "w", "b"], ["y"], name="c", pads=[1, 1, 1, 1]),
        *more,
    ]
    tensors = {"scale": 50.0, "shift": 1.5, "w": RNG.normal(size=(6, 3, 3, 3)), "b": RNG.normal(size=6)}
    return model_of(nodes, tensors, outputs=outputs)


def test_normalising_in_the_weights_gives_the_same_maps_at_the_rim_too():
    model = normalised()
    x = RNG.uniform(0, 255, (2, 3, 5, 4)).astype(np.float32)
    before = run(model, x)
    assert normalise_in_weights(model)
    assert kinds(model) == ["Sub", "Conv"]
    np.testing.assert_allclose(run(model, x)[0], before[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("which", ["read twice", "an output", "shared weights"])
def test_a_normalised_picture_that_others_read_is_left_alone(which):
    if which == "an output":
        model = normalised(outputs=("y", "s"))
    elif which == "read twice":
        model = normalised(helper.make_node("Relu", ["s"], ["z"]), outputs=("y", "z"))
    else:
        model = normalised(helper.make_node("Conv", ["x", "w"], ["z"]), outputs=("y", "z"))
    before = kinds(model)
    assert not normalise_in_weights(model)
    assert kinds(model) == before

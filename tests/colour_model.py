"""A model for tests whose answers can be computed by hand: it finds red, green and blue dots.

The input is 64 x 64 pixels, a cell 4 x 4. Joint k's heatmap is the mean of colour k in the cell, the centre is the
brightest colour of the cell, the regression is zero and the offset the middle of the cell. So a dot that fills a cell
is found at the middle of that cell, and of two dots of a colour the one nearer to the chosen centre.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.skeletons import Skeleton
from featherpose.spec import SPEC_KEY, ModelSpec

onnx = pytest.importorskip("onnx")  # of the extra `train`
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

COLOURS = Skeleton("colours", ("red", "left_green", "right_blue"), bones=(("red", "left_green"), ("red", "right_blue")))
SIZE = 64
SPEC = ModelSpec(
    name="colours",
    skeleton=COLOURS,
    input_size=(SIZE, SIZE),
    codec={"name": "movenet"},
    version="7",
    crop_margin=1.0,
    provenance={"licence": "CC0", "metrics": {"AR": 0.123}},
)


def write_colour_model(path: Path, metadata: dict[str, str] | None = None, batch: int | str = "B") -> Path:
    """The model as an ONNX file; metadata: instead of the spec."""
    grid, k = SIZE // 4, len(COLOURS)
    shapes = {
        "center": [batch, 1, grid, grid],
        "heatmap": [batch, k, grid, grid],
        "regression": [batch, k, 2, grid, grid],
        "offset": [batch, k, 2, grid, grid],
    }
    constants = {
        "full": np.float32(255),
        "zero": np.zeros((1, 1, 2, 1, 1), np.float32),
        "half": np.full((1, 1, 2, 1, 1), 0.5, np.float32),
        "third_axis": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "full"], ["share"]),
        helper.make_node("AveragePool", ["share"], ["heatmap"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("ReduceMax", ["heatmap"], ["center"], axes=[1], keepdims=1),
        helper.make_node("Unsqueeze", ["heatmap", "third_axis"], ["vectors"]),
        helper.make_node("Mul", ["vectors", "zero"], ["regression"]),
        helper.make_node("Add", ["regression", "half"], ["offset"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {SPEC_KEY: SPEC.to_json()} if metadata is None else metadata)
    onnx.save(model, path)
    return path


def dots(size_wh: tuple[int, int], *places: tuple[int, int, int, int]) -> np.ndarray:
    """A black photo with square dots; each place is (colour, left, top, side)."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for colour, left, top, side in places:
        image[top : top + side, left : left + side, colour] = 255
    return image

"""The same arithmetic for less time on a CPU: changes to an ONNX graph that 8-bit files get. Needs onnx, no torch.

Measured in ONNX Runtime 1.32, one thread of an x86-64 with VNNI (docs/log.md): what stays in float around an 8-bit body is
a good tenth of a small network's time.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper


def normalise_in_weights(model: ModelProto) -> bool:
    """Picture / c - s before the first convolution becomes picture - s c, and its weights become weights / c, in place.

    Saves a pass over the picture. Only where nobody else reads the normalised picture; whether that was so.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for division in graph.node:
        scale = _number(division, "Div", tensors)
        subtraction = _only_reader(graph, division.output[0]) if scale else None
        shift = _number(subtraction, "Sub", tensors)
        convolution = _only_reader(graph, subtraction.output[0]) if shift is not None else None
        if convolution is None or convolution.op_type != "Conv" or convolution.input[1] not in tensors:
            continue
        if len(_readers(graph, convolution.input[1])) > 1:
            continue
        weight = tensors[convolution.input[1]]
        values = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array((values / scale).astype(values.dtype), weight.name))
        name = f"{subtraction.name}_of_bytes"
        graph.initializer.append(numpy_helper.from_array(np.array(shift * scale, np.float32), name))
        subtraction.input[:] = [division.input[0], name]
        graph.node.remove(division)
        return True
    return False


def double_by_products(model: ModelProto) -> int:
    """Bilinear doubling of maps in float becomes a product with a matrix on either side, in place; how many there were.

    `Resize` computes weights and places cell by cell where the channels come first. Doubling between 8-bit layers is left
    alone: there channels come last, and it is quicker than the products.
    """
    graph = model.graph
    known = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in [*known.input, *known.value_info]
    }
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes, count = [], 0
    for node in graph.node:
        size = shapes.get(node.input[0], [0])[-2:] if node.op_type == "Resize" else [0]
        inner = any(reader.op_type == "QuantizeLinear" for reader in _readers(graph, node.output[0]))
        if not all(size) or inner or not _doubles(node, tensors):
            nodes.append(node)
            continue
        down = numpy_helper.from_array(_weights(size[0]), f"{node.name}_down")
        across = numpy_helper.from_array(np.ascontiguousarray(_weights(size[1]).T), f"{node.name}_across")
        graph.initializer.extend([down, across])
        half = f"{node.output[0]}_half"
        nodes.append(helper.make_node("MatMul", [node.input[0], across.name], [half], name=f"{node.name}_wider"))
        nodes.append(helper.make_node("MatMul", [down.name, half], [node.output[0]], name=f"{node.name}_higher"))
        count += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return count


def _weights(cells: int) -> np.ndarray:
    """(2 N, N) bilinear weights of 2 N new cells on N old ones: half-pixel centres, the ends repeated."""
    place = (np.arange(2 * cells) + 0.5) / 2 - 0.5
    low = np.floor(place).astype(int)
    weight = np.zeros((2 * cells, cells), np.float32)
    for step, part in ((0, 1 - (place - low)), (1, place - low)):
        np.add.at(weight, (np.arange(2 * cells), (low + step).clip(0, cells - 1)), part)
    return weight


def _doubles(node: NodeProto, tensors: dict) -> bool:
    """Whether a Resize is (B, C, H, W) to (B, C, 2 H, 2 W), bilinear, half-pixel centres, nothing unusual."""
    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    usual = {
        "mode": b"linear", "coordinate_transformation_mode": b"half_pixel", "antialias": 0, "exclude_outside": 0,
    }  # fmt: skip
    default = {"mode": b"nearest", "coordinate_transformation_mode": b"half_pixel"}
    if any(options.get(name, default.get(name, 0)) != value for name, value in usual.items()):
        return False
    scales = tensors.get(node.input[2]) if len(node.input) == 3 else None
    return scales is not None and numpy_helper.to_array(scales).tolist() == [1, 1, 2, 2]


def _number(node: NodeProto | None, kind: str, tensors: dict) -> float | None:
    """The one number that a node of this kind has as its second input."""
    if node is None or node.op_type != kind or node.input[1] not in tensors:
        return None
    values = numpy_helper.to_array(tensors[node.input[1]])
    return float(values.reshape(())) if values.size == 1 else None


def _readers(graph: onnx.GraphProto, name: str) -> list[NodeProto]:
    return [node for node in graph.node if name in node.input]


def _only_reader(graph: onnx.GraphProto, name: str) -> NodeProto | None:
    """The node that alone reads a value, if there is one and the value is no output of the graph."""
    readers = _readers(graph, name)
    return readers[0] if len(readers) == 1 and all(name != output.name for output in graph.output) else None

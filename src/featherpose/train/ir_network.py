"""An OpenVINO IR as a torch module: another project's network as a teacher on a GPU, which OpenVINO does not drive.

The operations are those of PP-TinyPose and the like: convolutions, activations, sums, products, branches, shuffled
channels, resizing. The batch, which such files fix at 1, is free.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64, "u8": np.uint8}
CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass
class _Layer:
    """One layer of the file: its kind, attributes, where its inputs come from (layer, number of the output) and sizes."""

    id: str
    kind: str
    facts: dict[str, str]
    inputs: list[tuple[str, int]]
    outputs: list[tuple[int, ...]]


def heatmap_network(path: str | Path) -> IrNetwork:
    """The network of an IR file up to its first output with four dimensions, (B, K, h, w).

    FileNotFoundError, or ValueError when the file is no IR, has no such output, or an operation that is not known here.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file")
    try:
        layers = _layers(ElementTree.parse(path).getroot())
        weights = path.with_suffix(".bin").read_bytes()
    except (OSError, ElementTree.ParseError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a readable OpenVINO model, or its .bin is missing ({error})") from error
    ends = [layer.inputs[0] for layer in layers.values() if layer.kind == "Result"]
    ends = [end for end in ends if len(layers[end[0]].outputs[end[1]]) == 4]
    if not ends:
        raise ValueError(f"{path}: no output is a stack of heatmaps (B, K, H, W)")
    return IrNetwork(path, layers, weights, ends[0])


def _layers(root: ElementTree.Element) -> dict[str, _Layer]:
    """The layers of a file by their numbers."""
    layers, places = {}, {}
    for element in root.find("layers"):
        ports = element.find("output")
        outputs = [] if ports is None else list(ports)
        name = element.get("id")
        places.update({(name, port.get("id")): i for i, port in enumerate(outputs)})
        data = element.find("data")
        sizes = [tuple(int(d.text) for d in port.findall("dim")) for port in outputs]
        layers[name] = _Layer(name, element.get("type"), {} if data is None else dict(data.attrib), [], sizes)
    wanted: dict[str, dict[int, tuple[str, int]]] = {}
    for edge in root.find("edges"):
        source = edge.get("from-layer"), places[edge.get("from-layer"), edge.get("from-port")]
        wanted.setdefault(edge.get("to-layer"), {})[int(edge.get("to-port"))] = source
    for name, ports in wanted.items():
        layers[name].inputs = [ports[number] for number in sorted(ports)]
    return layers


class IrNetwork(nn.Module):
    """A chain of operations of an IR file. (B, 3, H, W) as the file's input takes it -> (B, K, h, w)."""

    def __init__(self, path: Path, layers: dict[str, _Layer], weights: bytes, end: tuple[str, int]) -> None:
        super().__init__()
        self.path, self._layers, self._raw = path, layers, weights
        self.convolutions = nn.ModuleList()
        self.constants = nn.ParameterList()
        self._steps: list[tuple[list[tuple[str, int]], str, Callable]] = []
        self._done: set[str] = set()
        self.input_size = (0, 0)
        """(width, height)."""
        self.joints = layers[end[0]].outputs[end[1]][1]
        self._uses: dict[str, int] = {}
        for layer in layers.values():
            for source, _ in layer.inputs:
                self._uses[source] = self._uses.get(source, 0) + 1
        self._end = end
        self._build(end[0])
        del self._layers, self._raw, self._done, self._uses

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, tuple[Tensor, ...]] = {self._input: (x,)}
        for sources, name, step in self._steps:
            result = step(*(values[source][number] for source, number in sources))
            values[name] = result if isinstance(result, tuple) else (result,)
        return values[self._end[0]][self._end[1]]

    # --- building ---------------------------------------------------------------------------------------------------

    def _build(self, end: str) -> None:
        """Steps for a layer and all that it needs, in an order that can be run."""
        waiting = [end]
        while waiting:
            layer = self._layers[waiting[-1]]
            if layer.id in self._done:
                waiting.pop()
                continue
            if layer.kind == "Parameter":
                self._input, size = layer.id, layer.outputs[0]
                if len(size) != 4 or size[1] != 3:
                    raise ValueError(f"{self.path}: a teacher takes pictures (B, 3, H, W), this takes {size}")
                self.input_size = (size[3], size[2])
                self._done.add(waiting.pop())
                continue
            needed = self._operands(layer)
            missing = [source for source, _ in needed if source not in self._done]
            if missing:
                waiting.extend(missing)
                continue
            sources, step = self._step(layer, needed)
            self._steps.append((sources, layer.id, step))
            self._done.add(waiting.pop())

    def _operands(self, layer: _Layer) -> list[tuple[str, int]]:
        """The inputs of a layer that are no constants; of a bias, what goes into its convolution."""
        if layer.kind in ("Reshape", "Transpose", "Interpolate", "Split", *CONVOLUTIONS):
            return layer.inputs[:1]
        operands = [source for source in layer.inputs if self._constant(source[0]) is None]
        if self._is_bias(layer):
            return self._layers[operands[0][0]].inputs[:1]
        return operands

    def _is_bias(self, layer: _Layer) -> bool:
        """Whether a layer adds one number per channel to a convolution that nobody else uses."""
        if layer.kind != "Add":
            return False
        before = [source for source, _ in layer.inputs if self._layers[source].kind in CONVOLUTIONS]
        constants = [c for source, _ in layer.inputs if (c := self._constant(source)) is not None]
        return (
            len(before) == 1 and len(constants) == 1 and self._uses[before[0]] == 1
            and constants[0].size == layer.outputs[0][1] and constants[0].shape[1:2] == layer.outputs[0][1:2]
        )  # fmt: skip

    def _constant(self, name: str) -> np.ndarray | None:
        """The array of a constant layer, or of one that only changes its type; None for anything else."""
        layer = self._layers[name]
        if layer.kind == "Convert" and layer.inputs:
            value = self._constant(layer.inputs[0][0])
            return None if value is None else value.astype(TYPES[layer.facts["destination_type"]])
        if layer.kind != "Const":
            return None
        start, size = int(layer.facts["offset"]), int(layer.facts["size"])
        value = np.frombuffer(self._raw[start : start + size], TYPES[layer.facts["element_type"]])
        return value.reshape(layer.outputs[0])

    def _step(self, layer: _Layer, operands: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], Callable]:
        kind, facts = layer.kind, layer.facts
        if kind in CONVOLUTIONS:
            return operands, self._convolution(layer, None)
        if self._is_bias(layer):
            convolution = next(self._layers[s] for s, _ in layer.inputs if self._layers[s].kind in CONVOLUTIONS)
            bias = next(c for s, _ in layer.inputs if (c := self._constant(s)) is not None)
            return operands, self._convolution(convolution, bias)
        if kind in ("Add", "Multiply"):
            function = torch.add if kind == "Add" else torch.mul
            if len(operands) == 2:
                return operands, function
            constant = next(c for s, _ in layer.inputs if (c := self._constant(s)) is not None)
            self.constants.append(nn.Parameter(torch.from_numpy(constant.astype(np.float32)), requires_grad=False))
            number = len(self.constants) - 1
            return operands, lambda x: function(x, self.constants[number])
        if kind == "ReLU":
            return operands, F.relu
        if kind == "Sigmoid":
            return operands, torch.sigmoid
        if kind == "HSwish":
            return operands, F.hardswish
        if kind == "Concat":
            axis = int(facts["axis"])
            return operands, lambda *parts: torch.cat(parts, dim=axis)
        if kind == "Split":
            axis, parts = int(self._constant(layer.inputs[1][0])), int(facts["num_splits"])
            return operands, lambda x: torch.chunk(x, parts, dim=axis)
        if kind == "Reshape":
            sizes = (-1, *layer.outputs[0][1:])
            source, number = operands[0]
            before = self._layers[source].outputs[number]
            if len(before) == 5 and len(sizes) == 4 and before[3:] == sizes[2:]:  # the end of a shuffle of channels
                return operands, _flat_channels
            return operands, lambda x: x.reshape(sizes)
        if kind == "ShuffleChannels" and int(facts["axis"]) == 1:
            groups = int(facts["group"])
            return operands, lambda x: _flat_channels(x.unflatten(1, (groups, -1)).transpose(1, 2))
        if kind == "Transpose":
            order = tuple(int(v) for v in self._constant(layer.inputs[1][0]))
            return operands, lambda x: x.permute(order)
        if kind == "Interpolate":
            return operands, self._interpolation(layer)
        raise ValueError(f"{self.path}: operation '{kind}' is not known here")

    def _convolution(self, layer: _Layer, bias: np.ndarray | None) -> Callable:
        facts = {name: [int(v) for v in layer.facts[name].split(",")] for name in ("strides", "dilations", "pads_begin")}
        ends = [int(v) for v in layer.facts["pads_end"].split(",")]
        weight = self._constant(layer.inputs[1][0])
        if weight is None or ends != facts["pads_begin"] or layer.facts.get("auto_pad", "explicit") != "explicit":
            raise ValueError(f"{self.path}: a convolution with uneven padding or without weights is not known here")
        groups = 1
        if layer.kind == "GroupConvolution":
            groups = weight.shape[0]
            weight = weight.reshape(-1, *weight.shape[2:])
        module = nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], facts["strides"], facts["pads_begin"],
            facts["dilations"], groups, bias=bias is not None,
        ).requires_grad_(False)  # fmt: skip
        module.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        if bias is not None:
            module.bias.copy_(torch.from_numpy(bias.astype(np.float32).reshape(-1)))
        self.convolutions.append(module)
        return module

    def _interpolation(self, layer: _Layer) -> Callable:
        way = layer.facts["mode"], layer.facts["coordinate_transformation_mode"]
        size = layer.outputs[0][2:]
        if way == ("nearest", "asymmetric"):
            return lambda x: F.interpolate(x, size, mode="nearest")
        if way in (("linear_onnx", "align_corners"), ("linear", "align_corners")):
            return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=True)
        if way in (("linear_onnx", "half_pixel"), ("linear", "half_pixel")):
            return lambda x: F.interpolate(x, size, mode="bilinear", align_corners=False)
        raise ValueError(f"{self.path}: resizing by {way[0]} with {way[1]} coordinates is not known here")


def _flat_channels(x: Tensor) -> Tensor:
    """(B, C, D, H, W) as (B, C * D, H, W), channels last in memory, so that what follows is quick on a GPU."""
    return x.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)

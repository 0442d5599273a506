"""A TFLite file read as data: its operators in order, with their options and their weights as numbers.

Nothing of the file is executed. The flatbuffer is walked with the `tflite` package (Apache-2.0), the schema's generated
readers; quantised weights come back as float32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import tflite

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TFLite file (schema.fbs, file_identifier)."""

DTYPES = {
    tflite.TensorType.FLOAT32: np.dtype("<f4"),
    tflite.TensorType.FLOAT16: np.dtype("<f2"),
    tflite.TensorType.INT8: np.dtype("i1"),
    tflite.TensorType.UINT8: np.dtype("u1"),
    tflite.TensorType.INT16: np.dtype("<i2"),
    tflite.TensorType.INT32: np.dtype("<i4"),
    tflite.TensorType.INT64: np.dtype("<i8"),
    tflite.TensorType.BOOL: np.dtype("?"),
}
"""Kinds of tensors whose numbers can be read; a file may have others, but not as weights."""

OPERATOR_NAMES = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}

ACTIVATIONS = {0: "linear", 1: "relu", 3: "relu6"}
"""ActivationFunctionType of the schema in our names; others (tanh, sign) are left as their number."""

PADDINGS = {0: "same", 1: "valid"}

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class TfliteTensor:
    """One tensor of the graph; constant when the file holds its numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    """None for kinds that are not in DTYPES."""
    stored: np.ndarray | None = None
    """The numbers as they lie in the file, or None when they are computed."""
    scale: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    """(1,) per tensor, (C,) per channel, (0,) when not quantised."""
    zero_point: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = 0
    """The axis that C of a per-channel scale belongs to."""

    def numbers(self) -> np.ndarray:
        """float32 values, (stored - zero point) * scale where quantised. ValueError when they are not in the file."""
        if self.stored is None:
            raise ValueError(f"the tensor '{self.name}' holds no numbers in the file")
        if self.scale.size == 0:
            return self.stored.astype(np.float32)
        shape = [1] * self.stored.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        scale = self.scale.reshape(shape).astype(np.float64)
        zero_point = self.zero_point.reshape(shape) if self.zero_point.size == self.scale.size else 0
        return ((self.stored.astype(np.int64) - zero_point) * scale).astype(np.float32)


@dataclass(frozen=True)
class TfliteOperator:
    """One operator; tensors are named by their index."""

    name: str
    """As in the schema: CONV_2D, DEPTHWISE_CONV_2D, ADD, ..."""
    inputs: tuple[int, ...]
    """-1 stands for an optional input that is left out."""
    outputs: tuple[int, ...]
    options: dict
    """Where it has them: padding ("same", "valid"), stride_wh, dilation_wh, activation, half_pixel_centers,
    align_corners."""


@dataclass(frozen=True)
class TfliteGraph:
    """The first subgraph of a file."""

    path: Path
    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    """In the order they run: an operator stands after those whose results it takes."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def producers(self) -> dict[int, TfliteOperator]:
        """Tensor -> the operator that computes it."""
        return {tensor: operator for operator in self.operators for tensor in operator.outputs}

    @cached_property
    def consumers(self) -> dict[int, list[TfliteOperator]]:
        """Tensor -> the operators that take it."""
        takers: dict[int, list[TfliteOperator]] = {}
        for operator in self.operators:
            for tensor in set(operator.inputs):
                takers.setdefault(tensor, []).append(operator)
        return takers

    def constant(self, tensor: int) -> np.ndarray | None:
        """float32 numbers of a constant, also of one that the graph de-quantises itself (float16 files); else None."""
        if tensor < 0:
            return None
        if self.tensors[tensor].stored is not None:
            return self.tensors[tensor].numbers()
        maker = self.producers.get(tensor)
        return self.constant(maker.inputs[0]) if maker is not None and maker.name == "DEQUANTIZE" else None

    def convolutions(self) -> list[TfliteOperator]:
        """All convolutions in the order they run."""
        return [operator for operator in self.operators if operator.name in CONVOLUTIONS]

    def weight_and_bias(self, operator: TfliteOperator) -> tuple[np.ndarray, np.ndarray]:
        """Of a convolution, in torch's layout: weight (Cout, Cin / groups, kh, kw) and bias (Cout,), float32."""
        weight = self.constant(operator.inputs[1])
        if weight is None or weight.ndim != 4:
            raise ValueError(
                f"{self.path}: the weights of '{self.tensors[operator.outputs[0]].name}' are not in the file"
            )
        order = (
            (3, 0, 1, 2) if operator.name == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        )  # (1, h, w, C); (Cout, h, w, Cin)
        weight = np.ascontiguousarray(weight.transpose(order))
        bias = self.constant(operator.inputs[2]) if len(operator.inputs) > 2 else None
        return weight, np.zeros(len(weight), np.float32) if bias is None else bias.reshape(-1)


DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)
"""What the generated readers end in when an offset points outside of the file; they check nothing themselves."""


def read_tflite(path: str | Path) -> TfliteGraph:
    """Reads a TFLite file. ValueError for a file that is none, is truncated or damaged, or holds no graph."""
    path = Path(path)
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"{path}: not a TFLite file (bytes 4 to 8 should be 'TFL3', found {content[4:8]!r})")
    try:
        return _read(path, content)
    except _Unusable as error:
        raise ValueError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise ValueError(
            f"{path}: the TFLite file is truncated or damaged ({len(content)} bytes); get it again"
        ) from error


class _Unusable(Exception):
    """A file that is whole, but not for us."""


def _read(path: Path, content: bytes) -> TfliteGraph:
    model = tflite.Model.GetRootAs(content)
    if model.SubgraphsLength() == 0:
        raise _Unusable("the TFLite file holds no graph")
    graph = model.Subgraphs(0)
    if max(graph.TensorsLength(), graph.OperatorsLength(), model.BuffersLength()) > len(content) // 4:
        raise ValueError("a table is longer than the file")
    tensors = tuple(_tensor(model, graph.Tensors(i)) for i in range(graph.TensorsLength()))
    operators = tuple(_operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength()))
    inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    named = [*inputs, *outputs, *(i for o in operators for i in (*o.inputs, *o.outputs) if i != -1)]
    if not operators or not outputs:
        raise _Unusable("the graph of this TFLite file is empty")
    if min(named) < 0 or max(named) >= len(tensors):
        raise ValueError("an operator names a tensor that is not there")
    made = {tensor for operator in operators for tensor in operator.outputs}
    for operator in operators:
        if not made.isdisjoint(operator.inputs):
            raise ValueError("an operator takes what is made after it")
        made -= set(operator.outputs)
    return TfliteGraph(path, tensors, operators, inputs, outputs)


def _tensor(model, tensor) -> TfliteTensor:
    shape = _indices(tensor.ShapeAsNumpy())
    dtype = DTYPES.get(tensor.Type())
    name = (tensor.Name() or b"").decode()
    content = model.Buffers(tensor.Buffer()).DataAsNumpy()
    if isinstance(content, int) or content.size == 0:  # the readers give 0 for a vector that is not there
        stored = None
    elif tensor.Sparsity() is not None:
        raise _Unusable(f"the tensor '{name}' is stored sparsely, which is not supported")
    elif dtype is None:
        stored = None
    elif content.size != int(np.prod(shape, dtype=np.int64)) * dtype.itemsize:
        raise ValueError("a buffer has another size than its tensor")
    else:
        stored = content.view(dtype).reshape(shape)
    facts = tensor.Quantization()
    if facts is None or facts.ScaleLength() == 0:
        return TfliteTensor(name, shape, dtype, stored)
    scale, axis = facts.ScaleAsNumpy(), facts.QuantizedDimension()
    zero_point = facts.ZeroPointAsNumpy() if facts.ZeroPointLength() else np.zeros(len(scale), np.int64)
    if scale.size > 1 and (axis >= len(shape) or shape[axis] != scale.size):
        raise ValueError("a tensor has more scales than channels")
    return TfliteTensor(name, shape, dtype, stored, scale, zero_point, axis)


def _operator(model, operator) -> TfliteOperator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files only fill the second
    return TfliteOperator(
        OPERATOR_NAMES.get(number, f"operator {number}"),
        _indices(operator.InputsAsNumpy()),
        _indices(operator.OutputsAsNumpy()),
        _options(operator),
    )


OPTIONS = {
    tflite.BuiltinOptions.Conv2DOptions: tflite.Conv2DOptions,
    tflite.BuiltinOptions.DepthwiseConv2DOptions: tflite.DepthwiseConv2DOptions,
    tflite.BuiltinOptions.AddOptions: tflite.AddOptions,
    tflite.BuiltinOptions.ResizeBilinearOptions: tflite.ResizeBilinearOptions,
}
"""Options that matter to a network of convolutions; those of other operators are left out."""


def _options(operator) -> dict:
    kind = OPTIONS.get(operator.BuiltinOptionsType())
    table = operator.BuiltinOptions()
    if kind is None or table is None:
        return {}
    facts = kind()
    facts.Init(table.Bytes, table.Pos)
    options = {}
    if hasattr(facts, "FusedActivationFunction"):
        number = facts.FusedActivationFunction()
        options["activation"] = ACTIVATIONS.get(number, str(number))
    if hasattr(facts, "Padding"):
        options["padding"] = PADDINGS.get(facts.Padding(), str(facts.Padding()))
        options["stride_wh"] = (facts.StrideW(), facts.StrideH())
        options["dilation_wh"] = (facts.DilationWFactor(), facts.DilationHFactor())
    if hasattr(facts, "HalfPixelCenters"):
        options["half_pixel_centers"] = bool(facts.HalfPixelCenters())
        options["align_corners"] = bool(facts.AlignCorners())
    return options


def _indices(vector) -> tuple[int, ...]:
    """A vector of the readers as integers; they give the number 0 for one that is not there."""
    return () if isinstance(vector, int) else tuple(int(v) for v in vector)

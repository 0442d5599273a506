"""Writes small TFLite files for tests: any graph of a few operators, a MobileNet classifier, a MoveNet of any width.

They run in LiteRT, so that a test can compare our network with another runtime without any downloaded file.
"""

from pathlib import Path

import flatbuffers
import numpy as np
import tflite

KINDS = {
    np.dtype("f4"): tflite.TensorType.FLOAT32,
    np.dtype("f2"): tflite.TensorType.FLOAT16,
    np.dtype("i1"): tflite.TensorType.INT8,
    np.dtype("u1"): tflite.TensorType.UINT8,
    np.dtype("i4"): tflite.TensorType.INT32,
}
ACTIVATIONS = {"linear": 0, "relu": 1, "relu6": 3}
VERSIONS = {
    tflite.BuiltinOperator.RESIZE_BILINEAR: 3,  # half-pixel centres
    tflite.BuiltinOperator.DEQUANTIZE: 3,  # float16
    tflite.BuiltinOperator.CONV_2D: 3,  # weights per channel
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
}


class TfliteWriter:
    """Collects tensors and operators by index; `write` makes the file."""

    def __init__(self):
        self.tensors, self.operators = [], []

    def tensor(self, name, shape=None, *, numbers=None, dtype="f4", scale=None, zero_point=None, axis=0) -> int:
        """A tensor to be computed (shape, dtype), or a constant (numbers as stored)."""
        if numbers is not None:
            numbers = np.ascontiguousarray(numbers)
            shape, dtype = numbers.shape, numbers.dtype
        self.tensors.append((name, tuple(shape), np.dtype(dtype), numbers, scale, zero_point, axis))
        return len(self.tensors) - 1

    def operator(self, kind, inputs, name, shape, *, dtype="f4", **options) -> int:
        """An operator of the schema by its name, and the one tensor that it computes."""
        output = self.tensor(name, shape, dtype=dtype)
        self.operators.append((getattr(tflite.BuiltinOperator, kind), list(inputs), [output], kind, options))
        return output

    def write(self, path: Path, inputs, outputs, *, graphs: int = 1) -> Path:
        b = flatbuffers.Builder(1 << 16)
        buffers = [self._buffer(b, None)] + [self._buffer(b, t[3]) for t in self.tensors]
        tensors = [self._tensor(b, number, *t) for number, t in enumerate(self.tensors)]
        codes = sorted({code for code, *_ in self.operators})
        operators = [self._operator(b, codes.index(o[0]), *o[1:]) for o in self.operators]
        name = b.CreateString("main")
        vectors = [_numbers(b, inputs), _numbers(b, outputs), _offsets(b, tensors), _offsets(b, operators)]
        tflite.SubGraphStart(b)
        tflite.SubGraphAddInputs(b, vectors[0])
        tflite.SubGraphAddOutputs(b, vectors[1])
        tflite.SubGraphAddTensors(b, vectors[2])
        tflite.SubGraphAddOperators(b, vectors[3])
        tflite.SubGraphAddName(b, name)
        graph = tflite.SubGraphEnd(b)
        entries = []
        for code in codes:
            tflite.OperatorCodeStart(b)
            tflite.OperatorCodeAddBuiltinCode(b, code)
            tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
            tflite.OperatorCodeAddVersion(b, VERSIONS.get(code, 1))
            entries.append(tflite.OperatorCodeEnd(b))
        vectors = [_offsets(b, entries), _offsets(b, [graph] * graphs), _offsets(b, buffers)]
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, vectors[0])
        tflite.ModelAddSubgraphs(b, vectors[1])
        tflite.ModelAddBuffers(b, vectors[2])
        b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
        path = Path(path)
        path.write_bytes(bytes(b.Output()))
        return path

    def _buffer(self, b, numbers):
        content = b"" if numbers is None else numbers.tobytes()
        if content:
            b.StartVector(1, len(content), 16)  # runtimes read weights in place and want them aligned
            b.head = b.Head() - len(content)
            b.Bytes[b.Head() : b.Head() + len(content)] = content
            vector = b.EndVector()
        tflite.BufferStart(b)
        if content:
            tflite.BufferAddData(b, vector)
        return tflite.BufferEnd(b)

    def _tensor(self, b, number, name, shape, dtype, numbers, scale, zero_point, axis):
        name, shape, quantised = b.CreateString(name), _numbers(b, shape), None
        if scale is not None:
            scales = b.CreateNumpyVector(np.atleast_1d(np.asarray(scale, "f4")))
            points = b.CreateNumpyVector(np.atleast_1d(np.asarray(zero_point, "i8")))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scales)
            tflite.QuantizationParametersAddZeroPoint(b, points)
            tflite.QuantizationParametersAddQuantizedDimension(b, axis)
            quantised = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, KINDS[dtype])
        tflite.TensorAddBuffer(b, 0 if numbers is None else number + 1)
        if quantised is not None:
            tflite.TensorAddQuantization(b, quantised)
        return tflite.TensorEnd(b)

    def _operator(self, b, code, inputs, outputs, kind, options):
        inputs, outputs = _numbers(b, inputs), _numbers(b, outputs)
        number, table = _options(b, kind, options)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(b, number)
            tflite.OperatorAddBuiltinOptions(b, table)
        return tflite.OperatorEnd(b)


def _options(b, kind, options):
    act = ACTIVATIONS[options.get("activation", "linear")]
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        name = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
        getattr(tflite, name + "Start")(b)
        getattr(tflite, name + "AddPadding")(b, ("same", "valid").index(options.get("padding", "same")))
        for axis in "WH":
            getattr(tflite, f"{name}AddStride{axis}")(b, options.get("stride", 1))
            getattr(tflite, f"{name}AddDilation{axis}Factor")(b, 1)
        if kind == "DEPTHWISE_CONV_2D":
            tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, 1)
        getattr(tflite, name + "AddFusedActivationFunction")(b, act)
        return getattr(tflite.BuiltinOptions, name), getattr(tflite, name + "End")(b)
    if kind in ("ADD", "SUB", "MUL"):
        name = kind.capitalize() + "Options"
        getattr(tflite, name + "Start")(b)
        getattr(tflite, name + "AddFusedActivationFunction")(b, act)
        return getattr(tflite.BuiltinOptions, name), getattr(tflite, name + "End")(b)
    if kind == "RESIZE_BILINEAR":
        tflite.ResizeBilinearOptionsStart(b)
        tflite.ResizeBilinearOptionsAddHalfPixelCenters(b, options.get("half_pixel_centers", True))
        tflite.ResizeBilinearOptionsAddAlignCorners(b, options.get("align_corners", False))
        return tflite.BuiltinOptions.ResizeBilinearOptions, tflite.ResizeBilinearOptionsEnd(b)
    if kind == "CONCATENATION":
        tflite.ConcatenationOptionsStart(b)
        tflite.ConcatenationOptionsAddAxis(b, options["axis"])
        return tflite.BuiltinOptions.ConcatenationOptions, tflite.ConcatenationOptionsEnd(b)
    return 0, None


def _numbers(b, values):
    return b.CreateNumpyVector(np.asarray(list(values), "i4"))


def _offsets(b, values):
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependUOffsetTRelative(value)
    return b.EndVector()


# --- networks of ours as TFLite files -------------------------------------------------------------------------------


def folded(unit):
    """(weight, bias) of a ConvNorm in eval mode, or of a plain convolution."""
    if hasattr(unit, "out_channels"):
        return unit.weight.detach().numpy(), unit.bias.detach().numpy()
    gain = (unit.norm.weight / (unit.norm.running_var + unit.norm.eps).sqrt()).detach()
    weight = unit.conv.weight.detach() * gain.view(-1, 1, 1, 1)
    return weight.numpy(), (unit.norm.bias.detach() - gain * unit.norm.running_mean).numpy()


class NetworkWriter(TfliteWriter):
    """Adds convolutions of ours; weights as float32, float16 (de-quantised by the graph) or int8 per channel."""

    def __init__(self, kind="float32"):
        super().__init__()
        self.kind = kind

    def convolution(self, x, unit, name, act="linear") -> int:
        weight, bias = folded(unit)
        conv = getattr(unit, "conv", unit)
        depthwise = conv.groups > 1
        weight = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        stride = conv.stride[0]
        _, height, width, _ = self.tensors[x][1]
        stored = self._weights(weight, name + "/weight", 3 if depthwise else 0)
        return self.operator(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [x, stored, self.tensor(name + "/bias", numbers=bias)],
            name,
            (1, height // stride, width // stride, len(bias)),
            stride=stride,
            activation=act,
        )

    def _weights(self, weight, name, axis) -> int:
        if self.kind == "float16":
            half = self.tensor(name + "/half", numbers=weight.astype("f2"))
            return self.operator("DEQUANTIZE", [half], name, weight.shape)
        if self.kind == "int8":
            others = tuple(i for i in range(4) if i != axis)
            scale = np.abs(weight).max(axis=others, keepdims=True) / 127 + 1e-12
            stored = np.round(weight / scale).astype("i1")
            return self.tensor(name, numbers=stored, scale=scale.ravel(), zero_point=0 * scale.ravel(), axis=axis)
        return self.tensor(name, numbers=weight)

    def mobilenet_v2(self, x, backbone) -> dict[int, int]:
        """The features by stride, as tensors."""
        shape = lambda i: self.tensors[i][1]  # noqa: E731
        x = self.convolution(x, backbone.stem, "stem", "relu6")
        features, taps = {}, {2: 4, 5: 8, 9: 16}
        for number, block in enumerate(backbone.blocks):
            y = x
            if hasattr(block.expand, "conv"):
                y = self.convolution(y, block.expand, f"block{number}/expand", "relu6")
            y = self.convolution(y, block.depthwise, f"block{number}/depthwise", "relu6")
            y = self.convolution(y, block.project, f"block{number}/project")
            x = self.operator("ADD", [x, y], f"block{number}/add", shape(y)) if block.residual else y
            if number in taps:
                features[taps[number]] = x
        features[32] = self.convolution(x, backbone.last, "last", "relu6")
        return features


def write_classifier(path, backbone, size=64, *, kind="float32", classes=5) -> Path:
    """MobileNetV2 with a dense layer behind it that gives `classes` numbers per cell; enough of a classifier."""
    writer = NetworkWriter(kind)
    picture = writer.tensor("image", (1, size, size, 3))
    features = writer.mobilenet_v2(picture, backbone)[32]
    shape = writer.tensors[features][1]
    weight = np.ones((classes, 1, 1, shape[3]), "f4")
    inputs = [features, writer.tensor("w", numbers=weight), writer.tensor("b", numbers=np.zeros(classes, "f4"))]
    logits = writer.operator("CONV_2D", inputs, "logits", (*shape[:3], classes))
    return writer.write(path, [picture], [logits])


def write_movenet(path, network, size_wh=(64, 64), *, kind="float32", joints=17, corners=False, mean=1.0) -> Path:
    """A MoveNet as the official files have it, heads interleaved y, x; what follows them only imitates the decoding.

    It gives (1, 1, K, 3): regression at the first cell, and the heatmap's values there. corners: up-sampling with
    corners aligned. mean: what is taken off the scaled picture.
    """
    writer = NetworkWriter(kind)
    shape = lambda i: writer.tensors[i][1]  # noqa: E731
    width, height = size_wh
    picture = writer.tensor("image", (1, height, width, 3))
    x = picture
    for name, number in (("MUL", 1 / 127.5), ("SUB", mean)):
        constant = writer.tensor(name, numbers=np.array(number, "f4"))
        x = writer.operator(name, [x, constant], name.lower(), shape(picture))
    features = writer.mobilenet_v2(x, network.backbone)
    neck = network.neck
    x = writer.convolution(features[32], neck.laterals["32"], "lateral32")
    for stride in (16, 8, 4):
        _, h, w, channels = shape(x)
        size = writer.tensor(f"size{stride}", numbers=np.array([2 * h, 2 * w], "i4"))
        x = writer.operator("RESIZE_BILINEAR", [x, size], f"up{stride}", (1, 2 * h, 2 * w, channels),
                            half_pixel_centers=not corners, align_corners=corners)  # fmt: skip
        lateral = writer.convolution(features[stride], neck.laterals[str(stride)], f"lateral{stride}")
        x = writer.operator("ADD", [x, lateral], f"sum{stride}", shape(x))
        x = writer.convolution(x, neck.smooth[str(stride)].depthwise, f"smooth{stride}a")
        x = writer.convolution(x, neck.smooth[str(stride)].pointwise, f"smooth{stride}b", "relu")
    maps = {}
    for name in ("center", "heatmap", "offset", "regression"):  # the order of the official graph
        head = getattr(network.heads, name)
        y = writer.convolution(x, head.depthwise, f"{name}/a")
        y = writer.convolution(y, head.hidden, f"{name}/b", "relu")
        if name in ("regression", "offset"):
            swap = np.arange(2 * joints).reshape(-1, 2)[:, ::-1].ravel()
            head.out.weight.data, head.out.bias.data = head.out.weight.data[swap], head.out.bias.data[swap]
            maps[name] = writer.convolution(y, head.out, name)
            head.out.weight.data, head.out.bias.data = head.out.weight.data[swap], head.out.bias.data[swap]
        else:
            y = writer.convolution(y, head.out, f"{name}/logit")
            maps[name] = writer.operator("LOGISTIC", [y], name, shape(y))

    def gather(map_name, cells, channels):
        """Picks cells; a last index into the channels picks single numbers."""
        picked = writer.tensor(f"{map_name}/cells", numbers=np.array(cells, "i4"))
        return writer.operator("GATHER_ND", [maps[map_name], picked], f"{map_name}/picked", (len(cells), *channels))

    def reshape(x, name, to):
        return writer.operator("RESHAPE", [x, writer.tensor(name + "/to", numbers=np.array(to, "i4"))], name, to)

    way = reshape(gather("regression", [(0, 0, 0)], (2 * joints,)), "yx", (1, 1, joints, 2))
    gather("offset", [(0, 0, 0)] * joints, (2 * joints,))
    score = gather("heatmap", [(0, 0, 0, k) for k in range(joints)], ())
    parts = [way, reshape(score, "score", (1, 1, joints, 1))]
    joints_out = writer.operator("CONCATENATION", parts, "joints", (1, 1, joints, 3), axis=3)
    writer.maps = maps
    return writer.write(path, [picture], [joints_out])


def random_network(network, rng_seed=0):
    """Gives a network batch norms that do something and weights that keep the signal alive; in eval mode."""
    import torch

    generator = torch.Generator().manual_seed(rng_seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, fan_in**-0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()

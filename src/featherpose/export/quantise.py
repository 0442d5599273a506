"""Post-training quantisation: an exported ONNX file with 8-bit arithmetic in its body. Needs onnx, no torch.

Weights become int8 with a scale per output channel, activations uint8 with one scale per tensor, measured on real
pictures (onnxruntime.quantization, QDQ format). What decides where a joint lies stays float32: see PARTS. No product of
weights overflows on any processor: see `_finer_weights`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from featherpose.codecs import build_codec
from featherpose.export.cheaper import double_by_products, normalise_in_weights
from featherpose.export.pictures import crops, split_of
from featherpose.runtime.backends import Backend
from featherpose.runtime.backends.onnx import OnnxBackend
from featherpose.skeletons import did_you_mean
from featherpose.spec import SPEC_KEY

PARTS = ("first", "neck", "heads")
"""Parts that can stay float32. first: the first convolution, which sees the picture, and a depthwise one right behind it,
whose few channels ONNX Runtime computes slower in 8 bits. neck: the convolutions whose outputs
the heads read. heads: all layers of the heads. What comes before (bytes to planes, normalisation) and after (sigmoids,
doubling, decoding) always stays so."""
METHODS = ("minmax", "percentile", "entropy")
"""How ranges of activations are found: all values seen, all but the rarest, or those that lose the least information."""
PERCENTILE = 99.998
"""Of the values of an activation that stay inside its range; the first and last of 100,000 are cut off."""
CALIBRATION = 256
"""Pictures to find the ranges on."""
FEWEST = 8
"""Pictures that must be left to calibrate on."""
HELD_OUT = 64
"""Pictures to measure on how far joints move, none of them calibrated on; at most a quarter of all."""
CHUNK = 8
"""Pictures whose activations are in memory together, some 50 MB each."""
BATCH = 8
PAIR = 128
"""What two neighbouring weights may sum to, see `pointwise_codes`: 255 * 128 is below 2**15."""
STEPS = 100
"""Scales that are tried for each output channel."""
MEDIAN_LIMIT = 0.02
"""Median shift, in longer sides of the input, above which a file is refused: 4 px of 192, a third of the way from a joint
found to one missed. A guess: a sound quantisation moves the median joint by a tenth of it."""

HEADS = "network.heads."
"""How the exporter begins the names of the heads' weights."""


@dataclass(frozen=True)
class Shift:
    """How far the joints of two files lie apart, in input pixels, over the joints that the first one sees."""

    pictures: int
    joints: int
    """Joints with at least the model's joint threshold in the float file; all joints where it sees none."""
    median_px: float
    p95_px: float
    largest_px: float
    median_score: float
    """Median difference of the joints' scores."""
    limit_px: float
    """MEDIAN_LIMIT in pixels."""

    @property
    def acceptable(self) -> bool:
        return self.median_px <= self.limit_px  # false for NaN

    def to_dict(self) -> dict:
        """Plain numbers, for a model's provenance."""
        numbers = {name: float(f"{value:.3g}") for name, value in vars(self).items() if name not in ("pictures", "joints")}
        return {"pictures": self.pictures, "joints": self.joints, **numbers}

    def __str__(self) -> str:
        return (
            f"{self.joints} joints on {self.pictures} pictures moved by {self.median_px:.2g} px in the median, "
            f"{self.p95_px:.2g} px at the 95th percentile, {self.largest_px:.3g} px at most; "
            f"scores by {self.median_score:.2g} in the median"
        )


def quantise_onnx(
    source: str | Path,
    path: str | Path,
    *,
    data: str | Path,
    split: str | None = None,
    keep: Sequence[str] = PARTS,
    method: str = "minmax",
    count: int = CALIBRATION,
    progress: Callable[[str], None] = lambda step: None,
) -> Shift:
    """Writes an 8-bit version of an ONNX file that `featherpose export` wrote, with or without decoder, any weights.

    data, split: pictures like those the model will see, taken as `pictures.crops` does; `count` of them, evenly chosen, are
    calibrated on, others measure how far joints move. keep: which of PARTS stay float32. method: one of METHODS.

    Returns how far joints move. Raises ValueError, and leaves no file, when the median joint moves by more than
    MEDIAN_LIMIT, when there are too few pictures, or the file is not one of ours.
    """
    source, path = Path(source), Path(path)
    for part in keep:
        if part not in PARTS:
            raise ValueError(f"unknown part '{part}' to keep in float{did_you_mean(part, PARTS)}")
    if count < FEWEST:
        raise ValueError(f"ranges are found on {FEWEST} pictures or more, got {count}")
    if method not in METHODS:
        raise ValueError(f"unknown calibration method '{method}'{did_you_mean(method, METHODS)}")
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"{path}: an ONNX file's name must end in .onnx")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write the model to")
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(f"{path}: the quantised model would replace its source; name another file")
    backend = OnnxBackend(source)
    spec = backend.spec
    model = onnx.load(str(source))
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        raise ValueError(f"{source}: is quantised already; start from the float file")
    store_float(model)
    normalise_in_weights(model)
    body = quantised_nodes(model, keep)
    if not body:
        raise ValueError(f"{source}: nothing to quantise was found; export the model again with this version")

    progress("reading pictures")
    images = crops(data, spec, count + HELD_OUT, split=split)
    measured = np.zeros(len(images), bool)
    measured[np.linspace(0, len(images) - 1, min(HELD_OUT, len(images) // 4)).round().astype(int)] = True
    others = images[~measured]
    calibrated = others[np.linspace(0, len(others) - 1, min(count, len(others))).round().astype(int)]
    if len(calibrated) < FEWEST or not measured.any():
        raise ValueError(
            f"{data}: {len(images)} pictures are too few to quantise on; give at least {FEWEST + 2}, better "
            f"{CALIBRATION}, that look like what the model will see"
        )

    progress(f"calibrating on {len(calibrated)} pictures")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        quantised = _quantise(model, body, calibrated, method)
        progress("comparing joints")
        facts = {
            "format": "QDQ, weights int8 per channel, activations uint8",
            "method": method,
            "pictures": len(calibrated),
            "data": Path(data).name,
            "split": split_of(data, split),
            "float": list(keep),
            "onnxruntime": onnxruntime.__version__,
        }
        export = {**spec.provenance.get("export", {}), "weights": "int8"}
        provenance = {k: v for k, v in spec.provenance.items() if k != "parity"} | {"export": export}
        _write(quantised, replace(spec, provenance={**provenance, "quantisation": facts}).to_json(), temporary)
        shift = compare_files(backend, OnnxBackend(temporary), images[measured])
        if not shift.acceptable:
            raise ValueError(f"{path}: not written, quantising moves joints too far: {shift}")
        facts["shift"] = shift.to_dict()
        _write(quantised, replace(spec, provenance={**provenance, "quantisation": facts}).to_json(), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return shift


def _write(model: onnx.ModelProto, spec: str, path: Path) -> None:
    helper.set_model_props(model, {SPEC_KEY: spec})
    path.write_bytes(model.SerializeToString())


# --- the graph --------------------------------------------------------------------------------------------------------


def store_float(model: onnx.ModelProto) -> None:
    """Turns weights stored as float16 behind a Cast into float32 weights of the Cast's name, in place."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in tensors]
    for node in casts:
        tensor = tensors[node.input[0]]
        if tensor.data_type != TensorProto.FLOAT16:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)


def quantised_nodes(model: onnx.ModelProto, keep: Sequence[str] = PARTS) -> list[str]:
    """Names of the nodes between the picture and the heads' last convolutions that are to compute in 8 bits.

    The exporter names weights after the network's modules, so the heads are told by their weights' names. Empty where
    the graph has no such names.
    """
    nodes = list(model.graph.node)
    maker = {name: node for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    heads = [node for node in convolutions if node.input[1].startswith(HEADS)]
    if not heads:
        return []
    first = convolutions[0]
    before = {id(node) for node in _upstream([first], maker)} - {id(first)}
    of_heads = {id(node) for node in heads}
    entries = [n for n in heads if not of_heads & {id(above) for above in _upstream(list(_above(n, maker)), maker)}]
    behind = {id(node) for node in _upstream([maker[node.input[0]] for node in entries], maker)}
    inside = {id(node) for node in _upstream(heads, maker)} - behind
    left_out = set(before)
    if "first" in keep:
        left_out |= {id(first)} | _depthwise_behind(first, convolutions, maker)
    if "neck" in keep:
        for node in entries:
            left_out |= {id(above) for above in _down_to_convolution(maker[node.input[0]], maker)}
    if "heads" in keep:
        left_out |= inside
    return [node.name for node in nodes if id(node) in behind | inside and id(node) not in left_out]


def _above(node: NodeProto, maker: dict[str, NodeProto]) -> Iterator[NodeProto]:
    return (maker[name] for name in node.input if name in maker)


def _upstream(nodes: Sequence[NodeProto], maker: dict[str, NodeProto]) -> list[NodeProto]:
    """These nodes and all that they depend on."""
    found, waiting = {}, list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting += _above(node, maker)
    return list(found.values())


def _depthwise_behind(first: NodeProto, convolutions: Sequence[NodeProto], maker: dict[str, NodeProto]) -> set[int]:
    """Ids of the depthwise convolutions that read `first`, and of what lies between; empty where there are none."""
    found = set()
    for node in convolutions:
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if groups > 1 and node.input[0] in maker:
            between = _down_to_convolution(maker[node.input[0]], maker)
            if any(above is first for above in between):
                found |= {id(node), *map(id, between)}
    return found


def _down_to_convolution(node: NodeProto, maker: dict[str, NodeProto]) -> list[NodeProto]:
    """`node` and what it is made of, as far as the convolutions above: an activation may be one node or several."""
    if node.op_type == "Conv":
        return [node]
    return [node] + [found for above in _above(node, maker) for found in _down_to_convolution(above, maker)]


# --- calibration ------------------------------------------------------------------------------------------------------


class Reader:
    """Pictures one by one, as onnxruntime.quantization asks for them."""

    def __init__(self, images: np.ndarray, name: str):
        self.images, self.name = images, name
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self.images[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._left, None)
        return None if image is None else {self.name: image[None]}


def _quantise(model: onnx.ModelProto, body: list[str], images: np.ndarray, method: str) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
    finer = _finer_weights(model, body)
    chunk = max(size for size in range(1, CHUNK + 1) if len(images) % size == 0)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        float_file, int8_file = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(float_file))
        quantize_static(
            str(float_file),
            str(int8_file),
            Reader(images, model.graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted({node.op_type for node in model.graph.node if node.name in set(body)}),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=body,
            calibrate_method=getattr(CalibrationMethod, methods[method]),
            extra_options={"CalibStridedMinMax": chunk, "CalibPercentile": PERCENTILE, "TensorQuantOverrides": finer},
        )
        quantised = onnx.load(str(int8_file))
    double_by_products(quantised)
    quantised.graph.ClearField("value_info")
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    return quantised


def _finer_weights(model: onnx.ModelProto, body: list[str]) -> dict[str, list[dict]]:
    """What to tell the quantiser of weights that can have more than its 7 bits, by name; rounds pointwise ones, in place.

    x86 processors without VNNI multiply bytes by `vpmaddubsw`: two neighbouring products are added in 16 bits that
    saturate, so that two weights of 8 bits can give a wrong result. Depthwise convolutions never add products there
    (onnxruntime/core/mlas: qdwconv_avx2.cpp, ConvSymKernelAvx2.S, ConvSymKernelAvx512Core.S), and of pointwise ones the
    neighbours are known: see `pointwise_codes`. All other weights (dense, grouped, Gemm) keep 7 bits.
    """
    from onnxruntime.quantization import QuantType

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    names, finer = set(body), {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.name not in names or node.input[1] in finer:
            continue
        tensor = tensors[node.input[1]]
        weight = numpy_helper.to_array(tensor)
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        common = {"axis": 0, "quant_type": QuantType.QInt8}
        if weight.shape[1] == 1 and group == len(weight):
            finer[tensor.name] = [{**common, "reduce_range": False}]
        elif weight.shape[2:] == (1, 1) and group == 1:
            codes, scales = pointwise_codes(weight[:, :, 0, 0])
            rounded = (codes * scales[:, None]).astype(np.float32).reshape(weight.shape)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
            finer[tensor.name] = [{**common, "scale": scale, "zero_point": np.int8(0)} for scale in scales]
    return finer


def pointwise_codes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes (O, I) of weights (O, I) and the scale of each output channel (O,) float32.

    Each channel takes the scale, of STEPS, that loses least (squared) while no two neighbours, (0, 1), (2, 3) and so on,
    sum to more than PAIR.
    """
    rows = weight.astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    largest[largest == 0] = largest.max() or 1.0
    least = np.full(len(rows), np.inf)
    best, best_scale = np.zeros(rows.shape, np.int8), np.zeros(len(rows), np.float32)
    for share in np.linspace(1 / 180, 2 / PAIR, STEPS):  # from far too fine to no pair too large
        scale = (largest * share).astype(np.float32)
        codes = _clip_pairs(np.clip(np.rint(rows / scale[:, None]), -127, 127))
        error = np.square(codes * scale[:, None] - rows).sum(axis=1)
        better = error < least
        least[better], best[better], best_scale[better] = error[better], codes[better], scale[better]
    return best, best_scale


def _clip_pairs(codes: np.ndarray) -> np.ndarray:
    """(O, I) whole numbers: both of a pair that sums to more than PAIR come down by half of what is too much."""
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    pairs = even.reshape(len(codes), -1, 2)
    total = pairs.sum(axis=2)
    over = np.maximum(np.abs(total) - PAIR, 0) * np.sign(total)
    first = np.trunc(over / 2)
    pairs = pairs - np.stack([first, over - first], axis=2)
    return pairs.reshape(even.shape)[:, : codes.shape[1]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints its progress and recommends steps that change nothing here."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


# --- the gate ---------------------------------------------------------------------------------------------------------


def compare_files(reference: Backend, other: Backend, images: np.ndarray) -> Shift:
    """How far the joints of `other` lie from those of `reference`, files of one model: images (N, H, W, 3) uint8 RGB."""
    expected, found = _joints(reference, images), _joints(other, images)  # (N, K, 3) x, y, score
    seen = expected[..., 2] >= reference.spec.joint_threshold
    seen = seen if seen.any() else np.ones_like(seen)
    distance = np.linalg.norm(found[..., :2] - expected[..., :2], axis=2)[seen]
    return Shift(
        pictures=len(images),
        joints=int(seen.sum()),
        median_px=float(np.median(distance)),
        p95_px=float(np.percentile(distance, 95)),
        largest_px=float(distance.max()),
        median_score=float(np.median(np.abs(found[..., 2] - expected[..., 2])[seen])),
        limit_px=MEDIAN_LIMIT * max(reference.spec.input_size),
    )


def _joints(backend: Backend, images: np.ndarray) -> np.ndarray:
    spec = backend.spec
    codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton))
    joints = []
    for start in range(0, len(images), BATCH):
        outputs = backend.run(images[start : start + BATCH])
        if "joints" in outputs:
            joints.append(outputs["joints"])
        else:
            xy, score, _ = codec.decode_batch(outputs)
            joints.append(np.concatenate([xy, score[:, :, None]], axis=2))
    return np.concatenate(joints)

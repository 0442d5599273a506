"""ONNX files: one file with graph, weights and the spec in its metadata, kept only if its joints agree with torch."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import featherpose
from featherpose.codecs import build_codec
from featherpose.export.check import Parity, compare
from featherpose.export.graph import RawHeads, WithDecoder, fold_batch_norms
from featherpose.export.pictures import photos, scenes
from featherpose.runtime.backends.onnx import OnnxBackend
from featherpose.spec import SPEC_KEY, ModelSpec

OPSETS = range(18, 24)
"""18 is what the exporter writes natively, and the oldest runtimes read; none of the later ones is needed here."""
INPUT = "image"
SAMPLE_BATCH = 2
"""Pictures in the traced call; 1 would be taken for a constant."""
HALF_FROM = 256
"""Tensors with fewer numbers stay float32 in a half file: nothing to save."""


def export_onnx(
    network: nn.Module,
    spec: ModelSpec,
    path: str | Path,
    *,
    decoder: bool = False,
    opset: int = 18,
    half: bool = False,
    data: str | Path | None = None,
    images: np.ndarray | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[ModelSpec, Parity]:
    """Writes an ONNX file for any batch size and gives its spec and how well it agrees with torch.

    decoder: joints come out of the graph (WithDecoder) instead of maps (RawHeads). half: weights are stored as float16,
    half the file; runtimes turn them back when loading, so that speed and arithmetic stay float32.
    data: photos (file or folder) to compare on; images: (N, H, W, 3) uint8 RGB at the input size, instead of data;
    without either synthetic scenes are drawn. progress: told what is going on.

    Raises ValueError, and leaves no file, when a joint disagrees or a weight is not finite.
    """
    path = Path(path)
    if opset not in OPSETS:
        raise ValueError(f"opset must be one of {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"{path}: an ONNX file's name must end in .onnx")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write the model to")
    _check_weights(network, spec)
    source = "synthetic scenes" if images is None and data is None else "photos"
    if images is None:
        images = scenes(spec.input_size) if data is None else photos(data, spec.input_size)

    progress("tracing the network")
    folded = fold_batch_norms(network)
    if half:
        round_to_half(folded)
    spec = replace(spec, outputs="decoded" if decoder else "raw")
    model = slim(trace(folded, spec, opset=opset))
    if half:
        store_half(model, folded)

    progress("comparing joints with torch")
    facts = {"opset": opset, "weights": "float16" if half else "float32", "torch": torch.__version__}
    spec = replace(spec, provenance={**spec.provenance, "export": facts})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(model, spec, temporary)
        backend = OnnxBackend(temporary)
        parity = compare(folded if half else network, backend, images, source=source)
        if not parity.agrees:
            raise ValueError(f"{path}: not written, the exported graph disagrees with torch: {parity}")
        report = parity.to_dict()
        if half:  # what the rounding itself costs; a fact to know, not a fault of the export
            rounded = compare(network, backend, images, source=source)
            report["against_float32"] = {"moved": rounded.moved, "max_joint_px": rounded.to_dict()["max_joint_px"]}
        spec = replace(spec, provenance={**spec.provenance, "parity": report})
        _write(model, spec, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return spec, parity


def trace(network: nn.Module, spec: ModelSpec, *, opset: int = 18) -> onnx.ModelProto:
    """The graph of a network (evaluation mode, batch norms folded) with spec.outputs, for any batch size."""
    codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton))
    wrapper = (WithDecoder(network, codec) if spec.outputs == "decoded" else RawHeads(network)).eval()
    width, height = spec.input_size
    sample = torch.zeros(SAMPLE_BATCH, height, width, 3, dtype=torch.uint8)
    with _quiet_exporter():
        program = torch.onnx.export(
            wrapper,
            (sample,),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(wrapper.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    return program.model_proto


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops the tracer's notes (source lines, shapes in between), a twentieth to a fifth of a file; changes in place.

    The graph itself is left alone: onnxslim finds nothing more to remove, and runtimes fuse what can be fused.
    """
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    model.ClearField("metadata_props")
    model.producer_name, model.producer_version = "featherpose", featherpose.__version__
    # The exporter claims a newer file format than the graph needs, which older runtimes would refuse.
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return model


@torch.no_grad()
def round_to_half(network: nn.Module) -> None:
    """Rounds what `store_half` will store as float16, in place. ValueError for weights beyond float16's range."""
    for name, values in network.named_parameters():
        if values.numel() < HALF_FROM:
            continue
        rounded = values.half().float()
        if not torch.isfinite(rounded).all():
            reach = f"reach {values.abs().max():.3g}, beyond float16's 65504"
            raise ValueError(f"the weights '{name}' {reach}; export without half")
        values.copy_(rounded)


def store_half(model: onnx.ModelProto, network: nn.Module) -> None:
    """Stores what `round_to_half` rounded in a network as float16, in place of the graph's own float32 weights.

    A Cast stands behind each, which runtimes carry out once, when they load the file.
    """
    weights = {f"network.{name}": values for name, values in network.named_parameters() if values.numel() >= HALF_FROM}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in weights:
            continue
        name, values = tensor.name, weights[tensor.name].detach().numpy().astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.float", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _check_weights(network: nn.Module, spec: ModelSpec) -> None:
    for name, values in (*network.named_parameters(), *network.named_buffers()):
        if not torch.isfinite(values).all():
            raise ValueError(f"model '{spec.name}' cannot be exported: its weights '{name}' are not all finite numbers")


def _write(model: onnx.ModelProto, spec: ModelSpec, path: Path) -> None:
    helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
    path.write_bytes(model.SerializeToString())


@contextmanager
def _quiet_exporter():
    """The exporter tells of torchvision and of its own future; nothing a user of ours could act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

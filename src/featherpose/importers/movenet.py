"""Google's MoveNet SinglePose files (Lightning, Thunder; int8, float16, float32) as featherpose networks.

The file's graph is read as data. Which convolution is which is found by how they are connected, from the heads back to
the picture; sizes, width and channels are found from shapes. Everything our network assumes (normalisation, padding,
activations, up-sampling, taps) is compared with what the file says.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from featherpose import __version__
from featherpose.importers.classifier import check_operator, unit_activation
from featherpose.importers.tflite_file import TfliteGraph, TfliteOperator, read_tflite
from featherpose.models.backbones.mobilenet_v2 import TAPS
from featherpose.models.layers import Conv2d, ConvNorm, set_folded
from featherpose.skeletons import COCO17
from featherpose.spec import ModelSpec
from featherpose.systems.movenet import OFFICIAL_NECK, PRESETS, MoveNet, build

WIDTHS = (1.0, 1.75, *(round(0.05 * step, 2) for step in range(4, 41)))
"""Widths that are tried against the file's shapes: Lightning's, Thunder's, then every .05 from .2 to 2."""

PASSED_THROUGH = ("QUANTIZE", "DEQUANTIZE")
"""Operators that change how numbers are stored, not what they are."""


@dataclass(frozen=True)
class MoveNetParts:
    """The convolutions of a file by their place in the network."""

    backbone: list[TfliteOperator]
    laterals: dict[int, TfliteOperator]
    """stride -> 1x1 convolution that takes the backbone's feature at that stride."""
    smooth: dict[int, tuple[TfliteOperator, TfliteOperator]]
    """stride -> depthwise and 1x1 convolution after the sum at that stride."""
    heads: dict[str, tuple[TfliteOperator, TfliteOperator, TfliteOperator]]
    """map -> depthwise, hidden and last convolution."""
    size_wh: tuple[int, int]
    """(width, height) of the input, pixels."""
    joints: int


def import_movenet(path: str | Path) -> tuple[MoveNet, ModelSpec]:
    """The network of an official TFLite file with its weights, in eval mode, and its spec.

    Quantised weights become floats and the network runs in float throughout, which the int8 file does not, so results
    agree to about that file's coordinate step (0.8 px of 192). Batch norms are folded as in the file: call
    `models.layers.unfold_batch_norms` on some pictures before training on.

    ValueError, in one sentence, for a file that is damaged, a MultiPose file, or one of another network.
    """
    path = Path(path)
    graph = read_tflite(path)
    parts = find_parts(graph)
    facts = _network_facts(graph, parts)
    network = build(joints=parts.joints, **{key: value for key, value in facts.items() if key != "system"})
    _fill(network, graph, parts)
    named = facts.get("preset")
    spec = ModelSpec(
        name=f"movenet-{named}" if named else "movenet",
        skeleton=COCO17,
        input_size=parts.size_wh,
        codec={"name": "movenet"},
        network=facts,
        provenance={
            "author": "Google",
            "licence": "Apache-2.0",
            "source": "MoveNet SinglePose, TFLite",
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "weights": _kind_of_weights(graph, parts),
            "made_by": f"featherpose import {__version__}",
        },
    )
    return network.eval(), spec


# --- what is where in the graph -------------------------------------------------------------------------------------


def find_parts(graph: TfliteGraph) -> MoveNetParts:
    """Names the convolutions by following the graph back from its heads; ValueError where it is not MoveNet's."""
    size_wh, joints = _check_ends(graph)
    heads = _heads(graph, joints)
    shared = {_source(graph, depthwise.inputs[0]).outputs[0] for depthwise, _, _ in heads.values()}
    if len(shared) != 1:
        raise _another(graph, "its four heads do not share one feature")
    laterals, smooth = {}, {}
    pointwise = graph.producers[shared.pop()]
    while True:  # from the finest sum to the coarsest
        depthwise = _source(graph, pointwise.inputs[0], "DEPTHWISE_CONV_2D")
        total = _source(graph, depthwise.inputs[0], "ADD")
        makers = [_source(graph, tensor) for tensor in total.inputs]
        resizes = [maker for maker in makers if maker.name == "RESIZE_BILINEAR"]
        sides = [maker for maker in makers if maker.name == "CONV_2D"]
        if len(resizes) != 1 or len(sides) != 1:
            raise _another(graph, "its pyramid does not add an up-sampled feature and a lateral one")
        if not resizes[0].options["half_pixel_centers"] or resizes[0].options["align_corners"]:
            raise _another(graph, "its up-sampling is not bilinear with half-pixel centres")
        stride = _stride(graph, sides[0], size_wh)
        laterals[stride], smooth[stride] = sides[0], (depthwise, pointwise)
        below = _source(graph, resizes[0].inputs[0], "CONV_2D")
        if _source(graph, below.inputs[0]).name != "DEPTHWISE_CONV_2D":
            laterals[_stride(graph, below, size_wh)] = below
            break
        pointwise = below
    groups = (laterals.values(), *smooth.values(), *heads.values())
    placed = {operator.outputs[0] for group in groups for operator in group}
    backbone = [operator for operator in graph.convolutions() if operator.outputs[0] not in placed]
    _check_normalisation(graph, backbone[0])
    return MoveNetParts(backbone, laterals, smooth, heads, size_wh, joints)


def _another(graph: TfliteGraph, why: str) -> ValueError:
    return ValueError(f"{graph.path}: not a MoveNet SinglePose file ({why}); featherpose imports Lightning and Thunder")


def _check_ends(graph: TfliteGraph) -> tuple[tuple[int, int], int]:
    """(width, height) of the input and K, from the shapes of what the graph takes and gives."""
    taken = [graph.tensors[i].shape for i in graph.inputs]
    given = [graph.tensors[i].shape for i in graph.outputs]
    if len(given) == 1 and given[0][1:] == (6, 56):
        raise ValueError(f"{graph.path}: a MoveNet MultiPose file; featherpose imports SinglePose (Lightning, Thunder)")
    if len(given) != 1 or len(given[0]) != 4 or given[0][:2] != (1, 1) or given[0][3] != 3:
        raise _another(graph, f"it gives {', '.join(map(str, given))} where joints are (1, 1, {len(COCO17)}, 3)")
    if len(taken) != 1 or len(taken[0]) != 4 or taken[0][3] != 3:
        raise _another(graph, f"it takes {', '.join(map(str, taken))} where a picture is (1, H, W, 3)")
    if given[0][2] != len(COCO17):
        raise _another(graph, f"it gives {given[0][2]} joints where COCO has {len(COCO17)}")
    return (taken[0][2], taken[0][1]), given[0][2]


def _source(graph: TfliteGraph, tensor: int, name: str | None = None) -> TfliteOperator:
    """The operator that computes a tensor, seen through changes of storage; ValueError unless it is a `name`."""
    operator = graph.producers.get(tensor)
    while operator is not None and operator.name in PASSED_THROUGH:
        operator = graph.producers.get(operator.inputs[0])
    if operator is None or name not in (None, operator.name):
        found = "an input" if operator is None else operator.name
        raise _another(graph, f"'{graph.tensors[tensor].name}' comes from {found}, not from {name or 'an operator'}")
    return operator


def _takers(graph: TfliteGraph, tensor: int) -> list[TfliteOperator]:
    """The operators that take a tensor, seen through changes of storage and shape."""
    takers = []
    for operator in graph.consumers.get(tensor, []):
        through = operator.name in (*PASSED_THROUGH, "RESHAPE", "SQUEEZE")
        takers += _takers(graph, operator.outputs[0]) if through else [operator]
    return takers


def _stride(graph: TfliteGraph, operator: TfliteOperator, size_wh: tuple[int, int]) -> int:
    return size_wh[0] // graph.tensors[operator.outputs[0]].shape[2]


def _heads(graph: TfliteGraph, joints: int) -> dict[str, tuple[TfliteOperator, TfliteOperator, TfliteOperator]]:
    """The convolutions of each head, found by what is done to its last one.

    Sigmoids tell centre (1 channel) and heatmap (K). Of the two linear heads with 2 K channels the regression is
    gathered at one cell, the centre's, and the offset at K cells.
    """
    heads = {}
    for last in graph.convolutions():
        takers = _takers(graph, last.outputs[0])
        channels = graph.tensors[last.outputs[0]].shape[-1]
        gathered = [graph.tensors[taker.outputs[0]].shape for taker in takers if taker.name == "GATHER_ND"]
        if any(taker.name == "LOGISTIC" for taker in takers):
            name = {1: "center", joints: "heatmap"}.get(channels)
        elif gathered and channels == 2 * joints:
            name = {1: "regression", joints: "offset"}.get(gathered[0][0])
        else:
            continue
        if name is None or name in heads:
            raise _another(graph, f"'{graph.tensors[last.outputs[0]].name}' is none of the four heads")
        hidden = _source(graph, last.inputs[0], "CONV_2D")
        heads[name] = (_source(graph, hidden.inputs[0], "DEPTHWISE_CONV_2D"), hidden, last)
    missing = [name for name in ("center", "heatmap", "regression", "offset") if name not in heads]
    if missing:
        raise _another(graph, f"it has no {' and no '.join(missing)} head")
    return heads


def _check_normalisation(graph: TfliteGraph, stem: TfliteOperator) -> None:
    """ValueError unless the graph computes x / 127.5 - 1 between its input and its first convolution."""
    steps = []
    operator = graph.producers.get(stem.inputs[0])
    while operator is not None:
        steps.append(operator)
        operator = graph.producers.get(operator.inputs[0])
    scale, shift = np.ones(3), np.zeros(3)
    for step in reversed(steps):
        if step.name in (*PASSED_THROUGH, "CAST"):
            continue
        number = graph.constant(step.inputs[1]) if len(step.inputs) == 2 else None
        if number is None or step.name not in ("ADD", "SUB", "MUL", "DIV"):
            raise _another(graph, f"its input goes through {step.name}")
        if step.name in ("ADD", "SUB"):
            shift = shift + (number if step.name == "ADD" else -number).reshape(-1)
        else:
            factor = (number if step.name == "MUL" else 1 / number).reshape(-1)
            scale, shift = scale * factor, shift * factor
    if not (np.allclose(scale, 1 / 127.5, rtol=0.01) and np.allclose(shift, -1, atol=0.01)):
        raise _another(graph, f"its input is normalised as x * {scale} + {shift}, not as x / 127.5 - 1")


# --- the same network in torch --------------------------------------------------------------------------------------


def _network_facts(graph: TfliteGraph, parts: MoveNetParts) -> dict:
    """The spec's `network`: a preset where the shapes are one's, and whatever differs from it."""
    shapes = [graph.weight_and_bias(operator)[0].shape for operator in parts.backbone]
    neck = {stride: len(graph.weight_and_bias(lateral)[1]) for stride, lateral in sorted(parts.laterals.items())}
    width = next((w for w in WIDTHS if _backbone_shapes(w) == shapes), None)
    if width is None:
        raise _another(graph, f"its {len(shapes)} backbone convolutions are no MobileNetV2's of any width")
    head_width = len(graph.weight_and_bias(parts.heads["heatmap"][1])[1])
    named = next((n for n in ("lightning", "thunder") if PRESETS[n]["width"] == width), None)
    facts = {"system": "movenet"}
    facts.update({"preset": named} if named else {"backbone": "mobilenet_v2", "width": width})
    if neck != OFFICIAL_NECK:
        facts["neck"] = {str(stride): channels for stride, channels in neck.items()}
    if head_width != 96:
        facts["head_width"] = head_width
    return facts


def _backbone_shapes(width: float) -> list[tuple[int, ...]]:
    with torch.device("meta"):
        backbone = build(width=width).backbone
    return [tuple(unit.conv.weight.shape) for unit in backbone.modules() if isinstance(unit, ConvNorm)]


def places(network: MoveNet, parts: MoveNetParts) -> list[tuple[str, ConvNorm | Conv2d, TfliteOperator]]:
    """(name, our module, the file's operator) for every convolution; the last ones of the heads have no batch norm."""
    units = [(name, unit) for name, unit in network.backbone.named_modules() if isinstance(unit, ConvNorm)]
    pairs = [(f"backbone.{name}", unit, operator) for (name, unit), operator in zip(units, parts.backbone, strict=True)]
    neck = network.neck
    pairs += [(f"neck.lateral {s}", neck.laterals[str(s)], operator) for s, operator in parts.laterals.items()]
    for stride, (depthwise, pointwise) in parts.smooth.items():
        smooth = neck.smooth[str(stride)]
        pairs.append((f"neck.smooth {stride}.depthwise", smooth.depthwise, depthwise))
        pairs.append((f"neck.smooth {stride}.pointwise", smooth.pointwise, pointwise))
    for name, operators in parts.heads.items():
        for layer, operator in zip(("depthwise", "hidden", "out"), operators, strict=True):
            pairs.append((f"heads.{name}.{layer}", getattr(getattr(network.heads, name), layer), operator))
    return pairs


def x_before_y(name: str, values: np.ndarray) -> np.ndarray:
    """(C, ...) output channels in our order: the file's two heads of vectors have y0, x0, y1, x1, ..."""
    if name not in ("heads.regression.out", "heads.offset.out"):
        return values
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def _fill(network: MoveNet, graph: TfliteGraph, parts: MoveNetParts) -> None:
    """Writes every convolution into its place."""
    _check_taps(graph, parts, [name for name, unit in network.backbone.named_modules() if isinstance(unit, ConvNorm)])
    for name, module, operator in places(network, parts):
        weight, bias = graph.weight_and_bias(operator)
        if isinstance(module, ConvNorm):
            check_operator(graph, operator, name, module.conv, unit_activation(module))
            set_folded(module, torch.from_numpy(weight), torch.from_numpy(bias))
        else:
            check_operator(graph, operator, name, module, "linear")
            with torch.no_grad():
                module.weight.copy_(torch.from_numpy(x_before_y(name, weight).copy()))
                module.bias.copy_(torch.from_numpy(x_before_y(name, bias).copy()))


def _check_taps(graph: TfliteGraph, parts: MoveNetParts, names: list[str]) -> None:
    """ValueError unless the pyramid takes the same features as ours: the blocks of TAPS, and the last convolution."""
    place = {operator.outputs[0]: name for operator, name in zip(parts.backbone, names, strict=True)}
    for stride, lateral in parts.laterals.items():
        source = _source(graph, lateral.inputs[0])
        summed = [_source(graph, tensor) for tensor in source.inputs] if source.name == "ADD" else [source]
        wanted = "last" if stride == 32 else f"blocks.{TAPS[stride]}.project"
        if wanted not in [place.get(operator.outputs[0]) for operator in summed]:
            raise _another(graph, f"its feature at stride {stride} is not taken behind '{wanted}'")


def _kind_of_weights(graph: TfliteGraph, parts: MoveNetParts) -> str:
    """How the file stores them: int8, uint8, float16 or float32."""
    tensor = parts.backbone[0].inputs[1]
    while graph.tensors[tensor].stored is None:
        tensor = graph.producers[tensor].inputs[0]
    return str(graph.tensors[tensor].dtype)

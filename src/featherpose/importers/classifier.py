"""Initialises a backbone from an ImageNet classifier, so that training does not start from noise."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from featherpose.importers.tflite_file import TfliteGraph, TfliteOperator, read_tflite
from featherpose.models.layers import TF_EPSILON, Conv2d, ConvNorm, set_folded

NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""What a torch classifier was fed: (RGB in [0, 1] - mean) / deviation. `inception` is our own [-1, 1]."""

TORCH_EPSILON = 1e-5
"""Batch norm of torchvision's networks and of timm's (its tf_ variants have .001)."""
TORCHVISION_V3 = ".block."
"""In the names of torchvision's MobileNetV3, whose batch norms have an epsilon of their own, the one of TF_EPSILON."""

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")


def load_classifier(
    backbone: nn.Module, path: str | Path, *, normalisation: str = "imagenet", epsilon: float | None = None
) -> int:
    """Writes a classifier's convolutions into `backbone`, one of BACKBONES but micronet; returns how many.

    `.tflite` (MobileNetV1, MobileNetV2; any quantisation): the backbone then computes the classifier's features, but
    its batch norms are folded: call `models.layers.unfold_batch_norms` on some pictures before training.
    `.safetensors` (state dict of torchvision's mobilenet_v2, mobilenet_v3 or shufflenet_v2, of timm's mobilenetv1, v2 or
    v3): batch norms come along; `epsilon` (None: torchvision's own, else TORCH_EPSILON) and `normalisation`
    (torchvision's and most of timm's: "imagenet", timm's newer mobilenetv1: "inception") of that classifier are made up
    for in the weights. What stays is the padding: torch pads stride-2 convolutions of MobileNets on both sides, ours as
    TensorFlow does, so features start out shifted by up to half a cell, which training corrects. (ShuffleNetV2 pads
    alike.)

    The last layers, which a pose network does not have, are left out. ValueError, in one sentence, when the file is of
    another network or width.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise ValueError(
            f"{path}: pickled weights can run code when they are read and are refused; convert them once, where you "
            "trust them: safetensors.torch.save_file(torch.load(PATH, weights_only=True), 'classifier.safetensors')"
        )
    if suffix not in (".tflite", ".safetensors"):
        raise ValueError(f"{path}: a classifier must be a .tflite or a .safetensors file, got '{suffix}'")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such classifier file")
    units = [(name, unit) for name, unit in backbone.named_modules() if isinstance(unit, ConvNorm)]
    within = {unit.conv for _, unit in units}
    plain = [(n, conv) for n, conv in backbone.named_modules() if isinstance(conv, nn.Conv2d) and conv not in within]
    if suffix == ".tflite" and plain:
        raise ValueError(f"{path}: squeeze-excite ('{plain[0][0]}') is read from .safetensors only")
    if suffix == ".tflite":
        return _from_tflite(units, path)
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"unknown normalisation '{normalisation}'; known: {', '.join(NORMALISATIONS)}")
    return _from_safetensors(units, plain, path, normalisation, epsilon)


def _from_tflite(units: list[tuple[str, ConvNorm]], path: Path) -> int:
    graph = read_tflite(path)
    operators = graph.convolutions()
    weights = [graph.weight_and_bias(operator) for operator in operators]
    _check_shapes(units, [tuple(weight.shape) for weight, _ in weights], path)
    for (name, unit), operator in zip(units, operators, strict=False):
        check_operator(graph, operator, name, unit.conv, unit_activation(unit))
    for (_, unit), (weight, bias) in zip(units, weights, strict=False):
        set_folded(unit, torch.from_numpy(weight), torch.from_numpy(bias))
    return len(units)


def check_operator(graph: TfliteGraph, operator: TfliteOperator, name: str, conv: Conv2d, act: str) -> None:
    """ValueError unless a convolution of the file strides, pads and activates as the one it is written to."""
    padding = "same" if conv.kernel_size == (1, 1) else operator.options["padding"]  # 1x1: nothing to pad
    found = (*operator.options["stride_wh"], *operator.options["dilation_wh"], padding, operator.options["activation"])
    wanted = (*conv.stride[::-1], *conv.dilation[::-1], "same", act)
    if found != wanted:
        raise ValueError(
            f"{graph.path}: '{graph.tensors[operator.outputs[0]].name}' is a convolution with (stride, dilation, "
            f"padding, activation) {found}, where '{name}' has {wanted}"
        )


def unit_activation(unit: ConvNorm) -> str:
    """The name that TFLite's reader gives to a unit's activation."""
    names = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
    return names.get(type(unit.act), type(unit.act).__name__) if hasattr(unit, "act") else "linear"


def _check_shapes(units: list[tuple[str, nn.Module]], shapes: list[tuple[int, ...]], path: Path) -> None:
    """ValueError at the first convolution that does not fit, in the order they run."""
    for number, (name, unit) in enumerate(units):
        wanted = tuple(getattr(unit, "conv", unit).weight.shape)
        if number >= len(shapes):
            raise ValueError(
                f"{path}: does not fit the backbone: it holds {len(shapes)} convolutions, the backbone {len(units)}; "
                "take a classifier of the same network"
            )
        if shapes[number] != wanted:
            raise ValueError(
                f"{path}: does not fit the backbone: convolution {number + 1} of the file is {shapes[number]}, "
                f"'{name}' is {wanted} (output, input, height, width); take a classifier of the same network and "
                "width, or start from random weights"
            )


def _from_safetensors(
    units: list[tuple[str, ConvNorm]],
    plain: list[tuple[str, nn.Conv2d]],
    path: Path,
    normalisation: str,
    epsilon: float | None,
) -> int:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file, or a truncated one ({error})") from error
    keys = _order([key for key, value in state.items() if value.ndim == 4])
    with_bias = [key for key in keys if key.removesuffix("weight") + "bias" in state]  # of squeeze-excites, conv_head
    convolutions = [key for key in keys if key not in with_bias]
    if epsilon is None:
        epsilon = TF_EPSILON if any(TORCHVISION_V3 in key for key in convolutions) else TORCH_EPSILON
    norms = _order([key[: -len("running_mean")] for key in state if key.endswith("running_mean")])
    if not convolutions or len(convolutions) != len(norms):
        raise ValueError(
            f"{path}: expected a state dict with one batch norm per convolution (torchvision or timm), found "
            f"{len(convolutions)} convolutions and {len(norms)} batch norms"
        )
    _check_shapes(units, [tuple(state[key].shape) for key in convolutions], path)
    _check_shapes(plain, [tuple(state[key].shape) for key in with_bias], path)
    mean, deviation = (torch.tensor(v, dtype=torch.float64) for v in NORMALISATIONS[normalisation])
    for number, ((_, unit), key, norm) in enumerate(zip(units, convolutions, norms, strict=False)):
        weight = state[key].double()
        shift = torch.zeros(len(weight), dtype=torch.float64)
        if number == 0:  # theirs sees (x / 2 + 1 / 2 - mean) / deviation, where ours sees x
            shift = (weight * ((0.5 - mean) / deviation).view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
            weight = weight / (2 * deviation).view(1, 3, 1, 1)
        _write(unit, weight, shift, {field: state[norm + field].double() for field in NORM_FIELDS}, epsilon)
    for (_, conv), key in zip(plain, with_bias, strict=False):
        conv.load_state_dict({"weight": state[key], "bias": state[key.removesuffix("weight") + "bias"]})
    return len(units) + len(plain)


NORM_FIELDS = ("weight", "bias", "running_mean", "running_var")


@torch.no_grad()
def _write(unit: ConvNorm, weight: Tensor, shift: Tensor, norm: dict[str, Tensor], epsilon: float) -> None:
    """Convolution and batch norm as they were, with another epsilon, and a constant moved out of the convolution."""
    unit.conv.weight.copy_(weight)
    unit.norm.running_mean.copy_(norm["running_mean"] - shift)
    unit.norm.running_var.copy_(norm["running_var"])
    stretch = ((norm["running_var"] + unit.norm.eps) / (norm["running_var"] + epsilon)).sqrt()
    unit.norm.weight.copy_(norm["weight"] * stretch)
    unit.norm.bias.copy_(norm["bias"])


def _order(keys: list[str]) -> list[str]:
    """The keys of a state dict of torchvision or timm in the order that the layers stand in our backbones.

    Numbers count as numbers. timm: conv_stem and bn1 come first, conv_head and bn2 last; a block runs conv_pw, conv_dw,
    conv_pwl, or, where it has no conv_pwl, conv_dw, conv_pw; a squeeze-excite conv_reduce, conv_expand. torchvision's
    ShuffleNetV2: conv1 first, conv5 last, and branch2 (our `branch`) before branch1 (our `shortcut`).
    """
    expanding = {key.split("conv_pwl")[0] for key in keys if "conv_pwl" in key}

    def place(key: str) -> tuple:
        first = key.split(".")[0]
        part = 0 if first in ("conv_stem", "bn1", "conv1") else 2 if first in ("conv_head", "bn2", "conv5") else 1
        if "conv_pw." in key and key.split("conv_pw.")[0] in expanding:
            key = key.replace("conv_pw.", "conv_before.")
        key = key.replace("conv_reduce", "conv_a").replace("conv_expand", "conv_b")
        key = key.replace("branch2", "branch_a").replace("branch1", "branch_b")
        return part, [(int(word), "") if word.isdigit() else (-1, word) for word in key.split(".")]

    return sorted(keys, key=place)

"""MoveNet: backbone + FPN + four heads, as read from the graph of Google's Lightning v4, and the article's variant.

Presets: `lightning` and `thunder` are the official networks (weights come by `featherpose import`); `article` is the
ShuffleNetV2 net of the article; `lite` and `nano`, a narrower one, are ours (the bundled `nano` is `lite`'s on 128x128 since
its version 6). Every argument of `build` overrides its preset.
"""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from featherpose.models.backbones import build_backbone
from featherpose.models.heads import HEADS, Out
from featherpose.models.layers import ACTIVATIONS, initialise
from featherpose.models.necks import FPN, Context
from featherpose.skeletons import did_you_mean

PRESETS = {
    "lightning": {"backbone": "mobilenet_v2", "width": 1.0},
    "thunder": {"backbone": "mobilenet_v2", "width": 1.75},
    "article": {"backbone": "shufflenet_v2", "width": 0.75, "neck": {8: 32, 16: 64, 32: 64}, "sigmoid": "fast_sigmoid"},
    "lite": {
        "backbone": "mobilenet_v1", "width": 0.75, "backbone_arguments": {"layers": 12},
        "neck": {4: 32, 8: 48, 16: 64, 32: 64}, "heads": "two_level", "head_width": 64,
    },
    "nano": {
        "backbone": "mobilenet_v1", "width": 0.5, "backbone_arguments": {"layers": 12},
        "neck": {4: 24, 8: 32, 16: 40, 32: 40}, "heads": "two_level", "head_width": 40,
    },
}
"""name -> arguments of `build`. Lightning runs at 192 px, Thunder at 256."""

OFFICIAL_NECK = {4: 24, 8: 32, 16: 64, 32: 64}
"""Laterals of the official FPN at width 1: stride -> channels."""


class MoveNet(nn.Module):
    """Pictures to the four maps of codecs/movenet.py."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, heads: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.heads = heads

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """image: (B, 3, H, W) RGB, 0..255, H and W multiples of 32.

        Returns center (B, 1, H/4, W/4) and heatmap (B, K, H/4, W/4) in [0, 1], regression and offset
        (B, K, 2, H/4, W/4) in cells, x before y.
        """
        return self.heads(self.neck(self.backbone(image / 127.5 - 1)))


def build(
    *,
    joints: int = 17,
    preset: str | None = None,
    **arguments,
) -> MoveNet:
    """A network with random weights.

    preset: a key of PRESETS. Arguments: backbone, width, neck (dict stride -> lateral channels), context (how many
    blocks see the whole picture, necks.Context), heads (a key of HEADS), head_width, sigmoid ("sigmoid" or
    "fast_sigmoid"), act (a key of layers.ACTIVATIONS, for backbone, neck and stems of the heads instead of their own;
    MobileNetV3 and MicroNet do not take one), and `backbone_arguments` for the
    backbone's own. ValueError for unknown names.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"unknown preset '{preset}' of movenet{did_you_mean(preset, PRESETS)}")
    known = set(inspect.signature(_build).parameters) - {"joints"}
    for key in arguments:
        if key not in known:
            raise ValueError(f"network movenet: unknown key '{key}'{did_you_mean(key, known)}")
    return _build(joints=joints, **{**PRESETS.get(preset, {}), **arguments})


def _build(
    *,
    joints: int,
    backbone: str = "mobilenet_v2",
    width: float = 1.0,
    neck: dict | None = None,
    context: int = 0,
    heads: str = "movenet",
    head_width: int = 96,
    sigmoid: str = "sigmoid",
    act: str = "",
    backbone_arguments: dict | None = None,
) -> MoveNet:
    if act and act not in ACTIVATIONS:
        raise ValueError(f"unknown act '{act}' of movenet{did_you_mean(act, ACTIVATIONS)}")
    if sigmoid not in ("sigmoid", "fast_sigmoid"):
        raise ValueError(f"network movenet: sigmoid must be 'sigmoid' or 'fast_sigmoid', got '{sigmoid}'")
    if head_width < 1:
        raise ValueError(f"network movenet: head_width must be a number of channels, 1 or more, got {head_width}")
    if context < 0:
        raise ValueError(f"network movenet: context must be a number of blocks, 0 or more, got {context}")
    given = {"act": act} if act else {}
    body = build_backbone(backbone, width=width, **{**given, **(backbone_arguments or {})})
    channels = {int(stride): int(count) for stride, count in (neck or OFFICIAL_NECK).items()}
    pyramid = FPN(body.channels, channels=channels, context=context, **given)
    if heads not in HEADS:
        raise ValueError(f"unknown heads '{heads}' of movenet{did_you_mean(heads, HEADS)}")
    ends = HEADS[heads](pyramid.channels, joints, hidden=head_width, sigmoid=sigmoid, **given)
    network = MoveNet(body, pyramid, ends)
    initialise(network)
    for module in network.modules():
        if isinstance(module, (Context, Out)):
            module.initialise()
    return network

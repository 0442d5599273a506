"""Backbones: pictures to features at several strides.

Each has `channels` (dict stride -> channels of its features) and returns dict stride -> (B, C, H / stride, W / stride).
"""

from __future__ import annotations

from importlib import import_module

from featherpose.skeletons import did_you_mean

BACKBONES = {
    "micronet": "featherpose.models.backbones.micronet:MicroNet",
    "mobilenet_v1": "featherpose.models.backbones.mobilenet_v1:MobileNetV1",
    "mobilenet_v2": "featherpose.models.backbones.mobilenet_v2:MobileNetV2",
    "mobilenet_v3_large": "featherpose.models.backbones.mobilenet_v3:mobilenet_v3_large",
    "mobilenet_v3_small": "featherpose.models.backbones.mobilenet_v3:mobilenet_v3_small",
    "shufflenet_v2": "featherpose.models.backbones.shufflenet_v2:ShuffleNetV2",
}


def build_backbone(name: str, **arguments):
    """A backbone by name; ValueError for an unknown name."""
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone '{name}'{did_you_mean(name, BACKBONES)}")
    module, attribute = BACKBONES[name].split(":")
    return getattr(import_module(module), attribute)(**arguments)

"""Validation during training: the true metrics of evaluate, and pictures of what the network sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from featherpose.data.loader import Photos
from featherpose.data.sample import Sample
from featherpose.evaluate import Evaluation, evaluate
from featherpose.geometry import square_around
from featherpose.runtime.draw import draw_pose, sheet
from featherpose.runtime.predictor import Predictor
from featherpose.spec import ModelSpec


class NetworkBackend:
    """A network in memory as a runtime backend (see runtime/backends)."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        self.network = network.eval()
        self.spec = replace(spec, outputs="raw")

    @torch.no_grad()
    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """images: (B, H, W, 3) uint8 RGB; float32 maps by name."""
        device = next(self.network.parameters()).device
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()  # a view in channels-last order
        return {name: value.float().cpu().numpy() for name, value in self.network(x).items()}


def validate(
    network: nn.Module, spec: ModelSpec, samples: list[Sample], *, protocol: str, batch: int = 32
) -> Evaluation:
    """The figures of a network in memory on labelled photos."""
    return evaluate(Predictor(NetworkBackend(network, spec)), samples, protocol=protocol, batch=batch)


def picture(network: nn.Module, spec: ModelSpec, samples: list[Sample], photos: Photos) -> np.ndarray:
    """A sheet (H, W, 3) uint8 of predictions on the crops of some samples, joints above the spec's threshold."""
    predictor = Predictor(NetworkBackend(network, spec))
    tiles, captions = [], []
    for sample in samples:
        image = photos(sample)
        pose = predictor.look(image, square_around(sample.target_box(), spec.crop_margin))
        tiles.append(draw_pose(image, pose, spec.joint_threshold))
        captions.append(f"{sample.photo.name} {pose.pose_score:.2f}")
    return sheet(tiles, captions)

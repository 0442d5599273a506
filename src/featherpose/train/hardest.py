"""Of several ways of pasting limbs into a picture, the one that the current network finds hardest.

The adversary of Bin et al., "Adversarial Semantic Data Augmentation for Human Pose Estimation", ECCV 2020 (arXiv:2008.00697)
is a network that learns where to paste. This one learns nothing: it compares a few random ways.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def hardest(
    network: nn.Module, images: torch.Tensor, targets: dict[str, torch.Tensor], *, k: float = 7.0,
    amp: bool = False,
) -> torch.Tensor:  # fmt: skip
    """(B, H, W, 3): for each example the one of its N pictures with the largest error of the heatmaps, the first of equals.

    images: (B, N, H, W, 3) uint8 or float, 0..255. targets: `heatmap` and `heatmap_weight`, (B, K, h, w). k: emphasis of
    the peaks, (p - t)^2 (k t + 1). The network runs N times without gradients, with the batch norms' kept statistics,
    which do not move; each module's mode is as before.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    heatmap, weight = targets["heatmap"], targets["heatmap_weight"]
    errors = []
    for way in range(images.shape[1]):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
            found = network(images[:, way].permute(0, 3, 1, 2).float())["heatmap"].float()
        errors.append((weight * (found - heatmap) ** 2 * (k * heatmap + 1)).mean(dim=(1, 2, 3)))
    for module, training in modes:
        module.training = training
    worst = torch.stack(errors, dim=1).argmax(dim=1)
    return images[torch.arange(len(images), device=images.device), worst]

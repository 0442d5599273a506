"""What a network costs: multiply-accumulates and parameters."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def count_macs(network: nn.Module, size_wh: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions and dense layers for one picture of `size_wh` pixels."""
    total = 0

    def add(module, _, output):
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            total += output.numel() * module.in_channels // module.groups * kernel
        else:
            total += output.numel() * module.in_features

    handles = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    was_training = network.training
    network.eval()
    try:
        parameter = next(network.parameters())
        network(torch.zeros(1, 3, size_wh[1], size_wh[0], device=parameter.device))
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    return total


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers after batch norm is folded into its convolution (weight and bias per channel)."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return sum(p.numel() for p in network.parameters()) - sum(norm.weight.numel() for norm in norms)

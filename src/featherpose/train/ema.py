"""Averaged weights: what is validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """An exponential moving average of a network's weights and batch norm statistics.

    The decay grows from 0.1 towards `decay` over the first steps, so that the random start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves the average towards the network after its `step`-th step (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = [], []
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

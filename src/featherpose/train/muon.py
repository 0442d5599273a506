"""Muon beside AdamW: updates of dense layers are made orthogonal before they are applied."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/)."""
ITERATIONS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) with its singular values moved to about 1 (0.7 to 1.2), in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether a weight is a 1x1 convolution's (out, in / groups, 1, 1) with several of both, which Muon is for."""
    return parameter.ndim == 4 and parameter.shape[2:] == (1, 1) and min(parameter.shape[:2]) > 1


class Muon(torch.optim.AdamW):
    """AdamW, in whose groups with `muon` set the step is the orthogonalised momentum instead.

    The update has the root mean square of AdamW's (0.2 times the learning rate, Liu et al., "Muon is scalable for LLM
    training", 2025, section 2.2), so rates and decay found for AdamW hold. Momentum is Nesterov's, 0.95.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure=None):
        """One step of all groups; closure: computes the gradients anew and returns the loss, as for AdamW."""
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._orthogonal_step(group)
        return loss

    def _orthogonal_step(self, group: dict) -> None:
        """Each process makes its share of the updates orthogonal; the sum over all hands them around."""
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        updates = parameters[0].new_zeros(sum(parameter.numel() for parameter in parameters))
        places = updates.split([parameter.numel() for parameter in parameters])
        for number, (parameter, place) in enumerate(zip(parameters, places, strict=True)):
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momentum = state["momentum"].lerp_(parameter.grad, 1 - self.MOMENTUM)
            if number % world == rank:
                ahead = parameter.grad.lerp(momentum, self.MOMENTUM)
                place.copy_(orthogonal(ahead.flatten(1)).flatten())
        if world > 1:
            dist.all_reduce(updates)
        for parameter, update in zip(parameters, places, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-0.2 * group["lr"] * max(parameter.shape[:2]) ** 0.5)

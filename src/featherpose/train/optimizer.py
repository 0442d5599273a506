"""AdamW and its schedule."""

from __future__ import annotations

import math

import torch
from torch import nn

from featherpose.train.adversary import RATE
from featherpose.train.config import TrainRules
from featherpose.train.muon import Muon, is_matrix


def make_optimizer(
    network: nn.Module, rules: TrainRules, *, initialised: bool, criterion: nn.Module | None = None,
    adversary: nn.Module | None = None,
) -> torch.optim.Optimizer:
    """AdamW; batch norms and biases do not decay (Loshchilov and Hutter, ICLR 2019). Each group has its `peak` rate.

    initialised: the backbone has trained weights already and learns at `backbone_lr` times the rate. criterion: losses that
    may have parameters of their own, single numbers; they do not decay either. adversary: learns at its own rate.
    """
    muon = rules.optimizer == "muon"
    groups: dict[tuple[float, float, bool], list] = {}
    own = criterion.named_parameters() if criterion is not None else ()
    for name, parameter in (*network.named_parameters(), *own):
        if not parameter.requires_grad:
            continue
        decay = rules.weight_decay if parameter.ndim > 1 else 0.0
        peak = rules.lr * (rules.backbone_lr if name.startswith("backbone.") and initialised else 1.0)
        groups.setdefault((peak, decay, muon and is_matrix(parameter)), []).append(parameter)
    if adversary is not None:
        groups[RATE, 0.0, False] = [*groups.get((RATE, 0.0, False), []), *adversary.parameters()]
    return (Muon if muon else torch.optim.AdamW)(
        [
            {"params": p, "peak": peak, "lr": peak, "weight_decay": decay, "muon": dense}
            for (peak, decay, dense), p in groups.items()
        ],
        betas=rules.betas, fused=True,
    )  # fmt: skip


def lr_factor(rules: TrainRules, step: int, total: int) -> float:
    """Factor on the peak rates at a step, counted from 0, of `total`: linear warm-up, then a cosine to `final_lr`.

    The warm-up never takes more than a quarter of the run, so that short runs get to learn at all.
    """
    warmup = min(rules.warmup, total // 4)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return rules.final_lr + (1 - rules.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

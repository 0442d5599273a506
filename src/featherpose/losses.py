"""Losses by name: each takes the maps of a network and the targets of its codec, and gives one number.

The names of maps, targets and loss weights are the same (contract 1 of the design).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from featherpose.skeletons import Skeleton, did_you_mean


def weighted_mse(map_: Tensor, target: Tensor, weight: Tensor, *, k: float) -> Tensor:
    """(p - t)^2 (k t + 1), summed and divided by the sum of t^2 (k t + 1): 1 for an empty map, 0 for a perfect one.

    All (B, C, H, W); the weight multiplies each cell. Dividing by the targets' own mass keeps the value comparable
    between resolutions and curves, and near the scale of the L1 losses in cells. Source: the article, section 4 of
    its recipe (the division is ours).
    """
    emphasis = (k * target + 1) * weight
    mass = (emphasis * target**2).sum()
    return (emphasis * (map_ - target) ** 2).sum() / mass.clamp_min(1.0)


def weighted_l1(map_: Tensor, target: Tensor, weight: Tensor, *, k: float) -> Tensor:
    """|p - t| (k t + 1), summed and divided by the sum of t (k t + 1); shapes as `weighted_mse`."""
    emphasis = (k * target + 1) * weight
    return (emphasis * (map_ - target).abs()).sum() / (emphasis * target).sum().clamp_min(1.0)


CLAMP = 1e-4
"""Probabilities are kept this far from 0 and 1 where a logarithm is taken of them."""


def focal(map_: Tensor, target: Tensor, weight: Tensor, **_) -> Tensor:
    """Penalty-reduced focal loss, divided by the number of peaks; shapes as `weighted_mse`.

    -(1 - p)^2 log p where t is 1, -(1 - t)^4 p^2 log(1 - p) elsewhere. Law and Deng, CornerNet, ECCV 2018, equation 1.
    It wants peaks that are exactly 1 (codec.subcell = false); its maxima are sharper than the targets' curve.
    """
    p = map_.clamp(CLAMP, 1 - CLAMP)
    peak = (target >= 1).float() * weight
    at_peak = (1 - p) ** 2 * p.log() * peak
    elsewhere = (1 - target) ** 4 * p**2 * (1 - p).log() * weight  # 0 at peaks
    return -(at_peak + elsewhere).sum() / peak.sum().clamp_min(1.0)


def quality_focal(map_: Tensor, target: Tensor, weight: Tensor, **_) -> Tensor:
    """|t - p|^2 times the cross entropy with a soft target, divided by the sum of t; shapes as `weighted_mse`.

    0 only where the map is the target, as for the MSE, but with gradients that do not vanish where a sigmoid is surely
    wrong. Li et al., Generalized Focal Loss, NeurIPS 2020, equation 5.
    """
    p = map_.clamp(CLAMP, 1 - CLAMP)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    return ((target - p) ** 2 * entropy * weight).sum() / (target * weight).sum().clamp_min(1.0)


def cross_entropy(map_: Tensor, target: Tensor, weight: Tensor, *, k: float) -> Tensor:
    """Binary cross entropy with a soft target above the target's own, emphasis k t + 1, divided by the sum of t."""
    p = map_.clamp(CLAMP, 1 - CLAMP)
    emphasis = (k * target + 1) * weight
    entropy = -(target * p.log() + (1 - target) * (1 - p).log())
    own = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target))
    return (emphasis * (entropy - own)).sum() / (emphasis * target).sum().clamp_min(1.0)


FORMS = {
    "mse": weighted_mse,
    "l1": weighted_l1,
    "focal": focal,
    "quality_focal": quality_focal,
    "cross_entropy": cross_entropy,
}
"""How a map of probabilities is held against its target (loss.form)."""


def masked_l1(map_: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean |p - t| in cells over x and y by weight. map_, target: (B, K, 2, H, W); weight: (B, K, H, W)."""
    error = (map_ - target).abs().sum(dim=2) * weight
    return error.sum() / (2 * weight.sum()).clamp_min(1.0)


def heatmap_loss(maps: dict, targets: dict, *, form: str, k: float, joint_weights: Tensor, **_) -> Tensor:
    weight = targets["heatmap_weight"] * joint_weights[None, :, None, None]
    return FORMS[form](maps["heatmap"].float(), targets["heatmap"], weight, k=k)


def center_loss(maps: dict, targets: dict, *, form: str, k: float, **_) -> Tensor:
    return FORMS[form](maps["center"].float(), targets["center"], targets["center_weight"], k=k)


def regression_loss(maps: dict, targets: dict, *, joint_weights: Tensor, **_) -> Tensor:
    weight = targets["regression_weight"] * joint_weights[None, :, None, None]
    return masked_l1(maps["regression"].float(), targets["regression"], weight)


def offset_loss(maps: dict, targets: dict, *, joint_weights: Tensor, **_) -> Tensor:
    weight = targets["offset_weight"] * joint_weights[None, :, None, None]
    return masked_l1(maps["offset"].float(), targets["offset"], weight)


def bone_loss(maps: dict, targets: dict, *, bones: Tensor, **_) -> Tensor:
    """L1 between predicted and true bone vectors of the regression, in cells, where both ends are labelled."""
    first, second = bones[:, 0], bones[:, 1]
    predicted, true = maps["regression"].float(), targets["regression"]
    weight = targets["regression_weight"][:, first] * targets["regression_weight"][:, second]
    return masked_l1(predicted[:, first] - predicted[:, second], true[:, first] - true[:, second], weight)


LOSSES = {
    "heatmap": heatmap_loss,
    "center": center_loss,
    "regression": regression_loss,
    "offset": offset_loss,
    "bone": bone_loss,
}


class Criterion:
    """The weighted sum of named losses.

    weights: loss name -> weight, 0 leaves it out. form: a key of FORMS, for the heatmap and the centre. k: emphasis of
    peaks (article: 5 to 10; the focal ones have none). joint_weights: joint name -> factor, 1 where not named. Raises ValueError for unknown names or negative weights.
    """

    def __init__(
        self, weights: dict[str, float], skeleton: Skeleton, *, form: str = "mse", k: float = 7.0,
        joint_weights: dict | None = None,
    ):  # fmt: skip
        for name, weight in weights.items():
            if name not in LOSSES:
                raise ValueError(f"unknown loss '{name}'{did_you_mean(name, LOSSES)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss weight of '{name}' must be a number from 0 on, got {weight}")
        if form not in FORMS:
            raise ValueError(f"unknown loss.form '{form}'{did_you_mean(form, FORMS)}")
        if not 0 <= k < math.inf:
            raise ValueError(f"loss.k must be a number from 0 on, got {k}")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError("every loss has weight 0: nothing would be learned")
        factors = torch.ones(len(skeleton))
        for joint, factor in (joint_weights or {}).items():
            if not 0 <= factor < math.inf:
                raise ValueError(f"loss.joint_weights of '{joint}' must be a number from 0 on, got {factor}")
            factors[skeleton.index(joint)] = float(factor)
        bones = torch.from_numpy(skeleton.bone_index())
        self.options = {"form": form, "k": k, "joint_weights": factors, "bones": bones}

    def to(self, device) -> Criterion:
        """Moves the constants to a device."""
        self.options = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in self.options.items()}
        return self

    def __call__(self, maps: dict[str, Tensor], targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The total to minimise, and each part before its weight (detached)."""
        parts = {name: LOSSES[name](maps, targets, **self.options) for name in self.weights}
        total = sum(self.weights[name] * part for name, part in parts.items())
        return total, {name: part.detach() for name, part in parts.items()}

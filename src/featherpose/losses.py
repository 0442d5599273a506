"""Losses by name: each takes the maps of a network and the targets of its codec, and gives one number.

The names of maps, targets and loss weights are the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

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
"""Probabilities are kept this far from 0 and 1 where a logarithm is taken of them, by `focal` and by the choices."""
NEARLY = 1e-7
"""The same for the cross entropies: the next number below 1 in float32 is 6e-8 away. The logistic function is there at a
logit of 16, `fast_sigmoid` never in practice."""


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
    wrong, up to a logit of 16: see NEARLY. Li et al., Generalized Focal Loss, NeurIPS 2020, equation 5.
    """
    entropy = _entropy(map_, target)
    return ((target - map_) ** 2 * entropy * weight).sum() / (target * weight).sum().clamp_min(1.0)


def cross_entropy(map_: Tensor, target: Tensor, weight: Tensor, *, k: float) -> Tensor:
    """Binary cross entropy with a soft target above the target's own, emphasis k t + 1, divided by the sum of t.

    By a sigmoid's logit its gradient is the error itself, up to a logit of 16: see NEARLY.
    """
    emphasis = (k * target + 1) * weight
    entropy = _entropy(map_, target)
    own = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target))
    return (emphasis * (entropy - own)).sum() / (emphasis * target).sum().clamp_min(1.0)


def _entropy(map_: Tensor, target: Tensor) -> Tensor:
    """The cross entropy of each cell's probability with its target."""
    p = map_.clamp(NEARLY, 1 - NEARLY)
    return -(target * p.log() + (1 - target) * (1 - p).log())


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


def at_twins(heatmap: Tensor, twins: Tensor, swap: float) -> Tensor | float:
    """1 + swap times the heatmaps (B, K, H, W) of each joint's mirror twin: how much a cell counts for telling them apart.

    The emphasis k weighs a left ankle that is missed k + 1 times as much as one seen in the right ankle's place, so that
    showing both costs little. With swap = k both mistakes cost the same. A joint without a twin keeps its 1. Ours.
    """
    if not swap:
        return 1.0
    lone = twins == torch.arange(len(twins), device=twins.device)
    return 1 + swap * heatmap[:, twins].masked_fill(lone[None, :, None, None], 0)


def heatmap_loss(
    maps: dict, targets: dict, *, form: str, k: float, swap: float, twins: Tensor, joint_weights: Tensor, **_
) -> Tensor:
    weight = targets["heatmap_weight"] * joint_weights[None, :, None, None]
    weight = weight * at_twins(targets["heatmap"], twins, swap)
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


def distillation_loss(maps: dict, targets: dict, *, k: float, joint_weights: Tensor, **_) -> Tensor:
    """The heatmap's MSE and the offset's L1 against what a teacher saw when the data were labelled.

    Zhang, Zhu and Ye, Fast Human Pose Estimation, CVPR 2019: alpha MSE(truth) + (1 - alpha) MSE(teacher), alpha = .5,
    that is losses.heatmap = .5 and losses.distillation = .5. The MSE is `weighted_mse`, whatever loss.form is.
    """
    heatmap_weight = targets["teacher_heatmap_weight"] * joint_weights[None, :, None, None]
    offset_weight = targets["teacher_offset_weight"] * joint_weights[None, :, None, None]
    seen = weighted_mse(maps["heatmap"].float(), targets["teacher_heatmap"], heatmap_weight, k=k)
    return seen + masked_l1(maps["offset"].float(), targets["teacher_offset"], offset_weight)


IMITATED = {"heatmap": 1.0, "center": 1.0, "regression": 0.1, "offset": 1.0}
"""What each map of a teacher network counts: the article's first weights."""
SURE = 0.1
"""Regression and offset are imitated where the teacher's centre or heatmap is at least this. A guess: with less, the
many cells of the background would outweigh the few that are read."""


def imitation_loss(
    maps: dict, targets: dict, *, k: float, swap: float, twins: Tensor, joint_weights: Tensor, **_
) -> Tensor:
    """The maps that a teacher gives for the same pictures, weighted as in IMITATED.

    targets: the teacher's maps as `imitation_<name>`, all four or the heatmap alone, of the pictures with the numbers
    `imitation_asked`, of all if that is not there; no maps where it was asked about none. Regression and offset count as
    far as the teacher's centre and heatmap are sure of the cell, the heatmap by `imitation_weight`, if that is there.
    """
    if "imitation_heatmap" not in targets:
        return 0 * sum(maps[name].float().sum() for name in IMITATED)  # so that every map has a gradient in every process
    if "imitation_asked" in targets:
        maps = {name: maps[name][targets["imitation_asked"]] for name in IMITATED}
    factors = joint_weights[None, :, None, None]
    heatmap = targets["imitation_heatmap"]
    weight = factors * at_twins(heatmap, twins, swap) * targets.get("imitation_weight", 1.0)
    parts = {"heatmap": weighted_mse(maps["heatmap"].float(), heatmap, weight, k=k)}
    if "imitation_center" in targets:
        center = targets["imitation_center"]
        here, somebody = (torch.where(map_ >= SURE, map_, 0) * factors for map_ in (heatmap, center))  # (B, K, H, W)
        parts["center"] = weighted_mse(maps["center"].float(), center, torch.ones_like(center), k=k)
        parts["regression"] = masked_l1(maps["regression"].float(), targets["imitation_regression"], somebody)
        parts["offset"] = masked_l1(maps["offset"].float(), targets["imitation_offset"], here)
    return sum(IMITATED[name] * part for name, part in parts.items())


def mirrored(maps: dict[str, Tensor], twins: Tensor) -> dict[str, Tensor]:
    """The maps IMITATED of pictures that are mirrored left to right, from the maps of the pictures themselves, or back.

    twins: (K,) index of each joint's mirror twin. A way to the right becomes one to the left; an offset counts from the
    cell's left edge again, so that x becomes 1 - x.
    """
    flipped = {name: maps[name].flip(-1) for name in IMITATED}
    for name in ("heatmap", "regression", "offset"):
        flipped[name] = flipped[name][:, twins]
    for name, start in (("regression", 0.0), ("offset", 1.0)):
        x, y = flipped[name].unbind(dim=2)
        flipped[name] = torch.stack([start - x, y], dim=2)
    return flipped


def mirror_loss(maps: dict, targets: dict, **options) -> Tensor:
    """What the network itself, as it is now, sees in the mirrored pictures, mirrored back, as the teacher of `imitation_loss`.

    targets: those maps as `mirror_<name>`, without a gradient. Ours; that a mirrored picture should be answered by the
    mirrored answer is used at test time since Newell et al., Stacked Hourglass Networks, ECCV 2016.
    """
    return imitation_loss(maps, {f"imitation_{name}": targets[f"mirror_{name}"] for name in IMITATED}, **options)


NEAR = 3
"""Cells: how far from a joint's own cell the loss `oks` looks for the best one. A guess: what is farther off is the
heatmap's business."""
VOTE_FLOOR = 1e-6
"""Added to the weight of every vote: more than the decoder adds, so that gradients stay small where the heatmap is near 0."""


def oks_loss(maps: dict, targets: dict, *, vote_radius: int, **_) -> Tensor:
    """1 - OKS of the target's joints as the decoder would read them (codecs/movenet.py) from the cells around the truth.

    The best cell within NEAR of a joint's own is taken as it is, then the cells within vote_radius of it say where the
    joint is, by their offsets and the square of their heatmaps, which both learn from the error in OKS's own measure:
    most where it is one spread (2 sigma sqrt(area)), nothing where it is hopeless. OKS as a loss: Maji et al., YOLO-Pose,
    CVPR workshops 2022, equation 5; on votes it is ours. Within a person joints count by `target_trust`, people by the
    most of theirs.
    """
    heatmap, offset = maps["heatmap"].float(), maps["offset"].float()  # (B, K, H, W), (B, K, 2, H, W)
    height, width = heatmap.shape[-2:]
    truth, spread, trust = _target_joints(targets, width, height)

    place, inside, _ = _cells_around(truth.long(), NEAR, width, height)
    seen = heatmap.detach().flatten(2).gather(2, place).masked_fill(~inside, -1)
    best = place.gather(2, seen.argmax(dim=2, keepdim=True))  # (B, K, 1)
    best = torch.cat([best % width, best // width], dim=2)
    place, inside, corner = _cells_around(best, vote_radius, width, height)
    weight = (heatmap.flatten(2).gather(2, place) ** 2 + VOTE_FLOOR) * inside
    votes = torch.stack([offset[:, :, axis].flatten(2).gather(2, place) for axis in (0, 1)], dim=3) + corner
    found = (votes * weight[..., None]).sum(dim=2) / weight.sum(dim=2, keepdim=True)
    lost = 1 - torch.exp(-((found - truth) ** 2).sum(dim=2) / (2 * spread**2))
    return _mean_over_people(lost, trust)


CHOICE_SHARPNESS = 4.0
"""The maximum of a map is relaxed to a softmax: its values to this power, over their sum. A guess: at 4 a second hill
that is half as high still has 1 part in 16, and 2000 cells of .02 have together 1 in 1000 of one cell of .5."""
CHOICE_FLOOR = 0.05
"""Added to the chance of the right place, so that the hopeless and the wrongly labelled do not pull the most."""
CHOICE_REACH = 1.5
"""Cells around the truth that are as right as the truth: the last pixels are the business of `oks`."""


def _missed(score: Tensor, place: Tensor, spread: Tensor) -> Tensor:
    """-log of the chance that a softmax over the logarithms of scores (..., H, W) chooses a cell near `place` (..., 2).

    place: cells, continuous. A cell is right within CHOICE_REACH, beyond it as exp(-d^2 / (2 spread^2)); spread: (...).
    From 0 to -log(CHOICE_FLOOR / (1 + CHOICE_FLOOR)).
    """
    height, width = score.shape[-2:]
    away = (_distance(place - 0.5, width, height) - CHOICE_REACH).clamp_min(0) / spread[..., None, None]
    chance = torch.log_softmax((CHOICE_SHARPNESS * score).flatten(-2), dim=-1)
    right = (chance - 0.5 * away.flatten(-2) ** 2).logsumexp(dim=-1).exp()
    return -((right + CHOICE_FLOOR) / (1 + CHOICE_FLOOR)).log()


def _distance(point: Tensor, width: int, height: int) -> Tensor:
    """(..., H, W) distances of the cells of a grid from points (..., 2) in cell indices."""
    columns, rows = (torch.arange(n, device=point.device, dtype=point.dtype) for n in (width, height))
    dx, dy = columns - point[..., :1], rows - point[..., 1:]  # (..., W), (..., H)
    return (dx[..., None, :] ** 2 + dy[..., :, None] ** 2 + 1e-6).sqrt()  # with a gradient at 0


def joint_choice_loss(maps: dict, targets: dict, *, softening: float, **_) -> Tensor:
    """-log of the chance that decoding takes each joint of the target where it is, and not its twin or a neighbour's.

    Decoding takes the maximum of the heatmap over the distance from where the regression of the person's middle expects the
    joint, plus `softening`; here it is a softmax, so that heatmap and regression learn from every place that competes. The
    MSE asks each cell for its own value and does not know which of two hills wins. People and joints count as in `oks_loss`.
    Ours; a soft maximum over a heatmap as the loss of a joint: Nibali et al., Numerical Coordinate Regression, 2018.
    """
    heatmap = maps["heatmap"].float()
    height, width = heatmap.shape[-2:]
    truth, spread, trust = _target_joints(targets, width, height)
    cell = targets["target_middle"].nan_to_num().floor().long()  # (B, 2), in the grid as its joints are
    here = (cell[:, 1] * width + cell[:, 0])[:, None, None, None].expand(*maps["regression"].shape[:3], 1)
    expected = maps["regression"].float().flatten(3).gather(3, here)[..., 0] + cell[:, None]  # (B, K, 2) cell indices
    score = heatmap.clamp_min(CLAMP).log() - (_distance(expected, width, height) + softening).log()
    lost = _missed(score, truth, spread.clamp_min(1))
    return _mean_over_people(lost, trust)


def person_choice_loss(maps: dict, targets: dict, *, center_softening: float, **_) -> Tensor:
    """-log of the chance that decoding takes the middle of the target, and not of somebody else in the picture.

    As `joint_choice_loss`, for the maximum of the centre over the distance from the middle of the picture, plus
    `center_softening`.
    Right are the cells within CHOICE_REACH of the target's middle, and beyond it within about a tenth of its box's side.
    """
    center = maps["center"].float()[:, 0]  # (B, H, W)
    height, width = center.shape[-2:]
    known = targets["target_middle"].isfinite().all(dim=1)
    trust = targets["target_trust"].amax(dim=1) * known  # (B,)
    middle = torch.where(known[:, None], targets["target_middle"], 0)
    low, high = targets["target_box"].nan_to_num().split(2, dim=1)
    spread = (0.1 * (high - low).clamp_min(0).prod(dim=1).sqrt()).clamp_min(1)
    focus = center.new_tensor([width / 2, height / 2])
    score = center.clamp_min(CLAMP).log() - (_distance(focus, width, height) + center_softening).log()
    lost = _missed(score, middle, spread)
    return (lost * trust).sum() / trust.sum().clamp_min(1.0)


def _target_joints(targets: dict, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """The target's joints (B, K, 2), their spread and trust (B, K); trust 0, and numbers, for those not in the grid."""
    truth, spread = targets["target_cells"], targets["target_spread"]
    size = truth.new_tensor([width, height])
    counts = ((truth >= 0) & (truth < size)).all(dim=2) & (spread > 0)  # NaN is neither
    return torch.where(counts[..., None], truth, 0), torch.where(counts, spread, 1), targets["target_trust"] * counts


def _mean_over_people(lost: Tensor, trust: Tensor) -> Tensor:
    """The mean over people, who count by the most of their trust, of the mean over joints, both (B, K)."""
    of_person = (lost * trust).sum(dim=1) / trust.sum(dim=1).clamp_min(1e-6)  # (B,)
    surest = trust.amax(dim=1)  # one joint that stands makes the person stand
    return (of_person * surest).sum() / surest.sum().clamp_min(1.0)


def _cells_around(cell: Tensor, reach: int, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """The square of cells around (B, K, 2) cells (x, y): their numbers in a flat map, those outside the grid at its rim;
    whether they are inside, both (B, K, S); and their corners (B, K, S, 2)."""
    steps = torch.arange(-reach, reach + 1, device=cell.device)
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    corner = cell[:, :, None] + torch.stack([across.flatten(), down.flatten()], dim=1)
    x, y = corner.unbind(dim=3)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return y.clamp(0, height - 1) * width + x.clamp(0, width - 1), inside, corner


LOSSES = {
    "heatmap": heatmap_loss,
    "center": center_loss,
    "regression": regression_loss,
    "offset": offset_loss,
    "bone": bone_loss,
    "distillation": distillation_loss,
    "imitation": imitation_loss,
    "mirror": mirror_loss,
    "oks": oks_loss,
    "joint_choice": joint_choice_loss,
    "person_choice": person_choice_loss,
}


TINY = 1e-4
"""Added to p^2 where a loss is divided by it, so that one which stays 0 for long cannot end in a division by 0."""


class Criterion(nn.Module):
    """The weighted sum of named losses.

    weights: loss name -> weight, 0 leaves it out. form: a key of FORMS, for the heatmap and the centre. k: emphasis of
    peaks (article: 5 to 10; the focal ones have none). swap: emphasis of a joint's mirror twin, see `at_twins`.
    joint_weights: joint name -> factor, 1 where not named. vote_radius, softening, center_softening (0: as softening): the
    codec's, for `oks` and for the choices.
    automatic: the sum is 0.5 / p^2 L + log(1 + p^2) over the losses L with learned p, which are this module's
    parameters; `weights` are where 0.5 / p^2 begins (Liebel and Koerner, Auxiliary Tasks in Multi-task Learning, 2018).
    Raises ValueError for unknown names or negative weights.
    """

    def __init__(
        self, weights: dict[str, float], skeleton: Skeleton, *, form: str = "mse", k: float = 7.0, swap: float = 0.0,
        joint_weights: dict | None = None, automatic: bool = False, vote_radius: int = 0,
        softening: float = 1.8, center_softening: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        for name, weight in weights.items():
            if name not in LOSSES:
                raise ValueError(f"unknown loss '{name}'{did_you_mean(name, LOSSES)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss weight of '{name}' must be a number from 0 on, got {weight}")
        if form not in FORMS:
            raise ValueError(f"unknown loss.form '{form}'{did_you_mean(form, FORMS)}")
        if not 0 <= k < math.inf:
            raise ValueError(f"loss.k must be a number from 0 on, got {k}")
        if not 0 <= swap < math.inf:
            raise ValueError(f"loss.swap must be a number from 0 on, got {swap}")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ValueError("every loss has weight 0: nothing would be learned")
        factors = torch.ones(len(skeleton))
        for joint, factor in (joint_weights or {}).items():
            if not 0 <= factor < math.inf:
                raise ValueError(f"loss.joint_weights of '{joint}' must be a number from 0 on, got {factor}")
            factors[skeleton.index(joint)] = float(factor)
        bones = torch.from_numpy(skeleton.bone_index())
        twins = torch.as_tensor(skeleton.flip_index())
        self.options = {
            "form": form, "k": k, "swap": swap, "twins": twins, "joint_weights": factors, "bones": bones,
            "vote_radius": vote_radius, "softening": softening, "center_softening": center_softening or softening,
        }  # fmt: skip
        begin = {name: nn.Parameter(torch.tensor(math.sqrt(0.5 / weight))) for name, weight in self.weights.items()}
        self.p = nn.ParameterDict(begin if automatic else {})

    def to(self, device) -> Criterion:
        """Moves constants and parameters to a device."""
        self.options = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in self.options.items()}
        return super().to(device)

    def forward(self, maps: dict[str, Tensor], targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The total to minimise, and each part before its weight (detached)."""
        parts = {name: LOSSES[name](maps, targets, **self.options) for name in self.weights}
        if len(self.p):
            squares = {name: p**2 for name, p in self.p.items()}
            total = sum(0.5 / (squares[name] + TINY) * part + squares[name].log1p() for name, part in parts.items())
        else:
            total = sum(self.weights[name] * part for name, part in parts.items())
        return total, {name: part.detach() for name, part in parts.items()}

    def learned_weights(self) -> dict[str, float]:
        """0.5 / p^2 of each loss as it is now; empty unless automatic."""
        return {name: float(0.5 / (p.detach() ** 2 + TINY)) for name, p in self.p.items()}

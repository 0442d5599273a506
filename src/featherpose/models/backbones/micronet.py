"""MicroNet (Li et al., ICCV 2021, arXiv:2108.05894): factorised convolutions and Dynamic Shift-Max, 4 to 21 MMAC.

Pointwise convolutions are grouped, depthwise ones split into k x 1 and 1 x k (section 3); Dynamic Shift-Max mixes
neighbouring groups with weights that depend on the picture (section 4). Channel counts, groups and the order of the
shuffles are those of the authors' networks (github.com/liyunsheng13/micronet at 044a2ba), which the paper leaves open.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from featherpose.models.layers import TF_EPSILON, TF_MOMENTUM, ConvNorm, make_divisible, run_tapped
from featherpose.skeletons import did_you_mean


class Row(NamedTuple):
    """One block, at width 1."""

    stride: int
    channels: int
    kernel: int
    expansion: tuple[int, int]
    """In the k x 1 and in the 1 x k convolution (Lite block), or (1, that of the first pointwise convolution)."""
    first: tuple[int, int]
    """(groups of the first pointwise convolution, groups of its shift). (0, groups): a Lite block has no first one."""
    second: tuple[int, int]
    """(groups, groups of its shift) of the last pointwise convolution. (0, 0): the block is one pointwise convolution."""
    dynamic: tuple[int, int, int]
    """Dynamic Shift-Max after each of the three convolutions: 2 maximum of two, 1 one sum alone, 0 none."""
    squeeze: int
    """1 or 2: times SQUEEZE channels per squeezed channel."""


M0 = (
    Row(2, 8, 3, (2, 2), (0, 4), (2, 2), (2, 0, 1), 1),
    Row(2, 12, 3, (2, 2), (0, 8), (4, 4), (2, 2, 1), 1),
    Row(2, 16, 5, (2, 2), (0, 12), (4, 4), (2, 2, 1), 1),
    Row(1, 32, 5, (1, 4), (4, 4), (4, 4), (2, 2, 1), 1),
    Row(2, 64, 5, (1, 4), (8, 8), (8, 8), (2, 2, 1), 1),
    Row(1, 96, 3, (1, 4), (8, 8), (8, 8), (2, 2, 1), 2),
    Row(1, 384, 3, (1, 4), (12, 12), (0, 0), (2, 2, 1), 2),
)
M1 = (
    Row(2, 8, 3, (2, 2), (0, 6), (2, 2), (2, 0, 1), 1),
    Row(2, 16, 3, (2, 2), (0, 8), (4, 4), (2, 2, 1), 1),
    Row(2, 16, 5, (2, 2), (0, 16), (4, 4), (2, 2, 1), 1),
    Row(1, 32, 5, (1, 6), (4, 4), (4, 4), (2, 2, 1), 1),
    Row(2, 64, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 1),
    Row(1, 96, 3, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    Row(1, 576, 3, (1, 6), (12, 12), (0, 0), (2, 2, 1), 2),
)
M2 = (
    Row(2, 12, 3, (2, 2), (0, 8), (4, 4), (2, 0, 1), 1),
    Row(2, 16, 3, (2, 2), (0, 12), (4, 4), (2, 2, 1), 1),
    Row(1, 24, 3, (2, 2), (0, 16), (4, 4), (2, 2, 1), 1),
    Row(2, 32, 5, (1, 6), (6, 6), (4, 4), (2, 2, 1), 1),
    Row(1, 32, 5, (1, 6), (8, 8), (4, 4), (2, 2, 1), 2),
    Row(1, 64, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    Row(2, 96, 5, (1, 6), (8, 8), (8, 8), (2, 2, 1), 2),
    Row(1, 128, 3, (1, 6), (12, 12), (8, 8), (2, 2, 1), 2),
    Row(1, 768, 3, (1, 6), (16, 16), (0, 0), (2, 2, 1), 2),
)
M3 = (
    Row(2, 16, 3, (2, 2), (0, 12), (4, 4), (0, 2, 0), 1),
    Row(2, 24, 3, (2, 2), (0, 16), (4, 4), (0, 2, 0), 1),
    Row(1, 24, 3, (2, 2), (0, 24), (4, 4), (0, 2, 0), 1),
    Row(2, 32, 5, (1, 6), (6, 6), (4, 4), (0, 2, 0), 1),
    Row(1, 32, 5, (1, 6), (8, 8), (4, 4), (0, 2, 0), 2),
    Row(1, 64, 5, (1, 6), (8, 8), (8, 8), (0, 2, 0), 2),
    Row(1, 80, 5, (1, 6), (8, 8), (8, 8), (0, 2, 0), 2),
    Row(1, 80, 5, (1, 6), (10, 10), (8, 8), (0, 2, 0), 2),
    Row(2, 120, 5, (1, 6), (10, 10), (10, 10), (0, 2, 0), 2),
    Row(1, 120, 5, (1, 6), (12, 12), (10, 10), (0, 2, 0), 2),
    Row(1, 144, 3, (1, 6), (12, 12), (12, 12), (0, 2, 0), 2),
    Row(1, 864, 3, (1, 6), (12, 12), (0, 0), (0, 2, 0), 2),
)


class Variant(NamedTuple):
    rows: tuple[Row, ...]
    stem: tuple[int, int]
    """Channels of the stem's 3 x 1 convolution, and times how many come out of its 1 x 3."""
    start: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 1.0), (0.0, 0.0))
    """Where a maximum of two starts: weights of the channel itself in both sums, and of the shifted one."""


VARIANTS = {
    "m0": Variant(M0, (2, 2)),
    "m1": Variant(M1, (3, 2)),
    "m2": Variant(M2, (4, 2)),
    "m3": Variant(M3, (4, 3), ((1.0, 0.5), (0.0, 0.5))),
}

SQUEEZE = 8
"""Dynamic Shift-Max: channels per squeezed channel, times the row's own."""
REACH = 2.0
"""Weights of Dynamic Shift-Max lie within their start +- this."""


class LineConv(ConvNorm):
    """One half of a factorised depthwise convolution, symmetric padding: k x 1 (`upright`) or 1 x k, batch norm."""

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int, groups: int, upright: bool):
        nn.Sequential.__init__(self)
        way = slice(None, None, 1 if upright else -1)
        self.conv = nn.Conv2d(cin, cout, (kernel, 1)[way], (stride, 1)[way], (kernel // 2, 0)[way], groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(cout, eps=TF_EPSILON, momentum=TF_MOMENTUM)


class DepthwisePair(nn.Sequential):
    """k x 1, then 1 x k: (B, C, H, W) -> (B, C * expansions, H / stride, W / stride) (equation 3)."""

    def __init__(self, cin: int, kernel: int, *, stride: int, expansion: tuple[int, int] = (1, 1)):
        hidden = cin * expansion[0]
        super().__init__(
            LineConv(cin, hidden, kernel, stride=stride, groups=cin, upright=True),
            LineConv(hidden, hidden * expansion[1], kernel, stride=stride, groups=hidden, upright=False),
        )


class Shuffle(nn.Module):
    """Takes one channel of each group in turn: (B, C, H, W) -> the same."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class ShiftMax(nn.Module):
    """Dynamic Shift-Max (equations 5 to 7): each channel becomes max over k of a_k x + b_k shifted(x).

    The a and b depend on the means of all channels, by two dense layers and a hard sigmoid. `shifted` is the channel of
    the next of `groups` groups, one further in it, as in the authors' networks. (B, C, H, W) -> the same.
    """

    def __init__(self, channels: int, *, groups: int, squeeze: int, start=((1.0,), (0.0,))):
        """start: initial a_k and b_k, one or two each; one makes the layer a sum without a maximum."""
        super().__init__()
        self.sums = len(start[0])
        squeezed = make_divisible(channels // squeeze, 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Linear(channels, squeezed)
        self.relu = nn.ReLU(inplace=True)
        self.weigh = nn.Linear(squeezed, 2 * self.sums * channels)
        self.gate = nn.Hardsigmoid()
        for layer in (self.reduce, self.weigh):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        numbers = torch.arange(channels).view(groups, -1).roll((-1, -1), (0, 1)).flatten()
        self.register_buffer("shifted", numbers, persistent=False)
        pairs = [value for pair in zip(*start, strict=True) for value in pair]  # a1, b1, a2, b2
        self.register_buffer("start", torch.tensor(pairs).view(1, -1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        means = self.pool(x).flatten(1)
        weights = self.gate(self.weigh(self.relu(self.reduce(means)))) - 0.5  # (B, 2 * sums * C)
        weights = (self.start + 2 * REACH * weights.unflatten(1, (2 * self.sums, -1)))[..., None, None]
        other = x[:, self.shifted]
        result = x * weights[:, 0] + other * weights[:, 1]
        if self.sums == 2:
            result = torch.maximum(result, x * weights[:, 2] + other * weights[:, 3])
        return result


def _pointwise(cin: int, cout: int, groups: int) -> ConvNorm:
    return ConvNorm(cin, cout, 1, groups=groups, act="linear")


class MicroBlock(nn.Sequential):
    """One row: a Lite block (Figure 3, left to right: a, b), a whole one (c), or a pointwise convolution alone."""

    def __init__(self, cin: int, cout: int, row: Row, *, start=((1.0, 1.0), (0.0, 0.0))):
        super().__init__()
        self.residual = row.stride == 1 and cin == cout
        hidden = cin * math.prod(row.expansion)
        squeeze = SQUEEZE * row.squeeze
        (groups, shift), (last_groups, last_shift) = row.first, row.second
        first, middle, last = row.dynamic

        def between(kind: int, shift_groups: int) -> nn.Module:
            if not kind:
                return nn.ReLU6(inplace=True)
            return ShiftMax(hidden, groups=shift_groups, squeeze=squeeze, start=start if kind == 2 else ((1.0,), (0.0,)))

        if not any(row.second):
            layers = [_pointwise(cin, hidden, groups)]
            layers += [ShiftMax(hidden, groups=shift, squeeze=squeeze)] if last else []
        else:
            if groups == 0:
                layers = [DepthwisePair(cin, row.kernel, stride=row.stride, expansion=row.expansion)]
                layers += [between(middle, shift), Shuffle(shift)]
                mixed = 2 if middle else 0
            else:
                layers = [_pointwise(cin, hidden, groups), between(first, shift), Shuffle(shift)]
                layers += [DepthwisePair(hidden, row.kernel, stride=row.stride)]
                layers += [between(middle, hidden // shift if shift > 1 else 1)]
                mixed = 4 if first and middle else 2 if first or middle else 0
            layers += [Shuffle(hidden // mixed)] if mixed else []
            layers += [_pointwise(hidden, cout, last_groups)]
            if last:
                halved = squeeze // 2 if groups == 0 or cout < hidden else squeeze
                layers += [ShiftMax(cout, groups=last_shift, squeeze=halved)]
            layers += [Shuffle(last_shift)]
            layers += [Shuffle(cout // 2)] if last else []
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x) if self.residual else super().forward(x)


class MicroNet(nn.Module):
    """Features at strides 4, 8, 16 and 32, each the last block there.

    variant: "m0" to "m3". width: multiplies the channels of all blocks, rounded to what their groups can divide (ours:
    the paper has none). last: whether the last pointwise convolution, before the classifier's pooling, is there.
    """

    def __init__(self, *, variant: str = "m2", width: float = 1.0, last: bool = True):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"micronet: unknown variant '{variant}'{did_you_mean(variant, VARIANTS)}")
        rows, (thin, times), start = VARIANTS[variant]
        self.stem = nn.Sequential(
            LineConv(3, thin, 3, stride=2, groups=1, upright=True),
            LineConv(thin, thin * times, 3, stride=2, groups=thin, upright=False),
            Shuffle(thin),
            nn.ReLU6(inplace=True),
        )
        rows = rows if last else rows[:-1]
        channels, stride = thin * times, 2
        self.channels, self.taps = {}, {}
        blocks = []
        for number, row in enumerate(rows):
            following = rows[number + 1] if number + 1 < len(rows) else None
            cout = _scaled(row, following, width) if any(row.second) else channels * math.prod(row.expansion)
            blocks.append(MicroBlock(channels, cout, row, start=start))
            channels, stride = cout, stride * row.stride
            self.channels[stride], self.taps[stride] = channels, number
        self.blocks = nn.ModuleList(blocks)

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.blocks[: self.taps[stride] + 1]]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        return run_tapped(self.blocks, self.stem(x), self.taps)


def _scaled(row: Row, following: Row | None, width: float) -> int:
    """A block's channels times the width, rounded to a multiple of all groups that divide them, here and next."""
    multiple = math.lcm(2, *row.second)
    if following is not None:
        expansion = math.prod(following.expansion)
        inside = [groups // math.gcd(groups, expansion) for groups in (following.first[1], following.second[0]) if groups]
        multiple = math.lcm(multiple, following.first[0] or 1, *inside)
    return max(multiple, round(row.channels * width / multiple) * multiple)

"""Necks: several features in, one fine one out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from featherpose.models.layers import ConvNorm, SeparableConv


class Context(nn.Module):
    """Looks far around: x + 1x1(act(1x1(7x7 depthwise(x)))), twice as wide inside; (B, C, H, W) to the same.

    At stride 32 of a picture of 192 px it reaches three of six cells to each side, two of them reach from border to
    border, for less than 1 MMAC each: which leg is the left one is told by the face. It begins as x: the last norm's
    weight is 0 (Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1), so that a trained network can be given
    some. The order of layers is that of Liu et al., A ConvNet for the 2020s, CVPR 2022.
    """

    def __init__(self, channels: int, *, act: str = "relu"):
        super().__init__()
        self.depthwise = ConvNorm(channels, channels, 7, groups=channels, act="linear")
        self.expand = ConvNorm(channels, 2 * channels, 1, act=act)
        self.project = ConvNorm(2 * channels, channels, 1, act="linear")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.expand(self.depthwise(x)))

    def initialise(self) -> None:
        """Layers that keep the variance, and nothing added at first."""
        for unit in (self.depthwise, self.expand, self.project):
            nn.init.kaiming_normal_(unit.conv.weight, mode="fan_in", nonlinearity="linear")
        nn.init.zeros_(self.project.norm.weight)


class FPN(nn.Module):
    """MoveNet's feature pyramid: from the coarsest level up by bilinear doubling, adding a lateral, and smoothing.

    channels_in: dict stride -> channels of the backbone's features. channels: dict stride -> channels of the lateral at
    that stride (the official net: {4: 24, 8: 32, 16: 64, 32: 64}); levels left out are not tapped. The finest output
    stands at stride 4 with channels[finest level] channels: a pyramid without level 4 doubles once more without a
    lateral. context: how many Context blocks the coarsest level goes through first.
    Source: the official graph; Lin et al., CVPR 2017.
    """

    def __init__(self, channels_in: dict[int, int], *, channels: dict[int, int], context: int = 0, act: str = "relu"):
        super().__init__()
        self.levels = sorted(channels, reverse=True)  # coarse to fine
        for coarse, fine in zip(self.levels, self.levels[1:], strict=False):
            if coarse != 2 * fine:
                raise ValueError(f"FPN levels must be neighbouring strides, got {sorted(channels)}")
        self.laterals = nn.ModuleDict(
            {str(s): ConvNorm(channels_in[s], channels[s], 1, act="linear") for s in self.levels}
        )
        widths = [channels[s] for s in self.levels]
        self.context = nn.Sequential(*(Context(widths[0], act=act) for _ in range(context)))
        targets = [*widths[2:], widths[-1]]  # after adding level i the result is made as wide as level i + 1
        if len(self.levels) > 1 and widths[1] != widths[0]:
            raise ValueError(f"the two coarsest laterals are added and need equal widths, got {widths[0]} and {widths[1]}")
        self.smooth = nn.ModuleDict(
            {
                str(s): SeparableConv(w, t, act=act)
                for s, w, t in zip(self.levels[1:], widths[1:], targets, strict=True)
            }
        )
        self.extra = SeparableConv(widths[-1], widths[-1], act=act) if self.levels[-1] == 8 else None
        self.channels = dict(zip(self.levels[1:], targets, strict=True)) | {4: widths[-1]}

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """dict stride -> (B, C, H / stride, W / stride) to the same for the smoothed levels, `channels` wide."""
        x = self.context(self.laterals[str(self.levels[0])](features[self.levels[0]]))
        smoothed = {}
        for stride in self.levels[1:]:
            x = double(x) + self.laterals[str(stride)](features[stride])
            smoothed[stride] = x = self.smooth[str(stride)](x)
        if self.extra is not None:
            smoothed[4] = self.extra(double(x))
        return smoothed


def double(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 2 H, 2 W), bilinear, corners not aligned."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)

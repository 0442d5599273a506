"""Necks: several features in, one fine one out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from featherpose.models.layers import ConvNorm, SeparableConv


class FPN(nn.Module):
    """MoveNet's feature pyramid: from the coarsest level up by bilinear doubling, adding a lateral, and smoothing.

    channels_in: dict stride -> channels of the backbone's features. channels: dict stride -> channels of the lateral at
    that stride (the official net: {4: 24, 8: 32, 16: 64, 32: 64}); levels left out are not tapped. The finest output
    stands at stride 4 with channels[finest level] channels: a pyramid without level 4 doubles once more without a
    lateral.
    Source: the official graph; Lin et al., CVPR 2017.
    """

    def __init__(self, channels_in: dict[int, int], *, channels: dict[int, int], act: str = "relu"):
        super().__init__()
        self.levels = sorted(channels, reverse=True)  # coarse to fine
        for coarse, fine in zip(self.levels, self.levels[1:], strict=False):
            if coarse != 2 * fine:
                raise ValueError(f"FPN levels must be neighbouring strides, got {sorted(channels)}")
        self.laterals = nn.ModuleDict(
            {str(s): ConvNorm(channels_in[s], channels[s], 1, act="linear") for s in self.levels}
        )
        widths = [channels[s] for s in self.levels]
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
        x = self.laterals[str(self.levels[0])](features[self.levels[0]])
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

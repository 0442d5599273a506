"""ShuffleNetV2 (Ma et al., ECCV 2018, arXiv:1807.11164): channel split, one branch of convolutions, concatenate, shuffle."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherpose.models.layers import ConvNorm

STAGES = ((116, 4), (232, 8), (464, 4))
"""(channels at width 1, blocks) of stages 2 to 4, Table 5 of the paper."""


def _even(value: float) -> int:
    return max(8, 2 * round(value / 2))


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleaves the two halves of the channels: (B, C, H, W) -> the same shape."""
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)


class Unit(nn.Module):
    """One ShuffleNetV2 unit; with stride 2 both halves see the whole input and the size halves."""

    def __init__(self, cin: int, cout: int, *, stride: int, act: str):
        super().__init__()
        half = cout // 2
        first = cin if stride == 2 else half
        self.branch = nn.Sequential(
            ConvNorm(first, half, 1, act=act, padding="symmetric"),
            ConvNorm(half, half, 3, stride=stride, groups=half, act="linear", padding="symmetric"),
            ConvNorm(half, half, 1, act=act, padding="symmetric"),
        )
        self.shortcut = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                ConvNorm(cin, cin, 3, stride=2, groups=cin, act="linear", padding="symmetric"),
                ConvNorm(cin, half, 1, act=act, padding="symmetric"),
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.shortcut is None:
            keep, work = x.chunk(2, dim=1)
            return channel_shuffle(torch.cat([keep, self.branch(work)], dim=1))
        return channel_shuffle(torch.cat([self.shortcut(x), self.branch(x)], dim=1))


class ShuffleNetV2(nn.Module):
    """Features at strides 4 (the stem), 8, 16 and 32.

    width: multiplies the channels of the stages; last: channels of the 1x1 after stage 4, 0 leaves it out.
    """

    def __init__(self, *, width: float = 1.0, act: str = "relu", last: int = 0):
        super().__init__()
        self.stem = ConvNorm(3, 24, 3, stride=2, act=act, padding="symmetric")
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = {4: 24}
        stages = []
        channels = 24
        for (base, repeats), stride in zip(STAGES, (8, 16, 32), strict=True):
            cout = _even(base * width)
            units = [Unit(channels, cout, stride=2, act=act)]
            units += [Unit(cout, cout, stride=1, act=act) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*units))
            channels = self.channels[stride] = cout
        self.stages = nn.ModuleList(stages)
        self.last = ConvNorm(channels, last, 1, act=act) if last else nn.Identity()
        self.channels[32] = last or channels

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.stages[: (4, 8, 16, 32).index(stride)], *([self.last] if stride == 32 else [])]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        x = self.pool(self.stem(x))
        features = {4: x}
        for stage, stride in zip(self.stages, (8, 16, 32), strict=True):
            x = stage(x)
            features[stride] = x
        features[32] = self.last(x)
        return features

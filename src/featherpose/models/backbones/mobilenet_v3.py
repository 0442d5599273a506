"""MobileNetV3 (Howard et al., ICCV 2019, arXiv:1905.02244): inverted residuals with squeeze-excite and h-swish."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from featherpose.models.layers import ConvNorm, make_divisible, run_tapped

RE, HS = "relu", "hardswish"


class Row(NamedTuple):
    """One bottleneck of the paper's tables, at width 1."""

    kernel: int
    hidden: int
    """Channels of the depthwise convolution."""
    channels: int
    excite: bool
    """Whether a squeeze-excite stands behind the depthwise convolution."""
    act: str
    stride: int


LARGE = (
    Row(3, 16, 16, False, RE, 1),
    Row(3, 64, 24, False, RE, 2), Row(3, 72, 24, False, RE, 1),
    Row(5, 72, 40, True, RE, 2), Row(5, 120, 40, True, RE, 1), Row(5, 120, 40, True, RE, 1),
    Row(3, 240, 80, False, HS, 2), Row(3, 200, 80, False, HS, 1), Row(3, 184, 80, False, HS, 1),
    Row(3, 184, 80, False, HS, 1), Row(3, 480, 112, True, HS, 1), Row(3, 672, 112, True, HS, 1),
    Row(5, 672, 160, True, HS, 2), Row(5, 960, 160, True, HS, 1), Row(5, 960, 160, True, HS, 1),
)  # fmt: skip
"""Table 1 of the paper."""

SMALL = (
    Row(3, 16, 16, True, RE, 2),
    Row(3, 72, 24, False, RE, 2), Row(3, 88, 24, False, RE, 1),
    Row(5, 96, 40, True, HS, 2), Row(5, 240, 40, True, HS, 1), Row(5, 240, 40, True, HS, 1),
    Row(5, 120, 48, True, HS, 1), Row(5, 144, 48, True, HS, 1),
    Row(5, 288, 96, True, HS, 2), Row(5, 576, 96, True, HS, 1), Row(5, 576, 96, True, HS, 1),
)  # fmt: skip
"""Table 2 of the paper, without the squeeze-excite at the last 1x1, which torchvision and timm leave out too."""

STEM = 16
"""Channels of the first convolution. Fixed below width .75, as in the released networks."""
LAST = 6
"""Channels of the last 1x1, in channels of the last block."""
SQUEEZE = 4
"""Squeeze-excite: channels per squeezed channel (section 5.3 of the paper)."""


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole picture shows: (B, C, H, W) -> the same (Hu et al., CVPR 2018), hard sigmoid."""

    def __init__(self, channels: int):
        super().__init__()
        squeezed = make_divisible(channels / SQUEEZE)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))


class Bottleneck(nn.Module):
    """1x1 expansion, depthwise, squeeze-excite, linear 1x1 projection; a residual where size and channels stay."""

    def __init__(self, cin: int, cout: int, row: Row, *, hidden: int):
        super().__init__()
        self.expand = ConvNorm(cin, hidden, 1, act=row.act) if hidden != cin else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, row.kernel, stride=row.stride, groups=hidden, act=row.act)
        self.excite = SqueezeExcite(hidden) if row.excite else nn.Identity()
        self.project = ConvNorm(hidden, cout, 1, act="linear")
        self.residual = row.stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """Features at strides 4, 8, 16 (each the last block there) and 32 (the last 1x1).

    rows: LARGE or SMALL. width: multiplies all channels; expansions keep their ratio to the block's input, as in the
    released networks. last: channels of the last 1x1, 0 leaves it out, None takes the paper's.
    """

    def __init__(self, rows: tuple[Row, ...] = LARGE, *, width: float = 1.0, last: int | None = None):
        super().__init__()
        channels = STEM if width < 0.75 else make_divisible(STEM * width)
        self.stem = ConvNorm(3, channels, 3, stride=2, act=HS)
        self.channels, self.taps = {}, {}
        blocks, stride, base = [], 2, STEM
        for number, row in enumerate(rows):
            stride *= row.stride
            cout = make_divisible(row.channels * width)
            hidden = channels if row.hidden == base else make_divisible(channels * row.hidden / base)
            blocks.append(Bottleneck(channels, cout, row, hidden=hidden))
            channels, base = cout, row.channels
            self.channels[stride], self.taps[stride] = channels, number
        self.channels.pop(2, None), self.taps.pop(2, None)
        self.blocks = nn.ModuleList(blocks)
        last = make_divisible(LAST * base * width) if last is None else last
        self.last = ConvNorm(channels, last, 1, act=HS) if last else nn.Identity()
        self.channels[32] = last or channels

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.blocks[: self.taps[stride] + 1], *([self.last] if stride == 32 else [])]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        features = run_tapped(self.blocks, self.stem(x), self.taps)
        features[32] = self.last(features[32])
        return features


def mobilenet_v3_large(**arguments) -> MobileNetV3:
    """MobileNetV3-Large: 219 MMAC at 224 px with its classifier."""
    return MobileNetV3(LARGE, **arguments)


def mobilenet_v3_small(**arguments) -> MobileNetV3:
    """MobileNetV3-Small: 56 MMAC at 224 px with its classifier."""
    return MobileNetV3(SMALL, **arguments)

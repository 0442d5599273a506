"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381) as in Keras: inverted residuals, TensorFlow padding."""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.models.layers import ConvNorm, make_divisible, run_tapped

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride) per stage, Table 2 of the paper."""

TAPS = {4: 2, 8: 5, 16: 9, 32: 16}
"""stride -> number of the block whose output is the feature. MoveNet taps stride 16 before the 96-channel stage."""


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; a residual where size and channels stay."""

    def __init__(self, cin: int, cout: int, *, expansion: int, stride: int, act: str):
        super().__init__()
        hidden = cin * expansion
        self.expand = ConvNorm(cin, hidden, 1, act=act) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden, act=act)
        self.project = ConvNorm(hidden, cout, 1, act="linear")
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Features at strides 4, 8, 16 and 32.

    width: multiplies all channels; the last 1x1 has `last` channels (Keras: 1280, times the width only above 1).
    last: 0 leaves the last 1x1 out, so that stride 32 gives the 320-channel stage.
    """

    def __init__(self, *, width: float = 1.0, act: str = "relu6", last: int = 1280):
        super().__init__()
        channels = make_divisible(32 * width)
        self.stem = ConvNorm(3, channels, 3, stride=2, act=act)
        blocks = []
        self.channels = {}
        for expansion, base, repeats, first_stride in STAGES:
            cout = make_divisible(base * width)
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, cout, expansion=expansion, stride=stride, act=act))
                channels = cout
        self.blocks = nn.ModuleList(blocks)
        for stride, block in TAPS.items():
            self.channels[stride] = blocks[block].project.conv.out_channels
        if last:
            self.channels[32] = make_divisible(last * max(1.0, width))
            self.last = ConvNorm(channels, self.channels[32], 1, act=act)
        else:
            self.last = nn.Identity()

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.blocks[: TAPS[stride] + 1], *([self.last] if stride == 32 else [])]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        features = run_tapped(self.blocks, self.stem(x), TAPS)
        features[32] = self.last(features[32])
        return features

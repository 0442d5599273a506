"""MobileNetV1 (Howard et al., 2017, arXiv:1704.04861): depthwise separable convolutions in a row, TensorFlow padding."""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.models.layers import ConvNorm, run_tapped

LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(channels, stride) of each separable layer, Table 1 of the paper."""

TAPS = {4: 2, 8: 4, 16: 10, 32: 12}
"""stride -> number of the last layer at that stride."""


class MobileNetV1(nn.Module):
    """Features at strides 4, 8, 16 and 32. width: multiplies all channels. layers: how many of LAYERS there are, the
    first ones (12: without the most expensive one at stride 32, 11: nothing at stride 32)."""

    def __init__(self, *, width: float = 1.0, act: str = "relu6", layers: int = len(LAYERS)):
        super().__init__()
        if not TAPS[16] < layers <= len(LAYERS):
            raise ValueError(f"mobilenet_v1: layers must be {TAPS[16] + 1} to {len(LAYERS)}, got {layers}")
        channels = max(8, int(32 * width))
        self.stem = ConvNorm(3, channels, 3, stride=2, act=act)
        built = []
        for base, stride in LAYERS[:layers]:
            cout = max(8, int(base * width))
            layer = nn.Sequential()
            layer.add_module("depthwise", ConvNorm(channels, channels, 3, stride=stride, groups=channels, act=act))
            layer.add_module("pointwise", ConvNorm(channels, cout, 1, act=act))
            built.append(layer)
            channels = cout
        self.layers = nn.ModuleList(built)
        taps = TAPS | {32: layers - 1}
        self.taps = {stride: number for stride, number in taps.items() if stride < 32 or number > taps[16]}
        self.channels = {stride: built[number].pointwise.conv.out_channels for stride, number in self.taps.items()}

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.layers[: TAPS[stride] + 1]]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        return run_tapped(self.layers, self.stem(x), self.taps)

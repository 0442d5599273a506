"""MobileNetV1 (Howard et al., 2017, arXiv:1704.04861): depthwise separable convolutions in a row, TensorFlow padding."""

from __future__ import annotations

from torch import Tensor, nn

from featherpose.models.layers import ConvNorm

LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(channels, stride) of each separable layer, Table 1 of the paper."""

TAPS = {4: 2, 8: 4, 16: 10, 32: 12}
"""stride -> number of the last layer at that stride."""


class MobileNetV1(nn.Module):
    """Features at strides 4, 8, 16 and 32. width: multiplies all channels."""

    def __init__(self, *, width: float = 1.0, act: str = "relu6"):
        super().__init__()
        channels = max(8, int(32 * width))
        self.stem = ConvNorm(3, channels, 3, stride=2, act=act)
        layers = []
        for base, stride in LAYERS:
            cout = max(8, int(base * width))
            layer = nn.Sequential()
            layer.add_module("depthwise", ConvNorm(channels, channels, 3, stride=stride, groups=channels, act=act))
            layer.add_module("pointwise", ConvNorm(channels, cout, 1, act=act))
            layers.append(layer)
            channels = cout
        self.layers = nn.ModuleList(layers)
        self.channels = {stride: layers[number].pointwise.conv.out_channels for stride, number in TAPS.items()}

    def early(self, stride: int) -> list[nn.Module]:
        """The modules before and up to the feature of a stride, for freezing."""
        return [self.stem, *self.layers[: TAPS[stride] + 1]]

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """x: (B, 3, H, W), normalised to [-1, 1]."""
        x = self.stem(x)
        features = {}
        taps = {number: stride for stride, number in TAPS.items()}
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number in taps:
                features[taps[number]] = x
        return features

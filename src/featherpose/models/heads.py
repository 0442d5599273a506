"""Heads: one fine feature in, named maps out."""

from __future__ import annotations

import math

from torch import Tensor, nn

from featherpose.models.layers import Conv2d, ConvNorm, activation

PRIOR = 0.1
"""Initial value of maps that are mostly 0: low enough for calm first steps, high enough for an MSE gradient. A guess."""


class Head(nn.Sequential):
    """3x3 depthwise, 1x1 + ReLU, 1x1 to C channels: (B, Cin, H, W) -> (B, C, H, W)."""

    def __init__(self, cin: int, cout: int, *, hidden: int = 96, act: str = "linear"):
        super().__init__()
        self.depthwise = ConvNorm(cin, cin, 3, groups=cin, act="linear")
        self.hidden = ConvNorm(cin, hidden, 1, act="relu")
        self.out = Conv2d(hidden, cout, 1, bias=True)
        if act != "linear":
            self.act = activation(act)
        self._act_name = act

    def initialise(self) -> None:
        """Small last weights; a bias that makes probabilities start near PRIOR."""
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        if self._act_name == "sigmoid":
            nn.init.constant_(self.out.bias, math.log(PRIOR / (1 - PRIOR)))
        elif self._act_name == "fast_sigmoid":
            nn.init.constant_(self.out.bias, -(1 / (2 * PRIOR) - 1))


class MoveNetHeads(nn.Module):
    """The four heads of MoveNet; see codecs/movenet.py for what the maps mean."""

    def __init__(self, cin: int, joints: int, *, hidden: int = 96, sigmoid: str = "sigmoid"):
        super().__init__()
        self.joints = joints
        self.center = Head(cin, 1, hidden=hidden, act=sigmoid)
        self.heatmap = Head(cin, joints, hidden=hidden, act=sigmoid)
        self.regression = Head(cin, 2 * joints, hidden=hidden)
        self.offset = Head(cin, 2 * joints, hidden=hidden)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """x: (B, Cin, H, W) to maps: center (B, 1, H, W), heatmap (B, K, H, W), regression and offset (B, K, 2, H, W)."""
        batch, _, height, width = x.shape
        pairs = (batch, self.joints, 2, height, width)
        return {
            "center": self.center(x),
            "heatmap": self.heatmap(x),
            "regression": self.regression(x).view(pairs),
            "offset": self.offset(x).view(pairs),
        }

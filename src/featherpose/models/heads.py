"""Heads: features of a neck in, named maps out."""

from __future__ import annotations

import math

from torch import Tensor, nn

from featherpose.models.layers import Conv2d, ConvNorm, activation
from featherpose.models.necks import double

PRIOR = 0.1
"""Initial value of maps that are mostly 0: low enough for calm first steps, high enough for an MSE gradient. A guess."""


class Stem(nn.Sequential):
    """What comes before a head's last layer: 3x3 depthwise, 1x1 + `act`; (B, Cin, H, W) -> (B, hidden, H, W)."""

    def __init__(self, cin: int, hidden: int, *, act: str = "relu"):
        super().__init__()
        self.depthwise = ConvNorm(cin, cin, 3, groups=cin, act="linear")
        self.hidden = ConvNorm(cin, hidden, 1, act=act)


class Out(nn.Sequential):
    """The last layer of a head, 1x1 with bias and activation: (B, Cin, H, W) -> (B, C, H, W). stem: what runs before."""

    def __init__(self, cin: int, cout: int, *, act: str = "linear", stem: nn.Module | None = None):
        super().__init__()
        if stem is not None:
            for name, layer in stem.named_children():
                self.add_module(name, layer)
        self.out = Conv2d(cin, cout, 1, bias=True)
        if act != "linear":
            self.act = activation(act)
        self._act_name = act

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.named_children():
            x = layer(x.float() if name == "act" else x)  # bfloat16 has no numbers between .996 and 1
        return x

    def initialise(self) -> None:
        """Small last weights; a bias that makes probabilities start near PRIOR."""
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)
        if self._act_name == "sigmoid":
            nn.init.constant_(self.out.bias, math.log(PRIOR / (1 - PRIOR)))
        elif self._act_name == "fast_sigmoid":
            nn.init.constant_(self.out.bias, -(1 / (2 * PRIOR) - 1))


class Head(Out):
    """3x3 depthwise, 1x1 + `hidden_act`, 1x1 to C channels + `act`: (B, Cin, H, W) -> (B, C, H, W)."""

    def __init__(self, cin: int, cout: int, *, hidden: int = 96, act: str = "linear", hidden_act: str = "relu"):
        super().__init__(hidden, cout, act=act, stem=Stem(cin, hidden, act=hidden_act))


class MoveNetHeads(nn.Module):
    """The four heads of MoveNet, each with a stem of its own; see codecs/movenet.py for what the maps mean.

    channels: dict stride -> channels of the neck's features; the one at stride 4 is used. act: of the stems. sigmoid:
    of centre and heatmap.
    """

    def __init__(
        self, channels: dict[int, int], joints: int, *, hidden: int = 96, sigmoid: str = "sigmoid", act: str = "relu"
    ):
        super().__init__()
        self.joints = joints
        cin = channels[4]
        self.center = Head(cin, 1, hidden=hidden, act=sigmoid, hidden_act=act)
        self.heatmap = Head(cin, joints, hidden=hidden, act=sigmoid, hidden_act=act)
        self.regression = Head(cin, 2 * joints, hidden=hidden, hidden_act=act)
        self.offset = Head(cin, 2 * joints, hidden=hidden, hidden_act=act)

    def forward(self, features: dict[int, Tensor]) -> dict[str, Tensor]:
        """The finest of the neck's features to maps: center (B, 1, H, W), heatmap (B, K, H, W), regression and offset
        (B, K, 2, H, W)."""
        x = features[4]
        batch, _, height, width = x.shape
        pairs = (batch, self.joints, 2, height, width)
        return {
            "center": self.center(x),
            "heatmap": self.heatmap(x),
            "regression": self.regression(x).view(pairs),
            "offset": self.offset(x).view(pairs),
        }


class TwoLevelHeads(nn.Module):
    """The four maps of MoveNet at half the cost: what has to be fine at stride 4, what has to be far-sighted at 8.

    Heatmap and offset share a stem at stride 4; centre and regression share one at stride 8 and are doubled bilinearly,
    which is exact for a regression: its values fall linearly from cell to cell.
    """

    def __init__(
        self, channels: dict[int, int], joints: int, *, hidden: int = 96, sigmoid: str = "sigmoid", act: str = "relu"
    ):
        super().__init__()
        self.joints = joints
        self.fine = Stem(channels[4], hidden, act=act)
        self.coarse = Stem(channels[8], hidden, act=act)
        self.center = Out(hidden, 1, act=sigmoid)
        self.heatmap = Out(hidden, joints, act=sigmoid)
        self.regression = Out(hidden, 2 * joints)
        self.offset = Out(hidden, 2 * joints)

    def forward(self, features: dict[int, Tensor]) -> dict[str, Tensor]:
        """Features at strides 4 and 8 to maps at stride 4, shaped as those of MoveNetHeads."""
        fine, coarse = self.fine(features[4]), self.coarse(features[8])
        batch, _, height, width = fine.shape
        pairs = (batch, self.joints, 2, height, width)
        return {
            "center": self.center.act(double(self.center.out(coarse)).float()),
            "heatmap": self.heatmap(fine),
            "regression": double(self.regression(coarse)).view(pairs),
            "offset": self.offset(fine).view(pairs),
        }


HEADS = {"movenet": MoveNetHeads, "two_level": TwoLevelHeads}

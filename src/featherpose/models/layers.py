"""The few layers every network here is made of."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDINGS = ("tf", "symmetric")
"""How a strided convolution pads. tf: TensorFlow's SAME, more on the right and bottom. symmetric: equal on both sides."""

TF_EPSILON, TF_MOMENTUM = 1e-3, 0.01
"""Batch norm as in Keras' MobileNets (epsilon .001); the momentum is higher than theirs (.001) as our runs are shorter."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple, never more than a tenth below (Sandler et al., MobileNetV2, 2018)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class Conv2d(nn.Conv2d):
    """A convolution that keeps size / stride exactly, with TensorFlow's or symmetric padding.

    Sizes must be multiples of the stride. x: (B, Cin, H, W) -> (B, Cout, H / stride, W / stride).
    """

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False,
                 padding: str = "tf"):  # fmt: skip
        total = kernel - stride
        self_padded = padding == "symmetric" or total % 2 == 0
        super().__init__(cin, cout, kernel, stride, padding=kernel // 2 if self_padded else 0, groups=groups, bias=bias)
        self.before = None if self_padded else (total // 2, total - total // 2) * 2  # left, right, top, bottom

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with given weights; torch's own name for it, called by its forward."""
        if self.strided_depthwise and training_in_bfloat16(x):
            before = self.kernel_size[0] // 2 if self.before is None else self.before[0]
            x = StridedDepthwise.apply(x.bfloat16(), weight.bfloat16(), self.stride[0], before)
            return x if bias is None else x + bias.to(x.dtype)[:, None, None]
        return super()._conv_forward(x if self.before is None else F.pad(x, self.before), weight, bias)

    @property
    def strided_depthwise(self) -> bool:
        square = self.kernel_size[0] == self.kernel_size[1] and self.stride[0] == self.stride[1] > 1
        return square and self.groups == self.in_channels == self.out_channels > 1


def training_in_bfloat16(x: Tensor) -> bool:
    """Whether gradients will be asked for on a CPU, under autocast."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")


class StridedDepthwise(torch.autograd.Function):
    """A strided depthwise convolution whose gradient is that of an unstrided one.

    oneDNN takes 10 to 40 times longer for the gradient with respect to the input of a strided depthwise convolution in
    bfloat16 than for an unstrided one of the same input (docs/log.md): so the gradient of the output is spread out, with
    zeros between, and convolved with the turned kernel.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
        """x: (B, C, H, W). weight: (C, 1, k, k), k odd. before: rows of zeros above and left of x.

        (B, C, H / stride, W / stride).
        """
        after = max(0, weight.shape[2] - stride - before)
        x = F.pad(x, (before, after, before, after))
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.before, ctx.after = stride, before, after
        return F.conv2d(x, weight, stride=stride, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        stride, kernel, groups = ctx.stride, weight.shape[2], len(weight)
        own = None
        if ctx.needs_input_grad[1]:
            own = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, (stride,) * 2, (0, 0), (1, 1), False, (0, 0), groups, (False, True, False)
            )[1]
        batch, channels, height, width = x.shape
        height, width = height - ctx.before - ctx.after, width - ctx.before - ctx.after
        spread = gradient.new_zeros(batch, height, width, channels).permute(0, 3, 1, 2)  # channels last
        first = kernel // 2 - ctx.before
        spread[:, :, first::stride, first::stride] = gradient
        return F.conv2d(spread, weight.flip(2, 3), padding=kernel // 2, groups=groups), own, None, None


def run_tapped(layers: Iterable[nn.Module], x: Tensor, taps: dict[int, int]) -> dict[int, Tensor]:
    """Runs a backbone's layers one after the other; the outputs of those in `taps` (stride -> number), by stride."""
    strides = {number: stride for stride, number in taps.items()}
    features = {}
    for number, layer in enumerate(layers):
        x = layer(x)
        if number in strides:
            features[strides[number]] = x
    return features


def activation(name: str) -> nn.Module:
    """A fresh activation by name; `linear` does nothing."""
    return ACTIVATIONS[name]()


class FastSigmoid(nn.Module):
    """0.5 x / (1 + |x|) + 0.5: no exponential, slope 0.5 at 0, slow tails (0.99 needs x = 49).

    Source: the article's net; thresholds found with the logistic function do not carry over.
    """

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x / (1 + x.abs()) + 0.5


ACTIVATIONS = {
    "linear": nn.Identity,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "mish": lambda: nn.Mish(inplace=True),
    "sigmoid": nn.Sigmoid,
    "fast_sigmoid": FastSigmoid,
}


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, activation: the unit whose batch norm an export folds away."""

    folded = False
    """Whether training uses the norm's running statistics, as evaluation does, folded into the convolution's weights: no
    pass over the features for them, forward or backward. The norm's weight and bias are trained all the same."""

    def __init__(self, cin: int, cout: int, kernel: int, *, stride: int = 1, groups: int = 1, act: str = "relu",
                 padding: str = "tf"):  # fmt: skip
        super().__init__()
        self.conv = Conv2d(cin, cout, kernel, stride=stride, groups=groups, padding=padding)
        self.norm = nn.BatchNorm2d(cout, eps=TF_EPSILON, momentum=TF_MOMENTUM)
        if act != "linear":
            self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.folded and self.training):
            return super().forward(x)
        conv, norm = self.conv, self.norm
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        x = conv._conv_forward(x, conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain)
        return self.act(x) if hasattr(self, "act") else x


class SeparableConv(nn.Sequential):
    """3x3 depthwise without activation, then 1x1 with one: (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, cin: int, cout: int, *, act: str = "relu"):
        super().__init__()
        self.depthwise = ConvNorm(cin, cin, 3, groups=cin, act="linear")
        self.pointwise = ConvNorm(cin, cout, 1, act=act)


def initialise(network: nn.Module) -> None:
    """He initialisation for convolutions, 1 and 0 for batch norms (He et al., ICCV 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def set_folded(unit: ConvNorm, weight: Tensor, bias: Tensor) -> None:
    """Writes a convolution whose batch norm was folded away; the unit then computes exactly weight * x + bias."""
    if unit.conv.weight.shape != weight.shape or unit.norm.bias.shape != bias.shape:
        raise ValueError(f"a convolution of shape {tuple(unit.conv.weight.shape)} cannot take weights {tuple(weight.shape)}")
    unit.conv.weight.copy_(weight)
    unit.norm.running_mean.zero_()
    unit.norm.running_var.fill_(1 - unit.norm.eps)
    unit.norm.weight.fill_(1)
    unit.norm.bias.copy_(bias)


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> None:
    """Takes the batch norms out of a network in eval mode, into its convolutions: the same function by fewer
    passes over the features, and not to be trained or saved any more."""
    for unit in network.modules():
        if not isinstance(unit, ConvNorm) or not isinstance(unit.norm, nn.BatchNorm2d):
            continue
        norm = unit.norm
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = 0 if unit.conv.bias is None else unit.conv.bias.double()
        shift = norm.bias.double() + gain * (bias - norm.running_mean.double())
        unit.conv.weight.copy_(unit.conv.weight.double() * gain[:, None, None, None])
        unit.conv.bias = nn.Parameter(shift.to(unit.conv.weight.dtype))
        unit.norm = nn.Identity()


def has_folded_norms(network: nn.Module) -> bool:
    """Whether a batch norm is as `set_folded` leaves it: without statistics, to be unfolded before training."""
    return any(
        bool((unit.norm.running_mean == 0).all() and (unit.norm.running_var == 1 - unit.norm.eps).all())
        for unit in network.modules()
        if isinstance(unit, ConvNorm)
    )


@torch.no_grad()
def unfold_batch_norms(network: nn.Module, batches: list[Tensor]) -> None:
    """Gives folded batch norms the statistics of real pictures, without changing what the network computes.

    For each ConvNorm the mean m and deviation s of W x are measured on `batches` (each (B, 3, H, W) as the network takes
    them); then running mean = m, running variance = s^2, weight *= s / old s, bias follows. Training with live
    statistics can go on from there. Source: ../shared/pretrained README's identity.
    """
    units = [m for m in network.modules() if isinstance(m, ConvNorm)]
    sums = {unit: [0, 0.0, 0.0] for unit in units}

    def measure(unit):
        def hook(_, __, output):
            values = output.detach().double()
            sums[unit][0] += values.shape[0] * values.shape[2] * values.shape[3]
            sums[unit][1] = sums[unit][1] + values.sum(dim=(0, 2, 3))
            sums[unit][2] = sums[unit][2] + (values**2).sum(dim=(0, 2, 3))

        return hook

    handles = [unit.conv.register_forward_hook(measure(unit)) for unit in units]
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    for unit, (count, total, squares) in sums.items():
        if count == 0:
            continue
        norm = unit.norm
        mean = total / count
        variance = (squares / count - mean**2).clamp_min(1e-6)
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - gain * norm.running_mean.double()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift + gain * mean)

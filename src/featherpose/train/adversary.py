"""A small network that learns where pasted limbs hurt the pose network most.

Bin et al., "Adversarial Semantic Data Augmentation for Human Pose Estimation", ECCV 2020 (arXiv:2008.00697), section 3.2:
a generator predicts an affine map for every body part that is pasted, as a spatial transformer (Jaderberg et al., NeurIPS
2015), and is trained to raise the loss that the pose network lowers. Two things differ: the maps are a random place, as
without an adversary, and a bounded move from there, so that limbs never all end up in one spot; and both networks learn from
one backward pass, through a gradient that changes its sign between them (Ganin and Lempitsky, ICML 2015).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEEN = 64
"""Side of the picture that the adversary looks at, pixels."""
AWAY, TURN, SIZE = 0.15, 90.0, math.log(1.3)
"""How far it may move a limb, in longer sides of the target, turn it, in degrees, and resize it, as a logarithm. Guesses."""
RATE = 1e-3
"""Its learning rate."""


class Adversary(nn.Module):
    """Pastes limbs into pictures, each moved to where it expects the loss to be larger; at first where they were drawn.

    Its parameters get the negative of the loss's gradient, so that the optimizer that lowers the loss for the pose network
    raises it for this one.
    """

    def __init__(self, seed: int = 0) -> None:
        """seed: of the first weights, which are drawn without touching torch's own random numbers."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.look = nn.Sequential(
                nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
                nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
            self.choose = nn.Sequential(nn.Linear(8 * (SEEN // 8) ** 2 + 9, 64), nn.ReLU(), nn.Linear(64, 4))
        nn.init.zeros_(self.choose[-1].weight)
        nn.init.zeros_(self.choose[-1].bias)

    def forward(self, image: Tensor, strips: Tensor, places: Tensor) -> Tensor:
        """The pictures with their limbs, (B, 3, H, W) float32 0..255.

        image: the same without. strips: (B, M, h, w, 4) uint8 RGBA, places: (B, M, 7), as `data.limbs.pack` gives them.
        """
        return paste(image, strips, self.moved(image, strips, places))

    def moved(self, image: Tensor, strips: Tensor, places: Tensor) -> Tensor:
        """(B, M, 7): the places where it wants the limbs."""
        width = image.shape[3]
        seen = self.look(F.interpolate(image / 127.5 - 1, (SEEN, SEEN), mode="bilinear", antialias=True))
        xy, degrees, scale, side = places[..., :2], places[..., 2:3], places[..., 3:4], places[..., 6:]
        colours = strips.float()
        shown = colours[..., 3].sum(dim=(2, 3))[..., None].clamp(min=1)
        colours = (colours[..., :3] * colours[..., 3:]).sum(dim=(2, 3)) / shown / 127.5 - 1  # (B, M, 3)
        turn = torch.deg2rad(degrees)
        facts = torch.cat([xy / width, turn.sin(), turn.cos(), scale.log(), side / width, colours], dim=2)
        move = self.choose(torch.cat([seen[:, None].expand(-1, facts.shape[1], -1), facts], dim=2)).tanh()
        move = _Reversed.apply(move)
        return torch.cat(
            [
                xy + AWAY * side * move[..., :2],
                degrees + TURN * move[..., 2:3],
                scale * (SIZE * move[..., 3:]).exp(),
                places[..., 4:],
            ],
            dim=2,
        )


class _Reversed(torch.autograd.Function):
    """The values as they are, and their gradient negated."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return -gradient


def paste(image: Tensor, strips: Tensor, places: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) float32 0..255 with limbs over them, one after the other, as `data.limbs.paste` does in NumPy.

    strips: (B, M, h, w, 4) uint8 RGBA. places: (B, M, 7), see `data.limbs.pack`; the gradient reaches them.
    """
    batch, limbs, rows, columns = strips.shape[:4]
    height, width = image.shape[2:]
    x, y, degrees, scale, middle_x, middle_y, _ = places.flatten(0, 1).unbind(dim=1)  # (B * M,) each
    turn = torch.deg2rad(degrees)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    # Where each pixel of the picture lies in the strip: turned back, from the corner; then -1 to 1, as grid_sample counts.
    across = torch.arange(width, device=image.device) + 0.5 - x[:, None]  # (B * M, W)
    down = torch.arange(height, device=image.device) + 0.5 - y[:, None]  # (B * M, H)
    u = cos[:, None, None] * across[:, None] + sin[:, None, None] * down[:, :, None] + middle_x[:, None, None]
    v = cos[:, None, None] * down[:, :, None] - sin[:, None, None] * across[:, None] + middle_y[:, None, None]
    grid = torch.stack([2 * u / columns - 1, 2 * v / rows - 1], dim=3)  # (B * M, H, W, 2)
    planes = strips.flatten(0, 1).permute(0, 3, 1, 2).float()
    seen = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    for limb in seen.reshape(batch, limbs, 4, height, width).unbind(dim=1):
        alpha = limb[:, 3:] / 255
        image = image * (1 - alpha) + limb[:, :3] * alpha
    return image.contiguous(memory_format=torch.channels_last)

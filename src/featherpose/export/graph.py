"""What an exported file computes: the network with a picture's bytes as input, with or without the decoding.

The input is `image` (B, H, W, 3) uint8 RGB 0..255, as pictures lie in memory; the graph makes float planes of it. Two
graphs exist because runtimes on GPUs and NPUs dislike gathers and argmax (docs of the official MoveNet):

- `RawHeads` gives the four maps of codecs/movenet.py, to be decoded outside;
- `WithDecoder` gives `joints` (B, K, 3) = x, y in input pixels and score, and `pose_score` (B,).

`Decoder` is the torch twin of `MoveNetCodec.decode`, float32 throughout, and finds the same cells.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from featherpose.codecs.movenet import MAPS, TOP_FLAT, TOP_FLOOR, VOTE_FLOOR, MoveNetCodec, _focus
from featherpose.models import layers

DECODED = ("joints", "pose_score")
"""Outputs of a graph that decodes, in order."""


class RawHeads(nn.Module):
    """Bytes of pictures to the maps of the network."""

    outputs = MAPS

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """image: (B, H, W, 3) uint8 RGB to center, heatmap, regression, offset; shapes as in codecs/movenet.py."""
        maps = self.network(planes(image))
        return tuple(maps[name] for name in MAPS)


class WithDecoder(nn.Module):
    """Bytes of pictures to the joints of the person nearest the middle."""

    outputs = DECODED

    def __init__(self, network: nn.Module, codec: MoveNetCodec):
        super().__init__()
        self.network = network
        self.decoder = Decoder(codec)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (B, H, W, 3) uint8 RGB to joints (B, K, 3) = x, y in input pixels and score, and pose_score (B,)."""
        return self.decoder(self.network(planes(image)))


def planes(image: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, values unchanged. Bytes are moved first: a quarter of the traffic."""
    return image.permute(0, 3, 1, 2).float()


class Decoder(nn.Module):
    """`MoveNetCodec.decode` in torch for a batch, focus in the middle. Its steps are methods, for the parity check."""

    def __init__(self, codec: MoveNetCodec):
        super().__init__()
        width, height = codec.grid
        self.width, self.height, self.stride, self.softening = width, height, codec.stride, codec.softening
        self.vote_radius, self.refine = codec.vote_radius, codec.refine
        self.register_buffer("columns", torch.arange(width, dtype=torch.float32), persistent=False)
        self.register_buffer("rows", torch.arange(height, dtype=torch.float32), persistent=False)
        focus = _focus(width, height, width / 2, height / 2, codec.middle_softening).reshape(-1)
        self.register_buffer("focus", torch.tensor(focus), persistent=False)  # (H * W,)

    def forward(self, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Maps with a leading B to joints (B, K, 3) = x, y in input pixels and score, and pose_score (B,)."""
        middle = self.weighted_center(maps).argmax(dim=1, keepdim=True)  # (B, 1)
        cell = self.weighted_heatmap(maps, middle).argmax(dim=2, keepdim=True)  # (B, K, 1)
        joints = torch.cat([self.xy(maps, cell), maps["heatmap"].flatten(2).gather(2, cell)], dim=2)
        return joints, maps["center"].flatten(1).gather(1, middle)[:, 0]

    def weighted_center(self, maps: dict[str, Tensor]) -> Tensor:
        """(B, H * W): the centre map, lower the farther from the middle of the input."""
        return maps["center"].flatten(1) * self.focus

    def weighted_heatmap(self, maps: dict[str, Tensor], middle: Tensor) -> Tensor:
        """(B, K, H * W): the heatmaps, lower the farther from where the person at cell `middle` (B, 1) has them."""
        batch, joints = maps["heatmap"].shape[:2]
        way = maps["regression"].flatten(3).gather(3, middle[:, None, None].expand(batch, joints, 2, 1))  # (B, K, 2, 1)
        expected = way + self._column_row(middle)[:, None, :, None]  # x before y, cell indices
        dx, dy = self.columns - expected[:, :, 0], self.rows - expected[:, :, 1]  # (B, K, W), (B, K, H)
        distance = ((dy * dy)[:, :, :, None] + (dx * dx)[:, :, None, :]).sqrt()  # (B, K, H, W)
        return (maps["heatmap"] / (distance + self.softening)).flatten(2)

    def xy(self, maps: dict[str, Tensor], cell: Tensor) -> Tensor:
        """Joints (B, K, 2) in input pixels, for the cell (B, K, 1) of each."""
        batch, joints = cell.shape[:2]
        if self.refine == "dark":
            return (self._column_row(cell) + self._top(maps["heatmap"].flatten(2), cell)) * self.stride
        if self.vote_radius:
            return self._vote(maps, cell) * self.stride
        inside = maps["offset"].flatten(3).gather(3, cell[:, :, None].expand(batch, joints, 2, 1))[:, :, :, 0]
        return (self._column_row(cell) + inside) * self.stride

    def _top(self, heatmap: Tensor, cell: Tensor) -> Tensor:
        """`MoveNetCodec._top`: from the corner of the best cell (B, K, 1) to the joint, (B, K, 2) cells."""
        place = self._column_row(cell)  # (B, K, 2)
        last = torch.tensor([self.width - 1.0, self.height - 1.0])
        step = ((place > 0) & (place < last)).long() * torch.tensor([1, self.width])  # 0 at the rim
        before, at, after = (
            heatmap.gather(2, cell + side * step).clamp(min=float(TOP_FLOOR)).log() for side in (-1, 0, 1)
        )
        bend = 2 * at - before - after
        flat = bend < float(TOP_FLAT)
        away = (after - before) / (2 * bend.masked_fill(flat, 1))
        return 0.5 + away.clamp(-1, 1).masked_fill(flat, 0)

    def _vote(self, maps: dict[str, Tensor], cell: Tensor) -> Tensor:
        """`MoveNetCodec._vote`: joints (B, K, 2) in cells, for the best cell (B, K, 1) of each."""
        batch, joints = cell.shape[:2]
        steps = torch.arange(-self.vote_radius, self.vote_radius + 1)
        down, right = (s.reshape(-1).float() for s in torch.meshgrid(steps, steps, indexing="ij"))  # (S,), floats
        place = self._column_row(cell)  # (B, K, 2)
        columns, rows = place[..., :1] + right, place[..., 1:] + down  # (B, K, S)
        inside = (columns >= 0) & (columns < self.width) & (rows >= 0) & (rows < self.height)
        index = (rows.clamp(0, self.height - 1) * self.width + columns.clamp(0, self.width - 1)).long()
        weight = (maps["heatmap"].flatten(2).gather(2, index) ** 2 + float(VOTE_FLOOR)) * inside
        weight = weight / weight.sum(dim=2, keepdim=True)
        size = (batch, joints, 2, index.shape[2])
        way = maps["offset"].flatten(3).gather(3, index[:, :, None].expand(size))  # (B, K, 2, S)
        votes = torch.stack([columns, rows], dim=2) + way
        return (weight[:, :, None] * votes).sum(dim=3)

    def _column_row(self, cell: Tensor) -> Tensor:
        """(..., 1) int64 cells to (..., 2) float32 = column, row. By float division, exact here: a graph's integer
        remainder becomes five nodes, and the cost of a small node is its call."""
        cell = cell.float()
        row = (cell / self.width).floor()
        return torch.cat([cell - row * self.width, row], dim=-1)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of the network whose ConvNorm units are a convolution with bias; computes the same in evaluation mode.

    Its activations write to fresh memory: tracing in-place ones takes twice as long, and the graph is the same.
    """
    network = copy.deepcopy(network).eval()
    for unit in network.modules():
        if getattr(unit, "inplace", False):
            unit.inplace = False
    layers.fold_batch_norms(network)
    return network

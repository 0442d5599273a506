"""A trained model as a teacher: its maps of the pictures of a step are targets of the loss `imitation`.

Either a network of ours, which gives all four maps of everybody in the picture, or another project's top-down graph with
a heatmap per joint (Simple Baselines, HRNet, PP-TinyPose), which knows the person in the middle alone.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from featherpose.codecs import build_codec
from featherpose.data.teacher.top_down import DEVIATION, MEAN, HeatmapTeacher
from featherpose.evaluation import CROP_MARGIN
from featherpose.losses import IMITATED
from featherpose.models.layers import fold_batch_norms
from featherpose.skeletons import Skeleton
from featherpose.systems.files import load_network
from featherpose.train.ir_network import heatmap_network

GRAPHS = (".onnx", ".xml")
HILL = 7
"""Cells, side of the neighbourhood that one hill of a teacher's map fills."""


def make_teacher(
    path: str, skeleton: Skeleton, codec: dict, input_size: tuple[int, int], device: torch.device, amp: str
) -> NetworkTeacher | GraphTeacher:
    """The teacher of a recipe: path, codec and amp are its model.teacher, model.codec and train.amp, input_size its last.

    FileNotFoundError or ValueError when the file is not there, no model, or one of other joints or another grid.
    """
    kind = Path(path).suffix.lower()
    if kind in GRAPHS:
        return GraphTeacher(path, skeleton, codec, input_size, device, amp)
    if kind != ".safetensors" and Path(path).is_file():
        raise ValueError(
            f"{path}: model.teacher takes a model of featherpose (.safetensors) or another project's heatmap graph "
            f"({', '.join(GRAPHS)}), not '{kind}'; `featherpose import` makes a .safetensors of an official MoveNet file"
        )
    return NetworkTeacher(path, skeleton, codec, device, amp)


CURVES = ("heatmap", "center")
"""Maps of curves; the others are of ways, in cells."""
HEIGHT_POINTS = 400
"""Places of joints that the height of curves on another grid is measured at."""


class NetworkTeacher:
    """A frozen model of ours, of any size, with the joints and the stride of the network that learns.

    Pictures of another size than its own are enlarged or reduced to that, and its maps brought back to their grid: `lite`
    finds joints better in an enlarged picture of 128x128 than in that picture itself (docs/log.md).
    """

    def __init__(self, path: str, skeleton: Skeleton, codec: dict, device: torch.device, amp: str) -> None:
        """path: a .safetensors model. The rest, and what is raised: see `make_teacher`."""
        network, spec = load_network(path)
        if spec.skeleton.joints != skeleton.joints:
            raise ValueError(
                f"{path}: the teacher's joints are those of skeleton '{spec.skeleton.name}', the recipe's of "
                f"'{skeleton.name}'; a teacher must have the same joints in the same order"
            )
        theirs, own = (build_codec(facts, spec.input_size, len(skeleton)) for facts in (spec.codec, codec))
        if type(theirs) is not type(own) or theirs.stride != own.stride:
            raise ValueError(
                f"{path}: the teacher's maps are those of codec {spec.codec}, the recipe's of {codec}; a teacher must "
                "have the same codec and stride"
            )
        fold_batch_norms(network)
        self.network = network.requires_grad_(False).to(device, memory_format=torch.channels_last)
        self.amp = amp
        self.codec, self.own = theirs, own
        self._heights: dict[tuple[str, tuple[int, int]], float] = {}

    @torch.no_grad()
    def __call__(self, image: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Targets `imitation_<map>`, float32, for pictures (B, 3, H, W) RGB, 0..255; the other targets are not needed.

        Pictures whose sides have another ratio than the teacher's input are shown to it as they are.
        """
        width, height = self.codec.input_size
        size_hw = tuple(image.shape[-2:])
        other = size_hw != (height, width) and size_hw[0] * width == size_hw[1] * height
        shown = image
        if other:
            shown = functional.interpolate(image, (height, width), mode="bicubic", antialias=True).clamp(0, 255)
            shown = shown.contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp == "bf16"):
            maps = self.network(shown)
        maps = {name: maps[name].float() for name in IMITATED}
        if other:
            maps = self._on_grid(maps, (size_hw[0] // self.codec.stride, size_hw[1] // self.codec.stride))
        return {f"imitation_{name}": value for name, value in maps.items()}

    def _on_grid(self, maps: dict[str, Tensor], grid_hw: tuple[int, int]) -> dict[str, Tensor]:
        """The maps at the middles of another grid's cells, in its cells, with curves as the recipe's codec has them."""
        ratio = self.codec.grid[1] / grid_hw[0]  # cells of the teacher in one of ours
        found = {}
        for name, value in maps.items():
            if name in CURVES:
                height = self._height(name, grid_hw)
                found[name] = (self._curves(name, value, grid_hw) * height).clamp(0, 1)
                continue
            corner = 0.5 if name == "offset" else 0.0  # from a cell's corner, not its middle
            found[name] = (_at_middles(value.flatten(1, 2), grid_hw).unflatten(1, (-1, 2)) - corner) / ratio + corner
        return found

    def _curves(self, name: str, maps: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """A map of curves on another grid, as wide as the recipe's; lower where their tops fall between cells."""
        ratio = self.codec.grid[1] / grid_hw[0]
        of_center = name == "center"
        theirs = _usual_sigma(self.codec, self.codec.grid) * (self.codec.center_sigma if of_center else 1)
        ours = _usual_sigma(self.own, grid_hw) * (self.own.center_sigma if of_center else 1)
        if ratio > 1:  # where the grid is finer, so that no hill falls between two cells
            return _at_middles(_as_wide(maps, theirs, ours * ratio), grid_hw)
        return _as_wide(_at_middles(maps, grid_hw), theirs / ratio, ours)

    def _height(self, name: str, grid_hw: tuple[int, int]) -> float:
        """What `_curves` must be multiplied by to be as high as the recipe's codec draws them, in the mean over places."""
        if (name, grid_hw) not in self._heights:
            own = replace(self.own, input_size=(grid_hw[1] * self.own.stride, grid_hw[0] * self.own.stride))
            people = max(1, HEIGHT_POINTS // own.joints)
            ends = 0.5 - 0.5 / CROP_MARGIN, 0.5 + 0.5 / CROP_MARGIN
            points = np.random.default_rng(0).uniform(*ends, (people, own.joints, 2))
            points[:, :2, 0] = ends[: own.joints] + points[:, :1, 1] / 50  # so large that curves are as wide as `_usual_sigma`
            seen = np.full((1, own.joints), 2)
            tops = np.zeros(2)
            for shares in points:
                given = self.codec.encode(shares[None] * self.codec.input_size, seen)[name]
                tops[0] += self._curves(name, torch.from_numpy(given)[None], grid_hw).amax(dim=(2, 3)).sum().item()
                tops[1] += own.encode(shares[None] * own.input_size, seen)[name].max(axis=(1, 2)).sum()
            self._heights[name, grid_hw] = tops[1] / tops[0]
        return self._heights[name, grid_hw]


def _at_middles(maps: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(B, C, H, W) between the middles of their cells, at the middles of another grid's."""
    return functional.interpolate(maps, grid_hw, mode="bilinear")


def _usual_sigma(codec, grid: tuple[int, int]) -> float:
    """Cells: the width of a joint's curve in a crop as wide as evaluation cuts it."""
    return float(np.clip(codec.sigma_scale * max(grid) / CROP_MARGIN, *codec.sigma_range))


def _as_wide(maps: Tensor, theirs: float, ours: float) -> Tensor:
    """(B, K, H, W) maps whose hills are `theirs` cells wide (sigma) with hills as high as they were and `ours` wide."""
    if theirs >= ours:
        tops = _tops(maps)
        return tops * (maps / tops.clamp_min(1e-6)) ** (theirs / ours) ** 2
    sigma = math.sqrt(ours**2 - theirs**2)
    reach = math.ceil(3 * sigma)
    kernel = torch.softmax(-(torch.arange(-reach, reach + 1, device=maps.device) ** 2) / (2 * sigma**2), dim=0)
    kernel = kernel.expand(maps.shape[1], 1, 1, -1).to(maps)
    wide = functional.conv2d(maps, kernel, padding=(0, reach), groups=maps.shape[1])
    wide = functional.conv2d(wide, kernel.transpose(2, 3), padding=(reach, 0), groups=maps.shape[1])
    around = max(HILL, 2 * math.ceil(HILL / 2 * ours) + 1)
    return wide * _tops(maps, around) / _tops(wide, around).clamp_min(1e-6)


def _tops(maps: Tensor, side: int = HILL) -> Tensor:
    """(B, K, H, W) the highest value in the square of so many cells, an odd number, around each."""
    top = functional.max_pool2d(maps, (side, 1), stride=1, padding=(side // 2, 0))
    return functional.max_pool2d(top, (1, side), stride=1, padding=(0, side // 2))


THEIR_SIGMA = 2.3
"""Cells of its own map: the width of a top-down teacher's curves. They are taught with 2 at 64x48 (Xiao et al., ECCV 2018);
PP-TinyPose's come out wider, by so much on a batch of training crops."""
FROM = 0.05
"""A labelled curve at least this high, away from the target's own joint, is another person's."""
BEYOND = 0.15
"""How far around the target's box a top-down teacher is heard, in longer sides of the box. A guess."""
SEES, AGREES = 0.3, 0.6
"""A teacher looks at the target if its map is at least SEES near AGREES of the labelled joints. Guesses."""


class _CpuGraph:
    """A graph's maps (B, K, h, w), float32, of pictures (B, 3, H, W) RGB, 0..255, by onnxruntime or OpenVINO."""

    def __init__(self, path: str, skeleton: Skeleton, device: torch.device, amp: str) -> None:
        self.graph = HeatmapTeacher(path, skeleton=skeleton, threads=1, flip=False, bf16=amp == "bf16")

    def __call__(self, image: Tensor) -> Tensor:
        width, height = self.graph.input_size
        pictures = image.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        maps = self.graph.maps(np.stack([cv2.resize(picture, (width, height)) for picture in pictures]))
        return torch.from_numpy(maps).to(image.device)


class _DeviceGraph:
    """The same by torch, on the pictures' device, in bfloat16 with amp. The file must be an OpenVINO IR."""

    def __init__(self, path: str, skeleton: Skeleton, device: torch.device, amp: str) -> None:
        self.network = heatmap_network(path)
        if self.network.joints != len(skeleton):
            raise ValueError(f"{path}: gives {self.network.joints} joints, skeleton '{skeleton.name}' has {len(skeleton)}")
        self.dtype = torch.bfloat16 if amp == "bf16" else torch.float32
        self.network.to(device, self.dtype, memory_format=torch.channels_last)
        self.mean, self.deviation = (torch.from_numpy(v)[:, None, None].to(device) for v in (MEAN, DEVIATION))
        self._recorded: tuple[torch.cuda.CUDAGraph, Tensor, Tensor] | None = None

    def __call__(self, image: Tensor) -> Tensor:
        width, height = self.network.input_size
        shown = functional.interpolate(image, (height, width), mode="bilinear")
        shown = ((shown - self.mean) / self.deviation).to(self.dtype, memory_format=torch.channels_last)
        if not shown.is_cuda:
            return self.network(shown).float()
        with torch.cuda.device(shown.device):
            return self._replayed(shown).float()

    def _replayed(self, shown: Tensor) -> Tensor:
        """The network's output, from a recording of its kernels: hundreds of small ones take longer to start than to run.

        Fewer pictures than were recorded are run with what the last ones left.
        """
        if self._recorded is None or len(shown) > len(self._recorded[1]):
            held = shown.clone()
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries choose their kernels before the recording
                for _ in range(3):
                    self.network(held)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                maps = self.network(held)
            self._recorded = graph, held, maps
        graph, held, maps = self._recorded
        held[: len(shown)].copy_(shown)
        graph.replay()
        return maps[: len(shown)]


class GraphTeacher:
    """A heatmap model of another project (.xml by OpenVINO, .onnx), shown each picture stretched to its input.

    Stretching keeps the whole picture in a narrower input; with PP-TinyPose it reads people better than a border does
    (AR .758 and .756 on coco_person train in crops of 1.25 boxes, .678 and .618 in crops of 1.6).
    """

    def __init__(
        self, path: str, skeleton: Skeleton, codec: dict, input_size: tuple[int, int], device: torch.device, amp: str
    ) -> None:
        """See `make_teacher`. On a GPU an .xml runs there if its operations are known (train/ir_network.py); everything
        else stays on the CPU, which a GPU waits for."""
        self.graph = None
        if device.type == "cuda" and Path(path).suffix.lower() == ".xml":
            try:
                self.graph = _DeviceGraph(path, skeleton, device, amp)
            except ValueError as error:
                warnings.warn(f"{error}: the teacher stays on the CPU, which is slow", stacklevel=2)
        if self.graph is None:
            self.graph = _CpuGraph(path, skeleton, device, amp)
        own = build_codec(codec, input_size, len(skeleton))
        self.sigma = _usual_sigma(own, own.grid)

    @torch.no_grad()
    def __call__(self, image: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """`imitation_heatmap` and `imitation_weight` (B, K, H, W), float32, for pictures (B, 3, H, W) RGB, 0..255.

        targets: `heatmap` (B, K, H, W), and `target_cells` (B, K, 2) and `target_box` (B, 4) in cells, NaN where
        there is none. The weight is 1 around the target's box, but 0 where somebody else's joint of the kind is
        labelled, and everywhere where the teacher seems to look at somebody else.
        """
        heatmap = self._on_grid(self.graph(image), targets["heatmap"].shape[-2:])
        weight = self._weight(heatmap, targets)
        return {"imitation_heatmap": heatmap, "imitation_weight": weight}

    def _on_grid(self, maps: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """A teacher's maps at the middles of our cells, its hills as wide as our curves and as high as they were."""
        down, across = (_middles(n, m, maps.device) for n, m in zip(grid_hw, maps.shape[-2:], strict=True))
        seen = (down @ maps @ across.T).clamp(0, 1)
        theirs = THEIR_SIGMA * math.sqrt(grid_hw[0] / maps.shape[-2] * grid_hw[1] / maps.shape[-1])  # cells of ours
        return _as_wide(seen, max(theirs, self.sigma), self.sigma)

    def _weight(self, heatmap: Tensor, targets: dict[str, Tensor]) -> Tensor:
        height, width = heatmap.shape[-2:]
        joints = targets["target_cells"]  # (B, K, 2)
        rows = (torch.arange(height, device=heatmap.device) + 0.5)[:, None]
        columns = (torch.arange(width, device=heatmap.device) + 0.5)[None]
        x, y = joints[..., 0, None, None], joints[..., 1, None, None]
        own = (columns - x) ** 2 + (rows - y) ** 2 <= (3 * self.sigma + 1) ** 2  # NaN is far from everything
        others = (targets["heatmap"] >= FROM) & ~own

        box = targets["target_box"]
        more = BEYOND * (box[:, 2:] - box[:, :2]).amax(dim=1).nan_to_num()
        x1, y1, x2, y2 = (v[:, None, None] for v in (*(box[:, :2] - more[:, None]).T, *(box[:, 2:] + more[:, None]).T))
        around = (columns >= x1) & (columns <= x2) & (rows >= y1) & (rows <= y2)  # (B, H, W)

        inside = ((joints >= 0) & (joints < joints.new_tensor([width, height]))).all(dim=2)  # (B, K)
        seen = (((heatmap * own).flatten(2).amax(dim=2) >= SEES) & inside).sum(dim=1)
        looks = (seen >= AGREES * inside.sum(dim=1)) & (seen > 0)
        return (around[:, None] & ~others & looks[:, None, None, None]).float()


def _middles(cells: int, others: int, device: torch.device) -> Tensor:
    """(cells, others) float32: what the middles of a row of cells are between the values of another row.

    Value j of the other row stands for the place j / others, as top-down teachers have it (data/teacher/top_down.py).
    """
    place = ((torch.arange(cells, device=device) + 0.5) * others / cells)[:, None]
    return (1 - (place.clamp(0, others - 1) - torch.arange(others, device=device)).abs()).clamp_min(0)

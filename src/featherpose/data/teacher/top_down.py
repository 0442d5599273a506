"""Teachers of the top-down line: a crop of one person in, one map per joint out (or one row per axis and joint).

Input: RGB minus ImageNet's mean, by its deviation, as Simple Baselines (Xiao et al., ECCV 2018), HRNet, PP-TinyPose and
RTMPose take it; a graph with a uint8 input normalises by itself and is given the pixels.

Which pixel a cell is: measured with PP-TinyPose on coco_person val, cell c stands for continuous input pixel stride * c
(mean signed error .0 and -.03 px; taking the cell's middle instead costs .06 AR). So the mirror of cell c is cell
W - c, one to the right of where turning the map round puts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from featherpose.data.teacher.graphs import open_graph
from featherpose.geometry import invert, transform, warp
from featherpose.skeletons import COCO17, SKELETONS, Skeleton

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
"""ImageNet's, RGB 0..255."""

BLUR = 5
"""Cells, side of DARK's smoothing. 3 to 11 are within .001 AR of each other with PP-TinyPose."""


class _Crops:
    """Pictures through a graph: crops, normalisation, batches. Held by the two teachers below."""

    def __init__(self, path: str | Path, threads: int, bf16: bool = False) -> None:
        self.graph = open_graph(path, threads, bf16=bf16)
        shape = self.graph.input_shape
        self.channels_last = len(shape) == 4 and shape[3] == 3
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or None in shape[1:]:
            raise ValueError(
                f"{path}: a teacher takes one picture (B, 3, H, W) or (B, H, W, 3) of a fixed size, this takes {shape}"
            )
        height, width = shape[1:3] if self.channels_last else shape[2:]
        self.size_wh = (width, height)
        self.batch = shape[0]

    def run(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Every output for pictures (B, H, W, 3) uint8 RGB at the graph's size."""
        values = pictures
        if self.graph.input_dtype == np.float32:
            values = (pictures.astype(np.float32) - MEAN) / DEVIATION
        if not self.channels_last:
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        if self.batch is None:
            return self.graph.run(values)
        parts = []
        for start in range(0, len(values), self.batch):
            part = values[start : start + self.batch]
            padded = np.concatenate([part, np.repeat(part[-1:], self.batch - len(part), axis=0)])
            parts.append([output[: len(part)] for output in self.graph.run(padded)])
        return [np.concatenate([part[i] for part in parts]) for i in range(len(parts[0]))]

    def cut(self, images: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> np.ndarray:
        """(B, H, W, 3) uint8 crops, zeros outside the photo."""
        return np.stack([warp(image, matrix, self.size_wh) for image, matrix in zip(images, to_input, strict=True)])


class HeatmapTeacher:
    """One heatmap per joint; the maximum, refined by DARK, is the joint and its height the score."""

    kind = "heatmap"

    def __init__(
        self, path: str | Path, *, skeleton: Skeleton | None = None, threads: int = 1, flip: bool = True,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        """ValueError when no output is a stack of heatmaps, one for each joint of the skeleton.

        bf16: faster and rougher where OpenVINO and the CPU can; joints move by up to some pixels.
        """
        self._crops = _Crops(path, threads, bf16)
        shapes = self._crops.graph.output_shapes
        place = [i for i, shape in enumerate(shapes) if len(shape) == 4]
        if not place:
            raise ValueError(f"{path}: no output is a stack of heatmaps (B, K, H, W); its outputs are {_text(shapes)}")
        self._place = place[0]
        self.skeleton = _skeleton(path, skeleton, shapes[self._place][1])
        self.name, self.input_size, self.flip = _name(path), self._crops.size_wh, flip

    def look(self, images: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See featherpose.data.teacher.Teacher."""
        crops = self._crops.cut(images, to_input)
        maps = self.maps(crops)
        if self.flip:
            mirrored = self.maps(np.ascontiguousarray(crops[:, :, ::-1]))[:, self.skeleton.flip_index(), :, ::-1]
            maps = (maps + shifted(mirrored)) / 2
        cells, score = zip(*(decode_heatmaps(of_one) for of_one in maps), strict=True)
        stride = np.array(self.input_size) / np.array([maps.shape[3], maps.shape[2]])
        return _to_photo([c * stride for c in cells], to_input), np.clip(np.stack(score), 0, 1)

    def maps(self, crops: np.ndarray) -> np.ndarray:
        """Heatmaps (B, K, h, w) float32 of pictures (B, H, W, 3) uint8 RGB of `input_size`."""
        return self._crops.run(crops)[self._place].astype(np.float32)


class SimccTeacher:
    """Two rows per joint, over columns and over rows of the input (SimCC, Li et al., ECCV 2022); RTMPose's output.

    The score is the mean of both maxima, cut to [0, 1], as RTMPose's own runtimes have it.
    """

    kind = "simcc"

    def __init__(
        self, path: str | Path, *, skeleton: Skeleton | None = None, threads: int = 1, flip: bool = True
    ) -> None:
        """ValueError when the outputs are not one row over x and one over y for each joint of the skeleton."""
        self._crops = _Crops(path, threads)
        shapes = self._crops.graph.output_shapes
        pair = [i for i, shape in enumerate(shapes) if len(shape) == 3]
        if len(pair) != 2 or shapes[pair[0]][1] != shapes[pair[1]][1]:
            raise ValueError(f"{path}: no SimCC pair (B, K, X), (B, K, Y) among its outputs: {_text(shapes)}")
        self._x, self._y = pair
        self.skeleton = _skeleton(path, skeleton, shapes[self._x][1])
        self.name, self.input_size, self.flip = _name(path), self._crops.size_wh, flip

    def look(self, images: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See featherpose.data.teacher.Teacher."""
        crops = self._crops.cut(images, to_input)
        x, y = self._rows(crops)
        if self.flip:
            order = self.skeleton.flip_index()
            mirrored_x, mirrored_y = self._rows(np.ascontiguousarray(crops[:, :, ::-1]))
            x, y = (x + shifted(mirrored_x[:, order, ::-1])) / 2, (y + mirrored_y[:, order]) / 2
        steps = np.array([x.shape[2], y.shape[2]]) / self.input_size  # steps per pixel, usually 2
        cells = np.stack([x.argmax(axis=2), y.argmax(axis=2)], axis=2)  # (B, K, 2)
        score = (x.max(axis=2) + y.max(axis=2)) / 2
        return _to_photo(cells / steps, to_input), np.clip(score, 0, 1)

    def _rows(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._crops.run(crops)
        return outputs[self._x].astype(np.float32), outputs[self._y].astype(np.float32)


def decode_heatmaps(heatmap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (K, 2) in cells, x before y and between cells, and their heights (K,) from maps (K, H, W).

    DARK (Zhang et al., CVPR 2020): one Newton step on the log of the smoothed map, from the maximum of the map itself.
    No step where the map is no hill there, or within two cells of the border; never farther than one cell.
    """
    joints, height, width = heatmap.shape
    row, column = np.divmod(heatmap.reshape(joints, -1).argmax(axis=1), width)
    score = heatmap[np.arange(joints), row, column]
    cells = np.stack([column, row], axis=1).astype(np.float64)
    inside = np.flatnonzero((column >= 2) & (column < width - 2) & (row >= 2) & (row < height - 2))
    smooth = np.stack([cv2.GaussianBlur(m, (BLUR, BLUR), 0, borderType=cv2.BORDER_CONSTANT) for m in heatmap])
    log = np.log(np.maximum(smooth, 1e-10))

    def at(dx: int, dy: int) -> np.ndarray:
        return log[inside, row[inside] + dy, column[inside] + dx].astype(np.float64)

    gradient = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], axis=1) / 2
    xx, yy = (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4, (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4
    xy = (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1)) / 4
    determinant = xx * yy - xy**2
    hill = (determinant > 1e-12) & (xx < 0)
    safe = np.where(hill, determinant, 1.0)
    step = np.stack([yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]], axis=1)
    cells[inside] -= np.where(hill[:, None], np.clip(step / safe[:, None], -1, 1), 0)
    return cells, score


def shifted(values: np.ndarray) -> np.ndarray:
    """One cell to the right along the last axis; the first cell keeps its value. See the head of this file."""
    return np.concatenate([values[..., :1], values[..., :-1]], axis=-1)


def _to_photo(xy: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([transform(invert(matrix), points) for points, matrix in zip(xy, to_input, strict=True)])


def _skeleton(path: str | Path, skeleton: Skeleton | None, joints: int | None) -> Skeleton:
    skeleton = skeleton or COCO17
    if joints not in (None, len(skeleton)):
        raise ValueError(
            f"{path}: gives {joints} joints, skeleton '{skeleton.name}' has {len(skeleton)}; both must be the same, in the "
            f"same order (`data label` takes the teacher's by --teacher-skeleton: a file, or {', '.join(SKELETONS)})"
        )
    return skeleton


def _name(path: str | Path) -> str:
    """A file's name without its suffix; the folder's where all files of a format are called the same."""
    path = Path(path)
    return path.resolve().parent.name if path.stem in ("model", "inference", "end2end") else path.stem


def _text(shapes: list[tuple]) -> str:
    return ", ".join(str(shape) for shape in shapes)

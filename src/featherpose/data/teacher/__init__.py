"""Teachers: any keypoint model, ours or another project's, behind one small interface.

A teacher looks at one person per picture and says where it sees each of its joints and how sure it is. It is used to
label (featherpose.data.label) and, if it gives heatmaps, as a recipe's `model.teacher` (train/imitation.py); never as weights
to start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from featherpose.skeletons import Skeleton, did_you_mean

KINDS = {
    "heatmap": "featherpose.data.teacher.top_down:HeatmapTeacher",
    "simcc": "featherpose.data.teacher.top_down:SimccTeacher",
    "pose": "featherpose.data.teacher.pose_model:PoseModelTeacher",
}
"""Kind -> "module:Class"; the class is made as Class(path, skeleton=None, threads=1, flip=True).

heatmap: ONNX, OpenVINO or TFLite, one map per joint (Simple Baselines, HRNet, PP-TinyPose); simcc: the same, one row of
columns and one of rows per joint (RTMPose); pose: whatever `featherpose predict` runs, MoveNet TFLite files too."""

GRAPH_SUFFIXES = (".onnx", ".xml", ".tflite")
MOVENET_SHAPES = ((1, 1, 17, 3), (1, 6, 56))
"""What MoveNet's TFLite files give, SinglePose and MultiPose; load_model says what is wrong with the second."""


class Teacher(Protocol):
    """What every teacher offers; nothing inherits from it."""

    name: str
    kind: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    """(width, height) of what it looks at, pixels."""
    flip: bool
    """Whether it looks at the mirrored picture too, and takes the mean."""

    def look(self, images: Sequence[np.ndarray], to_input: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, K, 2) float64 in photo pixels and scores (N, K) in [0, 1] of the person in each of N pictures.

        images: (H, W, 3) uint8 RGB photos. to_input: (2, 3) maps from photo to input pixels (teacher.crops.person_map).
        """
        ...


def load_teacher(
    path: str | Path,
    *,
    kind: str | None = None,
    skeleton: Skeleton | None = None,
    threads: int = 1,
    flip: bool = True,
) -> Teacher:
    """A teacher from a model file, or from the name of a model that comes along.

    kind: one of KINDS; seen from the file unless given. skeleton: the joints of a heatmap or SimCC model in its order;
    COCO-17 unless given. Raises ValueError for an unknown kind or a file of another kind, FileNotFoundError for a
    missing file, ImportError when the library that runs it is not installed.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"unknown kind of teacher '{kind}'{did_you_mean(kind, KINDS)}")
    kind = kind or guess_kind(path)
    module, name = KINDS[kind].split(":")
    return getattr(import_module(module), name)(path, skeleton=skeleton, threads=threads, flip=flip)


def guess_kind(path: str | Path) -> str:
    """The kind of a model file, by its suffix and, for graphs, by what they give; ValueError when none fits."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in GRAPH_SUFFIXES or (suffix == ".tflite" and not path.is_file()):
        return "pose"  # load_model tells what is wrong with other files
    from featherpose.data.teacher.graphs import open_graph
    from featherpose.spec import SPEC_KEY

    graph = open_graph(path)
    if SPEC_KEY in graph.metadata or (suffix == ".tflite" and graph.output_shapes[0] in MOVENET_SHAPES):
        return "pose"
    ranks = sorted(len(shape) for shape in graph.output_shapes)
    if 4 in ranks:
        return "heatmap"
    if ranks.count(3) == 2:
        return "simcc"
    shapes = ", ".join(str(shape) for shape in graph.output_shapes)
    raise ValueError(
        f"{path}: neither heatmaps (B, K, H, W) nor a SimCC pair (B, K, W), (B, K, H) among its outputs: {shapes}; "
        "such a model cannot teach yet"
    )

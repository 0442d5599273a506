"""An evaluation as tables on the screen, as JSON and CSV, and as a sheet of the pictures that went worst."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

import featherpose
from featherpose.data.sample import Sample
from featherpose.evaluation import CROP_MARGIN, Evaluation
from featherpose.geometry import crop_map, square_around, transform, warp
from featherpose.pose import Pose
from featherpose.runtime.draw import draw_pose, sheet
from featherpose.runtime.photos import read_photo
from featherpose.runtime.report import write_picture, write_whole
from featherpose.runtime.smart_crop import whole_frame
from featherpose.spec import ModelSpec

MAIN_FIGURES = {
    "AR": "AR", "AR50": "AR50", "AR75": "AR75", "AP": "AP", "px5_at_160": "5 px", "torso_0.05": "torso .05",
    "torso_0.1": ".1", "torso_0.2": ".2", "box_0.05": "box .05", "box_0.1": ".1", "box_0.2": ".2", "head_0.5": "PCKh",
    "error_at_160_median": "error px", "error_at_160": "mean",
    "wrong_person": "wrong person",
}  # fmt: skip
"""Figure -> its column of the comparison table; a column of nothing but None is left out."""
PART_FIGURES = {
    "oks": "OKS", "AR": "AR", "px5_at_160": "5 px", "torso_0.05": "torso .05", "torso_0.1": ".1", "torso_0.2": ".2",
    "box_0.05": "box .05", "box_0.1": ".1", "box_0.2": ".2", "head_0.5": "PCKh", "error_at_160": "error px",
}  # fmt: skip
COUNTS = {"photos": "photos", "people": "targets", "joints": "joints"}
"""Heading -> its count of an evaluation: what a row was measured on."""
TILE = 224
"""Side of one picture of the sheet, pixels."""
SHEET_COLUMNS = 8
"""Pictures in a row of the sheet: four pairs of prediction and truth."""


# --- tables -----------------------------------------------------------------------------------------------------------


def comparison_table(rows: Sequence[tuple[str, Evaluation]], title: str) -> Table:
    """A row for each (model, evaluation). Error px are of a crop of 160: the median, then the mean.

    Rows that were measured on different people or joints say on how many.
    """
    table = Table(title=escape(title), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("protocol", no_wrap=True)
    shown = [name for name in MAIN_FIGURES if any(evaluation.figures[name] is not None for _, evaluation in rows)]
    counted = () if same_counts(rows) else COUNTS
    for heading in (*counted, *(MAIN_FIGURES[name] for name in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    for model, evaluation in rows:
        counts = [str(evaluation.counts[COUNTS[heading]]) for heading in counted]
        figures = [_text(name, evaluation.figures[name]) for name in shown]
        table.add_row(escape(model), evaluation.protocol, *counts, *figures)
    return table


def same_counts(rows: Sequence[tuple[str, Evaluation]]) -> bool:
    """Whether all rows were measured on as many photos, people and joints."""
    return all(evaluation.counts[key] == rows[0][1].counts[key] for _, evaluation in rows for key in COUNTS.values())


def left_out_lines(rows: Sequence[tuple[str, Evaluation]], field: str, what: str) -> list[str]:
    """Sentences on how many of a thing were left out: one for each model, or one for all when it is as many for all.

    field: "targetless" or "guessed". what: what it counts.
    """
    counts = {model: getattr(evaluation, field) for model, evaluation in rows}
    if len(set(counts.values())) == 1:
        counts = {"": next(iter(counts.values()))}
    return [f"{model}{': ' if model else ''}{count} {what}" for model, count in counts.items() if count]


def parts_table(evaluation: Evaluation, title: str) -> Table:
    """The figures of every joint and every group."""
    table = Table(title=escape(title), title_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("part")
    table.add_column("joints", justify="right")
    rows = [(name, row["count"], row) for name, row in evaluation.per_joint.items() if row["count"]]
    groups = [(name, row["joints"], row) for name, row in evaluation.per_group.items()]
    shown = [name for name in PART_FIGURES if any(row.get(name) is not None for _, _, row in rows + groups)]
    for name in shown:
        table.add_column(PART_FIGURES[name], justify="right", no_wrap=True)
    for part in (rows, groups):
        for name, count, row in part:
            table.add_row(escape(name), str(count), *(_text(key, row.get(key)) for key in shown))
        table.add_section()
    return table


def presence_line(evaluation: Evaluation) -> str:
    """One sentence on whether the pose score tells somebody from nobody."""
    facts = evaluation.presence
    start = f"at pose score {facts['pose_threshold']:g}: misses {_text('', facts['misses'])} of {facts['targets']} people"
    if facts["without_people"] == 0:
        return f"{start}; false alarms not measured, no photo is without people"
    return f"{start}, false alarms {_text('', facts['false_alarms'])} of {facts['without_people']} photos without people"


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if name.startswith("error") else f"{value:.3f}".removeprefix("0")


# --- files ------------------------------------------------------------------------------------------------------------


def write_results(
    path: Path,
    evaluations: Sequence[Evaluation],
    *,
    spec: ModelSpec,
    model_file: str,
    model_sha256: str,
    data: str,
    labels_sha256: str,
    command: str,
    threads: int,
    camera: dict | None = None,
) -> None:
    """One JSON file for one model: where its figures come from, then the figures of each protocol.

    camera: the fault and strength that photos were seen with, if any.
    """
    facts = {
        "featherpose_version": featherpose.__version__,
        "model": {
            "name": spec.name,
            "version": spec.version,
            "file": model_file,
            "sha256": model_sha256,
            "input_size": list(spec.input_size),
            "skeleton": spec.skeleton.name,
        },
        "data": {"name": data, "labels_sha256": labels_sha256, "skeleton": evaluations[0].samples[0].skeleton.name},
        **({} if camera is None else {"camera": camera}),
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": threads, "system": platform.system()},
        "protocols": {evaluation.protocol: evaluation.to_dict() for evaluation in evaluations},
    }
    write_whole(path, lambda part: part.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", "utf-8"))


def write_joints_csv(path: Path, evaluation: Evaluation) -> None:
    """A row per joint with its figures; empty where the set cannot tell."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["joint", *next(iter(evaluation.per_joint.values()))])
            for joint, row in evaluation.per_joint.items():
                rows.writerow([joint, *("" if v is None else round(v, 4) for v in row.values())])

    write_whole(path, write)


def cpu_name() -> str:
    """The processor as its maker calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# --- pictures ---------------------------------------------------------------------------------------------------------


def write_sheet(
    path: Path, evaluation: Evaluation, numbers: Sequence[int], read: Callable[[Sample], np.ndarray] | None = None
) -> None:
    """The picture of `targets_sheet` as a PNG."""
    write_picture(path, targets_sheet(evaluation, numbers, read))


def worst_of(evaluation: Evaluation, count: int) -> list[int]:
    """The numbers of the targets with the lowest OKS, the worst first."""
    return np.argsort(evaluation.oks, kind="stable")[:count].tolist()


def evenly_of(evaluation: Evaluation, count: int) -> list[int]:
    """The numbers of so many targets, evenly chosen in the order of the set: the same for every model."""
    total = len(evaluation.oks)
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def targets_sheet(
    evaluation: Evaluation, numbers: Sequence[int], read: Callable[[Sample], np.ndarray] | None = None
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: pairs of prediction and truth of the targets with these numbers, in this order.

    What is shown is the crop around the target, or the whole photo for protocols that start from it. All predicted
    joints are drawn whatever their score, as all of them were counted.
    """
    pictures, captions = [], []
    for n in numbers:
        sample = evaluation.samples[n]
        image = read_photo(sample.photo) if read is None else read(sample)
        view = square_around(sample.target_box(), CROP_MARGIN)
        if evaluation.protocol != "crop":
            view = whole_frame(sample.size_wh)
        matrix = crop_map(view, (TILE, TILE))
        picture = warp(image, matrix, (TILE, TILE))
        skeleton = evaluation.truth.skeleton
        found = Pose(xy=transform(matrix, evaluation.xy[n]), score=np.ones(len(skeleton)), skeleton=skeleton)
        labelled = evaluation.truth.labelled[n]
        xy = np.nan_to_num(transform(matrix, evaluation.truth.xy[n]))
        truth = Pose(xy=xy, score=labelled.astype(np.float32), skeleton=skeleton)
        pictures += [draw_pose(picture, found, 0.0), draw_pose(picture, truth, 0.5)]
        captions.append(f"OKS {evaluation.oks[n]:.3f}, pose score {evaluation.pose_score[n]:.2f}\n{sample.photo.name}")
        captions.append(f"truth, {int(labelled.sum())} joints")
    return sheet(pictures, captions, columns=min(SHEET_COLUMNS, len(pictures)), tile=TILE)

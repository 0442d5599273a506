"""How large people come out at the network's input, and how to make that the size they have in a target scene.

The measure is the area of the box around the target's joints, in px^2 with the input at 160 px (after the article: targets
of training 2,000 px^2 at first, of the target scene 2,000 to 12,000).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featherpose.data.augment import AREA_SIDE, Augmentation, draw_map
from featherpose.data.check import AREA_STEP, area_histogram, joint_box_areas
from featherpose.data.sample import Sample
from featherpose.geometry import box_of_points, transform

ENDS = (5, 95)
"""Percentiles of a target set that become the ends of the range: the few beyond are odd crops and odd labels."""


@dataclass(frozen=True)
class AreaTarget:
    """The wanted distribution: triangular, in px^2 at AREA_SIDE."""

    low: float
    mode: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.mode <= self.high <= AREA_SIDE**2:
            raise ValueError(
                f"a target of joint-box areas needs 0 < low <= mode <= high <= {AREA_SIDE**2} px^2, got "
                f"{self.low:g}, {self.mode:g}, {self.high:g}"
            )

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count,) px^2."""
        if self.low == self.high:
            return np.full(count, self.low)
        return rng.triangular(self.low, self.mode, self.high, count)

    def rules(self, rules: Augmentation) -> Augmentation:
        """The same augmentation with crops that aim at it."""
        return replace(rules, joint_area=(self.low, self.high), joint_area_mode=self.mode)


def target_of_text(text: str) -> AreaTarget | None:
    """'LOW,HIGH' or 'LOW,MODE,HIGH' in px^2; None when it is no list of numbers, ValueError for impossible ones."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    if len(values) not in (2, 3):
        raise ValueError(f"a target of joint-box areas is LOW,HIGH or LOW,MODE,HIGH in px^2, got '{text}'")
    return AreaTarget(values[0], values[1] if len(values) == 3 else sum(values) / 2, values[-1])


def target_of_areas(areas: np.ndarray) -> AreaTarget:
    """The triangular distribution between the 5 % and the 95 % of the areas, with their mean where that can be had.

    areas: (N,) px^2. ValueError when there is none.
    """
    areas = np.asarray(areas, np.float64)
    areas = areas[areas > 0]
    if len(areas) == 0:
        raise ValueError("the target set has no person with two labelled joints, so it has no joint-box areas")
    low, high = (float(min(v, AREA_SIDE**2)) for v in np.percentile(areas, ENDS))
    mode = float(np.clip(3 * np.clip(areas, low, high).mean() - low - high, low, high))
    return AreaTarget(low, mode, high)


def input_areas(samples: list[Sample], rules: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """(T,) px^2: the joint-box area of each target under a crop drawn by the rules, with the input at AREA_SIDE.

    Targets with fewer than two labelled joints are left out. Only geometry is drawn, no photo is read.
    """
    areas = []
    for sample in samples:
        if sample.target < 0 or np.isfinite(sample.xy[sample.target, :, 0]).sum() < 2:
            continue
        matrix, _ = draw_map(sample, sample.target, (AREA_SIDE, AREA_SIDE), rules, rng)
        x1, y1, x2, y2 = box_of_points(transform(matrix, sample.xy[sample.target].astype(np.float64)))
        areas.append((x2 - x1) * (y2 - y1))
    return np.array(areas)


def scale_report(
    samples: list[Sample], rules: Augmentation, target: AreaTarget, *, seed: int = 0, scene: list[Sample] | None = None
) -> dict:
    """Plain numbers for JSON: the histogram of the areas wanted, before and after, and how much of it is met.

    scene: the samples that the target was taken from; without them the wanted areas are drawn from `target`.
    ValueError when no sample has an area.
    """
    rng = np.random.default_rng(seed)
    before = input_areas(samples, rules, rng)
    if len(before) == 0:
        raise ValueError("no photo has a target with two labelled joints, so there are no joint-box areas to change")
    after = input_areas(samples, target.rules(rules), rng)
    wanted = target.draw(10_000, rng) if scene is None else joint_box_areas(scene)
    shares = {name: _shares(areas) for name, areas in (("target", wanted), ("before", before), ("after", after))}
    edges = area_histogram(before)[1]
    return {
        "unit": f"px^2 with the input at {AREA_SIDE} px",
        "joint_area": [round(target.low, 1), round(target.high, 1)],
        "joint_area_mode": round(target.mode, 1),
        "crop_scale": list(rules.crop_scale),
        "photos": len(before),
        "bins_from": edges.tolist(),
        "shares": {name: [round(float(v), 6) for v in values] for name, values in shares.items()},
        "median": {"target": _median(wanted), "before": _median(before), "after": _median(after)},
        "common_with_target": {
            name: round(float(np.minimum(shares["target"], shares[name]).sum()), 4) for name in ("before", "after")
        },
    }


def _shares(areas: np.ndarray) -> np.ndarray:
    counts, _ = area_histogram(areas)
    return counts / max(counts.sum(), 1)


def _median(areas: np.ndarray) -> float:
    return round(float(np.median(areas)), 1)


def plot_scale(report: dict, path: Path, *, title: str) -> None:
    """The three histograms as a PNG. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from featherpose.runtime.report import write_whole

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    edges, shares = np.array(report["bins_from"]), report["shares"]
    axes.bar(edges, shares["target"], AREA_STEP, align="edge", color="#e69f00", alpha=0.35, label="target")
    for name, colour in (("before", "#777777"), ("after", "#0072b2")):
        axes.stairs(shares[name], [*edges, edges[-1] + AREA_STEP], color=colour, linewidth=2, label=name)
    axes.set(title=title, xlabel=f"joint-box area, {report['unit']}; the last bin holds all above", ylabel="share of targets")
    axes.legend(frameon=False)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))

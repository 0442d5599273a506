"""Tables of docs/tracking.md and docs/video.md from results/tracking.json and results/bench_video.json; see tables.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from featherpose import bench_video
from featherpose.bench import caption_of_machine
from featherpose.evaluate_track import COLUMNS, shown

RESULTS = Path(__file__).resolve().parents[1] / "results"
NOT_YET = "Not measured yet for this model: the commands above fill this in."


def ways(facts: dict) -> list[str]:
    """A column for every way of following, a row for every figure, over all clips."""
    lines = _head(["figure", *facts["ways"]])
    for figure in COLUMNS:
        cells = [_shown(figure, rows["all"][figure]) for rows in facts["ways"].values()]
        lines.append(_row([figure.replace("_", " "), *cells]))
    kinds = len(set(next(iter(facts["ways"].values()))) - {"all", "photo"})
    what = f"{facts['clips']} clip{'s' if facts['clips'] > 1 else ''} of each of {kinds} kinds"
    photos = f" and {facts['clips']} photos of each motion" if facts["photos"] else ""
    return [*lines, "", f"Model {facts['model']}, {what}{photos}, seeds from {facts['first_seed']}. {_where(facts)}"]


def kinds(facts: dict) -> list[str]:
    """AR, and the share of frames on another person, by kind of clip and way."""
    names = [name for name in next(iter(facts["ways"].values())) if name != "all"]
    lines = _head(["kind of clip", *(f"{way}: AR, wrong" for way in facts["ways"])])
    for name in names:
        rows = [of_kind[name] for of_kind in facts["ways"].values()]
        lines.append(_row([name, *(f"{_shown('AR', row['AR'])}, {_shown('wrong', row['wrong'])}" for row in rows)]))
    return lines


def filters(facts: dict) -> list[str]:
    """Every filter on the same joints: how calm, how late."""
    lines = _head(["filter", "settings", "jitter px/s²", "jitter body/s²", "spread", "lag ms", "moving error"])
    for row in facts["filters"]:
        cells = [_shown(name, row[name]) for name in ("jitter_px_s2", "jitter_body_s2")]
        cells += [_percent(row["spread"]), _shown("lag_ms", row["lag_ms"]), _percent(row["moving_error"])]
        lines.append(_row([row["family"], row["settings"], *cells]))
    return lines


def several(facts: dict) -> list[str]:
    """Whether everybody is found and keeps a number."""
    lines = _head(["several people", "found", "number changes per person", "poses on nobody, per frame"])
    for name, row in facts["several"].items():
        lines.append(_row([name, _percent(row["found"]), f"{row['changes']:.2f}", f"{row['extra']:.3f}"]))
    return lines


def costs(facts: dict) -> list[str]:
    """Processor time a frame of 1280x720."""
    lines = _head(["clip", "way", "network, ms", "all, ms", "all / network", "looks a frame"])
    for row in facts["costs"]:
        network, whole = row["network_ms"], row["all_ms"]
        cells = [f"{network:.2f}", f"{whole:.2f}", f"{whole / network:.2f}", f"{row['looks']:.2f}"]
        lines.append(_row([row["clip"], row["way"], *cells]))
    return lines


def budget(facts: dict) -> list[str]:
    """The last `featherpose bench --video`."""
    return bench_video.markdown(facts).splitlines()


def _from(file: str, make: Callable[[dict], list[str]]) -> Callable[[], list[str]]:
    def lines() -> list[str]:
        path = RESULTS / file
        return make(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else [NOT_YET]

    return lines


TRACKING = {make.__name__: _from("tracking.json", make) for make in (ways, kinds, filters, several, costs)}
VIDEO = {"budget": _from("bench_video.json", budget)}
"""Name of each table -> what makes it."""


def _head(names: list[str]) -> list[str]:
    return [_row(names), "|---" * len(names) + "|"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _shown(name: str, value: float | None) -> str:
    return "-" if value is None else shown(name, value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _where(facts: dict) -> str:
    return f"{caption_of_machine(facts)}."

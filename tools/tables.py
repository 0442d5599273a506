"""Writes the tables of README and docs from results/: `python tools/tables.py` (--check: fail if they are not up to date).

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import tracking_tables

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {
    "AR": "AR",
    "AR50": "AR50",
    "px5_at_160": "5 px at 160",
    "torso_0.2": "torso .2",
    "wrong_person": "wrong person",
}
ROWS = (("coco_person_val", "crop"), ("coco_person_val", "frame + crop"), ("lsp_extended_val", "crop"))


def accuracy() -> list[str]:
    """A row for each set, protocol and model."""
    lines = ["| photos, protocol | model | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 2) + "|"]
    for folder, protocol in ROWS:
        results = [
            json.loads(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "results" / folder).glob("*.json"))
        ]
        results = [r for r in results if protocol in r["protocols"]]
        results.sort(key=lambda r: -r["protocols"][protocol]["figures"]["AR"])
        for result in results:
            figures = result["protocols"][protocol]["figures"]
            cells = " | ".join(f"{figures[key]:.3f}" for key in FIGURES)
            lines.append(f"| {folder}, {protocol} | {result['model']['name']} | {cells} |")
    return lines


def speed() -> list[str]:
    """The last bench run, as `featherpose bench --json results/bench.json` wrote it."""
    from featherpose.bench import markdown

    return markdown(json.loads((ROOT / "results" / "bench.json").read_text(encoding="utf-8"))).splitlines()


def sweep() -> list[str]:
    """The arms of tools/sweep.py by group, each beside the baseline: mean of the seeds, and every seed's AR."""
    path = ROOT / "results" / "sweep.json"
    arms = json.loads(path.read_text(encoding="utf-8"))["arms"] if path.is_file() else {}
    if not any(arms.get("baseline", {}).get("seeds", {}).values()):
        return ["Not run yet."]
    base = _mean(arms["baseline"], "AR")
    usual = arms["baseline"]["mmac"]
    lines = [
        "| what | AR | against the baseline | AR of each seed | AR50 | 5 px at 160 | MMAC at 192 px |",
        "|---|---|---|---|---|---|---|",
    ]
    group = None
    groups = list(dict.fromkeys(arm["group"] for arm in arms.values()))
    for arm in sorted(arms.values(), key=lambda arm: groups.index(arm["group"])):
        seeds = [figures for figures in arm["seeds"].values() if figures]
        if not seeds:
            lines.append(f"| {arm['note']} | failed | | | | | |")
            continue
        if arm["group"] != group:
            group = arm["group"]
            lines.append(f"| **{group}** | | | | | | |")
        change = _mean(arm, "AR") - base
        each = ", ".join(f"{figures['AR']:.3f}" for figures in seeds)
        cells = [arm["note"], f"{_mean(arm, 'AR'):.3f}", f"{change:+.3f}", each]
        cells += [f"{_mean(arm, k):.3f}" for k in ("AR50", "px5_at_160")]
        same = arm["mmac"] == usual and arm is not arms["baseline"]
        lines.append(f"| {' | '.join(cells)} | {'' if same else format(arm['mmac'], '.0f')} |")
    return lines


def _mean(arm: dict, figure: str) -> float:
    values = [figures[figure] for figures in arm["seeds"].values() if figures]
    return sum(values) / len(values)


TABLES = {
    "README.md": {"accuracy": accuracy, "speed": speed},
    "docs/ablations.md": {"sweep": sweep},
    "docs/tracking.md": tracking_tables.TRACKING,
    "docs/video.md": tracking_tables.VIDEO,
}
"""File -> name of each of its tables -> what makes it."""


def filled(text: str, tables: dict, name: str) -> str:
    """The text of a file with every table made anew."""
    for table, make in tables.items():
        pattern = re.compile(rf"(<!-- table: {table} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{name} has no table '{table}'")
        body = "\n".join(make())
        text = pattern.sub(lambda match, body=body: f"{match[1]}\n{body}\n\n{match[2]}", text)
    return text


def main() -> None:
    for name, tables in TABLES.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = filled(old, tables, name)
        if "--check" not in sys.argv:
            path.write_text(new, encoding="utf-8")
        elif new != old:
            raise SystemExit(f"{name}: its tables are not those of results/; run python tools/tables.py")


if __name__ == "__main__":
    main()

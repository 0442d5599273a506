"""Writes the README's tables from results/: `python tools/tables.py` (with --check: fail if they are not up to date).

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

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


TABLES = {"accuracy": accuracy, "speed": speed}


def filled(text: str) -> str:
    """The README's text with every table made anew."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no table '{name}'")
        body = "\n".join(make())
        text = pattern.sub(lambda match, body=body: f"{match[1]}\n{body}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = filled(old)
    if "--check" in sys.argv:
        raise SystemExit(
            0 if new == old else "README.md: its tables are not those of results/; run python tools/tables.py"
        )
    readme.write_text(new, encoding="utf-8")

"""Learning curves of runs that followed one another: AR on the validation set against the photos seen, in all of them.

    python tools/learning.py lite runs/lite-3 runs/lite-4 runs/lite --before 601000

writes the points of `lite` into results/learning.json and draws every model's into docs/learning.png. A run counts as far as
its last logged step; --before: photos seen before the first of them. --add: the runs follow the points that are there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "results" / "learning.json", ROOT / "docs" / "learning.png"
PEERS = ("movenet-lightning", "movenet_lightning_int8")
"""Files of results/coco_person_val that are drawn as lines to compare with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of `featherpose train`, in order")
    parser.add_argument("--before", type=int, default=0)
    parser.add_argument("--add", action="store_true", help="after the points that results/learning.json has")
    asked = parser.parse_args()
    every = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    points = every.get(asked.model, []) if asked.add else []
    if known := {point["run"] for point in points} & {run.name for run in asked.runs}:
        parser.error(f"{RESULTS.name} has points of {', '.join(sorted(known))} already; give these runs another folder's name")
    seen = points[-1]["photos"] if points else asked.before
    for run in asked.runs:
        try:
            found, photos = read(run)
        except OSError as error:
            parser.error(f"{run} is no folder of `featherpose train`: {error}")
        points += [{"run": run.name, "photos": seen + at, **figures} for at, figures in found]
        seen += photos
    if not points:
        parser.error("none of the runs was validated")
    every[asked.model] = points
    RESULTS.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    draw(every)
    print(f"{asked.model}: {len(points)} points, {seen} photos; {RESULTS.relative_to(ROOT)}, {PICTURE.relative_to(ROOT)}")


def read(run: Path) -> tuple[list[tuple[int, dict]], int]:
    """(photos seen, figures) of each validation of a run, and how many photos it saw in all."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    stages = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["stage"]
    if len({stage["batch"] for stage in stages}) != 1:
        raise SystemExit(f"{run}: its stages have different batches, so its steps do not tell how many photos it saw")
    a_step = stages[0]["batch"] * next(row["world"] for row in rows if row["kind"] == "start")
    checked = [(row["step"] * a_step, row["figures"]) for row in rows if row["kind"] == "validation"]
    return [(at, {key: figures[key] for key in ("AR", "px5_at_160")}) for at, figures in checked], rows[-1]["step"] * a_step


def draw(every: dict[str, list[dict]]) -> None:
    """A line for each run, a colour for each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=110)
    for number, (model, points) in enumerate(every.items()):
        runs = list(dict.fromkeys(point["run"] for point in points))
        for run in runs:
            some = [point for point in points if point["run"] == run]
            axes.plot([p["photos"] / 1e6 for p in some], [p["AR"] for p in some], "o-", color=f"C{number}", markersize=3,
                      label=model if run == runs[0] else None)  # fmt: skip
    for peer, style in zip(PEERS, ("--", ":"), strict=True):
        result = json.loads((ROOT / "results" / "coco_person_val" / f"{peer}.json").read_text(encoding="utf-8"))
        recall = result["protocols"]["crop"]["figures"]["AR"]
        axes.axhline(recall, color="grey", linestyle=style, linewidth=1, label=result["model"]["name"])
    axes.set(xlabel="million training photos seen", ylabel="AR, coco_person val, crop, float")
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()

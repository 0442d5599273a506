"""Runs the arms of a sweep, two seeds each, and keeps what came out: one change at a time on one short schedule.

    OMP_WAIT_POLICY=passive python tools/sweep.py --out runs/sweep [--only bone k-5] [--jobs 2]
    python tools/tables.py                                              # docs/ablations.md from results/sweep.json

An arm that is done is not run again; an arm that was interrupted goes on. Each run is `featherpose train
recipes/sweep.toml --set ...`. results/sweep.json is written after every run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from featherpose.models.cost import count_macs
from featherpose.skeletons import load_skeleton
from featherpose.systems import build_network
from featherpose.toml import loads
from featherpose.train.config import read_recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "sweep.json"
FIGURES = ("AR", "AR50", "px5_at_160", "torso_0.2")
COST_WH = (192, 192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "sweep.toml")
    parser.add_argument("--arms", type=Path, default=ROOT / "tools" / "sweep_arms.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--only", nargs="+", help="names of arms")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    asked = parser.parse_args()

    arms = loads(asked.arms.read_text(encoding="utf-8"))["arm"]
    unknown = set(asked.only or ()) - {arm["name"] for arm in arms}
    if unknown:
        parser.error(f"{asked.arms} has no arm {sorted(unknown)[0]!r}; it has {', '.join(arm['name'] for arm in arms)}")
    runs = [(arm, seed) for arm in arms for seed in asked.seeds if not asked.only or arm["name"] in asked.only]
    asked.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        done = [pool.submit(run, arm, seed, asked.recipe, asked.out) for arm, seed in runs]
        for number, future in enumerate(done, 1):
            arm, seed, figures = future.result()
            keep(arm, seed, figures, cost(asked.recipe, arm["set"]))
            told = "failed" if figures is None else f"AR {figures['AR']:.3f}"
            print(f"{number}/{len(runs)} {arm['name']} seed {seed}: {told}", flush=True)


def run(arm: dict, seed: int, recipe: Path, out: Path) -> tuple[dict, int, dict | None]:
    """Trains one arm unless it is done; its last validation's figures and photos a second, None if it failed."""
    folder = out / f"{arm['name']}-{seed}"
    figures = finished(folder)
    if figures is None:
        overrides = [word for value in [*arm["set"], f"train.seed={seed}"] for word in ("--set", value)]
        resume = ["--resume"] if (folder / "checkpoint.safetensors").is_file() else []
        with open(out / f"{arm['name']}-{seed}.log", "a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "featherpose", "train", str(recipe), "--out", str(folder), *overrides, *resume]
            subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        figures = finished(folder)
    return arm, seed, figures


def finished(folder: Path) -> dict | None:
    """The figures of a run that came to its end."""
    log = folder / "log.jsonl"
    if not log.is_file():
        return None
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    start = next(line for line in lines if line["kind"] == "start")
    if not validations or validations[-1]["step"] < start["batches"]:
        return None
    return {name: round(validations[-1]["figures"][name], 4) for name in FIGURES}


def cost(recipe: Path, overrides: list[str]) -> float:
    """Million multiply-accumulates of an arm's network for a picture of COST_WH."""
    model = read_recipe(recipe, overrides).model
    return round(count_macs(build_network(model.network, len(load_skeleton(model.skeleton))), COST_WH) / 1e6, 1)


def keep(arm: dict, seed: int, figures: dict | None, mmac: float) -> None:
    """Writes one run's figures into results/sweep.json."""
    table = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"arms": {}}
    entry = table["arms"].setdefault(arm["name"], {})
    entry.update(group=arm["group"], note=arm["note"], set=arm["set"], mmac=mmac)
    entry.setdefault("seeds", {})[str(seed)] = figures and {**figures, "date": date.today().isoformat()}
    temporary = RESULTS.with_suffix(".part")
    temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, RESULTS)


if __name__ == "__main__":
    main()

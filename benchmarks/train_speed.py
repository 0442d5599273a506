"""Training photos per second: with loading and targets, against the network's step alone on one prepared batch.

    OMP_WAIT_POLICY=passive python benchmarks/train_speed.py recipes/lite-start.toml --size 128 192 --freeze 4 0
    OMP_WAIT_POLICY=passive python benchmarks/train_speed.py recipes/lite-start.toml --preset article

Both are timed in turn, several times, so that whatever else the machine does hits them alike; the ratio is the figure
to quote. Two clocks run: the one on the wall, and the processor time of all threads, which on a shared machine tells
more (as long as threads that wait do not spin: OMP_WAIT_POLICY). Photos are decoded once before (as after a run's first
epoch), unless --decode asks for the files every time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path
from statistics import median

import torch

from featherpose.train.config import read_recipe
from featherpose.train.distributed import Process
from featherpose.train.loop import Run

FILL = 5
"""Untimed steps first: the loader's queue is then as full at the start of the timing as at its end."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, batch {options.batch}, workers {options.workers}, "
          f"{options.rounds} rounds of {options.steps} steps")  # fmt: skip
    print("| preset | freeze | size | step alone | with loading | ratio on the wall | ratio of processor time |")
    print("|---|---|---|---|---|---|---|")
    for preset in options.preset:
        for freeze in options.freeze if preset == "lite" else [0]:
            for size in options.size:
                alone, whole = measure(preset, freeze, size, options)
                wall, cpu = ([w[i] / a[i] for w, a in zip(whole, alone, strict=True)] for i in (0, 1))
                speeds = [f"{median(r[0] for r in rates):.0f}" for rates in (alone, whole)]
                cells = [preset, freeze, size, *speeds, spread(wall), spread(cpu)]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="its [[data]] is used, and its [model] init where the preset is lite")
    parser.add_argument("--preset", nargs="+", default=["lite"])
    parser.add_argument("--freeze", nargs="+", type=int, default=[4, 0])
    parser.add_argument("--size", nargs="+", type=int, default=[128, 192])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12, help="timed steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=640, help="photos taken of each data set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--decode", action="store_true", help="decode photos anew each time")
    return parser.parse_args()


def measure(preset: str, freeze: int, size: int, options: argparse.Namespace) -> tuple[list, list]:
    """Photos per second (wall, processor) in each round: of the step alone, and with loading."""
    overrides = [
        f'model.network={{system="movenet", preset="{preset}"}}', f"train.freeze={freeze}", "validation.path=",
        f"stage=[{{input_size={size}, epochs=1, batch={options.batch}}}]", f"train.workers={options.workers}",
        f"train.keep_photos={str(not options.decode).lower()}",
    ]  # fmt: skip
    recipe = read_recipe(options.recipe, [*overrides, *([] if preset == "lite" else ["model.init="])])
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, Path(folder), Process(0, 1, torch.device("cpu")), lambda line: None)
    loader = run.loaders[0]
    loader.parts[:] = [replace(part, samples=part.samples[: options.photos]) for part in loader.parts]
    for part in loader.parts:
        for sample in part.samples:
            run.photos(sample)

    def rate(batches) -> tuple[float, float]:
        for batch in islice(batches, FILL):
            run._train_step(batch)
        started, used = time.monotonic(), time.process_time()
        for batch in islice(batches, options.steps):
            run._train_step(batch)
        photos = options.steps * options.batch
        return photos / (time.monotonic() - started), photos / (time.process_time() - used)

    def with_loading(epoch: int) -> tuple[float, float]:
        batches = loader.epoch(epoch)
        try:
            return rate(batches)
        finally:
            batches.close()

    prepared = next(loader.epoch(0))
    rate(repeat(prepared))  # the first steps choose and compile kernels
    alone, whole = [], []
    for number in range(options.rounds):
        alone.append(rate(repeat(prepared)))
        whole.append(with_loading(number))
    return alone, whole


if __name__ == "__main__":
    main()

"""Where the time of a training step goes on a GPU, and how many photos the loader gives it.

    python benchmarks/train_gpu.py recipes/lite.toml
    python benchmarks/train_gpu.py recipes/lite.toml --set train.compile=true

The recipe is used as it is (its data, batch, processes, teacher). Each part is timed alone with the device waited for, so
the parts add up to more than a step, in which they overlap; the last line is training as it is.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch

from featherpose.train import distributed
from featherpose.train.config import read_recipe
from featherpose.train.loop import Run

FILL = 6
"""Batches before a timing: places that were prepared in advance are then used up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], help="overrides, as for featherpose train")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    asked = parser.parse_args()
    recipe = read_recipe(asked.recipe, [*asked.set, "validation.path="])
    process = distributed.join(recipe.train.device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, Path(folder), process, lambda line: None)
    name = torch.cuda.get_device_name(process.device) if process.device.type == "cuda" else "CPU"
    batch_size, steps = recipe.stage[0].batch, asked.steps
    print(f"{name}, torch {torch.__version__}, batch {batch_size}, {recipe.train.processes} processes, "
          f"compiled: {recipe.train.compile}")  # fmt: skip
    loader = run.loaders[0]
    if recipe.train.processes:
        run.sender.pin(loader.crew())
    batches = loader.epoch(0)

    def photos(seconds: float) -> str:
        return f"{batch_size / seconds:8.0f} photos/s"

    started = time.monotonic()
    for number, _ in enumerate(islice(batches, FILL + steps)):
        if number == FILL - 1:
            started = time.monotonic()
    print(f"loader alone            {photos((time.monotonic() - started) / steps)}")

    batch = {name: value.copy() for name, value in next(batches).items()}
    started = time.monotonic()
    run._train_step(batch)
    wait(process.device)
    print(f"first step              {time.monotonic() - started:8.1f} s")
    step = timed(lambda: run._train_step(batch), steps, process.device)
    print(f"step on one batch       {1e3 * step:8.1f} ms {photos(step)}")
    image, targets = run._inputs(batch, run.network)

    def learn() -> None:
        run.compiled(image, targets)[0].backward()
        run.optimizer.zero_grad(set_to_none=True)

    parts = {"sending, maps, teacher": lambda: run._inputs(batch, run.network)}
    if run.teacher is not None:
        parts["  of which teacher"] = lambda: run.teacher(image, targets)
    parts["forward, loss, backward"] = learn
    for name, part in parts.items():
        print(f"{name:24}{1e3 * timed(part, steps, process.device):8.1f} ms")

    run.compiled(image, targets)[0].backward()

    def update() -> None:
        run.optimizer.step()
        if run.average is not None:
            run.average.update(run.network, run.step)

    print(f"optimizer, average      {1e3 * timed(update, steps, process.device):8.1f} ms")

    for number, batch in enumerate(islice(batches, FILL + steps)):
        run._train_step(batch)
        if number == FILL - 1:
            wait(process.device)
            started = time.monotonic()
    wait(process.device)
    print(f"training                {photos((time.monotonic() - started) / steps)}")
    batches.close()
    run.close()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds per call, after one that is not counted."""
    function()
    wait(device)
    started = time.monotonic()
    for _ in range(times):
        function()
    wait(device)
    return (time.monotonic() - started) / times


if __name__ == "__main__":
    main()

"""`featherpose train RECIPE.toml`: a model from labelled photos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe (.toml); see recipes/.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder; runs/NAME unless given.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override a value: --set train.lr=0.001, repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's checkpoint.")] = False,
    stop_after: Annotated[
        int | None, typer.Option(help="Stop after so many steps of this call, as Ctrl-C does.", min=1)
    ] = None,
) -> None:
    """Train a model. Several processes: torchrun --nproc-per-node 2 -m featherpose train RECIPE.toml

    Ctrl-C finishes the step, writes a checkpoint and exits with 130; --resume goes on from there as if never stopped.
    """
    import os

    from rich.console import Console

    from featherpose.cli import INTERRUPTED
    from featherpose.train.config import read_recipe
    from featherpose.train.loop import Interrupted
    from featherpose.train.loop import train as run

    rules = read_recipe(recipe, set_ or [])
    folder = out or Path("runs") / rules.model.name
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    first = os.environ.get("RANK", "0") == "0"
    stopped = ""
    with _Display(console, enabled=first) as display:
        try:
            model = run(rules, folder, resume=resume, report=display, stop_after=stop_after)
        except Interrupted as interruption:
            stopped = str(interruption)
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
    if stopped:
        if first:
            console.print(stopped)
        raise SystemExit(INTERRUPTED)  # the sentence has been said
    if first:
        console.print(f"model: {model}")


TELL_SECONDS = 60
"""Between two lines of progress where there is no terminal for a bar."""


class _Display:
    """A bar on a terminal, plain lines elsewhere."""

    def __init__(self, console, *, enabled: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console, self.enabled = console, enabled
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("steps  {task.fields[rate]} photos/s  loss {task.fields[loss]}"), TimeRemainingColumn(),
            console=console, disable=not (enabled and console.is_terminal),
        )  # fmt: skip
        self.task = None
        self.told = -float("inf")

    def __enter__(self):
        self.bar.__enter__()
        return self

    def __exit__(self, *details) -> None:
        self.bar.__exit__(*details)

    def __call__(self, line: dict) -> None:
        if self.enabled:
            getattr(self, f"_{line['kind']}")(line)

    def _start(self, line: dict) -> None:
        done = f", {line['step']} of them done" if line["step"] else ""
        self.console.print(f"{line['samples']} photos, {line['steps']} steps in {line['epochs']} epochs{done}")
        for data, count in line["problems"].items():
            self.console.print(
                f"{data}: {count} labels that cannot be true are left out; `featherpose data check {data}` lists them"
            )
        if line["validated_and_trained"]:
            self.console.print(
                f"{line['validated_and_trained']} photos that are validated on are trained on too: figures flatter the model"
            )
        self.task = self.bar.add_task(
            "train", total=line["steps"], completed=line["step"], epoch=line["epoch"] + 1, epochs=line["epochs"],
            rate="-", loss="-",
        )  # fmt: skip

    def _step(self, line: dict) -> None:
        self.bar.update(self.task, completed=line["step"], epoch=line["epoch"] + 1)

    def _train(self, line: dict) -> None:
        self.bar.update(self.task, rate=line["photos_per_s"], loss=f"{line['loss']:.4f}")
        now = time.monotonic()
        if not self.console.is_terminal and now - self.told >= TELL_SECONDS:
            self.told = now
            self.console.print(
                f"step {line['step']}/{line['steps']} ({line['step'] / line['steps']:.0%})  loss {line['loss']:.4f}  "
                f"{line['photos_per_s']} photos/s"
            )

    def _validation(self, line: dict) -> None:
        shown = "  ".join(f"{name} {value:.3f}" for name, value in list(line["figures"].items())[:6])
        self.console.print(f"epoch {line['epoch']}/{line['epochs']}  {shown}")
        for reason in line["unreadable"]:
            self.console.print(f"not validated on: {reason}")

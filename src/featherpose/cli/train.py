"""`featherpose train RECIPE.toml`: a model from labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe (.toml); see recipes/.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME unless given.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Override a value: --set train.lr=0.001, repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the run folder's checkpoint.")] = False,
) -> None:
    """Train a model. Several processes: torchrun --nproc-per-node 2 -m featherpose train RECIPE.toml"""
    import os

    from rich.console import Console

    from featherpose.train.config import read_recipe
    from featherpose.train.loop import Interrupted
    from featherpose.train.loop import train as run

    rules = read_recipe(recipe, set_ or [])
    folder = out or Path("runs") / rules.model.name
    console = Console(stderr=True)
    first = os.environ.get("RANK", "0") == "0"
    with _Display(console, enabled=first) as display:
        try:
            model = run(rules, folder, resume=resume, report=display)
        except Interrupted as stopped:
            console.print(str(stopped))
            raise typer.Exit(130) from stopped
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
    if first:
        console.print(f"model: {model}")


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

    def __enter__(self):
        self.bar.__enter__()
        return self

    def __exit__(self, *details) -> None:
        self.bar.__exit__(*details)

    def __call__(self, line: dict) -> None:
        if not self.enabled:
            return
        if self.task is None:
            self.task = self.bar.add_task(
                "train", total=line["steps"], completed=line["step"], epoch=line["epoch"], epochs=line["epochs"],
                rate="-", loss="-",
            )  # fmt: skip
        if line["kind"] == "train":
            self.bar.update(
                self.task, completed=line["step"], epoch=line["epoch"] + 1, rate=line["photos_per_s"], loss=line["loss"]
            )
            if not self.console.is_terminal and line["step"] % 500 == 0:
                left = (line["steps"] - line["step"]) / line["steps"]
                self.console.print(f"step {line['step']}/{line['steps']} ({1 - left:.0%})  loss {line['loss']:.4f}  "
                                   f"{line['photos_per_s']} photos/s", highlight=False)  # fmt: skip
        elif line["kind"] == "validation":
            figures = line["figures"]
            shown = "  ".join(f"{name} {value:.3f}" for name, value in list(figures.items())[:6])
            self.console.print(f"epoch {line['epoch']}/{line['epochs']}  {shown}", highlight=False)

"""`featherpose bench`: how fast models run on this machine, in turn in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    models: Annotated[
        list[str], typer.Argument(help="Model files, or names of models that come along.", metavar="MODEL")
    ],
    photo: Annotated[Path | None, typer.Option(help="Photo to run on  [default: a drawn scene, 1280x720]")] = None,
    threads: Annotated[int, typer.Option(help="Threads for one picture.", min=1)] = 1,
    runs: Annotated[int, typer.Option(help="Runs of each model.", min=1)] = 200,
    warmup: Annotated[int, typer.Option(help="Runs of each model before any is counted.", min=0)] = 20,
    batch: Annotated[int, typer.Option(help="Pictures in one run.", min=1)] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Time models from a photo in memory to its joints, split into preparing, running the network, and decoding.

    Compare within one run only. Files that decode in their own graph, as Google's do, say so.
    """
    import json
    import os
    from datetime import datetime, timezone

    import numpy as np
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    from featherpose import bench as measuring
    from featherpose.cli.progress import rate_bar
    from featherpose.runtime.photos import read_photo

    if json_file is not None and not json_file.parent.is_dir():
        raise FileNotFoundError(f"{json_file.parent}: there is no such folder to write the figures to")
    if photo is None:
        from featherpose.data.synthetic.scene import draw_scene

        image, _ = draw_scene(np.random.default_rng(0), measuring.SCENE_WH)
    else:
        image = read_photo(photo)
    taking_part = measuring.contestants(models, threads)
    host = measuring.machine()
    with rate_bar("blocks") as bar:
        task = bar.add_task("bench", total=None)
        timings = measuring.bench(
            taking_part,
            image,
            threads=threads,
            runs=runs,
            warmup=warmup,
            batch=batch,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    facts = measuring.report(timings, image=image, threads=threads, batch=batch, date=date, host=host)
    if json_file is not None:
        temporary = json_file.with_name(f".{json_file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, json_file)
        finally:
            temporary.unlink(missing_ok=True)
    if as_markdown:
        print(measuring.markdown(facts), end="")
        return
    table = Table(Column("model", overflow="fold"), box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name in (*measuring.STAGES, "decode / network"):
        table.add_column(name, justify="right")
    for label, size, input_size, *stages, fastest, share in measuring.rows(facts):
        stages = [stage.replace(" (", "\n").rstrip(")") for stage in stages]  # two lines, to fit 80 columns
        table.add_row(f"{label}\n{size} MB, {input_size}", *stages[:-1], f"{stages[-1]}\nmin {fastest}", share)
    console = Console(highlight=False)
    console.print(table)
    console.print(measuring.caption(facts), markup=False)

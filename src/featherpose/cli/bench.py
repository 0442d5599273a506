"""`featherpose bench`: how fast models run on this machine, in turn in one run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def bench(
    models: Annotated[
        list[str], typer.Argument(help="Model files, or names of models that come along.", metavar="MODEL")
    ],
    photo: Annotated[Path | None, typer.Option(help="Photo to run on  \\[default: a drawn scene, 1280x720]")] = None,
    video: Annotated[
        bool, typer.Option("--video", help="Follow somebody through a clip instead, stage by stage of each frame.")
    ] = False,
    clip: Annotated[
        str | None, typer.Option(metavar="VIDEO", help="With --video: the clip  \\[default: a drawn one, 1280x720]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --video: another drawn clip.", min=0)] = None,
    threads: Annotated[int, typer.Option(help="Threads for one picture.", min=1)] = 1,
    runs: Annotated[int, typer.Option(help="Runs of each model, or frames.", min=1)] = 200,
    warmup: Annotated[int, typer.Option(help="Runs of each model before any is counted.", min=0)] = 20,
    batch: Annotated[int, typer.Option(help="Pictures in one run.", min=1)] = 1,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="Count the thread's processor time, for a machine that does other work.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
) -> None:
    """Time models from a photo in memory to its joints, split into preparing, running the network, and decoding.

    Compare within one run only. Files that decode in their own graph, as Google's do, say so. With --video: what
    following one person costs per frame of a clip; such files are then followed by the official crop rule.
    """
    import os
    import time
    from datetime import datetime, timezone

    from featherpose import bench as measuring
    from featherpose import bench_video
    from featherpose.cli.figures import check_figures_file, write_figures
    from featherpose.cli.progress import rate_bar

    check_figures_file(json_file)
    if clip is not None and not video:
        raise ValueError("--clip is the clip of --video: give both")
    if seed is not None and (clip is not None or not video):
        raise ValueError("--seed chooses a drawn clip of --video: give both, and no --clip")
    if video and (photo is not None or batch != 1):
        raise ValueError("--video follows through a clip, frame by frame: leave --photo and --batch out")
    if cpu_time and threads != 1:
        raise ValueError(f"--cpu-time counts one thread: leave --threads {threads} out")
    pictures = _pictures(photo, clip, video, seed)
    taking_part = measuring.contestants(models, threads)
    host = measuring.machine()
    counts = {"threads": threads, "runs": runs, "warmup": warmup}
    counts["clock"] = time.thread_time if cpu_time else time.perf_counter
    with rate_bar("blocks") as bar:
        task = bar.add_task("bench", total=None)
        counts["progress"] = lambda done, total: bar.update(task, completed=done, total=total)
        if video:
            timings = bench_video.bench_video(taking_part, pictures, **counts)
        else:
            timings = measuring.bench(taking_part, pictures[0], batch=batch, **counts)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    said = {"threads": threads, "cpu_time": cpu_time, "date": date, "host": host}
    if video:
        drawn = "a drawn clip" if seed is None else f"a drawn clip, seed {seed}"
        clip = drawn if clip is None else os.path.basename(clip)
        facts = bench_video.report(timings, frames=pictures, clip=clip, **said)
    else:
        facts = measuring.report(timings, image=pictures[0], batch=batch, **said)
    kind = bench_video if video else measuring
    if as_markdown:
        print(kind.markdown(facts), end="")
    else:
        _print_table(facts, kind)
    if json_file is not None:
        write_figures(json_file, facts)


def _print_table(facts: dict, kind) -> None:
    """What was measured, for a terminal. kind: the module that measured, featherpose.bench or bench_video."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from featherpose import bench_video

    table = Table(Column("model", overflow="fold"), box=box.SIMPLE, padding=(0, 1, 0, 0))
    if kind is bench_video:
        for name in (*bench_video.STAGES, "of the\nnetwork"):
            table.add_column(name, justify="right")
        for label, way, *stages, share, of_one, looks in bench_video.rows(facts):
            table.add_row(f"{escape(label)}\n{way}, {looks} looks", *map(_two_lines, stages), f"{share}\n{of_one}")
    else:
        for name in (*kind.STAGES, "decode / network"):
            table.add_column(name, justify="right")
        for label, size, input_size, *stages, fastest, share in kind.rows(facts):
            stages = [_two_lines(stage) for stage in stages]
            table.add_row(f"{escape(label)}\n{size} MB, {input_size}", *stages[:-1], f"{stages[-1]}\nmin {fastest}", share)
    console = Console(highlight=False)
    console.print(table)
    console.print(kind.caption(facts), markup=False)


ZERO = re.compile(r"\b0\.")


def _two_lines(text: str) -> str:
    """A cell that fits into 80 columns: the range below the median, without the zeros before points."""
    median, _, between = text.partition(" (")
    return f"{median}\n{ZERO.sub('.', between.rstrip(')'))}".rstrip()


def _pictures(photo: Path | None, clip: str | None, video: bool, seed: int | None) -> list:
    """What is measured on: the frames of a clip, or one photo."""
    import numpy as np

    from featherpose import bench, bench_video

    if video:
        if clip is not None:
            return bench_video.file_clip(clip)
        return bench_video.drawn_clip() if seed is None else bench_video.drawn_clip(seed=seed)
    if photo is not None:
        from featherpose.runtime.photos import read_photo

        return [read_photo(photo)]
    from featherpose.data.synthetic.scene import draw_scene

    return [draw_scene(np.random.default_rng(0), bench.SCENE_WH)[0]]

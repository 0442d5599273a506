"""`featherpose data ...`: look at labels before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherpose.cli.data_label import label
from featherpose.cli.data_levers import augment, background, balance, scale
from featherpose.cli.data_split import split as split_labels
from featherpose.cli.folder import results_folder

if TYPE_CHECKING:
    from featherpose.data.readers import Problem

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for command in (label, balance, scale, augment, background):
    app.command()(command)
app.command("split")(split_labels)


@app.callback()
def data() -> None:
    """Look at labels and prepare them for training."""


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Label file, or folder with person_keypoints_SPLIT.json.")],
    split: Annotated[str | None, typer.Option(help="Only this split of a folder; all of them unless given.")] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos; SPLIT next to the label file.")] = None,
    skeleton: Annotated[
        str | None, typer.Option(help="Map the joints onto it: a name, or a .toml or .json file.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("featherpose-out"),
    samples: Annotated[int, typer.Option(min=0, help="How many photos to draw targets over.")] = 24,
    input_size: Annotated[int, typer.Option(min=32, help="Network input the targets are made for, pixels.")] = 192,
    min_joints: Annotated[int | None, typer.Option(min=0, help="Fewer labelled joints are suspicious.")] = None,
    seed: Annotated[int, typer.Option(help="Which photos are drawn.")] = 0,
) -> None:
    """Find labels that cannot be true or look wrong, photos that are missing, damaged or in two splits.

    Writes problems.csv, and for each split targets-SPLIT.png (what a network would learn from), suspicions-SPLIT.png
    and areas-SPLIT.png. The exit code is 1 when there are errors; suspicions alone leave it at 0.
    """
    from functools import partial

    import numpy as np
    from rich.console import Console
    from rich.markup import escape

    from featherpose.cli.progress import rate_bar
    from featherpose.codecs.movenet import MoveNetCodec
    from featherpose.data.check import MIN_JOINTS, check_photos, find_leaks, find_suspicions, find_twins
    from featherpose.data.readers import find_labels, read_dataset, splits_of
    from featherpose.data.target_sheet import save_png, suspicion_sheet, target_sheet
    from featherpose.skeletons import load_skeleton

    console = Console(highlight=False)
    wanted = None if skeleton is None else load_skeleton(skeleton)
    names = splits_of(path) if path.is_dir() and split is None else []
    labels = {name: find_labels(path, split=name) for name in names} or {"": find_labels(path, split=split)}
    parts, contents, findings = {}, {}, []
    for name, file in labels.items():
        tag = name or file.stem.removeprefix("person_keypoints_")
        errors: list[Problem] = []
        try:
            parts[tag] = read_dataset(file, photos=photos, skeleton=wanted, problems=errors)
        except ValueError:
            if not errors:
                raise
            parts[tag] = []  # none of its photos can be used, and the errors say why
        results_folder(out)  # not before something could be read
        with rate_bar("photos") as bar:
            bad, contents[tag] = check_photos(parts[tag], partial(bar.track, description=f"check {tag}"))
        suspicions = find_suspicions(parts[tag], min_joints=MIN_JOINTS if min_joints is None else min_joints)
        twins = find_twins(contents[tag])
        findings += [(tag, "error", problem) for problem in errors + bad + twins[0]]
        findings += [(tag, "suspicion", problem) for problem in twins[1] + suspicions]

        console.print(f"\n[bold]{escape(tag)}[/]: {escape(str(file))}")
        _print_contents(console, parts[tag])
        if parts[tag]:
            codec = MoveNetCodec(input_size=(input_size, input_size), joints=len(parts[tag][0].skeleton))
            rng = np.random.default_rng(seed)
            save_png(out / f"targets-{tag}.png", target_sheet(parts[tag], codec, count=samples, rng=rng))
            save_png(out / f"suspicions-{tag}.png", suspicion_sheet(parts[tag], suspicions, count=samples))
            _show_areas(console, parts[tag], out / f"areas-{tag}.png", title=f"{path.name} {tag}")

    findings += [("", "error", problem) for problem in find_leaks(parts, contents)]
    _print_findings(console, findings)
    _write_findings(out / "problems.csv", findings)
    count = sum(severity == "error" for _, severity, _ in findings)
    console.print(
        f"errors: {count}, suspicions: {len(findings) - count}; problems.csv and pictures are in {escape(str(out))}"
    )
    if count:
        raise typer.Exit(1)


def _print_contents(console, samples: list) -> None:
    """How many photos and people, and how often each joint is labelled."""
    from rich.table import Table

    from featherpose.data.check import count_labels

    people = sum(len(sample.xy) for sample in samples)
    crowds = sum(0 if sample.ignore_xyxy is None else len(sample.ignore_xyxy) for sample in samples)
    originals = len({sample.photo_id for sample in samples})
    nobody = sum(sample.target < 0 for sample in samples)
    console.print(f"photos: {len(samples)} of {originals} originals, people: {people}, ignored regions: {crowds}")
    if nobody:
        console.print(f"photos without a target: {nobody}")
    if not people:
        return
    table = Table("joint", box=None, pad_edge=False)
    for column in ("unknown", "unlabelled", "occluded", "visible"):
        table.add_column(column, justify="right")
    for name, counts in zip(samples[0].skeleton.joints, count_labels(samples), strict=True):
        table.add_row(name, *(str(n) for n in counts))
    console.print(table)


def _show_areas(console, samples: list, picture: Path, *, title: str) -> None:
    """The joint-box area histogram as text, and as a picture where matplotlib is installed."""
    import numpy as np

    from featherpose.data.check import AREA_SIDE, AREA_STEP, area_histogram, joint_box_areas, plot_areas

    areas = joint_box_areas(samples)
    if len(areas) == 0:
        return
    counts, edges = area_histogram(areas)
    mode, longest = edges[counts.argmax()], max(int(counts.max()), 1)
    console.print(
        f"joint-box area of the target, px² with the photo at {AREA_SIDE} px: median {np.median(areas):,.0f}, "
        f"most often {mode:,} to {mode + AREA_STEP:,}"
    )
    for edge, count in zip(edges, counts, strict=True):
        end = f"{edge + AREA_STEP:>7,}" if edge < edges[-1] else "   more"
        console.print(f"  {edge:>7,} to {end} {count:>6} {'#' * round(40 * count / longest)}")
    try:
        plot_areas(areas, picture, title=title)
    except ImportError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        console.print(
            "no picture of the histogram: it needs matplotlib (pip install 'featherpose[train]')", markup=False
        )


def _print_findings(console, findings: list[tuple[str, str, Problem]]) -> None:
    """One row per sort of finding, with the first two as examples."""
    from rich.markup import escape
    from rich.table import Table

    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for tag, severity, problem in findings:
        groups.setdefault((severity, problem.kind, tag), []).append(problem)
    if not groups:
        return
    table = Table("", "what", "split", "labels", "done", "examples", box=None, pad_edge=False)
    for (severity, kind, tag), problems in sorted(groups.items()):
        style = "red" if severity == "error" else "yellow"
        examples = "\n".join(problem.sentence for problem in problems[:2])
        action = ", ".join(sorted({problem.action for problem in problems}))
        table.add_row(f"[{style}]{severity}[/]", kind, tag, str(len(problems)), action, escape(examples))
    console.print()
    console.print(table)


def _write_findings(file: Path, findings: list[tuple[str, str, Problem]]) -> None:
    import csv

    from featherpose.runtime.report import write_whole

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as handle:
            rows = csv.writer(handle)
            rows.writerow(("split", "severity", "kind", "photo", "annotation", "sentence", "action"))
            for tag, severity, p in findings:
                annotation = "" if p.annotation is None else p.annotation
                rows.writerow((tag, severity, p.kind, p.photo, annotation, p.sentence, p.action))

    write_whole(file, write)

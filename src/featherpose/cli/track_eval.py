"""`featherpose evaluate-track`: how well models follow one person through clips with exact truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate_track(
    models: Annotated[
        list[str], typer.Argument(help="Model files, or names of models that come along.", metavar="MODEL")
    ],
    clips: Annotated[int, typer.Option(help="Drawn clips of each kind.", min=1)] = 4,
    photos: Annotated[
        Path | None, typer.Option(help="Data folder whose photos become clips too, panned and zoomed.", metavar="PATH")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of that folder  \\[default: val]")] = None,
    way: Annotated[
        list[str] | None, typer.Option(help="Ways of following; several may be given  \\[default: all]")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Kinds of drawn clips; several may be given.")] = None,
    seed: Annotated[int | None, typer.Option(help="First seed of the clips  \\[default: 1000]", min=0)] = None,
    threads: Annotated[int, typer.Option(help="Threads for one picture.", min=1)] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures, per kind, to this file.")] = None,
) -> None:
    """Measure how well one person is followed: on whom the track is, how soon it is back, how calm and how late it is.

    Clips are drawn while they are read; people cross, hide, leave and come back. docs/tracking.md explains the figures.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from featherpose import evaluate_track as measuring
    from featherpose.cli.figures import check_figures_file, write_figures
    from featherpose.cli.progress import rate_bar
    from featherpose.data.readers import find_labels, read_dataset, splits_of
    from featherpose.data.sequences import CLIPS
    from featherpose.runtime.predictor import Predictor
    from featherpose.skeletons import COCO17, did_you_mean

    ways, kinds = way or list(measuring.WAYS), kind or list(CLIPS)
    for words, known, what in ((ways, measuring.WAYS, "way of following"), (kinds, CLIPS, "kind of clip")):
        for word in words:
            if word not in known:
                raise ValueError(f"unknown {what} '{word}'{did_you_mean(word, known)}")
    check_figures_file(json_file)
    first = measuring.FIRST_SEED if seed is None else seed
    samples = []
    if photos is not None:
        if split is None and photos.is_dir() and "val" in splits_of(photos):
            split = "val"
        samples = read_dataset(find_labels(photos, split=split), problems=[])
    predictors = {model: Predictor(model, threads=threads) for model in models}
    of_photos = measuring.photo_clips(samples, clips, first) if photos is not None else ()
    for predictor in predictors.values():
        for skeleton in dict.fromkeys([COCO17, *(sample.skeleton for sample in samples)]):
            measuring.shared_joints(predictor.spec.skeleton, skeleton)

    def all_clips():
        for name in kinds:
            for clip in measuring.synthetic_clips(clips, first, [name]):
                yield name, clip
        for motion, clip in of_photos:
            yield f"photo, {motion}", clip

    # A clip is drawn once and read by every way in turn: drawing takes longer than following.
    tracks: dict[tuple[str, str], dict[str, list]] = {(model, name): {} for model in models for name in ways}
    with rate_bar("clips") as bar:
        from featherpose.data.sequences import MOTIONS

        count = clips * (len(kinds) + (len(MOTIONS) if samples else 0))
        for name, clip in bar.track(all_clips(), total=count, description="follow"):
            kept = measuring.drawn(clip)
            for (model, follower), found in tracks.items():
                track = measuring.follow(kept, measuring.WAYS[follower](predictors[model]))
                found.setdefault(name, []).append(track)

    facts: dict = {}
    for (model, follower), found in tracks.items():
        rows = {name: measuring.figures_of(some) for name, some in found.items()}
        rows["all"] = measuring.figures_of([track for some in found.values() for track in some])
        facts.setdefault(model, {})[follower] = rows
    console = Console(highlight=False)
    for model, followers in facts.items():
        table = Table(
            "figure", *followers, box=box.SIMPLE, padding=(0, 1, 0, 0), title=escape(model) if len(facts) > 1 else None
        )
        for name in measuring.COLUMNS:
            cells = (measuring.shown(name, rows["all"][name]) for rows in followers.values())
            table.add_row(name.replace("_", " "), *cells)
        console.print(table)
    print("docs/tracking.md says what the figures are; '-' where no clip tells")
    if json_file is not None:
        write_figures(json_file, measuring.plain({"clips": clips, "first_seed": first, "figures": facts}))

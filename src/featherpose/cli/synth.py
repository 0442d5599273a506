"""`featherpose synth`: a training set of people that nobody photographed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synth(
    out: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Folder for SPLIT/*.jpg and person_keypoints_SPLIT.json.")
    ],
    count: Annotated[int, typer.Option(help="How many scenes to draw.")] = 100,
    size: Annotated[str, typer.Option(help="Pixels of a picture: 256, or 320x240.")] = "256",
    persons: Annotated[str, typer.Option(help="People in a scene: 1, or a range like 1-3.")] = "1",
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed draws the same pictures  \\[default: 0 for train, another for each other split]"),
    ] = None,
    split: Annotated[str, typer.Option(help="Name of the split, such as train or val.")] = "train",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier set of this name.")] = False,
) -> None:
    """Draw synthetic people with exact joints, as a COCO keypoint data set."""
    from functools import partial

    from featherpose.cli.progress import rate_bar
    from featherpose.data.synthetic.dataset import check_request, write_dataset

    size_wh = _numbers(size, "x", "--size", "256 or 320x240")
    people = _numbers(persons, "-", "--persons", "2 or 1-3")
    request = {"count": count, "size_wh": size_wh, "persons": people, "seed": seed, "split": split, "overwrite": overwrite}
    check_request(out, **request)
    with rate_bar("scenes") as bar:
        labels = write_dataset(out, track=partial(bar.track, description="draw"), **request)
    print(f"drawn: {count} scenes in {out / split}")
    print(f"labels: {labels}")
    print(f"\nlook at them: featherpose data check {out}")


def _numbers(text: str, between: str, option: str, example: str) -> tuple[int, int]:
    """One number (twice) or two."""
    words = text.lower().split(between)
    if not 1 <= len(words) <= 2 or not all(word.strip().isdecimal() for word in words):
        raise ValueError(f"{option} must look like {example}, got '{text}'")
    return int(words[0]), int(words[-1])

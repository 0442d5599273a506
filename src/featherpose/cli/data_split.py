"""`featherpose data split`: train and val out of one label file, no photo in both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherpose.cli.folder import results_folder


def split(
    labels: Annotated[Path, typer.Argument(help="Label file (COCO keypoints).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for person_keypoints_train.json and _val.json.")],
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos; where the label file says.")] = None,
    val: Annotated[float, typer.Option(help="Share of the photos to test on, between 0 and 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another one puts other photos into val.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the two files.")] = False,
) -> None:
    """Make two label files of one: train and val, all crops of a photo in the same. Photos stay where they are.

    Where a photo comes depends on its coco_id (or file name with its folders) and the seed alone: photos that are added
    later move no other. Photos that cannot be used are left out, other labels stay as they are.
    """
    import json

    from featherpose.data.readers import LABELS_NAME, photos_folder, read_dataset, read_json
    from featherpose.data.splits import label_parts
    from featherpose.runtime.report import write_whole

    if not 0 < val < 1:
        raise ValueError(f"--val must lie between 0 and 1, got {val:g}")
    if labels.is_dir():
        raise ValueError(f"{labels}: name the label file itself; a folder with train and val is split already")
    problems: list = []
    samples = read_dataset(labels, photos=photos, problems=problems)
    if problems:
        lost = sum(problem.action == "dropped photo" for problem in problems)
        left_out = f"; photos left out: {lost}" if lost else ""
        check = f"featherpose data check {labels}" + (f" --photos {photos}" if photos else "")
        typer.echo(f"{len(problems)} labels cannot be true: {check} lists them{left_out}", err=True)
    targets = {name: out / LABELS_NAME.format(split=name) for name in ("train", "val")}
    for target in targets.values():
        if target.exists() and (not overwrite or target.resolve() == labels.resolve()):
            raise FileExistsError(f"{target}: is there already; name another --out, or --overwrite")
    folders = {name: photos_folder(target) for name, target in targets.items()}
    content = read_json(labels)
    parts = label_parts(content, samples, {"train": 1 - val, "val": val}, folders, seed=seed)
    results_folder(out)
    for name, part in parts.items():
        text = json.dumps(part)
        write_whole(targets[name], lambda path, text=text: path.write_text(text, encoding="utf-8"))
        print(f"{targets[name]}: {len(part['images'])} photos, {len(part['annotations'])} people")

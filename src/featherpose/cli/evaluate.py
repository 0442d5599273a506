"""`featherpose evaluate`: how good models are on labelled photos, as a table, JSON, CSV and a sheet of the worst."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

from featherpose.cli.folder import results_folder


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Model files, or names of models that come along.", metavar="MODEL")
    ],
    data: Annotated[Path, typer.Option(help="Data folder, or a label file.", metavar="PATH")],
    split: Annotated[str | None, typer.Option(help="Split of the data folder  \\[default: val]")] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos, if not beside the labels.")] = None,
    nobody: Annotated[
        Path | None, typer.Option(help="Label file or folder of photos without people, for false alarms.", metavar="PATH")
    ] = None,
    protocol: Annotated[str, typer.Option(help='"crop", "frame", "frame + crop", or "all" three.')] = "crop",
    people: Annotated[str, typer.Option(help='"target", or "all" labelled people (crop only).')] = "target",
    camera: Annotated[
        str | None, typer.Option(help="Through a bad camera: motion, dark, noise or bits.", metavar="FAULT")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="Of that fault, 0 to 1  \\[default: 0.5]")] = None,
    area_factor: Annotated[
        float | None, typer.Option(help="OKS area in box areas; 0 takes the areas of the label file  \\[default: 0.53]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for JSON, CSV and sheets of pictures.")
    ] = None,
    worst: Annotated[int, typer.Option(help="How many of the worst are drawn.", min=0)] = 24,
    shown: Annotated[int, typer.Option(help="How many, evenly chosen, are drawn on a sheet of their own.", min=0)] = 0,
    limit: Annotated[int | None, typer.Option(help="Take the first so many photos only.", min=1)] = None,
    threads: Annotated[int, typer.Option(help="Threads for one picture.")] = 1,
    batch: Annotated[int, typer.Option(help="Pictures in one run of the network.", min=1)] = 16,
) -> None:
    """Measure models on labelled photos: AR and AP by OKS, PCK at several radii, pixel errors, per joint and group.

    Protocols: "crop" shows a square around the target, "frame" the whole photo, "frame + crop" what predict does;
    figures of one do not compare with another's. Impossible labels, joints that a teacher labelled and unreadable photos
    are left out and told; for photos the exit code is then 1.
    """
    from rich.console import Console

    from featherpose.cli.progress import rate_bar
    from featherpose.data.readers import find_labels, read_dataset, splits_of
    from featherpose.evaluate import PROTOCOLS, check_people
    from featherpose.evaluate import evaluate as measure
    from featherpose.evaluate_report import (
        comparison_table,
        evenly_of,
        left_out_lines,
        parts_table,
        presence_line,
        same_counts,
        worst_of,
        write_joints_csv,
        write_results,
        write_sheet,
    )
    from featherpose.metrics.oks import AREA_FACTOR, average_precision_is_there
    from featherpose.runtime.predictor import Predictor
    from featherpose.skeletons import did_you_mean

    protocols = list(PROTOCOLS) if protocol == "all" else [protocol]
    if protocols[0] not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'{did_you_mean(protocol, (*PROTOCOLS, 'all'))}")
    if area_factor is not None and not 0 <= area_factor < math.inf:
        raise ValueError(f"--area-factor must be 0 or a positive number, got {area_factor:g}")
    for wanted in protocols:
        check_people(people, wanted)
    read = _camera(camera, strength)
    factor = AREA_FACTOR if area_factor is None else area_factor or None
    if split is None and data.is_dir() and "val" in splits_of(data):
        split = "val"
    labels = find_labels(data, split=split)
    predictors = [Predictor(model, threads=threads) for model in models]
    names = unique_names([predictor.spec.name for predictor in predictors])
    problems: list = []
    samples = read_dataset(labels, photos=photos, problems=problems)[:limit]
    if nobody is not None:
        samples += _without_people(nobody, problems)
    if out is not None:
        results_folder(out)

    stderr = Console(stderr=True)
    rows, results = [], []
    skipped: dict[str, None] = {}
    for model, name, predictor in zip(models, names, predictors, strict=True):
        evaluations = []
        for wanted in protocols:
            with rate_bar("photos") as bar:
                task = bar.add_task(f"{name}, {wanted}", total=len(samples))

                def step(done: int, total: int, bar=bar, task=task) -> None:
                    bar.update(task, completed=done, total=total)

                evaluation = measure(
                    predictor,
                    samples,
                    protocol=wanted,
                    people=people,
                    batch=batch,
                    area_factor=factor,
                    read=read,
                    progress=step,
                )
            evaluations.append(evaluation)
            rows.append((name, evaluation))
            skipped |= dict.fromkeys(evaluation.unreadable)
        results.append((model, name, predictor, evaluations))

    stdout = Console(width=None if Console().is_terminal else 160)
    counts = rows[0][1].counts
    title = _data_name(labels)
    if same_counts(rows):
        title += f": {counts['photos']} photos, {counts['targets']} people, {counts['joints']} joints"
    title += "" if read is None else f", camera: {read.name} at {read.strength:g}"
    stdout.print(comparison_table(rows, title), highlight=False)
    if len(rows) == 1:
        stdout.print()
        stdout.print(parts_table(rows[0][1], f"{names[0]}, {rows[0][1].protocol}"), highlight=False)
    for name, evaluation in rows:
        sentence = f"{name}, {evaluation.protocol}, {presence_line(evaluation)}"
        stdout.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for name, evaluation in rows:
        if evaluation.warning:
            stderr.print(f"warning: {name}, {evaluation.protocol}: {evaluation.warning}", markup=False, soft_wrap=True)
        if evaluation.figures["AP"] is None and evaluation is rows[-1][1] and not average_precision_is_there():
            stderr.print("AP needs an OKS library: pip install 'featherpose[train]'", markup=False, soft_wrap=True)
    if problems:
        stderr.print(f"{len(problems)} labels cannot be true and were left out: featherpose data check tells which")
    left_out = left_out_lines(rows, "targetless", "photos without a labelled target were left out")
    left_out += left_out_lines(rows, "guessed", "joints that a teacher labelled were left out: only people's labels are truth")
    for sentence in left_out:
        stderr.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for sentence in skipped:
        stderr.print(f"skipped: {sentence}", markup=False, highlight=False, soft_wrap=True)

    command = ["featherpose", "evaluate", *map(_portable, models), "--data", _portable(data)]
    given = {"split": split, "photos": photos, "nobody": nobody, "protocol": protocol, "people": people}
    given |= {"camera": camera, "strength": None if read is None else read.strength}
    given |= {"area-factor": area_factor, "limit": limit, "threads": threads}
    for option, value in given.items():
        command += [] if value is None else [f"--{option}", _portable(value)]
    for model, name, predictor, evaluations in results if out is not None else []:
        write_results(
            out / f"{name}.json",
            evaluations,
            spec=predictor.spec,
            model_file=Path(model).name,
            model_sha256=_model_sha256(model),
            data=_data_name(labels),
            labels_sha256=_sha256(labels),
            command=shlex.join(command),
            threads=threads,
            camera=None if read is None else {"fault": read.name, "strength": read.strength},
        )
        for evaluation in evaluations:
            stem = f"{name}.{evaluation.protocol.replace(' + ', '-')}"
            write_joints_csv(out / f"{stem}.joints.csv", evaluation)
            if worst:
                write_sheet(out / f"{stem}.worst.png", evaluation, worst_of(evaluation, worst), read)
            if shown:
                write_sheet(out / f"{stem}.shown.png", evaluation, evenly_of(evaluation, shown), read)
    if out is not None:
        sheets = ", worst .png" * (worst > 0) + ", shown .png" * (shown > 0)
        print(f"{out}: {', '.join(f'{name}.json' for name in names)}, per joint .csv{sheets}")
    if skipped:
        raise typer.Exit(1)


def _camera(name: str | None, strength: float | None):
    """What reads photos through a camera with that fault; None without one."""
    from featherpose.data.camera import Camera

    if name is None:
        if strength is not None:
            raise ValueError("--strength is that of a fault: name one with --camera")
        return None
    return Camera(name, 0.5 if strength is None else strength)


def _without_people(path: Path, problems: list) -> list:
    """The samples of a set that shows nobody; ValueError when somebody is labelled in it."""
    from featherpose.data.readers import LABELS_NAME, read_dataset, splits_of
    from featherpose.data.sample import has_nobody, sample_of_nobody
    from featherpose.runtime.photos import list_photos, photo_size
    from featherpose.skeletons import COCO17

    splits = splits_of(path)
    if len(splits) > 1:
        file = path / LABELS_NAME.format(split=splits[0])
        raise ValueError(f"{path}: which split? this folder has {', '.join(splits)}; name a label file, as in --nobody {file}")
    if path.is_dir() and not splits:  # photos alone
        return [sample_of_nobody(photo, photo_size(photo), COCO17) for photo in list_photos(path)]
    samples = read_dataset(path, problems=problems)
    for sample in samples:
        if not has_nobody(sample):
            raise ValueError(f"{path}: people are labelled in {sample.photo.name}; --nobody is for photos without people")
    return samples


def unique_names(names: list[str]) -> list[str]:
    """File names for models: letters, digits, dot, dash and underscore; equal names get a number."""
    result: list[str] = []
    for name in names:
        base = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".") or "model"
        name, number = base, 1
        while name.casefold() in {other.casefold() for other in result}:
            number += 1
            name = f"{base}-{number}"
        result.append(name)
    return result


def _portable(value) -> str:
    """An argument as it goes into a results file: where on this machine a file lies is nobody's business."""
    return Path(value).name if Path(str(value)).is_absolute() else str(value)


def _data_name(labels: Path) -> str:
    """Folder and split of a label file, without where on this machine it lies."""
    return f"{labels.resolve().parent.name}/{labels.stem.removeprefix('person_keypoints_')}"


def _model_sha256(model: str) -> str:
    from featherpose.runtime.bundled import bundled_path

    return _sha256(Path(model) if Path(model).is_file() else bundled_path(model))


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()

"""`featherpose data label`: joints that no human labelled, from a model trusted as far as human labels bear it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def label(
    data: Annotated[Path, typer.Argument(help="Label file, or folder with person_keypoints_SPLIT.json.")],
    teacher: Annotated[str, typer.Option(help="Model that labels: .onnx, .xml, .tflite, .safetensors, or a name.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Label file to write (.json), or a folder for person_keypoints_SPLIT.json."),
    ],
    split: Annotated[str | None, typer.Option(help="Split of the data folder.")] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos; SPLIT next to the label file.")] = None,
    teacher_kind: Annotated[str | None, typer.Option(help="heatmap, simcc or pose; seen from the file.")] = None,
    teacher_skeleton: Annotated[
        str | None,
        typer.Option(help="The teacher's joints in its order: a name, a .toml or .json file  \\[default: coco17]"),
    ] = None,
    skeleton: Annotated[
        str | None,
        typer.Option(help="Joints of the result: a name, a .toml or .json file; the teacher's unless given."),
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option(help="Report (.json) of another set, for joints that this one does not label.")
    ] = None,
    right_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of right joints that a step of the score must reach.")
    ] = 0.8,
    boxes: Annotated[Path | None, typer.Option(help="Boxes of more people: COCO detections or labels (.json).")] = None,
    joints_for_all: Annotated[
        bool, typer.Option("--joints-for-all", help="Also write what the teacher says of joints that humans labelled.")
    ] = False,
    drop_swapped: Annotated[
        bool, typer.Option("--drop-swapped", help="Leave out human left-right pairs that the teacher surely sees swapped.")
    ] = False,
    flip: Annotated[bool, typer.Option(help="Look at the mirrored picture too: surer, twice the time.")] = True,
    upright: Annotated[bool, typer.Option(help="Turn leaning people upright by their human labels first.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many photos only.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="How many photos are drawn on the sheet.")] = 24,
    seed: Annotated[int, typer.Option(help="Which photos are drawn.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads for one picture.")] = 1,
) -> None:
    """Complete human labels by a teacher's: human first, teacher where the human has none and it can be trusted.

    From which score on a joint is taken is read off the joints that humans labelled. Every joint says whose it is.
    Beside the labels stand a report (.md, .json), a sheet (.png) and the teacher's answers (.answers.npz): the same
    command goes on with an interrupted run, and other thresholds cost seconds. Never evaluate on the result: a
    teacher's joints are no truth.
    """
    import hashlib
    import json
    import time

    import numpy as np
    from rich.console import Console

    from featherpose.cli.progress import rate_bar
    from featherpose.data.label import add_people, beside, complete, read_boxes
    from featherpose.data.label_report import label_sheet, report_facts, report_text
    from featherpose.data.readers import LABELS_NAME, find_labels, photos_folder, read_dataset, read_json
    from featherpose.data.target_sheet import save_png
    from featherpose.data.teacher import load_teacher
    from featherpose.data.teacher.ask import Kept, ask, fingerprint, people_of
    from featherpose.data.teacher.trust import agree, choose_thresholds, read_thresholds
    from featherpose.runtime.bundled import bundled_path
    from featherpose.runtime.report import write_whole
    from featherpose.skeletons import load_skeleton

    stderr, stdout = Console(stderr=True), Console(highlight=False)
    labels = find_labels(data, split=split)
    name = split or labels.stem.removeprefix("person_keypoints_")
    if out.suffix.lower() != ".json":
        out = out / LABELS_NAME.format(split=name)
    if out.resolve() == labels.resolve():
        raise ValueError(f"{out}: the result would overwrite the labels themselves; name another --out")
    given = None if thresholds is None else read_thresholds(thresholds)
    model = load_teacher(
        teacher,
        kind=teacher_kind,
        skeleton=None if teacher_skeleton is None else load_skeleton(teacher_skeleton),
        threads=threads,
        flip=flip,
    )
    wanted = model.skeleton if skeleton is None else load_skeleton(skeleton)
    problems: list = []
    samples = read_dataset(labels, photos=photos, problems=problems)[:limit]
    if any(sample.weight is not None for sample in samples):
        raise ValueError(f"{labels}: a teacher has completed these labels already; start from the human ones")
    if boxes is not None:
        samples = add_people(samples, read_boxes(boxes, samples))
    targets = {sample.sample_id: sample.target for sample in samples}
    people = people_of(samples)
    if not people:
        raise ValueError(f"{labels}: nobody is labelled in these photos, and no --boxes are given")

    out.parent.mkdir(parents=True, exist_ok=True)
    teacher_file = Path(teacher) if Path(teacher).is_file() else bundled_path(teacher)
    parts = (labels, teacher_file, boxes, model.kind, flip, upright, model.skeleton.to_dict())
    kept = Kept(beside(out, ".answers.npz"), fingerprint(*parts), time.monotonic)
    with rate_bar("people") as bar:
        task = bar.add_task(f"{model.name} looks at {name}", total=len(people))
        answers = ask(
            model,
            people,
            upright=upright,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            keep=kept,
        )

    agreement = agree(answers, model.skeleton, targets)
    chosen = choose_thresholds(agreement, share=right_share, given=given)
    content = read_json(labels)
    result = complete(
        content,
        answers,
        chosen,
        model.skeleton,
        skeleton=wanted,
        photos_from=photos_folder(out),
        samples=samples,
        all_joints=joints_for_all,
        drop_swapped=drop_swapped,
    )
    dropped = _dropped(samples, wanted)
    report = report_facts(
        agreement,
        chosen,
        result,
        wanted,
        facts={
            "labels": f"{labels.resolve().parent.name}/{name}",
            "labels_sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
            "teacher": {
                "name": model.name,
                "fingerprint": fingerprint(teacher_file),
                "kind": model.kind,
                "input_size": list(model.input_size),
                "flip": flip,
                "upright": upright,
            },
            "right_share": right_share,
            "photos": len(samples),
            "people": len(people),
            "targets": len([p for p in people if targets[p.sample_id] == p.target]),
            "seconds": round(kept.seconds, 1),
            "ms_per_person": round(1000 * kept.seconds / len(people), 2),
            "dropped_joints": dropped,
            "problems": len(problems),
            "unreadable": list(answers.unreadable),
        },
    )
    text = json.dumps(result.content, separators=(",", ":"), allow_nan=False)
    save_png(
        beside(out, ".sheet.png"),
        label_sheet(answers, result, wanted, count=pictures, rng=np.random.default_rng(seed)) if pictures else None,
    )
    facts = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_whole(beside(out, ".report.json"), lambda file: file.write_text(facts, encoding="utf-8"))
    write_whole(beside(out, ".report.md"), lambda file: file.write_text(report_text(report), encoding="utf-8"))
    write_whole(out, lambda file: file.write_text(text, encoding="utf-8"))

    stdout.print(report_text(report), markup=False, soft_wrap=True)
    if problems:
        stderr.print(f"{len(problems)} labels cannot be true and were left out: featherpose data check tells which")
    for sentence in answers.unreadable:
        stderr.print(f"skipped: {sentence}", markup=False, highlight=False, soft_wrap=True)
    stdout.print(
        f"{out}: {len(text) / 1e6:.1f} MB; beside it {beside(out, '.report.md').name}, .report.json, .sheet.png",
        markup=False,
        soft_wrap=True,
    )
    if answers.unreadable:
        raise typer.Exit(1)


def _dropped(samples: list, skeleton) -> dict[str, int]:
    """Human labels of joints that a skeleton does not have, by name."""
    from featherpose.skeletons import joint_mapping

    if not samples:
        return {}
    source = samples[0].skeleton
    lost = joint_mapping(skeleton, source) < 0
    counts = sum((sample.visibility > 0).sum(axis=0) for sample in samples)
    return {joint: int(counts[k]) for k, joint in enumerate(source.joints) if lost[k]}

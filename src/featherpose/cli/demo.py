"""`featherpose demo`: the whole way on a sample picture, without any argument."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featherpose.cli.folder import results_folder

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "samples" / "demo.png"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the drawn picture.")] = Path("featherpose-out"),
    model: Annotated[str | None, typer.Option(help="Model file, or the name of one that comes along.")] = None,
) -> None:
    """Find the joints in a sample picture that comes along, draw them, and say what to try next."""
    from rich.console import Console
    from rich.table import Table

    from featherpose.runtime.draw import draw_pose
    from featherpose.runtime.photos import DRAWN_SUFFIX, read_photo
    from featherpose.runtime.predictor import Predictor
    from featherpose.runtime.report import is_found, write_picture

    if not SAMPLE.is_file():
        raise ValueError(f"{SAMPLE}: the sample picture is missing; install featherpose again")
    image = read_photo(SAMPLE)
    predictor = Predictor(model)
    spec = predictor.spec
    pose = predictor(image)
    results_folder(out)
    drawn = out / f"{SAMPLE.stem}{DRAWN_SUFFIX}"
    write_picture(drawn, draw_pose(image, pose, spec.joint_threshold))

    table = Table(title=f"{spec.name} {spec.version} on a synthetic scene, {image.shape[1]} x {image.shape[0]} pixels")
    for column in ("joint", "x", "y", "score"):
        table.add_column(column, justify="left" if column == "joint" else "right")
    for name, (x, y), score in zip(spec.skeleton.joints, pose.xy, pose.score, strict=True):
        table.add_row(
            name, f"{x:.1f}", f"{y:.1f}", f"{score:.2f}", style=None if score >= spec.joint_threshold else "dim"
        )
    Console().print(table)
    if not is_found(pose, spec):
        print(f"the model is not sure that somebody is there (score {pose.pose_score:.2f})")
    print(f"drawn: {drawn}")
    print(
        "\nnext:\n"
        "  featherpose predict PHOTO_OR_FOLDER     your own photos: drawings, JSON, CSV\n"
        "  featherpose predict PHOTO --point X,Y   somebody else than the person in the middle\n"
        "  featherpose models                      the models that come along, with licence and metrics\n"
        "  featherpose --help                      training, evaluating, exporting, measuring"
    )

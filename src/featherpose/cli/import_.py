"""featherpose import: other people's files as featherpose models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_model(
    file: Annotated[Path, typer.Argument(help="A MoveNet SinglePose file, Lightning or Thunder.", metavar="TFLITE")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; default: the file's name with .safetensors, right here."),
    ] = None,
) -> None:
    """Turn an official MoveNet TFLite file into a featherpose model.

    The model predicts, evaluates, exports and can be trained further. The file is read as data and never run.
    """
    from featherpose.importers.movenet import import_movenet
    from featherpose.models.cost import count_macs, count_parameters
    from featherpose.systems.files import save_model

    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file")
    out = out or Path(file.with_suffix(".safetensors").name)
    network, spec = import_movenet(file)
    save_model(out, network, spec)
    width, height = spec.input_size
    macs, weights = count_macs(network, spec.input_size) / 1e6, count_parameters(network) / 1e6
    typer.echo(
        f"{spec.name}: {width}x{height} px, {len(spec.skeleton)} joints, {macs:.1f} million multiply-accumulates, "
        f"{weights:.3f} million weights ({spec.provenance['weights']} in the file)"
    )
    typer.echo(f"wrote {out}; try: featherpose predict --model {out} PHOTO")

"""`featherpose export`: a trained model as an ONNX file, kept only if its joints agree with torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[
        Path,
        typer.Argument(
            help="Trained model (.safetensors); with --int8 also an exported .onnx file or the name of a model that "
            "comes along.",
            metavar="MODEL",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write  \\[default: MODEL.onnx, MODEL_joints.onnx, MODEL_int8.onnx]"),
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder/--raw", help="Joints come out of the file, or the network's maps.")
    ] = False,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set, 18 to 23  \\[default: 18]")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Photo or folder of photos to compare on, with --int8 also a data folder with labels  "
                     "\\[default: synthetic scenes]"),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights: half the file, the same speed.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute the body in 8 bits, with ranges found on --data.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="--int8: split of a data folder  \\[default: train]")] = None,
    pictures: Annotated[
        int | None, typer.Option(help="--int8: pictures to find the ranges on  \\[default: 256]", min=8)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help='--int8: ranges by "minmax", "percentile" or "entropy"  \\[default: minmax]'),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help='--int8: what stays float: any of "first", "neck", "heads", by commas; "" for nothing  '
                     "\\[default: first,neck,heads]"),
    ] = None,
    joint_threshold: Annotated[
        float | None, typer.Option(help="From which score on a joint counts  \\[default: the model's]", min=0, max=1)
    ] = None,
    pose_threshold: Annotated[
        float | None,
        typer.Option(help="From which pose score on somebody is there, see `evaluate --nobody`  \\[default: the model's]",
                     min=0, max=1),
    ] = None,
) -> None:  # fmt: skip
    """Turn a trained model into an ONNX file that carries everything a runtime must know of it.

    The file is run and its joints are compared with torch's; nothing is written when one disagrees. An --int8 file is
    compared with the float one: how far joints move is told, and nothing is written when the median is absurd.
    """
    thresholds = {"joint_threshold": joint_threshold, "pose_threshold": pose_threshold}
    thresholds = {name: value for name, value in thresholds.items() if value is not None}
    if not int8:
        given = {"--split": split, "--pictures": pictures, "--method": method, "--keep": keep}
        for option, value in given.items():
            if value is not None:
                raise ValueError(f"{option} is for 8-bit files; give --int8 too")
        opset = OPSET if opset is None else opset
        _export(model, out, decoder=decoder, opset=opset, data=data, half=half, thresholds=thresholds)
        return
    if half:
        raise ValueError("--half and --int8 exclude each other: an int8 file's weights are stored in 8 bits")
    if data is None:
        raise ValueError("--int8 needs --data: photos like those the model will see, to find the ranges of its values on")
    arguments = {"data": data, "split": split, "method": method, "count": pictures}
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if keep is not None:
        arguments["keep"] = [part.strip() for part in keep.split(",") if part.strip()]
    _export_int8(model, out, decoder=decoder, opset=opset, arguments=arguments, thresholds=thresholds)


OPSET = 18
"""ONNX operator set of exported files."""


def _check_trained(model: Path) -> None:
    """Told before torch is loaded, which takes seconds."""
    if model.suffix.lower() != ".safetensors":
        raise ValueError(f"{model}: expected a trained model, a .safetensors file as `featherpose train` writes it")
    if not model.is_file():
        raise FileNotFoundError(f"{model}: there is no such model file")


def _load(model: Path, thresholds: dict[str, float]):
    from dataclasses import replace

    from featherpose.systems.files import load_network

    network, spec = load_network(model)
    return network, replace(spec, **thresholds)


@contextmanager
def _photos_left_out_told() -> Iterator[None]:
    """At the end, one line on stderr for each warning of photos that could not be read."""
    import warnings

    from featherpose.export.pictures import LeftOut

    with warnings.catch_warnings():
        show, told = warnings.showwarning, []

        def note(message, category, *where, **more) -> None:
            told.append(message) if issubclass(category, LeftOut) else show(message, category, *where, **more)

        warnings.simplefilter("always", LeftOut)
        warnings.showwarning = note
        try:
            yield
        finally:
            for message in told:
                typer.echo(f"warning: {message}", err=True)


def _export(
    model: Path, out: Path | None, *, decoder: bool, opset: int, data: Path | None, half: bool, thresholds: dict
) -> None:  # fmt: skip
    _check_trained(model)
    if out is None:
        out = model.with_name(f"{model.stem}_joints.onnx") if decoder else model.with_suffix(".onnx")

    import time

    from rich.console import Console

    from featherpose.export.onnx import export_onnx

    start = time.perf_counter()
    network, spec = _load(model, thresholds)
    with _photos_left_out_told(), Console(stderr=True).status("export") as status:
        _, parity = export_onnx(
            network, spec, out, decoder=decoder, opset=opset, half=half, data=data, progress=status.update
        )
    kind = "joints" if decoder else "raw maps"
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {kind}, opset {opset}, {time.perf_counter() - start:.0f} s")
    print(f"agrees with torch: {parity}")


def _export_int8(
    model: Path, out: Path | None, *, decoder: bool, opset: int | None, arguments: dict, thresholds: dict
) -> None:  # fmt: skip
    import tempfile
    import time

    from rich.console import Console

    from featherpose.runtime.bundled import bundled_models, bundled_path, in_float

    start = time.perf_counter()
    if not model.suffix and not model.exists():
        out = Path(f"{model}_int8.onnx") if out is None else out
        model = bundled_path(next((m.name for m in in_float(bundled_models()).values() if m.of == str(model)), str(model)))
    exported = model.suffix.lower() == ".onnx"
    if exported and not model.is_file():
        raise FileNotFoundError(f"{model}: there is no such model file")
    if exported and thresholds:
        raise ValueError(f"{model}: an exported file's thresholds stay as they are; give the .safetensors model")
    if exported and decoder:
        raise ValueError(f"{model}: an exported file's outputs stay as they are; --decoder needs the .safetensors model")
    if exported and opset is not None:
        raise ValueError(f"{model}: an exported file's operator set stays as it is; --opset needs the .safetensors model")
    if not exported:
        _check_trained(model)
    if out is None:
        out = model.with_name(f"{model.stem}{'_joints' if decoder else ''}_int8.onnx")
    try:
        from featherpose.export.quantise import quantise_onnx
    except ImportError as error:
        raise ImportError("--int8 needs the package 'onnx' (pip install onnx)", name=error.name) from error

    waiting = Console(stderr=True).status("export")
    with _photos_left_out_told(), waiting as status, tempfile.TemporaryDirectory() as folder:
        source = model
        if not exported:
            from featherpose.export.onnx import export_onnx

            source = Path(folder) / f"{model.stem}.onnx"
            network, spec = _load(model, thresholds)
            export_onnx(network, spec, source, decoder=decoder, opset=OPSET if opset is None else opset, progress=status.update)
        shift = quantise_onnx(source, out, progress=status.update, **arguments)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, int8, {time.perf_counter() - start:.0f} s")
    print(f"against float: {shift}")

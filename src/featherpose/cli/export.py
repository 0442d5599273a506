"""`featherpose export`: a trained model as an ONNX file, kept only if its joints agree with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[Path, typer.Argument(help="Trained model.", metavar="MODEL.safetensors")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write  [default: MODEL.onnx, MODEL_joints.onnx]")
    ] = None,
    decoder: Annotated[
        bool, typer.Option("--decoder/--raw", help="Joints come out of the file, or the network's maps.")
    ] = False,
    opset: Annotated[int, typer.Option(help="ONNX operator set, 18 to 23.")] = 18,
    data: Annotated[
        Path | None, typer.Option(help="Photo, or folder of photos, to compare on  [default: synthetic scenes]")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights: half the file, the same speed.")] = False,
) -> None:
    """Turn a trained model into an ONNX file that carries everything a runtime must know of it.

    The file is run and its joints are compared with torch's; nothing is written when one disagrees.
    """
    if model.suffix.lower() != ".safetensors":
        raise ValueError(f"{model}: expected a trained model, a .safetensors file as `featherpose train` writes it")
    if not model.is_file():  # told before torch is loaded, which takes seconds
        raise FileNotFoundError(f"{model}: there is no such model file")
    if out is None:
        out = model.with_name(f"{model.stem}_joints.onnx") if decoder else model.with_suffix(".onnx")

    import time

    from rich.console import Console

    from featherpose.export.onnx import export_onnx
    from featherpose.systems.files import load_network

    start = time.perf_counter()
    network, spec = load_network(model)
    with Console(stderr=True).status("export") as status:
        _, parity = export_onnx(
            network, spec, out, decoder=decoder, opset=opset, half=half, data=data, progress=status.update
        )
    kind = "joints" if decoder else "raw maps"
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {kind}, opset {opset}, {time.perf_counter() - start:.0f} s")
    print(f"agrees with torch: {parity}")

"""How fast models run on this machine: from a photo in memory to joints in its pixels, split into three stages.

prepare: the crop, resized to the input, and its way back to the photo. network: the backend's run, which for some files
includes the decoding. decode: maps to joints (nothing where the network did it), moved to pixels of the photo.

Models take turns in short blocks, so that a machine that warms up or is shared treats all of them alike. Compare
within one run; figures of two runs differ by what else the machine did.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import featherpose
from featherpose.codecs import build_codec
from featherpose.geometry import crop_map, invert, transform, warp
from featherpose.runtime.backends import Backend, load_model
from featherpose.runtime.bundled import bundled_models
from featherpose.runtime.smart_crop import whole_frame
from featherpose.spec import ModelSpec

STAGES = ("prepare", "network", "decode", "total")
BLOCK = 10
"""Runs of one model in a row, after one that is not counted: the caches hold the model before."""
SCENE_WH = (1280, 720)
"""Size of the drawn photo that is used where none is given."""


@dataclass(frozen=True)
class Contestant:
    """One model file that takes part."""

    label: str
    backend: Backend
    bytes: int | None = None
    """Size of the file."""


@dataclass(frozen=True)
class Timing:
    """What one model took."""

    label: str
    spec: ModelSpec
    bytes: int | None
    ms: dict[str, np.ndarray]
    """Stage -> (runs,) milliseconds for one picture."""

    def summary(self, stage: str) -> dict[str, float]:
        """Median, 10th and 90th percentile and minimum of a stage, milliseconds."""
        low, median, high = np.percentile(self.ms[stage], (10, 50, 90))
        figures = {"median": median, "p10": low, "p90": high, "min": self.ms[stage].min()}
        return {name: round(float(value), 4) for name, value in figures.items()}

    @property
    def decode_share(self) -> float | None:
        """Median of the decoding in medians of the network; None where the network decodes."""
        if self.spec.outputs == "decoded":
            return None
        return float(np.median(self.ms["decode"]) / np.median(self.ms["network"]))


def contestants(models: Sequence[str | Path], threads: int = 1) -> list[Contestant]:
    """Loads models, labelled by file name, or by path where two names are equal. Raises what `load_model` raises."""
    names = [Path(model).name for model in models]
    loaded = []
    for model, name in zip(models, names, strict=True):
        backend = load_model(model, threads)
        path = Path(model) if Path(model).is_file() else bundled_models()[str(model)].path
        loaded.append(Contestant(name if names.count(name) == 1 else str(model), backend, path.stat().st_size))
    return loaded


def bench(
    models: Sequence[Contestant],
    image: np.ndarray,
    *,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 20,
    batch: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Times every model on one photo: `runs` times each, in turns, after `warmup` runs that are not counted.

    image: (H, W, 3) uint8 RGB, seen whole (padded to a square), the dearest kind of crop. threads: for OpenCV; backends
    were made with theirs. batch: pictures in one run; times are divided by it. progress: told blocks done and in all.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    passes = [_passes(model.backend, image, batch, clock) for model in models]
    times = take_turns(passes, threads=threads, runs=runs, warmup=warmup, progress=progress)
    per_picture = [np.array(measured) * 1000 / batch for measured in times]  # (runs, stages) each
    return [
        Timing(model.label, model.backend.spec, model.bytes, dict(zip(STAGES, ms.T, strict=True)))
        for model, ms in zip(models, per_picture, strict=True)
    ]


def take_turns(
    steps: Sequence[Callable], *, threads: int, runs: int, warmup: int, progress: Callable[[int, int], None]
) -> list[list]:
    """What each step gave `runs` times, in turns of BLOCK, after `warmup` calls that are not kept; no garbage is collected.

    threads: for OpenCV. progress: told blocks done and in all. ValueError for numbers that are too small.
    """
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    found: list[list] = [[] for _ in steps]
    blocks = [BLOCK] * (runs // BLOCK) + ([runs % BLOCK] if runs % BLOCK else [])
    threads_before, collecting = cv2.getNumThreads(), gc.isenabled()
    cv2.setNumThreads(threads)
    gc.disable()
    try:
        for step in steps:
            for _ in range(warmup):
                step()
        for done, block in enumerate(blocks):
            progress(done, len(blocks))
            for step, kept in zip(steps, found, strict=True):
                step()  # not kept: the caches hold the model before
                kept.extend(step() for _ in range(block))
            gc.collect()
        progress(len(blocks), len(blocks))
    finally:
        cv2.setNumThreads(threads_before)
        if collecting:
            gc.enable()
    return found


def _passes(
    backend: Backend, image: np.ndarray, batch: int, clock: Callable[[], float]
) -> Callable[[], tuple[float, ...]]:
    """A function that takes a batch of the photo from pixels to joints and gives the seconds of each of STAGES."""
    spec = backend.spec
    codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton)) if spec.outputs == "raw" else None
    region = whole_frame((image.shape[1], image.shape[0]))

    def run() -> tuple[float, ...]:
        start = clock()
        to_input = crop_map(region, spec.input_size)
        to_photo = invert(to_input)
        pictures = np.stack([warp(image, to_input, spec.input_size) for _ in range(batch)])
        prepared = clock()
        outputs = backend.run(pictures)
        ran = clock()
        xy = outputs["joints"][..., :2] if codec is None else codec.decode_batch(outputs)[0]
        transform(to_photo, xy)
        end = clock()
        return prepared - start, ran - prepared, end - ran, end - start

    return run


# --- what was measured, and where -------------------------------------------------------------------------------------


def machine() -> dict:
    """Facts about this machine and the libraries that were loaded."""
    versions = {
        "featherpose": featherpose.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for module in ("onnxruntime", "ai_edge_litert", "openvino", "torch"):
        if module in sys.modules:
            versions[module] = str(getattr(sys.modules[module], "__version__", "unknown"))
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as the system tells it."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


CLOCKS = ("wall", "processor time of the thread")


def report(
    timings: Sequence[Timing],
    *,
    image: np.ndarray,
    threads: int,
    batch: int,
    date: str,
    host: dict,
    cpu_time: bool = False,
) -> dict:
    """Everything as plain values, for JSON. host: `machine()`, taken before the runs; date: ISO 8601.

    cpu_time: the clock was the thread's processor time, not the wall's.
    """
    return {
        "date": date,
        "machine": host,
        "threads": threads,
        "batch": batch,
        "clock": CLOCKS[cpu_time],
        "photo_wh": [image.shape[1], image.shape[0]],
        "unit": "ms for one picture",
        "models": [
            {
                "label": timing.label,
                "bytes": timing.bytes,
                "input_wh": list(timing.spec.input_size),
                "outputs": timing.spec.outputs,
                "runs": len(timing.ms["total"]),
                "decode_share": None if timing.decode_share is None else round(timing.decode_share, 4),
                "ms": {stage: timing.summary(stage) for stage in STAGES},
            }
            for timing in timings
        ],
    }


HEAD = ("model", "MB", "input", "prepare", "network", "decode", "total", "fastest", "decode / network")


def cell(stage: dict) -> str:
    """A stage's summary: median (10th-90th percentile)."""
    return f"{stage['median']:.2f} ({stage['p10']:.2f}-{stage['p90']:.2f})"


def rows(facts: dict) -> list[tuple[str, ...]]:
    """A report as the cells of a table under HEAD: medians in ms, 10th to 90th percentile in brackets."""
    result = []
    for model in facts["models"]:
        inside = model["outputs"] == "decoded"
        result.append(
            (
                model["label"],
                "" if model["bytes"] is None else f"{model['bytes'] / 1e6:.1f}",
                "x".join(str(v) for v in model["input_wh"]),
                cell(model["ms"]["prepare"]),
                cell(model["ms"]["network"]),
                "in the network" if inside else cell(model["ms"]["decode"]),
                cell(model["ms"]["total"]),
                f"{model['ms']['total']['min']:.2f}",
                "" if inside else f"{100 * model['decode_share']:.1f} %",
            )
        )
    return result


def caption(facts: dict) -> str:
    """What the figures of a report are and where they were taken, in a few lines."""
    batch = "" if facts["batch"] == 1 else f", batches of {facts['batch']}"
    return (
        f"ms for one picture: median (10th-90th percentile) of {facts['models'][0]['runs']} runs, models in turn, "
        f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}{batch}; "
        f"photo {facts['photo_wh'][0]}x{facts['photo_wh'][1]} in memory, seen whole.\n"
        f"{clock_of(facts)}{caption_of_machine(facts)}"
    )


def clock_of(facts: dict) -> str:
    """A sentence where the times are not those of the wall."""
    return "" if facts.get("clock", CLOCKS[0]) == CLOCKS[0] else f"Times are {facts['clock']}. "


def caption_of_machine(facts: dict) -> str:
    """Where and when a report was made, in a line."""
    host = facts["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    return f"{host['cpu']}, {host['cores']} cores, {host['system']}, load {host['load']}; {versions}; {facts['date']}"


def markdown(facts: dict) -> str:
    """A report as a table in Markdown with its caption."""
    return markdown_table(HEAD, rows(facts), caption(facts))


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]], below: str) -> str:
    """A table in Markdown with a text below it."""
    table = "\n".join("| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *lines))
    return f"{table}\n\n{below}\n"

"""What following a person costs per frame: the crop, the network, its decoding, and everything that makes it a track.

crop: from the frame to the network's input, and how the tracker decides where to look. network: the backend's run, which
for some files includes the decoding. decode: maps to joints. who: who is who, clothes, how they move. filter: smoothed
joints and the next crop. A frame in which the tracker looks twice has two of the first three.

Models take turns in short blocks, as in featherpose.bench. Those that give their maps are followed by the tracker, files
that decode inside by the official rule (`Tracker(lock=None)`), which is how they are meant to be run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import cv2
import numpy as np

from featherpose.bench import CLOCKS, Contestant, caption_of_machine, cell, clock_of, markdown_table, take_turns
from featherpose.data.sequences import synthetic_clip
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.tracker import Tracker
from featherpose.spec import ModelSpec

STAGES = ("crop", "network", "decode", "who", "filter", "total")
SIZE_WH = (1280, 720)
SEED = 2000
FPS = 30.0
FRAMES = 60
"""Frames of a clip that are held in memory and played forth and back."""
MOST_BYTES = 400_000_000
"""Fewer frames are held of a clip whose pictures are large."""
MOST_SHARE = 1.25
"""Crop, network, decode and filter may take so many times the network: what a frame costs on weak hardware should be that."""


@dataclass(frozen=True)
class Timing:
    """What following took with one model."""

    label: str
    spec: ModelSpec
    bytes: int | None
    looks: float
    """Runs of the network per frame."""
    ms: dict[str, np.ndarray]
    """Stage -> (frames,) milliseconds."""

    def summary(self, stage: str) -> dict[str, float]:
        """Median, 10th and 90th percentile and mean of a stage, milliseconds a frame."""
        low, median, high = np.percentile(self.ms[stage], (10, 50, 90))
        figures = {"median": median, "p10": low, "p90": high, "mean": self.ms[stage].mean()}
        return {name: round(float(value), 4) for name, value in figures.items()}

    @property
    def share(self) -> float:
        """Median of the whole in medians of the network."""
        return float(np.median(self.ms["total"]) / np.median(self.ms["network"]))

    @property
    def share_of_one(self) -> float:
        """The same without `who`: what a frame costs where nobody is to be told from others."""
        return float(np.median(self.ms["total"] - self.ms["who"]) / np.median(self.ms["network"]))


@dataclass
class _Stopwatch:
    """Adds up the seconds of one frame by stage; `lap` gives those since the last lap to a stage."""

    clock: Callable[[], float]
    last: float = 0.0
    looks: int = 0
    rest: str = "who"
    """What the end of the frame counts as."""
    seconds: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.looks, self.rest, self.last = 0, "who", self.clock()

    def lap(self, stage: str) -> None:
        now = self.clock()
        self.seconds[stage] += now - self.last
        self.seconds["total"] += now - self.last
        self.last = now


@dataclass
class _Smoothing:
    """A filter that tells when it is asked."""

    call: Callable
    reset: Callable

    def __call__(self, *arguments, **options):
        return self.call(*arguments, **options)


def drawn_clip(count: int = FRAMES, seed: int = SEED) -> list[np.ndarray]:
    """Frames of somebody who walks about alone, 1280x720 at 30 a second, enlarged from 640x360, which draws faster."""
    clip = synthetic_clip("alone", seed, size_wh=(SIZE_WH[0] // 2, SIZE_WH[1] // 2), fps=FPS)
    return [cv2.resize(clip.draw(index)[0], SIZE_WH) for index in range(min(count, len(clip)))]


def file_clip(name: str, count: int = FRAMES) -> list[np.ndarray]:
    """The first frames of a video, fewer where they are large. Raises what `open_source` raises."""
    from featherpose.runtime.video.reader import open_source

    source, frames = open_source(name), []
    try:
        for frame in source:
            frames.append(frame.image)
            if len(frames) >= count or (len(frames) + 1) * frame.image.nbytes > MOST_BYTES:
                break
    finally:
        source.close()
    if len(frames) < 2:
        raise ValueError(f"{name}: a clip to measure on needs two frames or more, it has {len(frames)}")
    return frames


def bench_video(
    models: Sequence[Contestant],
    frames: Sequence[np.ndarray],
    *,
    threads: int = 1,
    runs: int = 200,
    warmup: int = 20,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Times following through a clip: `runs` frames with every model, in turns, after `warmup` that are not counted.

    frames: (H, W, 3) uint8 RGB, two or more, played forth and back at FPS. threads: for OpenCV; backends were made with
    theirs. progress: told blocks done and in all.
    """
    steps = [_stepper(model, frames, clock) for model in models]
    watches = take_turns(steps, threads=threads, runs=runs, warmup=warmup, progress=progress)
    timings = []
    for model, measured in zip(models, watches, strict=True):
        ms = {stage: 1000 * np.array([seconds[stage] for seconds, _ in measured]) for stage in STAGES}
        looks = float(np.mean([looks for _, looks in measured]))
        timings.append(Timing(model.label, model.backend.spec, model.bytes, looks, ms))
    return timings


def _stepper(model: Contestant, frames: Sequence[np.ndarray], clock: Callable[[], float]) -> Callable:
    """A function that follows through one more frame and gives its seconds by stage and its looks."""
    watch = _Stopwatch(clock)

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        watch.lap("crop")
        outputs = model.backend.run(images)
        watch.looks += 1
        watch.lap("network")
        return outputs

    predictor = Predictor(SimpleNamespace(spec=model.backend.spec, run=run))
    codec = predictor._codec
    if codec is not None:

        def timed(decode: Callable) -> Callable:
            def call(*arguments, **options):
                found = decode(*arguments, **options)
                watch.lap("decode")
                return found

            return call

        predictor._codec = SimpleNamespace(
            decode_batch=timed(codec.decode_batch), decode_several=timed(codec.decode_several)
        )
    track = Tracker(predictor) if codec is not None else Tracker(predictor, lock=None)
    smooth = track.smoothing

    def smoothed(*arguments, **options):
        watch.lap("who")
        watch.rest = "filter"
        return smooth(*arguments, **options)

    track.smoothing = _Smoothing(smoothed, smooth.reset)
    order = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    count = 0

    def step() -> tuple[dict[str, float], int]:
        nonlocal count
        frame = frames[order[count % len(order)]].copy()  # as a decoder leaves its picture: just written, in the cache
        watch.begin()
        track(frame, count / FPS)
        watch.lap(watch.rest)
        count += 1
        return watch.seconds, watch.looks

    return step


# --- what was measured ------------------------------------------------------------------------------------------------


def report(
    timings: Sequence[Timing],
    *,
    frames: Sequence[np.ndarray],
    clip: str,
    threads: int,
    date: str,
    host: dict,
    cpu_time: bool = False,
) -> dict:
    """Everything as plain values, for JSON. clip: what was played; the rest as in `bench.report`."""
    return {
        "date": date,
        "machine": host,
        "threads": threads,
        "clock": CLOCKS[cpu_time],
        "clip": {"name": clip, "frames": len(frames), "size_wh": [frames[0].shape[1], frames[0].shape[0]]},
        "unit": "ms for one frame",
        "most_share": MOST_SHARE,
        "models": [
            {
                "label": timing.label,
                "bytes": timing.bytes,
                "input_wh": list(timing.spec.input_size),
                "outputs": timing.spec.outputs,
                "way": "official rule" if timing.spec.outputs == "decoded" else "tracker",
                "frames": len(timing.ms["total"]),
                "looks": round(timing.looks, 3),
                "share": round(timing.share, 4),
                "share_of_one": round(timing.share_of_one, 4),
                "ms": {stage: timing.summary(stage) for stage in STAGES},
            }
            for timing in timings
        ],
    }


HEAD = ("model", "followed by", *STAGES, "total / network", "without who / network", "looks a frame")


def rows(facts: dict) -> list[tuple[str, ...]]:
    """A report as the cells of a table under HEAD: medians in ms a frame, 10th to 90th percentile in brackets."""
    return [
        (
            model["label"],
            model["way"],
            cell(model["ms"]["crop"]),
            cell(model["ms"]["network"]),
            "in the network" if model["outputs"] == "decoded" else cell(model["ms"]["decode"]),
            cell(model["ms"]["who"]),
            cell(model["ms"]["filter"]),
            cell(model["ms"]["total"]),
            f"{model['share']:.2f}",
            f"{model['share_of_one']:.2f}",
            f"{model['looks']:.2f}",
        )
        for model in facts["models"]
    ]


def caption(facts: dict) -> str:
    """What the figures of a report are and where they were taken, in a few lines."""
    clip, threads = facts["clip"], facts["threads"]
    return (
        f"ms a frame: median (10th-90th percentile) of {facts['models'][0]['frames']} frames, models in turn, {threads} "
        f"thread{'s' if threads > 1 else ''}; {clip['name']}, {clip['size_wh'][0]}x{clip['size_wh'][1]}, {clip['frames']} "
        "frames, played forth and back, each copied right before, as if just decoded. "
        f"Aim: crop, network, decode and filter at most {facts['most_share']} times the network.\n"
        f"{clock_of(facts)}{caption_of_machine(facts)}"
    )


def markdown(facts: dict) -> str:
    """A report as a table in Markdown with its caption."""
    return markdown_table(HEAD, rows(facts), caption(facts))

"""`featherpose video`: one person, or several, followed through a video file, a URL or a camera."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherpose.cli.folder import results_folder

if TYPE_CHECKING:
    from featherpose.runtime.video.pipeline import Outcome
    from featherpose.runtime.video.reader import Source
    from featherpose.spec import ModelSpec


def video(
    source: Annotated[str, typer.Argument(help="Video file, URL, or camera (0, /dev/video0).", metavar="VIDEO")],
    model: Annotated[str | None, typer.Option(help="Model file, or the name of one that comes along.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("featherpose-out"),
    point: Annotated[str | None, typer.Option(metavar="X,Y", help="Follow the person nearest this point.")] = None,
    box: Annotated[str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Follow the person in this box.")] = None,
    people: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Follow up to N people, each under a number that stays.")
    ] = None,
    smoothing: Annotated[bool, typer.Option(help="Take the jitter out of the joints.")] = True,
    start: Annotated[float, typer.Option(help="Seconds to begin at.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Seconds to end at.")] = None,
    every: Annotated[int, typer.Option(help="Take only each N-th frame.", metavar="N")] = 1,
    drawing: Annotated[bool, typer.Option("--video/--no-video", help="Write the video with the pose drawn.")] = True,
    window: Annotated[
        bool | None, typer.Option("--window/--no-window", help="Show it live  \\[default: for cameras]")
    ] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Mirror the picture, as one sees oneself.")] = False,
    threads: Annotated[int, typer.Option(help="Threads for the network.")] = 1,
    threshold: Annotated[float | None, typer.Option(help="Draw joints from this score on, not the model's.")] = None,
) -> None:
    """Follow one person through a video: the one nearest the middle of the first frame, or --point, or --box; or
    several with --people.

    Writes NAME.pose.mp4 (H.264, the sound kept), NAME.poses.jsonl, NAME.poses.csv and NAME.about.json. Ctrl-C, a camera
    that disappears and a file that is cut off keep what was done until then.
    """
    from featherpose.cli.predict import parse_numbers
    from featherpose.runtime.predictor import Predictor
    from featherpose.runtime.several import SeveralTracker
    from featherpose.runtime.tracker import Tracker
    from featherpose.runtime.video.pipeline import DrawnVideo
    from featherpose.runtime.video.reader import open_source, short_name
    from featherpose.runtime.video.tables import TableWriter

    place = {
        "point": None if point is None else parse_numbers(point, "--point", "X,Y"),
        "box": None if box is None else parse_numbers(box, "--box", "X1,Y1,X2,Y2"),
    }
    if point is not None and box is not None:
        raise ValueError("give --point or --box, not both")
    if people is not None and (point is not None or box is not None):
        raise ValueError("give --people, or --point or --box of one person, not both")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"--threshold must lie in [0, 1], got {threshold:g}")
    opened = open_source(source, start=start, end=end, every=every)
    display, handed_over = None, False
    try:
        display = _window(source, opened.facts.kind, window)
        predictor = Predictor(model, threads=threads)
        if people is None:
            tracker = Tracker(predictor, smoothing=smoothing)
        else:
            tracker = SeveralTracker(predictor, limit=people, smoothing=smoothing)
        _check_place(place, opened.facts.size_wh)
        if point is not None or box is not None:
            tracker.start(**(_mirrored_place(place, opened.facts.size_wh[0]) if mirror else place))
        threshold = predictor.spec.joint_threshold if threshold is None else threshold
        name = short_name(source)
        files = {kind: out / f"{name}{suffix}" for kind, suffix in SUFFIXES.items()}
        if not drawing:
            del files["video"]
        _refuse_to_overwrite(source, files)
        results_folder(out)
        sinks = []
        try:
            if drawing:
                sinks.append(DrawnVideo(files["video"], opened, threshold=threshold, start=start))
            sinks.append(TableWriter(files["json lines"], files["table"], several=people is not None))
        except BaseException:
            for sink in sinks:
                sink.abort()
            raise
        handed_over = True  # the pipeline closes the source, once nobody reads from it
        try:
            with _ended_by_signals():
                outcome = _run(opened, tracker, sinks, display, mirror=mirror, threshold=threshold)
        except KeyboardInterrupt:  # before the first frame, or a second one while the files were being finished
            for part in out.glob(f".{glob.escape(name)}.*.{os.getpid()}.part*"):
                part.unlink(missing_ok=True)
            raise
    finally:
        if not handed_over:
            opened.close()
        if display is not None:
            display.close()
    if outcome.frames:
        options = {"start": start, "end": end, "every": every, "mirror": mirror, "smoothing": smoothing, "people": people}
        options |= {**place, "threshold": threshold}
        _write_about(files["about"], opened, outcome, predictor.spec, options)
    _tell(opened, outcome, files, out, STATES if people is None else SEVERAL_STATES)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.problem:
        raise ValueError(outcome.problem)


SUFFIXES = {"video": ".pose.mp4", "json lines": ".poses.jsonl", "table": ".poses.csv", "about": ".about.json"}
"""What is written -> how its name ends."""


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a service that is stopped, a terminal that is closed) end a video as Ctrl-C does."""

    def stop(number: int, frame) -> None:
        raise KeyboardInterrupt

    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()
    before = [(kind, signal.signal(kind, stop)) for kind in kinds if main and signal.getsignal(kind) != signal.SIG_IGN]
    try:
        yield
    finally:
        for kind, handler in before:
            signal.signal(kind, handler)


def _run(opened: Source, tracker, sinks, display, *, mirror: bool, threshold: float) -> Outcome:
    """The whole video, under a progress bar."""
    from featherpose.cli.progress import rate_bar
    from featherpose.runtime.video.pipeline import draw_seen, run_video

    show = None if display is None else lambda seen: display.show(draw_seen(seen, threshold))
    if opened.facts.live:
        print("Ctrl-C stops" + ("" if display is None else ", q in the window too"))
    bar = rate_bar("frames")
    bar.disable = not bar.console.is_terminal  # in a log file even an empty bar would leave lines
    with bar:
        task = bar.add_task("video", total=opened.facts.frames)

        def progress(outcome: Outcome) -> None:
            total = opened.facts.frames
            bar.update(task, completed=outcome.frames, total=total and max(total, outcome.frames))

        return run_video(opened, tracker, sinks, mirror=mirror, show=show, progress=progress)


def _window(source: str, kind: str, wanted: bool | None):
    """The live window: asked for, or a camera's where there is a screen; None without."""
    from featherpose.runtime.video.window import open_window, why_no_window

    if not (wanted or (wanted is None and kind == "camera")):
        return None
    reason = why_no_window()
    if reason is None:
        return open_window(f"featherpose {source}")
    if wanted:
        raise ValueError(f"--window: {reason}; leave it out, the results are written all the same")
    print(f"no window: {reason}")
    return None


def _check_place(place: dict, size_wh: tuple[int, int]) -> None:
    """Refuses a point or box outside the picture, in the numbers that were given."""
    from featherpose.runtime.predictor import checked_box, checked_point

    if place["point"] is not None:
        checked_point(place["point"], size_wh)
    if place["box"] is not None:
        checked_box(place["box"], size_wh)


def _mirrored_place(place: dict, width: float) -> dict:
    """A point or box in the mirrored picture, as it is in the picture that the network sees."""
    point, box = place["point"], place["box"]
    return {
        "point": None if point is None else (width - point[0], point[1]),
        "box": None if box is None else (width - box[2], box[1], width - box[0], box[3]),
    }


def _refuse_to_overwrite(source: str, files: dict[str, Path]) -> None:
    """Results of an earlier run are replaced; the video itself never is, whatever links lead to it, nor is a folder."""
    for path in files.values():
        if path.is_dir():
            raise IsADirectoryError(f"{path}: a folder stands where a result goes; move it or choose another --out")
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise ValueError(f"{path}: the results would overwrite the video itself; choose another --out")


def _write_about(path: Path, opened: Source, outcome: Outcome, spec: ModelSpec, options: dict) -> None:
    """Source, model and how it went, beside the rows."""
    import json
    from dataclasses import asdict

    import featherpose
    from featherpose.runtime.report import write_whole

    source = {key: value for key, value in asdict(opened.facts).items() if key != "time_base"}
    facts = {
        "featherpose_version": featherpose.__version__,
        "source": source | {"size_wh": list(source["size_wh"])},
        "options": options,
        "model": {"name": spec.name, "version": spec.version, "input_size": list(spec.input_size)},
        "thresholds": {"pose": spec.pose_threshold, "joint": spec.joint_threshold},
        "units": UNITS,
        "skeleton": spec.skeleton.to_dict(),
        "frames": outcome.frames,
        "frames_left_out": outcome.dropped,
        "states": dict(outcome.states),
        "seconds": round(outcome.seconds, 3),
        "busy_seconds": {stage: round(seconds, 3) for stage, seconds in outcome.busy.items()},
        "ended_by": "Ctrl-C" if outcome.interrupted else outcome.problem or "its end",
    }
    write_whole(path, lambda part: part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8"))


UNITS = (
    "seconds since the beginning of the source; pixels of the picture as it is shown (rotation applied, square pixels, "
    "mirrored with --mirror), origin at the top-left corner of the top-left pixel"
)


STATES = {"found": "found", "uncertain": "uncertain", "lost": "lost"}
SEVERAL_STATES = {"found": "somebody", "lost": "nobody"}
"""State -> how the summary calls it."""


def _tell(opened: Source, outcome: Outcome, files: dict[str, Path], out: Path, words: dict[str, str]) -> None:
    """Two or three lines on what was done."""
    if not outcome.frames:
        return
    states = ", ".join(f"{word} in {outcome.states[state]}" for state, word in words.items())
    rate = outcome.frames / max(outcome.seconds, 1e-9)
    length = f"{outcome.frames} frames ({outcome.video_seconds:.1f} s)"
    print(f"{length} done in {outcome.seconds:.1f} s ({rate:.1f} frames/s); {states}")
    stages = ", ".join(f"{name} {1000 * busy / outcome.frames:.1f}" for name, busy in outcome.busy.items())
    print(f"ms per frame: {stages}; slowest: {outcome.slowest}")
    if outcome.dropped:
        print(f"{outcome.dropped} frames were left out because newer ones had come")
    if getattr(opened, "damaged", 0):
        print(f"{opened.damaged} damaged pieces of the picture were skipped or patched")
    print(f"{out}: {', '.join(path.name for path in files.values() if path.exists()) or 'nothing could be kept'}")

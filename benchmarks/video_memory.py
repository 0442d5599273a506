"""Peak memory of following a video, at points of its length: `python benchmarks/video_memory.py VIDEO MODEL SECOND...`.

Prints the process's peak and present resident memory (Linux) when so many seconds of the video are done.
"""

import sys
import tempfile
import time
from pathlib import Path

from featherpose.runtime.predictor import Predictor
from featherpose.runtime.tracker import Tracker
from featherpose.runtime.video.pipeline import DrawnVideo, run_video
from featherpose.runtime.video.reader import open_source
from featherpose.runtime.video.tables import TableWriter


def memory() -> dict[str, float]:
    """MB: VmHWM, the peak, and VmRSS, now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmHWM", "VmRSS"))}


def main(video: str, model: str, *seconds: str) -> None:
    points = sorted(float(second) for second in seconds)
    source = open_source(video, end=points[-1])
    predictor = Predictor(model)
    with tempfile.TemporaryDirectory() as folder:
        sinks = [
            TableWriter(Path(folder) / "a.jsonl", Path(folder) / "a.csv", predictor.spec.skeleton),
            DrawnVideo(Path(folder) / "a.mp4", source, threshold=0.2),
        ]

        def progress(outcome) -> None:
            while points and outcome.video_seconds >= points[0] - 0.1:
                now = memory()
                print(
                    f"{points.pop(0):6.0f} s: peak {now['VmHWM']:.0f} MB, now {now['VmRSS']:.0f} MB, "
                    f"{outcome.frames / outcome.seconds:.1f} frames/s",
                    flush=True,
                )

        outcome = run_video(source, Tracker(predictor), sinks, progress=progress)
    cpu = time.process_time()
    print(f"{outcome.frames} frames, {outcome.seconds:.0f} s, {1000 * cpu / outcome.frames:.1f} ms of CPU per frame")
    print({stage: round(1000 * busy / outcome.frames, 1) for stage, busy in outcome.busy.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

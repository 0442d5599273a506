"""Each stage of `featherpose video` alone, then all together: `python benchmarks/video_stages.py VIDEO MODEL [FRAMES]`.

Wall time only means something on a machine that does nothing else; CPU time per frame (of all threads) always does.
"""

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from featherpose.runtime.predictor import Predictor
from featherpose.runtime.tracker import Tracker
from featherpose.runtime.video.pipeline import DrawnVideo, run_video
from featherpose.runtime.video.reader import open_source
from featherpose.runtime.video.tables import Seen, TableWriter

HELD = 60
"""Frames kept in memory to feed a stage alone, forth and back: 373 MB at 1080p."""


class Stopwatch:
    """Prints what happened since it was made, per frame."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def tell(self, stage: str, frames: int) -> None:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        print(f"{stage:<22}{frames / wall:7.1f} frames/s {1000 * cpu / frames:7.1f} ms of CPU a frame", flush=True)


def main(video: str, model: str, frames: str = "300") -> None:
    count = int(frames)
    predictor = Predictor(model)
    source = open_source(video)
    watch = Stopwatch()
    for _ in islice(source, count):
        pass
    watch.tell("read", count)
    source.close()

    source = open_source(video)
    held = list(islice(source, HELD))
    length = held[1].time - held[0].time
    forth_and_back = [*range(HELD), *range(HELD - 2, 0, -1)]
    order = [held[forth_and_back[i % len(forth_and_back)]] for i in range(count)]
    tracker, poses = Tracker(predictor), []
    watch = Stopwatch()
    for i, frame in enumerate(order):
        poses.append((tracker(frame.image, i * length), tracker.state))
    watch.tell("track", count)

    with tempfile.TemporaryDirectory() as folder:

        def sinks(opened):
            drawn = DrawnVideo(Path(folder) / "a.mp4", opened, threshold=0.2)
            return [drawn, TableWriter(Path(folder) / "a.jsonl", Path(folder) / "a.csv", predictor.spec.skeleton)]

        both = sinks(source)
        watch = Stopwatch()
        for i, (frame, (pose, state)) in enumerate(zip(order, poses, strict=True)):
            placed = type(frame)(i, i * length, frame.image, length)
            for sink in both:
                sink.write(Seen(placed, pose, state))
        for sink in both:
            sink.finish()
        watch.tell("draw, encode, tables", count)
        source.close()
        del held, order, poses

        source = open_source(video, end=count * length)
        watch = Stopwatch()
        outcome = run_video(source, Tracker(predictor), sinks(source))
        watch.tell("all together", outcome.frames)


if __name__ == "__main__":
    main(*sys.argv[1:])

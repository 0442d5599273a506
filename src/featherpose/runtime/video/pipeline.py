"""Reading, following and writing a video at the same time.

    reader thread --frames--> the caller's thread: track --results--> writer thread: draw, encode, tables

Three stages joined by two short queues: the whole runs at the speed of the slowest stage as far as there are cores for
all, and memory does not grow with the video. However a video ends (its end, a broken file, a camera that disappears, a
full disk, Ctrl-C), what was done until then is finished and kept.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from featherpose.pose import Pose
from featherpose.runtime.draw import draw_people, draw_pose, write_text
from featherpose.runtime.video.channel import Channel
from featherpose.runtime.video.reader import Frame, Source
from featherpose.runtime.video.tables import Seen, mirrored

QUEUE = 4
"""Frames between two stages: enough to even out slow keyframes, 25 MB at 1080p."""
LIVE_QUEUE = 1
"""Of a camera only the newest frame waits, so that what is shown is now."""
PATIENCE = 15.0
"""Seconds to wait for a source that hangs before it is left alone."""


class Track(Protocol):
    """Follows one person (runtime.tracker.Tracker), or everybody under a number (runtime.several.SeveralTracker)."""

    state: str

    def __call__(self, frame: np.ndarray, timestamp: float) -> Pose | dict[int, Pose] | None: ...


class Sink(Protocol):
    """Takes what was seen, in the writer's thread. `finish` completes its files, `abort` leaves none."""

    def write(self, seen: Seen) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


@dataclass
class Outcome:
    """What became of a video."""

    frames: int = 0
    """Frames that were tracked."""
    dropped: int = 0
    """Frames of a live source that came while the network was busy."""
    states: Counter = field(default_factory=Counter)
    """Frames by state."""
    video_seconds: float = 0.0
    """From the first tracked frame to the end of the last."""
    seconds: float = 0.0
    """It took."""
    busy: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "track": 0.0, "write": 0.0})
    """Seconds that each stage worked; the largest is the stage that the others waited for."""
    problem: str | None = None
    """One sentence when it ended before its time."""
    interrupted: bool = False
    """By Ctrl-C."""

    @property
    def slowest(self) -> str:
        return max(self.busy, key=self.busy.get)


def run_video(
    source: Source,
    track: Track,
    sinks: Sequence[Sink] = (),
    *,
    mirror: bool = False,
    show: Callable[[Seen], bool] | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Follows one person, or everybody, through a source, gives every frame to the sinks, and finishes them.

    mirror: pictures and poses are mirrored after tracking, so that left stays the person's own left. show: called in
    the caller's thread with every frame, as windows need it; False ends the video. progress: called after every frame.

    What `track` raises ends the run: sinks are aborted when it happens at the first frame and finished otherwise, then
    it is raised. Problems of source and sinks are told in the outcome.
    """
    outcome = Outcome()
    frames = Channel(LIVE_QUEUE, merge=_with_sound_of) if source.facts.live else Channel(QUEUE)
    results = Channel(QUEUE)
    reader = _Reader(source, frames, outcome)
    writer = _Writer(sinks, results, outcome)
    start = time.perf_counter()
    reader.start()
    writer.start()
    failure: BaseException | None = None
    first: float | None = None
    try:
        while (frame := frames.get()) is not None:
            begin = time.perf_counter()
            answer = track(frame.image, frame.time)
            outcome.busy["track"] += time.perf_counter() - begin
            seen = _as_seen(frame, answer, track.state, mirror)
            if not results.put(seen):
                break
            first = frame.time if first is None else first
            outcome.frames += 1
            outcome.states[seen.state] += 1
            outcome.video_seconds = frame.time + frame.duration - first
            outcome.dropped = frames.dropped
            outcome.seconds = time.perf_counter() - start
            if progress is not None:
                progress(outcome)
            if show is not None and not show(seen):
                break
    except KeyboardInterrupt:
        outcome.interrupted = True
    except BaseException as error:
        failure = error
    frames.stop()
    results.end()
    _wait(writer, outcome)
    _wait(reader, outcome, PATIENCE)
    if reader.ended.is_set():  # closing under a thread that still reads would crash it; the process ends soon
        source.close()
    outcome.dropped = frames.dropped
    outcome.seconds = time.perf_counter() - start
    if failure is not None:
        raise failure
    for thread in (reader, writer):
        if thread.failure is not None:
            raise thread.failure
    if sinks:  # what counts is what was kept
        outcome.frames, outcome.states, outcome.video_seconds = (
            writer.written,
            writer.states,
            writer.until - (first or 0),
        )
    outcome.problem = writer.problem or (None if outcome.interrupted else source.problem)
    return outcome


def _wait(thread: _Worker, outcome: Outcome, seconds: float | None = None) -> None:
    """Waits for a thread's end. A first Ctrl-C meanwhile is kept in the outcome, a second one raised: files are finished."""
    try:
        thread.ended.wait(seconds)
    except KeyboardInterrupt:
        if outcome.interrupted:
            raise
        outcome.interrupted = True
        thread.ended.wait(seconds)


def _as_seen(frame: Frame, answer: Pose | dict[int, Pose] | None, state: str, mirror: bool) -> Seen:
    people, pose = (answer, None) if isinstance(answer, dict) else (None, answer)
    if mirror:
        image = cv2.flip(frame.image, 1)
        pose = None if pose is None else mirrored(pose, image.shape[1])
        people = people and {number: mirrored(one, image.shape[1]) for number, one in people.items()}
        frame = replace(frame, image=image)
    return Seen(frame, pose, state, people)


def _with_sound_of(dropped: Frame, following: Frame) -> Frame:
    """A frame with the sound of the one that is left out before it."""
    return replace(following, audio=dropped.audio + following.audio)


class _Worker(threading.Thread):
    """A thread whose end can be waited for again after an interrupt, when CPython takes a joined thread for ended."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.ended = threading.Event()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self.work()
        finally:
            self.ended.set()


class _Reader(_Worker):
    """Takes frames out of the source until it ends or nobody wants more."""

    def __init__(self, source: Source, frames: Channel, outcome: Outcome) -> None:
        super().__init__("video reader")
        self._source, self._frames, self._outcome = source, frames, outcome

    def work(self) -> None:
        try:
            begin = time.perf_counter()
            for frame in self._source:
                self._outcome.busy["read"] += time.perf_counter() - begin
                if not self._frames.put(frame):
                    break
                begin = time.perf_counter()
        except Exception as error:  # handed to the caller's thread
            self.failure = error
        finally:
            self._frames.end()


class _Writer(_Worker):
    """Gives results to the sinks, then finishes them; a sink that fails ends the video for all."""

    def __init__(self, sinks: Sequence[Sink], results: Channel, outcome: Outcome) -> None:
        super().__init__("video writer")
        self._sinks, self._results, self._outcome = sinks, results, outcome
        self.written, self.states, self.until = 0, Counter(), 0.0
        self.problem: str | None = None

    def work(self) -> None:
        try:
            while (seen := self._results.get()) is not None:
                begin = time.perf_counter()
                for sink in self._sinks:
                    sink.write(seen)
                self._outcome.busy["write"] += time.perf_counter() - begin
                self.written += 1
                self.states[seen.state] += 1
                self.until = seen.frame.time + seen.frame.duration
        except Exception as error:
            self._tell(error)
        self._results.stop()
        for sink in self._sinks:
            try:
                sink.finish() if self.written else sink.abort()
            except Exception as error:
                self._tell(error, finishing=True)

    def _tell(self, error: Exception, finishing: bool = False) -> None:
        """A full disk or an encoder's refusal is a problem to tell; anything else is a mistake in the program."""
        if not isinstance(error, (OSError, ValueError)) and not hasattr(error, "strerror"):
            self.failure = self.failure or error
            return
        reason = getattr(error, "strerror", None) or str(error)
        if finishing:
            self.problem = f"{self.problem}; {reason}" if self.problem else f"a file could not be finished: {reason}"
        elif self.problem is None:
            self.problem = f"writing broke off at {self.until:.1f} s ({reason}); what was written until then is kept"


class DrawnVideo:
    """A sink: every frame with its pose over it, as MP4 with the source's sound."""

    def __init__(self, path: Path, source: Source, *, threshold: float, start: float = 0.0) -> None:
        """threshold: joints from this score on are drawn. start: seconds of the source where the video begins."""
        from featherpose.runtime.video.writer import VideoWriter

        facts = source.facts
        self._source, self._threshold, self._start = source, threshold, start
        self._writer = VideoWriter(path, facts.size_wh, fps=facts.fps, time_base=facts.time_base, audio=source.audio)

    def write(self, seen: Seen) -> None:
        frame = seen.frame
        for packet in frame.audio:
            self._writer.write_audio(packet, self._start)
        self._writer.write(draw_seen(seen, self._threshold), frame.time - self._start, frame.duration)

    def finish(self) -> None:
        for packet in self._source.late_audio:
            self._writer.write_audio(packet, self._start)
        self._writer.finish()

    def abort(self) -> None:
        self._writer.abort()


STATE_INK = {"uncertain": (240, 228, 66), "lost": (213, 94, 0)}
"""RGB of the word that is written into frames without a sure pose (Okabe and Ito, 2008)."""


def draw_seen(seen: Seen, threshold: float) -> np.ndarray:
    """A copy of the frame, (H, W, 3) uint8 RGB, with its pose or poses; a state other than found stands at the top left."""
    image = seen.frame.image
    if seen.people is not None:
        image = draw_people(image, seen.people, threshold)
    else:
        image = image.copy() if seen.pose is None else draw_pose(image, seen.pose, threshold)
    if seen.state in STATE_INK:
        scale = max(image.shape[:2]) / 1280
        write_text(image, seen.state, (16 * scale, 36 * scale + 4), STATE_INK[seen.state])
    return image

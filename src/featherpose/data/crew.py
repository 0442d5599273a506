"""Processes that prepare batches in shared memory: threads of one Python hardly feed a GPU.

The processes are forks, so that decoded photos are there once, whoever reads them.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

PIECE = 16
"""Examples that one process prepares at a time."""
POLL_SECONDS = 1.0
"""How often a process looks whether the other side still lives."""
BEHIND = 5
"""How much nicer the processes are than the one that drives the GPU, which waits for nobody."""
HELD = 2
"""Batches that stay as they are after they were handed out, the last one among them."""


@dataclass
class _Batch:
    """A place for one batch, and what is still missing in it."""

    arrays: dict[str, np.ndarray]
    missing: int = 0


@dataclass(eq=False)
class Crew:
    """`count` processes that make every example of a batch and write it into its place.

    make: (epoch, position) -> one example as a dict of arrays, the same names, shapes and types each time. ahead: batches
    in preparation or waiting. Raises ValueError where a process cannot be forked (Windows). Errors of `make` are raised
    by `batches`.
    """

    make: Callable[[int, int], dict[str, np.ndarray]]
    batch: int
    count: int
    ahead: int = 4
    memory: mmap.mmap | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ValueError("train.processes needs a system that can fork (Linux, macOS); use train.workers instead")
        example = {name: np.asarray(value) for name, value in self.make(0, 0).items()}
        self.kinds = {name: (value.shape, value.dtype) for name, value in example.items()}
        sizes = [-(-value.nbytes * self.batch // 64) * 64 for value in example.values()]
        places = HELD + self.ahead
        self.memory = mmap.mmap(-1, sum(sizes) * places)  # anonymous and shared: nothing is left behind
        whole = np.frombuffer(self.memory, np.uint8)
        self.places, start = [], 0
        for _ in range(places):
            arrays = {}
            for (name, value), size in zip(example.items(), sizes, strict=True):
                raw = whole[start : start + value.nbytes * self.batch]
                arrays[name] = raw.view(value.dtype).reshape(self.batch, *value.shape)
                start += size
            self.places.append(_Batch(arrays))
        cv2.setNumThreads(1)  # before forking: a fork has none of OpenCV's threads, but waits for them
        context = multiprocessing.get_context("fork")
        self.tasks, self.done = context.Queue(), context.Queue()
        self.open = 0  # pieces that were asked for and have not come
        self.processes = [context.Process(target=self._work, daemon=True) for _ in range(self.count)]
        for process in self.processes:
            process.start()
        atexit.register(self.close)

    def _work(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # often sent to all processes; the other side tells when to stop
            signal.signal(number, signal.SIG_IGN)
        os.nice(BEHIND)
        parent = os.getppid()
        while os.getppid() == parent:
            try:
                number, place, epoch, first, start, stop = self.tasks.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            error = None
            try:
                arrays = self.places[place].arrays
                for i in range(start, stop):
                    made = self.make(epoch, first + i)
                    if {n: (v.shape, v.dtype) for n, v in made.items()} != self.kinds:
                        raise RuntimeError(f"example {first + i} has other arrays than the first: {sorted(made)}")
                    for name, value in made.items():
                        arrays[name][i] = value
            except Exception as problem:  # told to the other side, whatever it is
                expected = isinstance(problem, (ValueError, OSError))
                error = ValueError(str(problem)) if expected else RuntimeError(traceback.format_exc())
            self.done.put((number, place, error))

    def batches(self, epoch: int, firsts: list[int]) -> Iterator[dict[str, np.ndarray]]:
        """Batches whose examples are at the positions from each of `firsts` on, in order.

        The arrays are places in shared memory: the last HELD batches stay as they are, older ones are written over.
        """
        free, at, issued = list(range(len(self.places))), {}, 0
        finished = set()
        try:
            for number in range(len(firsts)):
                while free and issued < len(firsts):
                    place = free.pop(0)
                    pieces = [(s, min(s + PIECE, self.batch)) for s in range(0, self.batch, PIECE)]
                    self.places[place].missing, at[issued] = len(pieces), place
                    for start, stop in pieces:
                        self.tasks.put((issued, place, epoch, firsts[issued], start, stop))
                    self.open += len(pieces)
                    issued += 1
                while number not in finished:
                    which, error = self._next_done()
                    if error is not None:
                        raise error
                    if self.places[at[which]].missing == 0:
                        finished.add(which)
                yield self.places[at[number]].arrays
                if number - HELD + 1 >= 0:
                    free.append(at.pop(number - HELD + 1))
        finally:
            with contextlib.suppress(RuntimeError):
                while self.open:  # nothing of these batches may come into the next ones
                    self._next_done()

    def _next_done(self) -> tuple[int, Exception | None]:
        """The number of a batch of which one more piece is there, and what went wrong in it. RuntimeError: nobody works."""
        while True:
            try:
                number, place, error = self.done.get(timeout=POLL_SECONDS)
                break
            except queue.Empty:
                dead = [process.exitcode for process in self.processes if not process.is_alive()]
                if dead:
                    self.open = 0
                    raise RuntimeError(
                        f"a process that prepares batches ended with code {dead[0]} (out of memory?); "
                        "try fewer train.processes"
                    ) from None
        self.open -= 1
        self.places[place].missing -= 1
        return number, error

    def close(self) -> None:
        """Ends the processes; batches that were asked for do not come any more."""
        atexit.unregister(self.close)
        self.open = 0
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        for pipe in (self.tasks, self.done):
            pipe.cancel_join_thread()
            pipe.close()

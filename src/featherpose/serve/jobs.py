"""Work in threads behind a queue that has an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from featherpose.serve.errors import Refused

FIRST_GUESS = 0.05
"""Seconds of a job, as long as none was measured: two looks and a photo to unpack."""


class Jobs:
    """A pool of `workers` threads in front of which at most `queue` jobs wait; the next one is refused."""

    def __init__(self, workers: int, queue: int, *, waited: Callable[[float], object] | None = None) -> None:
        """waited: told the seconds that each job spent in the queue, in the worker's thread."""
        self.workers, self.queue = workers, queue
        self.open = 0
        """Jobs that wait or run."""
        self._waited = waited or (lambda seconds: None)
        self._lock = threading.Lock()
        self._seconds = FIRST_GUESS
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="photo")

    @property
    def waiting(self) -> int:
        """Jobs that wait for a worker."""
        return max(self.open - self.workers, 0)

    def submit(self, works: Sequence[Callable[[], object]]) -> list[asyncio.Future]:
        """Starts all of some functions, or none: Refused when the queue has no room for them.

        Cancelling a future takes a job that still waits out of the queue.
        """
        with self._lock:
            if self.open + len(works) > self.workers + self.queue:
                raise Refused(
                    "busy",
                    f"the queue of {self.queue} photos is full; try again a little later",
                    retry_after=self.open * self._seconds / self.workers,
                )
            self.open += len(works)
        futures = []
        for work in works:
            future = self._pool.submit(self._timed, work, time.perf_counter())
            future.add_done_callback(self._done)
            futures.append(asyncio.wrap_future(future))
        return futures

    def close(self) -> None:
        """Drops what waits and ends when the rest is done."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, work: Callable[[], object], since: float) -> object:
        start = time.perf_counter()
        self._waited(start - since)
        try:
            return work()
        finally:
            with self._lock:
                self._seconds += 0.1 * (time.perf_counter() - start - self._seconds)

    def _done(self, _: Future) -> None:
        with self._lock:
            self.open -= 1

"""Runs of the network that wait at the same time become one: whole frames, crops and tracked frames alike.

`Batching` is a backend around a backend, so Predictor, Tracker and everything built on them run unchanged, each in a
thread of its own, and still share the network.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from featherpose.runtime.backends import Backend


class Batching:
    """A backend (see featherpose.runtime.backends) whose `run` may be called from many threads at once.

    Nobody is kept waiting for company: a lane that is free takes its share of what waits, so batches grow with the load.
    """

    def __init__(
        self, backends: Sequence[Backend], *, limit: int = 8, ran: Callable[[int, float], object] | None = None
    ) -> None:
        """backends: copies of one model; each runs in a thread, a lane, of its own.

        limit: most pictures of one run. ran: told the pictures and seconds of every run, in the lane's thread.
        """
        if not backends or limit < 1:
            raise ValueError(f"batching needs a model and a limit of at least 1, got {len(backends)} and {limit}")
        self.spec = backends[0].spec
        self.limit = limit
        self._ran = ran or (lambda pictures, seconds: None)
        self._waiting: deque[tuple[np.ndarray, Future]] = deque()
        self._change = threading.Condition()
        self._idle, self._closed = 0, False
        self._lanes = [threading.Thread(target=self._lane, args=(b,), daemon=True, name="network") for b in backends]
        for lane in self._lanes:
            lane.start()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """What the backend gives for images (B, H, W, 3), run together with those of other threads; waits for it."""
        answer: Future = Future()
        with self._change:
            if self._closed:
                raise RuntimeError("the network was closed")
            self._waiting.append((images, answer))
            self._change.notify()
        return answer.result()

    @property
    def waiting(self) -> int:
        """Calls of `run` that no lane has taken yet."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        return not self._closed and all(lane.is_alive() for lane in self._lanes)

    def close(self) -> None:
        """Ends the lanes once nothing waits any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for lane in self._lanes:
            lane.join()

    def _lane(self, backend: Backend) -> None:
        while taken := self._take():
            images = [images for images, _ in taken]
            start = time.perf_counter()
            try:
                outputs = backend.run(images[0] if len(images) == 1 else np.concatenate(images))
            except BaseException as error:  # whoever waits has to hear of it, and the lane goes on
                for _, answer in taken:
                    answer.set_exception(error)
                continue
            self._ran(sum(map(len, images)), time.perf_counter() - start)
            first = 0
            for part, answer in taken:
                last = first + len(part)
                answer.set_result({name: values[first:last] for name, values in outputs.items()})
                first = last

    def _take(self) -> list[tuple[np.ndarray, Future]]:
        """What one lane runs next: its share of what waits, with all lanes that are idle; [] at the end."""
        with self._change:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._change.wait()
            share = -(-len(self._waiting) // self._idle)
            self._idle -= 1
            taken: list[tuple[np.ndarray, Future]] = []
            pictures = 0
            while self._waiting and len(taken) < share:
                pictures += len(self._waiting[0][0])
                if taken and pictures > self.limit:
                    break
                taken.append(self._waiting.popleft())
            return taken

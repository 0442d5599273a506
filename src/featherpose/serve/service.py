"""Everything that lives as long as the service does: the model's copies, the threads, the counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.requests import ClientDisconnect, HTTPConnection, Request

from featherpose.runtime.backends import Backend
from featherpose.runtime.predictor import Predictor
from featherpose.serve.batching import Batching
from featherpose.serve.errors import Refused
from featherpose.serve.jobs import Jobs
from featherpose.serve.limits import Limits, Rate, Room
from featherpose.serve.looking import Eye
from featherpose.serve.metrics import Metrics


class Service:
    """The parts that the endpoints share. `close` ends its threads."""

    def __init__(
        self, backends: Sequence[Backend], *, limits: Limits | None = None, workers: int = 8, decoders: int = 2
    ) -> None:
        """backends: copies of one model. workers: photos worked on at once, and the largest batch.

        decoders: photos unpacked at once.
        """
        limits = limits or Limits()
        most = min(limits.photos, workers + limits.queue)  # more would never find room, however long one waits
        self.limits = limits = replace(limits, photos=most)
        self.metrics = Metrics()
        self.batching = Batching(backends, limit=workers, ran=self._ran)
        self.spec = self.batching.spec
        self.predictor = Predictor(self.batching)
        self.eye = Eye(self.predictor, limits, self.metrics, decoders)
        self.jobs = Jobs(workers, limits.queue, waited=lambda seconds: self.metrics.stage("queue", seconds))
        self.rate = Rate(limits.rate, limits.burst, time.monotonic)
        self.bytes = Room(limits.bytes_held, "bytes of photos")
        self.local = False
        """Whether it is reached under names of this computer alone: those of other hosts are then a page's trick."""
        self.sockets = Room(limits.sockets, f"{limits.sockets} WebSockets")
        self.metrics.gauge("featherpose_queue_length", "Photos that wait for a worker.", lambda: self.jobs.waiting)
        self.metrics.gauge(
            "featherpose_network_queue_length", "Looks that wait for the network.", lambda: self.batching.waiting
        )
        self.metrics.gauge("featherpose_bytes_held", "Bytes of bodies in memory.", lambda: self.bytes.used)

    def _ran(self, pictures: int, seconds: float) -> None:
        self.metrics.batch.observe(pictures)
        self.metrics.stage("network", seconds)

    @property
    def facts(self) -> dict:
        """What stands in every answer."""
        return {
            "model": {"name": self.spec.name, "version": self.spec.version},
            "thresholds": {"pose": self.spec.pose_threshold, "joint": self.spec.joint_threshold},
        }

    def count_photos(self, connection: HTTPConnection, number: int = 1) -> None:
        """Refused when the client sends photos too fast."""
        self.rate.take(connection.client.host if connection.client else "unknown", number)

    @asynccontextmanager
    async def received(self, request: Request, most: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body in pieces, of `most` bytes in all; what is held of it counts until the block is left."""
        held = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal held
            declared = request.headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > most:
                raise Refused("too_many_bytes", f"the request has {int(declared):,} bytes; at most {most:,} are taken")
            start = time.monotonic()
            stream = request.stream()
            while True:
                left = start + self.limits.body_seconds - time.monotonic()
                try:
                    piece = await asyncio.wait_for(anext(stream), max(left, 0.001))
                except StopAsyncIteration:
                    break
                except ClientDisconnect as error:
                    raise Refused("client_gone", "the client closed the connection before its body ended") from error
                except asyncio.TimeoutError as error:
                    text = f"the body did not arrive within {self.limits.body_seconds:g} seconds"
                    raise Refused("slow_client", text) from error
                if held + len(piece) > most:
                    raise Refused(
                        "too_many_bytes", f"the request has more than {most:,} bytes, which is the most taken"
                    )
                self.bytes.take(len(piece))
                held += len(piece)
                yield piece
            self.metrics.stage("body", time.monotonic() - start)

        try:
            yield pieces()
        finally:
            self.bytes.give(held)

    async def finished(self, request: Request, works: Sequence[Callable[[], dict]]) -> list[dict | BaseException]:
        """What the functions return or raise, run by the workers; Refused when that takes too long or nobody waits."""
        jobs = self.jobs.submit(works)
        work = asyncio.gather(*jobs, return_exceptions=True)
        gone = asyncio.create_task(_gone(request))
        try:
            await asyncio.wait({work, gone}, timeout=self.limits.answer_seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if gone.done():
                raise Refused("client_gone", "the client closed the connection before the answer")
            text = f"there was no answer within {self.limits.answer_seconds:g} seconds"
            raise Refused("too_slow", text, retry_after=self.limits.answer_seconds)
        finally:
            for task in (gone, *jobs):
                task.cancel()

    def close(self) -> None:
        """Waits for what runs, drops what waits."""
        self.jobs.close()
        self.batching.close()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

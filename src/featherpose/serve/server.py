"""uvicorn with the limits that it lacks: on connections, and on the time that a request's head may take."""

from __future__ import annotations

import asyncio
import json
import socket
import warnings
from collections.abc import Collection

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from featherpose.serve.errors import Refused
from featherpose.serve.service import Service

IDLE_SECONDS = 5
"""Between two requests of one connection; uvicorn's own default."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to host and port (0 takes a free one); OSError in one sentence."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.create_server(address, family=family, backlog=256)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"{host}, port {port} cannot be used ({reason}); choose others with --host and --port") from error
    # asyncio sends small pieces at once only through sockets that say they are TCP, and create_server's do not: each
    # answer would wait 40 ms for the client to confirm its head.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach())


def run_server(app: ASGIApp, service: Service, bound: socket.socket, *, proxies: Collection[str] = ()) -> None:
    """Serves until Ctrl-C or SIGTERM; then lets running requests end, and raises KeyboardInterrupt or dies by the signal.

    proxies: addresses whose X-Forwarded-For is believed.
    """
    warnings.filterwarnings("ignore", module="PIL")  # decoders run in threads, where warnings cannot be caught singly
    limits = service.limits
    config = uvicorn.Config(
        app,
        http=limited_protocol(service),
        ws="websockets-sansio",  # reads no further while a message is worked on
        ws_max_size=limits.photo_bytes,
        ws_per_message_deflate=False,  # photos are compressed already, and what is not sent packed cannot be a bomb
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=limits.stop_seconds,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
        access_log=False,
        log_level="error",
    )
    uvicorn.Server(config).run(sockets=[bound])


def limited_protocol(service: Service) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with the service's limits and its way to tell of errors."""

    class Limited(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > service.limits.connections:
                text = f"the service has {service.limits.connections} connections already; try again a little later"
                self._refuse(Refused("busy", text, retry_after=1))
            else:
                self._await_head()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_timer()
            elif self._head_timer is None:
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._stop_timer()

        def send_400_response(self, msg: str) -> None:
            self._refuse(Refused("bad_request", "this is no valid HTTP request"))

        def _await_head(self) -> None:
            self._head_timer = self.loop.call_later(service.limits.header_seconds, self._head_is_late)

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _head_is_late(self) -> None:
            seconds = service.limits.header_seconds
            self._refuse(Refused("slow_client", f"the request's head did not arrive within {seconds:g} seconds"))

        def _refuse(self, refused: Refused) -> None:
            """Answers in place of the app and closes."""
            service.metrics.errors.labels(refused.kind).inc()
            body = json.dumps(refused.to_dict()).encode()
            lines = [f"HTTP/1.1 {refused.status} refused", "content-type: application/json", "connection: close"]
            lines += [f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in refused.headers.items())]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
            self.transport.close()

    return Limited

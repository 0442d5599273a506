"""uvicorn with the limits that it lacks: on connections, and on the time that a request's head and an answer may take."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
import socket
import warnings
from collections.abc import Collection
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp, Message
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import HANDLED_SIGNALS
from websockets.protocol import State

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

    A second signal ends the process at once. proxies: addresses whose X-Forwarded-For is believed.
    """
    warnings.filterwarnings("ignore", module="PIL")  # decoders run in threads, where warnings cannot be caught singly
    limits = service.limits
    service.local = not proxies and is_loopback(bound)
    config = uvicorn.Config(
        app,
        http=limited_protocol(service),
        ws=patient_sockets(service),
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
    Server(config).run(sockets=[bound])


def is_loopback(bound: socket.socket) -> bool:
    """Whether a socket is reached from this computer alone."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


class Server(uvicorn.Server):
    """Asks politely once: a second signal has its usual effect, which no busy decoder delays."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for number in HANDLED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)


def taken_in_time(service: Service, base: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """A protocol that drops clients who do not read: a transport that is closed waits for them without end."""

    class TakenInTime(base):
        _unread_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            transport.set_write_buffer_limits(0)  # pauses as soon as the system takes no more
            super().connection_made(transport)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stop_unread_timer()
            self._wait_for_reader()

        def resume_writing(self) -> None:
            self._stop_unread_timer()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_unread_timer()
            super().connection_lost(exc)

        def _stop_unread_timer(self) -> bool:
            """Whether it ran."""
            timer, self._unread_timer = self._unread_timer, None
            if timer is not None:
                timer.cancel()
            return timer is not None

        def _wait_for_reader(self) -> None:
            unread = self.transport.get_write_buffer_size()
            self._unread_timer = self.loop.call_later(service.limits.send_seconds, self._is_unread, unread)

        def _is_unread(self, before: int) -> None:
            if self.transport.get_write_buffer_size() < before:  # slow, but reading
                return self._wait_for_reader()
            service.metrics.errors.labels("slow_client").inc()
            self.transport.abort()

    return TakenInTime


def patient_sockets(service: Service) -> type[asyncio.Protocol]:
    """uvicorn's WebSockets, which read no further while a message is worked on, with clients that must read too."""

    class Sockets(taken_in_time(service, WebSocketsSansIOProtocol)):
        async def send(self, message: Message) -> None:
            await super().send(message)
            if self.initial_response is not None and self.close_sent:
                self.handshake_complete = True  # it was refused with an answer; uvicorn logs that there was none

        def send_receive_event_to_app(self) -> None:
            if self.curr_msg_data_type == "text" and not self.close_sent and not _is_text(self.frames):
                if self.conn.state is State.OPEN:
                    self.conn.send_close(1007)  # uvicorn does the same, and logs a traceback
                self.handle_parser_exception()
            else:
                super().send_receive_event_to_app()

    return Sockets


def _is_text(pieces: Collection[bytes]) -> bool:
    try:
        b"".join(pieces).decode()
    except UnicodeDecodeError:
        return False
    return True


def limited_protocol(service: Service) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with the service's limits and its way to tell of errors."""

    class Limited(taken_in_time(service, H11Protocol)):
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

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            super().handle_websocket_upgrade(event)
            protocol = self.transport.get_protocol()
            if self._stop_unread_timer():  # the new protocol hears when the client reads again
                protocol.pause_writing()
            if not protocol.handshake_initiated:  # nobody would ever answer what websockets does not understand
                self._refuse(Refused("bad_request", "this is no valid WebSocket handshake"))

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

"""What holds for every request, before and after the endpoints: origins, HEAD, the rest of a body, counts."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from featherpose.serve.errors import Refused
from featherpose.serve.service import Service

DRAIN_SECONDS = 2.0
"""So long the rest of a body is read and thrown away before a request is refused: a client that is still sending when
the connection closes often never sees the answer."""
SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, service: Service, origins: Collection[str], paths: Collection[str]) -> None:
        """origins: pages that may use the service beside its own. paths: those that are counted by name."""
        self.app, self.service, self.origins, self.paths = app, service, set(origins), set(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        metrics, start, told = self.service.metrics, time.perf_counter(), Told(scope, receive, send, self.service)
        open_now = metrics.connections.labels(scope["type"])
        open_now.inc()
        try:
            refused = self._judge(scope)
            if refused is None:
                as_get = {"method": "GET"} if scope.get("method") == "HEAD" else {}  # the server leaves out the body
                await self.app({**scope, **as_get}, told.receive, told.send)
            else:
                await deny(scope, told.receive, told.send, self.service, refused)
        except Exception:
            if told.gone:
                return
            logging.getLogger("uvicorn.error").exception("%s %s failed", scope["type"], scope["path"])
            if told.silent:
                broken = Refused("internal", "the service failed; its log says why")
                await deny(scope, told.receive, told.send, self.service, broken)
        finally:
            open_now.dec()
            path = scope["path"] if scope["path"] in self.paths else "other"
            metrics.requests.labels(path, str(told.status)).inc()
            if scope["type"] == "http":
                metrics.request_seconds.labels(path).observe(time.perf_counter() - start)

    def _judge(self, scope: Scope) -> Refused | None:
        """A page of somebody else's may neither send photos nor open a WebSocket: browsers let it, CORS or not."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or scope.get("method") in SAFE or "*" in self.origins or origin in self.origins:
            return None
        host = headers.get("host", "")
        if origin in (f"http://{host}", f"https://{host}") and (not self.service.local or is_this_computer(host)):
            return None
        return Refused(
            "other_origin", f"pages of {origin[:200]} may not use this service; start it with --allow-origin"
        )


def is_this_computer(host: str) -> bool:
    """Whether a Host header names this computer itself, whatever a name server says: localhost, 127.0.0.1, [::1]."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Told:
    """receive and send of one request, with what has gone through them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, service: Service) -> None:
        self._receive, self._send, self._service = receive, send, service
        self.status = 499 if scope["type"] == "http" else 101
        self._http = scope["type"] == "http"
        self._asked_first = "expect" in Headers(scope=scope)
        self._begun = self._whole = False
        self.silent = True
        """Whether nothing was sent yet."""
        self.gone = False
        """Whether the client left before the answer."""

    async def receive(self) -> Message:
        message = await self._receive()
        self._begun = True
        self._whole |= message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self.silent = False
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            if self._http and not self._whole and not (self._asked_first and not self._begun):
                await self._drain()
            if self._http and not self._whole:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        try:
            await self._send(message)
        except OSError:
            self.gone = True
            raise

    async def _drain(self) -> None:
        end, dropped = time.monotonic() + DRAIN_SECONDS, 0
        while not self._whole and dropped <= self._service.limits.request_bytes:
            try:
                message = await asyncio.wait_for(self.receive(), max(end - time.monotonic(), 0.001))
            except asyncio.TimeoutError:
                return
            dropped += len(message.get("body", b""))


async def deny(scope: Scope, receive: Receive, send: Send, service: Service, refused: Refused) -> None:
    """Answers with an error instead of joints; a WebSocket gets it in place of its handshake."""
    service.metrics.errors.labels(refused.kind).inc()
    response = JSONResponse(refused.to_dict(), refused.status, refused.headers)
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await WebSocket(scope, receive, send).close()

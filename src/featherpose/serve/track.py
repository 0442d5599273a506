"""A WebSocket that follows one person: frames in, joints out, one answer to every message, in order."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time

from starlette.websockets import WebSocket, WebSocketDisconnect

from featherpose.runtime.tracker import Tracker
from featherpose.serve.errors import Refused
from featherpose.serve.guard import deny
from featherpose.serve.places import known_only, place_of
from featherpose.serve.service import Service

COMMANDS = ("timestamp", "point", "box", "reset")
LONGEST_COMMAND = 1000
"""Characters."""
TIME_DIGITS = 6
NOBODY = {"pose_score": None, "box_xyxy": None, "joints": None}
POLICY = 1008
"""Close code of a client that breaks a rule, RFC 6455, section 7.4.1."""


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:  # a whole number beyond all floats
        return False


class Following:
    """One connection: its tracker, its clock, the number of its frames."""

    def __init__(self, service: Service, websocket: WebSocket, *, smoothing: bool, place: dict) -> None:
        self.service, self.websocket = service, websocket
        self.tracker = Tracker(service.predictor, smoothing=smoothing)
        if any(place.values()):
            self.tracker.start(**place)
        self._began = time.monotonic()
        self._next_time: float | None = None
        self.frames = 0

    def obey(self, text: str) -> dict:
        """Takes a command: {"timestamp": s} for the next frame, {"point": [x, y]}, {"box": [...]}, {"reset": true}."""
        try:
            self.service.count_photos(self.websocket)
            self._obey(text)
        except Refused as error:
            self.service.metrics.errors.labels(error.kind).inc()
            return error.to_dict()
        return {"ok": True}

    def _obey(self, text: str) -> None:
        if len(text) > LONGEST_COMMAND:
            raise Refused("bad_request", f"a command has at most {LONGEST_COMMAND} characters, got {len(text)}")
        try:
            command = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused("bad_request", f"a text message must be a JSON object of commands ({error})") from error
        if not isinstance(command, dict):
            raise Refused("bad_request", 'a text message must be a JSON object of commands, such as {"reset": true}')
        known_only(command, COMMANDS, "command")
        place = place_of(command.get("point"), command.get("box"))
        timestamp, reset = command.get("timestamp"), command.get("reset", False)
        if timestamp is not None and not _is_time(timestamp):
            raise Refused("bad_request", f"timestamp must be a number of seconds, got {str(timestamp)[:50]}")
        if not isinstance(reset, bool):
            raise Refused("bad_request", f"reset must be true or false, got {reset!r}")
        if reset:
            self.tracker.reset()
        if any(place.values()):
            self.tracker.start(**place)
        if timestamp is not None:
            self._next_time = float(timestamp)

    async def look(self, data: bytes) -> dict:
        """The row of one frame; a frame that is refused is not shown to the tracker."""
        number, self.frames = self.frames, self.frames + 1
        timestamp = time.monotonic() - self._began if self._next_time is None else self._next_time
        self._next_time = None
        limits = self.service.limits
        try:
            self.service.count_photos(self.websocket)
            if len(data) > limits.photo_bytes:
                text = f"the frame has {len(data):,} bytes; at most {limits.photo_bytes:,} are taken"
                raise Refused("too_many_bytes", text)
            (job,) = self.service.jobs.submit([lambda: self._work(data, timestamp)])
            row = await job
        except Refused as error:
            self.service.metrics.errors.labels(error.kind).inc()
            row = error.to_dict()
        except Exception:
            logging.getLogger("uvicorn.error").exception("a frame of %s failed", self.websocket.url.path)
            broken = Refused("internal", "the service failed; its log says why")
            self.service.metrics.errors.labels(broken.kind).inc()
            row = broken.to_dict()
        return {"frame": number, "time": round(timestamp, TIME_DIGITS), **row}

    def _work(self, data: bytes, timestamp: float) -> dict:
        image = self.service.eye.unpack(data, "frame")
        start = time.perf_counter()
        try:
            pose = self.tracker(image, timestamp)
        except ValueError as error:  # a place outside the frame
            raise Refused("bad_request", str(error)) from error
        self.service.metrics.stage("pose", time.perf_counter() - start)
        self.service.metrics.photos.labels("no" if pose is None else "yes").inc()
        return {"state": self.tracker.state, **(NOBODY if pose is None else pose.to_dict())}


async def follow(websocket: WebSocket, service: Service) -> None:
    """One connection from its handshake to its end."""
    scope, receive, send = websocket.scope, websocket.receive, websocket.send
    try:
        query = websocket.query_params
        known_only(query, ("point", "box", "smoothing"), "parameter")
        smoothing = query.get("smoothing", "true")
        if smoothing not in ("true", "false"):
            raise Refused("bad_request", f"smoothing must be true or false, got {smoothing[:50]!r}")
        place = place_of(query.get("point"), query.get("box"))
        service.count_photos(websocket)
        service.sockets.take(1)
    except Refused as error:
        return await deny(scope, receive, send, service, error)
    try:
        await websocket.accept()
        await _answer_all(websocket, Following(service, websocket, smoothing=smoothing == "true", place=place))
    except WebSocketDisconnect:
        pass
    finally:
        service.sockets.give(1)


async def _answer_all(websocket: WebSocket, following: Following) -> None:
    service = following.service
    while True:
        seconds = service.limits.frame_seconds
        try:
            message = await asyncio.wait_for(websocket.receive(), seconds)
        except asyncio.TimeoutError:
            service.metrics.errors.labels("slow_client").inc()
            return await websocket.close(POLICY, f"no message for {seconds:g} seconds")
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        answer = following.obey(text) if text is not None else await following.look(message["bytes"])
        await websocket.send_text(json.dumps(answer, separators=(",", ":")))

"""How much a client, and all clients together, may ask for."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields

from featherpose.serve.errors import Refused


@dataclass(frozen=True)
class Limits:
    """Every limit of the service; the reasons stand in docs/serve.md."""

    photo_bytes: int = 16 * 2**20
    """Of one photo, or one frame of a WebSocket."""
    request_bytes: int = 64 * 2**20
    """Of one request with several photos."""
    photos: int = 16
    """Most photos of one request."""
    pixels: int = 25_000_000
    """Of one photo, told by its header before it is unpacked."""
    scans: int = 50
    """Of one JPEG; each is a pass over all of its pixels."""
    people: int = 10
    """Most people that one photo may be asked for."""
    bytes_held: int = 256 * 2**20
    """Of all bodies that are being received or wait."""
    queue: int = 64
    """Photos that wait for a worker."""
    rate: float = 60.0
    """Photos a second and client, on average; 0 for no limit."""
    burst: float = 2.0
    """Seconds of `rate` that may come at once."""
    connections: int = 128
    """Open connections of all kinds."""
    sockets: int = 16
    """Open WebSockets."""
    header_seconds: float = 10.0
    """For a request's head to arrive."""
    body_seconds: float = 30.0
    """For a request's body to arrive."""
    answer_seconds: float = 30.0
    """From the body to the joints."""
    send_seconds: float = 30.0
    """For a piece of an answer to be taken."""
    frame_seconds: float = 60.0
    """Between two messages of a WebSocket."""
    stop_seconds: int = 10
    """For running requests to end after Ctrl-C."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (value > 0 or (item.name in ("rate", "queue") and value == 0)):
                raise ValueError(f"the limit {item.name} must be positive, got {value}")
        if self.rate and self.rate * self.burst < 1:
            raise ValueError(f"rate x burst must allow one photo at least, got {self.rate:g} x {self.burst:g}")


class Rate:
    """A token bucket per client: `rate` a second on average, `burst` seconds of it at once.

    Clients are IPv4 addresses and IPv6 networks of 64 bits, which one household gets as a whole. Not thread-safe.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], most_clients: int = 10_000) -> None:
        """clock: seconds, rising. most_clients: the one not heard of for longest is forgotten beyond."""
        self.rate, self.most, self.clock, self.most_clients = rate, rate * burst, clock, most_clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (tokens, when)

    def take(self, client: str, number: float = 1) -> None:
        """Counts `number` photos; Refused, and none counted, when that is too many."""
        if not self.rate:
            return
        client, now = _network(client), self.clock()
        tokens, when = self._left.pop(client, (self.most, now))
        tokens = min(self.most, tokens + (now - when) * self.rate)
        enough = tokens >= min(number, self.most)  # a whole bucket pays for a request that is larger than it
        self._left[client] = (max(tokens - number, 0.0) if enough else tokens, now)
        if len(self._left) > self.most_clients:
            self._left.popitem(last=False)
        if not enough:
            raise Refused(
                "too_many_requests",
                f"more than {self.rate:g} photos a second from one client; send them more slowly",
                retry_after=(min(number, self.most) - tokens) / self.rate,
            )


def _network(client: str) -> str:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else client


class Room:
    """A number of things, such as bytes, of which there are at most so many at once. Not thread-safe."""

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what, self.used = most, what, 0

    def take(self, number: int) -> None:
        """Refused, and none taken, when there is no room for so many more."""
        if self.used + number > self.most:
            raise Refused("busy", f"the service is full ({self.what}); try again a little later", retry_after=1)
        self.used += number

    def give(self, number: int) -> None:
        """Gives back what was taken."""
        self.used -= number

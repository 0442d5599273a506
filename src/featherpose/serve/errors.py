"""What a request is refused with: a kind for programs, one sentence for people, a status."""

from __future__ import annotations

import math

STATUS = {
    "bad_request": 400,
    "other_origin": 403,
    "not_found": 404,
    "wrong_method": 405,
    "slow_client": 408,
    "too_many_bytes": 413,
    "too_many_pixels": 413,
    "too_many_photos": 413,
    "wrong_type": 415,
    "damaged_photo": 422,
    "too_many_requests": 429,
    "client_gone": 499,
    "internal": 500,
    "busy": 503,
    "too_slow": 503,
}
"""Kind of an error -> HTTP status. 499 is nginx's; nobody is left to read it, it is for the metrics."""


class Refused(Exception):
    """A request that is not answered with joints."""

    def __init__(self, kind: str, message: str, *, retry_after: float | None = None) -> None:
        """kind: a key of STATUS. retry_after: seconds after which it is worth another try."""
        super().__init__(message)
        self.kind = kind
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]

    def to_dict(self) -> dict:
        """The body, for JSON."""
        facts = {"kind": self.kind, "error": " ".join(str(self).split())}
        return facts if self.retry_after is None else facts | {"retry_after": self.retry_after}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

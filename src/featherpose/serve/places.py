"""Points, boxes and other options of requests, from text and from JSON."""

from __future__ import annotations

from collections.abc import Collection

from featherpose.serve.errors import Refused
from featherpose.skeletons import did_you_mean

FARTHEST = 1e7
"""Pixels; no photo is so large, and the squares and areas of larger numbers can overflow."""


def known_only(names: Collection[str], known: Collection[str], what: str) -> None:
    """Refused for a name that nobody reads: it would be taken for an option that works."""
    for name in names:
        if name not in known:
            hint = did_you_mean(name[:50], known) if known else ""
            raise Refused("bad_request", f"unknown {what} '{name[:50]}'{hint}")


def numbers(value: object, name: str, form: str) -> tuple[float, ...] | None:
    """The numbers of "410,220" or [410, 220]; form says how many: "x,y". None stays None."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        values = tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        values = ()
    if len(values) != form.count(",") + 1 or not all(abs(value) <= FARTHEST for value in values):  # NaN is refused too
        raise Refused("bad_request", f"{name} must be {form} in pixels of the photo, got {str(value)[:50]!r}")
    return values


def place_of(point: object, box: object) -> dict[str, tuple[float, ...] | None]:
    """point and box as Predictor takes them; not both."""
    place = {"point": numbers(point, "point", "x,y"), "box": numbers(box, "box", "x1,y1,x2,y2")}
    if None not in place.values():
        raise Refused("bad_request", "give a point or a box, not both")
    return place

"""What every source of moving pictures gives, and which reader opens which source.

A source is something to iterate over once: it yields `Frame`s in the order of their times. It has

- `facts`: a SourceFacts, known before the first frame is taken;
- `problem`: after the last frame, None or one sentence on why it was the last one before its time;
- `audio`: the sound's stream for a VideoWriter, or None; `late_audio`: its packets after the last frame;
- `close()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

CAMERA_FOLDER = Path("/dev")
CAMERA_PREFIX = "video"
"""Linux names cameras /dev/video0, /dev/video1, ..."""

MOST_EVERY = 1_000_000


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    index: int
    """Its number, 0 for the first frame that is read: with a later start, the first one from there on."""
    time: float
    """Seconds since the beginning of the source (of a camera: since its first picture)."""
    image: np.ndarray
    """(H, W, 3) uint8 RGB, turned the way a person looks at it, square pixels."""
    duration: float
    """Seconds it is meant to be seen, as far as that is known beforehand."""
    audio: tuple = ()
    """Packets of the sound that the file holds before this frame."""


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source before its frames are read."""

    name: str
    """As the user gave it."""
    kind: str
    """file, url or camera."""
    size_wh: tuple[int, int]
    """Of the frames as they come: rotation applied, pixels made square."""
    live: bool = False
    """Whether it goes on whether or not somebody reads: frames are left out rather than kept waiting."""
    fps: float | None = None
    """Frames per second on average, as the source says."""
    duration: float | None = None
    """Seconds, as the source says."""
    frames: int | None = None
    """How many frames it says it has."""
    codec: str | None = None
    audio_codec: str | None = None
    time_base: Fraction = field(default=Fraction(1, 90_000))
    """Seconds of one tick of its clock."""


class Source(Protocol):
    """See the top of this file; nothing inherits from it."""

    facts: SourceFacts
    problem: str | None
    audio: Any
    late_audio: tuple

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def open_source(name: str, *, start: float = 0.0, end: float | None = None, every: int = 1) -> Source:
    """A file, a URL, or a camera by its number or device (0, /dev/video0).

    start, end: seconds from the beginning; frames outside are left out. every: only each n-th frame is given.
    Raises FileNotFoundError, ValueError or OSError in one sentence when it cannot be opened or shows no picture,
    ImportError when it takes PyAV and that is not installed.
    """
    if not 0 <= start < math.inf:
        raise ValueError(f"a start must be 0 seconds or later, got {start:g}")
    if end is not None and not start < end < math.inf:
        raise ValueError(f"the end must lie behind the start: {end:g} s is not after {start:g} s")
    if not 1 <= every <= MOST_EVERY:
        raise ValueError(f"every n-th frame: n must be at least 1 and at most {MOST_EVERY}, got {every}")
    if kind_of(name) == "camera":
        from featherpose.runtime.video.camera import CameraReader

        if start:
            raise ValueError(f"camera {name}: a camera has no later start; leave the start out")
        return CameraReader(name, end=end, every=every)
    from featherpose.runtime.video.decoding import FileReader

    return FileReader(name, url=kind_of(name) == "url", start=start, end=end, every=every)


def kind_of(name: str) -> str:
    """file, url or camera: a number is a camera unless a file is called so."""
    path = Path(name)
    if path.parent == CAMERA_FOLDER and path.name.startswith(CAMERA_PREFIX):
        return "camera"
    if name.isdecimal() and not path.exists():
        return "camera"
    return "url" if "://" in name else "file"


def short_name(name: str) -> str:
    """What results of a source are called: the file's stem, the last part of a URL, camera0."""
    kind = kind_of(name)
    if kind == "camera":
        return "camera" + "".join(character for character in name if character.isdigit())
    if kind == "file":
        return Path(name).stem or "video"
    address = name.split("://", 1)[1].split("?")[0].split("#")[0].rstrip("/")
    host, _, inside = address.partition("/")
    stem = Path(inside).stem if inside else host
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip(".-") or "stream"

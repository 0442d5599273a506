"""One photo of one request, from bytes to plain numbers. Runs in worker threads."""

from __future__ import annotations

import re
import threading
import time

import numpy as np

from featherpose.pose import Pose
from featherpose.runtime.photos import NoPicture, TooLarge, decode_photo
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.report import is_found
from featherpose.runtime.several import everybody
from featherpose.serve.errors import Refused
from featherpose.serve.limits import Limits
from featherpose.serve.metrics import Metrics
from featherpose.spec import ModelSpec

FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Pillow's names of what is taken -> content type. A short list: each decoder is one more that strangers can feed."""


class Eye:
    """Unpacks photos and finds people in them, with times kept by stage; errors come as Refused."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics, decoders: int = 2) -> None:
        """decoders: photos that are unpacked at once; unpacking takes more memory than the photo itself."""
        self.predictor, self.limits, self.metrics = predictor, limits, metrics
        self._decoding = threading.Semaphore(decoders)

    def unpack(self, data: bytes, name: str = "photo") -> np.ndarray:
        """(H, W, 3) uint8 RGB of the bytes of a file."""
        size = webp_size(data)  # Pillow's WebP decoder takes memory for the whole picture when it is made
        if size is not None and size[0] * size[1] > self.limits.pixels:
            text = f"{name}: too large, {size[0]:,} x {size[1]:,} pixels; at most {self.limits.pixels:,} are read"
            raise Refused("too_many_pixels", text)
        if too_many_scans(data, self.limits.scans):
            text = f"{name}: too many scans, more than the {self.limits.scans} that are read of a JPEG"
            raise Refused("too_many_pixels", text)
        with self._decoding:
            start = time.perf_counter()
            try:
                image = decode_photo(data, name, formats=tuple(FORMATS), max_pixels=self.limits.pixels)
            except NoPicture as error:
                raise Refused("wrong_type", f"{name}: neither a JPEG, a PNG nor a WebP picture") from error
            except TooLarge as error:
                raise Refused("too_many_pixels", str(error)) from error
            except ValueError as error:
                raise Refused("damaged_photo", str(error)) from error
        self.metrics.stage("decode", time.perf_counter() - start)
        return image

    def look(self, data: bytes, name: str, *, point=None, box=None, people: int | None = None) -> dict:
        """The answer for one photo; point and box as Predictor takes them, people: up to so many instead of one."""
        image = self.unpack(data, name)
        start = time.perf_counter()
        try:
            if people is None:
                answer = pose_facts(self.predictor(image, point=point, box=box), self.predictor.spec)
            else:
                answer = self._everybody(image, people)
        except ValueError as error:  # a place outside the photo, a model that finds one person only
            raise Refused("bad_request", f"{name}: {error}") from error
        self.metrics.stage("pose", time.perf_counter() - start)
        self.metrics.photos.labels("yes" if answer["found"] else "no").inc()
        return {"size_wh": [image.shape[1], image.shape[0]], **answer}

    def _everybody(self, image: np.ndarray, people: int) -> dict:
        spec = self.predictor.spec
        poses = everybody(self.predictor, image, people)
        found = [pose_facts(pose, spec) for pose in poses if is_found(pose, spec)]
        return {"found": bool(found), "people": found}


def pose_facts(pose: Pose, spec: ModelSpec) -> dict:
    """A pose for JSON, as `poses.json` has it."""
    return {"found": is_found(pose, spec), **pose.to_dict()}


START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker of a JPEG beside those that stand inside a scan: stuffed zeros, restarts, filling."""


MOST_SEGMENTS = 10_000
"""Of a JPEG; colour profiles and previews of 16 MiB come in 256. Bounds the time that a hostile one takes to walk through."""


def too_many_scans(data: bytes, most: int) -> bool:
    """Whether a JPEG has more than `most` scans up to its end, as decoders find them. ITU-T T.81, annex B.

    What follows the end does not count: phones put videos there.
    """
    if data[:2] != b"\xff\xd8" or data.count(b"\xff\xda") <= most:
        return False
    scans, at = 0, 2
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(data, at)
        if found is None or (marker := data[found.start() + 1]) == END_OF_IMAGE:
            return False
        scans += marker == START_OF_SCAN
        if scans > most:
            return True
        at = found.end()
        if marker >= 0xC0:  # those below have no length, and are no part of a JPEG that is well
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    return True


def webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a WebP file's first chunk tells; None for other files and for one that is cut off.

    RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None

    def little(first: int, last: int) -> int:
        return int.from_bytes(data[first:last], "little")

    if data[12:16] == b"VP8X":
        return little(24, 27) + 1, little(27, 30) + 1
    if data[12:16] == b"VP8L":
        bits = little(21, 25)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (little(26, 28) & 0x3FFF, little(28, 30) & 0x3FFF) if data[12:16] == b"VP8 " else None

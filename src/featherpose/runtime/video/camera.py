"""A camera as a source of frames, by OpenCV: Video4Linux, AVFoundation or Media Foundation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import cv2

from featherpose.runtime.video.reader import CAMERA_FOLDER, CAMERA_PREFIX, Frame, SourceFacts

USUAL_FPS = 30.0
"""Taken when a camera does not tell its own; only the encoder's rate control and a guess of the last frame's length
depend on it."""


class CameraReader:
    """Frames of a camera with the time at which they arrived; see runtime.video.reader for what a source is."""

    def __init__(
        self,
        name: str,
        *,
        end: float | None = None,
        every: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """name: a number or /dev/videoN. end: seconds after which it stops by itself. clock: in seconds."""
        self.problem: str | None = None
        self.audio, self.late_audio = None, ()
        self._name, self._end, self._every, self._clock = name, end, every, clock
        with _quiet_opencv():
            self._camera = cv2.VideoCapture(int(name) if name.isdecimal() else name)
            opened = self._camera.isOpened()
            ok, image = self._camera.read() if opened else (False, None)
        if not ok:
            self._camera.release()
            reason = "it gives no picture; is another program using it?" if opened else "there is no such camera"
            raise OSError(f"camera {name}: {reason} (cameras here: {', '.join(_cameras()) or 'none found'})")
        fps = float(self._camera.get(cv2.CAP_PROP_FPS))
        self._fps = fps if 1 <= fps <= 1000 else USUAL_FPS
        height, width = image.shape[:2]
        self.facts = SourceFacts(
            name=name, kind="camera", size_wh=(width, height), live=True, fps=self._fps / every, duration=end
        )

    def __iter__(self) -> Iterator[Frame]:
        index, begin, now, last = 0, None, 0.0, -1.0
        while self._end is None or now < self._end:
            with _quiet_opencv():
                try:
                    ok, image = self._camera.read()
                except cv2.error:
                    ok = False
            begin = self._clock() if begin is None else begin  # of the first picture that somebody takes
            now = self._clock() - begin if index else 0.0
            if not ok:
                self.problem = (
                    f"camera {self._name}: it disappeared after {now:.1f} s; what was seen until then is kept"
                )
                return
            if index % self._every == 0 and now > last and (self._end is None or now < self._end):
                last = now
                yield Frame(index, now, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self._every / self._fps)
            index += 1

    def close(self) -> None:
        self._camera.release()


def _cameras() -> list[str]:
    """Device files that look like cameras; Linux only, elsewhere nothing is listed."""
    return sorted(str(path) for path in CAMERA_FOLDER.glob(CAMERA_PREFIX + "[0-9]*"))


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints its own warnings for a camera that is not there; ours is a sentence."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)

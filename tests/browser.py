"""A headless Chromium for tests, driven by its DevTools protocol over a pipe, so that no package is needed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--use-fake-device-for-media-stream",
    "--window-size=1280,800",
    "--js-flags=--wasm-lazy-compilation",
)
"""The last one: otherwise every page compiles all 14 MB of the runtime, also what it never calls."""


def find_chromium() -> str | None:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One browser with one page. Use it in a `with`."""

    def __init__(self, camera: Path | None = None, arguments: tuple[str, ...] = ()) -> None:
        """camera: a .y4m or .mjpeg file that the fake camera plays over and over."""
        self._folder = tempfile.mkdtemp(prefix="featherpose-chromium-")
        command = [find_chromium(), *FLAGS, f"--user-data-dir={self._folder}", *arguments]
        if camera is not None:
            command.append(f"--use-file-for-fake-video-capture={camera}")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def give_pipes() -> None:
            high = [os.dup(end) for end in (to_browser, from_browser, to_browser, from_browser)][-2:]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [*command, "about:blank"],
            preexec_fn=give_pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._count, self._session = b"", 0, None
        self.events: list[dict] = []
        try:
            pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
            self._session = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser with all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for end in (self._read, self._write):
            os.close(end)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, timeout: float = 300.0, **params) -> dict:
        """One command of the DevTools protocol; RuntimeError with the browser's words when it fails."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None and not method.startswith(("Target.", "Browser.", "SystemInfo.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout
        while True:
            answer = self._next(until, method)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def _next(self, until: float, method: str) -> dict:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(until - time.monotonic(), 0))[0]:
                raise TimeoutError(f"{method}: the browser does not answer")
            block = os.read(self._read, 1 << 20)
            if not block:
                raise RuntimeError(f"{method}: the browser ended")
            self._buffer += block
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def run(self, expression: str, timeout: float = 300.0):
        """The value of a JavaScript expression in the page; promises are waited for."""
        done = self.call(
            "Runtime.evaluate",
            timeout,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in done:
            facts = done["exceptionDetails"]
            raise RuntimeError(facts.get("exception", {}).get("description") or facts["text"])
        return done["result"].get("value")

    def wait(self, expression: str, timeout: float = 300.0):
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + timeout
        while not (value := self.run(expression)):
            if time.monotonic() > until:
                raise TimeoutError(f"still not so after {timeout:g} s: {expression}")
            time.sleep(0.05)
        return value

    def open(self, address: str) -> None:
        """Loads a page."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def allow_camera(self, allowed: bool) -> None:
        """Answers the question that a page asks before it gets the camera, once and for all."""
        setting = "granted" if allowed else "denied"
        self.call("Browser.setPermission", permission={"name": "camera"}, setting=setting)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """The size of the window's content, in CSS pixels; phone: as a phone lays pages out."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> None:
        """The page as it is seen, a PNG file."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def memory(self) -> tuple[float, float]:
        """Megabytes of JavaScript objects that are in use, and of the page's whole process, garbage thrown away."""
        self.call("HeapProfiler.collectGarbage")
        heap = self.call("Runtime.getHeapUsage")
        return (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 2**20, self._resident()

    def _resident(self) -> float:
        ids = [p["id"] for p in self.call("SystemInfo.getProcessInfo")["processInfo"] if p["type"] == "renderer"]
        pages = [int(Path(f"/proc/{number}/statm").read_text().split()[1]) for number in ids]
        return max(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_y4m(path: Path, image: np.ndarray, frames: int = 8, rate: int = 30) -> np.ndarray:
    """A clip of one still picture (H, W, 3) uint8 RGB with even sides; gives the picture back as players decode it.

    Full resolution of brightness, half of colour; studio range of ITU-R BT.601.
    """
    rgb = image.astype(np.float64)
    y = 16 + rgb @ np.array([65.481, 128.553, 24.966]) / 255
    u = 128 + rgb @ np.array([-37.797, -74.203, 112.0]) / 255
    v = 128 + rgb @ np.array([112.0, -93.786, -18.214]) / 255
    half = [plane.reshape(len(plane) // 2, 2, -1, 2).mean(axis=(1, 3)) for plane in (u, v)]
    y, u, v = (plane.round().clip(0, 255).astype(np.uint8) for plane in (y, *half))
    header = f"YUV4MPEG2 W{image.shape[1]} H{image.shape[0]} F{rate}:1 Ip A1:1 C420mpeg2\n".encode()
    picture = b"FRAME\n" + y.tobytes() + u.tobytes() + v.tobytes()
    Path(path).write_bytes(header + picture * frames)
    u, v = (np.kron(plane, np.ones((2, 2))) - 128 for plane in (u, v))
    luma = (y - 16.0) * 255 / 219
    decoded = np.stack([luma + 1.596 * v, luma - 0.391 * u - 0.813 * v, luma + 2.018 * u], axis=2)
    return decoded.round().clip(0, 255).astype(np.uint8)

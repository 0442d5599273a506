"""A live picture on the screen, by OpenCV where it has windows, else by Tk, which comes with most Pythons."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np

CLOSING_KEYS = (ord("q"), 27)
"""q and Escape."""


def why_no_window() -> str | None:
    """None where a window can be shown, else the reason in half a sentence."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    if _opencv_has_windows():
        return None
    try:
        import tkinter

        tkinter.Tk().destroy()
    except ImportError:
        return "this OpenCV is the headless build and this Python has no Tk (on Debian: apt install python3-tk)"
    except Exception as error:  # TclError, which only exists where Tk does
        return f"the screen cannot be used ({' '.join(str(error).split())})"
    return None


def open_window(title: str):
    """A window: `show(image) -> bool` is False once the user has closed it; `close()`. Main thread only."""
    return (_OpencvWindow if _opencv_has_windows() else _TkWindow)(title)


def _opencv_has_windows() -> bool:
    for line in cv2.getBuildInformation().splitlines():
        name, _, value = line.strip().partition(":")
        if name == "GUI":
            return value.strip() not in ("NONE", "NO")
    return False


class _OpencvWindow:
    def __init__(self, title: str) -> None:
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, image: np.ndarray) -> bool:
        cv2.imshow(self._title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1) & 0xFF
        return key not in CLOSING_KEYS and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyWindow(self._title)


class _TkWindow:
    """Tk draws slowly: pictures are shrunk to fit most of the screen first."""

    def __init__(self, title: str) -> None:
        import tkinter

        self._root = tkinter.Tk()
        self._root.title(title)
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._shut)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self._shut())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._limit = (self._root.winfo_screenwidth() * 0.8, self._root.winfo_screenheight() * 0.8)
        self._photo = None

    def _shut(self) -> None:
        self._open = False

    def show(self, image: np.ndarray) -> bool:
        from PIL import Image, ImageTk

        height, width = image.shape[:2]
        shrink = min(1.0, self._limit[0] / width, self._limit[1] / height)
        if shrink < 1:
            image = cv2.resize(image, (int(width * shrink), int(height * shrink)), interpolation=cv2.INTER_AREA)
        picture = Image.fromarray(image)
        if self._photo is None or (self._photo.width(), self._photo.height()) != picture.size:
            self._photo = ImageTk.PhotoImage(picture)
            self._label.configure(image=self._photo)
        else:
            self._photo.paste(picture)
        self._root.update()
        return self._open

    def close(self) -> None:
        self._root.destroy()

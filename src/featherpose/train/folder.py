"""The run folder: what it holds, whether it may be used, and the log that is written there.

It holds `recipe.json` (every default written out), `log.jsonl`, `tensorboard/`, `pictures/`,
`checkpoint.safetensors` (to go on) and `model.safetensors` (the averaged weights with their spec, to use; as of the
last validation).
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np

from featherpose.train.checkpoint import read_facts
from featherpose.train.config import Recipe

CHECKPOINT, MODEL, LOG, RECIPE = "checkpoint.safetensors", "model.safetensors", "log.jsonl", "recipe.json"
TENSORBOARD, PICTURES = "tensorboard", "pictures"


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """ValueError when the folder's run is in the way or is another one, OSError when it cannot be written."""
    checkpoint = folder / CHECKPOINT
    if resume:
        other = read_facts(checkpoint)["fingerprint"]
        if other != recipe.fingerprint():
            raise ValueError(
                f"{checkpoint} belongs to another recipe (fingerprint {other}, this one has {recipe.fingerprint()}); "
                f"resume with the recipe and the --set it was started with (its values: {folder / RECIPE}), "
                "or choose another --out"
            )
    elif checkpoint.exists() or (folder / MODEL).exists():
        raise ValueError(f"{folder} already holds a run; go on with it by --resume, or choose another --out")
    # Told now rather than after minutes of reading labels; the folder itself is made when the first line is written.
    parent = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        reason = "may not be written" if parent.is_dir() else "is not a folder"
        raise OSError(f"{folder}: the run folder cannot be written, {parent} {reason}; choose another --out")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Names the file in an error while writing it, and the way on."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error.strerror or error}); the last checkpoint, if any, is untouched: "
            "make room and go on with --resume"
        ) from error


def _place_of(line: str) -> tuple[float, float]:
    """Step and epoch of a line of the log; infinite for one that was cut off."""
    try:
        facts = json.loads(line)
        return facts["step"], facts["epoch"]
    except ValueError:
        return math.inf, math.inf


class Journal:
    """Writes a run's log, curves and pictures into its folder."""

    def __init__(self, folder: Path, recipe: Recipe, *, step: int, epoch: int) -> None:
        """Makes the folder. step, epoch: where the run goes on; what an interrupted one logged after it is taken away."""
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        with writing(folder):
            (folder / PICTURES).mkdir(parents=True, exist_ok=True)
            (folder / RECIPE).write_text(json.dumps(recipe.to_dict(), indent=1), encoding="utf-8")
            self._shorten_log(step, epoch)
            self.board = SummaryWriter(str(folder / TENSORBOARD), purge_step=step + 1 if step else None)
        self._other_hook, threading.excepthook = threading.excepthook, self._thread_failed

    def _shorten_log(self, step: int, epoch: int) -> None:
        log = self.folder / LOG
        if log.exists():
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if step and _place_of(line) <= (step, epoch)]
            temporary = log.with_name(LOG + ".part")
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            os.replace(temporary, log)

    def _thread_failed(self, failure) -> None:
        """TensorBoard writes in a thread and raises its errors again at the next call; no need for a traceback too."""
        if not isinstance(failure.exc_value, OSError):
            self._other_hook(failure)

    def write(self, kind: str, *, step: int, epoch: int, **facts) -> dict:
        """Appends one line to the log, its numbers to TensorBoard, and returns it."""
        line = {"kind": kind, "step": step, "epoch": epoch, "time": round(time.time(), 1), **facts}
        with writing(self.folder / LOG), open(self.folder / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with writing(self.folder / TENSORBOARD):
            for name, value in facts.items() if kind != "start" else ():
                for key, number in (value if isinstance(value, dict) else {"": value}).items():
                    if isinstance(number, (int, float)) and math.isfinite(number):
                        self.board.add_scalar(f"{kind}/{name}{'/' if key else ''}{key}", number, step)
        return line

    def picture(self, image: np.ndarray, *, step: int, epoch: int) -> None:
        """Keeps a sheet of predictions, (H, W, 3) uint8 RGB."""
        path = self.folder / PICTURES / f"epoch_{epoch:03d}.png"
        with writing(path):
            path.write_bytes(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes())
            self.board.add_image("validation/predictions", image, step, dataformats="HWC")

    def close(self, *, quietly: bool = False) -> None:
        """Writes what TensorBoard still holds back. quietly: something else went wrong, and that is what to tell."""
        with suppress(OSError) if quietly else writing(self.folder / TENSORBOARD):
            try:
                self.board.close()
            finally:
                threading.excepthook = self._other_hook

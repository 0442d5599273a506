"""Means of what the steps report, for the log."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor


class Meter:
    """Means since the last reading: losses, gradient norm, photos per second.

    Sums stay on the device until they are read, so that counting a step does not wait for a GPU.
    """

    def __init__(self, photos_per_step: int, state: dict | None = None) -> None:
        """state: what `state()` gave before a stop; means then go on as if there had been none."""
        self.photos_per_step = photos_per_step
        self._clear()
        if state and state["steps"]:
            self.steps, self.names = state["steps"], list(state["sums"])
            self.sums = torch.tensor(list(state["sums"].values()))

    def _clear(self) -> None:
        self.started, self.photos, self.steps = time.monotonic(), 0, 0
        self.names: list[str] = []
        self.sums: Tensor | None = None

    def add(self, loss: Tensor, gradient: Tensor, parts: dict[str, Tensor]) -> None:
        """Counts one step: the loss, the norm of the network's whole gradient, each loss before its weight."""
        values = torch.stack([v.detach().float() for v in (loss, gradient, *parts.values())])
        self.names = ["loss", "gradient", *parts]
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.steps += 1
        self.photos += self.photos_per_step

    def state(self) -> dict:
        """Plain values for a checkpoint."""
        return {"steps": self.steps, "sums": self._sums()}

    def means(self) -> dict[str, float]:
        """{"loss", "gradient", then each loss}: means over the steps so far; empty before the first."""
        return {name: value / self.steps for name, value in self._sums().items()}

    def read(self) -> dict:
        """{"loss", "gradient", "losses": {name: mean}, "photos_per_s"}; starts anew."""
        means = {name: round(value, 5) for name, value in self.means().items()}
        facts = {"loss": means.pop("loss"), "gradient": means.pop("gradient"), "losses": means}
        facts["photos_per_s"] = round(self.photos / max(1e-9, time.monotonic() - self.started), 1)
        self._clear()
        return facts

    def broken(self) -> str:
        """What is no finite number among loss and gradient, for a message; empty when all is well."""
        means = self.means()
        if all(math.isfinite(value) for value in means.values()):
            return ""
        return ", ".join(f"{name} {value:.3g}" for name, value in means.items())

    def _sums(self) -> dict[str, float]:
        return {} if self.sums is None else dict(zip(self.names, self.sums.tolist(), strict=True))

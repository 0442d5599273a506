"""The One-Euro filter: still joints stand still, quick ones are followed at once.

A low-pass filter whose cut-off rises with speed (Casiez, Roussel and Vogel, "1 Euro Filter", CHI 2012), applied to all
joints of a body at once, in real time stamps, with lengths measured in the size of that body: a person far away is
smoothed like one nearby. Two things are our own, a power of the speed and the score's share, because they gave the same
calm at less lag when they were chosen (docs/tracking.md has the present figures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


class OneEuro:
    """Smooths the joints of one body over time.

    smooth = OneEuro()
    for xy, timestamp in joints:
        steady = smooth(xy, timestamp, size=body_height)

    The first call, and the first after `reset`, gives the joints back as they are.
    """

    def __init__(
        self,
        *,
        min_cutoff: float = 0.5,
        beta: float = 48.0,
        power: float = 2.0,
        derivative_cutoff: float = 2.5,
        limit: tuple[float, float] | None = None,
        joint_speed: bool = True,
        by_score: float = 1.0,
        forget: float = 0.25,
    ) -> None:
        """The cut-off is (min_cutoff + beta x speed ** power) x score ** by_score; the paper has power 1, by_score 0.

        min_cutoff: Hz, for a joint at rest; lower is steadier. beta: Hz at one body size a second; higher lags less.
        power: above 1 the slow wandering of a joint that stands still opens the filter less. by_score: above 0 a joint
        that is not sure of its place is smoothed more. derivative_cutoff: Hz, for the estimate of the speed.
        limit: (a, b) compresses steps much longer than a + b x speed, body sizes, as tfjs does; None does not.
        joint_speed: one speed per joint rather than one for x and one for y. forget: seconds; a joint unseen for longer
        starts afresh where it reappears.
        """
        for name, value in (("min_cutoff", min_cutoff), ("derivative_cutoff", derivative_cutoff)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"One-Euro filter: {name} must be a positive number of Hz, got {value}")
        for name, value in (("beta", beta), ("power", power), ("by_score", by_score), ("forget", forget)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"One-Euro filter: {name} must be 0 or more, got {value}")
        if limit is not None and not (len(limit) == 2 and limit[0] > 0 and limit[1] >= 0):
            raise ValueError(f"One-Euro filter: limit must be two numbers, the first above 0, got {limit}")
        self.settings = {
            "min_cutoff": min_cutoff, "beta": beta, "power": power, "derivative_cutoff": derivative_cutoff,
            "limit": limit, "joint_speed": joint_speed, "by_score": by_score, "forget": forget,
        }  # fmt: skip
        self.reset()

    def copy(self) -> OneEuro:
        """A filter with the same settings that has seen nothing yet: every body needs its own."""
        return OneEuro(**self.settings)

    def reset(self) -> None:
        """Forgets everything."""
        self._time: float | None = None
        self._raw = self._smooth = self._speed = self._seen_at = None

    def __call__(
        self,
        xy: np.ndarray,
        timestamp: float,
        size: float = 1.0,
        *,
        score: np.ndarray | None = None,
        seen: np.ndarray | Sequence[bool] | None = None,
    ) -> np.ndarray:
        """The joints smoothed: (K, 2) float64, in the units of `xy`.

        xy: (K, 2), any unit. timestamp: seconds. size: of the body, in that unit. score: (K,), for `by_score`.
        seen: (K,) bool, joints that count; a joint that was not seen is smoothed too, but once that has lasted `forget`
        seconds it starts afresh. A time that stands still or goes back changes nothing: the last joints come again.
        ValueError for numbers that are not finite, and the filter stays as it was.
        """
        xy = np.asarray(xy, np.float64)
        numbers = sum(xy.ravel().tolist()) + (0.0 if score is None else sum(np.asarray(score).tolist()))
        if not (math.isfinite(timestamp) and 0 < size < math.inf and math.isfinite(numbers)):
            raise ValueError(
                "One-Euro filter: joints, scores and time must be finite numbers and the size positive, "
                f"got time {timestamp}, size {size}" + ("" if math.isfinite(numbers) else ", joints or scores that are not")
            )
        seen = np.ones(len(xy), bool) if seen is None else np.asarray(seen, bool)
        if self._time is None:
            self._time, self._raw, self._smooth = timestamp, xy.copy(), xy.copy()
            self._speed, self._seen_at = np.zeros_like(xy), np.full(len(xy), timestamp)
            return xy.copy()
        dt = timestamp - self._time
        if dt <= 0:
            return self._smooth.copy()

        setting = self.settings
        speed = (xy - self._raw) / (size * dt)  # (K, 2), body sizes a second
        self._speed += alpha(setting["derivative_cutoff"], dt) * (speed - self._speed)
        pace = np.abs(self._speed)
        if setting["joint_speed"]:
            pace = np.sqrt((pace * pace).sum(axis=1, keepdims=True))  # (K, 1)
        cutoff = setting["min_cutoff"] + setting["beta"] * pace ** setting["power"]
        if setting["by_score"] and score is not None:
            cutoff = cutoff * np.minimum(np.maximum(score, 1e-3), 1.0)[:, None] ** setting["by_score"]
        step = xy - self._smooth
        if setting["limit"] is not None:
            threshold = (setting["limit"][0] + setting["limit"][1] * pace) * size
            step = threshold * np.sign(step) * np.log1p(np.abs(step) / threshold)
        smooth = self._smooth + alpha(cutoff, dt) * step

        back = seen & (timestamp - self._seen_at > setting["forget"] + dt)
        if back.any():
            smooth[back], self._speed[back] = xy[back], 0.0
        self._seen_at[seen] = timestamp
        self._time, self._raw, self._smooth = timestamp, xy.copy(), smooth
        return smooth.copy()


def filter_of(smoothing: OneEuro | bool | None) -> OneEuro | None:
    """A filter that has seen nothing yet: the default one for True, one like that which is given; None for False or None."""
    if smoothing is None or isinstance(smoothing, bool):
        return OneEuro() if smoothing else None
    return smoothing.copy()


def alpha(cutoff: np.ndarray | float, dt: float) -> np.ndarray | float:
    """How far a low-pass filter of a cut-off in Hz moves towards a new value after dt seconds, 0 to 1 (equation 5)."""
    turn = 2 * math.pi * cutoff * dt
    return turn / (turn + 1)


TFJS = {
    "min_cutoff": 2.5, "beta": 300.0, "power": 1.0, "derivative_cutoff": 2.5, "limit": (0.5, 5.0), "joint_speed": False,
    "by_score": 0.0,
}  # fmt: skip
"""Google's settings for MoveNet in the browser, for coordinates in widths and heights of the picture and size 1
(tensorflow/tfjs-models, pose-detection/src/movenet)."""

"""Everything docs/tracking.md and its plot say of a model, in one go; tools/tables.py writes the tables.

    python benchmarks/tracking.py MODEL --photos ../shared/data/coco_person
    python tools/tables.py

Every clip with exact truth (data/sequences.py, seeds as `featherpose evaluate-track` takes them) is drawn once and then
followed by every way of evaluate_track.WAYS, and by the tracker of several people. The joints of the tracker without a
filter go through every filter, so that all smooth the same joints: jitter comes from clips in which nothing moves but the
noise, lag from people who gesture or walk alone and from photos that are panned. The result is results/tracking.json and
docs/tracking.png. Costs are processor time of the thread, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from featherpose.bench import machine
from featherpose.data.readers import read_dataset
from featherpose.data.sequences import CLIPS, Clip, synthetic_clip
from featherpose.evaluate_track import (
    FIRST_SEED,
    WAYS,
    calmness,
    drawn,
    figures_of,
    follow,
    photo_clips,
    plain,
    synthetic_clips,
)
from featherpose.metrics.tracking import Track, identities
from featherpose.pose import Pose
from featherpose.runtime.motion import begin, moved_on
from featherpose.runtime.one_euro import TFJS, OneEuro
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.several import SeveralTracker
from featherpose.runtime.tracker import Tracker

ROOT = Path(__file__).resolve().parents[1]
SMOOTHED_KINDS = ("still", "gestures", "alone", "photo")
"""Kinds of clip that say how calm and how late a filter is."""
SEVERAL_KINDS = ("crossing", "meeting", "overtaking", "crowd")
SEVERAL = {"one look": {}, "without clothes": {"clothes": 0.0}, "a second look at each": {"refine": True}}
"""Name -> options of SeveralTracker."""
PAPER = {"power": 1.0, "by_score": 0.0}
FRAMES = {True: (320, 320), False: (480, 360)}
"""Sizes of clips made of photos, and of drawn ones."""


class Kalman:
    """Constant velocity per joint: white acceleration of `push` body sizes/s^2, measurements off by `spread` body sizes."""

    def __init__(self, push: float, spread: float) -> None:
        self.push, self.spread, self.time = push, spread, None

    def __call__(self, xy: np.ndarray, timestamp: float, size: float, score: np.ndarray) -> np.ndarray:
        noise = (self.spread * size) ** 2
        if self.time is None:
            self.place, self.speed, self.time = xy.copy(), np.zeros_like(xy), timestamp
            self.pp, self.pv, self.vv = noise, 0.0, size**2
            return xy
        dt, self.time = timestamp - self.time, timestamp
        drive = (self.push * size) ** 2
        self.place = self.place + self.speed * dt
        self.pp += 2 * dt * self.pv + dt**2 * self.vv + drive * dt**3 / 3
        self.pv += dt * self.vv + drive * dt**2 / 2
        self.vv += drive * dt
        gain, turn = self.pp / (self.pp + noise), self.pv / (self.pp + noise)
        rest = xy - self.place
        self.place, self.speed = self.place + gain * rest, self.speed + turn * rest
        self.vv -= turn * self.pv
        self.pp, self.pv = (1 - gain) * self.pp, (1 - gain) * self.pv
        return self.place


def _euro(**settings) -> Callable:
    def make(photo: bool) -> Callable:
        smooth = OneEuro(**settings)
        return lambda xy, timestamp, size, score: smooth(xy, timestamp, size, score=score, seen=score > 0.2)

    return make


def _tfjs(photo: bool) -> Callable:
    smooth, size_wh = OneEuro(**TFJS, forget=1e9), np.array(FRAMES[photo])
    return lambda xy, timestamp, size, score: smooth(xy / size_wh, timestamp) * size_wh


FAMILIES: dict[str, list[tuple[str, Callable]]] = {
    "none": [("", lambda photo: lambda xy, timestamp, size, score: xy)],
    "tfjs": [("", _tfjs)],
    "One-Euro of the paper, in body sizes": [
        (f"{low:g} Hz, beta {beta:g}", _euro(min_cutoff=low, beta=beta, **PAPER))
        for low, beta in ((0.3, 3), (0.3, 6), (0.5, 12), (0.5, 24), (1, 24), (2, 6), (2, 48))
    ],
    "Kalman, constant velocity": [
        (f"push {push:g}, spread {spread:g}", lambda photo, p=push, s=spread: Kalman(p, s))
        for push, spread in ((0.5, 0.03), (1, 0.03), (2, 0.03), (4, 0.03), (10, 0.03))
    ],
    "by score": [
        (f"0.5 Hz, beta {beta:g}", _euro(min_cutoff=0.5, beta=beta, power=1.0, by_score=1.0))
        for beta in (8, 16, 24, 48)
    ],
    "by score, square of the speed": [
        (f"0.5 Hz, beta {beta:g}", _euro(min_cutoff=0.5, beta=beta, power=2.0, by_score=1.0))
        for beta in (12, 24, 48, 96, 200)
    ],
}
"""Family -> (settings, function(whether the clip is a photo) -> filter)."""
CHOSEN = ("by score, square of the speed", "0.5 Hz, beta 48")


def filtered(track: Track, make: Callable) -> Track:
    """The track as if its tracker had smoothed: every filter sees the same joints and body sizes."""
    smooth = make(track.name[0].isdigit())
    xy, motion = np.full_like(track.xy, np.nan), None
    for index, timestamp in enumerate(track.times):
        if not (track.found[index] and np.isfinite(track.xy[index]).all()):
            continue
        pose = Pose(track.xy[index], track.score[index], track.skeleton)
        motion = begin(pose, timestamp) if motion is None else moved_on(motion, pose, timestamp)
        xy[index] = smooth(track.xy[index], timestamp, motion.size, track.score[index])
    return replace(track, xy=xy)


def curve(tracks: Sequence[Track]) -> list[dict]:
    """A row for every filter: family, settings, and the figures of evaluate_track.calmness."""
    rows = []
    for family, members in FAMILIES.items():
        for settings, make in members:
            figures = calmness([filtered(track, make) for track in tracks])
            rows.append({"family": family, "settings": settings, **figures})
    return rows


def plot(rows: Sequence[dict], path: Path) -> None:
    """Jitter against lag, a line for each family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), dpi=110)
    for family in FAMILIES:
        some = sorted((row for row in rows if row["family"] == family), key=lambda row: row["lag_ms"])
        axes.plot([r["lag_ms"] for r in some], [r["jitter_body_s2"] for r in some], "o-", label=family, markersize=4)
    best = next(row for row in rows if (row["family"], row["settings"]) == CHOSEN)
    axes.annotate("default", (best["lag_ms"], best["jitter_body_s2"]), (best["lag_ms"] + 5, best["jitter_body_s2"] + 9),
                  arrowprops={"arrowstyle": "->"})  # fmt: skip
    axes.set(xlabel="lag of moving joints, ms", ylabel="jitter of still joints, body sizes / s²", ylim=(0, None))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)


def costs(predictor: Predictor, seconds: int = 1) -> list[dict]:
    """Processor milliseconds a frame of 1280 x 720: the network alone, and everything around it."""
    inner, spent = predictor.backend.run, [0.0, 0]

    def timed(images: np.ndarray) -> dict:
        start = time.thread_time()
        outputs = inner(images)
        spent[0], spent[1] = spent[0] + time.thread_time() - start, spent[1] + len(images)
        return outputs

    predictor.backend.run = timed
    ways = {
        "official crop": lambda: Tracker(predictor, lock=None),
        "tracker": lambda: Tracker(predictor),
        "tracker without clothes": lambda: Tracker(predictor, lock=replace(Tracker(predictor).lock, clothes=0.0)),
        "several": lambda: SeveralTracker(predictor),
    }
    rows: list[dict] = []
    for kind in ("alone", "crowd"):
        clip = synthetic_clip(kind, 2000, size_wh=(640, 360))
        frames = [cv2.resize(clip.draw(index)[0], (1280, 720)) for index in range(30 * seconds)]
        for counted in (False, True):  # the first round warms up
            for name, make in ways.items():
                tracker, spent[:] = make(), (0.0, 0)
                start = time.thread_time()
                for index, frame in enumerate(frames):
                    tracker(frame, index / 30)
                whole, network = ((v * 1000 / len(frames)) for v in (time.thread_time() - start, spent[0]))
                if counted:
                    looks = spent[1] / len(frames)
                    rows.append({"clip": kind, "way": name, "network_ms": network, "all_ms": whole, "looks": looks})
    predictor.backend.run = inner
    return rows


def clips_of(kinds: Sequence[str], count: int, photos: Path | None):
    """(kind, clip) for so many clips of each kind, and of each motion of photos."""
    for kind in kinds:
        for clip in synthetic_clips(count, kinds=[kind]):
            yield kind, clip
    if photos is not None:
        for _, clip in photo_clips(read_dataset(photos, split="val", problems=[]), count):
            yield "photo", clip


def everybody(predictor: Predictor, clip: Clip, options: dict) -> dict[str, float]:
    """Whether all are found and keep their numbers in a clip."""
    tracker, said = SeveralTracker(predictor, **options), []
    for image, timestamp, _ in clip:
        said.append({number: pose.xy for number, pose in tracker(image, timestamp).items()})
    return identities(said, truth_of(clip))


def truth_of(clip: Clip) -> Track:
    """The truth of a clip, as a track without poses."""
    people = [clip.draw(index)[1] for index in range(len(clip))]
    none = np.full((len(clip), len(clip.skeleton), 2), np.nan)
    xy, visibility, area = (np.stack([getattr(p, name) for p in people]) for name in ("xy", "visibility", "area"))
    return Track(
        clip.name, clip.skeleton, clip.times, none, none[..., 0] * 0, np.zeros(len(clip), bool), xy, visibility, area
    )


def measure(predictor: Predictor, kinds: Sequence[str], count: int, photos: Path | None) -> dict:
    """The content of results/tracking.json, and the plain tracker's joints go through every filter."""
    tracks: dict[str, dict[str, list[Track]]] = {way: {} for way in WAYS}
    several: dict[str, list[dict]] = {name: [] for name in SEVERAL}
    for kind, clip in clips_of(kinds, count, photos):
        start = time.time()
        clip = drawn(clip)
        for way, make in WAYS.items():
            tracks[way].setdefault(kind, []).append(follow(clip, make(predictor)))
        if kind in SEVERAL_KINDS:
            for name, options in SEVERAL.items():
                several[name].append(everybody(predictor, clip, options))
        print(f"{clip.name}: {len(clip)} frames, {time.time() - start:.0f} s", file=sys.stderr, flush=True)
    found = {
        way: {"all": figures_of([track for some in of_kind.values() for track in some])}
        | {kind: figures_of(some) for kind, some in of_kind.items()}
        for way, of_kind in tracks.items()
    }
    calm = [track for kind in SMOOTHED_KINDS for track in tracks["tracker"].get(kind, [])]
    means = {
        name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        for name, rows in several.items()
        if rows
    }
    return {"ways": found, "filters": curve(calm), "several": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file, or the name of one that comes along")
    parser.add_argument("--photos", type=Path, help="data folder whose val photos become clips too")
    parser.add_argument("--clips", type=int, default=4, help="of each kind")
    parser.add_argument("--kind", nargs="+", choices=list(CLIPS), default=list(CLIPS), help="kinds of drawn clips")
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "tracking.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "tracking.png")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = Predictor(arguments.model)
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "model": predictor.spec.name,
        "clips": arguments.clips,
        "first_seed": FIRST_SEED,
        "photos": arguments.photos is not None,
        "costs": costs(predictor),
        **measure(predictor, arguments.kind, arguments.clips, arguments.photos),
    }
    part = arguments.json.with_name(f".{arguments.json.name}.{os.getpid()}.part")
    part.write_text(json.dumps(plain(facts), indent=1) + "\n", encoding="utf-8")
    part.replace(arguments.json)
    plot(facts["filters"], arguments.plot)
    print(f"{arguments.json}, {arguments.plot}; python tools/tables.py writes them into the docs")


if __name__ == "__main__":
    main()

"""Filters against each other, calm against late; and what tracking costs beside the network.

    python benchmarks/tracking.py MODEL --photos ../shared/data/coco_person --plot docs/tracking.png

The tracker runs without a filter over clips with exact truth (docs/tracking.md); its joints then go through every filter.
Jitter comes from clips in which nothing moves but the noise, lag from people who gesture and photos that are panned.
Times are CPU time of the thread, so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from featherpose.data.readers import read_dataset
from featherpose.data.sequences import Clip, synthetic_clip
from featherpose.evaluate_track import calmness, drawn, follow, photo_clips, synthetic_clips
from featherpose.metrics.tracking import Track, identities
from featherpose.pose import Pose
from featherpose.runtime.motion import begin, moved_on
from featherpose.runtime.one_euro import TFJS, OneEuro
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.several import SeveralTracker
from featherpose.runtime.tracker import Tracker

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
            print(
                f"| {family} | {settings} | {figures['jitter_px_s2']:.0f} | {figures['jitter_body_s2']:.1f} "
                f"| {100 * figures['spread']:.2f} % | {figures['lag_ms']:.1f} | {100 * figures['moving_error']:.2f} % |",
                flush=True,
            )
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


def costs(predictor: Predictor, seconds: int = 3) -> None:
    """CPU milliseconds a frame of 1280 x 720: the network alone, and everything around it."""
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
    for kind in ("alone", "crowd"):
        clip = synthetic_clip(kind, 2000, size_wh=(640, 360))
        frames = [cv2.resize(clip.draw(index)[0], (1280, 720)) for index in range(30 * seconds)]
        for _ in range(2):  # the first round warms up
            lines = []
            for name, make in ways.items():
                tracker, spent[:] = make(), (0.0, 0)
                start = time.thread_time()
                for index, frame in enumerate(frames):
                    tracker(frame, index / 30)
                whole, net = ((v * 1000 / len(frames)) for v in (time.thread_time() - start, spent[0]))
                lines.append(
                    f"| {kind} | {name} | {net:.2f} | {whole:.2f} | {whole / net:.2f} | {spent[1] / len(frames):.2f} |"
                )
        print("\n".join(lines), flush=True)
    predictor.backend.run = inner


def numbers(predictor: Predictor, per_kind: int) -> None:
    """Whether everybody is found and keeps a number, by one look and by two, with and without a glance at clothes."""
    print("\n| several people | found | number changes per person | poses on nobody |\n|---|---|---|---|")
    clips = [drawn(clip) for clip in synthetic_clips(per_kind, kinds=("crossing", "meeting", "overtaking", "crowd"))]
    ways = {"one look": {}, "without clothes": {"clothes": 0.0}, "a second look at each": {"refine": True}}
    for name, options in ways.items():
        rows = []
        for clip in clips:
            everybody, said = SeveralTracker(predictor, **options), []
            for image, timestamp, _ in clip:
                said.append({number: pose.xy for number, pose in everybody(image, timestamp).items()})
            rows.append(identities(said, truth_of(clip)))
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        print(f"| {name} | {100 * means['found']:.1f} % | {means['changes']:.2f} | {means['extra']:.3f} |", flush=True)


def truth_of(clip: Clip) -> Track:
    """The truth of a clip, as a track without poses."""
    people = [clip.draw(index)[1] for index in range(len(clip))]
    none = np.full((len(clip), len(clip.skeleton), 2), np.nan)
    xy, visibility, area = (np.stack([getattr(p, name) for p in people]) for name in ("xy", "visibility", "area"))
    return Track(
        clip.name, clip.skeleton, clip.times, none, none[..., 0] * 0, np.zeros(len(clip), bool), xy, visibility, area
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=Path, help="data folder whose val photos become clips too")
    parser.add_argument("--clips", type=int, default=4, help="of each kind")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    predictor = Predictor(arguments.model)
    print("| clip | way | network ms | all ms | ratio | looks |\n|---|---|---|---|---|---|")
    costs(predictor)
    numbers(predictor, arguments.clips)
    clips = list(synthetic_clips(arguments.clips, kinds=("still", "gestures", "alone")))
    if arguments.photos is not None:
        samples = read_dataset(arguments.photos, split="val", problems=[])
        clips += [clip for _, clip in photo_clips(samples, arguments.clips)]
    tracks = [follow(clip, Tracker(predictor, smoothing=False)) for clip in clips]
    print(
        "\n| filter | settings | jitter px/s² | jitter body/s² | spread | lag ms | moving error |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    rows = curve(tracks)
    if arguments.plot is not None:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()

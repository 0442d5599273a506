"""How well a model's target is followed through clips with exact truth: several ways to choose it, one table.

The figures are those of metrics/tracking.py, the clips those of data/sequences.py. In every clip the target is named
once, in the first frame that shows it, by the box of its joints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from featherpose.data.sample import UNKNOWN, Sample
from featherpose.data.sequences import CLIPS, MOTIONS, TARGET, Clip, photo_clip, synthetic_clip
from featherpose.geometry import box_of_points
from featherpose.metrics.tracking import TRACKABLE, Track, body_size, following, jitter, lag
from featherpose.metrics.truth import mean
from featherpose.pose import Pose
from featherpose.runtime.photos import read_photo
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.tracker import Tracker
from featherpose.skeletons import Skeleton, joint_mapping

FIRST_SEED = 1000
"""Clips of smaller seeds were used to choose settings."""
SETTLED = 0.5
"""Seconds of a still clip that jitter leaves out: the crop comes to rest first."""


class EveryFrame:
    """The plain choice: each frame on its own, two looks, whoever is nearest the middle."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.state = "lost"

    def start(self, *, box: np.ndarray) -> None:
        """There is nothing to remember it with."""

    def __call__(self, frame: np.ndarray, timestamp: float) -> Pose | None:
        """The pose of `predict`, or None where its pose score says that nobody is here."""
        pose = self.predictor(frame)
        self.state = "found" if pose.pose_score >= self.predictor.spec.pose_threshold else "lost"
        return pose if self.state == "found" else None


WAYS: dict[str, Callable[[Predictor], EveryFrame | Tracker]] = {
    "every frame": EveryFrame,
    "official crop": lambda predictor: Tracker(predictor, lock=None, smoothing=False),
    "official, low-passed crop": lambda predictor: Tracker(predictor, lock=None, smoothing=False, crop_alpha=0.9),
    "tracker": lambda predictor: Tracker(predictor, smoothing=False),
    "tracker, smoothed": lambda predictor: Tracker(predictor),
}
"""Name -> what follows a target: an object with `start(box=...)`, `(frame, timestamp) -> Pose | None` and `state`."""


def follow(clip: Clip, tracker: EveryFrame | Tracker) -> Track:
    """What a tracker says of every frame of a clip, beside the truth.

    Joints are matched by name; those that the model does not know count as not labelled. ValueError when it knows none.
    """
    place = shared_joints(tracker.predictor.spec.skeleton, clip.skeleton)
    known = place >= 0
    joints = len(clip.skeleton)
    xy = np.full((len(clip), joints, 2), np.nan)
    score, found = np.zeros((len(clip), joints)), np.zeros(len(clip), bool)
    truth, started = [], False
    for index, (image, timestamp, people) in enumerate(clip):
        truth.append(people)
        if not started and clip.persons and people.seen[TARGET] >= TRACKABLE:
            box = box_of_points(people.xy[TARGET][people.visibility[TARGET] > 0])
            tracker.start(box=box)
            started = True
        pose = tracker(image, timestamp)
        found[index] = tracker.state == "found"
        if pose is not None:
            xy[index, known], score[index, known] = pose.xy[place[known]], pose.score[place[known]]
    visibility = np.where(known, np.stack([p.visibility for p in truth]), UNKNOWN)
    return Track(
        clip.name, clip.skeleton, clip.times, xy, score, found, np.stack([p.xy for p in truth]), visibility,
        np.stack([p.area for p in truth]),
    )  # fmt: skip


def shared_joints(skeleton: Skeleton, of_clips: Skeleton) -> np.ndarray:
    """(K of the clips,) where each joint stands in a model's skeleton, -1 for none. ValueError when all are."""
    place = joint_mapping(skeleton, of_clips)
    if (place < 0).all():
        raise ValueError(f"the model's skeleton '{skeleton.name}' has no joint of the clips' '{of_clips.name}'")
    return place


def synthetic_clips(per_kind: int, first_seed: int = FIRST_SEED, kinds: Sequence[str] = tuple(CLIPS)) -> Iterable[Clip]:
    """So many clips of each kind; drawn when they are read."""
    for kind in kinds:
        for seed in range(first_seed, first_seed + per_kind):
            yield synthetic_clip(kind, seed)


def photo_clips(samples: Sequence[Sample], per_motion: int, first_seed: int = FIRST_SEED) -> Iterable[tuple[str, Clip]]:
    """(motion, clip): so many clips of each of MOTIONS, from as many photos whose target has 12 labelled joints."""
    large = [s for s in samples if s.target >= 0 and (s.visibility[s.target] > 0).sum() >= 12]
    order = np.random.default_rng(first_seed).permutation(len(large))
    wanted = len(MOTIONS) * per_motion
    if len(large) < wanted:
        raise ValueError(f"{wanted} photos with 12 labelled joints of the target are needed, the set has {len(large)}")
    return _photo_clips([large[place] for place in order[:wanted]], first_seed)


def _photo_clips(samples: Sequence[Sample], first_seed: int) -> Iterable[tuple[str, Clip]]:
    for number, sample in enumerate(samples):
        motion = list(MOTIONS)[number % len(MOTIONS)]
        yield motion, photo_clip(read_photo(sample.photo), sample, motion, first_seed + number)


def drawn(clip: Clip) -> Clip:
    """The clip with all its frames in memory to be read several times (0.5 MB a frame)."""
    frames = [clip.draw(index) for index in range(len(clip))]
    return replace(clip, draw=lambda index: frames[index])


def calmness(tracks: Sequence[Track]) -> dict[str, float]:
    """Jitter and lag over many tracks, NaN where none tells: clips named "still" give jitter, the others lag.

    jitter_px_s2, jitter_body_s2, spread: see metrics.tracking.jitter; means over clips, joints above a score of .2 in all
    frames. jitter_median: the median of the clips' jitter_body_s2, which one lost target does not decide.
    lag_ms, moving_error (body sizes): see metrics.tracking.lag; frames in which the track is on the target.
    """
    shaken, late = [], []
    for track in tracks:
        if not track.truth_xy.shape[1]:
            continue
        size = body_size(track.truth_xy[:, TARGET])
        if "still" in track.name:
            rest = track.times >= SETTLED
            counts = (track.score[rest] > 0.2).mean(axis=0) > 0.99
            if counts.any():
                shaken.append(jitter(track.xy[rest], track.times[rest], float(mean(size)), counts))
        else:
            sure = (track.score > 0.2) & (track.visibility[:, TARGET] == 2) & track.found[:, None]
            late.append(lag(np.where(sure[..., None], track.xy, np.nan), track.truth_xy[:, TARGET], track.times, size))
    return {
        "jitter_px_s2": _mean([row["px_s2"] for row in shaken]),
        "jitter_body_s2": _mean([row["body_s2"] for row in shaken]),
        "jitter_median": float(np.median([row["body_s2"] for row in shaken])) if shaken else float("nan"),
        "spread": _mean([row["spread"] for row in shaken]),
        "lag_ms": 1000 * _mean([row["seconds"] for row in late]),
        "moving_error": _mean([row["error"] for row in late]),
    }


def figures_of(tracks: Sequence[Track]) -> dict[str, float]:
    """Everything that is known of many tracks: metrics.tracking.following and calmness."""
    return following(tracks) | calmness(tracks)


def _mean(values: Sequence[float]) -> float:
    return float(mean(np.array(values, dtype=np.float64)))


COLUMNS = (
    "AR", "wrong", "switches", "reacquire", "missed", "stranger", "false_alarm", "jitter_px_s2", "jitter_body_s2",
    "jitter_median", "lag_ms", "moving_error",
)  # fmt: skip
"""What a table shows, in this order."""
_SHARES = ("wrong", "missed", "stranger", "false_alarm", "moving_error")


def shown(name: str, value: float) -> str:
    """A figure as a cell of a table: shares in per cent (moving_error of the body's size), seconds with two digits."""
    if not math.isfinite(value):
        return "-"
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    if name == "reacquire":
        return f"{value:.2f} s"
    return f"{value:.0f}" if name == "jitter_px_s2" else f"{value:.3f}" if name == "AR" else f"{value:.1f}"


def plain(content):
    """Nested figures for JSON: rounded to six digits, None for what is not a number."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(value) for value in content]
    if isinstance(content, float):
        return round(content, 6) if math.isfinite(content) else None
    return content

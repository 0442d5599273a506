"""Clips whose truth is exact: synthetic people who walk, cross, hide and come back, and photos that are panned and zoomed.

A clip is drawn while it is read, frame by frame, and the same seed draws the same clip. Coordinates are pixels of the
frame, times seconds from the clip's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from featherpose.data.sample import VISIBLE, Sample
from featherpose.data.synthetic.body import BodyPose, blend_poses, mirror_pose
from featherpose.data.synthetic.draw import Occluder, draw_bodies, face_size_for
from featherpose.data.synthetic.figure import Figure, body_of
from featherpose.data.synthetic.poses import random_pose
from featherpose.data.synthetic.render import Camera
from featherpose.data.synthetic.scene import paint_backdrop, random_figure, random_light
from featherpose.geometry import compose, rotation, scale_of, scaling, transform, translation, warp
from featherpose.skeletons import COCO17, Skeleton, did_you_mean

TARGET = 0
"""Row of the person to be tracked, in every frame of every clip that has anybody."""


@dataclass(frozen=True)
class People:
    """Who is where in one frame. Row p is the same person in all frames of a clip."""

    xy: np.ndarray
    """(P, K, 2) float64 pixels; NaN where nothing is known: persons out of the picture, unlabelled joints."""
    visibility: np.ndarray
    """(P, K) int8: 0 unlabelled or outside the picture, 1 occluded, 2 visible."""
    area: np.ndarray
    """(P,) float64 px^2, the object area that OKS uses; 0 for persons out of the picture."""

    @property
    def seen(self) -> np.ndarray:
        """(P,): share of a person's joints that are visible."""
        return (self.visibility == VISIBLE).mean(axis=1)


@dataclass(frozen=True)
class Clip:
    """A moving picture and its truth: `for image, timestamp, people in clip`."""

    name: str
    size_wh: tuple[int, int]
    times: np.ndarray
    """(T,) seconds, ascending."""
    persons: int
    """P, the rows of every frame's People."""
    skeleton: Skeleton
    draw: Callable[[int], tuple[np.ndarray, People]] = field(repr=False)
    """Index of a frame -> (H, W, 3) uint8 RGB and its truth; may be asked in any order."""

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, People]]:
        for index, timestamp in enumerate(self.times):
            image, people = self.draw(index)
            yield image, float(timestamp), people


# --- synthetic clips --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Actor:
    """Somebody and what they do in a clip."""

    figure: Figure
    """Who; its pose and place are where nothing else is said."""
    path: tuple[tuple[float, float, float], ...]
    """(seconds, x, z) in metres, ascending; straight and even between, at rest before the first and after the last."""
    steps: BodyPose | None = None
    """A pose in mid-stride, walked with while the path moves."""
    gestures: tuple[tuple[float, BodyPose], ...] = ()
    """(seconds, pose), ascending; blended softly from one to the next, the first and last held."""

    def at(self, time: float) -> Figure:
        """The figure at a time."""
        velocity = (self._place(time + TURN_SECONDS) - self._place(time - TURN_SECONDS)) / (2 * TURN_SECONDS)
        speed = float(np.linalg.norm(velocity))
        pose, heading = self._gesture(time), self.figure.heading
        if self.steps is not None:
            swing = 0.5 - 0.5 * np.cos(2 * np.pi * STRIDES_PER_METRE * self._walked(time))
            stride = blend_poses(self.steps, mirror_pose(self.steps), float(swing))
            share = min(speed / 0.6, 1.0)
            pose = blend_poses(pose, stride, share)
            # towards the camera when at rest, along the path when walking
            way = velocity + (1 - share) * np.array([np.sin(np.deg2rad(heading)), np.cos(np.deg2rad(heading))])
            heading = float(np.rad2deg(np.arctan2(way[0], way[1])))
        return replace(self.figure, pose=pose, heading=heading, place=tuple(float(v) for v in self._place(time)))

    def _place(self, time: float) -> np.ndarray:
        seconds, x, z = np.array(self.path, dtype=np.float64).T
        return np.array([np.interp(time, seconds, x), np.interp(time, seconds, z)])

    def _walked(self, time: float) -> float:
        """Metres along the path so far."""
        seconds, x, z = np.array(self.path, dtype=np.float64).T
        metres = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
        return float(np.interp(time, seconds, metres))

    def _gesture(self, time: float) -> BodyPose:
        if not self.gestures:
            return self.figure.pose
        seconds = [start for start, _ in self.gestures]
        after = int(np.searchsorted(seconds, time))
        if after in (0, len(seconds)):
            return self.gestures[max(after - 1, 0)][1]
        share = (time - seconds[after - 1]) / (seconds[after] - seconds[after - 1])
        return blend_poses(self.gestures[after - 1][1], self.gestures[after][1], share * share * (3 - 2 * share))


TURN_SECONDS = 0.15
"""A walker turns over twice this time."""
STRIDES_PER_METRE = 0.7
"""Two steps of .7 m each."""
WALK = 1.2
"""Metres a second."""


def _somebody(
    rng: np.random.Generator, *path: tuple[float, float, float], place: tuple[float, float] = (0, 0)
) -> Actor:
    """Somebody who stands, or walks along a path."""
    figure = replace(random_figure(rng, "stand"), heading=float(rng.normal(0, 25)))
    return Actor(figure, path or ((0.0, *place),), steps=random_pose(rng, "walk"))


def _gesturing(rng: np.random.Generator, seconds: float, every: float, place: tuple[float, float] = (0, 0)) -> Actor:
    """Somebody on one spot whose limbs move to a new pose every so many seconds."""
    actor = _somebody(rng, place=place)
    kinds = ("stand", "arms_raised", "arms_raised", "squat", "lunge", "arms_raised")
    times = np.arange(0.0, seconds + every, every)
    return replace(
        actor, gestures=tuple((float(t), random_pose(rng, str(rng.choice(kinds)))) for t in times), steps=None
    )


def _alone(rng: np.random.Generator) -> tuple[list[Actor], float]:
    end = float(rng.uniform(-0.8, 0.8))
    return [_somebody(rng, (0.3, -1.6, 0.0), (2.6, 1.4, -0.8), (4.2, end, 0.6))], 4.5


def _gestures(rng: np.random.Generator) -> tuple[list[Actor], float]:
    return [_gesturing(rng, 4.0, float(rng.uniform(0.35, 0.7)))], 4.0


def _still(rng: np.random.Generator) -> tuple[list[Actor], float]:
    return [_somebody(rng, place=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 0.5))))], 2.5


def _crossing(rng: np.random.Generator) -> tuple[list[Actor], float]:
    side, depth = rng.choice([-1.0, 1.0]), float(rng.choice([-0.7, 0.7]))
    pace = rng.uniform(0.8, 1.3, 2)
    actors = [
        _somebody(rng, (0.4, s * side * 2.0, z), (0.4 + 4.0 / (WALK * p), -s * side * 2.0, z))
        for s, p, z in zip((1, -1), pace, (0.0, depth), strict=True)
    ]
    return actors, 5.0


def _alike(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """As `_crossing`, in the same clothes."""
    (target, other), seconds = _crossing(rng)
    return [target, replace(other, figure=replace(other.figure, look=target.figure.look))], seconds


def _meeting(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """Two meet, stand half behind one another, and go back to where they came from."""
    side, depth = rng.choice([-1.0, 1.0]), float(rng.choice([-0.6, 0.6]))
    near = float(rng.uniform(0.0, 0.25))
    actors = [
        _somebody(rng, (0.3, s * 1.7, z), (1.8, s * near, z), (2.5, s * near, z), (4.0, s * 1.7, z))
        for s, z in ((side, 0.0), (-side, depth))
    ]
    return actors, 4.5


def _overtaking(rng: np.random.Generator) -> tuple[list[Actor], float]:
    side, depth = rng.choice([-1.0, 1.0]), float(rng.choice([-0.7, 0.7]))
    slow = _somebody(rng, (0.2, -side * 1.0, 0.0), (4.5, side * 1.2, 0.0))
    quick = _somebody(rng, (0.6, -side * 2.2, depth), (3.6, side * 2.2, depth))
    return ([slow, quick] if rng.random() < 0.5 else [quick, slow]), 4.8


def _hidden(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """The target walks behind something wide, stays there, and comes out on either side; somebody else stands about."""
    side, out = rng.choice([-1.0, 1.0], 2)
    wait = float(rng.uniform(0.3, 1.5))
    target = _somebody(
        rng, (0.5, side * 1.7, 0.0), (1.9, 0.0, 0.0), (1.9 + wait, 0.0, 0.0), (3.4 + wait, out * 1.7, 0.0)
    )
    return [target, _gesturing(rng, 6.0, 0.9, place=(float(rng.choice([-1, 1])) * 1.9, -1.2))], 3.8 + wait


def _leaving(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """Alone; out of the picture and back, so that some frames are empty."""
    side, back = rng.choice([-1.0, 1.0], 2)
    away = float(rng.uniform(1.0, 2.0))
    path = (
        (0.4, -side * 0.5, 0.0),
        (2.4, side * 4.2, 0.0),
        (2.41, side * 4.2, 30.0),  # round behind the camera
        (2.39 + away, back * 4.2, 30.0),
        (2.4 + away, back * 4.2, 0.0),
        (4.4 + away, -back * 0.5, 0.0),
    )
    return [_somebody(rng, *path)], 4.8 + away


def _left_with(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """As `_leaving`, while somebody else stays in the picture."""
    actors, seconds = _leaving(rng)
    return [*actors, _gesturing(rng, seconds, 0.9, place=(float(rng.uniform(-1.2, 1.2)), -1.0))], seconds


def _crowd(rng: np.random.Generator) -> tuple[list[Actor], float]:
    """Four people in lanes of their own, to and fro."""
    actors = []
    for lane in rng.permutation([-1.8, -0.9, 0.0, 0.8]):
        corners = rng.uniform(-1.8, 1.8, 4)
        times = np.concatenate(
            [[0.2], 0.2 + np.cumsum(np.abs(np.diff(corners)) / (WALK * rng.uniform(0.7, 1.2)) + 0.1)]
        )
        actors.append(_somebody(rng, *((float(t), float(x), float(lane)) for t, x in zip(times, corners, strict=True))))
    return actors, 5.0


def _empty(rng: np.random.Generator) -> tuple[list[Actor], float]:
    return [], 2.0


CLIPS: dict[str, Callable[[np.random.Generator], tuple[list[Actor], float]]] = {
    "alone": _alone, "gestures": _gestures, "still": _still, "crossing": _crossing, "meeting": _meeting,
    "overtaking": _overtaking, "hidden": _hidden, "leaving": _leaving, "left with another": _left_with, "crowd": _crowd,
    "empty": _empty, "alike": _alike,
}  # fmt: skip
"""Kind of clip -> function that draws its actors (the target first) and its length in seconds."""

BACKDROPS_OF_CLIPS = ("room", "open_air", "studio")


def synthetic_clip(
    kind: str, seed: int, *, size_wh: tuple[int, int] = (480, 360), fps: float = 30.0, noise: float = 4.0
) -> Clip:
    """A clip of one of CLIPS. noise: standard deviation of every pixel in every frame, of 255.

    The camera stands still; the target is row TARGET. ValueError for an unknown kind.
    """
    if kind not in CLIPS:
        raise ValueError(f"unknown kind of clip '{kind}'{did_you_mean(kind, CLIPS)}")
    rng = np.random.default_rng([seed, list(CLIPS).index(kind)])
    actors, seconds = CLIPS[kind](rng)
    distance = float(rng.uniform(4.2, 5.6))
    camera = Camera(
        position=(0.0, float(rng.uniform(1.0, 1.8)), distance), pitch=float(rng.uniform(2, 8)), focal=0.9 * size_wh[0],
        centre_xy=(size_wh[0] / 2, size_wh[1] / 2),
    )  # fmt: skip
    backdrop = paint_backdrop(rng, str(rng.choice(BACKDROPS_OF_CLIPS)), size_wh, camera)
    light, grain = random_light(rng), _Grain(rng, size_wh, noise)
    cover = [_board(rng, camera)] if kind == "hidden" else []
    times = np.arange(round(seconds * fps)) / fps

    def draw(index: int) -> tuple[np.ndarray, People]:
        figures = [actor.at(float(times[index])) for actor in actors]
        bodies = [body_of(figure, face_size_for(figure, camera)) for figure in figures]
        image, sample = draw_bodies(
            bodies, camera, backdrop, light=light, props=(), occluders=cover, shadow=0.3, name=f"{kind}-{seed}"
        )
        joints = [camera.project(body.joints)[0] for body in bodies]
        return grain(image, index), _people(joints, sample)

    return Clip(f"{kind}-{seed}", size_wh, times, len(actors), COCO17, draw)


def _board(rng: np.random.Generator, camera: Camera) -> Occluder:
    """Something as wide as a person in front of the middle of the path."""
    corners = np.array([[-0.62, 0.0, 0.3], [0.62, 0.0, 0.3], [0.62, 2.3, 0.3], [-0.62, 2.3, 0.3]])
    return Occluder(camera.project(corners)[0], tuple(float(v) for v in rng.uniform(0.15, 0.8, 3)))


def _people(joints_xy: list[np.ndarray], sample: Sample) -> People:
    """Truth of all P persons from the labels of those that are in the picture, found again by their joints."""
    persons = len(joints_xy)
    xy = np.full((persons, len(COCO17), 2), np.nan)
    visibility, area = np.zeros((persons, len(COCO17)), np.int8), np.zeros(persons)
    for row in range(len(sample.xy)):
        person = int(np.argmin([np.abs(joints - sample.xy[row]).max() for joints in joints_xy]))
        inside = ((sample.xy[row] >= 0) & (sample.xy[row] < sample.size_wh)).all(axis=1)
        xy[person], area[person] = joints_xy[person], sample.area[row]
        visibility[person] = np.where(inside, sample.visibility[row], 0)
    return People(xy, visibility, area)


class _Grain:
    """Noise of a camera's sensor: one large picture of it, seen through another window in every frame."""

    def __init__(self, rng: np.random.Generator, size_wh: tuple[int, int], strength: float) -> None:
        self.size_wh, self.seed = size_wh, int(rng.integers(2**31))
        shape = (size_wh[1] * 3 // 2, size_wh[0] * 3 // 2, 3)
        self.noise = np.round(rng.normal(0, strength, shape)).astype(np.int16)

    def __call__(self, image: np.ndarray, index: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, index])
        top, left = rng.integers(self.size_wh[1] // 2), rng.integers(self.size_wh[0] // 2)
        window = self.noise[top : top + self.size_wh[1], left : left + self.size_wh[0]]
        return np.clip(image + window, 0, 255).astype(np.uint8)


# --- clips of real pixels ---------------------------------------------------------------------------------------------

MOTIONS = {"still": 0.0, "slow": 0.5, "quick": 1.5}
"""How a photo is moved -> turns of its path a second."""


def photo_clip(
    image: np.ndarray, sample: Sample, motion: str, seed: int, *, size_wh: tuple[int, int] = (320, 320), seconds: float = 2.5,
    fps: float = 30.0, noise: float = 4.0,
) -> Clip:  # fmt: skip
    """A photo panned, zoomed and turned into a clip of real pixels, its labels moved along; noise anew in every frame.

    image: (H, W, 3) uint8 RGB of the sample. motion: one of MOTIONS; "still" only has the noise. The sample's target
    becomes row TARGET; unlabelled people of the photo remain unlabelled. ValueError for a sample without target.
    """
    if motion not in MOTIONS:
        raise ValueError(f"unknown motion '{motion}'{did_you_mean(motion, MOTIONS)}")
    box = sample.target_box()
    rng = np.random.default_rng([seed, sample.sample_id])
    grain = _Grain(rng, size_wh, noise)
    turns = MOTIONS[motion] * rng.uniform(0.7, 1.3, 4) * rng.choice([-1, 1], 4)
    phase = rng.uniform(0, 2 * np.pi, 4)
    height = max(box[2] - box[0], box[3] - box[1])
    zoom = float(rng.uniform(0.5, 0.7)) * min(size_wh) / height
    times = np.arange(round(seconds * fps)) / fps
    order = [sample.target, *(p for p in range(len(sample.xy)) if p != sample.target)]

    def draw(index: int) -> tuple[np.ndarray, People]:
        swing = np.sin(2 * np.pi * turns * times[index] + phase) if turns.any() else np.zeros(4)
        matrix = compose(
            translation(-(box[0] + box[2]) / 2, -(box[1] + box[3]) / 2),
            rotation(6 * swing[0]),
            scaling(zoom * np.exp(0.12 * swing[1])),
            translation(size_wh[0] * (0.5 + 0.12 * swing[2]), size_wh[1] * (0.5 + 0.12 * swing[3])),
        )
        xy = transform(matrix, sample.xy[order].astype(np.float64))
        with np.errstate(invalid="ignore"):
            inside = ((xy >= 0) & (xy < size_wh)).all(axis=2)
        visibility = np.where(inside, np.maximum(sample.visibility[order], 0), 0).astype(np.int8)
        people = People(xy, visibility, sample.area[order].astype(np.float64) * scale_of(matrix) ** 2)
        return grain(warp(image, matrix, size_wh), index), people

    return Clip(f"{sample.photo.stem}-{motion}", size_wh, times, len(order), sample.skeleton, draw)

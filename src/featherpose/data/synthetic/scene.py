"""Random scenes: who is where doing what, what stands about, how the camera looks at it and what it does to it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from featherpose.data.sample import VISIBLE, Sample
from featherpose.data.synthetic import textures
from featherpose.data.synthetic.backdrop import BACKDROPS, HAS_GROUND
from featherpose.data.synthetic.body import bones_of, turn
from featherpose.data.synthetic.draw import draw_bodies, face_size_for
from featherpose.data.synthetic.figure import Figure, body_of
from featherpose.data.synthetic.look import random_look
from featherpose.data.synthetic.poses import POSES, random_pose, random_shape
from featherpose.data.synthetic.props import furniture, random_occluder, seat_of
from featherpose.data.synthetic.render import Camera, Light
from featherpose.skeletons import did_you_mean

BEFORE_THE_WALL = -0.8
"""Metres in z that all of `backdrop.room` leaves free behind the target."""

FEWEST_SEEN = 5
"""Joints of the target that random occluders leave in sight, or else they are left out. A guess."""

SKIRT_POSES = ("stand", "walk", "arms_raised")
"""Poses in which a skirt hangs as cloth does."""


def draw_scene(
    rng: np.random.Generator,
    size_wh: tuple[int, int] = (256, 256),
    persons: int = 1,
    occluders: int | None = None,
    *,
    pose: str | None = None,
    backdrop: str | None = None,
    effects: bool = True,
    detail: float = 1.0,
) -> tuple[np.ndarray, Sample]:
    """A random scene: (H, W, 3) uint8 RGB and its labels (`draw.label_bodies`).

    `persons` figures are drawn; the first one stands nearest the middle, clearly so, and is the target. `occluders`
    things are put in front of it (None: mostly none). `pose` is a kind of POSES for the target and `backdrop` one of
    BACKDROPS (None: any). `effects` are what a camera adds: blur, noise, colour casts, JPEG; `detail` above 1 draws
    the figures more finely and more slowly, for pictures to look at.

    The scene takes one number from `rng`, its seed, and nothing else: `photo_id` is `synthetic-SEED`, and `draw_seed`
    with the same arguments draws it again, bit for bit.
    """
    return draw_seed(
        int(rng.integers(2**53)),
        size_wh,
        persons,
        occluders,
        pose=pose,
        backdrop=backdrop,
        effects=effects,
        detail=detail,
    )


def draw_seed(
    seed: int,
    size_wh: tuple[int, int] = (256, 256),
    persons: int = 1,
    occluders: int | None = None,
    *,
    pose: str | None = None,
    backdrop: str | None = None,
    effects: bool = True,
    detail: float = 1.0,
) -> tuple[np.ndarray, Sample]:
    """The scene of a seed; see `draw_scene`."""
    if persons < 1:
        raise ValueError(f"a scene needs at least 1 person, got {persons}")
    if min(size_wh) < 16:
        raise ValueError(f"a scene needs at least 16 x 16 pixels, got {size_wh[0]} x {size_wh[1]}")
    for word, known, value in (("pose", POSES, pose), ("backdrop", BACKDROPS, backdrop)):
        if value is not None and value not in known:
            raise ValueError(f"unknown {word} '{value}'{did_you_mean(value, known)}")
    rng = np.random.default_rng(seed)
    kinds = [pose or _draw_lot(rng, POSES), *(_draw_lot(rng, POSES) for _ in range(persons - 1))]
    target = random_figure(rng, kinds[0])
    camera = frame_camera(rng, target, size_wh)
    kind_behind = backdrop or _draw_lot(rng, BACKDROPS)
    farthest = BEFORE_THE_WALL if kind_behind == "room" else -3.5
    others = [_beside(rng, random_figure(rng, kind), camera, size_wh, i, farthest) for i, kind in enumerate(kinds[1:])]
    figures = [target, *others]
    bodies = [body_of(figure, face_size_for(figure, camera, detail)) for figure in figures]
    seats = [seat_of(rng, *pair) if kind == "sit" else None for *pair, kind in zip(figures, bodies, kinds, strict=True)]
    behind = paint_backdrop(rng, kind_behind, size_wh, camera)
    count = occluders if occluders is not None else int(rng.choice(4, p=[0.66, 0.2, 0.1, 0.04]))
    cover = [random_occluder(rng, camera.project(bodies[0].joints)[0], size_wh) for _ in range(count)]
    things = furniture(rng, farthest) if kind_behind in HAS_GROUND and rng.random() < 0.35 else []
    light = random_light(rng)
    shadow = float(rng.uniform(0.15, 0.55)) if kind_behind in HAS_GROUND else 0.0
    keep = list(range(persons))
    while True:
        image, sample = draw_bodies(
            [bodies[i] for i in keep], camera, behind, light=light, occluders=cover, shadow=shadow,
            name=f"synthetic-{seed}",
            props=[*things, *(seats[i] for i in keep if seats[i] is not None)],
        )  # fmt: skip
        if occluders is None and cover and np.count_nonzero(sample.visibility[0] == VISIBLE) < FEWEST_SEEN:
            cover = []
            continue
        crowding = _who_crowds(sample, size_wh)
        if not crowding or len(keep) == 1:
            return (photograph(rng, image) if effects else image), sample
        # Whoever is as near the middle as the target is left out, and with them whoever is not in the picture at all.
        keep = [keep[0]] + [
            i for n, i in enumerate(keep) if n > 0 and len(sample.xy) == len(keep) and n not in crowding
        ]


def paint_backdrop(rng: np.random.Generator, kind: str, size_wh: tuple[int, int], camera: Camera) -> np.ndarray:
    """(H, W, 3) uint8: a backdrop of a kind of BACKDROPS, sharp or out of focus."""
    blur = float(rng.uniform(0.3, 3.5)) * max(size_wh) / 256 if rng.random() < 0.6 else 0.0
    # What will be blurred anyway is painted at half the size.
    half = 2 if blur > 1.2 else 1
    small_wh = (size_wh[0] // half, size_wh[1] // half)
    centre = (camera.centre_xy[0] / half, camera.centre_xy[1] / half)
    picture = BACKDROPS[kind][1](rng, small_wh, replace(camera, focal=camera.focal / half, centre_xy=centre))
    picture = cv2.convertScaleAbs(picture, alpha=float(rng.uniform(0.7, 1.15)))
    picture = cv2.GaussianBlur(picture, (0, 0), max(blur / half, 0.6))  # its edges are drawn hard
    return picture if half == 1 else cv2.resize(picture, size_wh, interpolation=cv2.INTER_LINEAR)


def _who_crowds(sample: Sample, size_wh: tuple[int, int]) -> set[int]:
    """Indices of persons whose boxes are as near the middle as the first one's, or not a tenth of the picture
    farther."""
    centre = (sample.box_xyxy[:, :2] + sample.box_xyxy[:, 2:]) / 2
    distance = np.linalg.norm(centre - np.asarray(size_wh) / 2, axis=1)
    return {i for i in range(1, len(distance)) if distance[i] < distance[0] + 0.1 * min(size_wh)}


def _draw_lot(rng: np.random.Generator, table: dict) -> str:
    weight = np.array([entry[0] for entry in table.values()], dtype=np.float64)
    return str(rng.choice(list(table), p=weight / weight.sum()))


def random_figure(rng: np.random.Generator, kind: str) -> Figure:
    """Somebody in a pose of a kind of POSES, at the middle of the world, turned anywhere but mostly to the camera."""
    shape = random_shape(rng)
    look = random_look(rng, woman=shape.bust > 0, child=shape.head / shape.torso > 0.54)
    if look.skirt > 0 and kind not in SKIRT_POSES:
        look = replace(look, skirt=0.0, leg_end=float(rng.choice([0.6, 1.95])))
    heading = float(rng.normal(0, 45)) if rng.random() < 0.7 else float(rng.uniform(-180, 180))
    return Figure(pose=random_pose(rng, kind), shape=shape, look=look, heading=heading)


def frame_camera(rng: np.random.Generator, figure: Figure, size_wh: tuple[int, int]) -> Camera:
    """A camera that has the figure near the middle: whole in most cases, closer up in the others."""
    joints = bones_of(figure.shape, figure.pose).joints @ turn("y", figure.heading).T
    joints = joints - [0.0, joints[:, 1].min() - 0.08 - figure.pose.lift, 0.0]
    middle = (joints.min(axis=0) + joints.max(axis=0)) / 2
    pitch = float(np.clip(rng.normal(7, 9), -10, 55))
    distance = float(np.exp(rng.uniform(np.log(2.4), np.log(9.0))))
    height = max(middle[1] + distance * np.sin(np.deg2rad(pitch)), 0.15)
    pitch = float(np.rad2deg(np.arcsin((height - middle[1]) / distance)))
    position = (float(middle[0]), float(height), float(middle[2] + distance * np.cos(np.deg2rad(pitch))))
    camera = Camera(position=position, pitch=pitch, roll=float(rng.normal(0, 3)), focal=1.0, centre_xy=(0.0, 0.0))
    xy, _ = camera.project(joints)
    if rng.random() < 0.22:  # closer: the head and some of the body, or just the legs
        by_height = np.argsort(xy[:, 1])
        keep = by_height[: int(rng.integers(9, 15))] if rng.random() < 0.85 else by_height[-int(rng.integers(6, 12)) :]
        xy = xy[keep]
    low, high = xy.min(axis=0), xy.max(axis=0)
    room = np.asarray(size_wh) * rng.uniform(0.45, 0.90) / np.maximum(high - low + 0.1 / distance, 1e-3)
    focal = float(room.min())
    centre = np.asarray(size_wh) / 2 - focal * (low + high) / 2 + np.clip(rng.normal(0, 0.05, 2), -0.1, 0.1) * size_wh
    return replace(camera, focal=focal, centre_xy=(float(centre[0]), float(centre[1])))


def _beside(
    rng: np.random.Generator, figure: Figure, camera: Camera, size_wh: tuple[int, int], index: int, farthest: float
) -> Figure:
    """The figure moved to a place on the ground at one side of the picture, nearer or farther than the target."""
    side = 1.0 if (index + int(rng.integers(2))) % 2 else -1.0
    x = size_wh[0] * (0.5 + side * float(rng.uniform(0.26, 0.52)))
    z = float(rng.uniform(farthest, 0.8))
    depth = max(camera.project(np.array([0.0, 0.8, z]))[1], 1.3)
    z = z if camera.project(np.array([0.0, 0.8, z]))[1] > 1.3 else camera.position[2] - 1.3
    return replace(figure, place=(camera.position[0] + (x - camera.centre_xy[0]) * float(depth) / camera.focal, z))


def random_light(rng: np.random.Generator) -> Light:
    """From hard sun to an overcast day."""
    side, height = np.deg2rad(rng.normal(0, 65)), np.deg2rad(rng.uniform(20, 75))
    to_light = (float(np.sin(side) * np.cos(height)), float(np.sin(height)), float(np.cos(side) * np.cos(height)))
    hard = rng.uniform(0.25, 0.9)
    tint = rng.normal(0, 0.03, 3)
    lamp = tuple(float(v) for v in hard + tint)
    sky = tuple(float(v) for v in (1.2 - hard) * 0.78 - tint + rng.normal(0, 0.02))
    return Light(to_light, lamp, sky, tuple(v * 0.6 for v in sky))


def photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera makes of a picture: exposure, contrast, colour cast, blur, noise, JPEG. Nothing moves."""
    height, width = image.shape[:2]
    level = np.arange(256, dtype=np.float32) / 255
    gain = np.float32(rng.uniform(0.85, 1.15)) * (1 + rng.normal(0, 0.045, 3)).astype(np.float32)
    curve = level ** np.float32(np.exp(rng.normal(0.0, 0.16)))
    curve = 0.5 + (curve - 0.5) * np.float32(rng.uniform(0.8, 1.15))
    table = np.clip(curve[:, None] * gain * 255 + 0.5, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table.reshape(1, 256, 3))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 1.1)) * max(width, height) / 256)
    if rng.random() < 0.04:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.7:
        strength = float(rng.uniform(1, 9))
        grain = cv2.convertScaleAbs(textures.noise(rng, (height, width)) * np.float32(strength) + 64)
        image = cv2.subtract(cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_16S), (64, 64, 64, 0), dtype=cv2.CV_8U)
    if rng.random() < 0.8:
        quality = int(rng.integers(45, 96))
        _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.ascontiguousarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1])
    return image

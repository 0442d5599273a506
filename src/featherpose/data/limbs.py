"""Semantic augmentation: limbs of other people, cut along their bones, are pasted near the target's joints.

After Bin et al., "Adversarial Semantic Data Augmentation for Human Pose Estimation", ECCV 2020 (arXiv:2008.00697), section
3.1. There parts come from a segmentation of bodies and a generator network learns where they hurt; here a part is a
strip with soft edges around a bone, as joints are all the labels there are, and it is placed at random. The network that
learns where it hurts is in train/adversary.py, the choice of the worst of several ways in train/hardest.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from featherpose.data.sample import VISIBLE, Sample, target_joints
from featherpose.geometry import compose, rotation, scaling, translation, warp

BANK_PARTS = 256
"""Limbs in a bank, about 10 kB each."""
PERSON_PARTS = 4
"""Most limbs of one person in a bank, so that it shows many people."""
LONGEST = 72
"""Pixels: longer strips are made smaller; a limb at an input of 192 px is seldom longer."""
WIDE = 32
"""Pixels: no strip is wider (LONGEST * WIDTH / (1 + 2 * BEYOND))."""
SHORTEST = 8
"""Pixels: bones of fewer show nothing."""
BONE_SHARE = 0.1
"""A bone shorter than this share of the person's longer side is no limb (faces), or is seen end-on."""
BEYOND = 0.2
"""The strip reaches beyond the joints by this share of the bone."""
WIDTH, WIDEST = 0.6, 0.2
"""Width of a strip: this share of the bone, and at most this share of the person's longer side. Guesses."""
SOFT = 0.35
"""Share of half the strip over which its edges fade."""
MOST_PASTED = 3
TURN, SIZE, AWAY = 180.0, (0.7, 1.3), 0.1
"""How a limb is pasted: turned by up to so many degrees, its length among people of the target's size times this, its
middle so far from the joint (standard deviation, in the target's longer side)."""


@dataclass(frozen=True)
class Limb:
    """A strip of a photo around a bone, which runs downwards in its middle."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    alpha: np.ndarray
    """(H, W) float32 in [0, 1]: how much of it shows; 0 at the edges and outside the photo."""
    share: float
    """The strip's length in longer sides of its person's box."""
    photo_id: str
    """Where it comes from: nobody gets limbs of the own photo."""


@dataclass(frozen=True)
class LimbBank:
    """The limbs that can be pasted."""

    limbs: tuple[Limb, ...]

    def others(self, photo_id: str) -> list[Limb]:
        """Those of other photos."""
        return [limb for limb in self.limbs if limb.photo_id != photo_id]


def build_bank(
    samples: list[Sample], read: Callable[[Sample], np.ndarray], *, seed: int, limit: int = BANK_PARTS
) -> LimbBank:
    """Up to `limit` limbs of people drawn from the samples; the same for the same samples and seed.

    read: gives a sample's photo, (H, W, 3) uint8 RGB, and raises what the loader raises. At most 2 `limit` photos are
    read. Raises ValueError when there is no limb at all.
    """
    if samples and not samples[0].skeleton.bones:
        raise ValueError(
            f"augment.paste_parts needs bones, but skeleton '{samples[0].skeleton.name}' has none; set paste_parts to 0"
        )
    rng = np.random.default_rng([seed, 0xA5DA])
    limbs: list[Limb] = []
    photos = 0
    for index in rng.permutation(len(samples)):
        if len(limbs) >= limit or photos >= 2 * limit:
            break
        sample = samples[index]
        bones = [(person, bone) for person in range(len(sample.xy)) for bone in _limb_bones(sample, person)]
        if not bones:
            continue
        photos += 1
        image = read(sample)
        for place in rng.permutation(len(bones))[:PERSON_PARTS]:
            limbs.append(_cut(image, sample, *bones[place]))
    if not limbs:
        raise ValueError(
            f"augment.paste_parts found no limb to paste in {len(samples)} photos: nobody has a bone with two visible "
            f"ends, {SHORTEST} pixels or longer; set paste_parts to 0"
        )
    return LimbBank(tuple(limbs[:limit]))


def _longer_side(sample: Sample, person: int) -> float:
    box = sample.box_xyxy[person]
    return float(max(box[2] - box[0], box[3] - box[1]))


def _limb_bones(sample: Sample, person: int) -> list[tuple[int, int]]:
    """The bones of a person that can be cut out: both ends visible, inside the photo, and far enough apart."""
    xy, size = sample.xy[person], np.asarray(sample.size_wh)
    shown = (sample.visibility[person] == VISIBLE) & ((xy >= 0) & (xy < size)).all(axis=1)
    least = max(SHORTEST, BONE_SHARE * _longer_side(sample, person))
    return [
        (int(a), int(b))
        for a, b in sample.skeleton.bone_index()
        if shown[a] and shown[b] and np.linalg.norm(xy[a] - xy[b]) >= least
    ]


def _cut(image: np.ndarray, sample: Sample, person: int, bone: tuple[int, int]) -> Limb:
    """The strip around a bone."""
    first, second = sample.xy[person, bone[0]].astype(np.float64), sample.xy[person, bone[1]].astype(np.float64)
    way = second - first
    bone_length = float(np.linalg.norm(way))
    side = _longer_side(sample, person)
    length = bone_length * (1 + 2 * BEYOND)
    width = min(WIDTH * bone_length, WIDEST * side)
    scale = min(1.0, LONGEST / length)
    size = max(2, round(width * scale)), max(2, round(length * scale))
    middle = (first + second) / 2
    matrix = compose(
        translation(-middle[0], -middle[1]),
        rotation(90 - np.degrees(np.arctan2(way[1], way[0]))),
        scaling(scale),
        translation(size[0] / 2, size[1] / 2),
    )
    inside = warp(np.ones(image.shape[:2], np.float32), matrix, size, border=(0, 0, 0))
    across, along = (1 - np.abs(np.linspace(-1, 1, n)) for n in size)
    edge = np.minimum(across / SOFT, 1)[None, :] * np.minimum(along / SOFT, 1)[:, None]
    return Limb(warp(image, matrix, size), (inside * edge).astype(np.float32), length / side, sample.photo_id)


@dataclass(frozen=True)
class Placed:
    """A limb, and where it is pasted."""

    limb: Limb
    middle: np.ndarray
    """(2,) pixels of the picture."""
    degrees: float
    scale: float
    """Pixels of the picture per pixel of the strip."""


def place_limbs(sample: Sample, bank: LimbBank, rng: np.random.Generator) -> list[Placed]:
    """One to three limbs of other photos near the target's joints; none without a joint of the target in the picture."""
    xy, limbs = target_joints(sample), bank.others(sample.photo_id)
    if len(xy) == 0 or not limbs:
        return []
    side = _longer_side(sample, sample.target)
    placed = []
    for _ in range(int(rng.integers(1, MOST_PASTED + 1))):
        limb = limbs[int(rng.integers(len(limbs)))]
        middle = xy[int(rng.integers(len(xy)))] + rng.normal(0, AWAY * side, 2)
        degrees = rng.uniform(-TURN, TURN)
        placed.append(Placed(limb, middle, degrees, max(limb.share * side * rng.uniform(*SIZE), 2) / len(limb.alpha)))
    return placed


def paste(picture: np.ndarray, placed: list[Placed]) -> np.ndarray:
    """A copy of the picture, (H, W, 3) uint8, with limbs over it, one after the other."""
    height, width = picture.shape[:2]
    for one in placed:
        rows, columns = one.limb.alpha.shape
        matrix = compose(
            translation(-columns / 2, -rows / 2), rotation(one.degrees), scaling(one.scale), translation(*one.middle)
        )
        alpha = warp(one.limb.alpha, matrix, (width, height))[..., None]
        colour = warp(one.limb.rgb, matrix, (width, height))
        picture = np.rint(picture * (1 - alpha) + colour * alpha).astype(np.uint8)
    return picture


def paste_limbs(picture: np.ndarray, sample: Sample, bank: LimbBank, rng: np.random.Generator) -> np.ndarray:
    """A copy of the picture with one to three limbs of other photos near the target's joints.

    picture: (H, W, 3) uint8. sample: its labels, in its pixels; they do not change, as in the paper. Without a joint of
    the target inside the picture it is returned as it is.
    """
    return paste(picture, place_limbs(sample, bank, rng))


def pack(placed: list[Placed], sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Placed limbs as arrays of one shape, for train/adversary.py.

    Strips (MOST_PASTED, LONGEST, WIDE, 4) uint8 RGBA, each in the top-left corner, and places (MOST_PASTED, 7) float32: the
    middle x, y in the picture, degrees, scale, the middle x, y in the strip, and the target's longer side. Where there is no
    limb nothing shows.
    """
    strips = np.zeros((MOST_PASTED, LONGEST, WIDE, 4), np.uint8)
    places = np.tile(np.array([0, 0, 0, 1, WIDE / 2, LONGEST / 2, 1], np.float32), (MOST_PASTED, 1))
    for number, one in enumerate(placed):
        rows, columns = one.limb.alpha.shape
        strips[number, :rows, :columns, :3] = one.limb.rgb
        strips[number, :rows, :columns, 3] = np.rint(255 * one.limb.alpha)
        side = _longer_side(sample, sample.target)
        places[number] = (*one.middle, one.degrees, one.scale, columns / 2, rows / 2, side)
    return strips, places

"""Augmentation: one affine map for photo and joints, then pasted parts, colour, blur and holes on the pixels alone.

A rule at 0 draws no random number where it was added later than the others, so that pictures of older recipes stay the
same bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from featherpose.data.background import background_region
from featherpose.data.camera import camera_fault
from featherpose.data.holes import drop_joints
from featherpose.data.limbs import LimbBank, Placed, paste, paste_limbs, place_limbs
from featherpose.data.people import Others, paste_person, shine_through
from featherpose.data.sample import Sample, move_sample, without_people
from featherpose.geometry import (
    box_of_points,
    compose,
    crop_map,
    mirror,
    rotation,
    scaling,
    square_around,
    translation,
    warp,
)
from featherpose.pose import Pose
from featherpose.runtime.smart_crop import smart_crop, whole_frame

AREA_SIDE = 160
"""Pixels: the shorter side of the input that `joint_area` is counted at (the article's input)."""

OTHER_JOINTS = 6
"""`other_target`: who has so many labelled joints, or all that the skeleton has, can be the target."""

WHOLE_SCALE, WHOLE_SHIFT = (0.9, 1.15), 0.04
"""`whole_photo`: side of the square in longer sides of the photo, and how far its middle moves, in sides. A guess."""

LOOK_SCALE, LOOK_SHIFT = (0.85, 1.2), 0.05
"""`second_look`: the same in sides of the smart crop, for what a first look's errors make of it. A guess."""


@dataclass(frozen=True)
class Augmentation:
    """How training pictures vary. Probabilities are in [0, 1]; every range is drawn anew for each picture.

    With all of them at 0 and `crop_scale` (1.25, 1.25) the result is the crop that the protocol "crop" evaluates.
    """

    crop_scale: tuple[float, float] = (1.0, 1.9)
    """Side of the square crop in longer sides of the person's box, drawn log-uniformly."""
    shift: float = 0.1
    """The crop's centre moves by up to this share of its side, in x and y."""
    flip: float = 0.5
    """Probability of mirroring, with left and right joints swapped."""
    rotate: float = 0.6
    """Probability of a rotation, normal with `rotate_deviation` degrees."""
    rotate_deviation: float = 25.0
    upside_down: float = 0.05
    """Probability of a rotation by any angle at all (lying and inverted people)."""
    half_body: float = 0.15
    """Probability of cutting around the upper or the lower half of the joints only."""
    other_target: float = 0.2
    """Probability of cutting around another well labelled person of the same photo."""
    colour: float = 0.8
    """Probability of changing brightness, contrast, saturation and hue."""
    colour_strength: float = 0.3
    """Factors are drawn from 1 +- this."""
    grey: float = 0.03
    """Probability of a grey picture."""
    blur: float = 0.08
    """Probability of a Gaussian blur, or of a coarse resize as cheap cameras do it."""
    cutout: float = 0.3
    """Probability of hiding a rectangle behind noise or one colour; joints under it stay labelled."""
    cutout_size: tuple[float, float] = (0.1, 0.35)
    """Sides of the rectangle as shares of the input."""
    drop_joints: float = 0.0
    """Probability of hiding some of the target's joints behind ellipses and rectangles; they stay labelled (AID, Huang
    et al., arXiv:2008.07139)."""
    drop_size: tuple[float, float] = (0.06, 0.2)
    """Sides of those as shares of the input. A guess."""
    paste_parts: float = 0.0
    """Probability of pasting one to three limbs of other people near the target's joints, which stay labelled
    (Bin et al., ECCV 2020, arXiv:2008.00697)."""
    paste_choices: int = 1
    """Ways of pasting that are drawn for each picture; of several, the one with the largest error of the current network's
    heatmaps is trained on (train/hardest.py)."""
    paste_adversary: bool = False
    """Whether a network learns where limbs are to be pasted, so that the loss is large (train/adversary.py)."""
    joint_area: tuple[float, float] = (0.0, 0.0)
    """Smallest and largest area of the box around the target's joints, px^2 with the input's shorter side at AREA_SIDE;
    the crop's side follows from it instead of `crop_scale`, whose lower end stays the closest crop. (0, 0) is off."""
    joint_area_mode: float = 0.0
    """The most frequent joint-box area (a triangular distribution over `joint_area`); 0: the middle of the range."""
    whole_photo: float = 0.0
    """Probability of the whole photo padded to a square, as a first look shows it (`WHOLE_SCALE`, `WHOLE_SHIFT`): the
    photo's own target is wherever it stands, which crops around people never show."""
    second_look: float = 0.0
    """Probability of the smart crop that a second look is given (runtime/smart_crop.py), from the labelled joints, varied by
    `LOOK_SCALE` and `LOOK_SHIFT`. It stands around the middle of the hips and is black outside the photo; where the joints
    make no such crop it is the whole photo, as there."""
    stretch: float = 0.0
    """The picture is stretched by up to this share along a direction drawn at random, and squeezed as much across it."""
    paste_people: float = 0.0
    """Probability of pasting a person of another photo beside the target, with a piece of the surrounding; the labels are
    joined (data/people.py)."""
    shine_through: float = 0.0
    """Probability that another photo shines through, cut as this one is; labels stay."""
    shine_share: tuple[float, float] = (0.1, 0.4)
    """How much of it."""
    camera: float = 0.0
    """Probability of what a cheap camera does: motion blur, little light, noise or few bits (data/camera.py)."""
    background: float = 0.0
    """Probability of a part of the photo that touches nobody's box, where one is found; its targets say: nobody."""

    def __post_init__(self) -> None:
        for name in ("crop_scale", "cutout_size", "drop_size", "shine_share"):
            low, high = (float(v) for v in getattr(self, name))
            if not 0 < low <= high < np.inf:
                raise ValueError(f"augment.{name} must be 0 < low <= high, got {[low, high]}")
            object.__setattr__(self, name, (low, high))
        for name in PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("cutout_size", "drop_size", "shine_share"):
            if getattr(self, name)[1] > 1:
                raise ValueError(f"augment.{name} is in shares, at most 1, got {list(getattr(self, name))}")
        if not 0 <= self.stretch < 1:
            raise ValueError(f"augment.stretch must lie in [0, 1), got {self.stretch}")
        if not 0 <= self.colour_strength <= 1:
            raise ValueError(f"augment.colour_strength must lie in [0, 1], got {self.colour_strength}")
        for name in ("shift", "rotate_deviation"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"augment.{name} must not be negative, got {getattr(self, name)}")
        if not 1 <= self.paste_choices <= 16:
            raise ValueError(f"augment.paste_choices must be 1 to 16, got {self.paste_choices}")
        if self.paste_adversary and not self.paste_parts > 0:
            raise ValueError("augment.paste_adversary moves pasted limbs, and augment.paste_parts is 0; set it to 0.5, say")
        if self.paste_adversary and self.paste_choices > 1:
            raise ValueError("augment.paste_adversary does not go with augment.paste_choices above 1; leave one of them out")
        if self.camera > 0 and self.paste_parts > 0 and (self.paste_adversary or self.paste_choices > 1):
            rival = "paste_adversary" if self.paste_adversary else "paste_choices above 1"
            raise ValueError(f"augment.camera does not go with augment.{rival}; leave one of them out")
        self._check_joint_area()

    def _check_joint_area(self) -> None:
        low, high = (float(v) for v in self.joint_area)
        object.__setattr__(self, "joint_area", (low, high))
        if (low, high) != (0, 0) and not 0 < low <= high <= AREA_SIDE**2:
            raise ValueError(
                f"augment.joint_area must be 0 < low <= high <= {AREA_SIDE**2} px^2, or [0, 0] for off; got {[low, high]}"
            )
        if self.joint_area_mode != 0 and not 0 < low <= self.joint_area_mode <= high:
            raise ValueError(
                f"augment.joint_area_mode must lie in augment.joint_area, or be 0 for its middle; "
                f"got {self.joint_area_mode} with {[low, high]}"
            )


PROBABILITIES = (
    "flip", "rotate", "upside_down", "half_body", "other_target", "colour", "grey", "blur", "cutout", "drop_joints",
    "paste_parts", "paste_people", "shine_through", "camera", "whole_photo", "second_look", "background",
)  # fmt: skip
"""The fields of Augmentation that are probabilities."""


NO_AUGMENTATION = Augmentation(
    crop_scale=(1.25, 1.25), shift=0, flip=0, rotate=0, upside_down=0, half_body=0, other_target=0, colour=0, grey=0,
    blur=0, cutout=0,
)  # fmt: skip


def augment(
    image: np.ndarray,
    sample: Sample,
    *,
    size_wh: tuple[int, int],
    rules: Augmentation,
    rng: np.random.Generator,
    bank: LimbBank | None = None,
    others: Others | None = None,
) -> tuple[np.ndarray, Sample]:
    """A training picture and its labels, both in input pixels.

    image: (H, W, 3) uint8 RGB, the photo of `sample`. bank: the limbs for `paste_parts`, others: the photos for
    `paste_people` and `shine_through`, needed where those are not 0.
    Returns (size_h, size_w, 3) uint8 and a Sample of that size whose `target` is the person the crop was cut around. A
    photo without people is cut around its middle. A picture of background has no people in its
    sample but who is pasted into it.
    """
    pictures, moved, placed = _augmented(image, sample, size_wh, rules, rng, bank, others, choices=1)
    return paste(pictures[0], placed), moved


def augment_unpasted(
    image: np.ndarray,
    sample: Sample,
    *,
    size_wh: tuple[int, int],
    rules: Augmentation,
    rng: np.random.Generator,
    bank: LimbBank | None = None,
    others: Others | None = None,
) -> tuple[np.ndarray, Sample, list[Placed]]:
    """`augment` before the limbs are pasted, and the limbs: with `paste_adversary` they are the last thing to happen."""
    pictures, moved, placed = _augmented(image, sample, size_wh, rules, rng, bank, others, choices=1)
    return pictures[0], moved, placed


def augment_choices(
    image: np.ndarray,
    sample: Sample,
    *,
    size_wh: tuple[int, int],
    rules: Augmentation,
    rng: np.random.Generator,
    bank: LimbBank | None = None,
    others: Others | None = None,
) -> tuple[np.ndarray, Sample]:
    """`paste_choices` training pictures that differ in the pasted limbs alone, (N, size_h, size_w, 3), and their labels.

    The first is the picture of `augment`. All are the same where nothing is pasted.
    """
    pictures, moved, _ = _augmented(image, sample, size_wh, rules, rng, bank, others, choices=rules.paste_choices)
    return np.stack(pictures * rules.paste_choices if len(pictures) == 1 else pictures), moved


def _augmented(
    image: np.ndarray, sample: Sample, size_wh: tuple[int, int], rules: Augmentation, rng: np.random.Generator,
    bank: LimbBank | None, others: Others | None, choices: int,
) -> tuple[list[np.ndarray], Sample, list[Placed]]:  # fmt: skip
    """The ways of pasting, the labels, and the limbs that are still to be pasted (with `paste_adversary`)."""
    region = None
    if rules.background > 0 and rng.random() < rules.background:
        region = background_region(sample, size_wh, rng)
    if region is None and rules.whole_photo > 0 and rng.random() < rules.whole_photo:
        target = sample.target
        whole = replace(rules, crop_scale=WHOLE_SCALE, shift=WHOLE_SHIFT)
        matrix, flipped = draw_map(sample, -1, size_wh, whole, rng)
    elif region is None and rules.second_look > 0 and rng.random() < rules.second_look:
        target = sample.target
        looks = replace(rules, crop_scale=LOOK_SCALE, shift=LOOK_SHIFT)
        matrix, flipped = draw_map(sample, -1, size_wh, looks, rng, box=_second_look(sample))
    elif region is None:
        target = _choose_target(sample, rules, rng)
        matrix, flipped = draw_map(sample, target, size_wh, rules, rng)
    else:
        sample, target = without_people(sample), -1
        flipped = bool(rng.random() < rules.flip)
        matrix = crop_map(region, size_wh)
        matrix = compose(matrix, mirror(size_wh[0])) if flipped else matrix
    picture = warp(image, matrix, size_wh)
    moved = move_sample(replace(sample, target=target), matrix, size_wh, flipped=flipped)
    picture, moved = _with_others(picture, moved, size_wh, rules, rng, others)
    pictures, placed = [picture], []
    if rules.paste_parts > 0 and rng.random() < rules.paste_parts:
        if bank is None:
            raise ValueError("augment.paste_parts needs a bank of limbs (data.limbs.build_bank), none was given")
        # Each way has its own generator: how many there are changes neither the first nor what is drawn afterwards.
        seed = int(rng.integers(2**32))
        if rules.paste_adversary:
            placed = place_limbs(moved, bank, np.random.default_rng([seed, 0]))
        else:
            pictures = [paste_limbs(picture, moved, bank, np.random.default_rng([seed, way])) for way in range(choices)]
    state = rng.bit_generator.state
    for number, pasted in enumerate(pictures):
        rng.bit_generator.state = state
        pictures[number] = _change_pixels(pasted, moved, rules, rng)
    return pictures, moved, placed


def _with_others(
    picture: np.ndarray, moved: Sample, size_wh: tuple[int, int], rules: Augmentation, rng: np.random.Generator,
    others: Others | None,
) -> tuple[np.ndarray, Sample]:  # fmt: skip
    """The picture with what other photos bring."""
    for share in (rules.paste_people, rules.shine_through):
        if share > 0 and others is None:
            raise ValueError("augment.paste_people and shine_through need other photos (data.people.Others), none were given")
    if rules.paste_people > 0 and rng.random() < rules.paste_people:
        source = others.draw(moved.photo_id, rng)
        if source is not None:
            picture, moved = paste_person(picture, moved, others.read(source), source, rng)
    if rules.shine_through > 0 and rng.random() < rules.shine_through:
        source = others.draw(moved.photo_id, rng)
        if source is not None:
            matrix, _ = draw_map(source, source.target, size_wh, rules, rng)
            picture = shine_through(picture, warp(others.read(source), matrix, size_wh), rng.uniform(*rules.shine_share))
    return picture, moved


def _second_look(sample: Sample) -> np.ndarray:
    """(4,) photo pixels: the smart crop of the target's labelled joints; the whole frame without a target."""
    if sample.target < 0:
        return whole_frame(sample.size_wh)
    labelled = sample.visibility[sample.target] > 0
    xy = np.where(labelled[:, None], sample.xy[sample.target], 0)
    pose = Pose(xy, labelled, sample.skeleton)
    return smart_crop(pose, sample.size_wh)


def _choose_target(sample: Sample, rules: Augmentation, rng: np.random.Generator) -> int:
    if sample.target < 0 or rng.random() >= rules.other_target:
        return sample.target
    labelled = (sample.visibility > 0).sum(axis=1)
    sides = (sample.box_xyxy[:, 2:] - sample.box_xyxy[:, :2]).max(axis=1)
    good = np.flatnonzero((labelled >= min(OTHER_JOINTS, len(sample.skeleton))) & (sides >= 0.2 * max(sample.size_wh)))
    return int(rng.choice(good)) if len(good) else sample.target


def draw_map(
    sample: Sample, target: int, size_wh: tuple[int, int], rules: Augmentation, rng: np.random.Generator, *,
    box: np.ndarray | None = None,
) -> tuple[np.ndarray, bool]:  # fmt: skip
    """One affine map from photo pixels to input pixels around a person, and whether it mirrors.

    target: -1 for what `box` is, (4,) x1, y1, x2, y2 in photo pixels, or the whole photo without one. The whole photo also for
    a target without a size: a single joint and no box.
    """
    whole, photo = True, np.array([0, 0, *sample.size_wh], np.float64)
    if target < 0:
        box = photo if box is None else box
    else:
        box = replace(sample, target=target).target_box()
        box = photo if max(box[2:] - box[:2]) < 1 else box
        if rng.random() < rules.half_body:
            half = _half_body(sample, target, rng, box)
            whole, box = half is box, half
    side = None
    if rules.joint_area[1] > 0 and target >= 0 and whole:
        side = _side_of_area(sample.xy[target], box, rules, rng)
    if side is None:
        side = float(np.exp(rng.uniform(*np.log(rules.crop_scale))))
    x1, y1, x2, y2 = square_around(box, side)
    length = max(x2 - x1, 1.0)
    shift = rng.uniform(-1, 1, 2) * rules.shift * length
    steps = [translation(-(x1 + x2) / 2 - shift[0], -(y1 + y2) / 2 - shift[1])]
    if rng.random() < rules.upside_down:
        steps.append(rotation(rng.uniform(-180, 180)))
    elif rng.random() < rules.rotate:
        steps.append(rotation(np.clip(rng.normal(0, rules.rotate_deviation), -80, 80)))
    if rules.stretch > 0:
        direction, factor = rng.uniform(0, 180), (1 + rules.stretch) ** rng.uniform(0, 1)
        steps += [rotation(-direction), scaling(factor, 1 / factor), rotation(direction)]
    steps.append(scaling(min(size_wh) / length))
    steps.append(translation(size_wh[0] / 2, size_wh[1] / 2))
    flipped = bool(rng.random() < rules.flip)
    if flipped:
        steps.append(mirror(size_wh[0]))
    return compose(*steps), flipped


def _side_of_area(xy: np.ndarray, box: np.ndarray, rules: Augmentation, rng: np.random.Generator) -> float | None:
    """The crop's side in longer sides of `box` that gives the joints a drawn area; None when their box has none.

    xy: (K, 2) photo pixels. Nobody is cut closer than the lower end of `crop_scale`, so large areas may not be reached.
    """
    joints = box_of_points(xy)
    area = 0.0 if joints is None else float(np.prod(joints[2:] - joints[:2]))
    if area <= 0:
        return None
    low, high = rules.joint_area
    wanted = rng.triangular(low, rules.joint_area_mode or (low + high) / 2, high) if low < high else low
    longer = max(box[2] - box[0], box[3] - box[1])
    return max(AREA_SIDE * float(np.sqrt(area / wanted)) / longer, rules.crop_scale[0])


def _half_body(sample: Sample, target: int, rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    """Box of the upper or lower joints (by the skeleton's names), if enough of them are labelled; else `box`."""
    lower = np.array([any(part in name for part in ("hip", "knee", "ankle")) for name in sample.skeleton.joints])
    wanted = lower if rng.random() < 0.4 else ~lower
    xy = sample.xy[target][wanted & (sample.visibility[target] > 0)]
    if len(xy) < 4:
        return box
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = max(high - low) * 0.65
    centre = (low + high) / 2
    return np.concatenate([centre - half, centre + half]).astype(np.float64)


def _change_pixels(picture: np.ndarray, moved: Sample, rules: Augmentation, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < rules.colour:
        picture = _colour(picture, rules.colour_strength, rng)
    if rng.random() < rules.grey:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    if rng.random() < rules.blur:
        picture = _blur(picture, rng)
    if rng.random() < rules.cutout:
        picture = _cut_out(picture, rules.cutout_size, rng)
    if rules.drop_joints > 0 and rng.random() < rules.drop_joints:
        picture = drop_joints(picture, moved, rules.drop_size, rng)
    return through_camera(picture, rules, rng)


def through_camera(picture: np.ndarray, rules: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """The last step of `augment`: a share of the pictures, (H, W, 3) uint8, gets a fault of a cheap camera."""
    return camera_fault(picture, rng) if rules.camera > 0 and rng.random() < rules.camera else picture


def _colour(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast, brightness and tint through a table per channel, saturation through a 3x3 matrix."""
    contrast, saturation = 1 + rng.uniform(-strength, strength, 2)
    brightness = rng.uniform(-strength, strength) * 127
    tint = 1 + rng.uniform(-strength, strength, 3) * 0.3
    levels = np.arange(256, dtype=np.float32)
    table = (levels[:, None] - 127) * contrast * tint + 127 + brightness
    picture = cv2.LUT(picture, np.clip(table, 0, 255).astype(np.uint8)[None])
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    return cv2.transform(picture, saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * luma[None, :])


def _blur(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        return cv2.GaussianBlur(picture, (0, 0), sigmaX=float(rng.uniform(0.5, max(0.5, width / 100))))
    share = rng.uniform(0.3, 0.8)
    small = cv2.resize(picture, (max(1, int(width * share)), max(1, int(height * share))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _cut_out(picture: np.ndarray, share: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    w, h = (rng.uniform(*share, 2) * (width, height)).astype(int)
    x, y = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
    picture = picture.copy()
    if rng.random() < 0.5:
        picture[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    else:
        picture[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    return picture

"""How good a model is on labelled photos: the same function for a torch model, an ONNX file and a TFLite file.

It asks the predictor for one pose per target and holds it against the labels. What the model is shown is the protocol;
figures of different protocols do not compare, so every figure is reported with its protocol's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from featherpose.data.sample import UNLABELLED, Sample, has_nobody, to_skeleton
from featherpose.evaluation import CROP_MARGIN, Evaluation, score_poses, truth_of
from featherpose.geometry import square_around
from featherpose.metrics.oks import AREA_FACTOR
from featherpose.pose import Pose
from featherpose.runtime.photos import read_photo
from featherpose.runtime.smart_crop import smart_crop, whole_frame
from featherpose.skeletons import Skeleton, did_you_mean

PEOPLE = ("target", "all")
"""Who is looked for: the target of each photo, or every labelled person (crop protocol only)."""


Images = Sequence[np.ndarray]
Boxes = Sequence[np.ndarray]
Sizes = Sequence[tuple[int, int]]

# --- protocols: (predictor, images, crops, sizes_wh) -> one pose per image ------------------------------------------


def look_at_crops(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """One look at a square of 1.25 times the longer side of the target's box, zeros outside the photo."""
    return predictor.look_batch(images, crops)


def look_at_frames(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """One look at the whole photo padded to a square; the model takes whoever is nearest the middle."""
    return predictor.look_batch(images, [whole_frame(size) for size in sizes_wh])


def look_twice(predictor, images: Images, crops: Boxes, sizes_wh: Sizes) -> list[Pose]:
    """The whole photo first, then the smart crop that the first answer gives: what `predict` does."""
    first = look_at_frames(predictor, images, crops, sizes_wh)
    threshold = predictor.spec.joint_threshold
    closer = [smart_crop(pose, size, threshold) for pose, size in zip(first, sizes_wh, strict=True)]
    return predictor.look_batch(images, closer)


PROTOCOLS = {"crop": look_at_crops, "frame": look_at_frames, "frame + crop": look_twice}


def evaluate(
    predictor,
    samples: Sequence[Sample],
    *,
    protocol: str = "crop",
    people: str = "target",
    batch: int = 16,
    area_factor: float | None = AREA_FACTOR,
    read: Callable[[Sample], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Every figure of one model on labelled photos.

    predictor: anything with `look_batch(images, regions) -> list[Pose]` and `spec` (runtime.predictor.Predictor).
    samples: of any skeleton; joints are matched with the model's by name, the others do not count.
    people: "target", or "all" for a crop of each labelled person, which is how AP with given boxes is published.
    area_factor: OKS area in areas of the labelled box; None takes the samples' own areas (masks).
    read: gives a sample's photo, (H, W, 3) uint8 RGB; the file is read unless given. progress: called (done, of all).

    Joints that a teacher labelled count as unlabelled (`without_guesses`); the result tells how many.
    Photos without people (data.sample.has_nobody) are looked at too: how often the pose score calls somebody there.
    Other samples without a labelled target and photos that cannot be read are left out; the result tells of them.
    Raises ValueError for unknown protocols, when no joint is shared, or nothing is left to measure.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'{did_you_mean(protocol, PROTOCOLS)}")
    check_people(people, protocol)
    if not samples:
        raise ValueError("there are no samples to evaluate on")
    skeleton = predictor.spec.skeleton
    guessed = sum(_guessed(sample, skeleton, people) for sample in samples)
    samples = [without_guesses(sample) for sample in samples]
    found = [cases_of(sample, skeleton, people) for sample in samples]
    cases = [case for of_sample in found for case in of_sample]
    if not cases:
        raise ValueError(
            f"none of the {len(samples)} samples has a target with a joint of the model's skeleton '{skeleton.name}'"
            + f"; {guessed} joints that a teacher labelled do not count, name the labels of people" * (guessed > 0)
        )
    nobody = [sample for sample in samples if has_nobody(sample)]
    read = _read if read is None else read
    look = PROTOCOLS[protocol]
    unreadable: list[str] = []
    kept: list[Sample] = []
    poses: list[Pose] = []
    for start in range(0, len(cases), batch):
        seen, images = [], []
        for case in cases[start : start + batch]:
            if images and case.photo == seen[-1].photo and case.sample_id == seen[-1].sample_id:
                images.append(images[-1])
                seen.append(case)
                continue
            try:
                image = _checked(read(case), case)
            except (OSError, ValueError) as error:
                unreadable.append(_told(case, error))
                continue
            images.append(image)
            seen.append(case)
        if images:
            crops = [square_around(case.target_box(), CROP_MARGIN) for case in seen]
            poses += look(predictor, images, crops, [case.size_wh for case in seen])
            kept += seen
        if progress is not None:
            progress(min(start + batch, len(cases)), len(cases) + len(nobody))
    if not kept:
        raise ValueError(f"none of the {len(cases)} photos could be used; the first: {unreadable[0]}")
    nobody_scores: list[float] = []
    for start in range(0, len(nobody), batch):
        nobody_scores += _scores_of_nobody(predictor, nobody[start : start + batch], protocol, read, unreadable)
        if progress is not None:
            progress(len(cases) + min(start + batch, len(nobody)), len(cases) + len(nobody))
    truth = truth_of(kept, skeleton, area_factor=area_factor)
    return score_poses(
        poses,
        truth,
        kept,
        protocol=protocol,
        people=people,
        area_factor=area_factor,
        targetless=sum(not of_sample for of_sample in found) - len(nobody),
        guessed=guessed,
        unreadable=tuple(dict.fromkeys(unreadable)),
        pose_threshold=predictor.spec.pose_threshold,
        nobody_scores=nobody_scores,
    )


def without_guesses(sample: Sample) -> Sample:
    """The same sample with the joints that a teacher labelled (weight below 1) as unlabelled: an opinion is no truth."""
    if sample.weight is None:
        return sample
    guess = sample.weight < 1
    xy = np.where(guess[..., None], np.float32(np.nan), sample.xy)
    visibility = np.where(guess & (sample.visibility > 0), UNLABELLED, sample.visibility).astype(np.int8)
    return replace(sample, xy=xy, visibility=visibility)


def _guessed(sample: Sample, skeleton: Skeleton, people: str) -> int:
    """How many joints of the people to look for a teacher labelled, of those in the skeleton."""
    if sample.weight is None:
        return 0
    sample = to_skeleton(sample, skeleton)
    guess = (sample.weight < 1) & (sample.visibility > 0)
    return int((guess if people == "all" else guess[[sample.target] if sample.target >= 0 else []]).sum())


def check_people(people: str, protocol: str) -> None:
    """ValueError for people that are unknown, or that the protocol cannot look for."""
    if people not in PEOPLE:
        raise ValueError(f"unknown people '{people}'{did_you_mean(people, PEOPLE)}")
    if people == "all" and protocol != "crop":
        raise ValueError(
            f"people 'all' needs the protocol 'crop': with '{protocol}' the model finds one person per photo"
        )


def _scores_of_nobody(
    predictor, samples: Sequence[Sample], protocol: str, read: Callable[[Sample], np.ndarray], unreadable: list[str]
) -> list[float]:
    """The pose scores on photos without people. There is no box to cut around, so "crop" looks at the whole photo too."""
    images, sizes = [], []
    for sample in samples:
        try:
            images.append(_checked(read(sample), sample))
            sizes.append(sample.size_wh)
        except (OSError, ValueError) as error:
            unreadable.append(_told(sample, error))
    look = look_at_frames if protocol == "crop" else PROTOCOLS[protocol]
    return [pose.pose_score for pose in look(predictor, images, [], sizes)] if images else []


def cases_of(sample: Sample, skeleton: Skeleton, people: str) -> list[Sample]:
    """The sample once for each person to look for, as its target: with a labelled joint of the skeleton, and a box that
    gives errors a size (that of a single joint without a labelled box is a point)."""
    box = sample.box_xyxy
    counts = (to_skeleton(sample, skeleton).visibility > 0).any(axis=1) & (box[:, 2:] > box[:, :2]).all(axis=1)
    wanted = np.flatnonzero(counts) if people == "all" else [sample.target] if sample.target >= 0 else []
    return [replace(sample, target=int(person)) for person in wanted if counts[person]]


def _checked(image: np.ndarray, sample: Sample) -> np.ndarray:
    """The photo, if it is the one that was labelled."""
    (height, width), (labelled_width, labelled_height) = image.shape[:2], sample.size_wh
    if (width, height) != (labelled_width, labelled_height):
        raise ValueError(
            f"{sample.photo}: the photo has {width} x {height} pixels, "
            f"its labels were made for {labelled_width} x {labelled_height}"
        )
    return image


def _told(sample: Sample, error: Exception) -> str:
    return str(error) if str(sample.photo) in str(error) else f"{sample.photo}: {error}"


def _read(sample: Sample) -> np.ndarray:
    return read_photo(sample.photo)

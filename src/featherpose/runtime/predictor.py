"""From a photo to the joints of one person, by any model file and without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featherpose.codecs import build_codec
from featherpose.geometry import crop_map, invert, middle_of, square_around, transform, warp
from featherpose.pose import Pose
from featherpose.runtime.backends import Backend, load_model
from featherpose.runtime.photos import as_image, read_photo
from featherpose.runtime.smart_crop import smart_crop, whole_frame


class Predictor:
    """Finds the joints of the target person: sure and near the middle, nearest a point, or inside a box.

        pose = Predictor()("photo.jpg")
        pose.xy, pose.score  # (17, 2) pixels of the photo, (17,) in [0, 1]

    Without a box it looks twice: at the whole photo, then at a square around the person found there (smart_crop).
    """

    def __init__(self, model: str | Path | Backend | None = None, *, threads: int = 1, refine: bool = True) -> None:
        """model: a file, the name of a bundled model, a backend, or None for the bundled default.

        threads: for one picture. refine: whether to look a second time.
        """
        self.backend = load_model(model, threads) if model is None or isinstance(model, (str, Path)) else model
        self.spec = self.backend.spec
        self.refine = refine
        self._codec = None
        if self.spec.outputs == "raw":
            self._codec = build_codec(self.spec.codec, self.spec.input_size, len(self.spec.skeleton))

    def __call__(
        self,
        photo: str | Path | np.ndarray,
        *,
        point: tuple[float, float] | None = None,
        box: Sequence[float] | None = None,
    ) -> Pose:
        """The pose of the target person in pixels of the photo; its box_xyxy is the square looked at last.

        photo: a file, or an array as `as_image` takes it. point: (x, y) in photo pixels, choose the person nearest it.
        box: (x1, y1, x2, y2) in photo pixels around the person; one look at a square around it.
        There is always a pose: compare its pose_score with the spec's pose_threshold, its scores with joint_threshold.
        Raises ValueError for a point or box outside the photo, and what `read_photo` raises.
        """
        if point is not None and box is not None:
            raise ValueError("give a point or a box, not both")
        image = read_photo(photo) if isinstance(photo, (str, Path)) else as_image(photo)
        height, width = image.shape[:2]
        if box is not None:
            region = square_around(checked_box(box, (width, height)), self.spec.crop_margin)
            return self.look(image, region, focus_xy=middle_of(region))
        region = whole_frame((width, height))
        if point is not None:
            point = checked_point(point, (width, height))
            if self._codec is None:  # such a model takes whoever is nearest the middle of what it sees
                half = (region[2] - region[0]) / 2
                region = np.array([point[0] - half, point[1] - half, point[0] + half, point[1] + half])
        pose = self.look(image, region, focus_xy=point)
        if not self.refine:
            return pose
        closer = smart_crop(pose, (width, height), self.spec.joint_threshold)
        if np.array_equal(closer, whole_frame((width, height))):
            return pose
        return self.look(image, closer, focus_xy=None if point is None else middle_of(closer))

    def look(
        self,
        image: np.ndarray,
        region_xyxy: np.ndarray,
        focus_xy: tuple[float, float] | None = None,
        *,
        quick: bool = False,
    ) -> Pose:
        """The pose found by one look at a part of the photo, in pixels of the photo.

        image: (H, W, 3) uint8 RGB. region_xyxy: a square in photo pixels, it may reach outside; zeros stand there.
        focus_xy: the person nearest this point of the photo is taken. None: whom the region is about, which depends less
        on who stands in its middle (the codec's center_softening). Models with their decoding inside take the middle.
        quick: a square of whole pixels is cut out in a third of the time, see `warp`.
        """
        focus = None if focus_xy is None else [focus_xy]
        return self._look([image], [region_xyxy], focus, quick)[0]

    def look_batch(
        self, images: Sequence[np.ndarray], regions: Sequence[np.ndarray], *, named: bool = False
    ) -> list[Pose]:
        """`look` at many pictures in one run of the network: region i of image i.

        named: each region stands around one person, who is looked for by its middle; else as `look` without a focus.
        """
        if len(images) != len(regions):
            raise ValueError(f"each picture needs its region: got {len(images)} pictures and {len(regions)} regions")
        return self._look(images, regions, [middle_of(r) for r in regions] if named else None) if len(images) else []

    def _look(self, images: Sequence[np.ndarray], regions: Sequence[np.ndarray], focus_xy, quick: bool = False) -> list[Pose]:
        to_input = [crop_map(region, self.spec.input_size) for region in regions]
        outputs = self.backend.run(
            np.stack(
                [
                    warp(image, matrix, self.spec.input_size, quick=quick)
                    for image, matrix in zip(images, to_input, strict=True)
                ]
            )
        )
        if self._codec is None:
            xy, score, pose_score = outputs["joints"][..., :2], outputs["joints"][..., 2], outputs["pose_score"]
        else:
            focus = None
            if focus_xy is not None:
                focus = np.stack([transform(m, np.asarray(p, float)) for m, p in zip(to_input, focus_xy, strict=True)])
            xy, score, pose_score = self._codec.decode_batch(outputs, focus)
        return [
            Pose(
                xy=transform(invert(to_input[i]), xy[i].astype(np.float64)),
                score=score[i],
                skeleton=self.spec.skeleton,
                pose_score=float(pose_score[i]),
                box_xyxy=regions[i],
            )
            for i in range(len(images))
        ]


def checked_point(point: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float]:
    """A point (x, y) as numbers; ValueError when it is none, or lies outside a photo of (width, height)."""
    values = np.asarray(point, dtype=np.float64)
    if values.shape != (2,) or not np.isfinite(values).all():
        raise ValueError(f"a point must be two numbers x, y in photo pixels, got {point}")
    if (values < 0).any() or (values > size_wh).any():
        raise ValueError(f"the point {_text(values)} lies outside the photo of {size_wh[0]} x {size_wh[1]} pixels")
    return float(values[0]), float(values[1])


def checked_box(box: Sequence[float], size_wh: tuple[int, int]) -> np.ndarray:
    """A box (x1, y1, x2, y2), (4,) float64; ValueError when it is none, is empty or lies outside a photo of (width, height)."""
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise ValueError(f"a box must be four numbers x1, y1, x2, y2 in photo pixels, got {box}")
    if values[2] <= values[0] or values[3] <= values[1]:
        raise ValueError(f"the box {_text(values)} is empty: x2 must be larger than x1, y2 larger than y1")
    if (values[:2] >= size_wh).any() or (values[2:] <= 0).any():
        raise ValueError(f"the box {_text(values)} lies outside the photo of {size_wh[0]} x {size_wh[1]} pixels")
    return values


def _text(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"

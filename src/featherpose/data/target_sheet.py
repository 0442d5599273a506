"""What a codec makes of labels, drawn over photos: the targets a network learns from, not the labels themselves."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np

from featherpose.codecs.movenet import MoveNetCodec
from featherpose.data.augment import NO_AUGMENTATION, augment
from featherpose.data.check import Problem
from featherpose.data.sample import UNKNOWN, Sample
from featherpose.pose import Pose

PANEL = 256
"""Pixels: side of each of the four pictures of one photo."""


def target_sheet(
    samples: list[Sample], codec: MoveNetCodec, *, count: int, rng: np.random.Generator
) -> np.ndarray | None:
    """A sheet of randomly drawn photos with their encoded targets (`draw_targets`); None when nobody is labelled."""
    from featherpose.runtime.draw import sheet
    from featherpose.runtime.photos import read_photo

    people = [sample for sample in samples if sample.target >= 0]
    chosen = rng.permutation(len(people))[:count]
    tiles, captions = [], []
    for sample in (people[i] for i in chosen):
        try:
            photo = read_photo(sample.photo)
        except (OSError, ValueError):
            continue  # check_photos reports it
        picture, moved = augment(photo, sample, size_wh=codec.input_size, rules=NO_AUGMENTATION, rng=rng)
        tiles.append(draw_targets(picture, moved, codec))
        target = moved.visibility[moved.target]
        known = f"{(target > 0).sum()} labelled, {(target == 0).sum()} not, {(target == UNKNOWN).sum()} unknown"
        captions.append(f"{sample.photo.name}, people: {len(sample.xy)}\ntarget: {known}")
    return sheet(tiles, captions, tile=2 * PANEL) if tiles else None


def draw_targets(image: np.ndarray, sample: Sample, codec: MoveNetCodec) -> np.ndarray:
    """(2 PANEL, 2 PANEL, 3) uint8 RGB of a picture of the codec's input size and its sample in the same pixels.

    Top left: heatmaps, each joint in its colour, and a dot where decoding puts the target's joints. Top right: centre
    map and the regression read at its maximum, as arrows. Bottom left: one small map per joint, heatmap in the joint's
    colour, on grey where its weight is 1, dark blue where it is less, dark red where the map says nothing. Bottom
    right: the centre's weight, dark red where it is 0, and offsets as short lines from their cells.
    """
    maps = codec.encode(
        sample.xy, sample.visibility, sample.box_xyxy, sample.ignore_xyxy, joint_weight=sample.weight
    )
    colours = joint_colours(codec.joints)
    photo = cv2.resize(image, (PANEL, PANEL), interpolation=cv2.INTER_LINEAR)
    panels = (
        _draw_heatmaps(photo, maps, sample, codec, colours),
        _draw_regression(photo, maps, codec, colours),
        _draw_weights(maps, colours),
        _draw_offsets(photo, maps, codec, colours),
    )
    return np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])


def joint_colours(joints: int) -> np.ndarray:
    """(K, 3) float RGB in [0, 255], around the colour circle; neighbours in the list are told apart by brightness."""
    return 255 * np.array([colorsys.hsv_to_rgb(k / joints, 0.85, 1.0 if k % 2 else 0.75) for k in range(joints)])


def _grow(cells: np.ndarray) -> np.ndarray:
    """A map (H, W) or (H, W, 3) at PANEL pixels, cells as squares."""
    return cv2.resize(np.ascontiguousarray(cells), (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)


def _draw_heatmaps(
    photo: np.ndarray, maps: dict, sample: Sample, codec: MoveNetCodec, colours: np.ndarray
) -> np.ndarray:
    heatmap = maps["heatmap"]  # (K, H, W)
    strongest = heatmap.argmax(axis=0)
    paint = _grow(colours[strongest].astype(np.float32))
    amount = _grow(heatmap.max(axis=0))[..., None] * 0.85
    canvas = np.ascontiguousarray((0.7 * photo * (1 - amount) + paint * amount).astype(np.uint8))
    xy, _, _ = codec.decode(maps)
    for joint in np.flatnonzero(sample.visibility[sample.target] > 0):
        point = xy[joint] * PANEL / codec.input_size
        cv2.circle(canvas, _pixel(point), 3, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, _pixel(point), 2, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
    return canvas


def _draw_regression(photo: np.ndarray, maps: dict, codec: MoveNetCodec, colours: np.ndarray) -> np.ndarray:
    center = maps["center"][0]
    amount = _grow(center)[..., None]
    canvas = np.ascontiguousarray((0.6 * photo * (1 - amount) + np.array([255, 255, 255]) * amount).astype(np.uint8))
    scale = PANEL / np.array(codec.grid)
    peaks = np.argwhere((center >= 1) & (maps["regression_weight"].max(axis=0) > 0))
    for row, column in peaks:
        start = (np.array([column, row]) + 0.5) * scale
        for joint in np.flatnonzero(maps["regression_weight"][:, row, column]):
            end = start + maps["regression"][joint, :, row, column] * scale
            cv2.arrowedLine(canvas, _pixel(start), _pixel(end), colours[joint].tolist(), 1, cv2.LINE_AA, tipLength=0.08)
    return canvas


def _draw_weights(maps: dict, colours: np.ndarray) -> np.ndarray:
    columns = int(np.ceil(np.sqrt(len(colours))))
    side = PANEL // columns
    canvas = np.zeros((PANEL, PANEL, 3), np.uint8)
    for joint, colour in enumerate(colours):
        weight = maps["heatmap_weight"][joint][..., None]
        ground = np.where(weight >= 1, 90, np.where(weight > 0, np.array([30, 40, 130]), np.array([110, 0, 0])))
        amount = maps["heatmap"][joint][..., None]
        tile = (ground * (1 - amount) + colour * amount).astype(np.uint8)
        row, column = divmod(joint, columns)
        tile = cv2.resize(tile, (side - 2, side - 2), interpolation=cv2.INTER_AREA)
        canvas[row * side : row * side + side - 2, column * side : column * side + side - 2] = tile
    return canvas


def _draw_offsets(photo: np.ndarray, maps: dict, codec: MoveNetCodec, colours: np.ndarray) -> np.ndarray:
    silent = _grow((maps["center_weight"][0] <= 0).astype(np.uint8)) > 0
    canvas = (0.6 * photo).astype(np.uint8)
    canvas[silent] = (0.4 * canvas[silent] + np.array([110, 0, 0]) * 0.6).astype(np.uint8)
    scale = PANEL / np.array(codec.grid)
    for joint, row, column in np.argwhere(maps["offset_weight"] > 0):
        corner = np.array([column, row])
        start, end = (corner + 0.5) * scale, (corner + maps["offset"][joint, :, row, column]) * scale
        cv2.line(canvas, _pixel(start), _pixel(end), colours[joint].tolist(), 1, cv2.LINE_AA)
    return canvas


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(np.floor(point[0])), int(np.floor(point[1]))


def suspicion_sheet(samples: list[Sample], suspicions: list[Problem], *, count: int) -> np.ndarray | None:
    """A sheet of suspicious people, evenly from all kinds: the label as it stands, with the suspicion below."""
    from featherpose.runtime.draw import draw_box, draw_pose, sheet
    from featherpose.runtime.photos import read_photo

    by_photo = {sample.photo.name: sample for sample in samples}
    by_kind: dict[str, list[Problem]] = {}
    for problem in suspicions:
        if problem.annotation is not None:  # else it is no single person's, and there is nothing to draw
            by_kind.setdefault(problem.kind, []).append(problem)
    share = max(1, -(-count // max(len(by_kind), 1)))
    chosen = [p for group in by_kind.values() for p in group[:: max(1, len(group) // share)][:share]][:count]
    tiles, captions = [], []
    for problem in chosen:
        sample = by_photo[problem.photo]
        if sample.annotation_id is None or problem.annotation not in sample.annotation_id:
            continue
        person = int(np.flatnonzero(sample.annotation_id == problem.annotation)[0])
        try:
            photo = read_photo(sample.photo)
        except (OSError, ValueError):
            continue
        labelled = sample.visibility[person] > 0
        pose = Pose(np.nan_to_num(sample.xy[person]), labelled.astype(np.float32), sample.skeleton)
        tiles.append(draw_box(draw_pose(photo, pose, threshold=0.5), sample.box_xyxy[person]))
        captions.append(f"{problem.kind}, {problem.photo}\n{problem.sentence.split(': ', 1)[-1]}")
    return sheet(tiles, captions, tile=320) if tiles else None


def save_png(path: Path, image: np.ndarray | None) -> Path | None:
    """Writes the sheet, if there is one; the path that was written."""
    from featherpose.runtime.report import write_picture

    if image is None:
        return None
    write_picture(path, image)
    return path

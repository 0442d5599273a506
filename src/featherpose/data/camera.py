"""What cheap cameras do to a picture: motion blur, too little light, sensor noise, few bits.

Kinds and causes after Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions", ICLR 2019;
strengths are lengths and shares of the picture, so that they mean the same at every size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from featherpose.data.sample import Sample
from featherpose.runtime.photos import read_photo
from featherpose.skeletons import did_you_mean


def motion_blur(picture: np.ndarray, length: float, degrees: float) -> np.ndarray:
    """The picture while the camera moved evenly: each pixel is the mean along a line through it.

    picture: (H, W, 3) uint8. length: of the line, pixels; below 1 the picture comes back as it is. degrees: its direction.
    """
    reach = int(np.ceil(length / 2))
    if length < 1:
        return picture
    along = np.linspace(-length / 2, length / 2, 8 * reach + 1)
    way = np.deg2rad(degrees)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    x, y = reach + along * np.cos(way), reach + along * np.sin(way)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    for down in (0, 1):
        for across in (0, 1):
            share = np.abs(1 - down - (y - row)) * np.abs(1 - across - (x - column))
            inside = (row + down <= 2 * reach) & (column + across <= 2 * reach)
            np.add.at(kernel, (row[inside] + down, column[inside] + across), share[inside])
    return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def low_light(picture: np.ndarray, light: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """The picture with a share `light` (above 0, at most 1) of its light, and the noise of a sensor.

    noise: standard deviation that a white place under full light adds, as a share of 255; of what light there is it grows with
    the root, as counted photons do, and a third of it is there in the dark too (together 5 % more in white). Half is grey,
    half of each colour. Levels are taken as light (no gamma).
    """
    values = picture.astype(np.float32) * np.float32(light / 255)
    grain = rng.standard_normal((*picture.shape[:2], 4), dtype=np.float32)
    grain = (grain[..., :3] + grain[..., 3:]) * np.float32(noise / np.sqrt(2))
    values += grain * np.sqrt(values + np.float32(1 / 9))
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def few_bits(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture through JPEG of a quality from 1 to 100."""
    _, code = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])


def _moved(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return motion_blur(picture, 0.1 * strength * max(picture.shape[:2]), rng.uniform(0, 180))


def _dark(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return low_light(picture, 1 - 0.75 * strength, 0.04 + 0.06 * strength, rng)


def _noisy(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return low_light(picture, 1.0, 0.25 * strength, rng)


def _coded(picture: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return few_bits(picture, round(50 - 42 * strength))


FAULTS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "motion": _moved, "dark": _dark, "noise": _noisy, "bits": _coded,
}  # fmt: skip
"""Name -> (picture, strength, generator) -> picture; strength is 0 to 1. At 1: a tenth of the longer side moved through, a
quarter of the light, noise of a quarter of the range, JPEG of quality 8."""


def camera_fault(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the faults, drawn at random, of a strength drawn evenly."""
    fault = FAULTS[list(FAULTS)[int(rng.integers(len(FAULTS)))]]
    return fault(picture, float(rng.uniform()), rng)


@dataclass(frozen=True)
class Camera:
    """Reads photos through one fault: `Camera("motion", 0.5)(sample)`, the same for the same file name."""

    name: str
    """One of FAULTS."""
    strength: float = 0.5
    """0 to 1."""

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise ValueError(f"unknown camera fault '{self.name}'{did_you_mean(self.name, FAULTS)}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of a camera fault must lie in [0, 1], got {self.strength:g}")

    def __call__(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises what `read_photo` raises."""
        rng = np.random.default_rng(zlib.crc32(sample.photo.name.encode()))
        return FAULTS[self.name](read_photo(sample.photo), self.strength, rng)

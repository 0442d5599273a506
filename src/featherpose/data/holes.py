"""Information dropping: some joints of the target are hidden, and the network must infer them from the others.

After AID (Huang et al. 2020, arXiv:2008.07139), which hides parts of the picture whatever lies there; here the holes lie on
joints, as `cutout` already covers the rest.
"""

from __future__ import annotations

import cv2
import numpy as np

from featherpose.data.sample import Sample, target_joints

OFF_CENTRE = 0.3
"""A hole's middle lies up to this share of its sides beside the joint, else its middle would give the joint away."""


def drop_joints(
    picture: np.ndarray, sample: Sample, share: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A copy of the picture in which one joint to a third of the target's joints are hidden.

    picture: (H, W, 3) uint8. sample: its labels, in its pixels; they do not change. share: sides of a hole in shares of
    the picture. A hole is an ellipse or a rectangle, of the picture's mean colour or any other. Without a joint of the
    target inside the picture it is returned as it is.
    """
    xy = target_joints(sample)
    if len(xy) == 0:
        return picture
    height, width = picture.shape[:2]
    count = int(rng.integers(1, max(1, len(xy) // 3) + 1))
    picture = picture.copy()
    for x, y in xy[rng.permutation(len(xy))[:count]]:
        w, h = np.maximum(rng.uniform(*share, 2) * (width, height), 2)
        centre = np.array([x, y]) + rng.uniform(-OFF_CENTRE, OFF_CENTRE, 2) * (w, h)
        round_one, own_colour = rng.random(2) < 0.5
        colour = cv2.mean(picture)[:3] if own_colour else rng.integers(0, 256, 3)
        colour = tuple(int(v) for v in colour)
        corner = tuple(int(v) for v in np.floor(centre - (w / 2, h / 2)))
        size = int(np.ceil(w)), int(np.ceil(h))
        if round_one:
            middle, axes = ((corner[0] + size[0] // 2, corner[1] + size[1] // 2), (size[0] // 2, size[1] // 2))
            cv2.ellipse(picture, middle, axes, 0, 0, 360, colour, cv2.FILLED)
        else:
            cv2.rectangle(picture, corner, (corner[0] + size[0], corner[1] + size[1]), colour, cv2.FILLED)
    return picture

"""What training sees: augmented pictures with the target's joints on top."""

from __future__ import annotations

import numpy as np

from featherpose.data.augment import Augmentation, augment
from featherpose.data.limbs import build_bank
from featherpose.data.loader import Photos
from featherpose.data.people import Others
from featherpose.data.sample import Sample
from featherpose.pose import Pose

TILE = 192
"""Side of one picture of the sheet, pixels."""


def augment_sheet(
    samples: list[Sample], rules: Augmentation, *, size_wh: tuple[int, int], count: int, seed: int
) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB: randomly drawn photos under the rules, without and with joints; None for no photo.

    Joints of the target that are labelled are drawn, also where nothing can be seen of them. Unreadable photos are left out;
    those that limbs come from are not: raises what `build_bank` raises.
    """
    from featherpose.runtime.draw import draw_pose, sheet

    read = Photos(keep=False)
    bank = build_bank(samples, read, seed=seed) if rules.paste_parts > 0 else None
    others = Others(samples, read)
    tiles, captions = [], []
    for place in np.random.default_rng([seed, 0x5EE]).permutation(len(samples))[:count]:
        sample = samples[place]
        rng = np.random.default_rng([seed, int(place)])
        try:
            photo = read(sample)
            picture, moved = augment(photo, sample, size_wh=size_wh, rules=rules, rng=rng, bank=bank, others=others)
        except (OSError, ValueError):
            continue
        drawn, said = picture, "nobody"
        if moved.target >= 0:
            labelled = moved.visibility[moved.target] > 0
            pose = Pose(np.nan_to_num(moved.xy[moved.target]), labelled.astype(np.float32), moved.skeleton)
            drawn, said = draw_pose(picture, pose, threshold=0.5), f"{labelled.sum()} joints"
        tiles += [picture, drawn]
        captions += [sample.photo.name, said]
    columns = 2 * max(1, round(np.sqrt(len(tiles) / 4)))
    return sheet(tiles, captions, columns=min(columns, len(tiles)), tile=TILE) if tiles else None

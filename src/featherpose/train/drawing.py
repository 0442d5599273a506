"""MoveNet's target maps of a whole batch, drawn on the device that learns from them.

What `MoveNetCodec.encode` draws picture by picture costs a CPU more than the augmentation, and the maps are ten times as
large as the picture. Here a loader only gives `MoveNetCodec.outline`, and the maps are made of that by torch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from featherpose.codecs.movenet import CUT_EXPONENT, MoveNetCodec

PREFIX = "people_"
"""What the names of an outline's arrays begin with."""


class MapDrawer:
    """The maps of `MoveNetCodec.encode`, without a teacher's, for outlines stacked along a first axis.

    send: takes arrays by name, gives tensors on the device.
    """

    def __init__(self, codec: MoveNetCodec, send: Callable[[dict[str, np.ndarray]], dict[str, Tensor]]) -> None:
        self.codec, self.send = codec, send

    def __call__(self, outlines: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """outlines: as `MoveNetCodec.outline` gives them, (B, ...). Maps (B, ...) float32 as of `encode`."""
        facts, ranks = self._facts({name.removeprefix(PREFIX): value for name, value in outlines.items()})
        batch = len(outlines[PREFIX + "unknown"])
        (width, height), joints = self.codec.grid, self.codec.joints
        t = self.send(facts)
        device = t["unknown"].device
        weight = (~t["unknown"]).float()[:, :, None, None].repeat(1, 1, height, width)
        center_weight = torch.ones(batch, 1, height, width, device=device)
        for which, name in ranks:
            where, region = t[f"{name}_{which}_of"], t[f"{name}_{which}_region"]
            inside = self._in_regions(region)[:, None]
            if name == "ignored":
                center_weight[where] = center_weight[where] * ~inside
                most = torch.zeros(len(where), joints, 1, 1, device=device)
            else:
                most = t[f"{name}_{which}_most"][:, :, None, None]
            weight[where] = torch.minimum(weight[where], torch.where(inside, most, 1.0))
        center, center_weight = self._curves(
            center_weight, t["person_of"], t["middle"], self.codec.center_sigma * t["sigma"], t["surest"]
        )
        channel = t["point_of"] * joints + t["point_joint"]
        heatmap, weight = self._curves(weight, channel, t["point"], t["point_sigma"], t["point_trust"])
        regression, regression_weight = self._regression(t, batch)
        offset, offset_weight = self._offset(channel, t["point"], t["point_trust"], batch)
        return {
            "center": center, "center_weight": center_weight, "heatmap": heatmap, "heatmap_weight": weight,
            "regression": regression, "regression_weight": regression_weight, "offset": offset, "offset_weight": offset_weight,
        }  # fmt: skip

    def _facts(self, o: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[tuple[int, str]]]:
        """People and joints of the batch in a row; and which regions there are: one of each picture at a time."""
        picture, person = np.nonzero(o["inside"].any(axis=2))
        inside = o["inside"][picture, person]  # (M, K)
        trust = o["trust"][picture, person]
        who, joint = np.nonzero(inside)
        cells, sigma = o["cells"][picture, person], o["sigma"][picture, person]
        facts = {
            "unknown": o["unknown"], "person_of": picture, "middle": o["middle"][picture, person], "sigma": sigma,
            "surest": np.where(inside, trust, 0).max(axis=1, initial=0), "cells": np.nan_to_num(cells), "trust": trust,
            "point_of": picture[who], "point_joint": joint, "point": cells[who, joint], "point_sigma": sigma[who],
            "point_trust": trust[who, joint],
        }  # fmt: skip
        ranks = []
        for name in ("ignored", "region"):
            box = o[name]
            filled = (box[..., 2:] > box[..., :2]).all(axis=2)
            for which in np.flatnonzero(filled.any(axis=0)):
                where = np.flatnonzero(filled[:, which])
                facts[f"{name}_{which}_of"] = where
                facts[f"{name}_{which}_region"] = box[where, which]
                if name == "region":
                    facts[f"{name}_{which}_most"] = o["most"][where, which]
                ranks.append((int(which), name))
        return facts, ranks

    def _in_regions(self, box: Tensor) -> Tensor:
        """(N, H, W) bool: the cells inside boxes (N, 4), x1, y1, x2, y2 in whole cells."""
        width, height = self.codec.grid
        columns, rows = (torch.arange(n, device=box.device) for n in (width, height))
        x1, y1, x2, y2 = (v[:, None] for v in box.unbind(dim=1))
        return ((rows >= y1) & (rows < y2))[:, :, None] & ((columns >= x1) & (columns < x2))[:, None, :]

    def _around(self, channel: Tensor, points: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The squares of cells around points (N, 2): columns and rows (N, S), numbers (N, S, S) in a flat stack of maps, 0
        for those outside the grid, and whether they are inside."""
        width, height = self.codec.grid
        steps = torch.arange(-reach, reach + 1, device=points.device)
        cell = points.floor().long()
        columns, rows = cell[:, :1] + steps, cell[:, 1:] + steps
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        place = (channel[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
        return columns, rows, torch.where(inside, place, 0), inside

    def _curves(
        self, weight: Tensor, channel: Tensor, points: Tensor, sigma: Tensor, trust: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A curve at each of N points in its channel of the flat stack, and the weight: its trust under the highest curve."""
        gaussian = self.codec.curve == "gaussian"
        ends = (2 * CUT_EXPONENT) ** 0.5 if gaussian else CUT_EXPONENT
        widest = self.codec.sigma_range[1] * max(1.0, self.codec.center_sigma)  # known without asking the device
        columns, rows, place, inside = self._around(channel, points, int(np.ceil(widest * ends)))
        peak = points - 0.5 if self.codec.subcell else points.floor()
        squared = ((columns - peak[:, :1]) ** 2)[:, None, :] + ((rows - peak[:, 1:]) ** 2)[:, :, None]
        wide = sigma[:, None, None]
        exponent = squared / (2 * wide**2) if gaussian else squared.sqrt() / wide
        drawn = (exponent <= CUT_EXPONENT) & inside
        value = torch.where(drawn, (-exponent).exp(), 0).flatten()
        place = place.flatten()
        map_ = torch.zeros(weight.numel(), device=weight.device).scatter_reduce_(0, place, value, "amax")
        if len(points) == 0:
            return map_.view_as(weight), weight
        highest = drawn.flatten() & (value == map_[place])
        owner = self._last(place, highest, inside.shape, weight.numel()).view_as(weight)
        return map_.view_as(weight), torch.where(owner >= 0, trust[owner.clamp_min(0)], weight)

    def _last(self, place: Tensor, won: Tensor, shape: torch.Size, cells: int) -> Tensor:
        """(cells,) the number of the last of the points (N, S, S) that won there; -1 for none."""
        numbers = torch.arange(shape[0], device=place.device)[:, None, None].expand(shape).flatten()
        owner = torch.full((cells,), -1, device=place.device)
        return owner.scatter_reduce_(0, place, torch.where(won, numbers, -1), "amax")

    def _owners(self, channel: Tensor, points: Tensor, reach: int, maps: int) -> Tensor:
        """(maps, H, W) the number of the point that owns each cell near one, the nearest to its middle; -1 for none."""
        width, height = self.codec.grid
        columns, rows, place, inside = self._around(channel, points, reach)
        away = ((columns + 0.5 - points[:, :1]) ** 2)[:, None, :] + ((rows + 0.5 - points[:, 1:]) ** 2)[:, :, None]
        away, place = torch.where(inside, away, torch.inf).flatten(), place.flatten()
        least = torch.full((maps * height * width,), torch.inf, device=points.device)
        least.scatter_reduce_(0, place, away, "amin")
        nearest = inside.flatten() & (away == least[place])
        return self._last(place, nearest, inside.shape, len(least)).view(maps, height, width)

    def _corners(self, device: torch.device) -> Tensor:
        """(H, W, 2) column and row of each cell."""
        width, height = self.codec.grid
        rows, columns = torch.meshgrid(*(torch.arange(n, device=device) for n in (height, width)), indexing="ij")
        return torch.stack([columns, rows], dim=2)

    def _nothing(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Ways and weights where nobody is."""
        weight = torch.zeros(batch, self.codec.joints, *self.codec.grid[::-1], device=device)
        return weight[:, :, None].repeat(1, 1, 2, 1, 1), weight

    def _regression(self, t: dict[str, Tensor], batch: int) -> tuple[Tensor, Tensor]:
        owner = self._owners(t["person_of"], t["middle"], self.codec.regression_radius, batch)
        some = (owner >= 0)[..., None]
        number = owner.clamp_min(0)
        if len(t["cells"]) == 0:
            return self._nothing(batch, owner.device)
        way = t["cells"][number] - 0.5 - self._corners(owner.device)[:, :, None]  # (B, H, W, K, 2)
        way = torch.where(some[..., None], way, 0).permute(0, 3, 4, 1, 2).contiguous()
        return way, torch.where(some, t["trust"][number], 0).permute(0, 3, 1, 2).contiguous()

    def _offset(self, channel: Tensor, points: Tensor, trust: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        joints = self.codec.joints
        owner = self._owners(channel, points, self.codec.offset_radius, batch * joints).unflatten(0, (batch, joints))
        some, number = owner >= 0, owner.clamp_min(0)
        if len(points) == 0:
            return self._nothing(batch, owner.device)
        corners = self._corners(owner.device).permute(2, 0, 1)
        way = torch.stack([points[:, axis][number] - corners[axis] for axis in (0, 1)], dim=2)  # (B, K, 2, H, W)
        return torch.where(some[:, :, None], way, 0), torch.where(some, trust[number], 0)

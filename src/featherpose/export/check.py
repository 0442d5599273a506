"""The gate at the end of every export: the file must find the joints that torch finds.

Raw numbers that differ by a rounding error mean nothing by themselves, and a small one may decide an argmax: so joints
are compared. A joint agrees when it lies within JOINT_LIMIT of torch's. Where several cells are equally good to torch,
rounding may choose any of them, so each one's joint is right; such joints are counted as ties. Equally good means:
weighted values closer than the network's own rounding, which is measured in torch alone (float32 against float64), so
that a wrong graph cannot widen it. Everything else is a disagreement, and one is enough to refuse.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from featherpose.codecs import build_codec
from featherpose.codecs.movenet import MAPS, MoveNetCodec
from featherpose.export.graph import Decoder, planes
from featherpose.runtime.backends import Backend

JOINT_LIMIT = 0.05
"""Input pixels. Rounding moves joints by about .0001 px, a wrong graph by whole pixels."""
SCORE_LIMIT = 1e-3
"""Scores in [0, 1]; rounding changes them by about 1e-6."""
TIE_RANGE = (1e-5, 1e-3)
"""Relative difference of two weighted values that may count as none, at least and at most."""
TIE_FACTOR = 8
"""Times the largest rounding seen at a maximum: two cells round apart, two libraries sum in other orders. A guess."""
ROUNDING_PICTURES = 4
BATCH = 4


@dataclass(frozen=True)
class Parity:
    """How far an exported file and torch are apart."""

    source: str
    """What the pictures were: "photos" or "synthetic scenes"."""
    pictures: int
    joints: int
    moved: int
    """Joints that disagree."""
    ties: int
    """Joints that agree in another of torch's equally good cells."""
    tie: float
    """Relative difference of weighted values below which cells count as equally good."""
    max_joint_px: float
    """Largest deviation of a joint in input pixels, of ties from the cell they took."""
    max_score: float
    """Largest difference of a joint's or a pose's score."""
    max_map: dict[str, float] = field(default_factory=dict)
    """Largest absolute difference per map, for files that give maps."""

    @property
    def agrees(self) -> bool:
        return self.moved == 0 and self.max_score <= SCORE_LIMIT

    def to_dict(self) -> dict:
        """Plain numbers, for a model's provenance."""
        return {
            "source": self.source,
            "pictures": self.pictures,
            "joints": self.joints,
            "moved": self.moved,
            "ties": self.ties,
            "tie": _short(self.tie),
            "max_joint_px": _short(self.max_joint_px),
            "max_score": _short(self.max_score),
            "max_map": {name: _short(value) for name, value in self.max_map.items()},
            "limits": {"joint_px": JOINT_LIMIT, "score": SCORE_LIMIT},
        }

    def __str__(self) -> str:
        return (
            f"{self.moved} of {self.joints} joints moved on {self.pictures} pictures ({self.source}), "
            f"largest deviation {self.max_joint_px:.2g} px and {self.max_score:.2g} in score, {self.ties} ties"
        )


def _short(value: float) -> float:
    return float(f"{value:.3g}")


@torch.no_grad()
def compare(network: nn.Module, backend: Backend, images: np.ndarray, *, source: str = "photos") -> Parity:
    """Runs pictures through torch and through an exported file: the first alone, the others in small batches.

    network: in torch, as it was before the export; it is run in evaluation mode. images: (N, H, W, 3) uint8 RGB at the
    model's input size. source: what the pictures are, for the report.
    """
    spec = backend.spec
    codec = build_codec(spec.codec, spec.input_size, len(spec.skeleton))
    decoder = Decoder(codec)
    was_training = network.training
    network.eval()
    deviations, flips, scores = [], [], []
    max_map = dict.fromkeys(MAPS, 0.0) if spec.outputs == "raw" else {}
    try:
        tie = float(np.clip(TIE_FACTOR * rounding(network, decoder, images[:ROUNDING_PICTURES]), *TIE_RANGE))
        for start, stop in _parts(len(images)):
            maps = network(planes(torch.from_numpy(images[start:stop])))
            outputs = backend.run(images[start:stop])
            for name in max_map:
                max_map[name] = max(max_map[name], float(np.abs(outputs[name] - maps[name].numpy()).max()))
            found, pose_score = _joints_of(outputs, codec)
            for b in range(stop - start):
                one = {name: maps[name][b : b + 1] for name in MAPS}
                distance, flipped, score = _deviation(decoder, one, found[b], pose_score[b], tie)
                deviations.append(distance), flips.append(flipped), scores.append(score)
    finally:
        network.train(was_training)
    deviation, flip = np.stack(deviations), np.stack(flips)  # (N, K) each
    moved = ~(deviation <= JOINT_LIMIT)  # written so that NaN counts as moved
    return Parity(
        source=source,
        pictures=len(images),
        joints=deviation.size,
        moved=int(moved.sum()),
        ties=int((flip & ~moved).sum()),
        tie=tie,
        max_joint_px=float(deviation.max()),
        max_score=float(np.max(scores)),
        max_map=max_map,
    )


@torch.no_grad()
def rounding(network: nn.Module, decoder: Decoder, images: np.ndarray) -> float:
    """Largest relative difference of float32 and float64 in what decides the argmaxes: the weighted maps' maxima."""
    picture = planes(torch.from_numpy(images))
    single, double = network(picture), copy.deepcopy(network).double()(picture.double())
    center, center64 = decoder.weighted_center(single), decoder.weighted_center(double)  # (B, H * W)
    middle = center.argmax(dim=1, keepdim=True)
    heatmap, heatmap64 = (
        decoder.weighted_heatmap(single, middle),
        decoder.weighted_heatmap(double, middle),
    )  # (B, K, H * W)
    cell = heatmap.argmax(dim=2, keepdim=True)
    of_center = (center.gather(1, middle) / center64.gather(1, middle) - 1).abs().max()
    of_heatmap = (heatmap.gather(2, cell) / heatmap64.gather(2, cell) - 1).abs().max()
    return float(torch.maximum(of_center, of_heatmap).nan_to_num(0))


def _parts(count: int) -> Iterator[tuple[int, int]]:
    yield 0, 1
    for start in range(1, count, BATCH):
        yield start, min(start + BATCH, count)


def _joints_of(outputs: dict[str, np.ndarray], codec: MoveNetCodec) -> tuple[np.ndarray, np.ndarray]:
    """(B, K, 3) x, y in input pixels and score, (B,) pose score: of a file with the decoding inside or not."""
    if "joints" in outputs:
        return outputs["joints"], outputs["pose_score"]
    xy, score, pose_score = codec.decode_batch(outputs)
    return np.concatenate([xy, score[:, :, None]], axis=2), pose_score


def _deviation(
    decoder: Decoder, maps: dict[str, Tensor], found: np.ndarray, pose_score: float, tie: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of one picture: distance of each joint to torch's (K,) px, which took a tied cell (K,), largest score difference.

    maps: torch's, with B = 1. found: (K, 3) x, y in input pixels and score.
    """
    joints = len(found)
    distance, flipped = np.full(joints, np.inf), np.zeros(joints, bool)
    score_difference = np.full(joints + 1, np.inf)
    for rank, middle in enumerate(_best(decoder.weighted_center(maps)[0], tie)):
        expected_pose_score = float(maps["center"].flatten()[middle])
        score_difference[-1] = min(score_difference[-1], abs(expected_pose_score - float(pose_score)))
        weighted = decoder.weighted_heatmap(maps, torch.tensor([[middle]]))[0]  # (K, H * W)
        best = [_best(values, tie) for values in weighted]
        for tied in range(max(len(cells) for cells in best)):
            cell = torch.tensor([[[cells[min(tied, len(cells) - 1)]] for cells in best]])  # (1, K, 1)
            xy = decoder.xy(maps, cell)[0].numpy()
            score = maps["heatmap"].flatten(2).gather(2, cell)[0, :, 0].numpy()
            candidate = np.linalg.norm(found[:, :2] - xy, axis=1)
            nearer = candidate < distance
            distance[nearer] = candidate[nearer]
            score_difference[:-1][nearer] = np.abs(found[:, 2] - score)[nearer]
            flipped[nearer] = rank > 0 or tied > 0
    finite = np.isfinite(found).all(axis=1)
    score_difference[:-1][~finite] = np.inf
    return distance, flipped, float(score_difference.max())


def _best(values: Tensor, tie: float) -> list[int]:
    """The cells (of a flat map) whose values are relatively within `tie` of the largest, the decoder's choice first."""
    top = int(values.argmax())
    near = torch.nonzero(values >= values[top] * (1 - tie))[:, 0].tolist()
    return [top, *(cell for cell in near if cell != top)]

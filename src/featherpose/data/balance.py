"""Pose-balanced sampling: poses are grouped by shape, and photos of rarer groups are drawn more often.

A k-means of our own: poses have missing joints, and neither where nor how large somebody stands in the photo may count.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherpose.data.sample import Sample
from featherpose.skeletons import Skeleton

GROUPS = 16
"""Groups of poses. A guess: enough to tell sitting, lying, bending and handstands from standing."""
LEAST_JOINTS = 6
"""A person with fewer labelled joints belongs to no group (with all of them where the skeleton has fewer)."""
PER_GROUP = 8
"""With fewer poses than this for each group there are fewer groups."""
ROUNDS, STARTS = 20, 3
"""Of each k-means, and of them; the best one counts."""
MOST = 8.0
"""No photo is drawn more than this many times as often as the average one: a group of a few wrong labels stays small."""


@dataclass(frozen=True)
class PoseGroups:
    """How the poses of N targets fall into G groups."""

    group: np.ndarray
    """(N,) int64: the group of each sample's target; -1 without a target or with too few labelled joints."""
    centre: np.ndarray
    """(G, K, 2) float64: the mean pose of each group, middle at 0, root mean square distance from it 1."""
    skeleton: Skeleton | None
    """Of the K joints; None without samples."""

    @property
    def count(self) -> np.ndarray:
        """(G,) samples in each group."""
        return np.bincount(self.group[self.group >= 0], minlength=len(self.centre))


def group_poses(samples: list[Sample], *, groups: int = GROUPS, seed: int = 0) -> PoseGroups:
    """The targets' poses in at most `groups` groups, the largest first; the same for the same samples and seed.

    Two poses are as far apart as what is left when one is moved and scaled onto the other over the joints that both have,
    in shares of the other: 0 for the same shape, 1 for nothing in common. A rotation counts (lying is not standing),
    mirroring does not, as pictures are mirrored in training. ValueError unless groups is positive.
    """
    if groups < 1:
        raise ValueError(f"the number of pose groups must be at least 1, got {groups}")
    if not samples:
        return PoseGroups(np.zeros(0, np.int64), np.zeros((0, 0, 2)), None)
    skeleton = samples[0].skeleton
    xy = np.stack([_target(sample, len(skeleton)) for sample in samples])
    known = np.isfinite(xy).all(axis=2)
    poses, spread = _normalised(xy, known)
    usable = np.flatnonzero((known.sum(axis=1) >= min(LEAST_JOINTS, len(skeleton))) & (spread > 0))
    group = np.full(len(samples), -1, np.int64)
    wanted = min(groups, max(1, len(usable) // PER_GROUP))
    if len(usable) == 0:
        return PoseGroups(group, np.zeros((0, len(skeleton), 2)), skeleton)
    poses, known = poses[usable], known[usable]
    order = skeleton.flip_index()
    mirrored = poses[:, order] * (-1, 1), known[:, order]
    rng = np.random.default_rng([seed, 0xBA1A])
    tries = [_k_means(poses, known, mirrored, wanted, rng) for _ in range(STARTS)]
    nearest, centre, _ = min(tries, key=lambda found: found[2])
    largest_first = np.argsort(-np.bincount(nearest, minlength=wanted), kind="stable")
    place = np.empty(wanted, np.int64)
    place[largest_first] = np.arange(wanted)
    group[usable] = place[nearest]
    centre = centre[largest_first]
    filled = np.bincount(group[usable], minlength=wanted) > 0
    return PoseGroups(group, centre[filled], skeleton)


def balanced_weights(groups: PoseGroups, balance: float) -> np.ndarray:
    """(N,) how often each sample is drawn in times the average, mean 1.

    balance: 0 draws all alike, 1 draws each group alike; between, a group of share s is drawn s^(1 - balance). Samples of no
    group are drawn as before, and none more than MOST times as often as the average.
    """
    weight = np.ones(len(groups.group))
    inside = groups.group >= 0
    if balance <= 0 or not inside.any():
        return weight
    weight[inside] = groups.count[groups.group[inside]] ** -float(balance)
    free = inside.copy()  # the others share what those at the limit leave
    total = inside.sum()
    for _ in range(len(groups.centre)):
        weight[free] *= (total - MOST * (inside & ~free).sum()) / weight[free].sum()
        over = free & (weight > MOST)
        if not over.any():
            break
        weight[over] = MOST
        free &= ~over
    return weight


def draw_weighted(weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) indices: index i comes floor or ceil of count * weight[i] / sum(weight) times (systematic sampling)."""
    order = rng.permutation(len(weight))
    steps = np.cumsum(weight[order] / weight.sum() * count)
    steps[-1] = count
    return order[np.searchsorted(steps, np.arange(count) + rng.uniform(), side="right").clip(max=len(weight) - 1)]


def _k_means(
    poses: np.ndarray, known: np.ndarray, mirrored: tuple, wanted: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """(N,) groups, (wanted, K, 2) centres and the mean distance, from one random start."""
    centre = _first_centres(poses, known, mirrored, wanted, rng)
    for _ in range(ROUNDS):
        distance, flipped = _distances(poses, known, mirrored, centre)
        nearest = distance.argmin(axis=1)
        turned = flipped[np.arange(len(poses)), nearest]
        faced = np.where(turned[:, None, None], mirrored[0], poses)
        faced_known = np.where(turned[:, None], mirrored[1], known)
        farthest = iter(np.argsort(-distance.min(axis=1), kind="stable"))
        moved = centre.copy()
        for g in range(wanted):
            mine = nearest == g
            if not mine.any():  # begins anew at the pose that is worst off
                mine = np.arange(len(poses)) == next(farthest)
            moved[g] = _mean_pose(faced[mine], faced_known[mine], centre[g])
        settled = np.abs(moved - centre).max() < 1e-4
        centre = moved
        if settled:
            break
    distance = _distances(poses, known, mirrored, centre)[0]
    return distance.argmin(axis=1), centre, float(distance.min(axis=1).mean())


def _target(sample: Sample, joints: int) -> np.ndarray:
    if sample.target < 0:
        return np.full((joints, 2), np.nan)
    return np.where(sample.visibility[sample.target][:, None] > 0, sample.xy[sample.target], np.nan).astype(np.float64)


def _normalised(xy: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) poses with their middle at 0 and unit spread, 0 where unknown; and (N,) their spreads before."""
    count = np.maximum(known.sum(axis=1), 1)[:, None]
    values = np.where(known[..., None], xy, 0.0)
    values = np.where(known[..., None], values - (values.sum(axis=1) / count)[:, None], 0.0)
    spread = np.sqrt((values**2).sum(axis=(1, 2)) / count[:, 0])
    return values / np.where(spread > 0, spread, 1)[:, None, None], spread


def _distance(poses: np.ndarray, known: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(N, G): 1 - cos^2 between each pose and each centre seen through its known joints, 1 where they point apart."""
    mask = known.astype(np.float64)
    count = mask.sum(axis=1)[:, None]
    product = poses.reshape(len(poses), -1) @ centre.reshape(len(centre), -1).T
    mean = np.einsum("nk,gkc->ngc", mask, centre) / count[..., None]
    size = mask @ (centre**2).sum(axis=2).T - count * (mean**2).sum(axis=2)  # of the centres, over these joints
    own = (poses**2).sum(axis=(1, 2))[:, None]
    return 1 - np.clip(product, 0, None) ** 2 / np.maximum(own * size, 1e-12)


def _distances(poses: np.ndarray, known: np.ndarray, mirrored: tuple, centre: np.ndarray) -> tuple:
    """(N, G) distances, the smaller of the pose's and its mirror image's, and (N, G) whether that was the mirror image."""
    straight, turned = _distance(poses, known, centre), _distance(*mirrored, centre)
    return np.minimum(straight, turned), turned < straight


def _aligned(poses: np.ndarray, known: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(N, K, 2) poses moved and scaled onto one centre over their known joints; 0 where unknown."""
    mask = known[..., None].astype(np.float64)
    count = mask.sum(axis=1)
    seen = centre * mask
    mean = seen.sum(axis=1) / count
    scale = (poses * seen).sum(axis=(1, 2)) / (poses**2).sum(axis=(1, 2))
    return mask * (poses * np.clip(scale, 0, None)[:, None, None] + mean[:, None])


def _mean_pose(poses: np.ndarray, known: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The mean of a group's poses, laid onto its centre so far, which stays where nobody of the group has the joint."""
    count = known.sum(axis=0)[:, None]
    mean = _aligned(poses, known, centre).sum(axis=0) / np.maximum(count, 1)
    mean = np.where(count > 0, mean, centre)
    return _normalised(mean[None], np.ones((1, len(mean)), bool))[0][0]


def _first_centres(
    poses: np.ndarray, known: np.ndarray, mirrored: tuple, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """Poses far from each other (k-means++, Arthur and Vassilvitskii 2007), gaps filled from the mean of all."""
    usual = _mean_pose(poses, known, poses.sum(axis=0) / np.maximum(known.sum(axis=0), 1)[:, None])
    centres: list[np.ndarray] = []
    distance = np.ones(len(poses))
    for _ in range(wanted):
        total = distance.sum()  # a distance is a squared one already
        chosen = int(rng.choice(len(poses), p=distance / total if total > 0 else None))
        mask = known[chosen][:, None]
        frame = _aligned(poses[[chosen]], known[[chosen]], usual)[0]
        centre = _normalised(np.where(mask, frame, usual)[None], np.ones((1, len(usual)), bool))[0][0]
        centres.append(centre)
        distance = np.minimum(distance, _distances(poses, known, mirrored, centre[None])[0][:, 0].clip(0))
    return np.stack(centres)


# --- the report -----------------------------------------------------------------------------------------------------


def balance_report(groups: PoseGroups, balance: float) -> dict:
    """Plain numbers for JSON: photos of each group and of none, and their shares of an epoch before and after."""
    weight = balanced_weights(groups, balance)
    total = max(len(groups.group), 1)
    rows = [
        {
            "group": int(g),
            "photos": int((groups.group == g).sum()),
            "share_before": round(float((groups.group == g).sum() / total), 6),
            "share_after": round(float(weight[groups.group == g].sum() / total), 6),
            "times": round(float(weight[groups.group == g].mean()), 4),
        }
        for g in range(len(groups.centre))
    ]
    alone = int((groups.group < 0).sum())
    return {"balance": balance, "photos": len(groups.group), "without_group": alone, "groups": rows}


def plot_balance(groups: PoseGroups, report: dict, path: Path, *, title: str) -> None:
    """A PNG: each group's share of an epoch before and after, and below it the group's mean pose. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from featherpose.runtime.report import write_whole

    rows = report["groups"]
    columns = min(8, max(len(rows), 1))
    lines = max(1, -(-len(rows) // columns))
    figure = Figure(figsize=(11, 3.2 + 1.6 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[2.2, *[1.3] * lines])
    axes = figure.add_subplot(grid[0, :])
    place = np.arange(len(rows))
    axes.bar(place - 0.2, [row["share_before"] for row in rows], 0.4, color="#999999", label="before")
    after = f"balance = {report['balance']:g}"
    axes.bar(place + 0.2, [row["share_after"] for row in rows], 0.4, color="#0072b2", label=after)
    axes.set(title=title, xlabel="group of poses", ylabel="share of an epoch", xticks=place)
    axes.legend(frameon=False)
    for row, centre in zip(rows, groups.centre, strict=True):
        axes = figure.add_subplot(grid[1 + row["group"] // columns, row["group"] % columns])
        for a, b in groups.skeleton.bone_index():
            axes.plot(*centre[[a, b]].T, color="#0072b2", linewidth=1.5)
        axes.plot(*centre.T, ".", color="#d55e00", markersize=3)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_axis_off()
        axes.set_title(f"{row['group']}: {row['photos']} photos, x {row['times']:.2f}", fontsize=8)
    write_whole(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100))

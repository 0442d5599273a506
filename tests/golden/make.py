"""Writes the golden vectors of README.md in this folder: `python tests/golden/make.py`.

The expected joints come from `naive_decode`, which follows the published formula one cell at a time in Python floats
and shares no code with the package.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
MARGIN = 1e-4
"""How much better, relatively, the best cell must be than the next one: a decoder in float32 cannot tell less apart."""


def naive_decode(maps, stride, focus_xy=None, softening=1.8, vote_radius=0, refine="offset", center_softening=0):
    """Joints (K lists of x, y), their scores, the pose score, and by what share each choice of a cell was clear.

    maps: nested lists or arrays, center (1, H, W), heatmap (K, H, W), regression and offset (K, 2, H, W), x before y.
    """
    center, heatmap = np.asarray(maps["center"])[0].tolist(), np.asarray(maps["heatmap"]).tolist()
    regression, offset = np.asarray(maps["regression"]).tolist(), np.asarray(maps["offset"]).tolist()
    height, width = len(center), len(center[0])
    if focus_xy is None:
        focus = (width / 2, height / 2, center_softening or softening)
    else:
        focus = (focus_xy[0] / stride, focus_xy[1] / stride, softening)

    def best(values, x, y, softening=softening):
        """The cell with the largest value / (distance + softening), the first one of equals, and its lead."""
        cells = [
            (values[row][column] / (math.sqrt((row - y) ** 2 + (column - x) ** 2) + softening), row, column)
            for row in range(height)
            for column in range(width)
        ]
        first = max(cells, key=lambda cell: cell[0])
        second = max((cell for cell in cells if cell is not first), key=lambda cell: cell[0])
        return first[1], first[2], (first[0] - second[0]) / max(abs(first[0]), 1e-30)

    def top(values, row, column, axis):
        """From a cell's corner to the top of the parabola through the logarithms of three cells in x (0) or y (1)."""
        place, length = (column, width) if axis == 0 else (row, height)
        if not 0 < place < length - 1:
            return 0.5
        cells = [(row, column + by) if axis == 0 else (row + by, column) for by in (-1, 0, 1)]
        a, b, c = (math.log(max(values[i][j], 1e-6)) for i, j in cells)
        bend = 2 * b - a - c
        return 0.5 if bend < 1e-3 else 0.5 + max(-1, min(1, (c - a) / (2 * bend)))

    row, column, lead = best(center, *focus)
    leads, xy, score = [lead], [], []
    for k in range(len(heatmap)):
        x = regression[k][0][row][column] + column
        y = regression[k][1][row][column] + row
        i, j, lead = best(heatmap[k], x, y)
        leads.append(lead)
        score.append(heatmap[k][i][j])
        if refine == "dark":
            xy.append([(j + top(heatmap[k], i, j, 0)) * stride, (i + top(heatmap[k], i, j, 1)) * stride])
            continue
        votes = []  # weight, x, y
        for row_ in range(max(0, i - vote_radius), min(height, i + vote_radius + 1)):
            for column_ in range(max(0, j - vote_radius), min(width, j + vote_radius + 1)):
                weight = heatmap[k][row_][column_] ** 2 + 1e-12 if vote_radius else 1
                votes.append((weight, column_ + offset[k][0][row_][column_], row_ + offset[k][1][row_][column_]))
        total = sum(vote[0] for vote in votes)
        xy.append([sum(vote[0] * vote[axis] for vote in votes) / total * stride for axis in (1, 2)])
    return xy, score, center[row][column], min(leads)


def noise(rng, joints, width, height):
    """Maps without any structure: every rule of the decoding decides something."""
    return {
        "center": rng.random((1, height, width)),
        "heatmap": rng.random((joints, height, width)),
        "regression": rng.normal(0, 5, (joints, 2, height, width)),
        "offset": rng.normal(0.5, 0.4, (joints, 2, height, width)),
    }


def peaks(rng, joints, width, height):
    """Two people, one in each half, with smooth peaks as a network gives them."""
    rows, columns = np.indices((height, width))
    maps = {name: 0 * values for name, values in noise(rng, joints, width, height).items()}
    maps["offset"] = rng.random((joints, 2, height, width))
    for person in range(2):
        middle = np.array([width * (0.3 + 0.4 * person), height * 0.5]) + rng.normal(0, 0.5, 2)
        bump = rng.uniform(0.7, 0.95) * np.exp(-((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2) / 6)
        maps["center"][0] = np.maximum(maps["center"][0], bump)
        near = (columns < width / 2) == (person == 0)
        for k in range(joints):
            joint = np.clip(middle + rng.normal(0, 2.5, 2), 0, (width - 1, height - 1))
            bump = rng.uniform(0.3, 1) * np.exp(-((columns - joint[0]) ** 2 + (rows - joint[1]) ** 2) / 3)
            maps["heatmap"][k] = np.maximum(maps["heatmap"][k], bump)
            maps["regression"][k, 0][near] = (joint[0] - columns)[near]
            maps["regression"][k, 1][near] = (joint[1] - rows)[near]
    maps["regression"] += rng.normal(0, 0.3, maps["regression"].shape)
    return maps


def outside(rng, joints, width, height):
    """Regression points far out of the picture, on all sides."""
    maps = noise(rng, joints, width, height)
    maps["regression"] *= 10
    return maps


def flat(rng, joints, width, height):
    """Heatmaps of one value: the nearest cell to the expected place wins, scores are equal."""
    maps = noise(rng, joints, width, height)
    maps["heatmap"][:] = 0.25
    return maps


CASES = (
    # name, maker, joints, (width, height) in cells, stride, focus in input pixels or None, radius of votes and refine if any
    ("noise, 3 joints", noise, 3, (12, 12), 4, None),
    ("noise, focus at the top left", noise, 3, (12, 12), 4, (0.0, 0.0)),
    ("noise, wide grid, stride 8", noise, 3, (16, 8), 8, None),
    ("noise, high grid, focus outside the picture", noise, 3, (8, 16), 4, (-20.0, 70.5)),
    ("two people, the left one", peaks, 3, (12, 12), 4, (10.0, 24.0)),
    ("two people, the right one", peaks, 3, (12, 12), 4, (38.0, 24.0)),
    ("regression outside the picture", outside, 3, (12, 12), 4, None),
    ("flat heatmaps", flat, 3, (12, 12), 4, None),
    ("one joint, one cell high", noise, 1, (12, 1), 4, None),
    ("two people, 17 joints", peaks, 17, (12, 12), 4, (14.0, 24.0)),
    ("noise, 17 joints", noise, 17, (12, 12), 4, None),
    ("noise, votes of 9 cells", noise, 3, (12, 12), 4, None, 1),
    ("two people, votes of 25 cells", peaks, 3, (12, 12), 4, None, 2),
    ("votes at the rim of the picture", outside, 3, (12, 10), 8, None, 2),
    ("noise, tops of the heatmap", noise, 3, (12, 12), 4, None, 0, "dark"),
    ("two people, tops of the heatmap", peaks, 3, (12, 12), 4, None, 0, "dark"),
    ("tops at the rim of the picture", outside, 5, (10, 12), 8, None, 0, "dark"),
    ("flat heatmaps have no tops", flat, 3, (12, 12), 4, (10.0, 24.0), 0, "dark"),
    ("distances count less", noise, 3, (12, 12), 4, None, 1, "offset", 0, 4.0),
    ("as the bundled models decode", noise, 3, (12, 12), 4, None, 1, "offset", 16, 4.0),
    ("the middle counts little", noise, 3, (12, 12), 4, None, 1, "offset", 16),
    ("the middle counts little, a focus as ever", noise, 3, (12, 12), 4, (6.0, 40.0), 1, "offset", 16),
)


def make_case(name, maker, joints, size, stride, focus_xy, vote_radius=0, refine="offset", center_softening=0, softening=1.8):
    """One case, drawn anew until no choice of a cell is close."""
    width, height = size
    for attempt in range(1000):
        rng = np.random.default_rng([len(name), joints, width, height, attempt])
        maps = {key: values.round(3) for key, values in maker(rng, joints, width, height).items()}
        xy, score, pose_score, lead = naive_decode(
            maps, stride, focus_xy, softening, vote_radius, refine, center_softening
        )
        if lead > MARGIN:
            break
    else:
        raise SystemExit(f"case '{name}': no clear choice in 1000 attempts")
    return {
        "name": name,
        "joints": joints,
        "grid_wh": [width, height],
        "stride": stride,
        "softening": softening,
        "center_softening": center_softening,
        "vote_radius": vote_radius,
        "refine": refine,
        "focus_xy": focus_xy,
        "maps": {key: [_short(v) for v in values.ravel().tolist()] for key, values in maps.items()},
        "expected": {
            "xy": [[round(v, 6) for v in point] for point in xy],
            "score": score,
            "pose_score": pose_score,
        },
    }


def _short(value):
    return int(value) if value == int(value) else value


def main():
    cases = [make_case(*case) for case in CASES]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (FOLDER / "movenet_decode.json").write_text(
        f'{{"system":"movenet","version":1,"tolerance":1e-3,"cases":[\n{lines}\n]}}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    main()

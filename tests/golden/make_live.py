"""Writes smart_crop.json, one_euro.json and warp.json: `python tests/golden/make_live.py`. README.md describes them.

As in make.py, the expected values come from plain code that shares nothing with the package: one number at a time, from
the published formulas.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


# --- smart crop -------------------------------------------------------------------------------------------------------

BODY = {
    "nose": (0, -70), "left_shoulder": (18, -50), "right_shoulder": (-18, -50), "left_wrist": (45, -10),
    "right_wrist": (-40, -5), "left_hip": (12, 0), "right_hip": (-12, 0),
    "left_ankle": (14, 80), "right_ankle": (-15, 78),
}  # fmt: skip
"""Joints around the middle of the hips, pixels of a person about 150 high."""


def naive_smart_crop(xy, score, names, size_wh, threshold):
    """The square to look at next, from MoveNet's official demos, joint by joint."""
    width, height = size_wh
    longer = max(width, height)
    whole = [(width - longer) / 2, (height - longer) / 2, (width + longer) / 2, (height + longer) / 2]
    joint = {name: (x, y, s > threshold) for name, (x, y), s in zip(names, xy, score, strict=True)}
    shoulders, hips = ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")
    if all(name in joint for name in shoulders + hips):
        if not (any(joint[n][2] for n in shoulders) and any(joint[n][2] for n in hips)):
            return whole
        cx = (joint["left_hip"][0] + joint["right_hip"][0]) / 2
        cy = (joint["left_hip"][1] + joint["right_hip"][1]) / 2
        torso = max(max(abs(joint[n][0] - cx), abs(joint[n][1] - cy)) for n in shoulders + hips)
        around = 1.2
    else:
        seen = [(x, y) for x, y, counts in joint.values() if counts]
        if not seen or 2 * len(seen) < len(joint):
            return whole
        cx = (min(x for x, _ in seen) + max(x for x, _ in seen)) / 2
        cy = (min(y for _, y in seen) + max(y for _, y in seen)) / 2
        torso, around = 0.0, 2.0
    body = max(max(abs(x - cx), abs(y - cy)) for x, y, counts in joint.values() if counts)
    half = min(max(1.9 * torso, around * body), max(cx, cy, width - cx, height - cy))
    if half > longer / 2 or half < 4:
        return whole
    return [cx - half, cy - half, cx + half, cy + half]


def crop_case(name, size_wh, place, scale=1.0, hidden=(), names=tuple(BODY), threshold=0.2, spread=True):
    """A standing person with the middle of the hips at `place`; hidden joints have a score below the threshold."""
    xy = [
        [place[0] + scale * BODY[n.lower()][0] * spread, place[1] + scale * BODY[n.lower()][1] * spread] for n in names
    ]
    score = [0.1 if n in hidden else round(0.9 - 0.05 * k, 2) for k, n in enumerate(names)]
    return {
        "name": name,
        "joints": list(names),
        "size_wh": list(size_wh),
        "threshold": threshold,
        "xy": xy,
        "score": score,
        "expected": naive_smart_crop(xy, score, [n.lower() for n in names], size_wh, threshold),
    }


def smart_crop_cases():
    ankles, hips = ("left_ankle", "right_ankle"), ("left_hip", "right_hip")
    shoulders = ("left_shoulder", "right_shoulder")
    no_torso = tuple(n for n in BODY if n not in shoulders + hips)
    return [
        crop_case("the whole body", (640, 480), (300, 220)),
        crop_case("without ankles the torso decides", (640, 480), (300, 220), hidden=(*ankles, "nose")),
        crop_case("one hip and one shoulder are enough", (640, 480), (300, 220), hidden=(hips[0], shoulders[1])),
        crop_case("no hips: the whole frame", (640, 480), (300, 220), hidden=hips),
        crop_case("no shoulders: the whole frame", (480, 640), (300, 220), hidden=shoulders),
        crop_case("nobody: the whole frame", (640, 480), (300, 220), hidden=tuple(BODY)),
        crop_case("in a corner, outside on two sides", (640, 480), (10, 5)),
        crop_case("too large: the whole frame", (320, 240), (160, 120), scale=3.0),
        crop_case("held by the farthest border", (200, 260), (100, 130), scale=1.3),
        crop_case("all on one point: the whole frame", (640, 480), (300, 220), spread=False),
        crop_case("a higher threshold", (640, 480), (300, 220), threshold=0.72),
        crop_case("a skeleton without a torso", (640, 480), (300, 220), names=no_torso),
        crop_case("half of such a skeleton is not enough", (640, 480), (300, 220), names=no_torso, hidden=no_torso[:3]),
        crop_case("names in another spelling", (640, 480), (300, 220), names=tuple(n.title() for n in BODY)),
    ]


# --- One-Euro ---------------------------------------------------------------------------------------------------------

DEFAULTS = {
    "min_cutoff": 0.5, "beta": 48.0, "power": 2.0, "derivative_cutoff": 2.5, "limit": None, "joint_speed": True,
    "by_score": 1.0, "forget": 0.25,
}  # fmt: skip
"""Those of featherpose.runtime.one_euro."""


def naive_one_euro(frames, settings):
    """The filtered joints of every frame, one number at a time (Casiez, Roussel and Vogel, CHI 2012)."""

    def alpha(cutoff, dt):
        return 1 / (1 + 1 / (2 * math.pi * cutoff) / dt)  # equation 5: tau = 1 / (2 pi cutoff)

    state, last, answers = None, None, []
    for frame in frames:
        if state is None:
            state = [{"raw": list(p), "out": list(p), "speed": [0.0, 0.0], "seen": frame["t"]} for p in frame["xy"]]
            last = frame["t"]
        dt, size = frame["t"] - last, frame["size"]
        if dt > 0:
            last = frame["t"]
            for joint, point, score, seen in zip(state, frame["xy"], frame["score"], frame["seen"], strict=True):
                for axis in range(2):
                    a = alpha(settings["derivative_cutoff"], dt)
                    speed = (point[axis] - joint["raw"][axis]) / dt / size
                    joint["speed"][axis] = a * speed + (1 - a) * joint["speed"][axis]
                for axis in range(2):
                    pace = abs(joint["speed"][axis])
                    if settings["joint_speed"]:
                        pace = math.sqrt(joint["speed"][0] ** 2 + joint["speed"][1] ** 2)
                    cutoff = settings["min_cutoff"] + settings["beta"] * pace ** settings["power"]
                    cutoff *= max(min(score, 1.0), 0.001) ** settings["by_score"]
                    step = point[axis] - joint["out"][axis]
                    if settings["limit"] is not None:
                        longest = size * (settings["limit"][0] + settings["limit"][1] * pace)
                        step = math.copysign(longest * math.log(1 + abs(step) / longest), step)
                    joint["out"][axis] += alpha(cutoff, dt) * step
                if seen:
                    if frame["t"] - joint["seen"] > settings["forget"] + dt:
                        joint["out"], joint["speed"] = list(point), [0.0, 0.0]
                    joint["seen"] = frame["t"]
                joint["raw"] = list(point)
        answers.append([[round(v, 6) for v in joint["out"]] for joint in state])
    return answers


def one_euro_case(name, settings=None, frames=24, irregular=False, unseen=(), stops=()):
    """Three joints: one still with noise, one that swings, one that leaves and comes back elsewhere."""
    rng = np.random.default_rng(len(name))
    t, told = 0.0, []
    for i in range(frames):
        t += float(rng.uniform(0.01, 0.09)) if irregular else 1 / 30
        if i in stops:
            t = told[-1]["t"]
        noise = rng.normal(0, 1.5, (3, 2))
        xy = noise + np.array([[100, 80], [200 + 60 * math.sin(i / 3), 90], [300 + 80 * (i >= frames // 2), 100 + i]])
        told.append(
            {
                "t": round(t, 6),
                "size": round(140 + 2.5 * i, 3),
                "xy": xy.round(3).tolist(),
                "score": rng.uniform(0.2, 1, 3).round(3).tolist(),
                "seen": [True, i not in (5, 6), i not in unseen],
            }
        )
    settings = DEFAULTS | (settings or {})
    return {"name": name, "settings": settings, "frames": told, "expected": naive_one_euro(told, settings)}


def one_euro_cases():
    paper = {"min_cutoff": 2.0, "beta": 6.0, "power": 1.0, "by_score": 0.0}
    tfjs = {"min_cutoff": 2.5, "beta": 300.0, "power": 1.0, "limit": [0.5, 5.0], "joint_speed": False, "by_score": 0.0}
    return [
        one_euro_case("defaults"),
        one_euro_case("defaults, irregular times", irregular=True),
        one_euro_case("a joint unseen for long starts afresh", unseen=range(4, 18)),
        one_euro_case("a joint unseen for a moment does not", unseen=range(4, 8)),
        one_euro_case("a time that stands still", stops=(3, 9, 10)),
        one_euro_case("the filter of the paper", paper, irregular=True),
        one_euro_case("settings of tfjs", tfjs),
        one_euro_case("cut-off by score, strong limit", {"by_score": 1.5, "limit": [0.01, 0.2]}, irregular=True),
    ]


# --- warp -------------------------------------------------------------------------------------------------------------


def naive_warp(image, scale, x, y, out_wh):
    """Bilinear samples, zeros outside, of a picture that was halved by averages as often as the scale allows."""
    times = max(0, math.floor(math.log2(1 / scale) + 1e-6))
    height, width = image.shape[:2]
    pixel = 2**times
    low = []
    for shift in (x, y):
        whole = pixel * round(-shift / scale / pixel)  # a part of whole pixels is halved from where it begins
        low.append(whole - 2 * pixel if abs(whole + shift / scale) < 1e-6 else math.floor(-shift / scale) - 2)
    high = [math.ceil((out - shift) / scale) + 2 for out, shift in zip(out_wh, (x, y), strict=True)]
    left, top = (min(max(v, 0), size - 1) for v, size in zip(low, (width, height), strict=True))
    image = image[top : min(high[1], height), left : min(high[0], width)].astype(float)
    for _ in range(times):
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")
        image = np.floor((image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4 + 0.5)

    def pixel(column, row):
        inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
        return image[row, column] if inside else np.zeros(3)

    out = np.zeros((out_wh[1], out_wh[0], 3))
    for row in range(out_wh[1]):
        for column in range(out_wh[0]):
            u = ((column + 0.5 - x) / scale - left) / 2**times - 0.5
            v = ((row + 0.5 - y) / scale - top) / 2**times - 0.5
            i, j = math.floor(u), math.floor(v)
            upper = (1 - (u - i)) * pixel(i, j) + (u - i) * pixel(i + 1, j)
            lower = (1 - (u - i)) * pixel(i, j + 1) + (u - i) * pixel(i + 1, j + 1)
            out[row, column] = (1 - (v - j)) * upper + (v - j) * lower
    return np.floor(out + 0.5).astype(int)


def warp_case(name, size_wh, scale, x, y, out_wh=(8, 8)):
    """A smooth picture with a little noise: neighbours differ by few levels, as in photos."""
    width, height = size_wh
    rows, columns = np.indices((height, width))
    waves = [
        128 + 100 * np.sin(columns / a + c) * np.cos(rows / b - c) for c, (a, b) in enumerate(((5, 7), (9, 4), (6, 6)))
    ]
    noise = np.random.default_rng(len(name)).normal(0, 2, (height, width, 3))
    image = (np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)
    return {
        "name": name,
        "size_wh": list(size_wh),
        "map": {"scale": scale, "x": x, "y": y},
        "out_wh": list(out_wh),
        "image": image.ravel().tolist(),
        "expected": naive_warp(image, scale, x, y, out_wh).ravel().tolist(),
    }


def warp_cases():
    return [
        warp_case("as it is", (8, 8), 1.0, 0.0, 0.0),
        warp_case("moved by half a pixel", (10, 9), 1.0, -0.5, 0.5),
        warp_case("enlarged", (12, 10), 2.6, -9.3, -7.1),
        warp_case("shrunk a little, wide output", (20, 14), 0.62, 0.3, -0.4, (12, 8)),
        warp_case("shrunk to less than a half, odd sides", (31, 27), 0.41, -1.3, -0.7),
        warp_case("shrunk to a quarter exactly", (36, 32), 0.25, 0.0, 0.0),
        warp_case("shrunk to a sixth of a part", (61, 55), 0.17, -1.9, -0.6),
        warp_case("mostly outside", (20, 20), 0.8, 5.5, -12.25),
        warp_case("a part of whole pixels, shrunk a little", (30, 26), 8 / 13, -7 * 8 / 13, -5 * 8 / 13),
        warp_case("a part of whole pixels, shrunk to a third", (40, 36), 1 / 3, -2.0, -4 / 3),
        warp_case("a part of whole pixels, shrunk to a fifth, outside on two sides", (31, 33), 0.2, -0.8, 2.4),
        warp_case("wholly outside", (10, 10), 0.5, 40.0, 40.0, (4, 4)),
    ]


# --- whole pixels -----------------------------------------------------------------------------------------------------


def whole_pixels_case(square, out_wh=(192, 192)):
    """The nearest square whose corners and side are multiples of 1, or of 2, 4, ... where it is halved before it is shrunk."""
    x1, y1, x2, y2 = square
    side, pixel = x2 - x1, 1
    while side / max(out_wh) >= 2 * pixel:
        pixel *= 2
    side = max(pixel, pixel * round(side / pixel))
    if side / max(out_wh) >= 2 * pixel:
        pixel *= 2
    left = pixel * round((x1 + x2 - side) / 2 / pixel)
    top = pixel * round((y1 + y2 - side) / 2 / pixel)
    return {"square": list(square), "out_wh": list(out_wh), "expected": [left, top, left + side, top + side]}


def whole_pixels_cases():
    squares = [
        (10.4, 20.6, 110.4, 120.6), (10.5, 21.5, 111.0, 122.0), (-30.3, -7.7, 353.5, 376.1), (-101.2, 40.1, 298.9, 440.2),
        (0, -280, 1280, 1000), (3.2, 5.1, 3.6, 5.5), (-1.5, -2.5, 1.5, 0.5), (100.1, 90.2, 867.9, 858.0),
    ]  # fmt: skip
    return [whole_pixels_case(square) for square in squares] + [whole_pixels_case((7.7, 3.3, 150.2, 145.8), (64, 64))]


FILES = {
    "whole_pixels.json": ({"version": 1}, whole_pixels_cases),
    "smart_crop.json": ({"version": 1, "tolerance": 0.001}, smart_crop_cases),
    "one_euro.json": ({"version": 1, "tolerance": 1e-5, "defaults": DEFAULTS}, one_euro_cases),
    "warp.json": ({"version": 1, "tolerance": 3}, warp_cases),
}


def main():
    for name, (facts, cases) in FILES.items():
        head = json.dumps(facts, separators=(",", ":"))[1:-1]
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases())
        (FOLDER / name).write_text(f'{{{head},"cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()

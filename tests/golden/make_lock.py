"""Writes lock.json: `python tests/golden/make_lock.py`. README.md describes it.

Other than its neighbours this file holds what the package itself answers (tracker.Tracker, several, motion): the rules
are many and are judged by tests/test_tracker.py; here other languages are held to the same answers. The network is left
out: `Crowd` gives the people who stand in the square that is looked at.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

from featherpose.codecs.movenet import MAPS, MoveNetCodec
from featherpose.pose import Pose
from featherpose.runtime import several, tracker
from featherpose.runtime.several import SeveralTracker, assign
from featherpose.skeletons import Skeleton

FOLDER = Path(__file__).parent
SIZE_WH = (320, 240)
PICTURE = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)

BODY = {
    "nose": (0, -45, 0.026), "left_shoulder": (14, -32, 0.079), "right_shoulder": (-14, -32, 0.079),
    "left_hip": (9, 0, 0.107), "right_hip": (-9, 0, 0.107), "left_knee": (10, 26, 0.087), "right_knee": (-10, 26, 0.087),
}  # fmt: skip
"""Joints around the middle of the hips in pixels, and their OKS sigmas."""
SKELETON = Skeleton("golden", tuple(BODY), sigmas=tuple(sigma for _, _, sigma in BODY.values()))
RED, BLUE, PINK = (200, 30, 30), (30, 40, 190), (215, 40, 45)


def person(x, y=120.0, *, scale=1.0, score=0.8, colour=RED):
    """Somebody with the middle of the hips at (x, y); the box of the joints is filled with the colour."""
    xy = [[round(x + scale * dx, 3), round(y + scale * dy, 3)] for dx, dy, _ in BODY.values()]
    return {"xy": xy, "score": score, "colour": list(colour)}


class Crowd:
    """A predictor of people who are told to it: those whose joints' mean lies in the square that is looked at."""

    def __init__(self):
        self.spec = SimpleNamespace(skeleton=SKELETON, joint_threshold=0.2, outputs="raw", input_size=(192, 192))
        self.people = []

    def several(self, predictor, image, region_xyxy, limit, *, threshold=0.1, focus_xy=None):
        x1, y1, x2, y2 = region_xyxy
        found = []
        for one in self.people:
            x, y = np.mean(one["xy"], axis=0)
            if x1 <= x <= x2 and y1 <= y <= y2 and one["score"] >= threshold:
                found.append((one, (x, y)))
        found.sort(key=lambda entry: -entry[0]["score"])
        if focus_xy is not None and found:
            first = min(found, key=lambda entry: np.hypot(*np.subtract(entry[1], focus_xy)))
            found = [first, *(entry for entry in found if entry is not first)]
        return [self.pose(one, region_xyxy) for one, _ in found[:limit]]

    def look(self, image, region_xyxy, focus_xy=None, quick=False):
        middle = (region_xyxy[:2] + region_xyxy[2:]) / 2
        poses = self.several(self, image, region_xyxy, 1, focus_xy=middle if focus_xy is None else focus_xy)
        return poses[0] if poses else self.pose({"xy": [middle.tolist()] * len(BODY), "score": 0.01}, region_xyxy)

    def __call__(self, image, *, point):
        return self.look(image, tracker.whole_frame(SIZE_WH), point)

    def pose(self, one, region):
        score = np.full(len(BODY), one["score"])
        return Pose(np.array(one["xy"]), score, SKELETON, one["score"], region)


def painted(people):
    image = PICTURE.copy()
    for one in people:
        (x1, y1), (x2, y2) = np.min(one["xy"], axis=0), np.max(one["xy"], axis=0)
        left, top, right, bottom = (int(np.floor(v)) for v in (x1, y1, x2, y2))
        image[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)] = one["colour"]
    return image


def track_case(name, scenes, *, fps=20.0, starts=None, smoothing=False):
    """scenes: the people of each frame, in the order in which they are painted. starts: {frame: point}."""
    crowd, starts = Crowd(), starts or {}
    with mock.patch.object(tracker, "look_several", crowd.several):
        follow = tracker.Tracker(crowd, smoothing=smoothing)
        frames, expected = [], []
        for number, people in enumerate(scenes):
            t, start = round(number / fps, 6), starts.get(number)
            crowd.people = people
            if start is not None:
                follow.start(point=start)
            pose = follow(painted(people), t)
            frames.append({"t": t, "start": start, "people": people})
            told = None if pose is None else pose.xy.astype(float).round(3).tolist()
            score = None if pose is None else round(float(pose.score[0]), 4)
            expected.append({"state": follow.state, "xy": told, "score": score})
    return {"name": name, "smoothing": smoothing, "frames": frames, "expected": expected}


def track_cases():
    meet = [[person(60 + 5 * n), person(250 - 5 * n, 124, colour=BLUE)] for n in range(40)]
    alike = [[person(60 + 5 * n), person(250 - 5 * n, 128, colour=PINK)] for n in range(40)]
    behind = [[] if abs(190 - 10 * n) < 35 else [person(250 - 5 * n, 124)] for n in range(40)]
    hidden = [[*back, person(60 + 5 * n, colour=BLUE)] for n, back in enumerate(behind)]
    gone = [[person(150 + 2 * n)] for n in range(8)]
    away = gone + [[]] * 6 + gone[:4] + [[]] * 40 + gone[:4] + [[]] * 64
    faint = [[person(x, score=score)] for x, score in ((120, 0.8), (122, 0.22), (122, 0.18)) for _ in range(3)]
    stranger = [person(200, 125, colour=BLUE)]
    doubled = [[person(120), person(150, score=0.6)]] * 6 + [[person(135.6)]] * 4
    askew = [[person(120), person(128, score=0.6)]] * 6 + [[person(136)]] * 4
    two = [person(90), person(220, colour=BLUE)]
    return [
        track_case("one who walks, smoothed", [[person(80 + 4 * n, scale=1 + n / 60)] for n in range(24)], smoothing=True),
        track_case("two who cross", meet, starts={0: [62, 110]}),
        track_case("two who cross in nearly the same clothes", alike, starts={0: [62, 110]}),
        track_case("hidden behind somebody", hidden, starts={0: [250, 110]}),
        track_case("gone for a moment, for long, for ever", away, fps=18),
        track_case("gone, and a stranger comes", gone + [[]] * 4 + [stranger] * 80),
        track_case("gone, and back beside a stranger", gone + [stranger] * 16 + [[*stranger, person(90)]] * 8),
        track_case("back elsewhere in the same clothes", [[person(80)]] * 8 + [[]] * 5 + [[person(140, 110)]] * 4),
        track_case("another is clicked", [[person(90), person(220, colour=BLUE)]] * 8, starts={4: [215, 100]}),
        track_case("a click where nobody is", [[person(160, score=0.1)]] * 3 + [[person(160)]] * 2, starts={1: [300, 20]}),
        track_case("a faint one is kept, not found", faint),
        track_case("came out doubled, and jumps towards the double", doubled, starts={0: [120, 110]}),
        track_case("a double that is no neighbour, and a jump beyond it", askew, starts={0: [120, 110]}),
        track_case("nobody at all", [[]] * 4),
        track_case("frames four seconds apart", [two] * 5, fps=0.25, starts={0: [85, 110]}),
        track_case("asked for before anybody is there", [[]] * 3 + [two] * 3, starts={0: [85, 110]}),
        track_case("asked for too long ago", [[]] * 3 + [two] * 3, fps=0.5, starts={0: [85, 110]}),
    ]  # fmt: skip


def crowd_case(name, scenes, *, fps=20.0, smoothing=False):
    """Everybody's number and joints; scenes: the people of each frame, in the order in which they are painted."""
    crowd = Crowd()
    with mock.patch.object(several, "look_several", crowd.several):
        follow = SeveralTracker(crowd, smoothing=smoothing)
        frames, expected = [], []
        for number, people in enumerate(scenes):
            t, crowd.people = round(number / fps, 6), people
            poses = follow(painted(people), t)
            frames.append({"t": t, "people": people})
            expected.append([{"person": k, "xy": pose.xy.astype(float).round(3).tolist()} for k, pose in poses.items()])
    return {"name": name, "smoothing": smoothing, "frames": frames, "expected": expected}


def crowd_cases():
    def pair(n, colour):
        return [person(70 + 6 * n), person(250 - 6 * n, 124, colour=colour, score=0.7)]

    walk = [[person(80 + 4 * n, 110, scale=0.9 + n / 40), person(240 - 2 * n, score=0.6, colour=BLUE)] for n in range(10)]
    double = [[person(90), person(91, 121, score=0.7), person(220, colour=BLUE)]] * 2
    leaves = [[person(90)], [person(90), person(220, colour=BLUE)], [person(220, colour=BLUE)]]
    faint = [[person(90, score=score), person(220, score=0.35)] for score in (0.8, 0.31, 0.8)]
    many = [person(30 + 40 * n, 60 + 20 * (n % 2), scale=0.4, score=0.9 - n / 20) for n in range(7)]
    return [
        crowd_case("two who walk, smoothed", walk, smoothing=True),
        crowd_case("two who cross", [pair(n, BLUE) for n in range(0, 30, 2)], fps=10),
        crowd_case("two who change places between frames", [pair(n, BLUE) for n in (10, 11, 12, 19, 20)], fps=8),
        crowd_case("two nearly in one place", double),
        crowd_case("one comes, the other goes and comes back", [*leaves, *[leaves[2]] * 2, leaves[1]], fps=5),
        crowd_case("gone for longer than numbers wait", [[person(90)], *[[]] * 7, [person(90)]], fps=6),
        crowd_case("a faint one has no number", faint),
        crowd_case("more than the limit", [many]),
        crowd_case("frames two seconds apart", [pair(n, BLUE) for n in (0, 1, 2)], fps=0.5),
    ]


def assign_cases():
    rng = np.random.default_rng(5)
    shapes = [(1, 1), (1, 4), (4, 1), (3, 3), (5, 3), (4, 6), (6, 6)]
    values = [rng.uniform(-0.3, 1, shape).round(3) for shape in shapes]
    return [{"value": v.tolist(), "least": 0.2, "expected": [list(p) for p in assign(v, 0.2)]} for v in values]


def several_cases():
    """Several people in the maps of movenet_decode.json."""
    cases = json.loads((FOLDER / "movenet_decode.json").read_text(encoding="utf-8"))["cases"]
    told = []
    for case in cases:
        (width, height), stride, k = case["grid_wh"], case["stride"], case["joints"]
        shapes = {"center": (1,), "heatmap": (k,), "regression": (k, 2), "offset": (k, 2)}
        maps = {n: np.array(case["maps"][n], np.float32).reshape(*shapes[n], height, width) for n in MAPS}
        rules = {name: case[name] for name in ("softening", "center_softening", "vote_radius", "refine")}
        size, reach = (width * stride, height * stride), case["vote_radius"]
        codec = MoveNetCodec(size, k, stride, offset_radius=reach, **rules)
        for focus in [None, case["focus_xy"] or [0.3 * width * stride, 0.6 * height * stride]]:
            xy, _, pose_score = codec.decode_several(maps, 4, threshold=0.15, focus_xy=focus)
            told.append(
                {
                    "case": case["name"],
                    "focus_xy": focus,
                    "limit": 4,
                    "threshold": 0.15,
                    "expected": {
                        "xy": xy.astype(float).round(4).tolist(),
                        "pose_score": pose_score.astype(float).round(5).tolist(),
                    },
                }
            )
    return told


def make():
    skeleton = {"joints": list(BODY), "sigmas": list(SKELETON.sigmas)}
    head = {"version": 1, "tolerance": 0.01, "size_wh": list(SIZE_WH), "skeleton": skeleton}
    tracks, crowds = track_cases(), crowd_cases()
    return {**head, "tracks": tracks, "crowds": crowds, "assign": assign_cases(), "several": several_cases()}


def main():
    parts = []
    for key, value in make().items():
        lists = key in ("tracks", "crowds", "assign", "several")
        rows = [json.dumps(row, separators=(",", ":")) for row in value] if lists else None
        text = json.dumps(value, separators=(",", ":")) if rows is None else "[\n" + ",\n".join(rows) + "\n]"
        parts.append(f"{json.dumps(key)}:{text}")
    (FOLDER / "lock.json").write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The golden vectors of crops, the One-Euro filter and warping: ours agrees with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden.make_live import FILES

from featherpose.geometry import compose, scaling, translation, warp, whole_pixels
from featherpose.pose import Pose
from featherpose.runtime.one_euro import OneEuro
from featherpose.runtime.smart_crop import smart_crop
from featherpose.skeletons import Skeleton

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {name: json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in FILES}


def cases(name):
    return [pytest.param(case, id=case["name"]) for case in GOLDEN[name]["cases"]]


@pytest.mark.parametrize("case", cases("smart_crop.json"))
def test_smart_crop_gives_the_golden_square(case):
    pose = Pose(case["xy"], case["score"], Skeleton("golden", tuple(case["joints"])))
    box = smart_crop(pose, tuple(case["size_wh"]), case["threshold"])
    assert np.abs(box - case["expected"]).max() < GOLDEN["smart_crop.json"]["tolerance"]


def test_squares_are_rounded_to_the_golden_whole_pixels():
    for case in GOLDEN["whole_pixels.json"]["cases"]:
        square, out_wh = np.array(case["square"]), tuple(case["out_wh"])
        assert whole_pixels(square, out_wh).tolist() == case["expected"]
        assert np.array_equal(whole_pixels(np.array(case["expected"]), out_wh), case["expected"]), "it is whole now"


@pytest.mark.parametrize("case", cases("one_euro.json"))
def test_the_filter_gives_the_golden_joints(case):
    smooth = OneEuro(**case["settings"])
    for frame, expected in zip(case["frames"], case["expected"], strict=True):
        xy = smooth(np.array(frame["xy"]), frame["t"], frame["size"], score=frame["score"], seen=frame["seen"])
        assert np.abs(xy - expected).max() < GOLDEN["one_euro.json"]["tolerance"]


def test_the_golden_defaults_of_the_filter_are_ours():
    assert GOLDEN["one_euro.json"]["defaults"] == OneEuro().settings


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("case", cases("warp.json"))
def test_warp_gives_the_golden_picture(case, quick):
    width, height = case["size_wh"]
    image = np.array(case["image"], np.uint8).reshape(height, width, 3)
    matrix = compose(scaling(case["map"]["scale"]), translation(case["map"]["x"], case["map"]["y"]))
    out = warp(image, matrix, tuple(case["out_wh"]), quick=quick)
    assert np.abs(out.ravel().astype(int) - case["expected"]).max() <= GOLDEN["warp.json"]["tolerance"]


@pytest.mark.parametrize("name", FILES)
def test_the_file_holds_what_the_generator_says(name):
    facts, make = FILES[name]
    written = {key: value for key, value in GOLDEN[name].items() if key != "cases"}
    assert written == facts
    assert GOLDEN[name]["cases"] == json.loads(json.dumps(make()))

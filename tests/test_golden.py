"""The golden vectors that every language reads: ours agrees with them, and so does a naive decoder."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden.make import CASES, MARGIN, make_case, naive_decode

from featherpose.codecs.movenet import MAPS, MoveNetCodec

PATH = Path(__file__).parent / "golden" / "movenet_decode.json"
GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))
BY_NAME = {case["name"]: case for case in GOLDEN["cases"]}


def maps_of(case):
    width, height = case["grid_wh"]
    shapes = {
        "center": (1,),
        "heatmap": (case["joints"],),
        "regression": (case["joints"], 2),
        "offset": (case["joints"], 2),
    }
    return {name: np.array(case["maps"][name], np.float32).reshape(*shapes[name], height, width) for name in MAPS}


def codec_of(case):
    width, height = case["grid_wh"]
    stride = case["stride"]
    decoding = {name: case[name] for name in ("softening", "center_softening", "vote_radius", "refine")}
    size, reach = (width * stride, height * stride), case["vote_radius"]
    return MoveNetCodec(size, case["joints"], stride, offset_radius=reach, **decoding)


@pytest.mark.parametrize("name", BY_NAME)
def test_decode_finds_the_golden_joints(name):
    case = BY_NAME[name]
    xy, score, pose_score = codec_of(case).decode(maps_of(case), case["focus_xy"])
    assert np.abs(xy - np.array(case["expected"]["xy"])).max() < GOLDEN["tolerance"]
    assert score.tolist() == np.array(case["expected"]["score"], np.float32).tolist()
    assert pose_score == np.float32(case["expected"]["pose_score"])


@pytest.mark.parametrize("name", ["noise, 3 joints", "two people, the left one", "one joint, one cell high"])
def test_decode_batch_finds_them_too(name):
    case = BY_NAME[name]
    maps = {key: np.stack([values, values]) for key, values in maps_of(case).items()}
    focus = None if case["focus_xy"] is None else np.array([case["focus_xy"]] * 2)
    xy, score, pose_score = codec_of(case).decode_batch(maps, focus)
    assert xy.shape == (2, case["joints"], 2)
    assert np.abs(xy - np.array(case["expected"]["xy"])).max() < GOLDEN["tolerance"]
    assert (score == np.array(case["expected"]["score"], np.float32)).all()
    assert pose_score.tolist() == [np.float32(case["expected"]["pose_score"])] * 2


def test_the_graph_twin_finds_them():
    torch = pytest.importorskip("torch")
    from featherpose.export.graph import Decoder

    checked = 0
    for case in BY_NAME.values():
        if case["focus_xy"] is None:
            maps = {name: torch.from_numpy(values[None]) for name, values in maps_of(case).items()}
            joints, pose_score = Decoder(codec_of(case))(maps)
            assert np.abs(joints[0, :, :2].numpy() - np.array(case["expected"]["xy"])).max() < GOLDEN["tolerance"]
            assert joints[0, :, 2].numpy() == pytest.approx(case["expected"]["score"])
            assert float(pose_score[0]) == pytest.approx(case["expected"]["pose_score"])
            checked += 1
    assert checked >= 8


@pytest.mark.parametrize("name", BY_NAME)
def test_the_file_holds_what_the_naive_decoder_says(name):
    case = BY_NAME[name]
    maps = {key: values.astype(np.float64).round(3) for key, values in maps_of(case).items()}
    xy, score, pose_score, _ = naive_decode(
        maps, case["stride"], case["focus_xy"], case["softening"], case["vote_radius"], case["refine"], case["center_softening"]
    )
    assert np.abs(np.array(xy) - case["expected"]["xy"]).max() < 1e-5
    assert (score, pose_score) == (case["expected"]["score"], case["expected"]["pose_score"])


def test_the_generator_still_runs():
    case = make_case(*CASES[0])
    assert case["name"] == GOLDEN["cases"][0]["name"]
    assert case.keys() == GOLDEN["cases"][0].keys()


def test_every_choice_is_clear_enough_for_single_precision():
    for case in BY_NAME.values():
        rules = {name: case[name] for name in ("softening", "vote_radius", "refine", "center_softening")}
        assert naive_decode(maps_of(case), case["stride"], case["focus_xy"], **rules)[3] > MARGIN / 2, case["name"]


def test_the_file_is_as_described():
    assert (GOLDEN["system"], GOLDEN["version"], len(BY_NAME)) == ("movenet", 1, len(CASES))
    assert PATH.stat().st_size < 600_000
    for case in BY_NAME.values():
        cells = case["grid_wh"][0] * case["grid_wh"][1]
        lengths = {name: len(values) for name, values in case["maps"].items()}
        k = case["joints"]
        assert lengths == {"center": cells, "heatmap": k * cells, "regression": 2 * k * cells, "offset": 2 * k * cells}

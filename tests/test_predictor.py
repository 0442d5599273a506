"""From photos to joints in photo pixels, computed by hand on the colour model (colour_model.py)."""

import hashlib
import json

import numpy as np
import pytest
from colour_model import COLOURS, SPEC, dots, write_colour_model
from PIL import Image

from featherpose import Predictor
from featherpose.runtime.backends import load_model
from featherpose.runtime.bundled import bundled_models, bundled_path
from featherpose.runtime.photos import read_photo
from featherpose.spec import SPEC_KEY


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_colour_model(tmp_path_factory.mktemp("model") / "colours.onnx")


RED, GREEN, BLUE = 0, 1, 2
PERSON = ((RED, 28, 20, 4), (GREEN, 20, 40, 4), (BLUE, 40, 44, 4))
"""On a 64 x 64 photo every dot fills one cell; the middles are (30, 22), (22, 42), (42, 46)."""
JOINTS = [[30, 22], [22, 42], [42, 46]]


def test_one_look_at_a_photo_of_the_input_size_gives_the_middles_of_the_dots(model):
    pose = Predictor(model, refine=False)(dots((64, 64), *PERSON))
    np.testing.assert_allclose(pose.xy, JOINTS, atol=1e-4)
    np.testing.assert_allclose(pose.score, 1)
    assert pose.skeleton == COLOURS and pose.pose_score == 1
    np.testing.assert_allclose(pose.box_xyxy, [0, 0, 64, 64])


def test_joints_of_a_wide_photo_are_in_photo_pixels(model):
    # 128 x 64, shrunk by 2 and centred: dots of 8 px fill cells; rows start at 16 in the input, -32 in the photo
    photo = dots((128, 64), (RED, 56, 8, 8), (GREEN, 40, 40, 8), (BLUE, 80, 48, 8))
    pose = Predictor(model, refine=False)(photo)
    np.testing.assert_allclose(pose.xy, [[60, 12], [44, 44], [84, 52]], atol=1e-3)
    np.testing.assert_allclose(pose.box_xyxy, [0, -32, 128, 96])


def test_the_second_look_is_closer_and_more_exact(model):
    # 256 x 256 shrinks by 4: a dot of 8 px fills a quarter of a cell (16 px) and is found 4 px beside its middle. The
    # joints' box is 56..104: half of the crop is 2 * 24, and the dots are 5.3 of 64 input pixels wide.
    photo = dots((256, 256), (RED, 48, 48, 8), (GREEN, 96, 48, 8), (BLUE, 48, 96, 8))
    true = np.array([[52, 52], [100, 52], [52, 100]])
    rough = Predictor(model, refine=False)(photo)
    np.testing.assert_allclose(rough.xy - true, 4, atol=1e-3)
    fine = Predictor(model)(photo)
    np.testing.assert_allclose(fine.box_xyxy, [32, 32, 128, 128], atol=1e-3)
    assert np.abs(fine.xy - true).max() < 4


def test_the_person_nearest_the_middle_is_taken_unless_a_point_is_given(model):
    left = [(colour, x, y, 4) for colour, x, y, _ in [(RED, 4, 8, 0), (GREEN, 4, 24, 0), (BLUE, 8, 32, 0)]]
    right = [(colour, x, y, 4) for colour, x, y, _ in [(RED, 40, 8, 0), (GREEN, 40, 24, 0), (BLUE, 36, 32, 0)]]
    photo = dots((64, 64), *left, *right)
    predictor = Predictor(model, refine=False)
    at_left, at_right = [[6, 10], [6, 26], [10, 34]], [[42, 10], [42, 26], [38, 34]]
    np.testing.assert_allclose(predictor(photo).xy, at_right, atol=1e-4)
    np.testing.assert_allclose(predictor(photo, point=(8, 30)).xy, at_left, atol=1e-4)
    np.testing.assert_allclose(predictor(photo, point=(60, 30)).xy, at_right, atol=1e-4)


def test_a_box_is_looked_at_once_in_a_square_around_it(model):
    # the square around (32, 40, 64, 104) is (16, 40, 80, 104), as large as the input: cells are 4 px of the photo
    photo = dots((128, 128), (RED, 28, 44, 4), (GREEN, 40, 60, 4), (BLUE, 60, 80, 4), (RED, 100, 100, 4))
    pose = Predictor(model)(photo, box=(32, 40, 64, 104))
    np.testing.assert_allclose(pose.box_xyxy, [16, 40, 80, 104])
    np.testing.assert_allclose(pose.xy, [[30, 46], [42, 62], [62, 82]], atol=1e-4)


def test_who_was_named_is_looked_for_where_they_were_named(model, monkeypatch):
    """By a focus, which counts more than the middle of a picture does (the codec's center_softening)."""
    predictor, asked = Predictor(model), []
    decode = type(predictor._codec).decode

    def noting(self, maps, focus_xy=None):
        asked.append(None if focus_xy is None else tuple(float(v) for v in focus_xy))
        return decode(self, maps, focus_xy)

    monkeypatch.setattr(type(predictor._codec), "decode", noting)
    photo = dots((256, 256), (RED, 48, 48, 8), (GREEN, 96, 48, 8), (BLUE, 48, 96, 8))
    predictor(photo)
    predictor(photo, point=(64, 80))
    predictor(photo, box=(40, 40, 110, 110))
    middle = pytest.approx((32, 32))
    assert asked == [None, None, pytest.approx((16, 20)), middle, middle]
    predictor.look_batch([photo], [np.array([40, 40, 110, 110.0])], named=True)
    assert asked[-1] == middle


class DecodingInside:
    """A backend with decoding inside that answers with the middle of its input."""

    def __init__(self):
        from dataclasses import replace

        self.spec = replace(SPEC, outputs="decoded", codec={})
        self.seen = []

    def run(self, images):
        self.seen.append(images)
        joints = np.tile(np.array([32, 32, 0.9], np.float32), (len(images), 3, 1))
        return {"joints": joints, "pose_score": np.full(len(images), 0.8, np.float32)}


def test_a_model_with_decoding_inside_looks_at_a_square_centred_on_the_point():
    backend = DecodingInside()
    pose = Predictor(backend, refine=False)(dots((100, 50)), point=(20, 10))
    np.testing.assert_allclose(pose.box_xyxy, [-30, -40, 70, 60])
    np.testing.assert_allclose(pose.xy, [[20, 10]] * 3, atol=1e-4)
    assert pose.pose_score == pytest.approx(0.8)


def test_a_batch_gives_what_single_looks_give(model):
    predictor = Predictor(model)
    photos = [dots((64, 64), *PERSON), dots((128, 64), (RED, 60, 20, 8)), dots((40, 90), (BLUE, 10, 40, 6))]
    regions = [np.array([0, 0, 64, 64.0]), np.array([30, -10, 110, 70.0]), np.array([-5, 20, 45, 70.0])]
    for pose, photo, region in zip(predictor.look_batch(photos, regions), photos, regions, strict=True):
        single = predictor.look(photo, region)
        np.testing.assert_array_equal(pose.xy, single.xy)
        np.testing.assert_array_equal(pose.score, single.score)
    assert predictor.look_batch([], []) == []


def test_a_fixed_batch_in_the_file_is_run_in_parts(tmp_path):
    fixed = load_model(write_colour_model(tmp_path / "fixed.onnx", batch=2))
    free = load_model(write_colour_model(tmp_path / "free.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    for name, values in free.run(images).items():
        np.testing.assert_array_equal(fixed.run(images)[name], values)


def test_a_file_is_turned_as_its_exif_says(model, tmp_path):
    photo = dots((64, 48), (RED, 28, 12, 4), (GREEN, 20, 32, 4), (BLUE, 40, 36, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows of the file are columns of the photo
    Image.fromarray(np.rot90(photo).copy()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "turned.png"), photo)
    pose = Predictor(model, refine=False)(tmp_path / "turned.png")
    np.testing.assert_allclose(pose.xy, [[30, 14], [22, 34], [42, 38]], atol=1e-4)


def test_sizes_from_one_pixel_to_very_wide_work(model):
    predictor = Predictor(model)
    for size in ((1, 1), (1, 300), (20_000, 16)):
        assert np.isfinite(predictor(np.zeros((size[1], size[0], 3), np.uint8)).xy).all()


def test_a_picture_wider_than_opencv_warps_is_cut_first(model):
    photo = dots((40_000, 64), (RED, 35_028, 20, 4), (GREEN, 35_020, 40, 4), (BLUE, 35_040, 44, 4))
    pose = Predictor(model)(photo, box=(35_000, 0, 35_064, 64))
    np.testing.assert_allclose(pose.xy, np.array(JOINTS) + np.array([35_000, 0]), atol=0.01)


BAD_PLACES = {
    "a point outside": ({"point": (65, 3)}, "outside the photo of 64 x 64"),
    "a point that is no number": ({"point": (float("nan"), 3)}, "two numbers"),
    "three numbers for a point": ({"point": (1, 2, 3)}, "two numbers"),
    "a box turned around": ({"box": (30, 30, 10, 40)}, "is empty"),
    "a box outside": ({"box": (70, 0, 90, 20)}, "outside the photo"),
    "a box of two numbers": ({"box": (1, 2)}, "four numbers"),
    "both": ({"box": (0, 0, 9, 9), "point": (1, 1)}, "not both"),
}


@pytest.mark.parametrize("place, message", BAD_PLACES.values(), ids=BAD_PLACES)
def test_a_bad_point_or_box_is_refused(model, place, message):
    with pytest.raises(ValueError, match=message):
        Predictor(model)(dots((64, 64)), **place)


def _bad_model(kind, model, folder):
    path = folder / "bad.onnx"
    if kind == "text":
        path.write_text("this is no model")
    elif kind == "truncated":
        path.write_bytes(model.read_bytes()[:-400])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "without spec":
        write_colour_model(path, metadata={"made by": "somebody"})
    elif kind == "another task":
        write_colour_model(path, metadata={SPEC_KEY: json.dumps({"task": "depth", "spec_version": 1})})
    elif kind == "another input":
        facts = json.loads(SPEC.to_json())
        write_colour_model(path, metadata={SPEC_KEY: json.dumps({**facts, "input_size": [96, 96]})})
    elif kind == "other outputs":
        facts = json.loads(SPEC.to_json())
        write_colour_model(path, metadata={SPEC_KEY: json.dumps({**facts, "outputs": "decoded"})})
    elif kind == "folder":
        path.mkdir()
    elif kind == "suffix":
        path = folder / "model.xyz"
        path.write_bytes(b"x")
    return path


BAD_MODELS = {
    "text": "not a readable ONNX file",
    "truncated": "not a readable ONNX file",
    "empty": r"empty \(0 bytes\)",
    "without spec": "no featherpose pose model",
    "another task": "task 'depth'",
    "another input": r"expected one uint8 input \(B, 96, 96, 3\), found image",
    "other outputs": "lacks the outputs joints, pose_score; it has center",
    "folder": "is a folder",
    "suffix": "not a known kind of model file; known: .onnx",
    "missing": "there is no such model file",
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_file_that_is_no_pose_model_is_refused_with_its_name(kind, model, tmp_path):
    path = _bad_model(kind, model, tmp_path)
    with pytest.raises((ValueError, OSError), match=BAD_MODELS[kind]) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_threads_below_one_are_refused(model):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        load_model(model, threads=0)


def test_bundled_models_are_found_by_name_and_checked(model, tmp_path):
    (tmp_path / "a.onnx").write_bytes(model.read_bytes())
    entry = {"file": "a.onnx", "sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "summary": "dots"}
    index = {"default": "dots", "models": {"another": {**entry, "sha256": "0"}, "dots": entry}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    assert [m.name for m in bundled_models(tmp_path).values()] == ["dots", "another"]
    assert bundled_path(None, tmp_path) == bundled_path("dots", tmp_path) == tmp_path / "a.onnx"
    with pytest.raises(ValueError, match="model is damaged"):
        bundled_path("another", tmp_path)
    with pytest.raises(ValueError, match=r"unknown model 'dot'.*did you mean 'dots'"):
        bundled_path("dot", tmp_path)


def test_without_an_index_no_model_is_bundled(tmp_path):
    assert bundled_models(tmp_path) == {}
    with pytest.raises(ValueError, match="ships no model"):
        bundled_path(None, tmp_path)

"""The official MoveNet files become our networks, number by number."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tflite", reason="needs the package 'tflite' (extra 'train')")
pytest.importorskip("safetensors")

import torch
from tflite_writer import TfliteWriter, random_network, write_classifier, write_movenet

from featherpose.cli import run
from featherpose.importers.movenet import find_parts, import_movenet, places, x_before_y
from featherpose.importers.tflite_file import read_tflite
from featherpose.models.cost import count_macs
from featherpose.systems.files import load_network
from featherpose.systems.movenet import build

SHARED = Path(__file__).parents[2] / "shared"
OFFICIAL = SHARED / "peers" / "movenet_lightning_int8.tflite"
PHOTOS = SHARED / "data" / "coco_person"
needs_official = pytest.mark.skipif(
    not (OFFICIAL.is_file() and PHOTOS.is_dir()), reason=f"needs ../shared/peers/{OFFICIAL.name} and ../shared/data"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small():
    """A MoveNet at width .35 with a neck and heads of its own."""
    return random_network(build(width=0.35, neck={4: 8, 8: 16, 16: 24, 32: 24}, head_width=16))


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    return write_movenet(tmp_path_factory.mktemp("small") / "movenet.tflite", small)


def maps_of(network, picture):
    with torch.no_grad():
        return network(picture)


# kind of weights -> largest difference of a map that its rounding may make
KINDS = {"float32": 1e-4, "float16": 0.01, "int8": 0.15}


@pytest.mark.parametrize("kind", KINDS)
def test_import_gives_back_the_network_that_was_written(kind, small, tmp_path):
    path = write_movenet(tmp_path / "movenet.tflite", small, (64, 96), kind=kind)
    network, spec = import_movenet(path)
    assert spec.input_size == (64, 96)
    assert spec.provenance["weights"] == kind
    picture = torch.rand(2, 3, 96, 64) * 255
    ours, theirs = maps_of(network, picture), maps_of(small, picture)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=KINDS[kind])
        assert theirs[name].std() > 1e-3  # else the comparison says nothing


def test_width_neck_and_heads_are_found_from_shapes(small_file):
    _, spec = import_movenet(small_file)
    assert spec.network == {
        "system": "movenet", "backbone": "mobilenet_v2", "width": 0.35, "head_width": 16,
        "neck": {"4": 8, "8": 16, "16": 24, "32": 24},
    }  # fmt: skip
    assert spec.name == "movenet"


@pytest.mark.parametrize("preset", ["lightning", "thunder"])
def test_official_shapes_become_presets(preset, tmp_path):
    path = write_movenet(tmp_path / "movenet.tflite", build(preset=preset).eval(), kind="int8")
    network, spec = import_movenet(path)
    assert spec.network == {"system": "movenet", "preset": preset}
    assert spec.name == f"movenet-{preset}"
    assert spec.codec == {"name": "movenet"}
    assert (spec.provenance["author"], spec.provenance["licence"]) == ("Google", "Apache-2.0")
    assert not network.training


def test_litert_computes_the_same_from_the_file(small, tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    path = write_movenet(tmp_path / "movenet.tflite", small, (96, 64))
    network, _ = import_movenet(path)
    picture = torch.rand(1, 3, 64, 96) * 255
    interpreter = litert.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture.permute(0, 2, 3, 1).numpy())
    interpreter.invoke()
    joints = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 0]  # (K, 3): y, x, score
    maps = maps_of(network, picture)
    np.testing.assert_allclose(joints[:, [1, 0]], maps["regression"][0, :, :, 0, 0], atol=1e-4)  # x, y at cell 0, 0
    np.testing.assert_allclose(joints[:, 2], maps["heatmap"][0, :, 0, 0], atol=1e-5)


def multipose(path, _):
    writer = TfliteWriter()
    x = writer.tensor("image", (1, 64, 64, 3))
    y = writer.operator("LOGISTIC", [x], "poses", (1, 6, 56))
    return writer.write(path, [x], [y])


REFUSED = {
    "a classifier": (lambda p, net: write_classifier(p, net.backbone), r"it gives \(1, 2, 2, 5\) where joints are"),
    "MultiPose": (multipose, "a MoveNet MultiPose file; featherpose imports SinglePose"),
    "another up-sampling": (lambda p, net: write_movenet(p, net, corners=True), "not bilinear with half-pixel centres"),
    "another input": (lambda p, net: write_movenet(p, net, mean=0.5), "not as x / 127.5 - 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_not_ours_to_import_is_refused(name, small, tmp_path):
    make, sentence = REFUSED[name]
    path = make(tmp_path / "other.tflite", small)
    with pytest.raises(ValueError, match=sentence) as caught:
        import_movenet(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_command_writes_a_model_that_can_be_loaded(small, tmp_path, capsys, monkeypatch):
    path = write_movenet(tmp_path / "movenet.tflite", small, kind="float16")
    monkeypatch.chdir(tmp_path)
    assert run(["import", str(path)]) == 0
    assert "movenet.safetensors" in capsys.readouterr().out
    network, spec = load_network(tmp_path / "movenet.safetensors")
    assert len(spec.provenance["sha256"]) == 64
    picture = torch.rand(1, 3, 64, 64) * 255
    again, _ = import_movenet(path)
    assert torch.equal(maps_of(network, picture)["heatmap"], maps_of(again, picture)["heatmap"])


BAD_COMMANDS = {
    "no such file": (["nowhere.tflite"], "nowhere.tflite: there is no such file"),
    "a text file": (["text.tflite"], "text.tflite: not a TFLite file"),
    "a bad output": (["movenet.tflite", "-o", "out.onnx"], "must end in .safetensors"),
    "a missing folder": (["movenet.tflite", "-o", "nowhere/out.safetensors"], "there is no folder 'nowhere'"),
}


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_the_command_says_one_sentence_and_writes_nothing(name, small_file, tmp_path, capsys, monkeypatch):
    arguments, sentence = BAD_COMMANDS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.tflite").write_text("# not a model\n")
    (tmp_path / "movenet.tflite").write_bytes(small_file.read_bytes())
    before = sorted(tmp_path.rglob("*"))
    assert run(["import", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


# --- the official file ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official():
    """(network, graph, parts, crops, LiteRT's tensors of each crop by index) on 20 photos."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    import cv2

    from featherpose.data.readers.coco import read_coco
    from featherpose.geometry import crop_map, square_around, warp

    network, spec = import_movenet(OFFICIAL)
    graph = read_tflite(OFFICIAL)
    parts = find_parts(graph)
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        interpreter = litert.Interpreter(str(OFFICIAL), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    wanted = {tensor for o in graph.operators for tensor in (*o.inputs[:1], *o.outputs)} - {-1}
    samples = read_coco(PHOTOS / "person_keypoints_val.json", PHOTOS / "val", problems=[])
    crops, tensors = [], []
    for sample in [s for s in samples if s.target >= 0][:200:10]:
        image = cv2.imread(str(sample.photo))[:, :, ::-1]
        crop = warp(image, crop_map(square_around(sample.target_box(), 1.25), spec.input_size), spec.input_size)
        interpreter.set_tensor(graph.inputs[0], crop[None])
        interpreter.invoke()
        crops.append(crop)
        tensors.append({i: _floats(graph, i, interpreter.get_tensor(i)) for i in wanted})
    return network, graph, parts, crops, tensors


def _floats(graph, tensor, values):
    facts = graph.tensors[tensor]
    if facts.scale.size != 1:
        return values
    return ((values.astype(np.float32) - facts.zero_point) * facts.scale).astype(np.float32)


@needs_official
def test_the_official_network_costs_what_it_should(official):
    assert count_macs(official[0], (192, 192)) / 1e6 == pytest.approx(270.5, abs=0.1)


@needs_official
def test_every_convolution_gives_the_files_own_output_to_half_a_step(official):
    """Given the file's own (int8) input each of our 74 gives its output up to the rounding of that output."""
    network, graph, parts, _, tensors = official
    pairs = places(network, parts)
    assert len(pairs) == 74
    for name, module, operator in pairs:
        taken, given = tensors[0][operator.inputs[0]], tensors[0][operator.outputs[0]]
        with torch.no_grad():
            ours = module(torch.from_numpy(taken).permute(0, 3, 1, 2))[0].numpy()  # (C, H, W)
        step = float(graph.tensors[operator.outputs[0]].scale[0])
        low, high = given.min(), given.max()  # int8 clips what it has no number for
        error = np.abs(np.clip(ours, low, high) - x_before_y(name, given[0].transpose(2, 0, 1))).max()
        assert error < 0.52 * step, f"{name}: off by {error / step:.2f} steps"


@needs_official
def test_maps_correlate_with_those_of_the_int8_run(official):
    """Measured on 100 crops: medians .988, .928, .991, .984. What is missing is the file's rounding between layers."""
    network, _, parts, crops, tensors = official
    least = {"center": 0.96, "heatmap": 0.89, "regression": 0.98, "offset": 0.96}
    found = {name: [] for name in least}
    for crop, values in zip(crops, tensors, strict=True):
        ours = maps_of(network, torch.from_numpy(crop).permute(2, 0, 1)[None].float())
        for name, (_, _, last) in parts.heads.items():
            theirs = x_before_y(f"heads.{name}.out", values[last.outputs[0]][0].transpose(2, 0, 1)).ravel()
            if name in ("center", "heatmap"):
                theirs = 1 / (1 + np.exp(-theirs))
            found[name].append(np.corrcoef(ours[name].numpy().ravel(), theirs)[0, 1])
    for name, values in found.items():
        assert np.median(values) > least[name], f"{name}: {np.median(values):.3f}"


@needs_official
def test_joints_agree_with_the_int8_run(official):
    """Measured on all 739 crops: median 1.6 px, 95 % within 4.5 px of 192; the file's own step is 0.79 px."""
    from featherpose.codecs import build_codec

    network, graph, _, crops, tensors = official
    codec = build_codec({"name": "movenet"}, (192, 192), 17)
    distances = []
    for crop, values in zip(crops, tensors, strict=True):
        maps = maps_of(network, torch.from_numpy(crop).permute(2, 0, 1)[None].float())
        xy, score, _ = codec.decode({name: value[0].numpy() for name, value in maps.items()})
        theirs = values[graph.outputs[0]][0, 0]  # (K, 3): y, x, score
        sure = (score > 0.3) & (theirs[:, 2] > 0.3)
        distances += list(np.linalg.norm(xy - theirs[:, [1, 0]] * 192, axis=1)[sure])
    assert len(distances) > 100
    assert np.median(distances) < 2.0
    assert np.quantile(distances, 0.9) < 5.0


@needs_official
def test_decoding_the_files_own_maps_gives_the_files_own_joints(official):
    """Up to its int8 decoding: the constants (focus at cell 24, 24; softening 1.8) are the same."""
    from featherpose.codecs import build_codec

    _, graph, parts, _, tensors = official
    codec = build_codec({"name": "movenet"}, (192, 192), 17)
    distances = []
    for values in tensors:
        maps = {}
        for name, (_, _, last) in parts.heads.items():
            theirs = x_before_y(f"heads.{name}.out", values[last.outputs[0]][0].transpose(2, 0, 1))
            paired = name in ("regression", "offset")
            maps[name] = theirs.reshape(17, 2, 48, 48) if paired else 1 / (1 + np.exp(-theirs))
        xy, score, _ = codec.decode(maps)
        theirs = values[graph.outputs[0]][0, 0]
        sure = (score > 0.3) & (theirs[:, 2] > 0.3)
        distances += list(np.linalg.norm(xy - theirs[:, [1, 0]] * 192, axis=1)[sure])
    assert np.median(distances) < 0.787

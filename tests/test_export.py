"""Exported files compute what torch computes, say what they are, and are not written when they do not."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

# ruff: noqa: E402
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from featherpose.cli import run
from featherpose.codecs import build_codec
from featherpose.export import onnx as onnx_export
from featherpose.export.check import JOINT_LIMIT, compare
from featherpose.export.graph import fold_batch_norms, planes
from featherpose.export.pictures import photos, scenes
from featherpose.runtime.backends import load_model
from featherpose.skeletons import COCO17
from featherpose.spec import SPEC_KEY, ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import save_model

SIZE = (96, 64)
NETWORK = {"system": "movenet", "backbone": "mobilenet_v1", "width": 0.25}
SPEC = ModelSpec(
    name="toy",
    skeleton=COCO17,
    input_size=SIZE,
    codec={"name": "movenet"},
    network=NETWORK,
    provenance={"licence": "none"},
)


def noise(size_wh, count: int, seed: int) -> np.ndarray:
    """Pictures of nothing, with blobs of many sizes and full contrast: (N, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(count):
        blurred = cv2.GaussianBlur(rng.random((size_wh[1], size_wh[0], 3)), (0, 0), (1, 3, 9)[i % 3])
        pictures.append((blurred - blurred.min()) / np.ptp(blurred) * 255)
    return np.rint(pictures).astype(np.uint8)


IMAGES = noise(SIZE, 32, 5)


@torch.no_grad()
def lively_network(facts: dict = NETWORK, size=SIZE) -> torch.nn.Module:
    """Random weights whose maps depend on the picture: batch norms with statistics of pictures, then disturbed."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(facts, joints=17)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.normal_(0, 0.2, generator=generator)
    network.train()(planes(torch.from_numpy(noise(size, 8, 0))))
    for norm in norms:
        noise_of_mean = torch.randn(norm.running_mean.shape, generator=generator)
        norm.running_mean += 0.2 * norm.running_var.sqrt() * noise_of_mean
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4, generator=generator)
    for head in network.heads.children():
        head.out.weight.normal_(0, 0.3, generator=generator)
        head.out.bias.normal_(0, 0.3, generator=generator)  # biases of zero would not be in the graph
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return lively_network()


@pytest.fixture(scope="module")
def traced(network):
    """spec.outputs -> graph; tracing takes seconds, so it is done once for each."""
    folded = fold_batch_norms(network)
    return {outputs: onnx_export.trace(folded, replace(SPEC, outputs=outputs)) for outputs in ("raw", "decoded")}


@pytest.fixture(autouse=True)
def quick_trace(request, monkeypatch):
    """Exports of the module's network take the graphs that were traced already."""
    if "network" in request.fixturenames:
        graphs = request.getfixturevalue("traced")
        monkeypatch.setattr(onnx_export, "trace", lambda _, spec, opset=18: copy_of(graphs[spec.outputs]))


def copy_of(model):
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result


@pytest.fixture(scope="module")
def exported(network, traced, tmp_path_factory):
    """Kind -> (path, spec, parity) of one export each."""
    folder = tmp_path_factory.mktemp("exported")
    kinds = {"raw": {}, "decoded": {"decoder": True}, "half": {"half": True}}
    files = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "trace", lambda _, spec, opset=18: copy_of(traced[spec.outputs]))
        for kind, arguments in kinds.items():
            path = folder / f"{kind}.onnx"
            files[kind] = (path, *onnx_export.export_onnx(network, SPEC, path, images=IMAGES, **arguments))
    assert sorted(p.name for p in folder.iterdir()) == ["decoded.onnx", "half.onnx", "raw.onnx"]
    return files


@pytest.mark.parametrize(
    "facts",
    [
        {"system": "movenet", "backbone": "mobilenet_v2", "width": 0.35},
        {"system": "movenet", "preset": "article", "width": 0.25},
    ],
    ids=["tf padding", "article"],
)
def test_folding_batch_norms_changes_nothing(facts):
    network = lively_network(facts)
    folded = fold_batch_norms(network)
    picture = planes(torch.from_numpy(noise(SIZE, 4, 1)))
    with torch.no_grad():
        before, after = network.double()(picture.double()), folded.double()(picture.double())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for name, values in before.items():
        assert values.std(dim=0).mean() > 0.01, f"the network is dead, this test says nothing: {name}"
        assert (values - after[name]).abs().max() < 1e-4  # weights were rounded to float32 in between


@pytest.mark.parametrize("batch", [1, 3])
def test_raw_file_gives_the_maps_of_torch_for_any_batch(network, exported, batch):
    images = noise(SIZE, batch, 2)
    with torch.no_grad():
        expected = network(planes(torch.from_numpy(images)))
    maps = load_model(exported["raw"][0]).run(images)
    assert list(maps) == ["center", "heatmap", "regression", "offset"]
    for name, values in expected.items():
        assert maps[name].shape == values.shape
        assert np.abs(maps[name] - values.numpy()).max() < 1e-3


@pytest.mark.parametrize("batch", [1, 3])
def test_decoded_file_gives_the_joints_of_the_codec_for_any_batch(exported, batch):
    images = noise(SIZE, batch, 3)
    codec = build_codec(SPEC.codec, SIZE, 17)
    xy, score, pose_score = codec.decode_batch(load_model(exported["raw"][0]).run(images))
    decoded = load_model(exported["decoded"][0]).run(images)
    assert decoded["joints"].shape == (batch, 17, 3)
    assert np.abs(decoded["joints"][:, :, :2] - xy).max() < 1e-2
    assert np.abs(decoded["joints"][:, :, 2] - score).max() < 1e-4
    assert np.abs(decoded["pose_score"] - pose_score).max() < 1e-4


@pytest.mark.parametrize("kind", ["raw", "decoded", "half"])
def test_file_says_what_it_is(exported, kind):
    path, spec, parity = exported[kind]
    assert load_model(path).spec == spec
    assert spec == replace(SPEC, outputs="decoded" if kind == "decoded" else "raw", provenance=spec.provenance)
    assert spec.provenance["licence"] == "none"
    assert spec.provenance["export"]["opset"] == 18
    assert spec.provenance["parity"]["moved"] == 0
    assert spec.provenance["parity"]["joints"] == parity.joints == 17 * parity.pictures
    assert parity.max_joint_px < JOINT_LIMIT
    assert json.loads(spec.to_json())["provenance"] == spec.provenance


def test_file_is_one_file_that_older_runtimes_read(exported):
    model = onnx.load(exported["raw"][0], load_external_data=False)
    assert [tensor.name for tensor in model.graph.initializer if tensor.external_data] == []
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)
    assert {p.key for p in model.metadata_props} == {SPEC_KEY}
    assert not any(node.op_type in ("Pad", "BatchNormalization") for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)


def test_half_file_is_half_as_large(exported):
    full, half = (exported[kind][0].stat().st_size for kind in ("raw", "half"))
    assert half < 0.6 * full
    assert exported["half"][1].provenance["export"]["weights"] == "float16"
    assert "against_float32" in exported["half"][1].provenance["parity"]


def test_weights_beyond_float16_are_refused_for_a_half_file(network, tmp_path):
    huge = fold_batch_norms(network)
    huge.heads.offset.out.weight.data[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"'heads\.offset\.out\.weight' reach 1e\+05"):
        onnx_export.export_onnx(huge, SPEC, tmp_path / "half.onnx", half=True, images=IMAGES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["raw", "decoded"])
def test_a_graph_that_disagrees_is_refused_and_not_left_behind(network, exported, tmp_path, monkeypatch, kind):
    """The traced graph is replaced by one whose offsets are wrong by 0.02 cells: .08 px, just too much."""
    wrong = onnx.load(exported[kind][0])
    bias = next(t for t in wrong.graph.initializer if t.name.endswith("heads.offset.out.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.02), bias.name))
    monkeypatch.setattr(onnx_export, "trace", lambda *_, **__: wrong)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an earlier export")
    with pytest.raises(ValueError, match=r"model\.onnx: not written.*544 of 544 joints moved.*deviation 0\.1.* px"):
        onnx_export.export_onnx(network, SPEC, path, decoder=kind == "decoded", images=IMAGES)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"an earlier export"


class MapsOf:
    """A backend that gives the maps of a network after a change."""

    spec = SPEC

    def __init__(self, network, change):
        self.network, self.change = network, change

    def run(self, images):
        with torch.no_grad():
            maps = {k: v.numpy().copy() for k, v in self.network(planes(torch.from_numpy(images))).items()}
        self.change(maps)
        return maps


class Patches(torch.nn.Module):
    """The least network with the four maps: each cell looks at its own 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = torch.nn.Conv2d(3, 1 + 17 + 34 + 34, 4, stride=4)

    def forward(self, image):
        center, heatmap, regression, offset = self.look(image / 255 - 0.5).split((1, 17, 34, 34), dim=1)
        regression, offset = (values.unflatten(1, (17, 2)) for values in (8 * regression, 0.5 + offset.tanh() / 2))
        return {
            "center": (4 * center).sigmoid(),
            "heatmap": (4 * heatmap).sigmoid(),
            "regression": regression,
            "offset": offset,
        }


@pytest.mark.parametrize(
    "codec",
    [{"vote_radius": 1, "softening": 4.0, "center_softening": 16.0}, {"vote_radius": 2}, {"refine": "dark"}],
    ids=lambda codec: next(iter(codec)) + str(next(iter(codec.values()))),
)
def test_every_way_to_decode_is_in_the_file_for_any_batch(codec):
    """Votes at the rim, tops and the centre's own softening, as the bundled models have them."""
    spec = replace(SPEC, codec={"name": "movenet", "offset_radius": 2, **codec}, outputs="decoded")
    network = Patches().eval()
    session = onnxruntime.InferenceSession(onnx_export.trace(network, spec).SerializeToString())
    own = build_codec(spec.codec, SIZE, 17)
    for batch in (1, 3):
        images = noise(SIZE, batch, 4)
        with torch.no_grad():
            maps = {name: values.numpy() for name, values in network(planes(torch.from_numpy(images))).items()}
        xy, score, pose_score = own.decode_batch(maps)
        joints, presence = session.run(["joints", "pose_score"], {"image": images})
        assert xy.std(axis=(0, 1)).min() > 2, "the joints are all in one place, this test says nothing"
        assert np.abs(joints[:, :, :2] - xy).max() < 1e-2
        assert np.abs(joints[:, :, 2] - score).max() < 1e-4 and np.abs(presence - pose_score).max() < 1e-4


class TwoPeaks(torch.nn.Module):
    """A network that sees two cells for each joint, the second one `gap` (relative) less good."""

    def __init__(self, gap: float):
        super().__init__()
        self.heatmap = torch.full((1, 17, 16, 24), 0.01)
        self.heatmap[:, :, 8, 9] = 0.8 * (
            1 - gap
        )  # 3 cells left and 3 right of the middle, where the joint is expected
        self.heatmap[:, :, 8, 15] = 0.8

    def forward(self, image):
        batch = len(image)
        center = torch.full((1, 1, 16, 24), 0.01)
        center[:, :, 8, 12] = 0.9
        pairs = torch.zeros(batch, 17, 2, 16, 24, dtype=image.dtype)
        heatmap = self.heatmap.to(image.dtype).repeat(batch, 1, 1, 1)
        return {
            "center": center.to(image.dtype).repeat(batch, 1, 1, 1),
            "heatmap": heatmap,
            "regression": pairs,
            "offset": pairs,
        }


def flip_first_joint(maps):
    maps["heatmap"][:, 0, 8, 15] *= 1 - 1e-2


@pytest.mark.parametrize(("gap", "ties", "moved"), [(1e-6, 2, 0), (1e-4, 0, 2)], ids=["equally good", "worse"])
def test_taking_the_other_of_two_cells_is_a_tie_only_when_they_are_equally_good(gap, ties, moved):
    images = noise(SIZE, 2, 0)
    network = TwoPeaks(gap)
    parity = compare(network, MapsOf(network, flip_first_joint), images)
    assert (parity.ties, parity.moved) == (ties, moved)
    assert parity.max_joint_px == pytest.approx(0 if ties else 24)  # 6 cells of 4 px


def test_a_joint_that_is_no_number_counts_as_moved():
    network = TwoPeaks(0.5)
    images = noise(SIZE, 1, 0)

    def spoil(maps):
        maps["offset"][:, 3] = np.nan

    parity = compare(network, MapsOf(network, spoil), images)
    assert parity.moved == 1
    assert not parity.agrees


def test_a_wrong_score_is_refused_though_the_joints_agree():
    network = TwoPeaks(0.5)

    def fade(maps):
        maps["heatmap"] *= np.float32(0.9)

    parity = compare(network, MapsOf(network, fade), noise(SIZE, 2, 0))
    assert parity.moved == 0
    assert parity.max_score == pytest.approx(0.08)
    assert not parity.agrees


def test_scenes_to_compare_on_are_all_different():
    images = scenes(SIZE, 4)
    assert (images.shape, images.dtype) == ((4, 64, 96, 3), np.uint8)
    assert len(np.unique(images.reshape(4, -1), axis=0)) == 4


def test_photos_to_compare_on_are_whole_padded_and_chosen_evenly(tmp_path):
    for i in range(9):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 10, 3), 10 * (i + 1), np.uint8))
    images = photos(tmp_path, (64, 64), count=3)
    assert images[:, 32, 32, 0].tolist() == [10, 50, 90]
    assert (images[:, :, :14] == 0).all()  # 64 x 64 shows the photo in columns 16 to 48
    assert (images[:, :, 18:46] > 0).all()


BAD = {
    "opset": ({"opset": 17}, ValueError, "opset must be one of 18 to 23, got 17"),
    "name": ({"path": "model.tflite"}, ValueError, "must end in .onnx"),
    "folder": ({"path": "missing/model.onnx"}, FileNotFoundError, "there is no such folder"),
    "photos": ({"data": "missing.jpg"}, FileNotFoundError, "there is no such photo or folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_told_before_any_work(network, tmp_path, case):
    arguments, kind, message = BAD[case]
    path = tmp_path / arguments.pop("path", "model.onnx")
    with pytest.raises(kind, match=message):
        onnx_export.export_onnx(network, SPEC, path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_are_refused(network, tmp_path):
    spoilt = fold_batch_norms(network)
    spoilt.heads.center.out.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"model 'toy' cannot be exported: its weights 'heads\.center\.out\.bias'"):
        onnx_export.export_onnx(spoilt, SPEC, tmp_path / "model.onnx")


def test_command_exports_next_to_the_model(network, tmp_path, capsys):
    save_model(tmp_path / "toy.safetensors", network, SPEC)
    assert run(["export", str(tmp_path / "toy.safetensors"), "--decoder"]) == 0
    assert "0 of 544 joints moved" in " ".join(capsys.readouterr().out.split())
    assert load_model(tmp_path / "toy_joints.onnx").spec.outputs == "decoded"


@pytest.mark.parametrize(
    ("content", "message"), [(b"no model", "not a safetensors file"), (None, "there is no such model file")]
)
def test_command_tells_of_a_bad_model_in_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "toy.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert run(["export", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "toy.onnx").exists()

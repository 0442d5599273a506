"""Model files and who runs them: what was saved comes back, and a file that is no model says so."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from safetensors.torch import load_file, save_file

from featherpose import COCO17, Skeleton
from featherpose.runtime.backends import load_model
from featherpose.runtime.backends.tflite import TfliteBackend
from featherpose.runtime.backends.torch import TorchBackend
from featherpose.spec import SPEC_KEY, ModelSpec
from featherpose.systems import build_network
from featherpose.systems.files import load_network, save_model

OFFICIAL = Path(__file__).parents[2] / "shared" / "peers" / "movenet_lightning_int8.tflite"
CLASSIFIER = Path(__file__).parents[2] / "shared" / "pretrained" / "mobilenet_v1_0.25_128_quant.tflite"
NETWORK = {"system": "movenet", "preset": "nano", "width": 0.35, "neck": {"8": 16, "16": 16, "32": 16}}
THREE = Skeleton("three", ("head", "left_hand", "right_hand"), (("left_hand", "right_hand"),))


def spec_of(**changes):
    facts = {"name": "small", "skeleton": THREE, "input_size": (96, 64), "codec": {"name": "movenet"}}
    return ModelSpec(**{**facts, "network": NETWORK, **changes})


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(NETWORK, joints=3).eval()


@pytest.fixture
def model(network, tmp_path):
    save_model(tmp_path / "small.safetensors", network, spec_of())
    return tmp_path / "small.safetensors"


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)


def test_what_was_saved_comes_back(network, model):
    again, spec = load_network(model)
    assert spec == spec_of()
    assert not again.training
    wanted = network.state_dict()
    assert {key: value.dtype for key, value in again.state_dict().items()} == {k: v.dtype for k, v in wanted.items()}
    assert all(torch.equal(value, wanted[key]) for key, value in again.state_dict().items())
    assert [file.name for file in model.parent.iterdir()] == ["small.safetensors"]


def test_channels_last_networks_are_saved_too(network, tmp_path):
    save_model(tmp_path / "a.safetensors", network.to(memory_format=torch.channels_last), spec_of())
    again, _ = load_network(tmp_path / "a.safetensors")
    assert torch.equal(again.heads.heatmap.out.weight, network.heads.heatmap.out.weight)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(network, model, monkeypatch):
    before = model.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_model(model, network, spec_of(name="other"))
    assert model.read_bytes() == before
    assert [file.name for file in model.parent.iterdir()] == ["small.safetensors"]


def test_a_model_is_only_saved_under_a_name_that_says_what_it_is(network, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_model(tmp_path / "a.pt", network, spec_of())
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_model(tmp_path / "nowhere" / "a.safetensors", network, spec_of())


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _text(path):
    path.write_text("# a text file, long enough to have a header\n")


def _rewrite(change):
    """Saves the tensors and metadata again after `change(state, metadata)`."""

    def damage(path):
        state, metadata = load_file(str(path)), {SPEC_KEY: spec_of().to_json()}
        change(state, metadata)
        save_file(state, str(path), metadata=metadata)

    return damage


BAD_MODELS = {
    "truncated": (_truncate, "not a safetensors file, or a truncated one"),
    "text": (_text, "not a safetensors file, or a truncated one"),
    "a classifier": (_rewrite(lambda s, m: m.clear()), "no featherpose model"),
    "another task": (_rewrite(lambda s, m: m.update({SPEC_KEY: '{"task": "depth"}'})), "for the task 'depth'"),
    "no network": (
        _rewrite(lambda s, m: m.update({SPEC_KEY: spec_of(network={}).to_json()})), "does not say which network"
    ),
    "unknown network": (
        _rewrite(lambda s, m: m.update({SPEC_KEY: spec_of(network={"system": "movnet"}).to_json()})),
        "unknown system 'movnet'; did you mean 'movenet'?",
    ),
    "a missing tensor": (
        _rewrite(lambda s, m: s.pop("heads.center.out.bias")), "the tensor 'heads.center.out.bias' is missing"
    ),
    "one too many": (_rewrite(lambda s, m: s.update(extra=torch.zeros(1))), "has no tensor 'extra'"),
    "another shape": (
        _rewrite(lambda s, m: s.update({"heads.center.out.bias": torch.zeros(2)})),
        r"'heads.center.out.bias' is \(2,\), where its spec's network has \(1,\)",
    ),
    "decoded": (_rewrite(lambda s, m: m.update({SPEC_KEY: spec_of(outputs="decoded").to_json()})), "gives raw maps"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_bad_model_file_is_told_in_one_sentence(name, model):
    damage, sentence = BAD_MODELS[name]
    damage(model)
    with pytest.raises(ValueError, match=sentence) as caught:
        TorchBackend(model)
    assert str(caught.value).startswith(f"{model}: ")


def test_torch_backend_gives_the_networks_maps(network, model):
    backend = load_model(model)
    assert isinstance(backend, TorchBackend)
    before = torch.get_num_threads()
    maps = backend.run(IMAGES)
    assert torch.get_num_threads() == before
    with torch.no_grad():
        wanted = network(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float())
    shapes = {"center": (1,), "heatmap": (3,), "regression": (3, 2), "offset": (3, 2)}
    assert {name: value.shape for name, value in maps.items()} == {k: (2, *s, 16, 24) for k, s in shapes.items()}
    for name, value in maps.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, wanted[name].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("backend", "package", "extra"), [(TorchBackend, "torch", "train"), (TfliteBackend, "ai_edge_litert", "tflite")]
)
def test_a_missing_package_names_its_extra(backend, package, extra, model, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == package or n.startswith("featherpose.models")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'featherpose\[{extra}\]'") as caught:
        backend(model)
    assert caught.value.name.split(".")[0] == package


# --- TFLite ---------------------------------------------------------------------------------------------------------


def write_joints(path, joints, size_wh=(64, 96), dtype="f4"):
    """A single-pose file that always finds the same joints: (1, 1, K, 3) of y, x, score."""
    pytest.importorskip("tflite")
    pytest.importorskip("ai_edge_litert")
    from tflite_writer import TfliteWriter

    writer = TfliteWriter()
    picture = writer.tensor("image", (1, size_wh[1], size_wh[0], 3), dtype=dtype)
    numbers = np.asarray(joints, "f4")[None, None]
    zero = writer.tensor("zero", numbers=np.zeros_like(numbers))
    found = writer.operator("ADD", [writer.tensor("joints", numbers=numbers), zero], "found", numbers.shape)
    return writer.write(path, [picture], [found])


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
def test_tflite_joints_become_x_y_in_input_pixels(dtype, tmp_path):
    joints = np.tile([0.25, 0.5, 0.75], (17, 1))  # y, x, score
    joints[3] = [1.0, -0.125, 0.0]
    backend = load_model(write_joints(tmp_path / "some_movenet.tflite", joints, dtype=dtype))
    assert isinstance(backend, TfliteBackend)
    assert (backend.spec.name, backend.spec.input_size) == ("some_movenet", (64, 96))
    assert (backend.spec.outputs, backend.spec.skeleton) == ("decoded", COCO17)
    found = backend.run(np.zeros((2, 96, 64, 3), np.uint8))
    assert found["joints"].shape == (2, 17, 3)
    np.testing.assert_allclose(found["joints"][1, 0], [32, 24, 0.75])
    np.testing.assert_allclose(found["joints"][1, 3], [-8, 96, 0])
    np.testing.assert_allclose(found["pose_score"], [16 * 0.75 / 17] * 2, rtol=1e-6)  # mean of the joint scores


OTHER_TFLITE = {
    "another number of joints": (lambda path: write_joints(path, np.zeros((14, 3))), r"gives \(1, 1, 14, 3\)"),
    "text": (lambda path: path.write_text("# no model at all"), "not a readable TFLite file"),
}


@pytest.mark.parametrize("name", OTHER_TFLITE)
def test_other_tflite_files_are_refused(name, tmp_path):
    pytest.importorskip("ai_edge_litert")
    make, sentence = OTHER_TFLITE[name]
    make(tmp_path / "a.tflite")
    with pytest.raises(ValueError, match=sentence):
        TfliteBackend(tmp_path / "a.tflite")


@pytest.mark.skipif(
    not (OFFICIAL.is_file() and CLASSIFIER.is_file()), reason=f"needs ../shared/peers and {CLASSIFIER.name} in ../shared"
)
def test_the_official_file_runs():
    pytest.importorskip("ai_edge_litert")
    backend = TfliteBackend(OFFICIAL)
    assert backend.spec.input_size == (192, 192)
    found = backend.run(np.zeros((1, 192, 192, 3), np.uint8))
    assert found["pose_score"][0] < 0.2  # nobody in a black picture
    with pytest.raises(ValueError, match=r"gives \(1, 1001\)"):
        TfliteBackend(CLASSIFIER)

"""Backbones that start from ImageNet classifiers compute the classifier's features."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("tflite", reason="needs the package 'tflite' (extra 'train')")

import torch
from safetensors.torch import save_file
from tflite_writer import random_network, write_classifier

from featherpose.importers.classifier import load_classifier
from featherpose.models.backbones import build_backbone
from featherpose.models.layers import ConvNorm, unfold_batch_norms

PRETRAINED = Path(__file__).parents[2] / "shared" / "pretrained"
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "coco_person" / "val"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def features(backbone, x):
    with torch.no_grad():
        return backbone.eval()(x)[32]


def test_a_tflite_classifier_gives_its_own_features(tmp_path):
    source = random_network(build_backbone("mobilenet_v2", width=0.35))
    path = write_classifier(tmp_path / "a.tflite", source)
    backbone = build_backbone("mobilenet_v2", width=0.35)
    assert load_classifier(backbone, path) == 52
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(features(backbone, x), features(source, x), rtol=1e-4, atol=1e-4)
    unfold_batch_norms(backbone, [x])
    torch.testing.assert_close(features(backbone, x), features(source, x), rtol=1e-3, atol=1e-3)


def test_a_classifier_of_another_width_is_refused_in_one_sentence(tmp_path):
    path = write_classifier(tmp_path / "a.tflite", random_network(build_backbone("mobilenet_v2", width=0.35)))
    for wanted in ({"name": "mobilenet_v2", "width": 0.5}, {"name": "shufflenet_v2"}, {"name": "mobilenet_v1"}):
        backbone = build_backbone(**wanted)
        before = [value.clone() for value in backbone.state_dict().values()]
        with pytest.raises(ValueError, match=r"a\.tflite: does not fit the backbone: convolution \d+ of the file is"):
            load_classifier(backbone, path)
        assert all(torch.equal(a, b) for a, b in zip(before, backbone.state_dict().values(), strict=True))


def test_a_classifier_with_another_activation_is_refused(tmp_path):
    path = write_classifier(tmp_path / "a.tflite", random_network(build_backbone("mobilenet_v2", width=0.35)))
    with pytest.raises(ValueError, match=r"'same', 'relu6'\), where 'stem' has .*'same', 'relu'\)"):
        load_classifier(build_backbone("mobilenet_v2", width=0.35, act="relu"), path)


BAD_FILES = {
    "a pickle": ("a.pth", b"x", "save_file"),
    "another kind": ("a.onnx", b"x", "must be a .tflite or a .safetensors file, got '.onnx'"),
    "text": ("a.safetensors", b"# hello, this is no header at all", "not a safetensors file"),
    "no tflite": ("a.tflite", b"# hello, this is no header at all", "not a TFLite file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_classifier_is_refused(name, tmp_path):
    file, content, sentence = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        load_classifier(build_backbone("mobilenet_v2", width=0.35), tmp_path / file)


def test_a_missing_classifier_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tflite"):
        load_classifier(build_backbone("mobilenet_v2", width=0.35), "nowhere.tflite")


# --- state dicts of torchvision and timm ----------------------------------------------------------------------------
# Their names as of torchvision 0.28 and timm 1.0, written out from our units; the values come from a source network.


def torchvision_v2(units):
    names, block, place = {}, 0, 0
    for name in units:
        if name == "stem":
            names[name] = ("features.0.0", "features.0.1")
        elif name == "last":
            names[name] = ("features.18.0", "features.18.1")
        else:
            number, part = int(name.split(".")[1]) + 1, name.split(".")[2]
            block, place = (number, 0) if number != block else (block, place + 1)
            stem = f"features.{block}.conv"
            names[name] = (
                (f"{stem}.{place}", f"{stem}.{place + 1}")
                if part == "project"
                else (f"{stem}.{place}.0", f"{stem}.{place}.1")
            )
    return names


def timm_v2(units):
    stages = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6]  # stage of each block
    names = {"stem": ("conv_stem", "bn1"), "last": ("conv_head", "bn2")}
    for name in units:
        if name in names:
            continue
        number, part = int(name.split(".")[1]), name.split(".")[2]
        stem = f"blocks.{stages[number]}.{number - stages.index(stages[number])}"
        if number == 0:
            parts = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
        else:
            parts = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
        names[name] = tuple(f"{stem}.{p}" for p in parts[part])
    return names


def timm_v1(units):
    stages = [0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4]
    names = {"stem": ("conv_stem", "bn1")}
    for name in units[1:]:
        number, part = int(name.split(".")[1]), name.split(".")[2]
        stem = f"blocks.{stages[number]}.{number - stages.index(stages[number])}"
        names[name] = (f"{stem}.conv_dw", f"{stem}.bn1") if part == "depthwise" else (f"{stem}.conv_pw", f"{stem}.bn2")
    return names


def torchvision_shuffle(units):
    names = {"stem": ("conv1.0", "conv1.1"), "last": ("conv5.0", "conv5.1")}
    branch2 = [("0", "1"), ("3", "4"), ("5", "6")]
    for name in units:
        if name in names:
            continue
        _, stage, unit, part, place = name.split(".")
        stem = f"stage{int(stage) + 2}.{unit}." + ("branch2" if part == "branch" else "branch1")
        conv, norm = branch2[int(place)] if part == "branch" else (str(2 * int(place)), str(2 * int(place) + 1))
        names[name] = (f"{stem}.{conv}", f"{stem}.{norm}")
    return names


def torchvision_v3(units):
    names, blocks = {"stem": ("features.0.0", "features.0.1"), "last": ("features.12.0", "features.12.1")}, {}
    for name in units:
        if name in names:
            continue
        number, part = int(name.split(".")[1]) + 1, name.split(".")[2]
        place = blocks[number] = blocks.get(number, -1) + 1
        stem = f"features.{number}.block.{place}"
        if part == "excite":
            blocks[number] -= name.endswith("reduce")  # both layers share a place
            names[name] = (f"{stem}.fc1" if name.endswith("reduce") else f"{stem}.fc2",)
        else:
            names[name] = (f"{stem}.0", f"{stem}.1")
    return names


def timm_v3(units):
    stages = [0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]
    names = {"stem": ("conv_stem", "bn1"), "last": ("blocks.5.0.conv", "blocks.5.0.bn1")}
    for name in units:
        if name in names:
            continue
        number, part = int(name.split(".")[1]), name.split(".")[2]
        stem = f"blocks.{stages[number]}.{number - stages.index(stages[number])}"
        if part == "excite":
            names[name] = (f"{stem}.se.conv_{name.split('.')[3]}",)
            continue
        if number == 0:
            parts = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
        else:
            parts = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
        names[name] = tuple(f"{stem}.{p}" for p in parts[part])
    return names


STATE_DICTS = {
    "torchvision mobilenet_v3_small": ({"name": "mobilenet_v3_small"}, torchvision_v3),
    "timm mobilenetv3_small": ({"name": "mobilenet_v3_small", "width": 0.5}, timm_v3),
    "torchvision mobilenet_v2": ({"name": "mobilenet_v2", "width": 0.35}, torchvision_v2),
    "timm mobilenetv2": ({"name": "mobilenet_v2", "width": 0.35}, timm_v2),
    "timm mobilenetv1": ({"name": "mobilenet_v1", "width": 0.25}, timm_v1),
    "torchvision shufflenet_v2": ({"name": "shufflenet_v2", "last": 64}, torchvision_shuffle),
}


@pytest.mark.parametrize("case", STATE_DICTS)
def test_a_state_dict_gives_its_own_features(case, tmp_path):
    arguments, naming = STATE_DICTS[case]
    source = random_network(build_backbone(**arguments), rng_seed=1)
    units = {
        name: unit
        for name, unit in source.named_modules()
        if isinstance(unit, ConvNorm) or (isinstance(unit, torch.nn.Conv2d) and unit.bias is not None)
    }
    names = naming(list(units))
    state = {"classifier.weight": torch.zeros(5, 7), "classifier.bias": torch.zeros(5)}
    if "timm mobilenetv3" in case:  # a 1x1 behind the pooling
        state |= {"conv_head.weight": torch.zeros(9, 7, 1, 1), "conv_head.bias": torch.zeros(9)}
    for name, (conv, *norm) in names.items():
        if not norm:
            state |= {f"{conv}.weight": units[name].weight.detach(), f"{conv}.bias": units[name].bias.detach()}
            continue
        (norm,) = norm
        state[f"{conv}.weight"] = units[name].conv.weight.detach().clone()
        state |= {f"{norm}.{key}": value.clone() for key, value in units[name].norm.state_dict().items()}
        if case != "torchvision mobilenet_v3_small":
            units[name].norm.eps = 1e-5  # the file's network divides by another deviation than ours
    path = tmp_path / "a.safetensors"
    save_file(state, str(path))
    backbone = build_backbone(**arguments)
    load_classifier(backbone, path, normalisation="inception")
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(features(backbone, x), features(source, x), rtol=1e-3, atol=1e-3)


def test_another_normalisation_moves_into_the_first_convolution(tmp_path):
    source = random_network(build_backbone("mobilenet_v2", width=0.35))
    names = torchvision_v2([name for name, unit in source.named_modules() if isinstance(unit, ConvNorm)])
    units = dict(source.named_modules())
    state = {}
    for name, (conv, norm) in names.items():
        state[f"{conv}.weight"] = units[name].conv.weight.detach().clone()
        state |= {f"{norm}.{key}": value.clone() for key, value in units[name].norm.state_dict().items()}
    save_file(state, str(tmp_path / "a.safetensors"))
    backbone = build_backbone("mobilenet_v2", width=0.35).eval()
    load_classifier(backbone, tmp_path / "a.safetensors", epsilon=source.stem.norm.eps)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    theirs = ((x + 1) / 2 - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    with torch.no_grad():
        ours, wanted = backbone.stem(x), source.stem(theirs)
    # All but the last row and column, where the padding is black for theirs and grey for ours.
    torch.testing.assert_close(ours[..., :-1, :-1], wanted[..., :-1, :-1], rtol=1e-3, atol=1e-3)


def test_a_state_dict_of_something_else_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3, 3)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match="found 0 convolutions and 0 batch norms"):
        load_classifier(build_backbone("mobilenet_v2", width=0.35), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="unknown normalisation 'none'; known: imagenet, inception"):
        load_classifier(build_backbone("mobilenet_v2"), tmp_path / "a.safetensors", normalisation="none")


CLASSIFIERS = {
    "tf2_mobilenet_v2_1.0_224_ptq.tflite": ({"name": "mobilenet_v2"}, 224, 0.97),
    "mobilenet_v1_0.5_160_quant.tflite": ({"name": "mobilenet_v1", "width": 0.5}, 160, 0.99),
}


@pytest.mark.parametrize("file", CLASSIFIERS)
def test_features_are_those_of_the_real_classifier(file):
    """Measured on 16 photos: mean correlation .994 and .998 of the pooled features; the rest is int8 arithmetic."""
    path = PRETRAINED / file
    if not (path.is_file() and PHOTOS.is_dir()):
        pytest.skip(f"needs ../shared/pretrained/{file} and ../shared/data")
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    import cv2

    from featherpose.importers.tflite_file import read_tflite

    arguments, size, least = CLASSIFIERS[file]
    backbone = build_backbone(**arguments)
    load_classifier(backbone, path)
    graph = read_tflite(path)
    pooled = graph.convolutions()[-1].inputs[0]
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        interpreter = litert.Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    for photo in sorted(PHOTOS.iterdir())[:3]:
        image = cv2.resize(cv2.imread(str(photo))[:, :, ::-1], (size, size), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(graph.inputs[0], image[None])
        interpreter.invoke()
        theirs = interpreter.get_tensor(pooled).astype(np.float32).ravel()
        ours = features(backbone, torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1).mean(dim=(2, 3)).ravel()
        assert np.corrcoef(theirs, ours.numpy())[0, 1] > least

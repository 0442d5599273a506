"""Bad cameras: blur lies along the motion, darkness and noise are as strong as asked, a photo always has the same fault."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherpose.cli import run
from featherpose.data.augment import NO_AUGMENTATION, Augmentation, augment
from featherpose.data.camera import FAULTS, Camera, camera_fault, few_bits, low_light, motion_blur
from featherpose.data.sample import sample_of_nobody
from featherpose.skeletons import COCO17


def dot(size=41):
    picture = np.zeros((size, size, 3), np.uint8)
    picture[size // 2, size // 2] = 255
    return picture


def spread(picture):
    """Standard deviations of the light along x and y."""
    light = picture[..., 0].astype(float)
    rows, columns = np.indices(light.shape)
    total = light.sum()
    x, y = (light * columns).sum() / total, (light * rows).sum() / total
    return np.sqrt((light * (columns - x) ** 2).sum() / total), np.sqrt((light * (rows - y) ** 2).sum() / total)


@pytest.mark.parametrize(("degrees", "along"), [(0, (1, 0)), (90, (0, 1)), (45, (0.7071, 0.7071))])
def test_motion_blur_is_a_line_of_its_length(degrees, along):
    """An even line of length L has the standard deviation L / 12 ** .5; the light's middle and sum stay."""
    blurred = motion_blur(dot(), 12, degrees)
    assert spread(blurred) == pytest.approx(np.array(along) * 12 / np.sqrt(12), abs=0.45)
    assert blurred[..., 0].astype(int).sum() == pytest.approx(255, rel=0.05)
    rows, columns = np.nonzero(blurred[..., 0])
    assert (float(rows.mean()), float(columns.mean())) == pytest.approx((20, 20), abs=0.3)


def test_motion_below_a_pixel_changes_nothing():
    assert np.array_equal(motion_blur(dot(), 0.9, 30), dot())


def test_low_light_takes_light_and_noise_grows_with_its_root():
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert (low_light(grey, 0.5, 0, np.random.default_rng(0)) == 64).all()
    white, dim = (low_light(np.full_like(grey, v), 1, 0.04, np.random.default_rng(0)) for v in (128, 32))
    assert white.mean() == pytest.approx(128, abs=0.3)
    assert white.std() == pytest.approx(255 * 0.04 * np.sqrt(128 / 255 + 1 / 9), rel=0.03)
    assert dim.std() == pytest.approx(255 * 0.04 * np.sqrt(32 / 255 + 1 / 9), rel=0.03)
    colours = np.corrcoef((white.reshape(-1, 3) - 128.0).T)
    assert colours[0, 1] == pytest.approx(0.5, abs=0.05)


def test_few_bits_keep_colours_in_their_channels():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    coded = few_bits(red, 20)
    assert coded.shape == red.shape
    assert np.abs(coded.astype(int) - red).mean() < 12


def textured(size=96):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.BILINEAR))


@pytest.mark.parametrize("name", FAULTS)
def test_faults_grow_with_their_strength(name):
    picture = textured()
    error = [
        np.abs(FAULTS[name](picture, strength, np.random.default_rng(3)).astype(int) - picture).mean()
        for strength in (0.2, 0.5, 1.0)
    ]
    assert 0 < error[0] < error[1] < error[2]


def test_faults_of_all_kinds_and_strengths_are_drawn(monkeypatch):
    drawn = []
    for name in FAULTS:
        monkeypatch.setitem(FAULTS, name, lambda picture, strength, rng, name=name: drawn.append((name, strength)))
    for seed in range(200):
        camera_fault(textured(), np.random.default_rng(seed))
    kinds, strengths = zip(*drawn, strict=True)
    assert min(kinds.count(name) for name in FAULTS) > 30
    assert np.quantile(strengths, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.08)


def test_as_a_rule_of_augmentation_it_changes_pixels_alone():
    sample = sample_of_nobody(Path("p.png"), (96, 96), COCO17)
    rules = Augmentation(**{**vars(NO_AUGMENTATION), "camera": 1.0})
    plain, faulty = (
        augment(textured(), sample, size_wh=(96, 96), rules=r, rng=np.random.default_rng(0))[0]
        for r in (NO_AUGMENTATION, rules)
    )
    assert faulty.shape == plain.shape
    assert (faulty != plain).any()


# --- evaluation through a camera -------------------------------------------------------------------------------------


def test_a_photo_has_the_same_fault_every_time(tmp_path):
    Image.fromarray(textured()).save(tmp_path / "a.png")
    sample = sample_of_nobody(tmp_path / "a.png", (96, 96), COCO17)
    first, again = Camera("noise", 0.5)(sample), Camera("noise", 0.5)(sample)
    assert np.array_equal(first, again)
    assert (first != textured()).any()
    Image.fromarray(textured()).save(tmp_path / "b.png")
    other = Camera("noise", 0.5)(sample_of_nobody(tmp_path / "b.png", (96, 96), COCO17))
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--camera", "motino"], "unknown camera fault 'motino'; did you mean 'motion'?"),
        (["--camera", "dark", "--strength", "2"], "the strength of a camera fault must lie in [0, 1], got 2"),
        (["--strength", "0.5"], "--strength is that of a fault: name one with --camera"),
    ],
)
def test_the_command_refuses_unknown_faults(tmp_path, capsys, arguments, said):
    assert run(["evaluate", "lite", "--data", str(tmp_path), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_the_command_looks_through_the_camera_and_says_so(tmp_path, capsys, monkeypatch):
    Image.fromarray(textured()).save(tmp_path / "a.png")
    person = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 20, 50, 60], "area": 3000, "iscrowd": 0,
              "num_keypoints": 17, "keypoints": [v for n in range(17) for v in (25 + 2 * n, 25 + 3 * n, 2)]}  # fmt: skip
    names = list(COCO17.joints)
    labels = {"images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 96}], "annotations": [person],
              "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}]}  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    out = tmp_path / "out"
    arguments = ["--data", str(tmp_path / "labels.json"), "--photos", str(tmp_path), "--camera", "dark", "--out", str(out)]
    read = []
    monkeypatch.setattr(Camera, "__call__", lambda camera, sample: read.append(camera) or textured())
    assert run(["evaluate", "nano", *arguments]) == 0
    assert "camera: dark at 0.5" in capsys.readouterr().out
    assert set(read) == {Camera("dark", 0.5)}
    facts = json.loads((out / "nano.json").read_text())
    assert facts["camera"] == {"fault": "dark", "strength": 0.5}
    assert "--camera dark --strength 0.5" in facts["command"]

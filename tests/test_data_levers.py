"""`featherpose data balance`, `scale` and `augment`, and the numbers behind `scale`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_training import JOINTS, write_split

from featherpose.cli import run
from featherpose.data.augment import NO_AUGMENTATION, Augmentation
from featherpose.data.readers import read_dataset
from featherpose.data.sample import Sample, has_nobody
from featherpose.data.scale import AreaTarget, input_areas, scale_report, target_of_areas, target_of_text
from featherpose.skeletons import Skeleton

DOTS = Skeleton("dots", ("a", "b", "c"))


def dots(side, target=0):
    """Three joints whose box is `side` by half of it."""
    xy = np.array([[[50, 50], [50 + side, 50], [50, 50 + side / 2]]], np.float32)
    return Sample(
        photo=Path("p.png"), size_wh=(200, 200), skeleton=DOTS, xy=xy, visibility=np.full((1, 3), 2, np.int8),
        box_xyxy=np.array([[50, 50, 50 + side, 50 + side / 2]], np.float32), area=np.array([900], np.float32),
        target=target, photo_id="p",
    )  # fmt: skip


def test_areas_at_the_input_by_hand():
    """The crop is 1.25 times the longer side: the box measures 128 x 64 at 160 px, whatever its size in the photo."""
    areas = input_areas([dots(20), dots(100), dots(20, target=-1)], NO_AUGMENTATION, np.random.default_rng(0))
    assert areas == pytest.approx([8192, 8192], rel=1e-4)


def test_the_report_tells_how_much_of_the_target_is_met():
    """Before, everybody has 8,192 px^2; the target 3,000 to 5,000 is reached in full."""
    samples = [dots(side) for side in np.linspace(20, 100, 400)]
    report = scale_report(samples, NO_AUGMENTATION, AreaTarget(3000, 4000, 5000))
    assert report["median"]["before"] == pytest.approx(8192, abs=1)
    assert report["median"]["after"] == pytest.approx(4000, rel=0.05)
    assert report["common_with_target"]["before"] == 0 and report["common_with_target"]["after"] > 0.9
    assert sum(report["shares"]["after"]) == pytest.approx(1, abs=1e-4) and report["joint_area"] == [3000, 5000]
    with pytest.raises(ValueError, match="no photo has a target with two labelled joints"):
        scale_report([dots(20, target=-1)], NO_AUGMENTATION, AreaTarget(3000, 4000, 5000))


def test_a_target_from_areas_keeps_ends_and_mean():
    areas = AreaTarget(2000, 3000, 8000).draw(20_000, np.random.default_rng(0))
    found = target_of_areas(areas)
    assert 2000 < found.low < 3000 and 6000 < found.high < 8000
    assert (found.low + found.mode + found.high) / 3 == pytest.approx(areas.mean(), rel=0.02)
    with pytest.raises(ValueError, match="no joint-box areas"):
        target_of_areas(np.zeros(3))


def test_a_target_from_text():
    assert target_of_text("2000,7000,12000") == AreaTarget(2000, 7000, 12000)
    assert target_of_text("2000, 4000") == AreaTarget(2000, 3000, 4000)
    assert target_of_text("some/folder") is None
    assert target_of_text("2000,4000").rules(Augmentation()).joint_area == (2000, 4000)
    for text in ("2000", "1,2,3,4", "4000,2000", "0,2000", "2000,9000,4000"):
        with pytest.raises(ValueError, match="target of joint-box areas"):
            target_of_text(text)


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    write_split(tmp_path / "data", "train", 20)
    write_split(tmp_path / "data", "val", 6, seed=1)
    return tmp_path / "data"


def test_balance_writes_groups_and_a_picture(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert run(["data", "balance", str(data), "--split", "train", "--out", str(tmp_path / "o")]) == 0
    report = json.loads((tmp_path / "o/balance-train.json").read_text())
    assert report["photos"] == 20 == sum(row["photos"] for row in report["groups"]) and len(report["groups"]) == 2
    assert [row["share_after"] for row in report["groups"]] == [0.5, 0.5]
    assert Image.open(tmp_path / "o/balance-train.png").size[0] > 500
    assert "group  0" in capsys.readouterr().out and not list((tmp_path / "o").glob(".*"))


@pytest.mark.parametrize("target", ["2000,3000,4000", "data"])
def test_scale_writes_histograms_and_tells_the_keys(data, tmp_path, capsys, target):
    pytest.importorskip("matplotlib")
    arguments = ["--target", str(data), "--target-split", "val"] if target == "data" else ["--target", target]
    assert run(["data", "scale", str(data), "--split", "train", *arguments, "--out", str(tmp_path / "o")]) == 0
    report = json.loads((tmp_path / "o/scale-train.json").read_text())
    assert report["photos"] == 20 and f"joint_area = {report['joint_area']}" in capsys.readouterr().out
    if target != "data":
        assert report["joint_area"] == [2000, 4000] and report["joint_area_mode"] == 3000
    assert (tmp_path / "o/scale-train.png").is_file()


def test_scale_compares_the_joints_that_both_sets_have(data, tmp_path, capsys):
    """The scene has two of the three joints, and another: boxes around the two are compared, in both sets."""
    pytest.importorskip("matplotlib")
    scene = tmp_path / "scene"
    write_split(scene, "train", 20, joints=("head", "leftHand", "tail"))
    arguments = ["data", "scale", str(data), "--split", "train", "--out", str(tmp_path / "o"), "--target"]
    assert run([*arguments, str(scene)]) == 0
    said = capsys.readouterr().out
    assert "boxes around those of both are compared: head, left_hand" in said and "whose skeleton has these joints" in said
    report = json.loads((tmp_path / "o/scale-train.json").read_text())
    assert report["joints"] == ["head", "left_hand"]
    two = [np.ptp(s.xy[0, :2], axis=0).prod() * (160 / 64) ** 2 for s in read_dataset(scene)]
    assert report["median"]["target"] == pytest.approx(np.median(two), abs=0.1)
    assert run([*arguments, str(data), "--target-split", "val"]) == 0
    assert "joints" not in json.loads((tmp_path / "o/scale-train.json").read_text())
    write_split(tmp_path / "far", "train", 4, joints=("head", "tail", "fin"))
    assert run([*arguments, str(tmp_path / "far")]) == 1
    assert "share fewer than two joints (head)" in capsys.readouterr().err


def test_augment_draws_what_training_sees(data, tmp_path):
    (tmp_path / "r.toml").write_text("[augment]\nflip = 0.0\n")
    arguments = ["--recipe", str(tmp_path / "r.toml"), "--set", "drop_joints=1", "--set", "paste_parts=1", "--count", "4"]
    assert run(["data", "augment", str(data), "--split", "train", *arguments, "--input-size", "64", "-o", str(tmp_path)]) == 0
    assert Image.open(tmp_path / "augment-train.png").size[0] > 300


def test_background_is_cut_where_nobody_is(tmp_path, capsys):
    """Somebody fills the left half of the first photo, and all of the second: one part comes out, from the right half."""
    labels = write_split(tmp_path / "data", "val", 2, size=256)
    halves = np.zeros((256, 256, 3), np.uint8)
    halves[:, :128], halves[:, 128:] = (255, 0, 0), (0, 0, 255)
    facts, boxes = json.loads(labels.read_text()), ([0, 30, 100, 200], [0, 0, 256, 256])
    for image, annotation, box in zip(facts["images"], facts["annotations"], boxes, strict=True):
        Image.fromarray(halves).save(tmp_path / "data/val" / image["file_name"])
        image["coco_id"] = 7 + image["id"]
        annotation.update(bbox=box, keypoints=[20, 40, 2] * 3)
    labels.write_text(json.dumps(facts))
    out = tmp_path / "nobody"
    arguments = ["data", "background", str(labels), "--out", str(out)]
    assert run(arguments) == 0
    assert "parts without people: 1, from 2 photos" in capsys.readouterr().out
    (sample,) = read_dataset(out, split="val")
    assert has_nobody(sample) and sample.photo_id == "7" and min(sample.size_wh) >= 48
    picture = np.asarray(Image.open(sample.photo))
    assert picture.shape[:2] == sample.size_wh[::-1] and picture[..., 2].min() > 200 and picture[..., 0].max() < 60
    first = sample.photo.read_bytes()
    assert json.loads((out / "person_keypoints_val.json").read_text())["categories"][0]["keypoints"] == list(JOINTS)
    assert run(arguments) == 1 and "not empty" in capsys.readouterr().err
    assert run([*arguments, "--overwrite"]) == 0 and sample.photo.read_bytes() == first, "the same seed, the same parts"


def test_background_never_replaces_labels_of_people(tmp_path, capsys):
    """Its own input, which lists photos elsewhere; other hand-made labels; and background that it is made from."""
    labels = write_split(tmp_path / "data", "val", 2, size=256)
    facts = json.loads(labels.read_text())
    for image in facts["images"]:
        image["file_name"] = f"../photos/{image['file_name']}"
    for annotation in facts["annotations"]:
        annotation.update(bbox=[0, 30, 60, 60], keypoints=[20, 40, 2] * 3)
    labels.write_text(json.dumps(facts))
    (tmp_path / "data/val").rename(tmp_path / "photos")
    before = labels.read_bytes()
    assert run(["data", "background", str(tmp_path / "data"), "--out", str(tmp_path / "data"), "--overwrite"]) == 1
    assert "the new split is made from this label file" in capsys.readouterr().err
    other = tmp_path / "other/person_keypoints_val.json"
    other.parent.mkdir()
    other.write_bytes(before)
    assert run(["data", "background", str(labels), "--out", str(other.parent), "--overwrite"]) == 1
    assert "was not written here" in capsys.readouterr().err
    assert labels.read_bytes() == before == other.read_bytes() and len(list(other.parent.iterdir())) == 1
    nobody = tmp_path / "nobody"
    assert run(["data", "background", str(labels), "--out", str(nobody)]) == 0
    names = sorted(path.name for path in nobody.rglob("*"))
    assert run(["data", "background", str(nobody), "--out", str(nobody), "--overwrite"]) == 1
    assert sorted(path.name for path in nobody.rglob("*")) == names


def test_a_photo_that_is_not_the_labelled_one_is_counted_and_not_cut(tmp_path, capsys):
    labels = write_split(tmp_path / "data", "val", 2, size=256)
    facts = json.loads(labels.read_text())
    for annotation in facts["annotations"]:
        annotation.update(bbox=[0, 30, 60, 60], keypoints=[20, 40, 2] * 3)
    labels.write_text(json.dumps(facts))
    photo = tmp_path / "data/val" / facts["images"][0]["file_name"]
    Image.open(photo).resize((100, 100)).save(photo)
    assert run(["data", "background", str(labels), "--out", str(tmp_path / "o")]) == 0
    told = capsys.readouterr()
    assert "parts without people: 1, from 2 photos" in told.out
    assert "photos that cannot be read: 1" in told.out
    arguments = ["--recipe", str(tmp_path / "r.toml"), "--count", "4", "--input-size", "64", "-o", str(tmp_path)]
    (tmp_path / "r.toml").write_text("[augment]\nflip = 0.0\n")
    assert run(["data", "augment", str(tmp_path / "data"), "--split", "val", *arguments]) == 0
    assert Image.open(tmp_path / "augment-val.png").size[1] < 300  # of one photo


def test_photos_full_of_people_have_no_background(tmp_path, capsys):
    labels = write_split(tmp_path / "data", "val", 2, size=64)
    assert run(["data", "background", str(labels), "--out", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err.strip()
    assert "none of the 2 photos has a part of 48 pixels that shows nobody" in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["augment", "--set", "drop_joint=1"], "unknown key 'augment.drop_joint'; did you mean 'drop_joints'?"),
        (["augment", "--set", "drop_joints=2"], "augment.drop_joints is a probability"),
        (["augment", "--set", "drop_joints"], "is not KEY=VALUE"),
        (["augment", "--recipe", "none.toml"], "there is no such recipe"),
        (["scale", "--target", "5,4,3"], "target of joint-box areas"),
        (["scale", "--target", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(data, tmp_path, capsys, arguments, said):
    verb, *rest = arguments
    assert run(["data", verb, str(data), "--split", "train", *rest, "--out", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error and not (tmp_path / "o").exists()


def test_a_split_without_people_has_no_groups_and_no_areas(data, tmp_path, capsys):
    labels = data / "person_keypoints_val.json"
    labels.write_text(json.dumps({**json.loads(labels.read_text()), "annotations": []}))
    assert run(["data", "balance", str(data), "--split", "val", "--out", str(tmp_path / "o")]) == 0
    assert json.loads((tmp_path / "o/balance-val.json").read_text())["without_group"] == 6
    assert run(["data", "scale", str(data), "--split", "val", "--target", "1000,2000", "--out", str(tmp_path / "p")]) == 1
    assert "no joint-box areas to change" in capsys.readouterr().err and len(JOINTS) == 3


# --- pictures that exports are compared and quantised on ------------------------------------------------------------


@pytest.mark.parametrize("labelled", [True, False])
def test_unreadable_photos_are_left_out_of_an_export_and_counted(data, capsys, labelled):
    from featherpose.cli.export import _photos_left_out_told
    from featherpose.export.pictures import LeftOut, crops
    from featherpose.spec import ModelSpec

    spec = ModelSpec(name="m", skeleton=DOTS, input_size=(64, 64), codec={"name": "movenet"})
    place = data if labelled else data / "train"
    for number in (2, 5):
        (data / f"train/{number}.png").write_bytes(b"no picture")
    with pytest.warns(LeftOut, match="2 of 20 photos cannot be read and were left out; the first: .*2.png"):
        assert crops(place, spec, 100).shape == (18, 64, 64, 3)
    with _photos_left_out_told():
        crops(place, spec, 100)
    told = capsys.readouterr().err
    assert told.startswith("warning: ") and "2 of 20 photos" in told and told.count("\n") == 1
    for photo in (data / "train").iterdir():
        photo.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="none of the 20 photos can be read; the first: "):
        crops(place, spec, 100)

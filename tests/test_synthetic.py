"""Synthetic scenes: the labels are exact, and the same seed draws the same picture."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.readers.coco import read_coco
from featherpose.data.synthetic import (
    POSES,
    BodyPose,
    BodyShape,
    Camera,
    Figure,
    Look,
    Occluder,
    blend_poses,
    draw_figures,
    draw_scene,
    draw_seed,
    mirror_camera,
    mirror_figure,
    random_figure,
)
from featherpose.data.synthetic.body import LIMITS, bones_of
from featherpose.data.synthetic.dataset import seed_of, write_dataset
from featherpose.data.synthetic.figure import body_of
from featherpose.data.synthetic.mesh import disc, face_set
from featherpose.data.synthetic.poses import random_pose
from featherpose.geometry import flip_joints
from featherpose.skeletons import COCO17

SIZE = 160
GREY = np.full((SIZE, SIZE, 3), 128, dtype=np.uint8)
CAMERA = Camera(position=(0.0, 1.0, 5.0), focal=350.0, centre_xy=(80.0, 88.0))
STRAIGHT = {f"{side}_{name}": 0.0 for side in ("left", "right") for name in ("arm_raise", "elbow")}
SHAPE = BodyShape(torso=0.5, shoulder=0.175, hip=0.095, upper_arm=0.3, forearm=0.265, thigh=0.43, shank=0.43)
BALD = Look(hair_style="bald")


def joint(name: str) -> int:
    return COCO17.index(name)


@pytest.mark.parametrize(
    ("angles", "name", "expected"),
    [
        ({}, "left_hip", (0.095, 0, 0)),
        ({}, "left_shoulder", (0.175, 0.5, 0)),
        ({}, "left_wrist", (0.175, 0.5 - 0.3 - 0.265, 0)),
        ({}, "right_ankle", (-0.095, -0.86, 0)),
        ({"left_elbow": 90.0}, "left_wrist", (0.175, 0.2, 0.265)),
        ({"right_leg_raise": 90.0}, "right_ankle", (-0.095, 0, 0.86)),
        ({"right_leg_raise": 90.0, "right_knee": 90.0}, "right_ankle", (-0.095, -0.43, 0.43)),
        ({"left_leg_raise": 90.0, "left_leg_plane": 90.0}, "left_knee", (0.095 + 0.43, 0, 0)),
        ({"right_leg_raise": 90.0, "right_leg_plane": 90.0}, "right_knee", (-0.095 - 0.43, 0, 0)),
        ({"lean": 90.0}, "left_shoulder", (0.175, 0, 0.5)),
        ({"lean": -90.0}, "right_ankle", (-0.095, 0, 0.86)),
        ({"roll": 90.0}, "right_shoulder", (0.5, 0.175, 0)),
        ({"twist": 90.0}, "left_shoulder", (0, 0.5, -0.175)),
    ],
)
def test_joints_of_known_angles_are_where_they_must_be(angles, name, expected):
    bones = bones_of(SHAPE, BodyPose(**{**STRAIGHT, **angles}))
    np.testing.assert_allclose(bones.joints[joint(name)], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("camera", "point", "xy", "depth"),
    [
        (Camera((0, 1, 4), focal=100, centre_xy=(50, 60)), (1, 2, 0), (75, 35), 4),
        (Camera((0, 5, 0), pitch=90, focal=100, centre_xy=(50, 60)), (1, 0, 0), (70, 60), 5),
        (Camera((0, 5, 0), pitch=90, focal=100, centre_xy=(50, 60)), (0, 0, -1), (50, 40), 5),
        (Camera((0, 0, 0), yaw=90, focal=100, centre_xy=(50, 60)), (-2, 0, -1), (100, 60), 2),
        (Camera((0, 0, 2), roll=90, focal=100, centre_xy=(50, 60)), (0, 1, 0), (0, 60), 2),
    ],
    ids=["straight", "down, right", "down, ahead", "to the left", "rolled clockwise"],
)
def test_camera_projects_hand_computed_points(camera, point, xy, depth):
    found_xy, found_depth = camera.project(np.array(point, dtype=float))
    np.testing.assert_allclose(found_xy, xy, atol=1e-9)
    assert found_depth == pytest.approx(depth)


def test_bones_keep_their_length_and_angles_their_limits_in_every_pose():
    rng = np.random.default_rng(0)
    shape = BodyShape()
    for kind in POSES:
        pose = random_pose(rng, kind)
        for name, (low, high) in LIMITS.items():
            sides = [name] if hasattr(pose, name) else [f"left_{name}", f"right_{name}"]
            assert all(low <= getattr(pose, side) <= high for side in sides), (kind, name)
        joints = bones_of(shape, pose).joints
        for side in ("left", "right"):
            for first, second, length in (
                ("shoulder", "elbow", shape.upper_arm),
                ("elbow", "wrist", shape.forearm),
                ("hip", "knee", shape.thigh),
                ("knee", "ankle", shape.shank),
            ):
                bone = joints[joint(f"{side}_{first}")] - joints[joint(f"{side}_{second}")]
                assert np.linalg.norm(bone) == pytest.approx(length)


@pytest.mark.parametrize("name", ["nose", "left_wrist", "right_ankle", "left_hip"])
def test_a_marker_drawn_at_the_joint_lies_on_the_label(name):
    figure = Figure(look=BALD, heading=20)
    place = body_of(figure).joints[joint(name)]
    towards = place + 0.4 * (np.array(CAMERA.position) - place)  # on the same ray, in front of the body
    facing = disc(towards, np.array([0.04, 0.0, 0.0]), np.array([0.0, 0.04, 0.0]))
    marker = face_set(facing, np.array([1.0, 0.0, 1.0]))
    image, sample = draw_figures([figure], CAMERA, GREY, props=[marker])
    red, green, blue = (image[..., i].astype(float) for i in range(3))
    weight = np.clip(red + blue - 2 * green - 60, 0, None)
    assert weight.sum() > 0
    middle = [(weight.sum(axis=axis) * (np.arange(SIZE) + 0.5)).sum() / weight.sum() for axis in (0, 1)]
    np.testing.assert_allclose(sample.xy[0, joint(name)], middle, atol=0.2)


def test_box_is_that_of_the_pixels_that_changed():
    figure = Figure(look=replace(BALD, skin=(1.0, 0.2, 0.2)), pose=BodyPose(left_arm_raise=120))
    image, sample = draw_figures([figure], CAMERA, GREY, shadow=0)
    changed = (image != GREY).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    np.testing.assert_allclose(sample.box_xyxy[0], [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=0.51)
    assert abs(sample.area[0] - changed.sum()) < 0.15 * changed.sum()


def test_a_box_ends_at_the_edge_of_the_picture_and_joints_do_not():
    camera = replace(CAMERA, centre_xy=(80.0, 160.0))
    _, sample = draw_figures([Figure()], camera, GREY)
    assert sample.box_xyxy[0, 3] == SIZE
    ankle = joint("left_ankle")
    assert sample.xy[0, ankle, 1] > SIZE
    assert sample.visibility[0, ankle] == 1


@pytest.mark.parametrize(
    ("heading", "seen", "hidden"),
    [
        (0, ["nose", "left_eye", "right_eye", "left_shoulder", "right_hip", "left_knee", "right_ankle", "left_wrist"],
        []),
        (180, ["left_shoulder", "right_elbow", "left_hip", "right_knee"], ["nose", "left_eye", "right_eye"]),
        (90, ["nose", "right_ear", "right_shoulder", "right_elbow"], ["left_ear", "left_shoulder", "left_elbow",
        "left_eye"]),
        (-90, ["nose", "left_ear", "left_shoulder", "left_elbow"], ["right_ear", "right_shoulder", "right_elbow"]),
    ],
    ids=["front", "back", "turned to their left", "turned to their right"],
)  # fmt: skip
def test_joints_on_the_far_side_are_occluded(heading, seen, hidden):
    _, sample = draw_figures([Figure(look=BALD, heading=heading)], CAMERA, GREY)
    visibility = dict(zip(COCO17.joints, sample.visibility[0], strict=True))
    assert {name: visibility[name] for name in seen} == dict.fromkeys(seen, 2)
    assert {name: visibility[name] for name in hidden} == dict.fromkeys(hidden, 1)


def test_everything_under_an_occluder_is_occluded_and_keeps_its_box():
    _, free = draw_figures([Figure(look=BALD)], CAMERA, GREY)
    everywhere = Occluder(np.array([(-1.0, -1.0), (161.0, -1.0), (161.0, 161.0), (-1.0, 161.0)]))
    image, sample = draw_figures([Figure(look=BALD)], CAMERA, GREY, occluders=[everywhere])
    assert (sample.visibility == 1).all()
    assert len(np.unique(image)) == 1
    np.testing.assert_array_equal(sample.box_xyxy, free.box_xyxy)
    np.testing.assert_array_equal(sample.xy, free.xy)


def test_a_person_in_front_occludes_the_one_behind():
    front, behind = Figure(place=(0.0, 1.0)), Figure(place=(0.0, -1.0))
    for figures, hidden in (([front, behind], 1), ([behind, front], 0)):
        _, sample = draw_figures(figures, CAMERA, GREY)
        torso = [joint(name) for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
        assert (sample.visibility[hidden, torso] == 1).all()
        assert (sample.visibility[1 - hidden, torso] == 2).all()


def test_mirrored_figures_have_mirrored_labels():
    rng = np.random.default_rng(5)
    figure = replace(random_figure(rng, "sit"), place=(0.1, 0.3))
    camera = Camera((0.3, 1.2, 4.0), yaw=4, pitch=8, roll=5, focal=200, centre_xy=(70, 75))
    _, sample = draw_figures([figure], camera, GREY)
    _, mirrored = draw_figures([mirror_figure(figure)], mirror_camera(camera, SIZE), GREY)
    expected = flip_joints(sample.xy[0] * [-1, 1] + [SIZE, 0], COCO17)
    np.testing.assert_allclose(mirrored.xy[0], expected, atol=1e-3)
    assert (mirrored.visibility[0] == flip_joints(sample.visibility[0], COCO17)).mean() > 0.9
    x1, y1, x2, y2 = sample.box_xyxy[0]
    np.testing.assert_allclose(mirrored.box_xyxy[0], [SIZE - x2, y1, SIZE - x1, y2], atol=1.01)


def test_the_same_seed_draws_the_same_scene():
    first, second = (draw_scene(np.random.default_rng(11), (128, 96), persons=2) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1].xy, second[1].xy)
    np.testing.assert_array_equal(first[1].visibility, second[1].visibility)
    again, _ = draw_seed(int(first[1].photo_id.removeprefix("synthetic-")), (128, 96), persons=2)
    np.testing.assert_array_equal(first[0], again)
    other, _ = draw_scene(np.random.default_rng(12), (128, 96), persons=2)
    assert (other != first[0]).any()


def test_scenes_have_the_size_asked_for_and_one_clear_target():
    rng = np.random.default_rng(3)
    for size_wh, persons in (((96, 96), 1), ((128, 80), 2), ((80, 128), 3), ((97, 101), 1), ((96, 96), 4)):
        image, sample = draw_scene(rng, size_wh, persons)
        assert image.shape == (size_wh[1], size_wh[0], 3) and image.dtype == np.uint8
        assert sample.size_wh == size_wh and 1 <= len(sample.xy) <= persons
        assert sample.target == 0
        middle = (sample.box_xyxy[:, :2] + sample.box_xyxy[:, 2:]) / 2
        distance = np.linalg.norm(middle - np.array(size_wh) / 2, axis=1)
        assert (distance[1:] >= distance[0] + 0.1 * min(size_wh)).all()
        assert np.isfinite(sample.xy).all() and set(np.unique(sample.visibility)) <= {1, 2}
        assert (sample.box_xyxy[:, 2:] <= size_wh).all() and (sample.box_xyxy >= 0).all()


@pytest.mark.parametrize("kind", list(POSES))
def test_every_kind_of_pose_is_drawn(kind):
    _, sample = draw_scene(np.random.default_rng(1), (64, 64), pose=kind, occluders=0, effects=False)
    assert sample.area[0] > 50


def test_blended_poses_move_evenly():
    first, last = BodyPose(left_elbow=10.0), BodyPose(left_elbow=110.0)
    assert blend_poses(first, last, 0.0) == first
    assert blend_poses(first, last, 0.25).left_elbow == 35.0
    assert blend_poses(first, last, 1.0) == last


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"persons": 0}, "at least 1 person"),
        ({"size_wh": (8, 64)}, "at least 16 x 16"),
        ({"pose": "sitt"}, "did you mean 'sit'"),
        ({"backdrop": "rom"}, "did you mean 'room'"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_scene(np.random.default_rng(0), **arguments)


def test_a_written_set_reads_back_as_drawn(tmp_path):
    labels = write_dataset(tmp_path / "set", count=4, size_wh=(96, 80), persons=(1, 3), seed=7, split="val")
    samples = read_coco(labels, tmp_path / "set" / "val")
    rng = np.random.default_rng(7)
    assert len(samples) == 4
    for sample in samples:
        _, drawn = draw_scene(rng, (96, 80), int(rng.integers(1, 4)))
        assert sample.photo_id == drawn.photo_id and sample.size_wh == drawn.size_wh
        # Persons none of whose joints are in the picture have no labels to come back.
        inside = ((drawn.xy >= 0) & (drawn.xy < drawn.size_wh)).all(axis=2)
        people = inside.any(axis=1)
        np.testing.assert_array_equal(sample.visibility, np.where(inside, drawn.visibility, 0)[people])
        np.testing.assert_allclose(sample.xy[inside[people]], drawn.xy[inside], atol=0.006)
        np.testing.assert_allclose(sample.box_xyxy, drawn.box_xyxy[people], atol=0.011)
        np.testing.assert_allclose(sample.area, drawn.area[people], atol=0.011)
        assert sample.target == 0
        assert sample.photo.is_file()


def test_a_folder_with_something_in_it_is_only_replaced_when_told(tmp_path):
    arguments = {"count": 1, "size_wh": (64, 64), "split": "train"}
    labels = write_dataset(tmp_path, **arguments, seed=1)
    before = labels.read_bytes()
    with pytest.raises(FileExistsError, match=r"not empty.*--overwrite"):
        write_dataset(tmp_path, **arguments, seed=2)
    assert labels.read_bytes() == before
    write_dataset(tmp_path, **arguments, seed=2, overwrite=True)
    assert labels.read_bytes() != before and len(list((tmp_path / "train").iterdir())) == 1
    write_dataset(tmp_path, **{**arguments, "split": "val"})  # another split beside it
    (tmp_path / "train" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"holiday\.jpg"):
        write_dataset(tmp_path, **arguments, overwrite=True)


def test_labels_that_were_not_drawn_here_are_never_replaced(tmp_path):
    """A label file of other photos, which lie elsewhere; and one that lists ours, but was written by another program."""
    labels = tmp_path / "person_keypoints_train.json"
    arguments = {"count": 1, "size_wh": (64, 64), "overwrite": True}
    mine = {"info": {"description": "featherpose"}, "images": [{"file_name": "../photos/1.jpg"}]}
    for facts in (mine, {"images": [{"file_name": "synthetic-1.jpg"}]}, [1], {"info": None, "images": [{"file_name": 1}]}):
        labels.write_text(json.dumps(facts))
        before = labels.read_bytes()
        with pytest.raises(FileExistsError, match=r"person_keypoints_train\.json: was not written here .* move it away"):
            write_dataset(tmp_path, **arguments)
        assert labels.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [labels.name]


def test_splits_do_not_share_photos(tmp_path):
    """Train keeps the seed 0; another split has its own seed, and none is drawn with that of a split beside it."""
    arguments = {"count": 2, "size_wh": (64, 64)}
    write_dataset(tmp_path / "set", **arguments)
    write_dataset(tmp_path / "set", **arguments, split="val")
    names = {split: {path.name for path in (tmp_path / "set" / split).iterdir()} for split in ("train", "val")}
    assert not names["train"] & names["val"] and seed_of("train") == 0 and seed_of("val") != seed_of("test")
    write_dataset(tmp_path / "again", **arguments, seed=0)
    assert {path.name for path in (tmp_path / "again/train").iterdir()} == names["train"]
    with pytest.raises(ValueError, match="seed 0 draws photos of split 'train' again; choose another --seed"):
        write_dataset(tmp_path / "set", **arguments, split="test", seed=0)
    assert not (tmp_path / "set/test").exists() and not list((tmp_path / "set").glob(".*"))


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def no_space(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="No space left") as error:
        write_dataset(tmp_path / "set", count=1, size_wh=(64, 64))
    assert error.value.filename.endswith(".jpg")
    assert list(tmp_path.iterdir()) == []


def test_synth_writes_a_set_and_tells_wrong_options_in_one_line(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "featherpose", "synth", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(str(tmp_path / "set"), "--count", "2", "--size", "64x48", "--persons", "1-2")
    assert done.returncode == 0, done.stderr
    assert len(read_coco(tmp_path / "set" / "person_keypoints_train.json", tmp_path / "set" / "train")) == 2
    again = run(str(tmp_path / "set"), "--count", "1", "--size", "64")
    assert again.returncode == 1 and again.stderr.startswith("error: ") and "--overwrite" in again.stderr
    wrong = run(str(tmp_path / "other"), "--persons", "many")
    assert wrong.returncode == 1 and "--persons must look like 2 or 1-3" in wrong.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size_wh": (70000, 16)}, "16 to 16384 pixels, 67 million in all, got 70000x16"),
        ({"size_wh": (16384, 16384)}, "67 million in all"),
        ({"size_wh": (64, 8)}, "16 to 16384 pixels"),
        ({"persons": (1, 300)}, "at most 100 people are drawn in a scene, got 300"),
    ],
)
def test_sets_that_cannot_be_drawn_are_refused_before_anything_is_written(tmp_path, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_dataset(tmp_path / "set", count=1, **arguments)
    assert list(tmp_path.iterdir()) == []

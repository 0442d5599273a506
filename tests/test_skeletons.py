"""Skeletons: joints are matched by name, mirrored by pairs, read from files, and mistakes name the nearest word."""

import json

import numpy as np
import pytest

from featherpose.skeletons import (
    COCO17,
    DEFAULT_SIGMA,
    LSP14,
    MPII16,
    SKELETONS,
    Skeleton,
    canonical_joint_name,
    did_you_mean,
    joint_mapping,
    load_skeleton,
)

HAND = Skeleton(
    name="hand",
    joints=("wrist", "left_tip", "right_tip"),
    flip_pairs=(("left_tip", "right_tip"),),
    bones=(("wrist", "left_tip"), ("wrist", "right_tip")),
    sigmas=(0.1, 0.05, 0.05),
)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_mirroring_swaps_the_sides_and_nothing_else(skeleton):
    names = np.array(skeleton.joints)
    mirrored = names[skeleton.flip_index()]
    for before, after in zip(names, mirrored, strict=True):
        swapped = {"left": "right", "right": "left"}
        side, _, rest = before.partition("_")
        assert after == (f"{swapped[side]}_{rest}" if side in swapped else before)


def test_flip_index_by_hand():
    assert COCO17.flip_index().tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert LSP14.flip_index().tolist() == [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13]
    assert HAND.flip_index().tolist() == [0, 2, 1]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_bones_and_sigmas_are_the_same_on_both_sides(skeleton):
    flip = skeleton.flip_index()
    bones = {frozenset(bone) for bone in skeleton.bone_index().tolist()}
    assert {frozenset(int(flip[end]) for end in bone) for bone in bones} == bones
    sigmas = np.array(skeleton.sigmas)
    assert (sigmas[flip] == sigmas).all()


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=list(SKELETONS))
def test_bones_join_every_joint(skeleton):
    reached, edges = {0}, skeleton.bone_index().tolist()
    for _ in edges:
        reached |= {end for bone in edges if reached & set(bone) for end in bone}
    assert reached == set(range(len(skeleton)))


def test_sizes_and_indices():
    assert (len(COCO17), len(LSP14), len(MPII16)) == (17, 14, 16)
    assert COCO17.index("left_wrist") == 9
    assert HAND.bone_index().tolist() == [[0, 1], [0, 2]]
    assert Skeleton("dot", ("a",)).bone_index().shape == (0, 2)


def test_sigmas_default_to_the_middle_of_the_measured_ones():
    assert Skeleton("dots", ("a", "b")).sigmas == (DEFAULT_SIGMA, DEFAULT_SIGMA)


def test_lists_become_tuples_so_that_skeletons_compare_and_hash():
    made = Skeleton(
        "hand", list(HAND.joints), [list(p) for p in HAND.flip_pairs], [list(b) for b in HAND.bones], [0.1, 0.05, 0.05]
    )
    assert made == HAND
    assert hash(made) == hash(HAND)


# --- mapping by name -----------------------------------------------------------------------------------------------


def test_lsp_on_coco_by_name():
    """COCO's nose, eyes and ears are not in LSP; left_shoulder is its joint 9, right_ankle its joint 0."""
    place = joint_mapping(LSP14, COCO17)
    assert place.tolist() == [-1, -1, -1, -1, -1, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0]


def test_coco_on_lsp_leaves_neck_and_head_unknown():
    assert joint_mapping(COCO17, LSP14).tolist() == [16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, -1, -1]


def test_a_skeleton_maps_onto_itself():
    for skeleton in SKELETONS.values():
        assert joint_mapping(skeleton, skeleton).tolist() == list(range(len(skeleton)))


def test_mapping_sees_through_spelling():
    loose = Skeleton("loose", ("RightAnkle", "l_hip", "Left Shoulder", "nose"))
    assert [loose.joints[i] if i >= 0 else None for i in joint_mapping(loose, COCO17)][:7] == [
        "nose", None, None, None, None, "Left Shoulder", None,
    ]  # fmt: skip
    assert joint_mapping(loose, COCO17)[[11, 16]].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("left_shoulder", "left_shoulder"),
        ("Left Shoulder", "left_shoulder"),
        ("leftShoulder", "left_shoulder"),
        ("LeftShoulder", "left_shoulder"),
        ("LShoulder", "left_shoulder"),
        ("l_shoulder", "left_shoulder"),
        ("shoulder_l", "left_shoulder"),
        ("shoulder-right", "right_shoulder"),
        ("R.Knee", "right_knee"),
        ("  nose ", "nose"),
        ("head top", "head_top"),
        ("HEAD_TOP", "head_top"),
        ("left", "left"),
        ("rear", "rear"),
        ("lip_upper", "lip_upper"),
    ],
)
def test_one_spelling_for_a_joint(written, meant):
    assert canonical_joint_name(written) == meant


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"joints": ()}, "has no joints"),
        ({"joints": ("a", "b", "a")}, "names a joint twice"),
        ({"joints": ("a", "b"), "sigmas": (0.1,)}, "2 joints but 1 sigmas"),
        ({"joints": ("a",), "sigmas": (0,)}, "every sigma must be a positive number"),
        ({"joints": ("a",), "sigmas": (float("nan"),)}, "every sigma must be a positive number"),
        (
            {"joints": ("left_hip", "right_hip"), "flip_pairs": (("left_hip", "right_hips"),)},
            "did you mean 'right_hip'",
        ),
        ({"joints": ("left_hip", "right_hip"), "bones": (("left_hip", "knee"),)}, "no joint 'knee'"),
        ({"joints": ("a", "b", "c"), "flip_pairs": (("a", "b"), ("b", "c"))}, "stands in two flip pairs"),
        ({"joints": ("a", "b"), "flip_pairs": (("a", "a"),)}, "stands in two flip pairs"),
        ({"joints": ("a", "b", "c"), "bones": (("a", "b", "c"),)}, "pair of joint names"),
        ({"joints": ("a", "b"), "flip_pairs": ("ab",)}, "pair of joint names"),
        ({"joints": "nose"}, "list of names"),
        ({"joints": ("a", 2)}, "list of names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_skeleton_is_refused_with_its_name(facts, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        Skeleton(name="odd", **facts)
    assert "'odd'" in str(error.value)


def test_an_unknown_joint_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match="no joint 'left_writs'; did you mean 'left_wrist'"):
        COCO17.index("left_writs")


def test_did_you_mean_lists_the_choices_when_none_is_near():
    assert did_you_mean("gausian", ("gaussian", "exponential")) == "; did you mean 'gaussian'?"
    assert did_you_mean("zzz", ("b", "a")) == "; known: a, b"


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [HAND, COCO17, LSP14, MPII16], ids=lambda s: s.name)
def test_dict_round_trip(skeleton):
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


def test_a_skeleton_from_json(tmp_path):
    path = tmp_path / "hand.json"
    path.write_text(json.dumps(HAND.to_dict()), encoding="utf-8")
    assert load_skeleton(path) == HAND
    assert load_skeleton(str(path)) == HAND


def test_a_skeleton_from_toml(tmp_path):
    path = tmp_path / "hand.toml"
    path.write_text(
        'name = "hand"\n'
        'joints = ["wrist", "left_tip", "right_tip"]\n'
        'flip_pairs = [["left_tip", "right_tip"]]\n'
        'bones = [["wrist", "left_tip"], ["wrist", "right_tip"]]\n'
        "sigmas = [0.1, 0.05, 0.05]\n",
        encoding="utf-8",
    )
    assert load_skeleton(path) == HAND


def test_left_and_right_are_pairs_unless_the_file_says_otherwise(tmp_path):
    path = tmp_path / "hand.toml"
    named = 'name = "hand"\njoints = ["wrist", "LTip", "RTip", "left_nail"]\n'
    path.write_text(named, encoding="utf-8")
    assert load_skeleton(path).flip_pairs == (("LTip", "RTip"),)
    assert load_skeleton(path).flip_index().tolist() == [0, 2, 1, 3]
    path.write_text('name = "arm"\njoints = ["left_wrist", "LElbow", "tail"]\n', encoding="utf-8")
    wrist, elbow = (COCO17.sigmas[COCO17.joints.index(f"left_{name}")] for name in ("wrist", "elbow"))
    assert load_skeleton(path).sigmas == (wrist, elbow, 0.08)
    near_far = 'name = "pliers"\njoints = ["joint", "near_tip", "far_tip"]\nflip_pairs = [["near_tip", "far_tip"]]\n'
    path.write_text(near_far, encoding="utf-8")
    assert load_skeleton(path).flip_index().tolist() == [0, 2, 1]
    path.write_text(named + "flip_pairs = []\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'LTip' and 'RTip' are no flip pair; add them, or leave flip_pairs out"):
        load_skeleton(path)


@pytest.mark.parametrize(
    ("joints", "pairs"),
    [
        (["left_knee", "right_ankle"], [["left_knee", "right_ankle"]]),
        (["left_knee", "RKnee", "left_ankle", "right_ankle"], [["left_knee", "right_ankle"], ["left_ankle", "RKnee"]]),
        (["left_knee", "right_knee", "LTip"], [["left_knee", "LTip"]]),
    ],
    ids=["alone", "crosswise", "of one side"],
)
def test_sides_of_different_joints_are_no_pair(tmp_path, joints, pairs):
    path = tmp_path / "legs.json"
    path.write_text(json.dumps({"name": "legs", "joints": joints, "flip_pairs": pairs}))
    with pytest.raises(ValueError, match=rf"legs\.json: flip_pairs has 'left_knee' with '{pairs[0][1]}', which no mirror"):
        load_skeleton(path)


def test_a_pair_with_a_third_joint_leaves_a_twin_alone(tmp_path):
    path = tmp_path / "legs.json"
    facts = {"name": "legs", "joints": ["left_knee", "right_knee", "tail"], "flip_pairs": [["left_knee", "tail"]]}
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="'left_knee' and 'right_knee' are no flip pair"):
        load_skeleton(path)


def test_built_in_skeletons_by_name():
    assert load_skeleton("coco17") is COCO17
    assert load_skeleton("mpii16") is MPII16


def test_an_unknown_name_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match="unknown skeleton 'coco_17'; did you mean 'coco17'"):
        load_skeleton("coco_17")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("s.toml", "name = ", "not a readable TOML file"),
        ("s.json", "{", "not a readable JSON file"),
        ("s.json", b"\xff\xfe\x00", "not a readable JSON file"),
        ("s.toml", 'name = "s"', "the key 'joints' is missing"),
        ("s.json", '{"joints": ["a"]}', "the key 'name' is missing"),
        ("s.json", '{"name": "s", "joint": ["a"]}', "unknown key 'joint'; did you mean 'joints'"),
        ("s.toml", 'name = "s"\njoints = ["a", "a"]', "names a joint twice"),
        ("s.toml", 'name = "s"\njoints = 3', "list of names"),
        ("s.json", "[]", "must be a table"),
        ("s.json", "3", "must be a table"),
        ("s.json", '{"name": "s", "joints": ["a"], "sigmas": ["wide"]}', "sigma"),
        ("s.json", '{"name": "s", "joints": ["a"], "sigmas": 3}', "sigma"),
        ("s.json", '{"name": "s", "joints": ["a", "b"], "bones": 3}', "pair of joint names"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_a_wrong_file_is_refused_with_its_path(tmp_path, name, text, sentence):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=sentence) as error:
        load_skeleton(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.toml: there is no such skeleton file"):
        load_skeleton(tmp_path / "none.toml")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match="there is no such skeleton file"):
        load_skeleton(tmp_path / "folder.json")

"""Specs: what a model file says about itself survives the trip through JSON, and nothing else is accepted."""

import json

import pytest

from featherpose.skeletons import COCO17, LSP14
from featherpose.spec import SPEC_VERSION, ModelSpec


def make_spec(**changes):
    facts = {
        "name": "tiny",
        "skeleton": COCO17,
        "input_size": (192, 256),
        "codec": {"name": "movenet", "stride": 4},
        "network": {"system": "movenet", "preset": "lite"},
        "outputs": "decoded",
        "version": "3",
        "joint_threshold": 0.3,
        "pose_threshold": 0.2,
        "crop_margin": 1.5,
        "provenance": {"licence": "Apache-2.0", "metrics": {"AR": 0.5}, "seeds": [1, 2]},
    }
    return ModelSpec(**{**facts, **changes})


def altered(**changes):
    facts = json.loads(make_spec().to_json())
    facts.update(changes)
    return json.dumps({key: value for key, value in facts.items() if value is not None})


@pytest.mark.parametrize(
    "spec",
    [make_spec(), make_spec(skeleton=LSP14, outputs="raw"), ModelSpec("least", COCO17, (32, 32), {"name": "movenet"})],
    ids=["every field", "another skeleton", "defaults"],
)
def test_json_round_trip(spec):
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_json_is_one_line_that_other_languages_can_read():
    text = make_spec().to_json()
    assert "\n" not in text
    facts = json.loads(text)
    assert (facts["task"], facts["spec_version"], facts["input_size"]) == ("pose", SPEC_VERSION, [192, 256])
    assert facts["skeleton"]["joints"][0] == "nose"
    assert facts["input"]["layout"] == "NHWC"
    assert facts["codec"] == {"name": "movenet", "stride": 4}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_size": (100, 96)}, "two multiples of 32"),
        ({"input_size": (0, 96)}, "two multiples of 32"),
        ({"input_size": (96,)}, "two multiples of 32"),
        ({"outputs": "decode"}, "unknown outputs 'decode'; did you mean 'decoded'"),
        ({"joint_threshold": 1.5}, "joint_threshold must lie in"),
        ({"pose_threshold": -0.1}, "pose_threshold must lie in"),
        ({"pose_threshold": float("nan")}, "pose_threshold must lie in"),
        ({"crop_margin": 0}, "crop_margin must be positive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_fact_is_refused_with_the_models_name(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        make_spec(**changes)
    assert "'tiny'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json", "is not JSON"),
        ("[1]", "task 'None'"),
        (altered(task=None), "task 'None'"),
        (altered(task="segmentation"), "for the task 'segmentation'; featherpose runs models for the task 'pose'"),
        (altered(spec_version=SPEC_VERSION + 1), f"has version {SPEC_VERSION + 1}, .* reads {SPEC_VERSION}"),
        (altered(spec_version=None), "has version None"),
        (altered(joint_treshold=0.5), "unknown key 'joint_treshold'; did you mean 'joint_threshold'"),
        (altered(codec=None), "lacks a key .*codec"),
        (altered(skeleton=None), "lacks a key .*skeleton"),
        (altered(skeleton={"name": "s", "joints": ["a"], "bone": []}), "unknown key 'bone'; did you mean 'bones'"),
        (altered(outputs="maps"), "unknown outputs 'maps'"),
    ],
    ids=["text", "a list", "no task", "another task", "newer version", "no version", "misspelt key", "no codec",
         "no skeleton", "misspelt key of the skeleton", "unknown outputs"],
)  # fmt: skip
def test_a_spec_of_something_else_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModelSpec.from_json(text)

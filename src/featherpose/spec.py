"""What a runtime must know of a model, carried inside the model file.

ONNX files hold it as metadata under `featherpose.spec`, safetensors files in their header under the same key. Whoever
holds the file knows the input, the representation, the joints and where the weights come from; nothing is guessed from
the shape of an output.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

from featherpose.skeletons import Skeleton, did_you_mean

SPEC_KEY = "featherpose.spec"
SPEC_VERSION = 1

OUTPUTS = ("raw", "decoded")
"""raw: the codec's maps by name. decoded: `joints` (B, K, 3), x, y in input pixels and score, and `pose_score` (B,)."""


@dataclass(frozen=True)
class ModelSpec:
    """Facts of one model file; written at export, read by every runtime."""

    name: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    """(width, height) of the network input, pixels."""
    codec: dict
    """{"name": a key of `codecs.CODECS`, then that codec's own fields}: how maps become joints."""
    network: dict = field(default_factory=dict)
    """{"system": a key of `systems.SYSTEMS`, then the arguments of its builder}; empty where no torch twin exists."""
    outputs: str = "raw"
    """One of OUTPUTS."""
    version: str = "1"
    """Version of the weights, the model author's own counting."""
    joint_threshold: float = 0.2
    """A joint with a lower score is not drawn nor used to place the next crop."""
    pose_threshold: float = 0.1
    """Below this centre score the model says: nobody here."""
    crop_margin: float = 1.25
    """Side of the square crop the model was made for, in longer sides of the person's box."""
    provenance: dict = field(default_factory=dict)
    """Free facts: licence, data, recipe, commit, seeds, metrics."""

    def __post_init__(self) -> None:
        size = tuple(int(v) for v in self.input_size)
        if len(size) != 2 or min(size) < 32 or any(v % 32 for v in size):
            raise ValueError(f"model '{self.name}': input_size must be two multiples of 32, got {self.input_size}")
        object.__setattr__(self, "input_size", size)
        if self.outputs not in OUTPUTS:
            raise ValueError(
                f"model '{self.name}': unknown outputs '{self.outputs}'{did_you_mean(self.outputs, OUTPUTS)}"
            )
        for key in ("joint_threshold", "pose_threshold"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"model '{self.name}': {key} must lie in [0, 1], got {getattr(self, key)}")
        if not self.crop_margin > 0:
            raise ValueError(f"model '{self.name}': crop_margin must be positive, got {self.crop_margin}")

    def to_json(self) -> str:
        """One line of JSON, with the pixel convention and the input contract spelled out for other languages."""
        facts = asdict(self)
        facts["skeleton"] = self.skeleton.to_dict()
        facts["input_size"] = list(self.input_size)
        facts["spec_version"] = SPEC_VERSION
        facts["task"] = "pose"
        facts["input"] = INPUT_CONTRACT
        try:
            return json.dumps(facts, separators=(",", ":"), allow_nan=False)
        except ValueError as error:
            raise ValueError(f"model '{self.name}': its provenance holds a number that is not finite ({error})") from error

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """Inverse of `to_json`; ValueError for another task, a newer version, missing or unknown keys."""
        try:
            facts = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the model's spec is not JSON ({error})") from error
        if not isinstance(facts, dict) or facts.get("task") != "pose":
            task = facts.get("task") if isinstance(facts, dict) else None
            raise ValueError(f"this model is for the task '{task}'; featherpose runs models for the task 'pose'")
        if facts.get("spec_version") != SPEC_VERSION:
            raise ValueError(
                f"the model's spec has version {facts.get('spec_version')}, this featherpose reads {SPEC_VERSION}; "
                "export the model again with this version, or upgrade featherpose"
            )
        for key in ("spec_version", "task", "input"):
            facts.pop(key, None)
        known = {f.name for f in fields(ModelSpec)}
        for key in facts:
            if key not in known:
                raise ValueError(f"the model's spec has an unknown key '{key}'{did_you_mean(key, known)}")
        try:
            skeleton = Skeleton.from_dict(facts.pop("skeleton"))
            return ModelSpec(skeleton=skeleton, **facts)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the model's spec lacks a key ({error})") from error


INPUT_CONTRACT = {
    "name": "image",
    "layout": "NHWC",
    "dtype": "uint8",
    "colour": "RGB",
    "normalisation": "in the graph",
    "resize": "aspect kept, centred, zero padding, bilinear (area average when shrinking by 2 or more)",
    "coordinates": "pixels of the input, continuous, origin at the top-left corner of the top-left pixel, x before y",
}

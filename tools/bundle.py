"""Puts a trained model into the package: threshold, 8 bits, ONNX behind the parity gate, figures, card, index.

    python tools/bundle.py runs/lite/model.safetensors --name lite --data ../shared/data --default --hours 1.6

Writes into src/featherpose/weights: NAME.onnx (8 bits), NAME-float.onnx (its twin for browsers and GPUs) and
NAME.safetensors (to train on from), both with float16 weights, NAME.md (the card) and index.json; the figures go to
results/ by `featherpose evaluate`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from featherpose.data.background import write_background
from featherpose.data.readers import read_dataset
from featherpose.evaluate import evaluate
from featherpose.export.onnx import export_onnx
from featherpose.export.quantise import PARTS, Shift, quantise_onnx
from featherpose.models.cost import count_macs, count_parameters
from featherpose.runtime.bundled import WEIGHTS
from featherpose.runtime.predictor import Predictor
from featherpose.systems.files import load_network, save_model
from featherpose.train.validate import NetworkBackend

ROOT = Path(__file__).resolve().parents[1]
SETS = ("coco_person", "lsp_extended")
GUARD = ROOT / "tests" / "guard"
"""Drawn by `featherpose synth tests/guard --count 32 --size 256 --persons 1-2 --seed 11 --split val`; kept as files, so
that another drawing does not change what is guarded."""
KEPT = {"first": "first layer", "neck": "neck outputs", "heads": "heads"}
"""What the card calls the parts of quantise.PARTS."""
HALF_RIGHT = 0.5
"""A joint is shown from the score on at which half of the joints are right."""
CALIBRATION_PHOTOS = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", default="1")
    parser.add_argument("--data", type=Path, required=True, help="folder with coco_person and lsp_extended")
    parser.add_argument("--hours", type=float, required=True, help="training time")
    parser.add_argument("--keep", nargs="*", choices=PARTS, default=list(PARTS), help="parts that stay float")
    parser.add_argument("--recipes", default="", help="recipes in their order  [default: recipes/NAME.toml]")
    parser.add_argument("--start", default="ImageNet classifier (MobileNetV1 0.75, Apache-2.0)")
    parser.add_argument("--teachers", default="PP-TinyPose 256x192 (labels where humans have none)")
    parser.add_argument("--hardware", default="2 cores of an x86-64 CPU, bf16")
    parser.add_argument("--notes", type=Path, help="Markdown about what works and what fails, from looking at pictures")
    parser.add_argument("--default", action="store_true", help="make it the default model")
    asked = parser.parse_args()

    network, spec = load_network(asked.model)
    training = _portable(spec.provenance)
    thresholds, reliability = calibrate(network, spec, asked.data)
    spec = replace(
        spec, name=asked.name, version=asked.version, **thresholds, provenance={
            "licence": "Apache-2.0",
            "data": "COCO 2017 (8,374 cut-outs around people; photos: Flickr terms; keypoints: CC BY 4.0), "
            "Leeds Sports Pose Extended (6,392)",
            "start": asked.start,
            "teachers": asked.teachers,
            "recipes": asked.recipes or f"recipes/{asked.name}.toml",
            "commit": _git("rev-parse", "--short", "HEAD"),
            "date": date.today().isoformat(),
            "hours": asked.hours,
            "hardware": asked.hardware,
            "training": training,
            "joint_score_reliability": reliability,
            "mmac": round(count_macs(network, spec.input_size) / 1e6, 1),
            "parameters": count_parameters(network),
        },
    )  # fmt: skip
    path, twin = WEIGHTS / f"{asked.name}.onnx", WEIGHTS / f"{asked.name}-float.onnx"
    photos = asked.data / "coco_person"
    _, parity = export_onnx(network, replace(spec, name=twin.stem), twin, half=True, data=photos / "val")
    print(twin, parity)
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.onnx"
        export_onnx(network, spec, exact, data=photos / "val")
        shift = quantise_onnx(exact, path, data=photos, split="train", keep=asked.keep)
    print(path, shift)
    save_model(path.with_suffix(".safetensors"), network, replace(spec, outputs="raw"), half=True)
    with tempfile.TemporaryDirectory() as folder:
        nobody = Path(folder) / "nobody"
        write_background(read_dataset(photos, split="val", problems=[]), nobody, split="val")
        more = {"coco_person": ["--nobody", str(nobody)]}
        results = {f: {name: _evaluate(f, asked.data / name, more.get(name, [])) for name in SETS} for f in (path, twin)}
    text = card(spec, results[path], results[twin], path, shift, asked.keep, asked.notes)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    _index(path, spec, results[path], default=asked.default)
    _index(twin, spec, results[twin], of=asked.name)


def calibrate(network, spec, data: Path) -> tuple[dict[str, float], list[dict]]:
    """Thresholds, and what share of joints is right, score by score.

    Of the card's figures misses and false alarms depend on them, and, by the square of the second look, frame + crop.

    Of a joint: from where on half of them are right, on coco_person val, as on training photos, which a model has in part
    by heart, more are right at every score. Of a pose: where misses and false alarms together are fewest, on the first
    CALIBRATION_PHOTOS photos of coco_person train and background cut out of all of them, as val has little. Protocol crop.
    """
    predictor = Predictor(NetworkBackend(network, spec))
    samples = read_dataset(data / "coco_person", split="train", problems=[])
    with tempfile.TemporaryDirectory() as folder:
        labels, _, _ = write_background(samples, Path(folder) / "nobody", split="train")
        samples = samples[:CALIBRATION_PHOTOS] + read_dataset(labels, problems=[])
        presence = evaluate(predictor, samples, protocol="crop").presence
    result = evaluate(predictor, read_dataset(data / "coco_person", split="val", problems=[]), protocol="crop")
    labelled = result.truth.labelled
    sides = (result.truth.box_xyxy[:, 2:] - result.truth.box_xyxy[:, :2]).max(axis=1)
    error = np.linalg.norm(result.xy - result.truth.xy, axis=2)
    joint = half_right(result.score[labelled], (error <= 0.1 * sides[:, None])[labelled])
    best = min(presence["curve"], key=lambda row: row["misses"] + row["false_alarms"])
    rows = [{key: round(value, 3) for key, value in row.items()} for row in result.reliability]
    return {"joint_threshold": joint, "pose_threshold": best["threshold"]}, rows


def guard(predictor: Predictor) -> dict[str, float]:
    """Figures on the drawn scenes of tests/guard that every build must reach again: damage shows there, not skill."""
    figures = evaluate(predictor, read_dataset(GUARD, split="val"), protocol="frame + crop").figures
    return {name: round(figures[name], 4) for name in ("AR", "px5_at_160", "error_at_160")}


def half_right(score: np.ndarray, right: np.ndarray) -> float:
    """The lowest of 20 steps above which a step's share of right ones stays at half or more; .05 at least."""
    threshold = 0.05
    for low in np.arange(0.05, 0.6, 0.05):
        here = (score >= low) & (score < low + 0.05)
        if here.sum() >= 20 and right[here].mean() < HALF_RIGHT:
            threshold = low + 0.05
    return round(float(threshold), 2)


def card(
    spec,
    results: dict[str, dict],
    float_results: dict[str, dict],
    path: Path,
    shift: Shift,
    keep: list[str],
    notes: Path | None,
) -> str:
    """The model card, in Markdown. results: of the 8-bit file, by set; float_results: of its twin; keep: see quantise.PARTS."""
    facts = spec.provenance
    recipe = facts["training"].get("recipe", {})
    size = f"{spec.input_size[0]} x {spec.input_size[1]}"
    training = facts["training"]
    kept = ", ".join(KEPT[part] for part in PARTS if part in keep) or "no layer"
    lines = [
        f"# {spec.name}, version {spec.version}",
        "",
        f"{facts['mmac']} MMAC at {size}, {facts['parameters'] / 1e6:.2f} M parameters, {path.stat().st_size / 1e6:.1f} MB "
        f"(8 bits; {kept} in float), {len(spec.skeleton)} joints ({spec.skeleton.name}). "
        f"`{spec.name}-float` is the same network in float32 arithmetic, which browsers are faster with.",
        "",
        "| fact | value |",
        "|---|---|",
        f"| licence | {facts['licence']} |",
        f"| data | {facts['data']} |",
        f"| started from | {facts['start']} |",
        f"| taught by | {facts['teachers']} |",
        f"| recipe | {facts['recipes']}; the last: seed {recipe.get('train', {}).get('seed')}, "
        f"{training.get('epochs')} epochs, {training.get('steps')} steps |",
        f"| commit | {facts['commit']}, {facts['date']} |",
        f"| time | {facts['hours']} h on {facts['hardware']} |",
        f"| thresholds | joint {spec.joint_threshold}: from there on half of them or more are right, on val; "
        f"pose {spec.pose_threshold}: fewest misses and false alarms together, on {CALIBRATION_PHOTOS} training photos "
        "and background of all of them |",
        f"| 8 bits | against float, {shift} |",
        "",
        "## Figures",
        "",
        "Photos it has not trained on; one seed. `docs/evaluation.md` says what the columns mean.",
        "",
        "| set | protocol | AR | AR50 | 5 px | torso .2 | wrong person | AR in float |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for protocol, part in result["protocols"].items():
            figures = part["figures"]
            shown = " | ".join(
                f"{figures[key]:.3f}" for key in ("AR", "AR50", "px5_at_160", "torso_0.2", "wrong_person")
            )
            in_float = float_results[name]["protocols"][protocol]["figures"]["AR"]
            lines.append(f"| {name} val | {protocol} | {shown} | {in_float:.3f} |")
    crop = results["coco_person"]["protocols"]["crop"]
    lines += [
        "",
        "Per joint, coco_person val, crop:",
        "",
        "| joint | labelled | OKS | 5 px | error, px of 160 |",
        "|---|---|---|---|---|",
    ]
    for joint, row in crop["per_joint"].items():
        lines.append(
            f"| {joint} | {row['count']} | {row['oks']:.3f} | {row['px5_at_160']:.3f} | {row['error_at_160']:.1f} |"
        )
    lines += ["", "By group, coco_person val, crop:", "", "| group | joints | AR | 5 px |", "|---|---|---|---|"]
    for group, row in crop["per_group"].items():
        recall = "-" if row.get("AR") is None else f"{row['AR']:.3f}"
        lines.append(f"| {group} | {row['joints']} | {recall} | {row['px5_at_160']:.3f} |")
    lines += ["", "Do joint scores mean something? coco_person val, crop: share right (within .1 of the box) by score.", "",
              "| score | joints | share right |", "|---|---|---|"]  # fmt: skip
    for row in crop["reliability"]:
        lines.append(f"| {row['from']:.1f} to {row['to']:.1f} | {row['count']} | {row['share_right']:.2f} |")
    presence = crop["presence"]
    lines += [
        "",
        f"Is somebody there? At pose score {spec.pose_threshold:g} it misses {presence['misses']:.1%} of "
        f"{presence['targets']} people and sees somebody in {presence['false_alarms']:.1%} of {presence['without_people']} "
        "pictures without people (background of the same photos, `featherpose data background`).",
    ]
    if notes:
        lines += ["", "## What it does well, and what it does not", "", notes.read_text(encoding="utf-8").strip()]
    return "\n".join(lines) + "\n"


def _evaluate(model: Path, data: Path, more: list[str]) -> dict:
    out = ROOT / "results" / f"{data.name}_val"
    command = [sys.executable, "-m", "featherpose", "evaluate", str(model), "--data", str(data), "--split", "val",
               "--protocol", "all", "--out", str(out), "--worst", "0", *more]  # fmt: skip
    subprocess.run(command, check=True)
    return json.loads((out / f"{model.stem}.json").read_text(encoding="utf-8"))


def _index(path: Path, spec, results: dict, *, default: bool = False, of: str = "") -> None:
    place = WEIGHTS / "index.json"
    index = json.loads(place.read_text(encoding="utf-8"))
    recall = results["coco_person"]["protocols"]["crop"]["figures"]["AR"]
    size = f"{spec.provenance['mmac']:.0f} MMAC at {spec.input_size[0]} px, {'float' if of else '8 bits'}"
    index["models"][path.stem] = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "guard": guard(Predictor(path)),
        "summary": f"{size}, AR {recall:.3f} on coco_person val (crop)",
        **({"of": of} if of else {}),
    }
    if default or not index.get("default"):
        index["default"] = path.stem
    place.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _portable(value):
    """The same facts with absolute paths cut to their last two parts."""
    if isinstance(value, dict):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_portable(inner) for inner in value]
    if isinstance(value, str) and value.startswith("/"):
        return "/".join(Path(value).parts[-2:])
    return value


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()

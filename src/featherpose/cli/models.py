"""`featherpose models`: what comes along, with size, metrics and licence from each model's own spec."""

from __future__ import annotations


def models() -> None:
    """List the models that come along; the first one is used unless another is named."""
    from rich.console import Console

    from featherpose.runtime.backends import load_model
    from featherpose.runtime.bundled import bundled_models

    known = bundled_models()
    if not known:
        print("this build of featherpose ships no model; name a model file (predict --model FILE)")
        return
    console = Console(soft_wrap=True, highlight=False)
    for model in known.values():
        spec = load_model(model.name).spec
        width, height = spec.input_size
        facts = {
            "file": f"{model.path.name}, {model.path.stat().st_size / 1e6:.1f} MB",
            "input": f"{width} x {height} pixels",
            "joints": f"{len(spec.skeleton)} ({spec.skeleton.name})",
            "version": spec.version,
            **{key: _text(value) for key, value in spec.provenance.items() if key in SHOWN},
        }
        console.print(
            f"{model.name}{' (default)' if model.default else ''}: {model.summary}", markup=False, style="bold"
        )
        for key, value in facts.items():
            console.print(f"  {key}: {value}", markup=False)


SHOWN = ("metrics", "data", "licence")
"""Keys of a spec's provenance that help to choose a model."""


def _text(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(entry) for entry in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)

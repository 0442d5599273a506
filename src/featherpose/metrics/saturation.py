"""When a metric has nothing left to say."""

from __future__ import annotations

import math

SATURATED = 0.97
"""Above it the remaining errors are mostly label noise: the article's .9869 on one metric looked unusable on video."""
LOOSE_FROM, GAP = 0.85, 0.4
"""A loose figure from LOOSE_FROM up with its strict partner GAP below it hides how coarse the joints are. A guess."""

STRICT_OF = {"torso_0.2": "torso_0.05", "torso_0.1": "torso_0.05", "box_0.2": "box_0.05", "box_0.1": "box_0.05"}
STRICT_OF |= {"AR50": "AR", "px5_at_160": "box_0.05", "head_0.5": "torso_0.05"}
"""Loose figure -> the strict one that says more."""
JUDGE_BY = ("AR", "AR75", "torso_0.05", "box_0.05")


def saturation_warning(figures: dict[str, float | None]) -> str | None:
    """One sentence when a figure is saturated, or flatters next to its strict partner; None when all is well.

    figures: metric name -> value in [0, 1]; None and NaN are passed over.
    """
    known = {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}
    full = [name for name in (*STRICT_OF, *JUDGE_BY) if known.get(name, 0) > SATURATED]
    apart = [
        name
        for name, strict in STRICT_OF.items()
        if strict in known and known.get(name, 0) >= LOOSE_FROM and known[name] - known[strict] >= GAP
    ]
    if not full and not apart:
        return None
    reasons = []
    if full:
        reasons.append(
            f"{', '.join(f'{name} {known[name]:.3f}' for name in full)} cannot tell good from better any more"
        )
    if apart:
        pairs = (f"{name} {known[name]:.3f} against {STRICT_OF[name]} {known[STRICT_OF[name]]:.3f}" for name in apart)
        reasons.append(f"{', '.join(pairs)} shows joints that are roughly right only")
    strict = [f"{name} {known[name]:.3f}" for name in JUDGE_BY if name in known and name not in full]
    way_out = f"judge by {', '.join(strict)} and by pictures" if strict else "judge by pictures and by harder photos"
    return f"saturated: {'; '.join(reasons)}; {way_out}"

"""Whole networks of published systems: one file each, with how they are built and their presets. `files.py` keeps them."""

from __future__ import annotations

from importlib import import_module

from featherpose.skeletons import did_you_mean

SYSTEMS = {"movenet": "featherpose.systems.movenet"}


def system(name: str):
    """The module of a system: it has `build(...)` and `PRESETS`. ValueError for an unknown name."""
    if name not in SYSTEMS:
        raise ValueError(f"unknown system '{name}'{did_you_mean(name, SYSTEMS)}")
    return import_module(SYSTEMS[name])


def build_network(facts: dict, joints: int):
    """A network from a spec's or recipe's dict: `system`, optionally `preset`, and the builder's own arguments."""
    facts = dict(facts)
    return system(facts.pop("system", None)).build(joints=joints, **facts)

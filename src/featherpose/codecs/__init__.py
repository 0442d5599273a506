"""Representations: each file holds the encoding and the decoding of one, side by side."""

from __future__ import annotations

from dataclasses import fields

from featherpose.codecs.movenet import MoveNetCodec
from featherpose.skeletons import did_you_mean

CODECS = {"movenet": MoveNetCodec}


def build_codec(facts: dict, input_size: tuple[int, int], joints: int):
    """A codec from a spec's or recipe's dict: its `name`, then its own fields. ValueError for unknown ones."""
    facts = dict(facts)
    name = facts.pop("name", None)
    if name not in CODECS:
        raise ValueError(f"unknown codec '{name}'{did_you_mean(name, CODECS)}")
    known = {f.name for f in fields(CODECS[name])} - {"input_size", "joints"}
    for key in facts:
        if key not in known:
            raise ValueError(f"codec {name}: unknown key '{key}'{did_you_mean(key, known)}")
    return CODECS[name](input_size=input_size, joints=joints, **facts)

"""Dataclasses from plain tables: unknown keys, wrong types and missing keys are refused by name."""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from featherpose.skeletons import did_you_mean

TYPE_NAMES = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a table",
    tuple: "two numbers [a, b]",
}  # fmt: skip


def fill(kind: type, facts: Any, where: str = "") -> Any:
    """A dataclass from a dict, checking names and types on the way down. where: the dotted name for messages.

    Fields that are dataclasses are filled from tables, tuples of dataclasses from lists of tables. ValueError.
    """
    label = f"'{where}'" if where else "the recipe"
    if not isinstance(facts, dict):
        raise ValueError(f"{label} must be a table, got {facts!r}")
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in facts.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ValueError(f"unknown key '{name}'{did_you_mean(key, known)}")
        values[key] = _nested(value, hints[key], known[key], name)
    for key, f in known.items():
        if key not in values and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{label} lacks the key '{key}'")
    return kind(**values)


def entry_kind(hint: Any) -> type | None:
    """X of a hint tuple[X, ...] where X is a dataclass, else None."""
    arguments = typing.get_args(hint)
    return arguments[0] if typing.get_origin(hint) is tuple and is_dataclass(arguments[0]) else None


def _nested(value: Any, hint: Any, f: Any, name: str) -> Any:
    if is_dataclass(hint):
        return value if isinstance(value, hint) else fill(hint, value, name)
    kind = entry_kind(hint)
    if kind is not None:
        if not isinstance(value, list):
            raise ValueError(f"'{name}' must be written as [[{name}]]")
        return tuple(fill(kind, entry, f"{name}.{i}") for i, entry in enumerate(value))
    return convert(value, f, name)


def convert(value: Any, f: Any, name: str) -> Any:
    """A value as its dataclass field's default has it; ValueError that says what it should be.

    Whole numbers pass for numbers, and one number for a pair of equal ones.
    """
    default = f.default if f.default is not MISSING else f.default_factory() if f.default_factory is not MISSING else ""
    wanted = type(default)
    if wanted is float and is_number(value):
        return float(value)
    if wanted is tuple:
        value = (value, value) if is_number(value) else value
        if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_number, value)):
            return tuple(value)
    elif type(value) is wanted:
        return value
    raise ValueError(f"'{name}' must be {TYPE_NAMES[wanted]}, got {value!r}")


def is_number(value: Any) -> bool:
    """Whether it is an int or a float (TOML's true and false are neither)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def require(good: bool, name: str, value: Any, expected: str) -> None:
    """ValueError naming the key, the expectation and the value, unless `good`."""
    if not good:
        raise ValueError(f"{name} must be {expected}; got {value!r}")

"""Options mean the same for every verb: one name for where results go, one for each thing that several verbs take."""

from importlib import import_module
from typing import get_args, get_type_hints

import pytest
import typer

from featherpose.cli import VERBS

SHARED = {
    "out": ("--out", "-o"),
    "json_file": ("--json",),
    "model": (),
    "photos": (),
    "split": (),
    "threads": (),
    "seed": (),
    "limit": (),
}
"""Parameter -> its options where it is one; () is typer's own, --NAME."""


def _functions():
    """(words of the command, function) for every verb and every verb below one."""
    for verb, (target, _) in VERBS.items():
        module, name = target.split(":")
        function = getattr(import_module(module), name)
        if not isinstance(function, typer.Typer):
            yield verb, function
            continue
        for command in function.registered_commands:
            yield f"{verb} {command.name or command.callback.__name__}", command.callback


FUNCTIONS = dict(_functions())


def _options(function) -> dict[str, typer.models.OptionInfo]:
    hints = get_type_hints(function, include_extras=True)
    found = {name: [a for a in get_args(hint) if isinstance(a, typer.models.OptionInfo)] for name, hint in hints.items()}
    return {name: infos[0] for name, infos in found.items() if infos}


def _names(info) -> tuple[str, ...]:
    """Inside Annotated typer keeps the first name where a default would stand."""
    first = (info.default,) if isinstance(info.default, str) and info.default.startswith("-") else ()
    return (*first, *(info.param_decls or ()))


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_what_several_verbs_take_has_one_name(verb):
    options = _options(FUNCTIONS[verb])
    for name, info in options.items():
        if name in SHARED:
            assert _names(info) == SHARED[name], f"{verb}: {name}"
        else:
            assert not {"--out", "-o", "--output", "--json", *(f"--{n}" for n in SHARED)} & set(_names(info)), verb


def test_every_verb_that_writes_results_takes_out():
    have = {verb for verb, function in FUNCTIONS.items() if "out" in _options(function)}
    assert have >= {"predict", "video", "demo", "web", "train", "evaluate", "export", "import", "data check", "data label"}

"""What the README promises is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from featherpose.cli import VERBS
from featherpose.runtime.bundled import bundled_models, bundled_path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()


def test_every_command_of_the_readme_is_a_verb():
    named = set(re.findall(r"^featherpose ([a-z-]+)|`featherpose ([a-z-]+)", README, flags=re.MULTILINE))
    verbs = {first or second for first, second in named}
    assert verbs and verbs <= set(VERBS)


def test_the_commands_that_set_up_are_single_lines():
    for name in ("demo", "tests"):
        block = README.split(f"<!-- command: {name} -->\n```\n")[1].split("\n```")[0]
        assert block.startswith("python3 -m venv .venv && ") and "\n" not in block


def test_the_tables_are_those_of_the_results():
    done = subprocess.run([sys.executable, ROOT / "tools" / "tables.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_bundled_model_is_whole_and_has_its_card():
    models = bundled_models()
    assert any(model.default for model in models.values())
    for name, model in models.items():
        assert bundled_path(name) == model.path and model.card.is_file()

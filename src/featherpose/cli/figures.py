"""Figures of a long measurement in a JSON file: refused before it begins, written after they were printed."""

from __future__ import annotations

import os
from pathlib import Path


def check_figures_file(path: Path | None) -> None:
    """OSError, naming the path, when no file can be written there."""
    if path is None:
        return
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder; name a file to write the figures to")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write the figures to")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path.parent}: no figures can be written to this folder; name another one")


def write_figures(path: Path, facts: dict) -> None:
    """Plain values as JSON, whole or not at all."""
    import json

    from featherpose.runtime.report import write_whole

    content = json.dumps(facts, indent=2) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))

"""The folder that a command writes its results to."""

from __future__ import annotations

from pathlib import Path


def results_folder(path: Path) -> None:
    """Makes it. NotADirectoryError or PermissionError, naming it, when that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(f"{path}: is no folder, or lies in a file; name a folder for the results") from error
    except PermissionError as error:
        raise PermissionError(f"{path}: no folder can be made there; name another one for the results") from error

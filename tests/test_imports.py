"""Importing is light, and imports go down the levels only (the table stands here as code)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from colour_model import dots, write_colour_model
from PIL import Image

import featherpose

PACKAGE = Path(featherpose.__file__).parent

LEVELS = {
    0: ("toml", "skeletons", "pose", "geometry", "spec"),
    1: ("codecs", "metrics"),
    2: ("runtime", "data", "evaluate", "evaluation", "evaluate_report", "evaluate_track", "bench", "bench_video", "serve"),
    3: ("models", "losses"),
    4: ("systems",),
    5: ("train", "compress", "export", "importers"),
    6: ("cli",),
}
"""Level -> modules and packages directly inside featherpose. A module imports from its own package, the same level's
modules, and lower levels; `featherpose` itself (version, Pose, skeletons) counts as level 0."""

LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}
TORCH = ("torch", "safetensors", "tensorboard", "onnx", "onnxscript", "matplotlib", "faster_coco_eval")
"""What the lower half may only import inside functions, because the base installation lacks it."""

MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)


def _part(path: Path) -> str:
    """The first part of a module's name below featherpose: 'runtime' of featherpose/runtime/draw.py."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path: Path):
    """(line, module, whether it is imported when the module is loaded) for every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    deferred = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if typing_only or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            deferred |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, id(node) not in deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.lineno, node.module, id(node) not in deferred


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_to_the_same_or_a_lower_level(path):
    part = _part(path)
    assert part in LEVEL_OF, f"{part} has no level in this test's table"
    for line, module, at_load in _imports(path):
        names = module.split(".")
        if names[0] != "featherpose" or len(names) == 1:
            continue
        # What is imported inside a function of a lower module is a plug-in (the torch backend): it may reach up.
        allowed = LEVEL_OF[names[1]] <= LEVEL_OF[part] or not at_load
        assert allowed, f"{path}:{line}: {part} (level {LEVEL_OF[part]}) imports {module} (level {LEVEL_OF[names[1]]})"


@pytest.mark.parametrize(
    "path", [p for p in MODULES if LEVEL_OF.get(_part(p), 6) in (0, 1, 2, 6)], ids=lambda p: p.stem
)
def test_the_lower_half_and_the_verbs_load_no_library_of_the_extras(path):
    for line, module, at_load in _imports(path):
        assert not (at_load and module.split(".")[0] in TORCH), f"{path}:{line}: imports {module} when it is loaded"


def test_the_level_rule_can_fail(tmp_path):
    (tmp_path / "a.py").write_text("import torch\n\ndef f():\n    from featherpose.cli import run\n")
    assert list(_imports(tmp_path / "a.py")) == [(1, "torch", True), (4, "featherpose.cli", False)]


def _fresh_interpreter(code: str, *arguments: str) -> str:
    heavy = f"assert not set({TORCH!r}) & set(sys.modules), set({TORCH!r}) & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{heavy}", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["featherpose", "featherpose.runtime.predictor", "featherpose.cli"])
def test_importing_loads_no_torch(module):
    _fresh_interpreter(f"import {module}")


def test_importing_featherpose_loads_no_command_line_library():
    assert (
        _fresh_interpreter("import featherpose; print('typer' in sys.modules, 'cv2' in sys.modules)") == "False False\n"
    )


def test_predict_runs_without_torch(tmp_path):
    model = write_colour_model(tmp_path / "colours.onnx")
    Image.fromarray(dots((64, 64), (0, 28, 20, 4))).save(tmp_path / "photo.png")
    code = "from featherpose.cli import run\nassert run(sys.argv[1:]) == 0"
    out = _fresh_interpreter(code, "predict", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "out"))
    assert "1 of 1 photos done" in out
    assert (tmp_path / "out" / "poses.json").is_file()


def test_the_public_names_are_all_there():
    for name in featherpose.__all__:
        assert getattr(featherpose, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'predictor_'"):
        _ = featherpose.predictor_

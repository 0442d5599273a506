"""The command `featherpose`: one verb per file, and only the verb that was asked for is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from importlib import import_module

from featherpose.skeletons import did_you_mean

VERBS = {
    "predict": ("featherpose.cli.predict:predict", "Find the joints of a person in photos."),
    "video": ("featherpose.cli.video:video", "Follow a person through a video file, a URL or a camera."),
    "web": ("featherpose.cli.web:web", "Open a page that does it on a webcam, inside the browser."),
    "serve": ("featherpose.cli.serve:serve", "Find joints for others: photos and frames over HTTP."),
    "demo": ("featherpose.cli.demo:demo", "Try it on a sample picture that comes along."),
    "models": ("featherpose.cli.models:models", "List the models that come along."),
    "data": ("featherpose.cli.data:app", "Look at labels and prepare them for training."),
    "synth": ("featherpose.cli.synth:synth", "Draw synthetic people with exact joints."),
    "train": ("featherpose.cli.train:train", "Train a model from a recipe."),
    "evaluate": ("featherpose.cli.evaluate:evaluate", "Measure how good a model is on labelled photos."),
    "evaluate-track": ("featherpose.cli.track_eval:evaluate_track", "Measure how well one person is followed in clips."),
    "export": ("featherpose.cli.export:export", "Turn a trained model into a file for a runtime."),
    "import": ("featherpose.cli.import_:import_model", "Turn a TFLite file into a featherpose model."),
    "bench": ("featherpose.cli.bench:bench", "Measure how fast models run on this machine."),
}
"""Verb -> ("module:function or typer app", one line for the list)."""

EXTRAS = {
    "torch": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "faster_coco_eval": "train",
    "matplotlib": "train",
    "onnx": "train",
    "onnxscript": "train",
    "tflite": "train",
    "ai_edge_litert": "tflite",
    "openvino": "openvino",
    "av": "video",
    "fastapi": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "h11": "serve",
    "websockets": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
}
"""Imported package -> the extra of featherpose that installs it."""

WRONG_USAGE = 2
INTERRUPTED = 130
"""Exit codes; the second is that of shells after Ctrl-C."""


def build_app(arguments: list[str]):
    """The typer app for a command line: the verb it asks for in full, all others by name and help only."""
    import typer

    app = typer.Typer(
        name="featherpose",
        help="From a folder of labelled photos to a human-pose model that runs in real time on weak hardware.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from featherpose import __version__

            typer.echo(f"featherpose {__version__}")
            raise typer.Exit()

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Print it."),
    ) -> None: ...

    asked = asked_verb(arguments)
    for verb, (target, summary) in VERBS.items():
        module, name = target.split(":")
        if importlib.util.find_spec(module) is None:
            continue
        if verb != asked:
            app.command(verb, help=summary)(lambda: None)
            continue
        function = getattr(import_module(module), name)
        if isinstance(function, typer.Typer):
            app.add_typer(function, name=verb, help=summary)
        else:
            app.command(verb)(function)
    return app


def asked_verb(arguments: list[str]) -> str | None:
    """The verb of a command line: the first word that is no option (no option before it takes a value)."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line (sys.argv unless given) and exits: 0 done, 1 an error told in one line, 2 wrong usage.

    FEATHERPOSE_DEBUG=1 adds the traceback of an error.
    """
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """The exit code of a command line."""
    verb = asked_verb(arguments)
    if verb is not None and verb not in VERBS:  # said here, because not every version of typer offers the nearest one
        print(f"error: unknown verb '{verb}'{did_you_mean(verb, VERBS)}", file=sys.stderr)
        return WRONG_USAGE
    try:
        code = build_app(arguments)(args=arguments, prog_name="featherpose", standalone_mode=False)
        if code == INTERRUPTED:
            print("stopped by Ctrl-C", file=sys.stderr)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # what a compiled module makes of Ctrl-C while it loads
            print("stopped by Ctrl-C", file=sys.stderr)
            return INTERRUPTED
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        return _fail(error, f"this needs the package '{package}': pip install 'featherpose[{EXTRAS[package]}]'")
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _fail(error, reason)
    except ValueError as error:
        return _fail(error, str(error))
    except Exception as error:
        # Wrong usage: typer's own errors, whose base class moved between typer's versions, know how to show themselves.
        if not hasattr(error, "show"):
            raise
        error.show()
        return error.exit_code


def _fail(error: Exception, reason: str) -> int:
    if os.environ.get("FEATHERPOSE_DEBUG"):
        traceback.print_exception(error)
    print("error: " + " ".join(reason.split()), file=sys.stderr)
    return 1

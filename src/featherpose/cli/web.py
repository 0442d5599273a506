"""`featherpose web`: the page that runs a model on a webcam inside the browser, served to this computer alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote, urlsplit

import typer

PAGE = Path(__file__).resolve().parents[1] / "web"
SAMPLE = Path(__file__).resolve().parents[1] / "data" / "samples" / "demo.png"

PAGE_FILES = ("index.html", "style.css", "icon.svg")
"""Beside every js/*.js."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
"""Fixed here: what the operating system believes of .mjs and .wasm is often wrong, and browsers then refuse them."""

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
"""The first two let the page use threads (SharedArrayBuffer)."""

BYTES = "surrogateescape"
"""How addresses hold file names: byte by byte, also those that are no text."""

ADDRESS = "127.0.0.1"
"""This computer alone; browsers also give a page the camera only from here or over https."""


def web(
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)] = 8000,
    model: Annotated[
        list[str] | None, typer.Option(help="ONNX file to offer in the page, or the name of one that comes along.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch the runtime for the browser by npm first.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the page with all it needs to this folder for a web server, and stop."),
    ] = None,
) -> None:
    """Open a page that finds joints on your webcam, in photos and in videos. Nothing leaves the browser."""
    if fetch:
        print(f"fetched: {fetch_runtime()}")
    files = site_files(model or [])
    if out is not None:
        write_site(files, out)
        models = sum(Path(name).suffix.lower() == ".onnx" for name in files)
        print(f"{out}: the page, {models} models; any web server can give it")
        return
    try:
        server = ThreadingHTTPServer((ADDRESS, port), partial(PageHandler, files))
    except OSError as error:
        raise OSError(
            f"port {port} cannot be used ({error.strerror}); choose another one: featherpose web --port 0"
        ) from error
    with server:
        print(f"open http://{ADDRESS}:{server.server_port}/ in a browser; Ctrl-C ends it", flush=True)
        server.serve_forever()


def vendor_files(folder: Path | None = None) -> dict[str, Path]:
    """The browser's runtime by file name; ValueError with the way out when it was not fetched."""
    names = json.loads((PAGE / "vendor.json").read_text(encoding="utf-8"))["files"]
    folders = [folder] if folder is not None else [PAGE / "vendor", own_vendor()]
    for place in folders:
        if all((place / name).is_file() for name in names):
            return {name: place / name for name in names}
    raise ValueError(
        f"the runtime for the browser, {_runtime()}, is not there yet; fetch it once with "
        "'featherpose web --fetch' (it needs npm, which comes with Node.js)"
    )


def own_vendor() -> Path:
    """Where --fetch puts the runtime when the package's own folder may not be written: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(cache) / "featherpose" / _runtime().replace(" ", "-")


def _runtime() -> str:
    """'onnxruntime-web 1.2.3', as the lock file pins it."""
    lock = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))
    name = json.loads((PAGE / "vendor.json").read_text(encoding="utf-8"))["package"]
    return f"{name} {lock['packages'][f'node_modules/{name}']['version']}"


def fetch_runtime() -> Path:
    """The folder with the runtime, fetched by `npm ci`: the versions and checksums of package-lock.json, or nothing.

    Nothing of what is fetched is run.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("--fetch needs npm, which comes with Node.js (nodejs.org or your system's packages)")
    facts = json.loads((PAGE / "vendor.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PAGE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [f"code {done.returncode}"]
            raise OSError(f"npm could not fetch {_runtime()}: {said[0].strip()}")
        source = Path(folder) / "node_modules" / facts["package"] / "dist"
        place = PAGE / "vendor" if os.access(PAGE, os.W_OK) else own_vendor()
        place.mkdir(parents=True, exist_ok=True)
        for name in facts["files"]:
            _copy_whole(source / name, place / name)
    return place


def site_files(models: list[str]) -> dict[str, Path | bytes]:
    """Everything the page consists of, by its address without the leading slash; nothing else is ever given out.

    models: files or names of bundled models, offered before the bundled ones; of these, float files where there are
    some, as 8 bits are slower in WebAssembly. ValueError for a file that is no ONNX
    pose model, and for a runtime that is missing.
    """
    from featherpose.runtime.bundled import bundled_models, in_float

    files: dict[str, Path | bytes] = {name: PAGE / name for name in PAGE_FILES}
    files |= {f"js/{path.name}": path for path in sorted((PAGE / "js").glob("*.js"))}
    files |= {f"vendor/{name}": path for name, path in vendor_files().items()}
    listed = []
    for name, path, summary in [_named(model) for model in models] + [
        (entry.name, entry.path, entry.summary)
        for entry in in_float(bundled_models()).values()
        if entry.path.suffix.lower() == ".onnx" and entry.path.is_file()
    ]:
        address = f"models/{path.name}"
        if address not in files:
            files[address] = path
            listed.append({"name": name, "file": quote(address, errors=BYTES), "summary": summary})
        elif files[address].resolve() != path.resolve():
            raise ValueError(f"{path}: another model offered here has the same file name; rename one of them")
    if SAMPLE.is_file():
        files["samples/demo.png"] = SAMPLE
    site = {"models": listed, "sample": "samples/demo.png" if SAMPLE.is_file() else None}
    files["site.json"] = json.dumps(site, indent=1).encode()
    return files


def _named(model: str) -> tuple[str, Path, str]:
    """(name, file, one line) of a model to offer; it is opened, so that a wrong file is told here."""
    from featherpose.runtime.backends import load_model
    from featherpose.runtime.bundled import bundled_models, bundled_path

    if model in bundled_models():
        return model, bundled_path(model), bundled_models()[model].summary
    path = Path(model).absolute()
    if path.suffix.lower() != ".onnx":
        path = path.resolve()  # of a link that ends in .onnx the name counts, whatever it leads to
    if path.suffix.lower() != ".onnx" and path.is_file():
        raise ValueError(f"{model}: the page runs ONNX files; make one with featherpose export")
    spec = load_model(path).spec
    return path.stem, path, f"{spec.name} {spec.version}"


def write_site(files: dict[str, Path | bytes], folder: Path) -> None:
    """The files in a folder, each whole or not at all; what else lies there is left alone."""
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(content, target)


def _copy_whole(content: Path | bytes, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _named_by(target: str) -> str:
    """The name of a file by what was asked for; "" where that is no address."""
    try:
        return unquote(urlsplit(target).path, errors=BYTES).lstrip("/") or "index.html"
    except ValueError:
        return ""


class PageHandler(BaseHTTPRequestHandler):
    """Gives out a fixed table of files."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True  # else each file waits 40 ms for the browser to confirm its head

    def __init__(self, files: dict[str, Path | bytes], *arguments) -> None:
        self.files = files
        super().__init__(*arguments)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):  # a browser that goes away in the middle of it may
            super().handle()

    def do_GET(self) -> None:
        name = _named_by(self.path)
        content = self.files.get(name)
        try:
            body = content.read_bytes() if isinstance(content, Path) else content
        except OSError:
            body = None
        self.send_response(404 if body is None else 200)
        body = b"not here\n" if body is None else body
        for key, value in HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "text/plain" if content is None else TYPES[Path(name).suffix.lower()])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        """Says nothing: the terminal is for errors."""

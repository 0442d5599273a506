"""`featherpose serve`: a model behind HTTP and WebSockets."""

from __future__ import annotations

import os
from typing import Annotated

import typer

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: Annotated[str | None, typer.Option(help="Model file, or the name of one that comes along.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    networks: Annotated[
        int | None, typer.Option(help="Copies of the network that run side by side  \\[default: the cores]", min=1)
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each copy.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Photos worked on at once, and the largest batch.", min=1)] = 8,
    queue: Annotated[int, typer.Option(help="Photos that may wait for a worker.", min=0)] = 64,
    max_bytes: Annotated[int, typer.Option(help="Bytes of one photo.", min=1)] = 16 * 2**20,
    max_pixels: Annotated[int, typer.Option(help="Pixels of one photo.", min=1)] = 25_000_000,
    rate: Annotated[float, typer.Option(help="Photos a second and client; 0 for no limit.", min=0)] = 60.0,
    connections: Annotated[int, typer.Option(help="Open connections.", min=1)] = 128,
    sockets: Annotated[int, typer.Option(help="Open WebSockets.", min=1)] = 16,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of pages that may use it, such as https://example.org; * for all.")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="Address of a proxy whose X-Forwarded-For is believed.")
    ] = None,
) -> None:
    """Serve joints over HTTP: POST a photo to /v1/pose, several to /v1/poses, frames to the WebSocket /v1/track.

    Ctrl-C stops it once running requests are answered. /docs describes it; there is no password (docs/serve.md).
    """
    import cv2

    from featherpose.runtime.backends import load_model
    from featherpose.serve.app import create_app
    from featherpose.serve.limits import Limits
    from featherpose.serve.server import listen, run_server
    from featherpose.serve.service import Service

    limits = Limits(
        photo_bytes=max_bytes,
        request_bytes=max(max_bytes, Limits.request_bytes),
        bytes_held=max(4 * max_bytes, Limits.bytes_held),
        pixels=max_pixels,
        queue=queue,
        rate=rate,
        connections=connections,
        sockets=sockets,
    )
    for origin in allow_origin or []:
        check_origin(origin)
    cores = os.cpu_count() or 1
    backends = [load_model(model, threads) for _ in range(networks or cores)]
    cv2.setNumThreads(1)  # photos are worked on side by side already
    bound = listen(host, port)
    service = Service(backends, limits=limits, workers=workers, decoders=cores)
    app = create_app(service, origins=allow_origin or [])
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{bound.getsockname()[1]}/docs says how to use it; Ctrl-C stops it", flush=True)
    if host not in LOOPBACK:
        print("whoever reaches this address may use it: there is no password and no encryption", flush=True)
    run_server(app, service, bound, proxies=proxy or [])


def check_origin(origin: str) -> None:
    """ValueError for what a browser never sends as its Origin."""
    from urllib.parse import urlsplit

    parts = urlsplit(origin)
    if origin != "*" and (
        parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"
    ):
        raise ValueError(f"--allow-origin must be * or like https://example.org, without a path, got '{origin}'")

"""How many photos a second `featherpose serve` answers, and how long they take, against the number of connections.

    python benchmarks/serve_load.py [PHOTO] [--model MODEL] [--seconds 10] [--connections 1 2 4 8 16 32]

The server is a process of its own; each connection is a thread of this one that sends the photo again as soon as it has
its answer. The first row is the same photo in a plain loop around Predictor, unpacked from its bytes each time. CPU ms
are those of the server's process, or of the loop's thread: they hold on a busy machine too, wall times do not.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import featherpose
from featherpose.runtime.photos import decode_photo
from featherpose.runtime.predictor import Predictor

SAMPLE = Path(featherpose.__file__).parent / "data" / "samples" / "demo.png"
JPEG = {"content-type": "image/jpeg"}


def jpeg_of(path: Path) -> bytes:
    """A file's bytes as they are if it is a JPEG, else as a JPEG of quality 90."""
    data = path.read_bytes()
    if data[:2] == b"\xff\xd8":
        return data
    out = io.BytesIO()
    Image.fromarray(decode_photo(data)).save(out, "JPEG", quality=90)
    return out.getvalue()


def in_a_loop(data: bytes, model: str | None, seconds: float) -> dict:
    """Predictor alone, one photo after the other, one thread."""
    predictor = Predictor(model)
    predictor(decode_photo(data))
    took, start, cpu = [], time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        predictor(decode_photo(data))
        took.append(time.perf_counter() - before)
    return figures(took, time.perf_counter() - start, time.process_time() - cpu, 1.0)


def under_load(port: int, data: bytes, connections: int, seconds: float) -> dict:
    """The server with so many connections that are never idle."""
    took: list[float] = []
    problems: list[str] = []

    def client() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not took or time.perf_counter() < start + seconds:
            before = time.perf_counter()
            line.request("POST", "/v1/pose", data, JPEG)
            answer = line.getresponse()
            body = answer.read()
            took.append(time.perf_counter() - before)
            if answer.status != 200:
                problems.append(body.decode())

    before, start = metrics(port), time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, after = time.perf_counter() - start, metrics(port)
    if problems:
        raise SystemExit(f"{len(problems)} of {len(took)} answers were errors: {problems[0]}")
    pictures, runs, cpu = (after[name] - before[name] for name in METRICS)
    return figures(took, wall, cpu, pictures / max(runs, 1))


def wait_until_open(port: int, seconds: float = 60) -> None:
    """Returns once the server takes connections; it has said its address a moment before."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


METRICS = ("featherpose_batch_size_sum", "featherpose_batch_size_count", "process_cpu_seconds_total")


def metrics(port: int) -> dict[str, float]:
    """METRICS of the server now."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    line.request("GET", "/metrics")
    text = line.getresponse().read().decode()
    line.close()
    return {name: float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1]) for name in METRICS}


def figures(took: list[float], wall: float, cpu: float, batch: float) -> dict:
    p50, p99 = np.percentile(took, [50, 99]) * 1000
    return {"rate": len(took) / wall, "p50": p50, "p99": p99, "cpu": 1000 * cpu / len(took), "batch": batch}


def row(name: str, figures: dict) -> str:
    return "| {} | {rate:.1f} | {p50:.0f} | {p99:.0f} | {cpu:.1f} | {batch:.2f} |".format(name, **figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--model")
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="further options of featherpose serve")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    data = jpeg_of(arguments.photo)
    width, height = Image.open(io.BytesIO(data)).size
    model = [] if arguments.model is None else ["--model", arguments.model]
    print(
        "| connections | photos/s | p50 ms | p99 ms | CPU ms per photo | mean batch |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    print(row("none: Predictor in a loop", in_a_loop(data, arguments.model, arguments.seconds)), flush=True)
    command = [sys.executable, "-m", "featherpose", "serve", "--port", "0", "--rate", "0", *model, *arguments.serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = server.stdout.readline()
            port = int(re.search(r":(\d+)/docs", said)[1])
            wait_until_open(port)
            under_load(port, data, 1, 0.5)  # warms up
            for connections in arguments.connections:
                print(row(str(connections), under_load(port, data, connections, arguments.seconds)), flush=True)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
    print(
        f"\nJPEG {width}x{height}, {len(data):,} bytes; {os.cpu_count()} cores, {platform.machine()}, load {load}; {stamp}"
    )


if __name__ == "__main__":
    main()

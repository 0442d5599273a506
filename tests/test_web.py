"""The page in the browser: its modules under node, its server, and the page itself in a headless Chromium."""

import http.client
import itertools
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import replace
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser import Chromium, find_chromium, write_y4m
from colour_model import SPEC, dots, write_colour_model
from PIL import Image

from featherpose.cli import run, web
from featherpose.pose import Pose
from featherpose.runtime import bundled
from featherpose.runtime.bundled import bundled_models, in_float
from featherpose.runtime.predictor import Predictor
from featherpose.runtime.several import SeveralTracker, everybody
from featherpose.runtime.tracker import Tracker
from featherpose.spec import SPEC_KEY

HERE = Path(__file__).parent
NAMES = json.loads((web.PAGE / "vendor.json").read_text(encoding="utf-8"))["files"]


def _fetched() -> bool:
    try:
        return bool(web.vendor_files())
    except ValueError:
        return False


def _missing() -> str | None:
    """Why the page cannot be tested here."""
    if not sys.platform.startswith("linux"):
        return "the page is tested on Linux"
    if find_chromium() is None:
        return "no Chromium to test the page in"
    return None if _fetched() else "the browser's runtime is not here: featherpose web --fetch"


with_chromium = pytest.mark.skipif(_missing() is not None, reason=str(_missing()))


def test_the_modules_pass_their_own_tests():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the page's modules")
    files = sorted(str(path) for path in (HERE / "web").glob("*.test.mjs"))
    done = subprocess.run([node, "--test", "--test-reporter=tap", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    passed = next(line for line in done.stdout.splitlines() if line.startswith("# pass "))
    assert int(passed.split()[-1]) > 50, done.stdout  # the golden cases were there


# --- what is given out ------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Files of a runtime that was not fetched."""
    folder = tmp_path / "vendor"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(name)
    monkeypatch.setattr(web, "vendor_files", partial(web.vendor_files, folder))
    return folder


def _serve(files):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(web.PageHandler, files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def site(runtime, tmp_path):
    model = write_colour_model(tmp_path / "colours.onnx")
    server = _serve(web.site_files([str(model)]))
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_pages_come_with_the_headers_that_threads_need(site):
    with urllib.request.urlopen(site + "/") as answer:
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert b"featherpose" in answer.read()


def test_files_do_not_wait_for_the_browser_to_confirm_their_head(site):
    line, took = http.client.HTTPConnection(site.removeprefix("http://"), timeout=30), []
    for _ in range(30):
        begin = time.perf_counter()
        line.request("GET", "/style.css")
        line.getresponse().read()
        took.append(time.perf_counter() - begin)
    line.close()
    assert min(took[10:]) < 0.03  # after the first few, clients confirm 40 ms later


@pytest.mark.parametrize(
    "address, kind",
    [
        ("/js/page.js", "text/javascript; charset=utf-8"),
        ("/vendor/ort.wasm.min.mjs", "text/javascript; charset=utf-8"),
        ("/vendor/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/style.css?v=1", "text/css; charset=utf-8"),
        ("/models/colours.onnx", "application/octet-stream"),
        ("/site.json", "application/json"),
    ],
)
def test_files_come_with_their_type(site, address, kind):
    with urllib.request.urlopen(site + address) as answer:
        assert answer.headers["Content-Type"] == kind
        assert int(answer.headers["Content-Length"]) == len(answer.read()) > 0


@pytest.mark.parametrize(
    "address",
    ["/package.json", "/../cli/web.py", "/js/%2e%2e/%2e%2e/cli/web.py", "/js", "/models/other.onnx", "//etc/passwd"],
)
def test_nothing_else_is_given_out(site, address):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(site + address)


def test_models_that_were_asked_for_are_listed_first(runtime, tmp_path):
    model = write_colour_model(tmp_path / "mine.onnx")
    files = web.site_files([str(model)])
    listed = json.loads(files["site.json"])["models"]
    assert listed[0] == {"name": "mine", "file": "models/mine.onnx", "summary": "colours 7"}
    assert len(listed) == 1 + sum(entry.path.suffix == ".onnx" for entry in in_float(bundled_models()).values())


def test_all_bundled_models_are_listed_the_default_first(runtime, tmp_path, monkeypatch):
    names = ("nano", "lite", "full", "nano-float")
    for name in names:
        write_colour_model(tmp_path / f"{name}.onnx")
    entries = {name: {"file": f"{name}.onnx", "sha256": "", "summary": f"the {name} one"} for name in names}
    entries["nano-float"]["of"] = "nano"
    (tmp_path / "index.json").write_text(json.dumps({"default": "lite", "models": entries}), encoding="utf-8")
    monkeypatch.setattr(bundled, "bundled_models", partial(bundled_models, tmp_path))
    files = web.site_files([])
    listed = json.loads(files["site.json"])["models"]
    assert [(model["name"], model["summary"]) for model in listed] == [
        ("lite", "the lite one"),
        ("nano-float", "the nano-float one"),  # faster there than 8 bits
        ("full", "the full one"),
    ]
    assert all(files[model["file"]].is_file() for model in listed)


def test_a_folder_for_a_web_server_holds_all_that_the_page_asks_for(runtime, tmp_path, capsys):
    model = write_colour_model(tmp_path / "colours.onnx")
    out = tmp_path / "site"
    assert run(["web", "--model", str(model), "--out", str(out)]) == 0
    assert "any web server" in capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all((out / name).is_file() for name in ("style.css", "icon.svg", "js/page.js", "models/colours.onnx"))
    assert "js/page.js" in page and "http" not in page.lower().replace("http-equiv", "")
    for script in (out / "js").glob("*.js"):
        for line in script.read_text(encoding="utf-8").splitlines():
            if line.startswith("import "):
                assert (out / "js" / line.split('"')[1]).is_file(), line
    assert not list(out.rglob("*.tmp"))


def test_what_is_wrong_is_told_in_one_sentence(runtime, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"x")
    for arguments, said in (
        (["--model", str(other)], "runs ONNX files"),
        (["--model", str(tmp_path / "none.onnx")], "there is no such model file"),
    ):
        assert run(["web", "--out", str(tmp_path / "site"), *arguments]) == 1
        assert said in capsys.readouterr().err


def test_two_models_of_one_file_name_are_refused(runtime, tmp_path):
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        models.append(str(write_colour_model(tmp_path / name / "same.onnx")))
    with pytest.raises(ValueError, match="same file name"):
        web.site_files(models)


def test_models_of_any_file_name_are_given_out(runtime, tmp_path):
    model = write_colour_model(tmp_path / "odd#1 100%?.onnx")
    files = web.site_files([str(model)])
    address = json.loads(files["site.json"])["models"][0]["file"]
    assert not set(address) & set("#? ")
    server = _serve(files)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{address}") as answer:
            assert answer.read() == model.read_bytes()
    finally:
        server.shutdown()
        server.server_close()
    web.write_site(files, tmp_path / "site")
    assert (tmp_path / "site" / urllib.parse.unquote(address)).read_bytes() == model.read_bytes()


def test_a_link_to_a_model_goes_by_its_own_name(runtime, tmp_path):
    blob = write_colour_model(tmp_path / "colours.onnx").rename(tmp_path / "blob123")
    (tmp_path / "link.onnx").symlink_to(blob)
    files = web.site_files([str(tmp_path / "link.onnx"), str(tmp_path / "link.onnx")])
    assert files["models/link.onnx"].read_bytes() == blob.read_bytes()
    assert json.loads(files["site.json"])["models"][0]["file"] == "models/link.onnx"


def _asked(site, message, *, reset=False):
    """What the server answers to these bytes; reset: instead the line is broken off."""
    address, port = site.removeprefix("http://").split(":")
    with socket.create_connection((address, int(port)), 10) as line:
        line.sendall(message)
        if reset:
            line.recv(10)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return b""
        return line.makefile("rb").read()


def test_a_browser_that_goes_away_leaves_no_words_in_the_terminal(runtime, site, capfd):
    (runtime / NAMES[0]).write_bytes(bytes(50_000_000))
    for _ in range(3):
        _asked(site, f"GET /vendor/{NAMES[0]} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), reset=True)
    time.sleep(0.5)
    assert _asked(site, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert capfd.readouterr().err == ""


def test_what_is_no_address_is_not_here(site, capfd):
    for target in (b"http://[/", b"/[", b"/%ff", b"/js/%00"):
        answer = _asked(site, b"GET " + target + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 "), target
    assert capfd.readouterr().err == ""


def test_a_missing_runtime_names_the_command_that_fetches_it(tmp_path):
    with pytest.raises(ValueError, match=r"onnxruntime-web 1\.\d+\.\d+, is not there yet.*featherpose web --fetch"):
        web.vendor_files(tmp_path)


def test_fetching_without_npm_says_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs npm, which comes with Node"):
        web.fetch_runtime()


def test_a_port_in_use_is_told(runtime, site, capsys):
    assert run(["web", "--port", site.rsplit(":", 1)[1]]) == 1
    assert "--port 0" in capsys.readouterr().err


def test_the_runtime_is_pinned_by_version_and_checksum():
    wanted = json.loads((web.PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lock = json.loads((web.PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all(entry["integrity"].startswith("sha512-") for name, entry in lock.items() if name)


# --- the page in a browser --------------------------------------------------------------------------------------------

SCENE = dots((320, 240), (0, 0, 40, 20), (1, 160, 120, 20), (2, 300, 180, 20))
"""A red, a green and a blue dot, each a cell of the colour model when the whole picture is looked at, and so far apart that
the crop around them is the whole picture: the answer does not hang on when frames come."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser with the page open, and the picture that its camera shows as Python decodes it."""
    folder = tmp_path_factory.mktemp("page")
    model = write_colour_model(folder / "colours.onnx")
    other = {SPEC_KEY: replace(SPEC, name="other").to_json()}
    second = write_colour_model(folder / "second.onnx", metadata=other)
    picture = write_y4m(folder / "still.y4m", SCENE)
    Image.fromarray(SCENE).save(folder / "scene.png")
    server = _serve(web.site_files([str(model), str(second)]))
    try:
        browser = Chromium(camera=folder / "still.y4m")
    except (RuntimeError, TimeoutError) as error:
        pytest.skip(f"Chromium is here but does not start ({error})")
    with browser:
        browser.address = f"http://127.0.0.1:{server.server_port}/"
        browser.picture, browser.model, browser.folder = picture, model, folder
        yield browser
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(chromium):
    """The page, loaded afresh, with the camera allowed and the model ready."""
    chromium.allow_camera(True)
    chromium.events.clear()
    chromium.open(chromium.address)
    chromium.run("featherpose.ready")
    assert _alert(chromium) is None
    return chromium


def _alert(page):
    return page.run(
        "document.getElementById('alert').hidden ? null : document.getElementById('alert-text').textContent"
    )


def _click(page, selector):
    page.run(f"document.querySelector({selector!r}).click()")


def _click_picture(page, x, y):
    """Clicks a place of the picture, in its pixels as it is shown."""
    page.run(
        "(() => { const canvas = document.getElementById('canvas'), box = canvas.getBoundingClientRect();"
        "const scale = Math.min(box.width / canvas.width, box.height / canvas.height);"
        f"const x = box.left + box.width / 2 + ({x} - canvas.width / 2) * scale;"
        f"const y = box.top + box.height / 2 + ({y} - canvas.height / 2) * scale;"
        "canvas.dispatchEvent(new MouseEvent('click', {clientX: x, clientY: y})); })()"
    )


def _rows(page):
    return json.loads(page.run("featherpose.recording.text({})"))["frames"]


def _drop(page, path, kind):
    """Drops a file onto the page."""
    content = list(path.read_bytes())
    page.run(
        f"(() => {{ const files = new DataTransfer();"
        f"files.items.add(new File([Uint8Array.from({content})], {path.name!r}, {{type: {kind!r}}}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: files, cancelable: true})); })()"
    )


def _drop_clip(page, name, frames):
    """Drops a video of moving dots onto the page, and gives its path."""
    pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    from video_clips import dot_frames, write_clip

    path = write_clip(page.folder / name, dot_frames(frames), fps=VIDEO_RATE, codec="libvpx")
    _drop(page, path, "video/webm")
    return path


def _drop_address(page, path):
    """Drops a file of any size onto the page, by way of the browser's own file chooser."""
    document = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
    page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def _distance(row, pose: Pose) -> float:
    xy = np.array([[joint["x"], joint["y"]] for joint in row["joints"].values()])
    return float(np.abs(xy - pose.xy).max())


@with_chromium
@pytest.mark.parametrize("smoothing", [True, False])
def test_the_camera_gives_the_joints_that_python_finds(page, smoothing):
    if not smoothing:
        _click(page, "#smoothing")
    _click(page, "[data-open=camera]")
    page.wait("featherpose.frames >= 12")
    rows = _rows(page)[:12]
    follow = Tracker(Predictor(page.model), smoothing=smoothing)
    for row in rows:
        pose = follow(page.picture, row["time"])
        assert row["state"] == follow.state  # frames that come slowly may well be lost, by both
        assert pose is None or _distance(row, pose) < 0.5
    assert rows[0]["state"] == "found"
    assert _alert(page) is None


@with_chromium
def test_the_page_prints_frames_a_second_and_milliseconds(page):
    _click(page, "[data-open=camera]")
    page.wait("Number(document.getElementById('fps').textContent) > 0")
    shown = {stage: page.run(f"document.getElementById('ms-{stage}').textContent") for stage in ("crop", "network")}
    assert all(text.endswith(" ms") and float(text[:-3]) > 0 for text in shown.values())


@with_chromium
def test_memory_stays_flat_over_a_thousand_frames(page):
    _click(page, "[data-open=camera]")
    page.wait("featherpose.frames >= 1")

    def look(times):
        count = page.run("featherpose.frames")
        step = "featherpose.step(1e6 + featherpose.frames / 30)"
        page.run(f"(async () => {{ for (let i = 0; i < {times}; i++) await {step}; }})()")
        assert page.run("featherpose.frames") >= count + times

    look(400)  # the runtime compiles itself a second time meanwhile
    heap, process = page.memory()
    look(1000)
    heap_after, process_after = page.memory()
    # Kept by mistake, 1000 frames of the camera would be 300 MB, pictures of the network's input 12, their maps 16.
    assert heap_after - heap < 2, (heap, heap_after)
    assert process_after - process < 10, (process, process_after)


@with_chromium
def test_a_refused_camera_gets_a_clear_message(page):
    page.allow_camera(False)
    _click(page, "[data-open=camera]")
    page.wait("!document.getElementById('alert').hidden")
    assert "camera was refused: allow it in the address bar" in _alert(page)
    assert page.run("featherpose.source") is None


@with_chromium
def test_a_dropped_photo_gets_pythons_joints_and_a_click_chooses_somebody_else(page):
    image = dots(
        (640, 480), (0, 200, 200, 40), (1, 240, 240, 40), (2, 200, 280, 40), (0, 480, 200, 40), (1, 520, 240, 40)
    )
    path = page.folder / "photo.png"
    Image.fromarray(image).save(path)
    _drop(page, path, "image/png")
    page.wait("featherpose.frames === 1")
    predictor = Predictor(page.model)
    assert _distance(_rows(page)[0], predictor(image)) < 0.05

    _click_picture(page, 540, 240)
    page.wait("featherpose.frames === 2")
    assert _distance(_rows(page)[0], predictor(image, point=(540, 240))) < 0.05
    assert _distance(_rows(page)[0], predictor(image)) > 20

    _click(page, "#nearest")
    page.wait("featherpose.frames === 3")
    assert _distance(_rows(page)[0], predictor(image)) < 0.05

    _click(page, "#mirror")
    _click_picture(page, 640 - 540, 240)  # what is on the right now stands on the left
    page.wait("featherpose.frames === 4")
    assert _distance(_rows(page)[0], predictor(image, point=(540, 240))) < 0.05


def _apart(row, poses: dict[int, Pose]) -> float:
    """The largest distance between a row's people and poses; infinite where other people or numbers are there."""
    if [person["person"] for person in row["people"]] != list(poses):
        return np.inf
    return max((_distance(person, pose) for person, pose in zip(row["people"], poses.values(), strict=True)), default=0)


@with_chromium
def test_everybody_in_a_photo_has_pythons_joints_until_one_is_clicked(page):
    one = [(0, 200, 160, 40), (1, 240, 200, 40), (2, 200, 240, 40)]
    image = dots((640, 480), *one, *((colour, left + 240, top, side) for colour, left, top, side in one))
    path = page.folder / "two.png"
    Image.fromarray(image).save(path)
    _click(page, "#everybody")
    _drop(page, path, "image/png")
    page.wait("featherpose.frames === 1")
    predictor = Predictor(page.model)
    people = dict(enumerate(everybody(predictor, image, 6), 1))
    assert len(people) == 2 and _rows(page)[0]["state"] == "found"
    assert _apart(_rows(page)[0], people) < 0.05
    assert page.run("document.getElementById('joints').hidden")

    _click_picture(page, 460, 220)
    page.wait("featherpose.frames === 2")
    assert page.run("document.getElementById('everybody').checked") is False
    assert _distance(_rows(page)[0], predictor(image, point=(460, 220))) < 0.05


@with_chromium
def test_everybody_before_the_camera_has_pythons_joints_and_numbers(page):
    _click(page, "[data-open=camera]")
    page.wait("featherpose.frames >= 2")
    _click(page, "#everybody")
    page.wait("featherpose.recording.rows.length >= 6 && featherpose.recording.rows[0].people")
    follow = SeveralTracker(Predictor(page.model))
    for row in _rows(page)[:6]:
        assert _apart(row, follow(page.picture, row["time"])) < 0.5
    assert _rows(page)[0]["people"][0]["person"] == 1
    assert _alert(page) is None


@with_chromium
def test_joints_below_the_threshold_are_not_drawn(page):
    path = page.folder / "dim.png"
    Image.fromarray(SCENE // 2).save(path)
    _drop(page, path, "image/png")
    page.wait("featherpose.frames === 1")
    joint = _rows(page)[0]["joints"]["red"]
    place = [round(joint["x"]), round(joint["y"])]
    assert 0.3 < joint["score"] < 0.6
    for threshold, drawn in ((0.9, False), (0.1, True)):
        page.run(
            "(() => { const slider = document.getElementById('threshold');"
            f"slider.value = {threshold}; slider.dispatchEvent(new Event('input')); }})()"
        )
        pixel = page.run(
            f"[...document.getElementById('canvas').getContext('2d').getImageData({place[0]}, {place[1]}, 1, 1).data]"
        )
        assert (pixel != [127, 0, 0, 255]) is drawn
        assert page.run("document.getElementById('threshold-value').textContent") == f"{threshold:.2f}"


VIDEO_RATE = 25


@with_chromium
def test_a_dropped_video_gets_the_joints_that_python_finds(page):
    path = _drop_clip(page, "walk.webm", 50)
    from video_clips import read_frames

    frames = read_frames(path)
    page.wait("featherpose.recording.rows.length >= 8")
    assert page.run("document.getElementById('transport').hidden") is False
    rows = _rows(page)
    follow = Tracker(Predictor(page.model))
    for row in rows:
        pose = follow(frames[round(row["time"] * VIDEO_RATE)], row["time"])
        assert row["state"] == follow.state
        assert pose is None or _distance(row, pose) < 0.5
    assert rows[0]["state"] == "found"

    _click(page, "#play")
    page.wait("document.getElementById('video').paused")
    page.run("(() => { const seek = document.getElementById('seek');"
             "seek.value = 0.25; seek.dispatchEvent(new Event('input')); })()")  # fmt: skip
    page.wait("Math.abs(featherpose.follower.time - 0.5) < 0.1")
    facts = json.loads(page.run("featherpose.recording.text(featherpose.about)"))
    assert (facts["kind"], facts["name"], facts["size_wh"]) == ("video", "walk.webm", [128, 128])


@with_chromium
def test_a_frame_that_a_paused_video_shows_during_a_look_is_looked_at_too(page):
    _drop_clip(page, "walk.webm", 50)
    page.wait("featherpose.recording.rows.length >= 3")
    _click(page, "#play")
    page.wait("document.getElementById('video').paused")
    page.run(
        """(async () => {
          const video = document.getElementById("video"), { follower } = featherpose;
          const [next, seek] = [follower.next, (time) => (video.currentTime = time)];
          const shown = (time) => new Promise((resolve) => {
            const wait = () => video.requestVideoFrameCallback((now, facts) => {
              if (Math.abs(facts.mediaTime - time) < 0.1) resolve();
              else wait();
            });
            wait();
          });
          let begun, finish;
          const looking = new Promise((resolve) => (begun = resolve)), done = new Promise((resolve) => (finish = resolve));
          follower.next = async (...frame) => {
            follower.next = next;
            begun();
            await done;
            return next.apply(follower, frame);
          };
          seek(1.5);
          await looking;
          const later = shown(0.5);
          seek(0.5);
          await later;
          finish();
        })()"""
    )
    page.wait("Math.abs(featherpose.follower.time - 0.5) < 0.1", timeout=20)


def _text(page, name):
    return page.run(f"document.getElementById({name!r}).textContent")


def _choose_model(page, index):
    page.run(
        "(() => { const list = document.getElementById('model');"
        f"list.selectedIndex = {index}; list.dispatchEvent(new Event('change')); }})()"
    )


def _paused_video(page, frames):
    """Drops a video of so many frames and pauses it."""
    _drop_clip(page, "walk.webm", frames)
    page.wait("featherpose.recording.rows.length >= 3")
    _click(page, "#play")
    page.wait("document.getElementById('video').paused")
    page.run("new Promise((done) => setTimeout(done, 300))")  # the frame it stopped at is looked at meanwhile


@with_chromium
def test_a_paused_video_is_looked_at_again_for_each_change(page):
    _paused_video(page, 50)
    rows = page.run("featherpose.recording.rows.length")
    changes = (
        lambda: _click_picture(page, 60, 60),
        lambda: _click(page, "#nearest"),
        lambda: _click(page, "#everybody"),
        lambda: _choose_model(page, 1),
    )
    for number, change in enumerate(changes):
        frames = page.run("featherpose.frames")
        change()
        page.wait(f"featherpose.frames > {frames}", timeout=10)
        if number < 2:  # the frame's row is another one now
            assert page.run("featherpose.recording.rows.length") == rows
    page.wait("featherpose.recording.rows.length === 1 && featherpose.recording.rows[0].people", timeout=10)


@with_chromium
def test_the_numbers_of_a_paused_video_are_those_of_the_frame_that_is_shown(page):
    _paused_video(page, 50)
    page.run(
        "(async () => { const seek = document.getElementById('seek');"
        "for (const place of [0.1, 0.9, 0.2, 0.8]) {"
        "  seek.value = place; seek.dispatchEvent(new Event('input'));"
        "  await new Promise((done) => setTimeout(done, 60)); } })()"
    )
    page.wait("Math.abs(featherpose.follower.time - 1.6) < 0.1", timeout=10)
    page.run("new Promise((done) => setTimeout(done, 400))")
    shown = page.run("Number(document.getElementById('joints').tBodies[0].rows[0].cells[1].textContent)")
    assert shown == page.run("Number(featherpose.follower.pose.xy[0][0].toFixed(0))")


@with_chromium
def test_a_video_is_recorded_once_however_often_it_plays(page):
    _drop_clip(page, "short.webm", 15)
    page.run("(() => { globalThis.begun = 0; document.getElementById('video').onseeking = () => begun++; })()")
    page.wait("begun >= 2", timeout=30)  # again and again by itself
    page.wait("featherpose.follower.time > 0.2 && featherpose.follower.time < 0.5", timeout=30)
    rows = _rows(page)
    assert all(row["time"] < after["time"] for row, after in itertools.pairwise(rows))
    assert [row["frame"] for row in rows] == list(range(len(rows)))
    assert "to the end of the video" in _text(page, "recorded")
    _click(page, "#clear")
    page.wait("featherpose.recording.rows.length >= 2", timeout=10)


@with_chromium
def test_what_is_recorded_is_told_after_clear_and_after_another_model(page):
    _drop(page, page.folder / "scene.png", "image/png")
    page.wait("featherpose.frames === 1")
    assert _text(page, "recorded") == "1 frame recorded."
    _click(page, "#clear")
    assert _text(page, "recorded") == "Nothing recorded yet."
    assert page.run("document.getElementById('download').disabled && document.getElementById('clear').disabled")

    _click(page, "[data-open=camera]")
    page.wait("featherpose.frames >= 5")
    _click(page, "#stop")
    page.wait("document.getElementById('stop').disabled && !document.getElementById('download').disabled")
    _choose_model(page, 1)
    page.wait("featherpose.model.spec.name === 'other'")
    page.wait("document.getElementById('busy').hidden")
    assert _text(page, "recorded") == "Nothing recorded yet." and _text(page, "fps") == _text(page, "total") == "–"
    assert page.run("document.getElementById('download').disabled")


@with_chromium
def test_a_camera_may_change_the_size_of_its_picture(page):
    _click(page, "[data-open=camera]")
    page.wait("featherpose.recording.rows.length >= 3")
    page.run(
        "document.getElementById('video').srcObject.getVideoTracks()[0]"
        ".applyConstraints({width: {exact: 160}, height: {exact: 160}})"
    )
    page.wait("document.getElementById('video').videoWidth === 160", timeout=20)
    frames = page.run("featherpose.frames")
    page.wait(f"featherpose.frames >= {frames + 3}", timeout=20)
    assert page.run("[featherpose.buffer.pixels.width, featherpose.buffer.pixels.height]") == [160, 160]
    assert page.run("[document.getElementById('canvas').width, document.getElementById('canvas').height]") == [160, 160]
    facts = json.loads(page.run("featherpose.recording.text(featherpose.about)"))
    assert facts["size_wh"] == [160, 160]
    assert facts["frames"][0]["size_wh"] == [320, 240] and "size_wh" not in facts["frames"][-1]
    assert page.run("featherpose.follower.size") == [160, 160]
    assert _alert(page) is None


@with_chromium
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_very_large_photo_is_looked_at_reduced_and_has_its_own_pixels(page, orientation):
    scene = dots((6000, 4000), (0, 500, 500, 375), (1, 3000, 1500, 375), (2, 5000, 3000, 375))
    path = page.folder / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene).save(path, quality=95, exif=exif)
    _drop_address(page, path)
    page.wait("featherpose.frames === 1")
    upright = scene if orientation == 1 else np.rot90(scene, -1)
    width, height = page.run("[featherpose.source.width, featherpose.source.height]")
    assert width * height <= 16e6 and abs(width / height - upright.shape[1] / upright.shape[0]) < 0.001
    row, expected = _rows(page)[0], Predictor(page.model)(np.ascontiguousarray(upright))
    assert page.run("featherpose.about.size_wh") == [upright.shape[1], upright.shape[0]]
    assert _distance(row, expected) < 12  # of pixels of which the network sees one in 90
    shown = page.run("Number(document.getElementById('joints').tBodies[0].rows[2].cells[1].textContent)")
    assert abs(shown - row["joints"]["right_blue"]["x"]) <= 0.51


@with_chromium
def test_a_canvas_that_is_too_large_is_told(page):
    with pytest.raises(RuntimeError, match="cannot hold a picture of 70000 × 8 pixels"):
        page.run(
            "import('./js/frames.js').then(({Frames}) =>"
            "new Frames(70000, 8).take(document.createElement('canvas')).then(() => null))"
        )


@with_chromium
def test_no_model_is_missed_while_one_is_on_its_way(chromium):
    chromium.allow_camera(True)
    held = chromium.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="{ const ask = fetch, held = new Promise((resolve) => (globalThis.letGo = resolve));"
        "globalThis.fetch = async (file) => { if (String(file).endsWith('.onnx')) await held; return ask(file); }; }",
    )
    try:
        chromium.open(chromium.address)
    finally:
        chromium.call("Page.removeScriptToEvaluateOnNewDocument", identifier=held["identifier"])
    _drop(chromium, chromium.folder / "scene.png", "image/png")
    chromium.wait("featherpose.source !== null")
    assert _alert(chromium) is None and _text(chromium, "busy") == "loading the model…"
    assert chromium.run("document.getElementById('busy').hidden") is False
    chromium.run("letGo()")
    chromium.wait("featherpose.frames === 1", timeout=30)
    assert _alert(chromium) is None and chromium.run("document.getElementById('busy').hidden")


@with_chromium
def test_people_are_chosen_without_a_pointer_and_what_is_seen_is_read_out(page):
    one = [(0, 200, 160, 40), (1, 240, 200, 40), (2, 200, 240, 40)]
    image = dots((640, 480), *one, *((colour, left + 240, top, side) for colour, left, top, side in one))
    path = page.folder / "two.png"
    Image.fromarray(image).save(path)
    assert page.run("document.getElementById('next').disabled")
    _drop(page, path, "image/png")
    page.wait("featherpose.frames === 1")
    page.run("document.getElementById('next').focus()")
    seen = []
    for frames in (2, 3):
        for kind in ("keyDown", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )
        page.wait(f"featherpose.frames === {frames}", timeout=20)
        seen.append(_rows(page)[0])
    predictor = Predictor(page.model)
    people = [predictor(image, point=point) for point in ((220, 220), (460, 220))]
    assert sorted(int(np.argmin([_distance(row, pose) for pose in people])) for row in seen) == [0, 1]
    assert all(min(_distance(row, pose) for pose in people) < 0.05 for row in seen)
    assert page.run("document.getElementById('told').getAttribute('role')") == "status"
    page.wait("/^following person [12] of 2/.test(document.getElementById('told').textContent)", timeout=10)
    _click(page, "#everybody")
    page.wait("document.getElementById('told').textContent === '2 people are in sight'", timeout=10)


@with_chromium
def test_the_model_can_be_chosen(page):
    names = page.run("[...document.getElementById('model').options].map((option) => option.text)")
    assert names[:2] == ["colours", "second"]
    _drop(page, page.folder / "scene.png", "image/png")
    page.wait("featherpose.frames === 1")
    _choose_model(page, 1)
    page.wait("featherpose.model.spec.name === 'other' && featherpose.frames === 2")
    assert "64 × 64 px, 3 joints" in page.run("document.getElementById('model-about').textContent")
    assert list(_rows(page)[0]["joints"]) == ["red", "left_green", "right_blue"]


@with_chromium
def test_any_web_server_can_give_the_page_from_any_folder(chromium, tmp_path):
    web.write_site(web.site_files([str(chromium.model)]), tmp_path / "some" / "site")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = server.stdout.readline().split(" port ")[1].split()[0]
            chromium.open(f"http://127.0.0.1:{port}/some/site/")
            chromium.run("featherpose.ready")
            assert chromium.run("[crossOriginIsolated, featherpose.model.threads]") == [False, 1]
            assert "1 thread" in chromium.run("document.getElementById('model-about').textContent")
            _drop(chromium, chromium.folder / "scene.png", "image/png")
            chromium.wait("featherpose.frames === 1")
            assert _distance(_rows(chromium)[0], Predictor(chromium.model)(SCENE)) < 0.05
        finally:
            server.terminate()


@with_chromium
@pytest.mark.parametrize("width, height", [(400, 800), (320, 600), (820, 1100), (1280, 800)])
def test_nothing_stands_beside_the_page_on_screens_of_any_width(page, width, height):
    page.resize(width, height, phone=width < 500)
    try:
        page.allow_camera(False)
        _click(page, "[data-open=camera]")
        page.wait("!document.getElementById('alert').hidden")
        assert page.run("document.documentElement.scrollWidth") <= width
        outside = page.run(
            "[...document.querySelectorAll('button, select, input, h1, h2, p, #alert, dd')].filter((part) => {"
            "const box = part.getBoundingClientRect();"
            f"return box.width > 0 && part.id !== 'file' && (box.left < 0 || box.right > {width}); }})"
            ".map((part) => part.outerHTML)"
        )
        assert outside == []
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


@with_chromium
def test_the_joints_can_be_downloaded(page, tmp_path):
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _click(page, "[data-open=sample]")
    page.wait("featherpose.frames === 1")
    page.wait("!document.getElementById('download').disabled")
    _click(page, "#download")
    written = tmp_path / "demo.poses.json"
    for _ in range(200):
        if written.is_file():
            break
        time.sleep(0.05)
    facts = json.loads(written.read_text(encoding="utf-8"))
    assert facts["source"] == {"kind": "photo", "name": "demo.png", "size_wh": [640, 480]}
    assert list(facts["frames"][0]["joints"]) == facts["skeleton"]["joints"] == ["red", "left_green", "right_blue"]


@with_chromium
@pytest.mark.parametrize(
    "name, content, said",
    [
        ("broken.onnx", b"\x08\x09\x3a\xff\x7f", "not a readable ONNX file"),
        ("broken.png", b"\x89PNG not", "cannot read it as a photo"),
        ("broken.mp4", b"\x00\x00", "cannot play it"),
    ],
)
def test_files_that_cannot_be_read_are_told(page, name, content, said):
    path = page.folder / name
    path.write_bytes(content)
    _drop(page, path, {"png": "image/png", "mp4": "video/mp4"}.get(name.rsplit(".", 1)[1], ""))
    page.wait("!document.getElementById('alert').hidden")
    assert said in _alert(page) and name in _alert(page)


@with_chromium
def test_nothing_leaves_the_browser(page):
    _click(page, "[data-open=camera]")
    page.wait("featherpose.frames >= 5")
    asked = [event["params"]["request"] for event in page.events if event["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 10
    assert all(request["url"].startswith((page.address, "blob:", "data:")) for request in asked)
    assert all(request["method"] == "GET" for request in asked)
    refused = page.run("fetch('http://localhost:9/').then(() => 'sent', (error) => 'refused')")
    assert refused == "refused"
    page.run("new Promise((done) => setTimeout(done, 200))")
    told = [e["params"]["entry"]["text"] for e in page.events if e["method"] == "Log.entryAdded"]
    assert any("Content Security Policy" in text for text in told), told


@with_chromium
def test_the_bundled_model_finds_the_same_joints_in_the_browser(chromium):
    bundled = [entry for entry in in_float(bundled_models()).values() if entry.path.suffix == ".onnx"]
    if not bundled:
        pytest.skip("this build of featherpose ships no model")
    server = _serve(web.site_files([]))
    try:
        chromium.open(f"http://127.0.0.1:{server.server_port}/")
        chromium.run("featherpose.ready")
        _click(chromium, "[data-open=sample]")
        chromium.wait("featherpose.frames === 1")
        assert _distance(_rows(chromium)[0], Predictor(bundled[0].name)(web.SAMPLE)) < 0.5
    finally:
        server.shutdown()
        server.server_close()

# ruff: noqa: E402
"""The service: what it answers is what Predictor and Tracker give, and nothing that comes in brings it down."""

import gc
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from moving_people import SIZE_WH, Told, frame, person
from PIL import Image

from featherpose import Predictor
from featherpose.runtime import photos
from featherpose.runtime.photos import decode_photo
from featherpose.runtime.tracker import Tracker
from featherpose.skeletons import COCO17
from featherpose.spec import ModelSpec

EXTRA = "the extra 'serve' is not installed: pip install 'featherpose[serve,test]'"
for package in ("fastapi", "uvicorn", "websockets", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(package, reason=EXTRA)

from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from featherpose.cli import run
from featherpose.serve.app import create_app
from featherpose.serve.batching import Batching
from featherpose.serve.errors import STATUS, Refused
from featherpose.serve.jobs import Jobs
from featherpose.serve.limits import Limits, Rate, Room
from featherpose.serve.looking import too_many_scans, webp_size
from featherpose.serve.server import is_loopback, listen
from featherpose.serve.service import Service

SPEC = ModelSpec("means", COCO17, (64, 64), {}, outputs="decoded", pose_threshold=0.2)


class Means:
    """A backend whose answer depends on the picture: every joint at its mean red and green, the score its mean blue."""

    def __init__(self, gate=None, broken=False):
        self.spec, self.gate, self.broken = SPEC, gate, broken
        self.batches = []

    def run(self, images):
        self.batches.append(len(images))
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.broken:
            raise RuntimeError("the secret reason")
        means = images.reshape(len(images), -1, 3).mean(axis=1).astype(np.float32)
        joints = np.repeat(means[:, None] * [[[0.25, 0.25, 1 / 255]]], 17, axis=1).astype(np.float32)
        return {"joints": joints, "pose_score": means[:, 2] / 255}


@contextmanager
def serving(backends=None, limits=None, origins=(), workers=4, check=True):
    """A client of a service; afterwards nothing may be held any more."""
    service = Service(backends or [Means()], limits=limits or Limits(rate=0), workers=workers)
    with TestClient(create_app(service, origins=origins), base_url="http://127.0.0.1:8000") as client:
        client.service = service
        yield client
        if check:
            wait_for(lambda: service.jobs.open == 0)
            assert (service.bytes.used, service.sockets.used) == (0, 0)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def client():
    with serving() as client:
        yield client


def photo(size_wh=(80, 60), seed=0, kind="PNG", **options):
    """The bytes of a file with blocks of colour, blue enough to be somebody."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    blocks[..., 2] |= 128
    out = io.BytesIO()
    Image.fromarray(blocks).resize(size_wh, Image.Resampling.NEAREST).save(out, kind, **options)
    return out.getvalue()


def post(client, data, query="", kind="image/png", **options):
    return client.post(f"/v1/pose{query}", content=data, headers={"content-type": kind}, **options)


def files(*contents):
    return [("photo", (f"{number}.png", data, "image/png")) for number, data in enumerate(contents)]


def same(answer, pose):
    """Whether an answer is a pose to the last digit."""
    return {key: answer[key] for key in ("pose_score", "box_xyxy", "joints")} == pose.to_dict()


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, options",
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("WEBP", {"lossless": True})],
)
def test_a_photo_gives_what_the_predictor_gives(client, kind, options):
    data = photo(kind=kind, **options)
    answer = post(client, data, kind=f"image/{kind.lower()}").json()
    assert same(answer, Predictor(Means())(decode_photo(data)))
    assert answer["found"] is True and answer["size_wh"] == [80, 60]
    assert answer["model"] == {"name": "means", "version": "1"}
    assert answer["thresholds"] == {"pose": 0.2, "joint": 0.2}


def test_exif_rotation_is_applied(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photo((80, 60), kind="JPEG", exif=exif)
    answer = post(client, data).json()
    assert answer["size_wh"] == [60, 80]
    assert same(answer, Predictor(Means())(decode_photo(data)))


def test_found_follows_the_threshold_of_the_spec(client):
    dark = io.BytesIO()
    Image.new("RGB", (64, 64), (255, 255, 50)).save(dark, "PNG")
    bright = io.BytesIO()
    Image.new("RGB", (64, 64), (0, 0, 52)).save(bright, "PNG")
    assert post(client, dark.getvalue()).json()["found"] is False  # 50 / 255 < 0.2
    assert post(client, bright.getvalue()).json()["found"] is True


def png_frame(size_wh=SIZE_WH):
    out = io.BytesIO()
    Image.fromarray(frame(size_wh)).save(out, "PNG", compress_level=1)
    return out.getvalue()


FRAME = png_frame()


@pytest.fixture
def two_people():
    told = Told()
    told.people = [person(100), person(300)]
    with serving([told]) as client:
        yield client, told


@pytest.mark.parametrize(
    "query, place", [("?point=95,190", {"point": (95, 190)}), ("?box=270,130,330,270", {"box": (270, 130, 330, 270)})]
)
def test_a_point_or_box_names_the_person_as_in_the_predictor(two_people, query, place):
    client, told = two_people
    answer = post(client, FRAME, query).json()
    assert same(answer, Predictor(told)(frame(), **place))
    wanted = told.people[0 if "point" in place else 1]
    assert answer["joints"]["nose"]["x"] == pytest.approx(wanted[0, 0], abs=3)


def test_several_people_come_in_a_list(two_people):
    client, told = two_people
    answer = post(client, FRAME, "?people=5").json()
    noses = sorted(found["joints"]["nose"]["x"] for found in answer["people"])
    assert noses == pytest.approx([100, 300], abs=3) and answer["found"] is True
    told.people = []
    answer = post(client, FRAME, "?people=5").json()
    assert answer["people"] == [] and answer["found"] is False


def test_a_model_that_finds_one_person_says_so(client):
    answer = post(client, photo(), "?people=2")
    assert answer.status_code == 400 and "finds one person" in answer.json()["error"]


def test_several_photos_come_back_in_order_and_a_bad_one_spoils_none(client):
    contents = [photo(seed=0), b"no picture", photo(seed=1), photo(seed=2, kind="JPEG")[:300]]
    answer = client.post("/v1/poses", files=files(*contents)).json()
    rows = answer["photos"]
    assert [row["name"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert same(rows[0], Predictor(Means())(decode_photo(contents[0])))
    assert same(rows[2], Predictor(Means())(decode_photo(contents[2])))
    assert [rows[1]["kind"], rows[3]["kind"]] == ["wrong_type", "damaged_photo"]
    assert rows[1]["error"].startswith("photo 2: ")
    assert answer["model"]["name"] == "means"


# --- what is refused --------------------------------------------------------------------------------------------------


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(width=60_000, height=60_000):
    """A whole, valid PNG of a few kB of a black picture, 1 bit a pixel, or only its beginning."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(1 + width // 8) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_bomb():
    data = bytearray(photo(kind="JPEG"))
    at = data.index(b"\xff\xc0")  # start of frame: length, depth, height, width
    data[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def webp_bomb(kind):
    if kind == b"VP8X":
        body = bytes(4) + (15_999).to_bytes(3, "little") * 2
    elif kind == b"VP8L":
        body = b"\x2f" + (15_999 | 15_999 << 14).to_bytes(4, "little") + bytes(6)
    else:
        body = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16_000, 16_000) + bytes(2)
    content = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


def many_scans(repeats):
    """A progressive JPEG whose last scan comes again and again, each time a pass over the whole picture."""
    data = photo(kind="JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * repeats + data[-2:]


PNG = {"content-type": "image/png"}
ONE = {
    "an empty body": ("", b"", PNG, "bad_request", "empty"),
    "bytes that are no picture": ("", b"\x00" * 500, PNG, "wrong_type", "neither a JPEG, a PNG nor a WebP"),
    "a GIF": ("", photo(kind="GIF"), PNG, "wrong_type", "neither a JPEG"),
    "a truncated JPEG": ("", photo((300, 300), kind="JPEG")[:-200], PNG, "damaged_photo", "truncated or damaged"),
    "a truncated PNG": ("", photo((300, 300))[:-100], PNG, "damaged_photo", "truncated or damaged"),
    "a truncated WebP": ("", photo((300, 300), kind="WEBP")[:-50], PNG, "damaged_photo", "truncated or damaged"),
    "a wrong content type": ("", photo(), {"content-type": "text/html"}, "wrong_type", "got 'text/html'"),
    "a form where one photo goes": (
        "",
        b"--x--",
        {"content-type": "multipart/form-data; boundary=x"},
        "wrong_type",
        "/v1/poses",
    ),
    "an unknown parameter": ("?pont=1,2", photo(), PNG, "bad_request", "did you mean 'point'"),
    "a point that is no point": ("?point=1", photo(), PNG, "bad_request", "point must be x,y"),
    "a point of no number": ("?point=nan,1", photo(), PNG, "bad_request", "point must be x,y"),
    "a point outside the photo": ("?point=900,1", photo(), PNG, "bad_request", "outside the photo of 80 x 60"),
    "an empty box": ("?box=30,30,10,40", photo(), PNG, "bad_request", "is empty"),
    "a point and a box": ("?point=1,1&box=0,0,9,9", photo(), PNG, "bad_request", "not both"),
    "people and a point": ("?point=1,1&people=2", photo(), PNG, "bad_request", "not both"),
    "no people": ("?people=0", photo(), PNG, "bad_request", "'people'"),
    "too many people": ("?people=11", photo(), PNG, "bad_request", "at most 10"),
    "people in words": ("?people=two", photo(), PNG, "bad_request", "'people'"),
    "a PNG bomb": ("", png_bomb(), PNG, "too_many_pixels", "at most 25,000,000 pixels"),
    "a PNG just above the limit": ("", png_bomb(5001, 5000), PNG, "too_many_pixels", "5,001 x 5,000"),
    "a JPEG bomb": ("", jpeg_bomb(), PNG, "too_many_pixels", "at most 25,000,000 pixels"),
    "a JPEG of a thousand scans": ("", many_scans(1000), PNG, "too_many_pixels", "more than the 50 that are read"),
    "a box beyond all photos": ("?box=0,0,1e308,1e308", photo(), PNG, "bad_request", "box must be x1,y1,x2,y2"),
    "a WebP bomb": ("", webp_bomb(b"VP8 "), PNG, "too_many_pixels", "16,000 x 16,000"),
    "a lossless WebP bomb": ("", webp_bomb(b"VP8L"), PNG, "too_many_pixels", "16,000 x 16,000"),
    "an extended WebP bomb": ("", webp_bomb(b"VP8X"), PNG, "too_many_pixels", "16,000 x 16,000"),
}


@pytest.mark.parametrize("query, data, headers, kind, text", ONE.values(), ids=ONE)
def test_a_photo_that_is_refused_gets_a_code_and_a_sentence(client, query, data, headers, kind, text):
    answer = client.post(f"/v1/pose{query}", content=data, headers=headers)
    told = answer.json()
    assert (answer.status_code, told["kind"]) == (STATUS[kind], kind)
    assert text in told["error"] and "\n" not in told["error"]
    assert post(client, photo()).status_code == 200


BOMBS = {"png": png_bomb(), "jpeg": jpeg_bomb(), "webp": webp_bomb(b"VP8X"), "scans": many_scans(60)}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_before_anything_is_unpacked(client, data, monkeypatch):
    monkeypatch.setattr(photos, "_rgb", lambda picture: pytest.fail("pixels were read"))
    assert len(data) < 6000
    assert post(client, data).json()["kind"] == "too_many_pixels"
    rows = client.post("/v1/poses", files=files(data, data)).json()["photos"]
    assert [row["kind"] for row in rows] == ["too_many_pixels"] * 2


def test_scans_are_counted_up_to_the_end_of_the_picture():
    assert not too_many_scans(many_scans(40), 50) and too_many_scans(many_scans(41), 50)  # ten of its own
    plain, mark = photo(kind="JPEG"), b"\xff\xda\x00\x02"
    assert not too_many_scans(plain + mark * 1000, 50)  # phones put videos there
    assert not too_many_scans(plain[:2] + b"\xff\xe5\x10\x02" + mark * 1024 + plain[2:], 50)  # and notes there
    assert not too_many_scans(photo() + mark * 1000, 50)
    hidden = plain[:2] + b"\xff\xe5\x00\x04\xff\xd9" + plain[2:-2] + mark * 1000  # the end stands inside a segment
    assert too_many_scans(hidden, 50)
    assert too_many_scans(plain[:2] + b"\xff\x01" * 100_000 + mark * 100, 50)  # not worth the walk


def test_the_size_of_a_webp_is_read_from_its_first_chunk():
    for options in ({}, {"lossless": True}, {"exif": Image.Exif().tobytes() or b"Exif\0\0II*\0\x08\0\0\0\0\0"}):
        assert webp_size(photo((83, 61), kind="WEBP", **options)) == (83, 61)
    assert webp_size(photo()) is None and webp_size(b"RIFF1234WEBP") is None


def test_more_bytes_than_allowed_are_refused_announced_or_not():
    with serving(limits=Limits(rate=0, photo_bytes=1000, request_bytes=4000)) as client:
        assert len(photo()) < 1000
        assert post(client, photo()).status_code == 200
        announced = post(client, bytes(1001))
        assert (announced.status_code, announced.json()["kind"]) == (413, "too_many_bytes")
        assert "1,001 bytes; at most 1,000" in announced.json()["error"]
        in_pieces = post(client, iter([bytes(600), bytes(600)]))
        assert (in_pieces.status_code, in_pieces.json()["kind"]) == (413, "too_many_bytes")
        one_large = client.post("/v1/poses", files=files(photo(), bytes(1500)))
        assert one_large.status_code == 413 and "photo 2 has 1,500 bytes" in one_large.json()["error"]
        assert client.post("/v1/poses", files=files(*[bytes(900)] * 5)).status_code == 413


FORMS = {
    "no photo": ({"files": {}, "data": {}, "headers": {"content-type": "multipart/form-data; boundary=x"}}, None),
    "a field of text": ({"files": files(b"x"), "data": {"point": "1,2"}}, "a field that is no file"),
    "no boundary": ({"content": b"abc", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
    "a broken form": (
        {"content": b"--y\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        "cannot be read",
    ),
    "a form without files": (
        {"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        None,
    ),
}


@pytest.mark.parametrize("options, text", FORMS.values(), ids=FORMS)
def test_a_bad_form_is_refused(client, options, text):
    answer = client.post("/v1/poses", **options)
    assert answer.status_code == 400 and answer.json()["kind"] == "bad_request"
    assert (text or "form") in answer.json()["error"]


def form(*contents, end=b"--x--\r\n"):
    head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
    return b"".join(head + data + b"\r\n" for data in contents) + end


@pytest.mark.parametrize("cut", [b"", b"--x", b"--x-", b"--"], ids=str)
def test_a_form_that_is_cut_off_is_refused_whole(client, cut):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert len(client.post("/v1/poses", content=form(photo(), photo()), headers=headers).json()["photos"]) == 2
    assert client.post("/v1/poses", content=form(photo(), end=b"--x--"), headers=headers).status_code == 200
    answer = client.post("/v1/poses", content=form(photo(), photo(), end=cut), headers=headers)
    assert answer.status_code == 400 and "cut off" in answer.json()["error"]


def test_a_form_in_a_charset_that_decodes_nothing_is_refused(client):
    headers = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    answer = client.post("/v1/poses", content=form(photo()), headers=headers)
    assert (answer.status_code, answer.json()["kind"]) == (400, "bad_request") and "charset" in answer.json()["error"]


def test_a_photo_without_a_form_is_no_list_of_photos(client):
    answer = client.post("/v1/poses", content=photo(), headers=PNG)
    assert answer.status_code == 415 and "multipart/form-data" in answer.json()["error"]


def test_too_many_photos_are_refused(client):
    answer = client.post("/v1/poses", files=files(*[photo((8, 8))] * 17))
    assert (answer.status_code, answer.json()["kind"]) == (413, "too_many_photos")


def test_no_form_is_larger_than_the_queue():
    service = Service([Means()], limits=Limits(rate=0, queue=3), workers=2)
    with TestClient(create_app(service)) as client:
        answer = client.post("/v1/poses", files=files(*[photo((8, 8))] * 6))
        assert (answer.status_code, answer.json()["kind"]) == (413, "too_many_photos")
        assert "at most 5" in answer.json()["error"]


def test_other_addresses_and_methods_are_told(client):
    assert client.get("/v2/pose").json()["kind"] == "not_found"
    wrong = client.get("/v1/pose")
    assert (wrong.status_code, wrong.json()["kind"], wrong.headers["allow"]) == (405, "wrong_method", "POST")


@pytest.mark.parametrize("path", ["/health", "/v1/model", "/metrics", "/docs", "/openapi.json"])
def test_head_is_answered_where_get_is(client, path):
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"") and int(answer.headers["content-length"]) > 0
    assert client.head("/v1/pose").status_code == 405 and client.head("/nothing").status_code == 404


def test_a_failure_of_the_model_is_an_error_without_its_reason_and_the_service_lives_on():
    backend = Means(broken=True)
    with serving([backend]) as client:
        answer = post(client, photo())
        assert (answer.status_code, answer.json()["kind"]) == (500, "internal")
        assert "secret" not in answer.text
        assert client.post("/v1/poses", files=files(photo())).status_code == 500
        backend.broken = False
        assert post(client, photo()).status_code == 200


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_client_that_is_too_fast_is_told_when_to_come_back():
    now = [0.0]
    rate = Rate(10, 0.5, lambda: now[0])
    for _ in range(5):
        rate.take("10.0.0.1")
    with pytest.raises(Refused, match="10 photos a second") as error:
        rate.take("10.0.0.1")
    assert (error.value.status, error.value.headers) == (429, {"Retry-After": "1"})
    rate.take("10.0.0.2", 5)  # another client
    now[0] += 0.1
    rate.take("10.0.0.1")
    with pytest.raises(Refused):
        rate.take("10.0.0.1")
    now[0] += 100
    rate.take("10.0.0.1", 50)  # more than the bucket holds: a full bucket pays
    with pytest.raises(Refused):
        rate.take("10.0.0.1")


def test_an_ipv6_household_is_one_client_and_old_clients_are_forgotten():
    rate = Rate(1, 1, lambda: 0.0, most_clients=3)
    rate.take("2001:db8::1")
    with pytest.raises(Refused):
        rate.take("2001:db8::2")
    rate.take("2001:db8:0:1::2")
    for number in range(5):
        rate.take(f"10.0.0.{number}")
    assert len(rate._left) == 3


def test_the_rate_holds_for_photos_forms_and_frames():
    with serving(limits=Limits(rate=0.001, burst=3000)) as client:
        assert post(client, photo()).status_code == 200
        assert client.post("/v1/poses", files=files(photo(), photo())).status_code == 200
        answer = post(client, photo())
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 1
        assert answer.json()["retry_after"] == int(answer.headers["retry-after"])
        assert client.get("/health").status_code == 200
    with serving(limits=Limits(rate=0.001, burst=2000)) as client, client.websocket_connect("/v1/track") as track:
        assert ask(track, photo())["state"] == "found"
        assert ask(track, photo())["kind"] == "too_many_requests"


def test_bodies_that_find_no_room_are_refused():
    room = Room(10, "bytes")
    room.take(8)
    with pytest.raises(Refused, match="full") as error:
        room.take(3)
    assert error.value.status == 503 and room.used == 8
    with serving(limits=Limits(rate=0, bytes_held=100)) as client:
        answer = post(client, photo())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("limits", [{"photos": 0}, {"rate": -1}, {"rate": 0.1, "burst": 1}], ids=str)
def test_limits_that_allow_nothing_are_refused(limits):
    with pytest.raises(ValueError, match=r"must be positive|must allow one photo"):
        Limits(**limits)


def test_a_full_queue_answers_at_once_with_a_time_to_come_back():
    gate = threading.Event()
    with serving([Means(gate)], limits=Limits(rate=0, queue=2), workers=1) as client, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(post, client, photo(seed=seed)) for seed in range(3)]
        wait_for(lambda: client.service.jobs.open == 3)
        full = post(client, photo())
        assert (full.status_code, full.json()["kind"]) == (503, "busy")
        assert int(full.headers["retry-after"]) >= 1
        assert "featherpose_queue_length 2.0" in client.get("/metrics").text
        gate.set()
        assert [answer.result().status_code for answer in waiting] == [200] * 3
        assert post(client, photo()).status_code == 200


def test_a_request_that_does_not_fit_as_a_whole_takes_no_place():
    gate = threading.Event()
    with serving([Means(gate)], limits=Limits(rate=0, queue=2), workers=1) as client, ThreadPoolExecutor(1) as other:
        first = other.submit(post, client, photo())
        wait_for(lambda: client.service.jobs.open == 1)
        assert client.post("/v1/poses", files=files(*[photo()] * 3)).status_code == 503
        assert client.service.jobs.open == 1
        gate.set()
        assert first.result().status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(caplog):
    gate = threading.Event()
    with serving([Means(gate)], limits=Limits(rate=0, answer_seconds=0.2), workers=1) as client:
        answer = post(client, photo())
        assert (answer.status_code, answer.json()["kind"]) == (503, "too_slow")
        answer = post(client, photo())  # this one never left the queue, and leaves no place taken
        assert answer.status_code == 503
        wait_for(lambda: client.service.jobs.open == 1)
        gate.set()
    gc.collect()
    assert caplog.text == ""  # asyncio complains of results that nobody took when they are thrown away


def test_jobs_that_wait_are_dropped_at_the_end():
    import asyncio

    gate, ran = threading.Event(), []

    async def main():
        jobs = Jobs(1, 5)
        futures = jobs.submit([lambda: gate.wait(10), lambda: ran.append(1)])
        threading.Timer(0.1, gate.set).start()
        await asyncio.to_thread(jobs.close)
        assert await futures[0] is True and futures[1].cancelled() and jobs.open == 0

    asyncio.run(main())
    assert ran == []


# --- batching ---------------------------------------------------------------------------------------------------------


def pictures(number, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, 64, 64, 3), dtype=np.uint8)


def test_what_waits_while_the_network_is_busy_is_run_together():
    gate = threading.Event()
    backend = Means(gate)
    told = []
    batching = Batching([backend], limit=8, ran=lambda pictures, seconds: told.append(pictures))
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batching.run, pictures(1))
        wait_for(lambda: backend.batches)
        sizes = [1, 2, 1, 3, 1, 4]
        others = [pool.submit(batching.run, pictures(size, seed)) for seed, size in enumerate(sizes)]
        wait_for(lambda: batching.waiting == len(sizes))
        gate.set()
        plain = Means()
        for future, size, seed in zip(others, sizes, range(99), strict=False):
            for name, values in plain.run(pictures(size, seed)).items():
                np.testing.assert_array_equal(future.result()[name], values)
        first.result()
    batching.close()
    assert sum(backend.batches) == 13 and max(backend.batches) <= 8 and len(backend.batches) <= 4
    assert told == backend.batches


def test_a_request_larger_than_a_batch_is_run_alone():
    backend = Means()
    batching = Batching([backend], limit=2)
    assert len(batching.run(pictures(5))["pose_score"]) == 5
    batching.close()


def test_two_lanes_share_what_waits():
    gates = [threading.Event(), threading.Event()]
    lanes = [Means(gate) for gate in gates]
    batching = Batching(lanes, limit=8)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(batching.run, pictures(1, seed)) for seed in range(2)]
        wait_for(lambda: lanes[0].batches and lanes[1].batches)
        for gate in gates:
            gate.set()
        assert all(future.result() for future in futures)
    batching.close()


def test_everybody_in_a_batch_hears_of_its_failure_and_the_lane_lives_on():
    backend = Means(broken=True)
    batching = Batching([backend])
    with pytest.raises(RuntimeError, match="secret"):
        batching.run(pictures(1))
    backend.broken = False
    assert batching.alive and len(batching.run(pictures(2))["pose_score"]) == 2
    batching.close()
    assert not batching.alive
    with pytest.raises(RuntimeError, match="closed"):
        batching.run(pictures(1))


def test_requests_that_come_together_share_the_network_and_get_their_own_answers():
    gate = threading.Event()
    backend = Means(gate)
    contents = [photo(seed=seed) for seed in range(9)]
    with serving([backend], workers=8) as client, ThreadPoolExecutor(9) as pool:
        first = pool.submit(post, client, contents[0])
        wait_for(lambda: backend.batches == [1])
        others = [pool.submit(post, client, data) for data in contents[1:8]]
        wait_for(lambda: client.service.batching.waiting == 7)
        gate.set()
        answers = [future.result().json() for future in [first, *others]]
        metrics = client.get("/metrics").text
    for answer, data in zip(answers, contents, strict=False):
        assert same(answer, Predictor(Means())(decode_photo(data)))
    assert backend.batches[1] == 7
    assert "featherpose_batch_size_count" in metrics


def test_many_clients_at_once_get_their_own_answers():
    contents = [photo(seed=seed) for seed in range(24)]
    with serving([Means(), Means()]) as client, ThreadPoolExecutor(12) as pool:
        answers = [answer.json() for answer in pool.map(lambda data: post(client, data), contents)]
    for answer, data in zip(answers, contents, strict=True):
        assert same(answer, Predictor(Means())(decode_photo(data)))


# --- following --------------------------------------------------------------------------------------------------------


def ask(track, message):
    if isinstance(message, bytes):
        track.send_bytes(message)
    else:
        track.send_text(message if isinstance(message, str) else json.dumps(message))
    return json.loads(track.receive_text())


def scenes():
    """Two people who walk past each other; nobody for a while in the middle."""
    return [[] if 8 <= n < 11 else [person(120 + 8 * n), person(330 - 8 * n, 208)] for n in range(16)]


@pytest.mark.parametrize("query, options", [("", {}), ("?smoothing=false", {"smoothing": False})])
def test_frames_give_what_the_tracker_gives(query, options):
    told, alone = Told(), Told()
    tracker = Tracker(Predictor(alone), **options)
    tracker.start(point=(120, 200))
    with serving([told]) as client, client.websocket_connect(f"/v1/track{query or '?'}&point=120,200") as track:
        for number, people in enumerate(scenes()):
            told.people = alone.people = people
            assert ask(track, {"timestamp": number / 30}) == {"ok": True}
            row, pose = ask(track, FRAME), tracker(frame(), number / 30)
            assert (row["frame"], row["time"], row["state"]) == (number, round(number / 30, 6), tracker.state)
            if pose is None:
                assert row["joints"] is None and row["box_xyxy"] is None
            else:
                assert same(row, pose)
        assert tracker.state == "found"


def test_each_connection_follows_its_own_person(two_people):
    client, told = two_people
    with (
        client.websocket_connect("/v1/track?point=100,190") as left,
        client.websocket_connect("/v1/track?box=270,130,330,270") as right,
    ):
        for number in range(4):
            told.people = [person(100 + 2 * number), person(300 - 2 * number)]
            for track, wanted in ((left, told.people[0]), (right, told.people[1])):
                ask(track, {"timestamp": number / 30})
                assert ask(track, FRAME)["joints"]["left_hip"]["x"] == pytest.approx(wanted[11, 0], abs=4)


def test_a_command_names_somebody_else_and_a_reset_forgets(two_people):
    client, _ = two_people
    with client.websocket_connect("/v1/track?point=100,190&smoothing=false") as track:
        nose = lambda: ask(track, FRAME)["joints"]["nose"]["x"]  # noqa: E731
        ask(track, {"timestamp": 0.0})
        assert nose() == pytest.approx(100, abs=3)
        assert ask(track, {"point": [300, 190], "timestamp": 0.1}) == {"ok": True}
        assert nose() == pytest.approx(300, abs=3)
        assert ask(track, {"reset": True, "box": [70, 130, 130, 270], "timestamp": 0.2}) == {"ok": True}
        assert nose() == pytest.approx(100, abs=3)


def test_without_a_timestamp_the_clock_of_the_service_counts(two_people):
    client, _ = two_people
    with client.websocket_connect("/v1/track") as track:
        times = [ask(track, FRAME)["time"] for _ in range(3)]
        assert 0 <= times[0] < times[1] < times[2] < 20


COMMANDS = {
    "no JSON": ("nonsense", "JSON object"),
    "a list": ("[1]", "JSON object"),
    "an unknown command": ({"resett": True}, "did you mean 'reset'"),
    "a time in words": ({"timestamp": "now"}, "number of seconds"),
    "an endless time": ('{"timestamp": Infinity}', "number of seconds"),
    "a reset that is no answer": ({"reset": 1}, "true or false"),
    "half a point": ({"point": [1]}, "point must be x,y"),
    "both places": ({"point": [1, 1], "box": [0, 0, 5, 5]}, "not both"),
    "a long text": (" " * 2000, "1000 characters"),
    "a place beyond all numbers": ('{"point": [1, ' + "9" * 400 + "]}", "point must be x,y"),
    "a time beyond all numbers": ('{"timestamp": ' + "9" * 400 + "}", "number of seconds"),
    "lists without end": ("[" * 998, "JSON object"),
    "a box beyond all photos": ({"box": [0, 0, 1e308, 1e308]}, "box must be x1,y1,x2,y2"),
}


@pytest.mark.parametrize("message, text", COMMANDS.values(), ids=COMMANDS)
def test_a_bad_command_is_told_and_the_connection_lives_on(client, message, text):
    with client.websocket_connect("/v1/track") as track:
        answer = ask(track, message)
        assert answer["kind"] == "bad_request" and text in answer["error"]
        assert ask(track, photo())["state"] == "found"


def test_a_bad_frame_is_told_and_not_shown_to_the_tracker(two_people):
    client, _ = two_people
    with client.websocket_connect("/v1/track") as track:
        bad = [b"", b"no picture", FRAME[:2000], png_bomb()]
        kinds = [ask(track, data) for data in bad]
        assert [row["kind"] for row in kinds] == ["wrong_type", "wrong_type", "damaged_photo", "too_many_pixels"]
        assert [row["frame"] for row in kinds] == [0, 1, 2, 3]
        outside = [ask(track, {"point": [9000, 1]}), ask(track, FRAME)]
        assert outside[0] == {"ok": True} and "outside the photo" in outside[1]["error"]
        assert ask(track, FRAME)["state"] == "found"


def test_a_failure_of_the_model_is_told_and_the_connection_lives_on():
    backend = Means(broken=True)
    with serving([backend]) as client, client.websocket_connect("/v1/track") as track:
        row = ask(track, photo())
        assert (row["frame"], row["kind"]) == (0, "internal") and "secret" not in row["error"]
        backend.broken = False
        assert ask(track, photo())["state"] == "found"
        assert 'featherpose_errors_total{kind="internal"} 1.0' in client.get("/metrics").text


def test_a_frame_of_too_many_bytes_is_told():
    with serving(limits=Limits(rate=0, photo_bytes=1000)) as client, client.websocket_connect("/v1/track") as track:
        assert ask(track, bytes(1001))["kind"] == "too_many_bytes"


def test_a_frame_that_finds_the_queue_full_is_told():
    gate = threading.Event()
    with (
        serving([Means(gate)], limits=Limits(rate=0, queue=0), workers=1) as client,
        ThreadPoolExecutor(1) as pool,
        client.websocket_connect("/v1/track") as track,
    ):
        busy = pool.submit(post, client, photo())
        wait_for(lambda: client.service.jobs.open == 1)
        row = ask(track, photo())
        assert row["kind"] == "busy" and row["retry_after"] >= 1
        gate.set()
        assert busy.result().status_code == 200


HANDSHAKES = {
    "a bad place": ("?point=1", {}, "bad_request"),
    "an unknown parameter": ("?smooth=true", {}, "bad_request"),
    "smoothing in words": ("?smoothing=much", {}, "bad_request"),
    "another origin": ("", {"origin": "https://evil.example"}, "other_origin"),
}


@pytest.mark.parametrize("query, headers, kind", HANDSHAKES.values(), ids=HANDSHAKES)
def test_a_handshake_is_refused_with_the_reason(client, query, headers, kind):
    assert denied(client, f"/v1/track{query}", headers) == (STATUS[kind], kind)


@pytest.mark.parametrize("path", ["/v1/trac", "/", "/v1/pose"])
def test_a_websocket_elsewhere_is_told(client, path):
    assert denied(client, path) == (404, "not_found")


def denied(client, address, headers=None):
    """(status, kind) of a WebSocket that is refused."""
    with pytest.raises(WebSocketDenialResponse) as told, client.websocket_connect(address, headers=headers or {}):
        pass
    return told.value.status_code, told.value.json()["kind"]


def test_there_are_no_more_connections_than_allowed():
    with serving(limits=Limits(rate=0, sockets=1)) as client:
        for _ in range(2):
            with client.websocket_connect("/v1/track") as track:
                with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/track"):
                    pass
                assert denied.value.status_code == 503 and denied.value.headers["retry-after"] == "1"
                assert ask(track, photo())["state"] == "found"


def test_a_connection_that_says_nothing_is_closed():
    limits = Limits(rate=0, frame_seconds=0.2)
    with serving(limits=limits) as client, client.websocket_connect("/v1/track") as track:
        with pytest.raises(WebSocketDisconnect) as closed:
            track.receive_text()
        assert closed.value.code == 1008 and "0.2 seconds" in closed.value.reason


# --- pages of others --------------------------------------------------------------------------------------------------


def test_without_an_option_pages_of_others_are_refused_and_get_no_permission(client):
    answer = post(client, photo())
    assert not any(name.startswith("access-control") for name in answer.headers)
    for origin in ("https://evil.example", "null"):
        answer = client.post("/v1/pose", content=photo(), headers={**PNG, "origin": origin})
        assert (answer.status_code, answer.json()["kind"]) == (403, "other_origin")
        assert not any(name.startswith("access-control") for name in answer.headers)
    own = client.post("/v1/pose", content=photo(), headers={**PNG, "origin": "http://127.0.0.1:8000"})
    assert own.status_code == 200


HOSTS = {
    "localhost:8000": 200,
    "127.0.0.1:8000": 200,
    "[::1]:8000": 200,
    "evil.example": 403,
    "localhost.evil.example:8000": 403,
    "192.168.0.7:8000": 403,
    "[": 403,
}


@pytest.mark.parametrize("host, status", HOSTS.items())
def test_a_page_whose_name_was_turned_to_this_computer_is_refused(host, status):
    headers = {**PNG, "origin": f"http://{host}", "host": host}
    with serving(origins=["http://good.example"]) as client:
        if host != "[":
            assert client.post("/v1/pose", content=photo(), headers=headers).status_code == 200
        client.service.local = True
        assert client.post("/v1/pose", content=photo(), headers=headers).status_code == status
        assert client.post("/v1/pose", content=photo(), headers={**PNG, "host": host}).status_code == 200
        allowed = {**PNG, "host": host, "origin": "http://good.example"}
        assert client.post("/v1/pose", content=photo(), headers=allowed).status_code == 200


@pytest.mark.parametrize("address, local", [("127.0.0.1", True), ("0.0.0.0", False)])
def test_a_server_of_this_computer_alone_knows_it(address, local):
    with listen(address, 0) as bound:
        assert is_loopback(bound) is local


def test_an_allowed_origin_may_ask_and_read_errors_too():
    page = {"origin": "https://good.example"}
    with serving(origins=["https://good.example"]) as client:
        asked = {**page, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        assert client.options("/v1/pose", headers=asked).headers["access-control-allow-origin"] == page["origin"]
        for data, status in ((photo(), 200), (b"x", 415)):
            answer = client.post("/v1/pose", content=data, headers={**PNG, **page})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, page["origin"])
        other = client.post("/v1/pose", content=photo(), headers={**PNG, "origin": "https://evil.example"})
        assert other.status_code == 403
        with client.websocket_connect("/v1/track", headers=page) as track:
            assert ask(track, photo())["state"] == "found"


# --- for operators ----------------------------------------------------------------------------------------------------


def test_the_metrics_count_requests_stages_batches_and_errors():
    with serving() as client:
        post(client, photo())
        post(client, b"x")
        client.get("/nothing/here")
        client.post("/v1/poses", files=files(photo(), b"x"))
        with client.websocket_connect("/v1/track") as track:
            ask(track, photo())
            text = client.get("/metrics").text
    wanted = [
        'featherpose_requests_total{path="/v1/pose",status="200"} 1.0',
        'featherpose_requests_total{path="/v1/pose",status="415"} 1.0',
        'featherpose_requests_total{path="other",status="404"} 1.0',
        'featherpose_errors_total{kind="wrong_type"} 2.0',
        'featherpose_photos_total{found="yes"} 3.0',
        'featherpose_stage_seconds_count{stage="decode"} 3.0',
        'featherpose_stage_seconds_count{stage="pose"} 3.0',
        'featherpose_stage_seconds_count{stage="queue"} 5.0',
        'featherpose_stage_seconds_count{stage="body"} 3.0',
        'featherpose_connections{kind="websocket"} 1.0',
        "featherpose_queue_length 0.0",
        "featherpose_network_queue_length 0.0",
        "featherpose_bytes_held 0.0",
    ]
    assert [line for line in wanted if line not in text.splitlines()] == []
    assert "featherpose_batch_size_bucket" in text and 'stage="network"' in text


def test_health_is_503_once_the_network_stopped():
    with serving(check=False) as client:
        assert client.get("/health").json()["status"] == "ok"
        client.service.batching.close()
        assert client.get("/health").status_code == 503


def test_the_description_names_every_endpoint_and_the_page_needs_no_other_site(client):
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/pose", "/v1/poses", "/v1/model", "/health", "/metrics"}
    assert set(described["paths"]["/v1/pose"]["post"]["responses"]) >= {"200", "400", "413", "415", "422", "429", "503"}
    page = client.get("/docs").text
    assert all(path in page for path in [*described["paths"], "/v1/track"])
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_the_model_tells_its_joints(client):
    facts = client.get("/v1/model").json()
    assert facts["skeleton"]["joints"] == list(COCO17.joints) and facts["input_size"] == [64, 64]


# --- a real server ----------------------------------------------------------------------------------------------------

SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_serve import Means
from featherpose.serve.app import create_app
from featherpose.serve.limits import Limits
from featherpose.serve.server import listen, run_server
from featherpose.serve.service import Service

class Slow(Means):
    def run(self, images):
        time.sleep(0.2 if images[..., 0].any() else 1)
        return super().run(images)

limits = Limits(
    rate=0, connections=6, header_seconds=1, body_seconds=1, send_seconds=1, stop_seconds=5, photo_bytes=100_000
)
service = Service([Slow()], limits=limits)
bound = listen("127.0.0.1", 0)
print(bound.getsockname()[1], flush=True)
run_server(create_app(service), service, bound)
"""


@contextmanager
def process(*command):
    """A process and the first line that it says."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            yield server, server.stdout.readline()
        finally:
            if server.poll() is None:
                server.kill()


@pytest.fixture(scope="module")
def real():
    with process("-c", SERVER, str(Path(__file__).parent)) as (server, line):
        if not line:
            pytest.fail(server.communicate()[1])
        port = int(line)
        wait_for(lambda: connects(port))
        yield server, port


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


@contextmanager
def line_to(port):
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        yield line


def said(line):
    """(status, JSON) of what comes back until the other side closes."""
    data = b""
    while piece := line.recv(65536):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def request(body, length=None, more="connection: close\r\n"):
    length = len(body) if length is None else length
    head = f"POST /v1/pose HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n{more}\r\n"
    return head.encode() + body


def is_well(port):
    """Whether a whole photo is answered; connections of tests before may still be closing."""
    with line_to(port) as line:
        line.sendall(request(photo()))
        return said(line)[0] == 200


def test_a_head_that_does_not_arrive_is_not_waited_for(real):
    for beginning in (b"", b"POST /v1/pose HT", b"GET /health HTTP/1.1\r\nhost: x\r\n"):
        with line_to(real[1]) as line:
            line.sendall(beginning)
            status, told = said(line)
            assert (status, told["kind"]) == (408, "slow_client") and "head" in told["error"]
    wait_for(lambda: is_well(real[1]))


def test_an_answer_does_not_wait_for_the_client_to_confirm_its_head(real):
    line, took = http.client.HTTPConnection("127.0.0.1", real[1], timeout=30), []
    for _ in range(30):
        begin = time.perf_counter()
        line.request("GET", "/v1/model")
        line.getresponse().read()
        took.append(time.perf_counter() - begin)
    line.close()
    assert min(took[10:]) < 0.03  # after the first few, clients confirm 40 ms later


def test_a_second_head_on_the_same_connection_is_not_waited_for_either(real):
    def after_half_a_head():
        with line_to(real[1]) as line:
            line.sendall(b"GET /v1/model HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # all of it, or the next head would come before the server waits for one
                answer += line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            line.sendall(b"GET /health HT")
            return b"".join(iter(lambda: line.recv(65536), b""))

    wait_for(lambda: b"slow_client" in after_half_a_head())  # a starved machine may find the connection idle before


def test_a_body_that_does_not_arrive_is_not_waited_for(real):
    with line_to(real[1]) as line:
        line.sendall(request(photo()[:100], length=5000))
        status, told = said(line)
        assert (status, told["kind"]) == (408, "slow_client") and "body" in told["error"]
    wait_for(lambda: is_well(real[1]))


def test_a_client_that_still_sends_too_much_hears_why(real):
    with line_to(real[1]) as line:
        line.sendall(request(bytes(200_000), more=""))
        status, told = said_first(line)
        assert (status, told["kind"]) == (413, "too_many_bytes")


def said_first(line):
    head, _, body = line.recv(65536).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body or line.recv(65536))


def test_what_is_no_http_gets_an_answer_and_the_end(real):
    with line_to(real[1]) as line:
        line.sendall(b"\x16\x03\x01\x02\x00\x01\x00 nonsense\r\n\r\n")
        assert said(line)[1] == {"kind": "bad_request", "error": "this is no valid HTTP request"}


STATUS_KIND = {404: "not_found", 403: "other_origin"}
UPGRADE = b"host: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
HEADS = {
    "POST": b"POST /v1/pose HTTP/1.1\r\ncontent-length: 3\r\n" + UPGRADE + b"\r\nabc",
    "a body": b"GET /v1/track HTTP/1.1\r\ncontent-length: 3\r\n" + UPGRADE + KEY + b"\r\nabc",
    "chunks": b"GET /v1/track HTTP/1.1\r\ntransfer-encoding: chunked\r\n" + UPGRADE + KEY + b"\r\n0\r\n\r\n",
    "a long line": b"GET /v1/track HTTP/1.1\r\ncookie: " + b"a" * 9000 + b"\r\n" + UPGRADE + KEY + b"\r\n",
    "a long address": b"GET /v1/track?x=" + b"a" * 9000 + b" HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n",
    "many lines": b"GET /v1/track HTTP/1.1\r\n" + b"x-n: 1\r\n" * 200 + UPGRADE + KEY + b"\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_broken_handshake_gets_an_answer_and_the_end(real, head):
    with line_to(real[1]) as line:
        line.sendall(head)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))
    wait_for(lambda: is_well(real[1]))


def test_a_handshake_that_is_refused_is_told_over_the_wire_too(real):
    for path, more, status in ((b"/nothing", b"", 404), (b"/v1/track", b"origin: null\r\n", 403)):
        with line_to(real[1]) as line:
            line.sendall(b"GET " + path + b" HTTP/1.1\r\n" + UPGRADE + KEY + more + b"\r\n")
            assert said(line) == (status, {"kind": STATUS_KIND[status], "error": ANY})


def line_that_is_not_read(port):
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.settimeout(1)
    line.connect(("127.0.0.1", port))
    return line


def sent_until_dropped(line, data):
    """Whether the other side ended the connection, which it does not read from either as long as nobody reads from it."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            line.send(data)
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_who_asks_and_does_not_read_is_dropped(real):
    with line_that_is_not_read(real[1]) as line:
        assert sent_until_dropped(line, b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
    wait_for(lambda: slow_clients(real[1]) and is_well(real[1]))


def test_a_websocket_that_is_not_read_is_dropped(real):
    before = slow_clients(real[1])
    with line_that_is_not_read(real[1]) as line:
        line.sendall(b"GET /v1/track HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n")
        assert sent_until_dropped(line, b"\x81\x83\0\0\0\0[1]" * 1000)
    wait_for(lambda: slow_clients(real[1]) > before and is_well(real[1]))


def slow_clients(port):
    told = re.search(r'^featherpose_errors_total{kind="slow_client"} (\S+)$', metrics_of(port), re.MULTILINE)
    return float(told[1]) if told else 0


def test_text_that_is_no_utf8_closes_a_websocket(real):
    for more in (b"", b"\x88\x80\0\0\0\0"):  # alone, and with the client's goodbye
        with line_to(real[1]) as line:
            line.sendall(b"GET /v1/track HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += line.recv(65536)
            line.sendall(b"\x81\x82\0\0\0\0\xff\xfe" + more)
            answer = b"".join(iter(lambda: line.recv(65536), b""))
        assert answer[:1] == b"\x88" and (more or answer[2:4] == struct.pack(">H", 1007))


def test_a_rebound_name_is_refused_by_a_server_of_this_computer_alone(real):
    for host, status in ((b"evil.example", 403), (b"localhost", 200)):
        with line_to(real[1]) as line:
            line.sendall(request(photo()).replace(b"host: x", b"host: " + host + b"\r\norigin: http://" + host))
            assert said(line)[0] == status


def test_dropped_connections_leave_the_service_well(real):
    for data in (b"", request(photo())[:50], request(photo(), length=9000), request(photo())):
        with line_to(real[1]) as line:
            line.sendall(data)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as of lost Wi-Fi
    wait_for(lambda: gone_are_counted(real[1]))
    wait_for(lambda: is_well(real[1]))


def metrics_of(port):
    with line_to(port) as line:
        line.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return b"".join(iter(lambda: line.recv(65536), b"")).decode()


def gone_are_counted(port):
    text = metrics_of(port)
    gone = re.search(r'^featherpose_errors_total{kind="client_gone"} (\S+)$', text, re.MULTILINE)
    return gone is not None and float(gone[1]) >= 2 and "featherpose_bytes_held 0.0" in text


def test_more_connections_than_allowed_are_refused(real):
    wait_for(lambda: is_well(real[1]))
    lines = [socket.create_connection(("127.0.0.1", real[1]), 10) for _ in range(7)]
    try:
        status, told = said(lines[-1])
        assert (status, told["kind"]) == (503, "busy") and "6 connections" in told["error"]
    finally:
        for line in lines:
            line.close()
    wait_for(lambda: is_well(real[1]))


def test_a_websocket_works_and_a_frame_too_large_closes_it(real):
    from websockets.exceptions import ConnectionClosedError
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{real[1]}/v1/track", max_size=None) as track:
        track.send(photo())
        assert json.loads(track.recv())["state"] == "found"
        with pytest.raises(ConnectionClosedError) as closed:
            track.send(bytes(200_000))
            track.recv()
        assert closed.value.rcvd.code == 1009
    wait_for(lambda: is_well(real[1]))


def test_a_websocket_that_drops_out_gives_its_place_back(real):
    from websockets.sync.client import connect

    for _ in range(3):
        with connect(f"ws://127.0.0.1:{real[1]}/v1/track") as track:
            track.send(photo())
            track.socket.shutdown(socket.SHUT_RDWR)  # without a word
    wait_for(lambda: 'featherpose_connections{kind="websocket"} 0.0' in metrics_of(real[1]))
    wait_for(lambda: is_well(real[1]))


def test_ctrl_c_lets_running_requests_end(real):
    server, port = real
    with line_to(port) as line:
        out = io.BytesIO()
        Image.new("RGB", (64, 64), (0, 0, 255)).save(out, "PNG")  # a photo without red takes this server long
        line.sendall(request(out.getvalue()))
        wait_for(lambda: 'featherpose_connections{kind="http"} 2.0' in metrics_of(port))
        server.send_signal(signal.SIGINT)
        assert said(line)[0] == 200
    server.wait(60)
    assert not connects(port)
    told = server.stderr.read()
    assert "KeyboardInterrupt" in told  # the command line turns it into one line, see below
    assert "ERROR" not in told  # of all the tests of this server


def test_a_second_signal_ends_a_process_that_is_busy():
    slow = SERVER.replace("0.2 if", "90 if").replace("stop_seconds=5", "stop_seconds=1")
    with process("-c", slow, str(Path(__file__).parent)) as (server, line), line_to(int(line)) as asked:
        asked.sendall(request(photo()))
        wait_for(lambda: 'featherpose_stage_seconds_count{stage="decode"} 1.0' in metrics_of(int(line)))
        server.send_signal(signal.SIGTERM)
        wait_for(lambda: not connects(int(line)))
        time.sleep(0.3)
        assert server.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == -signal.SIGTERM


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_serves_on_this_computer_alone_until_ctrl_c():
    with process("-m", "featherpose", "serve", "--port", "0", "--networks", "1") as (server, line):
        assert line.startswith("http://127.0.0.1:"), server.communicate()[1]
        port = int(line.split("/docs")[0].rpartition(":")[2])
        wait_for(lambda: connects(port))
        with line_to(port) as sent:
            sent.sendall(request(photo()))
            assert said(sent)[1]["model"]["name"]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
        assert server.stderr.read() == "stopped by Ctrl-C\n"


WRONG = {
    "an origin with a path": (["--allow-origin", "https://a.example/x"], "without a path"),
    "an origin without a scheme": (["--allow-origin", "a.example"], "like https://example.org"),
    "a rate below one photo": (["--rate", "0.1"], "must allow one photo"),
    "a model that is not there": (["--model", "nothing.onnx"], "there is no such model file"),
}


@pytest.mark.parametrize("arguments, text", WRONG.values(), ids=WRONG)
def test_wrong_options_are_told_in_one_line(arguments, text, capsys):
    assert run(["serve", "--port", "0", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and text in told and told.count("\n") == 1


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose others with --host and --port" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("featherpose.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert run(["serve"]) == 1
    assert "pip install 'featherpose[serve]'" in capsys.readouterr().err


def test_a_spec_with_other_thresholds_is_told():
    backend = Means()
    backend.spec = replace(SPEC, pose_threshold=0.9)
    with serving([backend]) as client:
        answer = post(client, photo()).json()
    assert answer["thresholds"]["pose"] == 0.9 and answer["found"] is (answer["pose_score"] >= 0.9)

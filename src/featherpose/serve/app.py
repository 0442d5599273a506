"""The endpoints: one photo, several photos, a followed person, and what operators ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated

import anyio
from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware.cors import CORSMiddleware

import featherpose
from featherpose.runtime.report import UNITS
from featherpose.serve.errors import Refused
from featherpose.serve.guard import Guard, deny
from featherpose.serve.looking import FORMATS
from featherpose.serve.page import docs_page
from featherpose.serve.places import known_only, place_of
from featherpose.serve.service import Service
from featherpose.serve.track import follow

TYPES = (*FORMATS.values(), "application/octet-stream")
"""Content types of a photo in a request's body."""
LONGEST_NAME = 200
"""Characters of a file's name that come back in the answer."""


class Joint(BaseModel):
    """One joint."""

    x: float = Field(description="Pixels of the photo.")
    y: float
    score: float = Field(description="In [0, 1]; compare it with thresholds.joint.")


class Pose(BaseModel):
    """One person."""

    found: bool = Field(description="Whether pose_score reaches thresholds.pose.")
    pose_score: float = Field(description="In [0, 1].")
    box_xyxy: list[float] = Field(description="The square that the network looked at: x1, y1, x2, y2.")
    joints: dict[str, Joint] = Field(description="By name.")


class Answer(Pose):
    """One photo, without ?people."""

    size_wh: list[int] = Field(description="Width and height of the photo as a person sees it, EXIF rotation applied.")
    model: dict[str, str]
    thresholds: dict[str, float]


class Problem(BaseModel):
    """Any error."""

    kind: str
    error: str = Field(description="One sentence.")
    retry_after: int | None = Field(None, description="Seconds after which another try is worth it.")


PROBLEMS = {
    400: "A parameter or form that cannot be understood, a point or box outside the photo.",
    403: "A page of another origin.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, pixels or photos.",
    415: "Another content type, or bytes that are no JPEG, PNG or WebP.",
    422: "A truncated or damaged photo.",
    429: "Too many photos a second from this client.",
    503: "The queue is full, or there was no answer in time.",
}
RESPONSES = {status: {"model": Problem, "description": text} for status, text in PROBLEMS.items()}

POINT = Query(description="x,y in pixels of the photo: the person nearest it.")
BOX = Query(description="x1,y1,x2,y2 in pixels of the photo: the person inside.")
PEOPLE = Query(ge=1, description="Up to so many people, surest first, in a list `people`, instead of one.")


def create_app(service: Service, *, origins: Collection[str] = ()) -> FastAPI:
    """The ASGI app; it closes the service when it is stopped.

    origins: of pages that may use it beside its own ("https://example.org", "*" for all).
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="featherpose",
        version=featherpose.__version__,
        description=f"Joints of people in photos. Coordinates: {UNITS}.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    limits = service.limits

    @app.post("/v1/pose", summary="One photo", responses={200: {"model": Answer}} | RESPONSES, openapi_extra=ONE)
    async def pose(
        request: Request,
        point: Annotated[str | None, POINT] = None,
        box: Annotated[str | None, BOX] = None,
        people: Annotated[int | None, PEOPLE] = None,
    ) -> Response:
        """The joints of the person nearest the middle, or named by `point` or `box`; of several with `people`."""
        known_only(request.query_params, ("point", "box", "people"), "parameter")
        place = place_of(point, box)
        _check_people(people, limits.people, place)
        _check_type(request)
        service.count_photos(request)
        async with service.received(request, limits.photo_bytes) as pieces:
            data = b"".join([piece async for piece in pieces])
            if not data:
                raise Refused("bad_request", "the body is empty; send the bytes of a photo")
            work = partial(service.eye.look, data, "photo", people=people, **place)
            (found,) = await service.finished(request, [work])
        if isinstance(found, BaseException):
            raise found
        return JSONResponse({**found, **service.facts})

    @app.post("/v1/poses", summary="Several photos", responses=RESPONSES, openapi_extra=MANY)
    async def poses(request: Request, people: Annotated[int | None, PEOPLE] = None) -> Response:
        """A list `photos`, in the order of the form: each with its joints, or with `kind` and `error` of its own."""
        known_only(request.query_params, ("people",), "parameter")
        _check_people(people, limits.people, {})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
            raise Refused("wrong_type", "several photos come as multipart/form-data; one photo goes to /v1/pose")
        service.count_photos(request)
        async with service.received(request, limits.request_bytes) as pieces:
            photos = await _form(request, pieces, service)
            if len(photos) > 1:
                service.count_photos(request, len(photos) - 1)
            works = [
                partial(service.eye.look, data, f"photo {number}", people=people)
                for number, (_, data) in enumerate(photos, 1)
            ]
            found = await service.finished(request, works)
        rows = []
        for (name, _), answer in zip(photos, found, strict=True):
            if isinstance(answer, Refused):
                service.metrics.errors.labels(answer.kind).inc()
                answer = answer.to_dict()
            elif isinstance(answer, BaseException):
                raise answer
            rows.append({"name": name, **answer})
        return JSONResponse({"photos": rows, **service.facts})

    @app.websocket("/v1/track")
    async def track(websocket: WebSocket) -> None:
        await follow(websocket, service)

    @app.websocket("/{path:path}")
    async def no_socket(websocket: WebSocket) -> None:
        refused = Refused("not_found", "there is no WebSocket here; frames go to /v1/track")
        await deny(websocket.scope, websocket.receive, websocket.send, service, refused)

    @app.get("/v1/model", summary="The model")
    async def model() -> dict:
        """Name, joints, bones, thresholds, units."""
        spec = service.spec
        facts = {"input_size": list(spec.input_size), "skeleton": spec.skeleton.to_dict(), "units": UNITS}
        return service.facts | facts | {"featherpose_version": featherpose.__version__}

    @app.get("/health", summary="Whether it works")
    async def health() -> Response:
        """200 while the network runs, else 503."""
        works = service.batching.alive
        return JSONResponse({"status": "ok" if works else "stopped", **service.facts}, 200 if works else 503)

    @app.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            docs_page(app.openapi()),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    _handle_errors(app, service)
    paths = [route.path for route in app.routes if hasattr(route, "path")]
    app.add_middleware(Guard, service=service, origins=origins, paths=paths)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"], expose_headers=["Retry-After"]
        )
    return app


PHOTO = {"schema": {"type": "string", "format": "binary"}}
ONE = {"requestBody": {"required": True, "content": {name: PHOTO for name in TYPES}}}
FILES = {"type": "object", "properties": {"photo": {"type": "array", "items": PHOTO["schema"]}}}
MANY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FILES}}}}


def _check_people(people: int | None, most: int, place: dict) -> None:
    if people is None:
        return
    if people > most:
        raise Refused("bad_request", f"people must be at most {most}, got {people}")
    if any(place.values()):
        raise Refused("bad_request", "give people, or a point or box of one person, not both")


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if given == "multipart/form-data":
        raise Refused("wrong_type", "multipart/form-data goes to /v1/poses; /v1/pose takes the bytes of one photo")
    if given not in TYPES:
        raise Refused("wrong_type", f"the content type must be one of {', '.join(TYPES)}, got '{given[:50]}'")


class _InMemory(MultiPartParser):
    """Starlette's parser writes files of more than 1 MB to the disk; photos of strangers have no business there."""

    spool_max_size = 2**40
    ended = False
    """Whether the closing boundary was seen: files that are cut off before it are left out without a word."""

    def on_end(self) -> None:
        self.ended = True


async def _form(request: Request, pieces: AsyncIterator[bytes], service: Service) -> list[tuple[str, bytes]]:
    """(name, content) of the files of a multipart form."""
    limits = service.limits
    parser = _InMemory(request.headers, pieces, max_files=limits.photos, max_fields=0)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise Refused("too_many_photos", f"at most {limits.photos} photos go into one request") from error
        if error.message.startswith("Too many fields"):
            text = "the form has a field that is no file; send photos as files, options as query parameters"
            raise Refused("bad_request", text) from error
        raise Refused("bad_request", f"the form cannot be read: {error.message}") from error
    except FormParserError as error:  # which older versions of Starlette let through
        raise Refused("bad_request", f"the form cannot be read: {error}") from error
    except UnicodeError as error:  # a charset that exists and decodes nothing
        raise Refused("bad_request", f"the form's names cannot be read in its charset: {error}") from error
    try:
        if not parser.ended:
            raise Refused("bad_request", "the form is cut off: its closing boundary is missing")
        photos = [(file.filename[:LONGEST_NAME], await file.read()) for _, file in form.multi_items()]
    finally:
        await form.close()
    if not photos:
        raise Refused("bad_request", "the form holds no photo; send at least one file")
    for number, (_, data) in enumerate(photos, 1):
        if len(data) > limits.photo_bytes:
            text = f"photo {number} has {len(data):,} bytes; at most {limits.photo_bytes:,} are taken"
            raise Refused("too_many_bytes", text)
    return photos


def _handle_errors(app: FastAPI, service: Service) -> None:
    """Every error becomes the same JSON."""

    async def answer(request: Request, refused: Refused) -> Response:
        service.metrics.errors.labels(refused.kind).inc()
        return JSONResponse(refused.to_dict(), refused.status, refused.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, reason = first["loc"][-1], first["msg"]
        return await answer(request, Refused("bad_request", f"the parameter '{name}': {reason}"))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:100]
        if error.status_code == 404:
            return await answer(request, Refused("not_found", f"there is nothing at {path}; /docs lists what there is"))
        if error.status_code == 405:
            text = f"{path} does not take {request.method[:20]}"
            response = await answer(request, Refused("wrong_method", text))
            response.headers.update(error.headers or {})
            return response
        return await answer(request, Refused("bad_request", str(error.detail)))

    app.add_exception_handler(Refused, answer)

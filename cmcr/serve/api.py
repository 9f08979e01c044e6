"""What the server answers: each route takes a request, asks the service in a thread, and tells it as JSON."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cmcr.errors import ArtifactError, CmcrError, InputError, ItemError
from cmcr.reading import parse_json
from cmcr.serve.counters import TYPE, Counters
from cmcr.serve.guard import TooLargeError
from cmcr.serve.media import Viewer
from cmcr.serve.openapi import document
from cmcr.serve.plane import Plane
from cmcr.serve.question import Question, UnknownRowError, read_question
from cmcr.serve.service import Service
from cmcr.serve.settings import Serving
from cmcr.serve.uploads import Uploads
from cmcr.serve.workers import BusyError, LateError, Workers

MOST_JSON = 256 << 10
"""Bytes of a question in JSON."""

STATUS: dict[type[Exception], int] = {
    UnknownRowError: 404,
    BusyError: 503,
    LateError: 504,
    TooLargeError: 413,
    ItemError: 422,
    InputError: 400,
    ArtifactError: 500,
    CmcrError: 500,
}
"""The status of an error; the first that it is counts."""

T = TypeVar("T")
Endpoint = Callable[["Api", Request], Awaitable[Response]]

log = logging.getLogger("cmcr.serve")


def answering(endpoint: Endpoint) -> Endpoint:
    """Let whatever an endpoint raises be answered as JSON: ``{"error": "one line"}``."""

    @functools.wraps(endpoint)
    async def answered(self: Api, request: Request) -> Response:
        try:
            return await endpoint(self, request)
        except (HTTPException, ClientDisconnect, asyncio.CancelledError):
            raise
        except CmcrError as error:
            status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
            return told(status, str(error))
        except Exception as error:
            log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
            return told(500, f"{type(error).__name__}; this is a fault of cmcr: please report it with the server's log")

    return answered


def told(status: int, why: str) -> Response:
    """Return an error as JSON."""
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": " ".join(why.split())}, status, headers)


@dataclass
class Api:
    """Everything the routes need."""

    service: Service
    settings: Serving
    counters: Counters
    viewer: Viewer
    uploads: Uploads
    queries: Workers
    files: Workers
    conditions: Workers

    def __post_init__(self) -> None:
        """Prepare what is made once."""
        self._plane = Plane(self.service)
        self._document = document(self.service, self.settings)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/search", self.search, methods=["POST"]),
            Route("/embed", self.embed, methods=["POST"]),
            Route("/space", self.space),
            Route("/rows/{modality}/{number}", self.row),
            Route("/media/{modality}/{number}", self.media),
            Route("/map", self.map),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
        ]

    @answering
    async def search(self, request: Request) -> Response:
        """Answer ``POST /search``."""
        return await self._asked(request, self.service.search)

    @answering
    async def embed(self, request: Request) -> Response:
        """Answer ``POST /embed``."""
        return await self._asked(request, self.service.embed)

    async def _asked(self, request: Request, asked: Callable[[Question], dict[str, Any]]) -> Response:
        """Ask in JSON, or with a file; files have threads of their own, so that texts never wait for them."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            question = _question(await self._arrived(_body(request)))
            return JSONResponse(await self.queries.run(await self._met(question, asked), question))
        if kind == "multipart/form-data":
            form = await self._arrived(self.uploads.form(request))
            met = await self._met(form.question, asked)
            return JSONResponse(await self.files.run(self.uploads.ask, form, met))
        raise HTTPException(415, f"content-type {kind[:60]!r}, expected application/json or multipart/form-data")

    async def _met(self, question: Question, asked: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Return who is asked, told of the rows that meet the condition: in a thread that no other question needs."""
        if question.where is None or asked != self.service.search:
            return asked
        met = await self.conditions.run(self.service.meet, question, self.settings.timeout)
        return functools.partial(asked, met=met)

    async def _arrived(self, arriving: Awaitable[T]) -> T:
        """Return what a request brings, unless it is slower than it may be."""
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await arriving
        except TimeoutError:
            raise HTTPException(408, f"the request did not arrive within {self.settings.timeout:g} seconds") from None

    @answering
    async def space(self, request: Request) -> Response:
        """Answer ``GET /space``: what can be asked here."""
        limits = {"upload_bytes": self.settings.max_upload << 20, "timeout_seconds": self.settings.timeout}
        return JSONResponse(self.service.describe() | {"limits": limits})

    @answering
    async def row(self, request: Request) -> Response:
        """Answer ``GET /rows/MODALITY/NUMBER``."""
        return JSONResponse(await self.queries.run(self.service.row, _named(request)))

    @answering
    async def media(self, request: Request) -> Response:
        """Answer ``GET /media/MODALITY/NUMBER``."""
        shelf, number = self.service.row_of(_named(request))
        shown = await self.files.run(self.viewer.show, shelf, number)
        return ranged(request, shown.data, shown.type)

    @answering
    async def map(self, request: Request) -> Response:
        """Answer ``GET /map``."""
        return Response(await self.files.run(self._plane.text), media_type="application/json")

    @answering
    async def health(self, request: Request) -> Response:
        """Answer ``GET /health``."""
        return JSONResponse({"status": "ok", "version": version("cmcr")})

    @answering
    async def metrics(self, request: Request) -> Response:
        """Answer ``GET /metrics``."""
        rows = sum(shelf.rows for shelf in self.service.shelves.values())
        gauges = {
            "cmcr_queries_busy": ("Queries being worked on or waiting.", float(self.queries.busy)),
            "cmcr_files_busy": ("Uploads and previews being worked on or waiting.", float(self.files.busy)),
            "cmcr_kept_media_bytes": ("Pictures, sounds and clouds that are kept.", float(self.viewer.kept_bytes)),
            "cmcr_rows": ("Rows that are searched.", float(rows)),
        }
        return Response(self.counters.text(gauges), headers={"Content-Type": TYPE})

    @answering
    async def openapi(self, request: Request) -> Response:
        """Answer ``GET /openapi.json``."""
        return JSONResponse(self._document)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_JSON:
            raise TooLargeError(f"a question above {MOST_JSON >> 10} KiB; files go as multipart/form-data")
    return bytes(body)


def _question(body: bytes) -> Question:
    try:
        value = parse_json(body, strict=True)
    except (ValueError, CmcrError) as error:
        raise InputError(f"question: no JSON: {error}") from None
    return read_question(value)


def _named(request: Request) -> str:
    return f"{request.path_params['modality']}/{request.path_params['number']}"


def ranged(request: Request, data: bytes, kind: str) -> Response:
    """Return bytes, or the one range of them that is asked for: some browsers play nothing else."""
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=600"}
    unit, _, spec = request.headers.get("range", "").partition("=")
    first, _, last = spec.partition("-")
    if unit.strip() != "bytes" or "," in spec or not first.isdecimal() or not (last.isdecimal() or not last):
        return Response(data, media_type=kind, headers=headers)
    start, stop = int(first), min(int(last) + 1 if last else len(data), len(data))
    if start >= stop:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(data[start:stop], 206, headers, kind)

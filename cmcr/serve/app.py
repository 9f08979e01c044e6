"""The application: the page, its files and the API, behind the guard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cmcr.memory import MediaRoots
from cmcr.serve.api import Api
from cmcr.serve.counters import Counters
from cmcr.serve.guard import Guard
from cmcr.serve.media import Viewer
from cmcr.serve.service import Service
from cmcr.serve.settings import Serving
from cmcr.serve.uploads import Uploads
from cmcr.serve.workers import Workers

PAGE = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "hits.js": "text/javascript; charset=utf-8",
    "media.js": "text/javascript; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files of the page, all there are, and what they are."""


def make_app(service: Service, settings: Serving | None = None, roots: MediaRoots | None = None) -> Starlette:
    """Return the application; each holds its threads and counters.

    Args:
        service: What it asks.
        settings: Bounds and who may ask.
        roots: Where files of rows may be opened besides the memories' own folders; None: the working directory.
    """
    settings = settings or Serving()
    counters = Counters()
    queries, uploading = (Workers(settings.threads, settings.waiting, settings.timeout) for _ in range(2))
    conditions = Workers(1, settings.waiting, settings.timeout)
    uploads = Uploads(service.subject.modalities)
    api = Api(service, settings, counters, Viewer(roots), uploads, queries, uploading, conditions)

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        for workers in (queries, uploading, conditions):
            workers.close()
        uploads.close()

    routes = [Route("/", _file("page.html")), *api.routes()]
    routes += [Route(f"/static/{name}", _file(name)) for name in PAGE]
    guard = Middleware(Guard, settings=settings, count=counters.add)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers={HTTPException: _told}, lifespan=life)  # type: ignore[dict-item]
    app.state.api = api
    return app


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    body, kind = files("cmcr.serve").joinpath("page", name).read_bytes(), PAGE[name]

    async def sent(request: Request) -> Response:
        return Response(body, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    return sent


async def _told(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

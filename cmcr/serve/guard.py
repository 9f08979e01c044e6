"""The door: who may ask, from which page, and how much at once. Every answer leaves with the same headers."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cmcr.errors import CmcrError
from cmcr.serve.settings import LOOPBACK, Serving

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}
OPEN = ("/health",)
"""What is answered without a token: that the server runs."""

_ASK = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>cmcr: token needed</title>"
    "<h1>This server asks for its token</h1><p>Open the link that ends with <code>?token=...</code>, "
    "as the one who started the server has it.</p></html>"
)


class TooLargeError(CmcrError):
    """A request holds more than is taken."""


class Refusal(NamedTuple):
    """Why a request is not answered: its status and a sentence."""

    status: int
    why: str


class Guard:
    """Stands before an application: checks every request, bounds its body, counts and marks every answer."""

    def __init__(self, app: ASGIApp, settings: Serving, count: Callable[[str, int, float], None]) -> None:
        self._app, self._settings, self._count = app, settings, count
        self._most = settings.max_upload << 20
        self._cookie = f"cmcr-{settings.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            answer = self._first(scope)
            app = self._app if answer is None else answer
            await app(scope, self._bounded(receive), sent)
        finally:
            self._count(route_of(scope["path"]), status, time.perf_counter() - begun)

    def _first(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not reach the application."""
        headers = Headers(scope=scope)
        refused = self._wrong_host(headers) or _wrong_page(scope, headers) or self._too_large(headers)
        if refused is not None:
            return JSONResponse({"error": refused.why}, refused.status)
        if self._settings.token is None or scope["path"] in OPEN:
            return None
        return self._without_token(scope, headers)

    def _wrong_host(self, headers: Headers) -> Refusal | None:
        """Refuse names that a stranger's DNS lets point to this machine, where no token would stop the stranger."""
        name = host_of(headers.get("host", ""))
        if not self._settings.loopback or name in LOOPBACK:
            return None
        return Refusal(421, f"host {name[:80]!r} is not served here; expected {', '.join(LOOPBACK)}")

    def _too_large(self, headers: Headers) -> Refusal | None:
        length = headers.get("content-length", "0")
        if length.isascii() and length.isdecimal() and len(length) < 19 and int(length) <= self._most:
            return None
        return Refusal(413, _too_large(self._most))

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        given = QueryParams(scope["query_string"]).get("token")
        if scope["path"] == "/" and given is not None and self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._session(), httponly=True, samesite="lax", max_age=30 * 86_400)
            return answer
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(bearer.strip()):
            return None
        if _same(_cookie(headers, self._cookie), self._session()):
            return None
        if scope["path"] == "/":
            return HTMLResponse(_ASK, 401, {"WWW-Authenticate": "Bearer"})
        why = "no token, or a wrong one; expected the header Authorization: Bearer TOKEN"
        return JSONResponse({"error": why}, 401, {"WWW-Authenticate": "Bearer"})

    def _is_token(self, given: str) -> bool:
        return _same(given, self._settings.token or "")

    def _session(self) -> str:
        """Return what the cookie holds: cookies go to every port of a host, so not the token itself."""
        key = (self._settings.token or "").encode()
        return hmac.new(key, b"cmcr serve cookie", hashlib.sha256).hexdigest()

    def _bounded(self, receive: Receive) -> Receive:
        taken = 0

        async def received() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise TooLargeError(_too_large(self._most))
            return message

        return received


def _wrong_page(scope: Scope, headers: Headers) -> Refusal | None:
    """Refuse what the page of another site asks in its visitor's name; a link that leads here may be followed."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    followed = scope["path"] == "/" and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
    foreign = site not in ("none", "same-origin") and not followed
    if origin is not None:
        foreign |= urlsplit_netloc(origin) != headers.get("host", "").lower()
    return (
        Refusal(403, "asked by the page of another site; expected this server's own page, or none") if foreign else None
    )


def urlsplit_netloc(origin: str) -> str:
    """Return host and port of an origin; empty where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def host_of(header: str) -> str:
    """Return the name in a Host header, without its port.

    >>> from cmcr.serve.guard import host_of
    >>> host_of("localhost:8321"), host_of("[::1]:8321"), host_of("::1")
    ('localhost', '::1', '')
    """
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def route_of(path: str) -> str:
    """Return what a request is counted as: few names, whatever is asked.

    >>> from cmcr.serve.guard import route_of
    >>> route_of("/media/image/5"), route_of("/etc/passwd"), route_of("/")
    ('/media', 'other', '/')
    """
    first = "/" + path[1:].partition("/")[0]
    return first if first in ROUTES else "other"


ROUTES = (
    "/",
    "/search",
    "/embed",
    "/space",
    "/rows",
    "/media",
    "/map",
    "/health",
    "/metrics",
    "/openapi.json",
    "/static",
)


def _same(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _too_large(most: int) -> str:
    return f"the request is above {most >> 20} MiB, which is all that is taken; --max-upload changes that"

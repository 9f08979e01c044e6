"""Run the server: take the port, answer until Ctrl-C, and end without a trace."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cmcr.errors import InputError, MissingExtraError
from cmcr.serve.settings import Serving

if TYPE_CHECKING:
    from cmcr.memory import MediaRoots
    from cmcr.serve.api import Api
    from cmcr.serve.service import Service

LEAVING = 3
"""Seconds that open requests have at the end."""


def check_installed() -> None:
    """Refuse to begin where the libraries of a server are not installed.

    Raises:
        MissingExtraError: they are not.
    """
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("starlette, uvicorn and python-multipart", "serve", "cmcr serve") from error


def take_port(settings: Serving) -> socket.socket:
    """Return a socket that listens.

    Raises:
        InputError: the port is in use or not allowed, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((settings.host, settings.port))
        taken.listen(2048)
    except OSError as error:
        taken.close()
        cure = "choose another with --port"
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {settings.port} of {settings.host} is in use; {cure}") from None
        if error.errno == errno.EACCES:
            raise InputError(f"port {settings.port} is not for you to take; {cure}, 1024 or more") from None
        raise InputError(f"--host {settings.host}: {error.strerror or error}; expected an address of here") from None
    return taken


def address(taken: socket.socket, settings: Serving) -> str:
    """Return where the server is found, its token included."""
    host, port = taken.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={settings.token}" if settings.token else "")


def serve(service: Service, settings: Serving, taken: socket.socket, roots: MediaRoots | None = None) -> bool:
    """Answer until the process is interrupted; tell whether no query is at work any more.

    Args:
        service: What is asked.
        settings: Bounds, and who may ask.
        taken: From ``take_port``.
        roots: Where files of rows may be opened.
    """
    import uvicorn

    from cmcr.serve.app import make_app

    app = make_app(service, settings, roots)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=LEAVING,
        timeout_keep_alive=15,
    )

    class Server(uvicorn.Server):
        """Ends at Ctrl-C or SIGTERM, within ``LEAVING``; pressed twice it would be torn down, with a trace.

        uvicorn's own raises the signal anew amid its loop once it has ended.
        """

        def handle_exit(self, sig: int, frame: object) -> None:
            self.should_exit = True

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {each: signal.signal(each, self.handle_exit) for each in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    Server(config).run(sockets=[taken])
    api: Api = app.state.api
    return api.queries.busy + api.files.busy + api.conditions.busy == 0

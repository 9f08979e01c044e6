"""Serve a space over HTTP: a page to search with, and an API; what is asked stays within bounds."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.serve.app import make_app
    from cmcr.serve.run import serve
    from cmcr.serve.service import Service
    from cmcr.serve.settings import Serving
    from cmcr.serve.subject import ReadySubject

__all__ = ["ReadySubject", "Service", "Serving", "make_app", "serve"]

__getattr__ = lazily(
    __name__,
    {
        "app": ("make_app",),
        "run": ("serve",),
        "service": ("Service",),
        "settings": ("Serving",),
        "subject": ("ReadySubject",),
    },
)

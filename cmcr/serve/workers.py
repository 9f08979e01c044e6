"""Threads that work on queries: a bounded number of them, a bounded line before them, and an end to waiting."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from cmcr.errors import CmcrError

P = ParamSpec("P")
R = TypeVar("R")


class BusyError(CmcrError):
    """So many queries wait already that another one would wait in vain."""


class LateError(CmcrError):
    """A query took longer than it may."""


class Workers:
    """A few threads with a line before them.

    A thread that is late cannot be stopped; it keeps its place until it is done, so there are never more than said.

    >>> import asyncio
    >>> from cmcr.serve.workers import Workers
    >>> workers = Workers(2, waiting=8, timeout=5.0)
    >>> asyncio.run(workers.run(pow, 2, 5)), workers.busy
    (32, 0)
    """

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="cmcr-serve")
        self._most, self._timeout = threads + waiting, timeout
        self._lock, self.busy = threading.Lock(), 0

    async def run(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Return what a function returns in one of the threads.

        Raises:
            BusyError: the line is full.
            LateError: it is not done in time.
        """
        with self._lock:
            if self.busy >= self._most:
                raise BusyError(f"{self.busy} queries are being worked on or wait; ask again in a second")
            self.busy += 1
        context = contextvars.copy_context()
        work: Future[R] = self._pool.submit(context.run, lambda: function(*arguments, **named))
        work.add_done_callback(self._done)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(asyncio.wrap_future(work))
        except TimeoutError:
            raise LateError(f"not done after {self._timeout:g} seconds, which is what a query may take") from None
        finally:
            work.cancel()  # nobody waits for it any more, if it has not begun

    def _done(self, work: Future[Any]) -> None:
        with self._lock:
            self.busy -= 1

    def close(self) -> None:
        """Take no more work; what has begun goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

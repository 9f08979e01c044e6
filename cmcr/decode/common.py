"""What every decoder needs: one item's share of memory, its notes, and errors on one line.

A decoder learns from a header how many bytes an item will take and reserves them before it decodes, so that many
threads together stay within one budget. The reservation lasts until the item is ready for its encoder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from cmcr.errors import ItemError

_LARGE = 64 << 20
"""Bytes of an item after which freed memory is given back at once."""


@dataclass(slots=True)
class Decoding:
    """One item while it is decoded: the bytes reserved for it, and what its user should know of it."""

    reserved: int = 0
    notes: list[str] = field(default_factory=list)


class Budget:
    """Bytes that all items decoded at one time may take together.

    Attributes:
        total: The budget in bytes. One item above it is refused.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = threading.Condition()
        self._used, self._stuck = 0, 0
        self._holders: dict[int, Decoding] = {}  # in the order in which they came

    def reserve(self, item: Decoding, size: int) -> None:
        """Wait until ``size`` more bytes are free, and give them to ``item``.

        An item may ask several times. Where all that hold bytes wait for more, the one that came first goes on above
        the budget, else none of them ever would; the others wait until it is done, so that only one is ever above.

        Raises:
            ItemError: the item would take more than the whole budget.
        """
        if size <= 0:
            return
        if item.reserved + size > self.total:
            raise ItemError(
                f"decoding it takes {_mega(item.reserved + size)}; at most {_mega(self.total)} are given "
                "(CMCR_DECODE_BYTES changes that)"
            )
        with self._free:
            holds = id(item) in self._holders
            self._stuck += holds
            try:
                self._free.notify_all()
                self._free.wait_for(lambda: self._used + size <= self.total or self._must_go_on(item))
            finally:
                self._stuck -= holds
            self._holders[id(item)] = item
            self._used += size
            item.reserved += size

    def _must_go_on(self, item: Decoding) -> bool:
        return self._stuck == len(self._holders) and next(iter(self._holders.values()), None) is item

    def release(self, item: Decoding) -> None:
        """Take back what ``item`` holds."""
        if item.reserved >= _LARGE:
            _return_freed()
        with self._free:
            self._holders.pop(id(item), None)
            self._used -= item.reserved
            item.reserved = 0
            self._free.notify_all()


def _return_freed() -> None:
    """Give freed memory back to the system: the allocator keeps blocks of the size that Pillow asks for."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU library's; others do not need it, or offer nothing
    if trim is not None:
        trim(0)


def memory_bytes() -> int:
    """Return the bytes of memory that this machine, or the container that it is, has."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # a system that does not tell
        physical = 8 << 30
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:  # noqa: PTH123 - no user's path
            return min(physical, int(file.read()))
    except (OSError, ValueError):  # no such limit, or "max"
        return physical


def _total() -> int:
    given = os.environ.get("CMCR_DECODE_BYTES", "")
    return int(given) if given.isdecimal() and int(given) > 0 else memory_bytes() // 4


BUDGET = Budget(_total())
"""What all threads of this process share: a quarter of memory, or the bytes in ``CMCR_DECODE_BYTES``."""

_current: ContextVar[Decoding | None] = ContextVar("decoding", default=None)


@contextmanager
def decoding() -> Iterator[Decoding]:
    """Hold what is reserved in the body until its end, and collect what is noted there: the frame around one item."""
    item = Decoding()
    token = _current.set(item)
    try:
        yield item
    finally:
        _current.reset(token)
        BUDGET.release(item)


def reserve(size: int) -> None:
    """Reserve ``size`` bytes for the item being decoded; outside of ``decoding`` only the size is checked.

    Raises:
        ItemError: more than the whole budget.
    """
    item = _current.get()
    if item is not None:
        BUDGET.reserve(item, size)
    elif size > BUDGET.total:
        BUDGET.reserve(Decoding(), size)


def note(text: str) -> None:
    """Tell the user something about the item being decoded that its vector does not show."""
    item = _current.get()
    if item is not None and text not in item.notes:
        item.notes.append(text)


def refuse_empty(data: bytes) -> None:
    """Refuse a file without a byte.

    Raises:
        ItemError: it is empty.
    """
    if not data:
        raise ItemError("empty file")


def one_line(error: object) -> str:
    """Return what an error says, on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _mega(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"

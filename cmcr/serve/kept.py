"""The values that were used last, as many as some bytes hold: what a server keeps of its own work never grows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OWN = 1 << 10
"""Bytes that an entry counts beside its value, so that there is an end to small ones, too."""


class Kept(Generic[K, V]):
    """Values by key, for several threads; who was used longest ago leaves first.

    >>> from cmcr.serve.kept import Kept
    >>> kept = Kept[str, str](most=5000)
    >>> for name in ("a", "b", "c"):
    ...     kept.keep(name, name.upper(), size=1500)
    >>> kept.find("a"), kept.find("c"), kept.bytes
    (None, 'C', 2524)
    """

    def __init__(self, most: int) -> None:
        """Keep ``most`` bytes; a value above that is not kept, and displaces nothing."""
        self._most, self.bytes = most, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def find(self, key: K) -> V | None:
        """Return what is kept of a key; None: nothing."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def keep(self, key: K, value: V, size: int) -> None:
        """Keep a value that takes ``size`` bytes."""
        size += OWN
        with self._lock:
            if size > self._most:
                return
            self.bytes += size - self._held.pop(key, (value, 0))[1]
            self._held[key] = value, size
            while self.bytes > self._most:
                self.bytes -= self._held.popitem(last=False)[1][1]

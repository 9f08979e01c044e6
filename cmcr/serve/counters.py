"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds up to which requests are counted."""

TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counters:
    """Requests by route and status, and how long they took.

    >>> from cmcr.serve.counters import Counters
    >>> counters = Counters()
    >>> counters.add("/search", 200, 0.02)
    >>> [line for line in counters.text({}).splitlines() if "requests_total{" in line]
    ['cmcr_requests_total{route="/search",status="200"} 1']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._within: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._begun = time.time()

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]
            self._within.update((route, limit) for limit in (*BUCKETS, float("inf")) if seconds <= limit)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return everything in Prometheus' text format.

        Args:
            gauges: By name, what is measured now: its help and its value.
        """
        with self._lock:
            requests, within, seconds = dict(self._requests), dict(self._within), dict(self._seconds)
        lines = ["# HELP cmcr_requests_total Requests answered.", "# TYPE cmcr_requests_total counter"]
        lines += [f'cmcr_requests_total{{route="{r}",status="{s}"}} {n}' for (r, s), n in sorted(requests.items())]
        name = "cmcr_request_seconds"
        lines += [f"# HELP {name} How long requests took.", f"# TYPE {name} histogram"]
        for route, total in sorted(seconds.items()):
            for limit in (*BUCKETS, float("inf")):
                shown = "+Inf" if limit == float("inf") else f"{limit:g}"
                lines.append(f'{name}_bucket{{route="{route}",le="{shown}"}} {within.get((route, limit), 0)}')
            lines.append(f'{name}_sum{{route="{route}"}} {total:.6f}')
            lines.append(f'{name}_count{{route="{route}"}} {within.get((route, float("inf")), 0)}')
        own = {
            "cmcr_start_time_seconds": ("When the server began, in Unix seconds.", self._begun),
            "cmcr_resident_bytes": ("Memory that the process holds.", float(resident_bytes())),
        }
        for gauge, (told, value) in (own | dict(gauges)).items():
            lines += [f"# HELP {gauge} {told}", f"# TYPE {gauge} gauge", f"{gauge} {value:.17g}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no user's path
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0

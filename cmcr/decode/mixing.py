"""Mix sound down while it is decoded: mono, block by block, within its bounds of time and memory."""

from __future__ import annotations

import numpy as np

from cmcr.decode.common import note, reserve
from cmcr.errors import ItemError

RATES = range(1_000, 1_000_001)
"""Samples a second that a file may have."""

_CLIPPED = 1.5
"""Peaks above it are told. Masters that are loud come out of MP3 and Vorbis a little above 1; that is no news."""
_LOST = 0.02
"""Channels cancel where less of their energy is left. Of N alike none is lost, of N unlike each other 1/N stays."""
_FIRST_ROOM = 1 << 14


class Mix:
    """The sound of one file.

    Attributes:
        count: Samples so far, over all rates.
        full: Whether all that is wanted is there.
    """

    def __init__(self, wanted: float | None, limit: float) -> None:
        """Collect ``wanted`` seconds, or with None all of a sound of at most ``limit`` seconds."""
        self.count, self.full = 0, False
        self._wanted, self._limit = wanted, limit
        self._pieces: list[tuple[int, list[np.ndarray]]] = []
        self._seconds = 0.0  # of the pieces before the last
        self._length = self._room = 0  # samples of the last piece; samples of all that memory is reserved for
        self._channels, self._energy, self._left = 1, 0.0, 0.0

    @property
    def rate(self) -> int:
        """Samples a second of what was added last; 0 before anything was."""
        return self._pieces[-1][0] if self._pieces else 0

    def expect(self, count: int, rate: int) -> None:
        """Refuse what a header tells before it is decoded.

        Raises:
            ItemError: an odd rate, or too long.
        """
        if rate not in RATES:
            raise ItemError(f"{rate} samples a second; expected {RATES[0]} to {RATES[-1]}")
        if self._wanted is None and count > self._limit * rate:
            raise ItemError(f"{count / rate:.0f} seconds; at most {self._limit:.0f} are decoded: cut it into parts")

    def add(self, block: np.ndarray, rate: int) -> None:
        """Add (n, channels) float32 samples of ``rate``; a change of rate or channels on the way is no fault.

        Raises:
            ItemError: an odd rate, too long, or more than the budget of memory.
        """
        if not self._pieces or self._pieces[-1][0] != rate:
            self.expect(0, rate)
            self._seconds += self._length / self._pieces[-1][0] if self._pieces else 0
            self._pieces.append((rate, []))
            self._length = 0
        seconds = self._limit if self._wanted is None else self._wanted
        left = int(np.ceil((seconds - self._seconds) * rate)) - self._length
        if self._wanted is None and len(block) > left:
            raise ItemError(f"more than {self._limit:.0f} seconds of sound; cut it into parts")
        self.full = self._wanted is not None and len(block) >= left
        self._keep(block[: max(left, 0)])

    def mono(self, rate: int | None) -> tuple[np.ndarray, int]:
        """Return (n,) float32 samples in [-1, 1] at ``rate`` (None: as the file begins), and that rate; n may be 0.

        Raises:
            ItemError: non-finite samples, or more than the budget of memory.
        """
        rate = rate or (self._pieces[0][0] if self._pieces else 0)
        parts = [self._resampled(own, blocks, rate) for own, blocks in self._pieces]
        self._note(max((peak for _, peak in parts), default=0.0))
        found = (
            parts[0][0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *(part for part, _ in parts)])
        )
        clipped: np.ndarray = np.clip(found, -1.0, 1.0, dtype=np.float32)
        return clipped, rate

    def _keep(self, block: np.ndarray) -> None:
        self.count += len(block)
        self._length += len(block)
        while self.count > self._room:  # the blocks, and all of them in one
            more = max(self._room, _FIRST_ROOM)
            reserve(8 * more)
            self._room += more
        with np.errstate(all="ignore"):  # what is not finite is refused at the end
            mono = block.mean(axis=1)
            if block.shape[1] > 1:
                self._channels = max(self._channels, block.shape[1])
                self._energy += float(np.einsum("nc,nc->", block, block, dtype=np.float64)) / block.shape[1]
                self._left += float(np.einsum("n,n->", mono, mono, dtype=np.float64))
        self._pieces[-1][1].append(mono)

    def _resampled(self, own: int, blocks: list[np.ndarray], rate: int) -> tuple[np.ndarray, float]:
        mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        blocks.clear()
        if not np.isfinite(mono).all():
            raise ItemError("non-finite samples")
        peak = float(np.abs(mono).max(initial=0))
        if own == rate or not mono.size:
            return mono, peak
        import soxr

        reserve(8 * (len(mono) * rate // own + 1))
        return soxr.resample(mono, own, rate), peak

    def _note(self, peak: float) -> None:
        if peak > _CLIPPED:
            note(
                f"samples reach {peak:.0f}; clipped to [-1, 1]" if peak >= 10 else f"samples reach {peak:.1f}; clipped"
            )
        if self._left * self._channels < _LOST * self._energy:
            loud, left = (np.sqrt(energy / self.count) for energy in (self._energy, self._left))
            note(f"its channels cancel each other in the mix to mono (rms {loud:.3f} each, {left:.3f} mixed)")

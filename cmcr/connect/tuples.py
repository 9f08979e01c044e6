"""Ex-MCR's training tuples (arXiv 2310.08884): every modality takes its turn to ask, what it asks for is recalled.

An overlap row asks both memories, as in C-MCR (text-centric, where text is the overlap). A row of either memory asks
the overlap rows of its own space; the weights it finds are used again on the same rows in the other space, and what
they make there asks the other memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cmcr.connect.pairs import QUERIES, PairBatch, Pairs, recalled_blocks
from cmcr.devices import matrix_products
from cmcr.hooks import Progress, silent
from cmcr.memory.cached import reuse_or_write
from cmcr.numbers.recall import recall
from cmcr.numbers.rows import read_rows

if TYPE_CHECKING:
    from cmcr.connect.validation import Validation

POOLS = ("overlap", "base", "leaf")
"""Whose rows ask: the overlap's, the first memory's (the base's), the second's (the leaf's)."""
BANK = 16_384
"""Overlap rows held at a time while memory rows ask them."""


@dataclass(frozen=True)
class Tuples:
    """Several pools of aligned rows as one: the rows of the second follow those of the first.

    >>> import numpy as np
    >>> from cmcr.connect.pairs import Pairs
    >>> from cmcr.connect.tuples import Tuples
    >>> rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    >>> Tuples([Pairs(rows, rows), Pairs(-rows, -rows)]).take(np.array([1, 4])).overlap_a.tolist()
    [[2.0, 3.0], [-2.0, -3.0]]
    """

    pools: Sequence[Pairs]

    def __len__(self) -> int:
        return sum(map(len, self.pools))

    def take(self, rows: np.ndarray, device: str = "cpu") -> PairBatch:
        """Return the (B,) ascending row numbers ``rows`` of each array as (B, D) float32 tensors."""
        parts, start = [], 0
        for pool in self.pools:
            own = rows[(rows >= start) & (rows < start + len(pool))] - start
            parts.append(pool.take(own, device))
            start += len(pool)
        both = [(part.pseudo_a, part.pseudo_b) for part in parts]
        recalled = [None if None in side else torch.cat(side) for side in zip(*both, strict=True)]
        overlap = torch.cat([part.overlap_a for part in parts]), torch.cat([part.overlap_b for part in parts])
        return PairBatch(*overlap, *recalled)


def build_tuples(
    validation: Validation, asking: Sequence[str], folder: Path, progress: Progress = silent
) -> tuple[Tuples, np.ndarray]:
    """Return the tuples of the pools that are asked for, and the numbers of the rows to train on.

    Held-out overlap rows are not among them, and answer nobody.

    Args:
        validation: The pairs with what both memories recall, the memories and the recipe.
        asking: Some of ``POOLS``.
        folder: Where what is recalled is kept, as float16.
        progress: Called as rows are recalled.
    """
    pools, train = [validation.pairs], [validation.train if "overlap" in asking else validation.train[:0]]
    for number, name in enumerate(POOLS[1:]):
        if name in asking:
            start = sum(map(len, pools))
            pools.append(_pool(validation, number, folder, progress))
            train.append(np.arange(start, start + len(pools[-1])))
    return Tuples(pools), np.concatenate(train)


def _pool(validation: Validation, number: int, folder: Path, progress: Progress) -> Pairs:
    """Return the tuples that the rows of one memory ask for."""
    config, sides = validation.config, validation.sides
    own, other = sides[number], sides[1 - number]
    name, rows = "ab"[number], own.memory.rows(own.recalled)
    dims = own.memory.encoder.dim, other.memory.encoder.dim
    key = _key(validation, number)
    asked = reuse_or_write(
        folder / f"asked_{name}.npy", key, (rows, sum(dims)), lambda: _asked(validation, number), progress
    )
    found = reuse_or_write(
        folder / f"answered_{name}.npy",
        key,
        (rows, dims[1]),
        lambda: recalled_blocks(
            other, _unit_blocks(asked[:, dims[0] :]), rows, folder, config.tau_memory, config.top_k,
            validation.device, config.precision, progress,
        ),
        progress,
    )  # fmt: skip
    asking = reuse_or_write(
        folder / f"asking_{name}.npy", key, (rows, dims[0]), lambda: own.memory.blocks(own.recalled), progress
    )
    texts, outer = (asked[:, : dims[0]], asked[:, dims[0] :]), (asking, found)
    return Pairs(*texts, *outer) if number == 0 else Pairs(*texts[::-1], *outer[::-1])


def _asked(validation: Validation, number: int) -> Iterator[np.ndarray]:
    """Yield what each row of a memory recalls of the overlap in its own space and, by the same weights, in the other.

    The rows of both spaces lie side by side, and the query has zeros where the other space is: so its weights follow
    from its own space alone, and one softmax over the overlap makes both means.
    """
    config, own = validation.config, validation.sides[number]
    other = validation.sides[1 - number].memory.encoder.dim
    for block in own.memory.blocks(own.recalled):
        for start in range(0, len(block), QUERIES):
            part = torch.from_numpy(np.array(block[start : start + QUERIES], np.float32)).to(validation.device)
            with matrix_products(validation.device, config.precision):
                found = recall(F.pad(part, (0, other)), lambda: _bank(validation, number), config.tau_memory)
            yield found.cpu().numpy()


def _bank(validation: Validation, number: int) -> Iterator[np.ndarray]:
    """Yield the overlap rows that are trained on, in a side's own space and beside it in the other."""
    pairs, train = validation.pairs, validation.train
    arrays = (pairs.overlap_a, pairs.overlap_b)
    for start in range(0, len(train), BANK):
        rows = train[start : start + BANK]
        yield np.concatenate([read_rows(arrays[n], rows) for n in (number, 1 - number)], axis=1)


def _unit_blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(x), QUERIES):
        rows: Tensor = torch.from_numpy(read_rows(x, np.arange(start, min(start + QUERIES, len(x)))))
        yield F.normalize(rows, dim=1).numpy()


def _key(validation: Validation, number: int) -> str:
    config = validation.config
    known = [s.memory.fingerprint(m) for s in validation.sides for m in (s.overlap, s.recalled)]
    rows = (*(side.rows for side in validation.sides), validation.train)
    known += [hashlib.sha256(each.astype("<i8").tobytes()).hexdigest() for each in rows]
    known += [str(number), repr(config.tau_memory), config.pairing, config.precision]
    return hashlib.sha256(" ".join(known).encode()).hexdigest()

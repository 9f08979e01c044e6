"""Beds in other regimes, made of a bed's own rows at no cost: true pairs by thousands, few rows, noise, distance.

No row that is asked for lies in a derived bed's memories or among its texts, and no two pairs share a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from lab_bed import Bed, Side, cut, unit

PAIRS = 2000
"""The most pairs made of texts."""
FEW = 10
"""``few`` keeps one row in so many."""
NOISE = 0.7
"""Length of the noise added to a unit vector of the right side's texts: a cosine of 0.82 is left."""
ANGLE = 0.5
"""How far, in radians, the right side's texts are turned against its other rows."""


def firsts(*arrays: np.ndarray) -> np.ndarray:
    """Return the rows that in no array equal an earlier row."""
    seen: list[set[bytes]] = [set() for _ in arrays]
    kept = []
    for number, rows in enumerate(zip(*arrays, strict=True)):
        keys = [row.tobytes() for row in rows]
        if not any(key in known for key, known in zip(keys, seen, strict=True)):
            kept.append(number)
        for key, known in zip(keys, seen, strict=True):
            known.add(key)
    return np.array(kept, np.int64)


def without(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return which rows of ``x`` equal no row of ``known``, as a mask."""
    keys = {row.tobytes() for row in known}
    return np.array([row.tobytes() not in keys for row in x], bool)


def halves(bed: Bed) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the texts, double ones left out, in two random halves."""
    rows = firsts(bed.left.text, bed.right.text)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return np.sort(rows[: len(rows) // 2]), rows[len(rows) // 2 :]


def settled(x: np.ndarray) -> np.ndarray:
    """Return unit rows rounded as stored ones are: the last bits of a product are the machine's, not the bed's."""
    return unit(unit(x).astype(np.float16))


def swapped(bed: Bed) -> Bed:
    """Exchange left and right."""
    return replace(bed, left=bed.right, right=bed.left)


def few(bed: Bed) -> Bed:
    """Keep a tenth of the texts and of each memory."""
    return cut(bed, lambda rows: max(1, rows // FEW), bed.name)


def texts(bed: Bed) -> Bed:
    """Half of the texts are the overlap; the others are outer rows of both sides: a third pairs, the rest memories."""
    overlap, outer = halves(bed)
    pairs, rest = np.split(outer, [min(PAIRS, len(outer) // 3)])
    ours, theirs = np.array_split(rest, 2)
    left, right = (
        Side(side.text[overlap], side.text[memory], side.text[pairs])
        for side, memory in ((bed.left, ours), (bed.right, theirs))
    )
    return replace(bed, left=left, right=right, galleries=np.zeros(len(pairs), np.int64))


def left_to_text(bed: Bed) -> Bed | None:
    """The left outer rows stay; the right ones are texts: half of the overlap, and the true texts of the pairs."""
    asked, known = bed.right.eval_text, bed.left.eval_text
    if asked is None or known is None:
        return None
    pairs = firsts(bed.left.eval, asked, known)
    new = without(bed.left.text, known[pairs]) & without(bed.right.text, asked[pairs])
    overlap, outer = (rows[new[rows]] for rows in halves(bed))
    left = Side(bed.left.text[overlap], bed.left.memory, bed.left.eval[pairs], known[pairs])
    right = Side(bed.right.text[overlap], bed.right.text[outer], asked[pairs])
    return replace(bed, left=left, right=right, galleries=bed.galleries[pairs])


def text_to_right(bed: Bed) -> Bed | None:
    """The reverse: the right outer rows stay, and the left ones are texts."""
    made = left_to_text(swapped(bed))
    return made and swapped(made)


def _texts_of(side: Side, change: Callable[[np.ndarray], np.ndarray]) -> Side:
    """Return a side whose texts, those of the pairs too, are changed."""
    return side.map({name: change(x) for name, x in side.parts().items() if name.endswith("text")})


def noisy(bed: Bed) -> Bed:
    """The right side's texts are blurred: its link to the overlap is weak."""
    rng = np.random.default_rng(1)

    def blur(x: np.ndarray) -> np.ndarray:
        return settled(x + NOISE / x.shape[1] ** 0.5 * rng.standard_normal(x.shape))

    return replace(bed, right=_texts_of(bed.right, blur))


def turned(bed: Bed) -> Bed:
    """The right side's texts are all turned alike against its other rows: the link errs, and errs everywhere alike."""
    dim = bed.right.text.shape[1]
    drawn = np.random.default_rng(2).standard_normal((dim, dim))
    half = ANGLE / (2 * dim) ** 0.5 * (drawn - drawn.T) / 2
    turn = np.linalg.solve(np.eye(dim) - half, np.eye(dim) + half)
    return replace(bed, right=_texts_of(bed.right, lambda x: settled(x @ turn)))


def narrow(bed: Bed) -> Bed:
    """The right space keeps a quarter of its components, in a random rotation."""
    dim = bed.right.text.shape[1]
    seen = np.linalg.qr(np.random.default_rng(3).standard_normal((dim, dim)))[0][:, : max(1, dim // 4)]
    return replace(bed, right=Side(**{name: settled(x @ seen) for name, x in bed.right.parts().items()}))


def far(bed: Bed) -> Bed:
    """Only that half of the texts is left that lies further from both memories."""
    near = np.zeros(len(bed.left.text))
    for side in (bed.left, bed.right):
        rows = side.memory.T.astype(np.float64)
        best = np.concatenate([(part @ rows).max(axis=1) for part in np.array_split(side.text, 16)])
        near += np.argsort(np.argsort(best))
    kept = np.sort(np.argsort(near, kind="stable")[: max(1, len(near) // 2)])
    left, right = (side.map({"text": side.text[kept]}) for side in (bed.left, bed.right))
    return replace(bed, left=left, right=right)


DERIVED: dict[str, Callable[[Bed], Bed | None]] = {
    "texts": texts,
    "left-to-text": left_to_text,
    "text-to-right": text_to_right,
    "few": few,
    "swapped": swapped,
    "noisy": noisy,
    "turned": turned,
    "narrow": narrow,
    "far": far,
}


def derive(bed: Bed, name: str) -> Bed | None:
    """Return a derived bed of the same family, or None where the bed lacks what it needs."""
    made = DERIVED[name](bed)
    return made and replace(made, name=f"{bed.name}/{name}")

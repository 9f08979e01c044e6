"""What is asked of a server: terms with signs, what to look for, and how much each encoder counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cmcr.errors import InputError
from cmcr.items import Item
from cmcr.schema import checked

MOST_K = 500
"""Hits that one question may ask for."""

MOST_TERMS = 8
MOST_TEXT = 10_000
"""Characters of a text; encoders read a few hundred at most."""

_ROW = re.compile(r"([a-z][a-z0-9_]{0,31})/(0|[1-9][0-9]{0,11})")


class UnknownRowError(InputError):
    """A row that no memory of the server holds."""


@dataclass(frozen=True)
class Term:
    """One thing that a question adds or takes away.

    >>> from cmcr.serve.question import Term
    >>> Term(text="bark", sign=-1).shown
    'bark'

    Attributes:
        text: A text.
        row: ``MODALITY/NUMBER``: a row of the server's memories.
        sign: 1: added; -1: taken away.
        item: An uploaded file; never read from JSON.
    """

    text: str | None = None
    row: str | None = None
    sign: Literal[1, -1] = 1
    item: Item | None = None

    @property
    def shown(self) -> str:
        """What the term is called."""
        return self.text or self.row or (self.item.source if self.item else "")


@dataclass(frozen=True)
class Question:
    """A question, checked.

    >>> from cmcr.serve.question import read_question
    >>> question = read_question({"terms": [{"text": "dog"}, {"text": "bark", "sign": -1}], "modality": "image"})
    >>> question.name, question.k
    ('dog - bark', 10)

    Attributes:
        terms: What is added and taken away; one or more.
        modality: What to look for; None: the only one there is.
        k: Hits wanted.
        weights: By ``ENCODER:MODALITY``, how much an encoder counts where several see one item.
        where: A condition over the columns of rows, as ``filter_rows`` takes it; None: all rows are looked at.
    """

    terms: tuple[Term, ...]
    modality: str | None = None
    k: int = 10
    weights: tuple[str, ...] = ()
    where: str | None = None

    @property
    def name(self) -> str:
        """The terms with their signs, as a person writes them."""
        first, *others = self.terms
        told = [f"{'+' if term.sign > 0 else '-'} {term.shown}" for term in others]
        return " ".join(["- " + first.shown if first.sign < 0 else first.shown, *told])


@dataclass(frozen=True)
class _Term:
    """What JSON may say of a term: no file."""

    text: str | None = None
    row: str | None = None
    sign: Literal[1, -1] = 1


@dataclass(frozen=True)
class _Body:
    text: str | None = None
    row: str | None = None
    terms: list[_Term] | None = None
    modality: str | None = None
    k: int = 10
    weights: dict[str, float] | None = None
    where: str | None = None


def read_question(value: Any) -> Question:
    """Return what a JSON document asks: ``text``, ``row`` or ``terms``, and how.

    Raises:
        InputError: it says something else; the message tells where, the value, and what was expected.
    """
    try:
        body: _Body = checked(_Body, _plain(value))
    except ValueError as error:
        raise InputError(f"question: {error}") from None
    given = [name for name in ("text", "row", "terms") if getattr(body, name) is not None]
    if len(given) != 1:
        raise InputError(f"question: {' and '.join(given) or 'nothing'} given; expected one of text, row and terms")
    terms = body.terms if body.terms is not None else [_Term(body.text, body.row)]
    if not 1 <= len(terms) <= MOST_TERMS:
        raise InputError(f"question: {len(terms)} terms; expected 1 to {MOST_TERMS}")
    weights = tuple(f"{who}={weight!r}" for who, weight in (body.weights or {}).items())
    return Question(tuple(map(_checked_term, terms)), body.modality, checked_k(body.k), weights, body.where)


def _plain(value: Any, at: str = "it") -> Any:
    """Return a JSON document whose whole numbers are ints however they are written, as JSON schemas see them.

    Raises:
        ValueError: there is a null in it, which says nothing.
    """
    if value is None:
        raise ValueError(f"{at} is null; leave it out")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_plain(each, f"{at}[{number}]") for number, each in enumerate(value)]
    return {name: _plain(each, name) for name, each in value.items()} if isinstance(value, dict) else value


def _checked_term(term: _Term) -> Term:
    if (term.text is None) == (term.row is None):
        raise InputError("question: a term with both text and row, or neither; expected one of the two")
    if term.text is not None:
        return Term(text=checked_text(term.text), sign=term.sign)
    split_row(str(term.row))
    return Term(row=term.row, sign=term.sign)


def checked_text(text: str) -> str:
    """Return a text that can be embedded, without the blanks around it.

    Raises:
        InputError: it is empty, or longer than ``MOST_TEXT``.
    """
    if not text.strip() or len(text) > MOST_TEXT:
        raise InputError(f"text of {len(text)} characters, {text[:40]!r}; expected 1 to {MOST_TEXT}, not all blank")
    return text.strip()


def checked_k(k: int) -> int:
    """Return a number of hits.

    Raises:
        InputError: below 1, or above ``MOST_K``.
    """
    if not 1 <= k <= MOST_K:
        raise InputError(f"k is {k}, expected 1 to {MOST_K}")
    return k


def split_row(row: str) -> tuple[str, int]:
    """Return the two parts of ``MODALITY/NUMBER``; a stranger's modality stays a text, for names of them are kept.

    Raises:
        InputError: there are no two.
    """
    found = _ROW.fullmatch(row)
    if not found:
        raise InputError(f"row is {row[:60]!r}, expected MODALITY/NUMBER such as image/53")
    return found[1], int(found[2])

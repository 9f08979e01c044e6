"""What a server can do, without HTTP: search, embed, describe what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from cmcr.ask import CHECKED_BYTES
from cmcr.ask.retrieve import Hit
from cmcr.decode import memory_bytes
from cmcr.errors import InputError, ItemError
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item, text_item
from cmcr.memory import Memory
from cmcr.memory.columns import SECONDS
from cmcr.modality import Modality, in_order
from cmcr.serve.conditions import Conditions, Met
from cmcr.serve.question import Question, Term, UnknownRowError, split_row
from cmcr.serve.shelf import Found, Shelf
from cmcr.serve.subject import ReadySubject

_NOTHING = 1e-4
"""Length of a sum of unit vectors below which it points nowhere."""

_TOLD = [each.name for each in fields(Hit) if each.name != "memory"]
"""What an answer tells of a hit; its row tells the memory."""


class Asked(NamedTuple):
    """What became of the terms: (dim,) unit vector, their modality, who embedded them, and what decoders noted."""

    vector: np.ndarray
    modality: str
    encoder: str
    notes: list[str]


def _met(question: Question, met: Met | None) -> dict[str, Any]:
    """Return what an answer tells of a condition, in the place of what holds of all rows."""
    if met is None:
        return {}
    told = {"condition": question.where, "rows": met.rows, "lacking": met.lacking}
    return {"gallery": sum(map(len, met.numbers)), "search": "exact", "where": told}


@contextlib.contextmanager
def _unanswered() -> Iterator[None]:
    """Tell that a question is as it should be, and yet has no answer: its weights sum to 0, say."""
    try:
        yield
    except InputError as error:
        raise ItemError(str(error)) from error


class Service:
    """A space and memories, held open: every method may be called by several threads.

    >>> import numpy as np
    >>> import cmcr
    >>> from cmcr.serve import ReadySubject, Service
    >>> from cmcr.serve.question import read_question
    >>> texts = np.random.default_rng(0).normal(size=(200, 8))
    >>> a, b = {"text": texts, "image": texts[:60]}, {"text": texts[:, ::-1], "audio": texts[:60, ::-1]}
    >>> space = cmcr.connect_arrays(a=a, b=b, via="text", method="linear")
    >>> memories = [cmcr.ArrayMemory("a", a), cmcr.ArrayMemory("b", {"audio": b["audio"]})]
    >>> service = Service(ReadySubject("toy", space), memories)
    >>> answer = service.search(read_question({"row": "audio/4", "modality": "image", "k": 1}))
    >>> answer["query"], answer["query_modality"], answer["hits"][0]["id"], answer["hits"][0]["row"]
    ('audio/4', 'audio', '4', 'image/4')

    Attributes:
        subject: Who embeds.
        shelves: By modality, all rows that the memories hold.
        notes: What the user is to know of how they are searched.
    """

    def __init__(
        self, subject: ReadySubject, memories: Sequence[Memory], *, index: str = "exact", progress: Progress = silent
    ) -> None:
        """Load the encoders, and open what is searched.

        Args:
            subject: The space.
            memories: Of its encoders; what it has no encoder for is left out and noted.
            index: ``exact``, or the kind of the indexes that ``cmcr index`` made.
            progress: Told of each encoder and modality.

        Raises:
            InputError: nothing to search.
            ArtifactError: a memory that is not of the space, or damaged.
        """
        self.subject, self.memories, self.notes = subject, tuple(memories), list[str]()
        self.shelves: dict[Modality, Shelf] = {}
        self._conditions = Conditions()
        subject.prepare(progress)
        held = in_order({each for memory in memories for each in memory.modalities})
        for number, modality in enumerate(held):
            progress(number, len(held), str(modality))
            self._open(modality, index)
        if not self.shelves:
            raise InputError(f"the memories hold {', '.join(held) or 'nothing'}, of which the space has nothing")

    def _open(self, modality: Modality, index: str) -> None:
        known = [m for m in self.memories if modality in m.modalities and not self._lacks(m, modality)]
        for memory in known:
            if not memory.check_content(modality, CHECKED_BYTES):
                self.notes.append(f"{memory.path}: too large to be compared with its sha256; see cmcr info --verify")
        if known:
            shares = self.subject.shares.get(modality, {})
            left = memory_bytes() // 2 - sum(shelf.bytes for shelf in self.shelves.values())
            most = min(memory_bytes() // 4, left)
            self.shelves[modality] = Shelf(self.subject.space, known, modality, index, shares, most)
            self.notes += self.shelves[modality].notes

    def _lacks(self, memory: Memory, modality: Modality) -> bool:
        entry = self.subject.space.encoders.get(memory.encoder.name)
        if entry is None or modality in entry.modalities:
            return False
        self.notes.append(f"{memory.path}: its {modality} rows are left out, for the space has no {modality} of them")
        return True

    def shelf(self, modality: str | None) -> Shelf:
        """Return the rows of a modality; None: of the only one.

        Raises:
            InputError: there are none, or several modalities to choose from.
        """
        held = ", ".join(self.shelves)
        if modality is None and len(self.shelves) > 1:
            raise InputError(f"modality is not given, expected one of {held}")
        found = next((each for name, each in self.shelves.items() if modality in (None, name)), None)
        if found is None:
            raise InputError(f"modality is {str(modality)[:40]!r}, expected one of {held}")
        return found

    def row_of(self, name: str) -> tuple[Shelf, int]:
        """Return where ``MODALITY/NUMBER`` lies.

        Raises:
            InputError: another form.
            UnknownRowError: no memory holds it.
        """
        modality, number = split_row(name)
        shelf = next((each for own, each in self.shelves.items() if own == modality), None)
        if shelf is None or number >= shelf.rows:
            held = ", ".join(f"{each}/0 to {each}/{shelf.rows - 1}" for each, shelf in self.shelves.items())
            raise UnknownRowError(f"row {name} is not there; expected one of {held}")
        return shelf, number

    def row(self, name: str) -> dict[str, Any]:
        """Return what is known about the row ``MODALITY/NUMBER``, as JSON-ready values.

        Raises:
            InputError: as ``row_of``.
        """
        shelf, number = self.row_of(name)
        known = shelf.row(number)
        told = {"row": f"{shelf.modality}/{number}", "id": known.id, "modality": shelf.modality.value}
        return told | {"source": known.source, "text": known.text, "note": known.note}

    def describe(self) -> dict[str, Any]:
        """Return what can be asked and what is searched, as JSON-ready values."""
        space, subject = self.subject.space, self.subject
        asked = [
            {
                "modality": modality.value,
                "suffixes": sorted(modality.suffixes),
                "missing": subject.reason(modality),
                "encoders": [
                    {"name": name, "missing": subject.reason(modality, name)}
                    for name, entry in space.encoders.items()
                    if modality in entry.modalities
                ],
            }
            for modality in space.modalities
        ]
        searched = [
            {
                "modality": modality.value,
                "rows": shelf.rows,
                "memories": [str(each.path) for part in shelf.parts for each in part.memories],
                "mixed": list(shelf.mixed),
                "search": "+".join(dict.fromkeys(part.kind for part in shelf.parts)),
            }
            for modality, shelf in self.shelves.items()
        ]
        told = {"space": subject.name, "method": space.method, "dim": space.dim, "presets": list(space.presets)}
        return told | {"queries": asked, "galleries": searched}

    def meet(self, question: Question, seconds: float = SECONDS) -> Met | None:
        """Return the rows that meet a question's condition; None: it has none.

        Raises:
            InputError: no such modality.
            ItemError: it is no condition of theirs; see ``Conditions.meet``, also for what else is raised.
        """
        if question.where is None:
            return None
        return self._conditions.meet(self.shelf(question.modality), question.where, seconds)

    def search(self, question: Question, met: Met | None = None) -> dict[str, Any]:
        """Return an answer as ``cmcr retrieve --json`` prints it; each hit has its ``row``, too.

        Args:
            question: What is asked.
            met: What ``meet`` returned of it; found here when left out.

        Raises:
            InputError: it names what is not here.
            ItemError: it has no answer: nothing here embeds it, the terms cancel out, the weights sum to 0, or its
                condition is none.
        """
        met = met or self.meet(question)
        subject, shelf = self.subject.weighed(question.weights), self.shelf(question.modality)
        asked = self._asked(subject, question)
        shares = subject.shares.get(shelf.modality) if question.weights else None
        with _unanswered():
            found = shelf.search(asked.vector, question.k, shares, met and met.numbers)
        told = {"query": question.name, "query_modality": asked.modality, "encoder": asked.encoder}
        notes = {"notes": asked.notes} if asked.notes else {}
        hits = [self._hit(shelf, each) for each in found]
        return self._facts(subject, shelf, exact=met is not None) | _met(question, met) | told | notes | {"hits": hits}

    def _facts(self, subject: ReadySubject, shelf: Shelf, exact: bool) -> dict[str, Any]:
        facts = {
            "space": subject.name,
            "method": subject.space.method,
            "memory": " + ".join(str(part.gallery.path) for part in shelf.parts),
            "modality": shelf.modality.value,
            "gallery": shelf.rows,
            "search": "+".join(dict.fromkeys(part.kind for part in shelf.parts)),
        }
        return facts | ({"scores": shelf.scores} if shelf.scores and not exact else {}) | subject.told_shares()

    def _hit(self, shelf: Shelf, found: Found) -> dict[str, Any]:
        told = {name: getattr(found.hit, name) for name in _TOLD}  # asdict() copies deeply
        return told | {"row": f"{shelf.modality}/{found.number}"}

    def embed(self, question: Question) -> dict[str, Any]:
        """Return the vector of a question in the space, as JSON-ready values.

        Raises:
            InputError: as ``search``.
            ItemError: as ``search``.
        """
        if question.where is not None:
            raise InputError("where chooses among rows, and /embed looks at none; leave it out")
        if question.modality is not None:  # it says nothing here, but a wrong one is a mistake
            self.shelf(question.modality)
        asked = self._asked(self.subject.weighed(question.weights), question)
        told = {"query": question.name, "query_modality": asked.modality, "encoder": asked.encoder}
        notes = {"notes": asked.notes} if asked.notes else {}
        return told | notes | {"dim": len(asked.vector), "vector": [round(float(x), 7) for x in asked.vector]}

    def _asked(self, subject: ReadySubject, question: Question) -> Asked:
        made = [self._term(subject, term) for term in question.terms]
        if len(made) == 1 and question.terms[0].sign > 0:
            return made[0]
        total = np.sum([each.vector * term.sign for each, term in zip(made, question.terms, strict=True)], axis=0)
        length = float(np.linalg.norm(total))
        if length < _NOTHING:
            raise ItemError(f"{question.name[:80]!r}: the terms cancel out; expected a sum that points somewhere")
        names = ("+".join(dict.fromkeys(getattr(each, name) for each in made)) for name in ("modality", "encoder"))
        modality, encoder = names
        notes = [note for each in made for note in each.notes]
        return Asked((total / length).astype(np.float32), modality, encoder, notes)

    def _term(self, subject: ReadySubject, term: Term) -> Asked:
        if term.row is not None:
            shelf, number = self.row_of(term.row)
            part, _ = shelf.home(number)
            return Asked(shelf.vector(number), shelf.modality.value, part.gallery.encoder.name, [])
        return self._embedded(subject, term.item or text_item(str(term.text), "query"))

    def _embedded(self, subject: ReadySubject, item: Item) -> Asked:
        if reason := subject.reason(item.modality):
            raise ItemError(reason)
        first = subject.space.encoder_for(item.modality).name
        able = subject.able(item.modality)
        with _unanswered():  # who is not named is whom the space, or its router, chooses
            made = subject.embed(Inputs(item.modality, [item]), encoder=None if able == first else able)
        if made.skips:
            raise ItemError(f"{item.modality}: {made.skips[0].reason}")
        return Asked(made.vectors[0], item.modality.value, made.encoder, list(made.notes.values()))

"""What can embed this? A connected space, or a bare encoder, behind one face: for queries, scores and evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cmcr.ask.gallery import Gallery, Merged, Several, mixed_in
from cmcr.ask.row_names import NamedRow
from cmcr.ask.shares import Shares, check_used, read_shares, with_preset
from cmcr.devices import Precision
from cmcr.embed import embed
from cmcr.embed.shard import Embedder
from cmcr.encoders import load_encoder
from cmcr.encoders.base import Encoder
from cmcr.errors import ArtifactError, CmcrError, InputError, UnknownEncoderError
from cmcr.hooks import Progress, silent
from cmcr.items import Inputs, Item, text_item
from cmcr.memory import Memory, Skip
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace
from cmcr.space.config import ROUTED
from cmcr.space.hub import is_name
from cmcr.space.space import SpaceEncoder

BATCH = 64
"""Items given to an encoder at once."""


@dataclass(frozen=True)
class Embedded:
    """What became of some items.

    >>> from cmcr import Modality, Subject
    >>> from cmcr.items import Inputs, text_item
    >>> made = Subject.open("tiny-clip").embed(Inputs(Modality.TEXT, [text_item("a drum", "1"), text_item("", "2")]))
    >>> made.vectors.shape, [skip.reason for skip in made.skips]
    ((1, 64), ['empty text'])

    Attributes:
        items: Those that have a vector, in the order of the input.
        raw: (N, D) float32 unit vectors of the encoder; of several, of the first.
        vectors: (N, dim) float32 unit vectors in the space; ``raw`` for a bare encoder.
        encoder: Who embedded them; of several, all names with + between.
        skips: The items that could not be embedded, with their reasons.
        fingerprint: Of the memory that keeps the raw vectors; empty where none does.
        notes: What decoders told of some items in this run, by id.
    """

    items: list[Item]
    raw: np.ndarray
    vectors: np.ndarray
    encoder: str
    skips: list[Skip] = field(default_factory=list)
    fingerprint: str = ""
    notes: dict[str, str] = field(default_factory=dict)


class Subject:
    """A space or a bare encoder: who embeds an item, whether it is the encoder of the space, and what comes of it.

    >>> from cmcr import Modality, Subject
    >>> from cmcr.items import Inputs, text_item
    >>> found = Subject.open("tiny-clip").embed(Inputs(Modality.TEXT, [text_item("two red drums", "query")]))
    >>> found.encoder, found.vectors.shape
    ('tiny-clip', (1, 64))

    Attributes:
        name: As the user gave it.
        space: The connected space, or None for a bare encoder.
        modalities: What it embeds.
        fingerprint: Of the space or the encoder.
        shares: How much each encoder counts that sees an item; who is named for a modality takes part in embedding it.
    """

    def __init__(
        self,
        name: str,
        space: ConnectedSpace | None,
        *,
        device: str = "cpu",
        weights: Sequence[Path] = (),
        precision: Precision = "fp32",
        shares: Shares | Sequence[str] = (),
        preset: str | None = None,
    ) -> None:
        """Take a space, or load the encoder of that name; ``shares`` may be ``ENCODER:MODALITY=WEIGHT`` as well.

        A ``preset`` is the name of weights that the space stores; ``routed``: its routers say who is asked.
        """
        self.name, self.space, self.preset = name, space, preset
        self._given = shares if isinstance(shares, Mapping) else read_shares(shares, space)
        self.shares = with_preset(self._given, preset, space)
        self._device, self._weights, self._precision = device, weights, precision
        self._loaded: dict[str, Encoder] = {}
        alone = None if space else self.load(name)
        self.modalities: tuple[Modality, ...] = space.modalities if space else alone.modalities if alone else ()
        self.fingerprint = space.fingerprint if space else alone.fingerprint if alone else ""

    @classmethod
    def open(
        cls,
        name: str,
        *,
        device: str = "cpu",
        weights: Sequence[Path] = (),
        precision: Precision = "fp32",
        shares: Shares | Sequence[str] = (),
        preset: str | None = None,
    ) -> Subject:
        """Open a space, a folder or ``org/name`` of the Hub, or load the encoder of that name.

        Raises:
            InputError: neither a space nor an encoder, or weights are missing.
            ArtifactError: a damaged space or checkpoint.
        """
        space = ConnectedSpace.from_pretrained(name) if Path(name).is_dir() or is_name(name) else None
        return cls(name, space, device=device, weights=weights, precision=precision, shares=shares, preset=preset)

    @property
    def method(self) -> str:
        """How the space was made; ``encoder`` for a bare one."""
        return self.space.method if self.space else "encoder"

    def encoder_for(self, modality: Modality, encoder: str | None = None) -> Encoder:
        """Return the encoder that embeds a modality: the named one, or the space's first that can.

        Raises:
            InputError: the modality is not there, or its encoder does not run here.
            ArtifactError: the encoder here is not the one the space was made with.
        """
        if self.space is None:
            alone = self.load(self.name)
            if modality not in alone.modalities:
                raise InputError(f"{self.name} embeds {' and '.join(alone.modalities)}, not {modality}")
            return alone
        entry = self.space.encoder_for(modality, encoder)
        try:
            found = self.load(entry.name)
        except UnknownEncoderError as error:
            raise InputError(self._imported(entry, modality)) from error
        if not entry.matches(found.name, found.fingerprint):
            raise ArtifactError(
                f"encoder {entry.name} is {found.fingerprint[:12]} here, and the space was made with "
                f"{entry.fingerprint[:12]}; give that one's --weights, or embed and connect anew"
            )
        return found

    def _imported(self, entry: SpaceEncoder, modality: Modality) -> str:
        """Return what is wrong where an encoder of the space is none that runs here, and who could be asked instead."""
        sees = [each.name for each in self.space.encoders.values() if modality in each.modalities] if self.space else []
        instead = [f"--encoder {name}" for name in sees if self._is_known(name)][:1]
        return (
            f"{entry.name} embeds {modality} in this space but is not an encoder that runs here "
            f"(its vectors were imported); ask with {', or '.join([*instead, 'a row of a memory, MEMORY#ID'])}"
        )

    def _is_known(self, name: str) -> bool:
        try:
            self.load(name)
        except UnknownEncoderError:
            return False
        except CmcrError:  # it is one, and what it lacks is told when it is asked for
            return True
        return True

    def preferred(self, modality: Modality, names: Sequence[str]) -> str | None:
        """Return the first of these encoders of the space that has a modality; None: they leave it to the space."""
        known = self.space.encoders if self.space else {}
        return next((name for name in names if name in known and modality in known[name].modalities), None)

    def gallery(self, memories: Sequence[Memory], modality: Modality) -> Memory:
        """Return the one memory, or several of the space's encoders as one, in which rows of one id are one item.

        Raises:
            InputError: as ``Gallery``, or several of a bare encoder.
            ArtifactError: as ``Gallery``.
        """
        if len(memories) == 1:
            return memories[0]
        if self.space is None:
            raise InputError(f"{len(memories)} memories of one side, and {self.name} is one encoder; give a space")
        names = [memory.encoder.name for memory in memories]
        own = {name: share for name, share in self.shares.get(modality, {}).items() if name in names}
        return Gallery(self.space, memories, modality, own)

    def merged(self, memories: Sequence[Memory], modality: Modality) -> Memory:
        """Return several memories to look into: as ``gallery``, but row by row where two are of one encoder.

        Raises:
            InputError: as ``gallery``; or one memory twice.
            ArtifactError: as ``gallery``.
        """
        names = [memory.encoder.name for memory in memories]
        if self.space is None or len(set(names)) == len(names):
            return self.gallery(memories, modality)
        paths = [memory.path.resolve() for memory in memories]
        if twice := next((path for path in paths if paths.count(path) > 1), None):
            raise InputError(f"{twice} is given twice; name each memory once")
        return Merged(self.space, memories, modality)

    def check_shares(self, galleries: Sequence[tuple[Memory, Modality]], embedded: Sequence[Modality] = ()) -> None:
        """Refuse a weight that counts nowhere: not for items ``embedded`` here, nor for those of galleries.

        Raises:
            InputError: there is one.
        """
        seen = {modality: [*self._given.get(modality, {})] for modality in embedded}
        for memory, modality in galleries:
            seen[modality] = [*seen.get(modality, []), *mixed_in(memory)]
        check_used(self._given, seen)

    def told_shares(self) -> dict[str, str]:
        """Return the weights as a result tells them; nothing where there are none."""
        told = [f"{name}:{m}={share:g}" for m, own in self._given.items() for name, share in own.items()]
        return ({"preset": self.preset} if self.preset else {}) | ({"weights": ", ".join(told)} if told else {})

    def load(self, name: str) -> Encoder:
        """Return an encoder, loaded once."""
        if name not in self._loaded:
            self._loaded[name] = load_encoder(name, self._device, weights=self._weights, precision=self._precision)
        return self._loaded[name]

    def project(self, raw: np.ndarray, modality: Modality, encoder: str) -> np.ndarray:
        """Return (N, dim) unit vectors in the space of (N, D) raw ones; the raw ones for a bare encoder."""
        return raw if self.space is None else self.space.project(raw, encoder=encoder, modality=modality)

    def check_memory(self, memory: Memory, modality: Modality) -> None:
        """Check that a memory's rows of a modality lie in the space, or were made by the bare encoder.

        Raises:
            ArtifactError: they do not.
        """
        if self.space is not None:
            self.space.check_memory(memory, modality)
        elif memory.encoder.fingerprint != self.fingerprint:
            raise ArtifactError(
                f"{memory.path} was made by {memory.encoder.name} ({memory.encoder.fingerprint[:12]}), not by "
                f"{self.name} ({self.fingerprint[:12]}); measure or score in a space that connects them"
            )

    def project_memory(self, memory: Memory, modality: Modality) -> np.ndarray:
        """Return (N, dim) unit vectors in the space of all of a memory's rows; the raw ones for a bare encoder.

        Raises:
            ArtifactError: as ``check_memory``, or the memory is damaged or lacks the modality.
        """
        if isinstance(memory, Several):
            return np.concatenate(list(memory.projected()))
        self.check_memory(memory, modality)
        return memory.vectors(modality) if self.space is None else self.space.project(memory, modality=modality)

    def project_row(self, found: NamedRow) -> np.ndarray:
        """Return the (dim,) unit vector in the space of one row of a memory; the raw one for a bare encoder.

        Raises:
            ArtifactError: as ``project_memory``.
        """
        memory, own = found.memory, found.modality
        self.check_memory(memory, own)
        vector: np.ndarray = self.project(memory.vectors(own, [found.number]), own, memory.encoder.name)[0]
        return vector

    def embed(
        self,
        inputs: Inputs,
        folder: Path | None = None,
        *,
        encoder: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Embedded:
        """Embed items into a memory under ``folder``, or take from it what a run before has embedded.

        Args:
            inputs: What to embed; ids are unique.
            folder: Holds a memory for each encoder; None: nothing is kept.
            encoder: Which of the space's encoders; its first that has the modality when left out. What several see,
                and those named in ``shares``, is mixed.
            progress: Told after every batch.

        Raises:
            InputError: as ``encoder_for``, or all who take part weigh 0.
        """
        names = self._taking_part(inputs.modality, [encoder] if isinstance(encoder, str) else encoder or [])
        made = [self._embed_by(name, inputs, folder, progress) for name in names]
        return made[0] if len(made) == 1 else self._mixed(inputs, made)

    def _taking_part(self, modality: Modality, asked: Sequence[str]) -> list[str | None]:
        """Return who embeds items: those asked for or the space's first, and those named in ``shares``; not at 0."""
        shares = self.shares.get(modality, {})
        router = self.space.routers.get(modality) if self.space and self.preset == ROUTED else None
        if router is not None and not asked and not shares:
            return [*router.weighs]
        if self.space is None or (len(asked) < 2 and not shares):
            return [*asked, None][:1]
        first = [self.space.encoder_for(modality, name).name for name in asked or (None,)]
        names = list(dict.fromkeys([*first, *shares]))
        if not (heard := [name for name in names if shares.get(name, 1.0) > 0]):
            raise InputError(f"the weights of {', '.join(names)} for {modality} sum to 0; expected one above 0")
        return [*heard]

    def _mixed(self, inputs: Inputs, made: Sequence[Embedded]) -> Embedded:
        """Mix what several encoders see of the items that all of them could embed."""
        assert self.space is not None  # noqa: S101  (a bare encoder is alone)
        row_of = [{item.id: row for row, item in enumerate(each.items)} for each in made]
        items = [item for item in made[0].items if all(item.id in rows for rows in row_of)]
        raw = [each.raw[[rows[item.id] for item in items]] for each, rows in zip(made, row_of, strict=True)]
        shares = self.shares.get(inputs.modality, {})
        vectors = self.space.mix(
            {each.encoder: rows for each, rows in zip(made, raw, strict=True)},
            modality=inputs.modality,
            weights={each.encoder: shares[each.encoder] for each in made if each.encoder in shares},
        )
        skips = {skip.id: skip for each in reversed(made) for skip in each.skips}
        notes = {name: note for each in reversed(made) for name, note in each.notes.items()}
        told = ("+".join(filter(None, (getattr(each, name) for each in made))) for name in ("encoder", "fingerprint"))
        encoder, fingerprint = told
        return Embedded(items, raw[0], vectors, encoder, list(skips.values()), fingerprint, notes)

    def _embed_by(self, name: str | None, inputs: Inputs, folder: Path | None, progress: Progress) -> Embedded:
        chosen = self.encoder_for(inputs.modality, name)
        if folder is None:
            return self._embed_once(chosen, inputs)
        path = folder / re.sub(r"[^A-Za-z0-9.-]+", "_", chosen.name)
        report = embed(chosen, inputs, path, dtype="float32", progress=progress)
        memory = Memory.open(path)
        wanted = {item.id for item in inputs.items}
        skips = [skip for skip in report.skipped if skip.id in wanted]
        if inputs.modality not in memory.modalities:
            nothing = np.zeros((0, chosen.dim), np.float32)
            return Embedded([], nothing, self.project(nothing, inputs.modality, chosen.name), chosen.name, skips)
        row_of = {name: row for row, name in enumerate(memory.ids(inputs.modality))}
        failed = {skip.id for skip in skips}
        items = [item for item in inputs.items if item.id in row_of and item.id not in failed]
        raw = np.asarray(memory.vectors(inputs.modality, [row_of[item.id] for item in items]), np.float32)
        vectors = self.project(raw, inputs.modality, chosen.name)
        notes = {row.id: row.note for row in report.noted if row.note}
        return Embedded(items, raw, vectors, chosen.name, skips, memory.fingerprint(inputs.modality), notes)

    def _embed_once(self, encoder: Encoder, inputs: Inputs) -> Embedded:
        workers = None if len(inputs.items) > 1 else 0  # a thread for one item would cost more than a short text does
        with Embedder(encoder, inputs.modality, Path(), batch_size=BATCH, workers=workers) as embedder:
            made = embedder.shard(inputs.items)
        failed = {skip.id for skip in made.skips}
        items = [item for item in inputs.items if item.id not in failed]
        notes = {row.id: row.note for row in made.noted if row.note}
        vectors = self.project(made.vectors, inputs.modality, encoder.name)
        return Embedded(items, made.vectors, vectors, encoder.name, made.skips, notes=notes)

    def texts(self, texts: Sequence[str], folder: Path, *, encoder: str | None = None) -> tuple[np.ndarray, str]:
        """Return the (N, D) raw vectors of N texts, repeated ones included, and their encoder's name.

        Raises:
            InputError: a text that cannot be embedded; prompts are no data, so none is left out.
        """
        items = {text: text_item(text, "prompt") for text in dict.fromkeys(texts)}
        found = self.embed(Inputs(Modality.TEXT, list(items.values())), folder, encoder=encoder)
        if found.skips:
            raise InputError(f"{found.encoder} cannot embed {len(found.skips)} texts: {found.skips[0].reason}")
        row_of = {item.id: row for row, item in enumerate(found.items)}
        return found.raw[[row_of[items[text].id] for text in texts]], found.encoder

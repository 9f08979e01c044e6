"""Encoders that stay loaded: a subject that many threads ask, and which knows what it cannot embed and why."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmcr.ask.shares import read_shares, with_preset
from cmcr.ask.subject import Subject
from cmcr.encoders.base import Encoder
from cmcr.errors import CmcrError, InputError
from cmcr.hooks import Progress, silent
from cmcr.items import Item
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace


class OneAtATime:
    """An encoder whose model serves one caller at a time; decoding, which is most of a slow query, is not waited for.

    Only ``prepare`` is promised to be safe in several threads.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._lock = encoder, threading.Lock()
        self.name, self.modalities = encoder.name, encoder.modalities
        self.dim, self.fingerprint = encoder.dim, encoder.fingerprint

    def prepare(self, item: Item, data: bytes) -> Any:
        """Decode one item; see ``Encoder.prepare``."""
        return self._encoder.prepare(item, data)

    def encode(self, modality: Modality, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what ``prepare`` returned, when nobody else is being served."""
        with self._lock:
            return self._encoder.encode(modality, prepared)


class ReadySubject(Subject):
    """A space, its encoders loaded: those that run here, and of the others the reason.

    >>> from cmcr import ConnectedSpace, Modality
    >>> from cmcr.serve import ReadySubject
    >>> from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    >>> same, lost = Projector(ProjectorConfig("identity", 2, 2)), SpaceEncoder("mine", "", 2, (Modality.TEXT,))
    >>> ready = ReadySubject("toy", ConnectedSpace({"mine": lost}, {"mine": same}, Modality.TEXT, "linear"))
    >>> ready.prepare()
    >>> ready.reason(Modality.TEXT)
    'mine embeds text in this space but is not an encoder that runs here (its vectors were imported)'
    """

    space: ConnectedSpace

    def __init__(self, name: str, space: ConnectedSpace, **given: Any) -> None:
        """Take a space, and what ``Subject`` takes; nothing is loaded before ``prepare``."""
        self._loading = threading.RLock()
        self._reasons: dict[tuple[Modality, str], str] = {}
        super().__init__(name, space, **given)

    def prepare(self, progress: Progress = silent) -> None:
        """Load every encoder of the space that runs here, and find out why the others do not."""
        pairs = [(name, each) for name, entry in self.space.encoders.items() for each in entry.modalities]
        for done, (name, modality) in enumerate(pairs):
            progress(done, len(pairs), name)
            try:
                self.encoder_for(modality, name)
                self._reasons[modality, name] = ""
            except CmcrError as error:
                self._reasons[modality, name] = str(error).partition("; ask with ")[0]

    def reason(self, modality: Modality, encoder: str | None = None) -> str:
        """Return why an encoder of the space, or all that have it, cannot embed a modality here; empty: it can.

        Raises:
            InputError: the space has no such encoder, or none of that modality.
        """
        if encoder is None and self.able(modality):
            return ""
        return self._reasons.get((modality, self.space.encoder_for(modality, encoder).name), "")

    def able(self, modality: Modality) -> str | None:
        """Return the space's first encoder that embeds a modality here; None: there is none."""
        named = (name for name, each in self.space.encoders.items() if modality in each.modalities)
        return next((name for name in named if not self._reasons.get((modality, name), "")), None)

    def load(self, name: str) -> Encoder:
        """Return an encoder, loaded once, whoever asks at the same time."""
        with self._loading:
            found = super().load(name)
            if not isinstance(found, OneAtATime):
                found = self._loaded[name] = OneAtATime(found)
            return found

    def weighed(self, given: Sequence[str]) -> ReadySubject:
        """Return the same with weights ``ENCODER:MODALITY=WEIGHT`` in the place of its own; the encoders are shared.

        Raises:
            InputError: as ``read_shares``.
        """
        if not given:
            return self
        known = [f"{name}:{each}" for name, entry in self.space.encoders.items() for each in entry.modalities]
        if wrong := next((each for each in given if each.rpartition("=")[0] not in known), None):
            raise InputError(f"weights: {wrong[:80]!r}; expected one of {', '.join(known)}")
        other = copy.copy(self)
        other._given = read_shares(given, self.space)
        other.shares = with_preset(other._given, self.preset, self.space)
        return other

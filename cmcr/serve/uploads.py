"""Questions that come with a file: a form is read within bounds, its file laid down under a name of ours, and asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from cmcr.errors import InputError, ItemError
from cmcr.items import Item
from cmcr.modality import Modality, of_suffix
from cmcr.printable import printable
from cmcr.serve.question import Question, Term, checked_k

FIELDS = ("file", "modality", "query_modality", "k", "weight", "up", "where")
MOST_FIELDS = 32
_LONGEST = 120


@dataclass(frozen=True)
class Form:
    """A question whose file has arrived."""

    name: str
    suffix: str
    modality: Modality
    data: bytes
    question: Question
    up: Literal["y", "z"] | None


class Uploads:
    """Reads forms; what arrives lies in a folder that is removed when the server ends."""

    def __init__(self, modalities: tuple[Modality, ...]) -> None:
        self._modalities = modalities
        self._folder = tempfile.TemporaryDirectory(prefix="cmcr-serve-")

    def close(self) -> None:
        """Remove what may be left."""
        self._folder.cleanup()

    async def form(self, request: Request) -> Form:
        """Return what a form asks.

        Raises:
            InputError: no file, or a field of another name or value.
            ItemError: a file of no modality of the space, or no cloud whose axis points up.
            HTTPException: it is no form.
        """
        async with request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=1 << 16) as form:
            return await self._read(form)

    async def _read(self, form: FormData) -> Form:
        if unknown := next((name for name in form if name not in FIELDS), None):
            raise InputError(f"field {unknown[:40]!r}; expected {', '.join(FIELDS)}")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InputError("no file; expected one in the field file")
        texts = {name: _text(form, name) for name in FIELDS[1:] if name != "weight"}
        name = printable(PurePosixPath((file.filename or "file").replace("\\", "/")).name)[-_LONGEST:] or "file"
        suffix = PurePosixPath(name).suffix.lower()
        up = texts["up"]
        if up not in (None, "y", "z"):
            raise InputError(f"up is {up[:40]!r}, expected y or z")
        modality = self._modality(texts["query_modality"], suffix)
        if up and modality is not Modality.POINT_CLOUD:
            raise ItemError(f"up is for point clouds, and {name} is {modality}; leave it out")
        weights = tuple(str(each) for each in form.getlist("weight"))
        question = Question((), texts["modality"], checked_k(_number(texts["k"] or "10")), weights, texts["where"])
        return Form(name, suffix, modality, await file.read(), question, up)  # type: ignore[arg-type]

    def _modality(self, said: str | None, suffix: str) -> Modality:
        """Return what a file is: as said, or of several modalities that share its suffix the first of the space."""
        known = [each for each in self._modalities if each.suffixes]
        if said and said not in known:
            raise InputError(f"query_modality is {said[:40]!r}, expected one of {', '.join(known)}")
        seen, fits = of_suffix(suffix), [each for each in known if suffix in each.suffixes]
        found = next((each for each in (known if said else fits) if each == (said or seen)), next(iter(fits), None))
        if found is None or (suffix and suffix not in found.suffixes):
            told = "; ".join(f"{each}: {' '.join(sorted(each.suffixes))}" for each in known)
            raise ItemError(f"file of suffix {suffix[:20]!r}{f' as {said}' if said else ''}; expected {told}")
        return found

    def ask(self, form: Form, asked: Callable[[Question], dict[str, Any]]) -> dict[str, Any]:
        """Ask with the file; it is gone afterwards."""
        with tempfile.NamedTemporaryFile(dir=self._folder.name, suffix=form.suffix) as file:
            file.write(form.data)
            file.flush()
            stem = PurePosixPath(form.name).stem
            item = Item(stem, form.modality, form.name, path=Path(file.name), up=form.up)
            return asked(replace(form.question, terms=(Term(item=item),)))


def _text(form: FormData, name: str) -> str | None:
    values = form.getlist(name)
    if len(values) > 1 or any(not isinstance(each, str) for each in values):
        raise InputError(f"field {name}: {len(values)} values or a file; expected one text")
    return str(values[0]) if values else None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InputError(f"k is {text[:40]!r}, expected a whole number")
    return int(text)

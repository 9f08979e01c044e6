"""What every ``cmcr eval`` says last, and where it keeps what belongs to a data set."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

from cmcr import console


def tell_next(*command: object, then: str = "") -> None:
    """Tell which command of ``cmcr`` is worth calling next, and what it is good for."""
    console.say(f"next: {shlex.join(map(str, ('cmcr', *command)))}{then}")


def folder_name(data: Path) -> str:
    """Return a name for what is kept of a data set, which no other has: ids of two must not meet in one memory."""
    where = data.resolve()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", where.stem).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(str(where).encode()).hexdigest()[:8]}"

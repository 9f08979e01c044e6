"""How a server listens and what it takes at most: every setting as a flag of ``cmcr serve``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cmcr.errors import InputError
from cmcr.settings import Checked, setting

TOKEN = "CMCR_TOKEN"  # noqa: S105 - the variable's name
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAST_TOKEN = 16
"""Characters of a token; a shorter one is guessed."""


@dataclass(frozen=True)
class Serving(Checked):
    """Where a server listens, who may ask, and what one request may take.

    >>> from cmcr.serve import Serving
    >>> Serving(host="0.0.0.0")
    Traceback (most recent call last):
    cmcr.errors.InputError: --host 0.0.0.0: others reach it; expected --token (or CMCR_TOKEN) of 16 characters...
    """

    host: str = setting("127.0.0.1", "Where to listen; beyond this machine only with --token.")
    port: int = setting(8321, "0: any that is free.", most=65535)
    token: str | None = setting(None, "What every request must bring; CMCR_TOKEN says it unseen by other users.")
    timeout: float = setting(30.0, "Seconds a query may take, and an upload to arrive.", positive=True)
    max_upload: int = setting(32, "MiB of a request.", positive=True, most=1024)
    threads: int = setting(4, "Queries worked on at once; and as many uploads and previews beside them.", positive=True)
    waiting: int = setting(256, "Queries that may wait for that; further ones are refused.", positive=True)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: as ``Checked``; a host beyond this machine without a token, or a token that is too short.
        """
        if self.token is None:
            object.__setattr__(self, "token", os.environ.get(TOKEN))
        super().__post_init__()
        cure = f"--token (or CMCR_TOKEN) of {LEAST_TOKEN} characters or more, such as: openssl rand -hex 16"
        if self.token is None and not self.loopback:
            raise InputError(f"--host {self.host}: others reach it; expected {cure}")
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not self.token.isascii()):
            raise InputError(f"--token has {len(self.token)} characters; expected {cure}, in ASCII")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK

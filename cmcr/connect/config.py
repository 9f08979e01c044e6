"""The recipe of a connection: a method, and every setting as a keyword, a flag and a TOML key of the same name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from cmcr.connect.methods import known_settings
from cmcr.connect.settings import top_k
from cmcr.errors import InputError, nearest
from cmcr.reading import read_toml
from cmcr.settings import Setting


class ConnectConfig:
    """How two memories are connected: a method and its settings, which are attributes; what is left out is a default.

    ``cmcr connect --help`` lists them; ``cmcr.connect.settings`` and the files of ``cmcr.connect.methods`` declare
    them. Settings of other methods are kept and not used.

    >>> from cmcr import ConnectConfig
    >>> config = ConnectConfig(method="route", route_top_k=50)
    >>> config.route_top_k, config.replace(method="c-mcr").tau
    (50, 0.01)
    """

    method: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, method: str = "c-mcr", **settings: Any) -> None:
        """Check the settings; None is the method's default.

        Raises:
            InputError: an unknown method or setting (the nearest is named), or an impossible value.
        """
        known = known_settings(method)
        for name in settings:
            if name in _RETIRED:
                raise InputError(
                    f"setting {name!r} is retired, for it helped on one set of vectors alone: leave it out"
                )
            if name not in known:
                choices = {*known, "method"}
                raise InputError(f"unknown setting {name!r}{nearest(name, choices)}; expected one of {_listed(known)}")
        given = {name: value for name, value in settings.items() if value is not None}
        vars(self).update(
            {name: each.checked(given.get(name, each.default)) for name, each in known.items()}, method=method
        )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise dataclasses.FrozenInstanceError(f"{name}: a recipe stays as it is; replace() returns another")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConnectConfig) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(sorted(vars(self).items())))

    def __repr__(self) -> str:
        return f"ConnectConfig({', '.join(f'{name}={value!r}' for name, value in self._chosen().items())})"

    @property
    def top_k(self) -> int:
        """K of ``topk:K``, 0 for the full softmax."""
        return top_k(self.pairing)

    def to_dict(self) -> dict[str, Any]:
        """Return every setting as JSON-ready values."""
        return {"method": self.method} | vars(self)

    def replace(self, **settings: Any) -> Self:
        """Return a copy with some settings changed; with another method, what was left to the method is that one's.

        Raises:
            InputError: an unknown name or an impossible value.
        """
        method = settings.get("method", self.method)
        kept = {name: value for name, value in self._chosen().items() if name in known_settings(method)}
        return type(self)(**kept | {"method": method} | settings)

    def _chosen(self) -> dict[str, Any]:
        """Return the method, and what is not its default."""
        known = known_settings(self.method)
        changed = {name: getattr(self, name) for name in known if getattr(self, name) != known[name].default}
        return {"method": self.method} | changed

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a recipe: a flat TOML file whose keys are the names above (``lambda`` for ``intra_weight``).

        Raises:
            InputError: unreadable, not TOML, an unknown key (the nearest is named) or an impossible value.
        """
        try:
            table = read_toml(Path(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; expected a TOML recipe") from error
        except ValueError as error:
            raise InputError(f"{path}: not a TOML file ({error})") from error
        try:
            names = {each.alias: name for name, each in known_settings(table.get("method", "c-mcr")).items()}
            plain = {key.replace("-", "_"): value for key, value in table.items()}
            return cls(**{names.get(key, key): value for key, value in plain.items()})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


_RETIRED = ("shrink", "route_density")  # settings of distill in earlier versions


def _listed(known: dict[str, Setting]) -> str:
    return ", ".join(sorted({"method", *(each.alias or name for name, each in known.items())}))

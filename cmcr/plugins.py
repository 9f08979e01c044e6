"""What other installed packages add: entry points of a group, each a name and the class or function behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cmcr.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes:
        name: Under which it is asked for.
        package: The installed package that announces it.
        version: Of that package.
        point: Where its class or function is.

    Example:
        >>> from importlib.metadata import EntryPoint
        >>> from cmcr.plugins import Plugin
        >>> Plugin("square-root", "some-package", "1.0", EntryPoint("square-root", "math:sqrt", "some.group")).load()(9)
        3.0
    """

    name: str
    package: str
    version: str
    point: EntryPoint

    def __str__(self) -> str:
        return f"{self.name!r} of {self.origin}"

    @property
    def origin(self) -> str:
        """The package with its version, in words."""
        return f"the package {self.package} {self.version}".rstrip()

    @property
    def summary(self) -> str:
        """What the package says of itself in a line; empty where it says nothing."""
        return " ".join(((self.point.dist.metadata["Summary"] if self.point.dist else None) or "").split())

    def load(self) -> Any:
        """Import what it names.

        Raises:
            InputError: that fails, however it does.
        """
        try:
            return self.point.load()
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{self} cannot be imported from {self.point.value} ({failure(error)}); repair that package, or "
                f"remove it: pip uninstall {self.package}"
            ) from error


class Plugins:
    """The entry points of one group, by name; read when first asked for, each imported when it is loaded.

    Example:
        >>> from cmcr.plugins import Plugins
        >>> Plugins("cmcr.nothing").names()
        ()
    """

    def __init__(self, group: str) -> None:
        self.group = group

    @cached_property
    def claims(self) -> dict[str, list[Plugin]]:
        """Who claims each name, by the alphabet.

        Raises:
            InputError: a package's list cannot be read.
        """
        from importlib.metadata import entry_points  # takes its time, which a start without plugins need not pay

        try:
            found = [_plugin(point) for point in entry_points(group=self.group)]
        except Exception as error:  # whatever a broken list of any package makes of its reader
            raise InputError(f"entry points of the installed packages cannot be read ({failure(error)})") from error
        claims: dict[str, list[Plugin]] = {}
        for plugin in sorted(found, key=lambda each: (each.name, each.package)):
            claims.setdefault(plugin.name, []).append(plugin)
        return claims

    def names(self) -> tuple[str, ...]:
        """Return the names."""
        return tuple(self.claims)

    def find(self, name: str) -> Plugin | None:
        """Return the one plugin of a name; None: there is none.

        Raises:
            InputError: several packages claim it.
        """
        claims = self.claims.get(name, [])
        if len(claims) > 1:
            packages = " and ".join(each.origin for each in claims)
            raise InputError(f"{name!r} is claimed by {packages}; remove one: pip uninstall {claims[-1].package}")
        return claims[0] if claims else None

    def load(self, name: str) -> Any:
        """Import what is offered under a name that is there.

        Raises:
            InputError: several packages claim it, or the import fails.
        """
        found = self.find(name)
        if found is None:
            raise InputError(f"{name!r}: no installed package has it in {self.group}")
        return found.load()


def failure(error: BaseException) -> str:
    """Return an error of foreign code in a few words on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _plugin(point: EntryPoint) -> Plugin:
    name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Plugin(point.name, name or "unnamed", version or "", point)

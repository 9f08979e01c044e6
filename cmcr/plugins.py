"""What other installed packages add: entry points of a group, each a name and the class or function behind it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cmcr.errors import InputError


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


def plugins(group: str) -> dict[str, list[Plugin]]:
    """Return what the installed packages announce in a group, by name; nothing of it is imported.

    Raises:
        InputError: a package's list cannot be read.
    """
    try:
        found = [_plugin(point) for point in entry_points(group=group)]
    except Exception as error:  # whatever a broken list of any package makes of its reader
        raise InputError(f"entry points of the installed packages cannot be read ({failure(error)})") from error
    by_name: dict[str, list[Plugin]] = {}
    for plugin in sorted(found, key=lambda each: (each.name, each.package)):
        by_name.setdefault(plugin.name, []).append(plugin)
    return by_name


def only(claims: list[Plugin]) -> Plugin:
    """Return the one plugin of a name.

    Raises:
        InputError: several packages claim it.
    """
    if len(claims) > 1:
        packages = " and ".join(f"{each.package} {each.version}" for each in claims)
        raise InputError(
            f"{claims[0].name!r} is claimed by {packages}; remove one of them: pip uninstall {claims[-1].package}"
        )
    return claims[0]


def failure(error: BaseException) -> str:
    """Return an error of foreign code in a few words on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _plugin(point: EntryPoint) -> Plugin:
    name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    return Plugin(point.name, name or "unnamed", version or "", point)

"""The methods of connecting by name: one file each, and those of installed packages."""

from __future__ import annotations

import functools
from dataclasses import is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmcr.connect.settings import Shared
from cmcr.errors import InputError, nearest
from cmcr.plugins import Plugin, Plugins
from cmcr.schema import shown
from cmcr.settings import Setting, settings_of

if TYPE_CHECKING:
    from cmcr.connect.methods.base import Method

BUILT_IN = {
    "c-mcr": "c_mcr:CMcr",
    "csa": "csa:Csa",
    "distill": "distill:Distill",
    "ensemble": "ensemble:Ensemble",
    "linear": "linear:Linear",
    "route": "linear:Route",
    "one-sided": "one_sided:OneSided",
    "ex-mcr": "ex_mcr:ExMcr",
    "text-anchor": "text_anchor:TextAnchor",
    "ridge": "ridge:Ridge",
    "sotalign": "sotalign:SotAlign",
    "tcl": "tcl:Tcl",
    "auto": "auto:Auto",
}
"""Name: ``module:class``. Of a setting that the chosen method lacks, the default of the first that has it is told."""
GROUP = "cmcr.methods"
"""Entry points of other packages; they are read only for a name that is not built in."""


def known_methods() -> list[str]:
    """Return every name there is, of installed packages too."""
    return sorted({*BUILT_IN, *Plugins(GROUP).names()})


def load_method(name: Any) -> Method:
    """Return a method.

    Raises:
        InputError: nobody offers the name (the nearest is named), two packages do, or the package fails to load.
    """
    if isinstance(name, str) and name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: Method = getattr(import_module(f"cmcr.connect.methods.{module}"), attribute)()
        return found
    plugin = Plugins(GROUP).find(name) if isinstance(name, str) else None
    if plugin is None:
        known = known_methods()
        raise InputError(f"method {shown(name)}; expected one of {', '.join(known)}{nearest(shown(name), known)}")
    return _of_package(plugin)


def _of_package(plugin: Plugin) -> Method:
    from cmcr.connect.methods.base import Method

    kind = plugin.load()
    if not (isinstance(kind, type) and issubclass(kind, Method) and is_dataclass(kind.Settings)):
        raise InputError(
            f"method {plugin} is {plugin.point.value}; expected a subclass of cmcr.connect.Method whose Settings are a "
            "dataclass: repair that package"
        )
    return kind()


@functools.cache
def _known(name: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for kind in (Shared, load_method(name).Settings, *(load_method(each).Settings for each in BUILT_IN)):
        for each in settings_of(kind):
            found.setdefault(each.name, each)
    return found


def known_settings(method: Any) -> dict[str, Setting]:
    """Return every setting by name: those of all methods, the method's own, and those of the other built-in ones."""
    if not isinstance(method, str):
        load_method(method)  # which says what was expected
    return _known(method)

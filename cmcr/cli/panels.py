"""What a help tells of the settings: panel by panel, named by the methods that have them, or one method's alone."""

from __future__ import annotations

from collections.abc import Iterable

from cmcr.connect.config import ConnectConfig
from cmcr.connect.methods import BUILT_IN, known_settings, load_method
from cmcr.connect.settings import Shared
from cmcr.errors import InputError
from cmcr.settings import Setting, settings_of

EVERY = "Every method"
"""The panel of what every method has."""


def method_of(recipe: str) -> str:
    """Return the method of a recipe file; what is wrong with it is said where it is used."""
    try:
        return ConnectConfig.from_toml(recipe).method
    except InputError:
        return ""


def added_by(method: str) -> list[str]:
    """Return the settings that the method of an installed package declares."""
    return [each.name for each in settings_of(load_method(method).Settings)] if method not in ("", *BUILT_IN) else []


def settings_for(method: str) -> dict[str, Setting]:
    """Return what a method has: the shared settings, its own, and those of the methods it chooses from."""
    chosen = load_method(method)
    kinds = [Shared, chosen.Settings, *(load_method(each).Settings for each in chosen.tries)]
    return {each.name: each for kind in reversed(kinds) for each in settings_of(kind)}


def by_panel() -> Iterable[tuple[str, Setting]]:
    """Return each setting of the built-in methods with the panel it is shown in, panel by panel."""
    shared, users = settings_of(Shared), dict[str, list[str]]()
    for name in BUILT_IN:
        if not load_method(name).tries:  # what chooses from others has their settings
            for each in settings_of(load_method(name).Settings):
                users.setdefault(each.name, []).append(name)
    known = known_settings("c-mcr")
    panels = {name: ", ".join(methods) for name, methods in users.items()}
    yield from ((EVERY, each) for each in shared)
    for panel in dict.fromkeys(panels.values()):
        yield from ((panel, known[name]) for name in panels if panels[name] == panel)


def default_told(setting: Setting, panel: str) -> str:
    """Tell the default, and those of the panel's built-in methods that have another."""
    others = {name: known_settings(name)[setting.name].default for name in panel.split(", ") if name in BUILT_IN}
    differ = [f"; {name}: {value}" for name, value in others.items() if value != setting.default]
    told = setting.default if setting.kind is not bool else "yes" if setting.default else "no"
    return f"{told}{''.join(differ)}"

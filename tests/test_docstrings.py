"""The examples in docstrings: every public class has one, and each runs as a reader would copy it."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import cmcr

ROOT = Path(cmcr.__file__).parent
WITH_EXAMPLES = sorted(path for path in ROOT.rglob("*.py") if ">>> " in path.read_text())


def dotted(path):
    return ".".join(("cmcr", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def public_classes():
    """Every class that a room gives under its name, and what else a module at the top defines that is no error."""
    found = {}
    for name in ("cmcr", *(f"cmcr.{each.name}" for each in pkgutil.iter_modules(cmcr.__path__))):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            if inspect.isclass(each := getattr(module, public)):
                found[f"{name}.{public}"] = each
        for each in vars(module).values():
            own = inspect.isclass(each) and each.__module__ == name and not each.__name__.startswith("_")
            if own and not issubclass(each, Exception):
                found[f"{name}.{each.__name__}"] = each
    return found


def test_every_public_class_has_an_example():
    classes = public_classes()
    assert {"cmcr.CmcrError", "cmcr.ask.Hit", "cmcr.encoders.Encoder", "cmcr.settings.Setting"} <= classes.keys()
    assert not [name for name, each in classes.items() if ">>> " not in (each.__doc__ or "")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=dotted)
def test_the_examples_run(path, tmp_path, monkeypatch):
    """In an empty folder, and without the names of their module: what an example uses, it imports."""
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    done = doctest.testmod(importlib.import_module(dotted(path)), globs={}, optionflags=options)
    assert done.attempted and not done.failed

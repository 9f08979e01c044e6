"""Methods: their settings, flags and help, and those of other packages; the one of docs/extending.md is run."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import packages
import pytest
import torch
from worlds import two_memories, write

from cmcr import ConnectConfig, Memory
from cmcr.cli import main
from cmcr.connect.methods import BUILT_IN, known_methods, known_settings, load_method
from cmcr.connect.pairs import Pairs
from cmcr.connect.train import fit
from cmcr.errors import InputError
from cmcr.space.bridges import identity

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text().split("## A method")[1].split("\n## ")[0]
GOOD = """
from dataclasses import dataclass
from cmcr.connect import Method
from cmcr.settings import setting
@dataclass(frozen=True)
class Settings:
    rank: int = setting(3, "Directions kept.", positive=True, most=9)
    tau: float = setting(0.7, "A temperature.", below=1)
class Mine(Method):
    Settings = Settings
"""


def announce(folder, package, module, code, points):
    """Install a package of one module that announces these entry points."""
    packages.install(folder, package, {"cmcr.methods": points}, **{module: code})


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    known_settings.__globals__["_known"].cache_clear()
    yield tmp_path / "site"
    known_settings.__globals__["_known"].cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugged")]:
        del sys.modules[name]


def help_of(capsys, *arguments):
    assert main(["connect", *arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_the_method_of_the_page_works_as_a_package_of_its_own(tmp_path):
    program, announced = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("python", "toml"))
    points = tomllib.loads(announced)["project"]["entry-points"]["cmcr.methods"]
    assert len(program.splitlines()) <= 42
    announce(tmp_path / "site", "anchored", "anchored", program, points)
    a, b, _ = two_memories(tmp_path / "mem")
    held = Memory.open(b)
    c = write(tmp_path / "mem" / "c", "enc-c", {m: (held.vectors(m), list(held.metadata(m))) for m in held.modalities})
    (tmp_path / "recipe.toml").write_text('method = "anchored"\nsharpness = 9\n')
    script = f"""
import sys
from cmcr.cli import main
assert main(["connect", "--method", "anchored", "--help"]) == 0 and "torch" not in sys.modules
assert main(["connect", {str(a)!r}, {str(b)!r}, "-o", "s", "--method", "anchored", "--epochs", "8", "--sharpness", "10"]) == 0
assert main(["connect", {str(a)!r}, {str(b)!r}, "-o", "t", "--config", "recipe.toml", "--epochs", "8", "--sharpness=10"]) == 0
from cmcr import ConnectedSpace, Memory, Modality
space = ConnectedSpace.from_pretrained("s")
assert space.recipe["sharpness"] == 10 and space.metrics["overlap_r1"] > 5 * space.metrics["overlap_r1_chance"]
first = Memory.open({str(a)!r})
x = first.vectors(Modality.IMAGE)
assert abs(space.project(x, encoder="enc-a", modality="image") - x).max() < 1e-6
assert main(["connect", {str(a)!r}, {str(b)!r}, {str(c)!r}, "-o", "u", "--method", "anchored", "--epochs", "2"]) == 0
three = ConnectedSpace.from_pretrained("u")
assert three.base == "enc-a" and list(three.encoders) == ["enc-a", "enc-b", "enc-c"]
assert abs(three.project(x, encoder="enc-a", modality="image") - x).max() < 1e-6
assert three.metrics["enc-c.overlap_r1"] > three.metrics["enc-c.overlap_r1_chance"]
"""  # noqa: E501
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split("measure (held-out")[0]
    assert "How sharply the loss tells rows apart. (default: 20.0)" in shown and "--epochs" in shown
    assert "--route-tau" not in shown and "--lambda" not in shown
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in "st"]
    assert models[0] == models[1]


def test_settings_of_a_package_are_checked_told_and_left_behind_with_it(site, capsys):
    announce(site, "mine", "plugged", GOOD, {"mine": "plugged:Mine"})
    config = ConnectConfig(method="mine", rank=4)
    assert (config.rank, config.tau, config.lr) == (4, 0.7, 1e-3)
    assert config.to_dict()["rank"] == 4 and "rank" not in ConnectConfig().to_dict()
    assert config.replace(method="c-mcr") == ConnectConfig()
    for settings, message in (
        ({"rank": 10}, "rank 10; expected at most 9"),
        ({"tau": 1}, "tau 1; expected a number be"),
    ):
        with pytest.raises(InputError, match=message):
            config.replace(**settings)
    with pytest.raises(InputError, match="unknown setting 'rank'"):
        ConnectConfig(rank=4)
    assert "mine" in known_methods()
    assert main(["connect", "a", "b", "-o", "s", "--rank", "4"]) == 2
    capsys.readouterr()
    assert main(["connect", "a", "b", "-o", "s", "--method", "mine", "--rank", "10"]) == 1
    assert "rank 10; expected at most 9" in capsys.readouterr().err


def test_a_method_that_says_it_is_one_sided_and_moves_the_base_is_refused(site, tmp_path, capsys):
    moved = """
from cmcr.connect.methods.linear import Linear
class Mine(Linear):
    def fit(self, validation, folder, progress, log):
        from cmcr.connect import measured, new_projectors
        dims = [each.shape[1] for each in (validation.pairs.overlap_a, validation.pairs.overlap_b)]
        maps = new_projectors(validation.config.replace(dim=dims[0]), *dims)
        return measured(validation, maps, {}, log)
"""
    announce(site, "mine", "plugged", moved, {"mine": "plugged:Mine"})
    a, b, _ = two_memories(tmp_path / "mem", texts=60, outer=20)
    command = ["connect", str(a), str(b), "-o", str(tmp_path / "s"), "--method", "mine", "--freeze-base"]
    assert main(command) == 1
    assert "mine is said to be one-sided, and moved enc-a" in capsys.readouterr().err
    assert not (tmp_path / "s" / "config.json").exists()


FAILING = {
    "raises at import": ("1 / 0", r"cannot be imported from plugged:Mine \(ZeroDivisionError: division by zero\)"),
    "lacks a library": ("import no_such_library", "No module named 'no_such_library'"),
    "is no method": ("class Mine: pass", "expected a subclass of cmcr.connect.Method whose Settings are a dataclass"),
    "has no dataclass": (GOOD.replace("= Settings\n", "= dict\n"), "whose Settings are a dataclass"),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_package_that_fails_is_named_in_one_line(site, what, capsys):
    code, said = FAILING[what]
    announce(site, "mine", "plugged", code, {"mine": "plugged:Mine"})
    with pytest.raises(InputError, match=f"'mine' of the package mine 1.0 .*{said}"):
        ConnectConfig(method="mine")
    assert main(["connect", "a", "b", "-o", "s", "--method", "mine"]) == 1
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1 and shown[0].startswith("error: ")


def test_a_name_that_two_packages_claim_is_refused_and_a_built_in_one_is_ours(site):
    announce(site, "north", "plugged_n", "1 / 0", {"mine": "plugged_n:Mine", "route": "plugged_n:Mine"})
    announce(site, "south", "plugged_s", "1 / 0", {"mine": "plugged_s:Mine"})
    with pytest.raises(InputError, match=r"'mine' is claimed by the package north 1.0 and the package south 1.0"):
        load_method("mine")
    assert ConnectConfig(method="route").method == "route"


def test_a_built_in_name_reads_no_list_of_packages(monkeypatch):
    def read(**settings):
        raise AssertionError("read")

    monkeypatch.setattr("importlib.metadata.entry_points", read)
    for name in BUILT_IN:
        assert ConnectConfig(method=name).method == name


@pytest.mark.parametrize("name", [3, ["c-mcr"], None])
def test_a_method_that_is_no_text_is_refused(name):
    with pytest.raises(InputError, match="expected one of auto, c-mcr"):
        ConnectConfig(method=name)


def test_the_help_groups_flags_by_method_and_shows_the_chosen_ones_alone(capsys, monkeypatch):
    monkeypatch.setattr("rich.console.Console.width", 200, raising=False)
    whole = help_of(capsys)
    panels = re.findall(r"╭─ ([^─╮]+) ─", whole)
    expected = {
        "Every method",
        "c-mcr, distill, ensemble, one-sided",
        "c-mcr",
        "ensemble",
        "linear",
        "linear, route, text-anchor",
    }
    assert expected <= set(panels)
    alone = help_of(capsys, "--method", "route")
    assert all(flag in alone for flag in ("--seed", "--route-tau", "--center"))
    assert not any(flag in alone for flag in ("--epochs", "--directions", "--ridge", "--lambda"))
    chosen = help_of(capsys, "--method=auto")
    assert all(flag in chosen for flag in ("--epochs", "--directions", "--route-tau"))
    assert help_of(capsys) == whole  # what one call hides, the next one shows


def test_an_unknown_method_is_a_usage_error(capsys):
    assert main(["connect", "a", "b", "-o", "s", "--method", "rout"]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "'rout' is not one of auto, c-mcr, csa, distill, ensemble, ex-mcr, linear, one-sided, ridge, route" in said


def test_settings_of_another_method_are_kept_and_not_used():
    config = ConnectConfig(method="route", epochs=3)
    assert config.replace(method="c-mcr").epochs == 3
    with pytest.raises(AttributeError, match="stays as it is"):
        config.epochs = 4
    assert repr(config) == "ConnectConfig(method='route', epochs=3)" and hash(config) == hash(config.replace())


def unit(rows, dim, seed):
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


class Kept:
    """An objective that is none of ours by name: one map frozen, and a say on which epoch is kept."""

    def __init__(self, last):
        self.keeps_last, self.pairs = last, Pairs(unit(40, 4, 0).numpy(), unit(40, 4, 1).numpy())

    def maps(self):
        from cmcr.connect import new_projectors

        return identity(4, {}), new_projectors(ConnectConfig(projector="linear"), 4, 4)[1]

    def batch(self, rows, generator):
        return self.pairs.take(rows), generator.random()

    def loss(self, maps, batch, noise, ranks):
        rows, drawn = batch
        return (maps[0](rows.overlap_a) - maps[1](rows.overlap_b)).square().mean() * (1 + drawn)


@pytest.mark.parametrize(("last", "epoch"), [(True, 3), (False, 1)])
def test_the_objective_says_which_epoch_is_kept_and_draws_from_the_recipes_seed(last, epoch):
    config = ConnectConfig(epochs=3, batch_size=20)

    def weights(config):
        scores = iter([0.9, 0.2, 0.1])
        maps, state = fit(Kept(last), np.arange(40), config, lambda *maps: {"selection": next(scores)})
        assert state.best_epoch == epoch and not list(maps[0].parameters())
        return [weight.tolist() for weight in maps[1].parameters()]

    assert weights(config) == weights(config) != weights(config.replace(seed=1))


def test_the_loop_names_no_method():
    text = (ROOT / "cmcr" / "connect" / "train.py").read_text()
    assert not any(f'"{name}"' in text or f"``{name}``" in text for name in BUILT_IN)

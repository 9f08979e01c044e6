"""What other packages add: the examples of docs/extending.md installed and run, and packages that are wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packages import install, install_section

from cmcr import modality
from cmcr.errors import InputError
from cmcr.modality import Modality, of_suffix
from cmcr.plugins import Plugins

ROOT = Path(__file__).parent.parent

DEPTH = """
import sys
import numpy as np
from cmcr.modality import Modality, of_column, of_suffix
assert list(Modality)[4:] == ["depth"] and "cmcr_depth" not in sys.modules, "listed, and not imported"
depth = Modality("depth")
assert depth.folder == "depth" and of_suffix(".png") is Modality.IMAGE and "cmcr_depth" not in sys.modules
assert of_suffix(".PFM") is depth and of_column("depth_path") is depth and "cmcr_depth" in sys.modules
from cmcr.cli import main
from cmcr.items import read_items
from cmcr.memory import Memory
from cmcr.report import Previews
rows = np.arange(6, dtype="<f4").reshape(2, 3)
for name in ("a", "b"):
    open(f"{name}.pfm", "wb").write(b"Pf\\n3 2\\n-1.0\\n" + rows.tobytes()[: 24 if name == "a" else 9])
good, cut = (Previews().of_item(item) for item in read_items(".", None, [depth, Modality.TEXT]).items)
assert good.kind == "image" and good.uri.startswith("data:image/jpeg"), good
assert cut.note == "not a depth map in PFM (b'Pf', 9 bytes for 3 x 2)", cut
np.save("v.npy", np.eye(2))
open("ids", "w").write("a\\nb\\n")
open("paths", "w").write("a.pfm\\nb.pfm\\n")
arguments = "--from-vectors v.npy --ids ids --sources paths --modality depth --encoder-name x -o m"
assert main(["embed", *arguments.split()]) == 0
memory = Memory.open("m")
assert [Previews().of_row(memory, depth, row).kind for row in memory.metadata(depth)] == ["image", "none"]
main(["index", "--help"])
"""


def test_a_modality_in_a_package_of_one_file(tmp_path):
    package = install_section(tmp_path / "site", "A modality")
    (tmp_path / "work").mkdir()
    surroundings = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{package}", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", DEPTH], cwd=tmp_path / "work", env=surroundings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "<image|text|audio|point_cloud|depth|NAME>" in done.stdout


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(modality, "PLUGINS", Plugins("cmcr.modalities"))
    of_suffix.cache_clear()
    yield tmp_path
    of_suffix.cache_clear()


def test_a_package_that_cannot_be_imported_is_named_where_it_is_needed(site):
    install(site, "bad-smell", {"cmcr.modalities": {"smell": "bad_smell"}}, bad_smell="raise OSError('no\\nnose')")
    assert list(Modality)[4:] == ["smell"] and of_suffix(".png") is Modality.IMAGE
    message = r"'smell' of the package bad-smell 1.0 cannot be imported from bad_smell \(OSError: no nose\); repair"
    for ask in (lambda: Modality("smell").suffixes, lambda: of_suffix(".smell")):
        with pytest.raises(InputError, match=message):
            ask()


def test_two_packages_of_one_name_are_both_named(site):
    for number in (1, 2):
        install(site, f"smell-{number}", {"cmcr.modalities": {"smell": f"smell_{number}"}})
    with pytest.raises(
        InputError, match=r"'smell' is claimed by the package smell-1 1.0 and the package smell-2 1.0; remove one"
    ):
        _ = Modality("smell").suffixes


def test_a_package_that_registers_nothing_is_told_how(site):
    install(site, "no-smell", {"cmcr.modalities": {"smell": "no_smell", "../x": "no_smell"}}, no_smell="")
    assert list(Modality)[4:] == ["smell"]
    with pytest.raises(InputError, match=r"registers no modality of that name; call register_modality\('smell'"):
        _ = Modality("smell").suffixes

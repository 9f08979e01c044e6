"""What loading cmcr may load."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cmcr

HEAVY = ("torch", "numpy", "PIL", "soundfile", "faiss", "safetensors", "jinja2")


def loaded_by(code):
    script = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    "code",
    [
        "import cmcr",
        "import cmcr.cli",
        "from cmcr.cli import main; main(['--help'])",
        "from cmcr.cli import main; main(['connect', '--help'])",
        "from cmcr.cli import main; main(['connect', 'a'])",
        "from cmcr.cli import main; main(['--version'])",
    ],
)
def test_help_and_usage_errors_load_no_heavy_library(code):
    assert loaded_by(code) == []


# open_clip: its models; its tokenizer, which ULIP shares; its templates. av: reading, and the tiny world's own clips.
LIBRARIES = {
    "open_clip": {"open_clip.py", "bpe.py", "classes.py"},
    "laion_clap": {"laion_clap.py"},
    "faiss": {"faiss.py"},
    "av": {"containers.py", "sounds.py", "clips.py", "opus.py"},
}


def test_an_encoder_loads_no_other_librarys_code():
    heavy = ("open_clip", "transformers", "laion_clap", "clap_module", "timm", "trimesh", "av", "faiss")
    script = (
        "import sys; from cmcr import load_encoder; load_encoder('tiny-clip')\n"
        f"import cmcr.encoders.ulip, cmcr.encoders.hf_clap, cmcr.encoders.laion_clap, cmcr.encoders.open_clip\n"
        f"print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_model_library_is_imported_where_it_belongs(library):
    importing = re.compile(rf"^\s*(import {library}\b|from {library}\b)", re.MULTILINE)
    files = {
        path.name for path in Path(cmcr.__file__).parent.rglob("*.py") if importing.search(path.read_text("utf-8"))
    }
    assert files <= LIBRARIES[library]


def test_public_names_are_lazy_and_complete():
    import cmcr

    for name in cmcr.__all__:
        assert getattr(cmcr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cmcr.nothing  # noqa: B018


def test_module_and_script_run():
    done = subprocess.run([sys.executable, "-m", "cmcr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"cmcr {__import__('cmcr').__version__}\n"


def test_ctrl_c_exits_130_with_one_line(tmp_path):
    script = (
        "import sys, cmcr.cli, cmcr.cli.embed as embed, cmcr.items.read\n"
        "def stopped(*args, **settings): raise KeyboardInterrupt\n"
        "cmcr.items.read.read_items = stopped\n"
        f"sys.exit(cmcr.cli.main(['embed', '.', '--encoder', 'tiny-clip', '-o', {str(tmp_path / 'mem')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.strip().splitlines()[-1].startswith("error: interrupted; what was written is whole")
    assert "Traceback" not in done.stderr


def test_the_script_lets_waiting_threads_sleep_unless_told_otherwise():
    code = "import cmcr.__main__, os; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        environment |= {"OMP_WAIT_POLICY": given} if given else {}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == expected

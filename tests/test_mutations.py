"""Damaged copies of everything that is read: each is read, or refused by an error of ours, in bounded time and memory.

The examples and the ways of damaging them are in ``mutations.py``, which also runs by hand, with any seed and number.
"""

import subprocess
import sys
from pathlib import Path

import pytest

MUTANTS = 300


@pytest.mark.slow
def test_no_damage_is_a_traceback(tmp_path):
    script = Path(__file__).with_name("mutations.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, "0", str(MUTANTS)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1000,
    )
    faults = [part.partition("\nmutant ")[0] for part in done.stdout.split("FAULT ")[1:]]
    assert not faults, "\n".join(faults)
    # A process that was killed, for memory or by a library, stands at the mutant that did it.
    assert done.stdout.endswith("done\n"), (done.returncode, done.stdout[-300:], done.stderr[-2000:])
    assert done.stdout.count("mutant ") == MUTANTS

"""``python -m cmcr`` and the ``cmcr`` script."""

from __future__ import annotations

import os
import sys

from cmcr import process

# Before anything loads OpenMP: threads that spin while they wait make small steps up to a hundred times slower on a
# machine that has other work, and gain next to nothing on one that has not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run() -> None:
    """Run the command line and exit with its code."""
    process.take_interrupts()
    process.mend_streams()
    process.search_later()
    from cmcr.cli import main  # not before Ctrl-C is taken care of: it loads much

    process.begin()
    code = main()
    process.end()
    sys.exit(code)


if __name__ == "__main__":
    run()

"""``python -m cmcr`` and the ``cmcr`` script."""

from __future__ import annotations

import os
import sys

# Before anything loads OpenMP: threads that spin while they wait make small steps up to a hundred times slower on a
# machine that has other work, and gain next to nothing on one that has not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from cmcr.cli import main


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    run()

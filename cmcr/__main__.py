"""``python -m cmcr`` and the ``cmcr`` script."""

from __future__ import annotations

import sys

from cmcr.cli import main


def run() -> None:
    """Run the command line and exit with its code."""
    sys.exit(main())


if __name__ == "__main__":
    run()

"""What does the command line cost before it begins? Seconds of processor time beside those of ``python -c pass``.

    python benchmarks/startup.py --rounds 20

The lines are run in turn, so that a busy machine slows all of them; each states its median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

CMCR = ["-m", "cmcr"]
LINES = {
    "python -c pass": ["-c", "pass"],
    "cmcr --help": [*CMCR, "--help"],
    "cmcr conect (no such command)": [*CMCR, "conect"],
    "cmcr --nothing (no such option)": [*CMCR, "--nothing"],
    "cmcr eval --help": [*CMCR, "eval", "--help"],
    "cmcr info --nothing": [*CMCR, "info", "--nothing"],
    "cmcr connect (arguments missing)": [*CMCR, "connect"],
    "cmcr connect --help": [*CMCR, "connect", "--help"],
    "cmcr --version": [*CMCR, "--version"],
}


def processor_seconds(arguments: list[str]) -> float:
    """Return the time that a run of Python spends on the processor, of its own and of the system's."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    spent: dict[str, list[float]] = {line: [] for line in LINES}
    for _ in range(rounds + 1):  # the first one writes bytecode
        for line, arguments in LINES.items():
            spent[line].append(processor_seconds(arguments))
    least = statistics.median(spent["python -c pass"][1:])
    print("| line | seconds | more than python -c pass |\n|---|--:|--:|")
    for line, seconds in spent.items():
        median = statistics.median(seconds[1:])
        print(f"| {line} | {median:.2f} | {median - least:.2f} |")


if __name__ == "__main__":
    main()

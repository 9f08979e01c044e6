"""Run ``embed`` over and over, each time dying at the next write: started by test_embed.py in a process of its own.

Arguments: the folder of photos, the folder for memories, and in how many parts each run embeds, one after another (0:
as a run alone). Prints how many instants of death were tried.
"""

import os
import sys
from pathlib import Path

from conftest import FakeEncoder

from cmcr.embed import Part, embed
from cmcr.items import read_items


def die_at(instant):
    """End the process at the ``instant``-th step of writing: no clean-up, no flush, as by SIGKILL."""
    steps = 0

    def stepping(function):
        def wrapped(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == instant:
                os._exit(9)
            return function(*args, **kwargs)

        return wrapped

    for name in ("fsync", "unlink", "rmdir"):
        setattr(os, name, stepping(getattr(os, name)))
    for name in ("replace", "unlink", "mkdir"):
        setattr(Path, name, stepping(getattr(Path, name)))


def run(photos, memory, parts):
    inputs = read_items(photos, None, FakeEncoder().modalities)
    for rank in reversed(range(parts)):
        embed(FakeEncoder(), inputs, memory, batch_size=2, shard_size=2, workers=2, part=Part(rank, parts))
    if not parts:
        embed(FakeEncoder(), inputs, memory, batch_size=2, shard_size=3, workers=2)


def main(photos, memories, parts="0"):
    instant, code = 0, 9
    while code == 9:
        instant += 1
        child = os.fork()
        if child == 0:
            die_at(instant)
            run(photos, f"{memories}/{instant:03d}", int(parts))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), code
        if os.fork() == 0:
            run(photos, f"{memories}/{instant:03d}", int(parts))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    sys.stdout.write(f"{instant}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

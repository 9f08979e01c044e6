"""Remove, compact and update over and over, each time dying at the next write: started by test_rows.py.

Arguments: a folder of six photos, and a folder to work in. After each death the memory must open with the rows from
before or after, and the same command must end with those from after. Prints how many instants of death were tried.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from conftest import FakeEncoder
from killed_embed import die_at

from cmcr.embed import compact, embed, remove_rows
from cmcr.items import read_items
from cmcr.memory import Memory


def embedded(photos, memory, **options):
    inputs = read_items(photos, None, FakeEncoder().modalities)
    embed(FakeEncoder(), inputs, memory, batch_size=2, shard_size=3, workers=2, **options)


def seen(memory):
    """Return what a reader finds: ids with their content and vector."""
    opened = Memory.open(memory)
    return [
        (row.id, row.hash, vector.tobytes())
        for each in opened.modalities
        for row, vector in zip(opened.metadata(each), opened.vectors(each), strict=True)
    ]


def check(found, before, after, whole):
    """Rows are those from before or after; where a command has several shards to commit, each row is one of the two."""
    if whole:
        assert found in (before, after)
    ids = [row[0] for row in found]
    assert len(set(ids)) == len(ids) and set(found) <= {*before, *after}
    assert {row[0] for row in before} & {row[0] for row in after} <= set(ids)


def tried(command, start, memory, whole=True):
    """Let ``command`` die at each of its steps; return how many there are."""
    shutil.copytree(start, memory)
    command(memory)
    before, after = seen(start), seen(memory)
    instant, code = 0, 9
    while code == 9:
        instant += 1
        shutil.rmtree(memory)
        shutil.copytree(start, memory)
        child = os.fork()
        if child == 0:
            die_at(instant)
            command(memory)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), code
        check(seen(memory), before, after, whole)
        if os.fork() == 0:
            command(memory)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, instant
        assert seen(memory) == after, instant
        problems = Memory.open(memory).verify()
        assert not problems, (instant, problems)
    shutil.rmtree(memory)
    return instant


def main(photos, folder):
    start, memory = Path(folder, "start"), Path(folder, "memory")
    embedded(photos, start)
    counts = {"remove": tried(lambda path: remove_rows(path, ["000", "004"]), start, memory)}
    remove_rows(start, ["000", "003", "004", "005"])
    counts["compact"] = tried(compact, start, memory)
    for name in ("001", "002"):
        shutil.copy(Path(photos, "000.png"), Path(photos, f"{name}.png"))
    Path(photos, "000.png").unlink()
    counts["update"] = tried(lambda path: embedded(photos, path, update=True), start, memory, whole=False)
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(*sys.argv[1:])

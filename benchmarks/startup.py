"""What does the command line cost before it begins, and where does a first question's time go? Processor seconds.

    python benchmarks/startup.py --rounds 10

The lines are run in turn, so that a busy machine slows all of them; each states its median. Into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
CMCR = ["-m", "cmcr"]
LINES = {
    "`python -c pass`": ["-c", "pass"],
    "`cmcr --help`": [*CMCR, "--help"],
    "`cmcr --version`": [*CMCR, "--version"],
    "`cmcr conect` (no such command)": [*CMCR, "conect"],
    "`cmcr connect` (arguments missing)": [*CMCR, "connect"],
    "`cmcr connect --help`": [*CMCR, "connect", "--help"],
    "`cmcr eval --help`": [*CMCR, "eval", "--help"],
    "`cmcr info --nothing` (no such option)": [*CMCR, "info", "--nothing"],
    "`cmcr info` on the large memory": [*CMCR, "info", "big"],
    "`python -c 'import torch'`": ["-c", "import torch"],
    "`cmcr retrieve`, a row": [
        *CMCR,
        "retrieve",
        "space",
        "sounds:audio#00000",
        "--in",
        "images",
        "--modality",
        "image",
    ],
    "`cmcr retrieve`, a text": [*CMCR, "retrieve", "space", "two red drums", "--in", "images", "--modality", "image"],
}


class Parts:
    """Processor seconds between one mark and the next."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._last = time.process_time()

    def mark(self, name: str) -> None:
        """Name what was done since the last mark."""
        now = time.process_time()
        self.spent[name] = now - self._last
        self._last = now


def first_question(query: str) -> dict[str, float]:
    """Ask once and again, as ``cmcr retrieve`` does, in a process that has loaded nothing yet."""
    from cmcr import process

    process.search_later()
    parts = Parts()
    import cmcr.cli
    import cmcr.cli.retrieve  # noqa: F401

    parts.mark("imports: the command line")
    import torch  # noqa: F401

    parts.mark("imports: torch")
    from cmcr.ask import Subject, ask, open_index
    from cmcr.ask.retrieve import facts_of, retrieve
    from cmcr.memory import Memory
    from cmcr.modality import Modality
    from cmcr.space import ConnectedSpace

    parts.mark("imports: the rest of cmcr")
    space = ConnectedSpace.from_pretrained("space")
    parts.mark("opening the space")
    memory = Memory.open("images")
    memory.check_content(Modality.IMAGE)
    index = open_index(space, memory, Modality.IMAGE, "exact", "space")
    parts.mark("opening and checking the memory")
    subject = Subject("space", space)
    asked = ask(subject, query)
    parts.mark("encoding and projecting the question")
    retrieve(space, [asked], memory, Modality.IMAGE, 10, index)
    facts_of(space, memory, Modality.IMAGE, "exact", index)
    parts.mark("search")
    ask(subject, query)
    parts.mark("encoding a second one")
    retrieve(space, [asked], memory, Modality.IMAGE, 10, index)
    parts.mark("its search")
    return parts.spent


def looking() -> dict[str, float]:
    """Look into the large memory, and open a space of the paper's size, in a process that has loaded nothing yet."""
    parts = Parts()
    from cmcr.memory import Memory
    from cmcr.space.describe import described, in_words

    parts.mark("imports for `cmcr info`")
    [in_words(value) for value in described(Memory.open("big")).values()]
    parts.mark("`cmcr info`: opening and counting the large memory")
    from cmcr.space import ConnectedSpace

    parts.mark("imports for a space")
    ConnectedSpace.from_pretrained("paper")
    parts.mark("opening a space of two heads 512-1,024-512")
    return parts.spent


def spent(arguments: list[str], folder: Path) -> tuple[float, str]:
    """Return the processor seconds that a run of Python takes, of its own and of the system's, and what it prints."""
    # As in an installed package, whose bytecode lies beside it; it is written by the first run.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(README.parent.parent)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def prepare(folder: Path, rows: int) -> None:
    """Write what is asked: memories of the tiny world, their space, one of the paper's size, and a large memory."""
    from big import make_big_memory

    from cmcr import ConnectedSpace, Modality
    from cmcr.space import Projector, ProjectorConfig, SpaceEncoder
    from cmcr.tiny import world

    scenes = world.train_scenes(400, 0)
    world.write_images(folder / "pngs", scenes, 0)
    world.write_sounds(folder / "wavs", scenes, 0)
    world.write_captions(folder / "texts.txt", world.train_scenes(2000, 1), 1)
    for source, encoder, memory in (
        ("pngs", "tiny-clip", "images"),
        ("texts.txt", "tiny-clip", "images"),
        ("wavs", "tiny-clap", "sounds"),
        ("texts.txt", "tiny-clap", "sounds"),
    ):
        spent([*CMCR, "embed", source, "--encoder", encoder, "-o", memory], folder)
    spent([*CMCR, "connect", "images", "sounds", "-o", "space", "--method", "linear"], folder)
    head = ProjectorConfig("mlp", 512, 512, hidden=1024)
    sides = {"a": (Modality.TEXT, Modality.IMAGE), "b": (Modality.TEXT, Modality.AUDIO)}
    encoders = {name: SpaceEncoder(name, "", 512, modalities) for name, modalities in sides.items()}
    ConnectedSpace(encoders, {name: Projector(head) for name in sides}, Modality.TEXT, "c-mcr").save(folder / "paper")
    make_big_memory(folder / "big", rows, 512)


def medians(rounds: int, run: Callable[[str], dict[str, float]], names: list[str]) -> dict[str, dict[str, float]]:
    """Return by name and part the median of rounds in turn, the first of which does not count."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name in names:
            found[name].append(run(name))
    return {
        name: {part: statistics.median(each[part] for each in all_[1:]) for part in all_[0]}
        for name, all_ in found.items()
    }


def table(heads: list[str], lines: list[list[Any]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    rule = "|---|" + "--:|" * (len(heads) - 1)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(map(str, line))} |" for line in lines)])


def main() -> None:
    """Measure all of it and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large memory; takes about 1 kB each")
    parser.add_argument("--folder", type=Path, help="where to write it (default: the system's temporary folder)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        print(json.dumps(first_question(given.part) if given.part else looking()))
        return
    from quality import replace

    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        prepare(folder, given.rows)
        whole = medians(given.rounds, lambda line: {"s": spent(LINES[line], folder)[0]}, list(LINES))
        me = str(Path(__file__).resolve())
        parts = medians(
            given.rounds,
            lambda query: dict(json.loads(spent([me, "--part", query], folder)[1])),
            ["sounds:audio#00000", "two red drums", ""],
        )
    row, text, look = parts.values()
    least = whole["`python -c pass`"]["s"]
    lines = [[line, f"{each['s']:.2f} s", f"{each['s'] / least:.1f}"] for line, each in whole.items()]
    asked = [[part, f"{1e3 * row[part]:.1f} ms", f"{1e3 * text[part]:.1f} ms"] for part in row]
    looked = [[part, f"{1e3 * each:.1f} ms"] for part, each in look.items()]
    about = (
        f"`python benchmarks/startup.py`: median of {given.rounds} rounds in turn, seconds of the processor, bytecode "
        f"written; Python {platform.python_version()}. The large memory holds {given.rows:,} rows of 512 components; "
        "the space asked is of the tiny world, 400 images. FAISS is loaded where an index is opened, an encoder where "
        "a text or a file is asked, torch where a space is opened, for its heads are torch modules."
    )
    tables = [table(["line", "takes", "times `python -c pass`"], lines)]
    tables += [table(["first question, by part", "a row", "a text"], asked), table(["by part", "takes"], looked)]
    replace(README, "startup", "\n\n".join(["## Starting", about, *tables]))


if __name__ == "__main__":
    main()

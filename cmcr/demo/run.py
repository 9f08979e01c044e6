"""The whole job on the tiny world: what ``cmcr demo`` writes, which commands it runs, and the page it ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmcr.ask import ask, show_hit, show_query
from cmcr.ask.retrieve import retrieve
from cmcr.connect import ConnectConfig, new_projectors
from cmcr.errors import InputError
from cmcr.files import write_text
from cmcr.memory import MediaRoots, Memory
from cmcr.modality import Modality
from cmcr.report import (
    Answer,
    Card,
    Previews,
    Section,
    beside,
    gallery,
    heat_maps,
    line_chart,
    readable_name,
    results_table,
)
from cmcr.report.page import page
from cmcr.space import ConnectedSpace
from cmcr.tiny import world
from cmcr.tiny.folders import read_scenes, write_paired, write_unpaired

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
SIZES = {"texts": 5000, "images": 2000, "sounds": 1500, "clouds": 1500}
METHODS = ("ensemble", "c-mcr", "route", "linear")
STAR = ("one-sided", "route", "linear")
"""Methods of three encoders in one space, into which the base enters as it is."""
SHOWN = 4


@dataclass(frozen=True)
class Pair:
    """One of the connections of the demo: what it joins and what it answers that nobody trained.

    >>> from cmcr.demo import PAIRS
    >>> PAIRS[0].space, PAIRS[0].memories, PAIRS[0].headline
    ('audio-visual', ('clip', 'clap'), 'A sound finds pictures')

    Attributes:
        space: The folder's name.
        memories: What is connected; of three, the first is the base, which stays as it is.
        query: Which memory and modality asks.
        gallery: Which is searched.
        headline: Of the page's section.
        methods: How it is connected; the first one's answers are shown.
    """

    space: str
    memories: tuple[str, ...]
    query: tuple[str, Modality]
    gallery: tuple[str, Modality]
    headline: str
    methods: tuple[str, ...] = METHODS


PAIRS = (
    Pair("audio-visual", ("clip", "clap"), ("test-clap", AUDIO), ("test-clip", IMAGE), "A sound finds pictures"),
    Pair("3d-language", ("clip", "ulip"), ("test-clip", TEXT), ("test-ulip", CLOUD), "A sentence finds shapes"),
    Pair("all", ("clip", "clap", "ulip"), ("test-clap", AUDIO), ("test-ulip", CLOUD), "A sound finds shapes", STAR),
)


def write_world(folder: Path, seed: int) -> None:
    """Write unpaired texts, pictures, sounds and clouds, and a test set that no tower and no memory has seen.

    A folder that holds all of it already stays as it is.

    Raises:
        InputError: the folder holds the world of another seed.
    """
    scenes = world.test_scenes(seed)
    if (folder / "test" / "scenes.jsonl").exists():  # the last file written
        if list(read_scenes(folder / "test").values()) != scenes:
            raise InputError(f"{folder} holds the demo of another seed than {seed}; choose another folder")
        return
    write_unpaired(folder, seed, SIZES)
    write_paired(folder / "test", scenes, seed)


def commands(folder: Path) -> list[tuple[str, list[list[str]]]]:
    """Return the titled steps of the demo, each a list of ``cmcr`` commands."""
    at = {name: str(folder / name) for name in ("mem", "spaces", "results", "test")}
    embedded = [
        (f"{folder}/texts/of-pictures.txt", "clip"), (f"{folder}/texts/of-sounds.txt", "clip"),
        (f"{folder}/images", "clip"),
        (f"{folder}/texts/of-pictures.txt", "clap"), (f"{folder}/texts/of-sounds.txt", "clap"),
        (f"{folder}/sounds", "clap"),
        (f"{folder}/images", "ulip"), (f"{folder}/clouds", "ulip"),
        (f"{at['test']}/texts.jsonl", "test-clip"), (f"{at['test']}/images", "test-clip"),
        (f"{at['test']}/sounds", "test-clap"), (f"{at['test']}/clouds", "test-ulip"),
    ]  # fmt: skip
    embeds = [
        ["embed", source, "--encoder", f"tiny-{memory.removeprefix('test-')}", "-o", f"{at['mem']}/{memory}"]
        for source, memory in embedded
    ]
    connects, evals = [], []
    for pair in PAIRS:
        frozen = ["--freeze-base"] if len(pair.memories) > 2 else []
        for method in pair.methods:
            out = f"{at['spaces']}/{name_of(pair, method)}"
            memories = [f"{at['mem']}/{name}" for name in pair.memories]
            connects.append(["connect", *memories, "-o", out, "--method", method, *frozen])
            sides = [f"{at['mem']}/{name}:{modality}" for name, modality in (pair.query, pair.gallery)]
            result = f"{at['results']}/{name_of(pair, method)}.json"
            evals.append(["eval", "retrieval", out, "--a", sides[0], "--b", sides[1], "-o", result])
    sound = f"{at['test']}/sounds/00000.wav"
    searched = [f"{at['mem']}/test-clip", "--modality", "image", "-k", "5", "--html", f"{folder}/hits.html"]
    searched += ["--media-root", str(folder)]
    asked = ["retrieve", f"{at['spaces']}/{name_of(PAIRS[0])}", sound, "--in", *searched]
    drawn = [f"{at['mem']}/test-clip:image", f"{at['mem']}/test-clap"]
    mapped = ["map", *drawn, "--space", f"{at['spaces']}/{name_of(PAIRS[0])}", "-o", f"{folder}/map.html"]
    return [
        ("Embed every file once, with frozen encoders", embeds),
        ("Connect the spaces, without one pair of what they connect", connects),
        ("Ask a question nobody trained: which picture sounds like this?", [asked]),
        ("Draw what was connected", [mapped]),
        ("Measure, on scenes no encoder and no memory has seen", evals),
    ]


def name_of(pair: Pair, method: str | None = None) -> str:
    """Return the folder name of a connection by a method, or by the one that is shown; the plain name is C-MCR's."""
    method = method or pair.methods[0]
    return pair.space if method == "c-mcr" else f"{pair.space}-{method}"


def write_page(folder: Path) -> Path:
    """Write ``index.html`` about everything the commands made; returns its path."""
    previews = Previews(roots=MediaRoots([folder]))
    sections = [_answers(folder, pair, previews) for pair in PAIRS]
    sections += [_results(folder), _maps(folder), _curves(folder)]
    kinds = len({combo[0] for combo in world.HELD_OUT})
    lead = (
        "Three small frozen encoders: tiny-clip knows pictures and sentences, tiny-clap sounds and sentences, "
        "tiny-ulip shapes and pictures. cmcr connected them through what they share. No picture-sound "
        "pair, no shape-sentence pair and no sound-shape pair was ever seen; a tick marks the one right answer."
    )
    facts = {
        "kinds of things": kinds,
        "right answers among": len(world.HELD_OUT),
        **{f"unpaired {n}": c for n, c in SIZES.items()},
    }
    target = folder / "index.html"
    write_text(target, page("Connected without a single pair", sections, lead, facts, _links(folder)))
    return target


def _links(folder: Path) -> dict[str, str]:
    """Return what else the commands wrote for a reader, by what a link to it says."""
    pages = {"What one sound found": "hits.html", "A map of the connected memories": "map.html"}
    return {words: name for words, name in pages.items() if (folder / name).exists()}


def _answers(folder: Path, pair: Pair, previews: Previews) -> Section:
    space = ConnectedSpace.from_pretrained(folder / "spaces" / name_of(pair))
    asked, searched = Memory.open(folder / "mem" / pair.query[0]), Memory.open(folder / "mem" / pair.gallery[0])
    ids, scenes = asked.ids(pair.query[1])[:SHOWN], read_scenes(folder / "test")
    queries = [ask(space, f"{asked.path}#{name}", modality=pair.query[1]) for name in ids]
    answers = []
    for name, query, hits in zip(ids, queries, retrieve(space, queries, searched, pair.gallery[1], k=5), strict=True):
        cards = [
            Card(
                hit.id,
                show_hit(previews, searched, pair.gallery[1], hit),
                hit.rank,
                hit.score,
                mark="right" if hit.id == name else "",
                says=_say(scenes[hit.id]),
            )
            for hit in hits
        ]
        heading = f"{pair.query[1]} → {pair.gallery[1]}".replace("_", " ")
        answers.append(Answer(Card(_say(scenes[name]), show_query(previews, query)), cards, heading))
    about = f"The first {SHOWN} queries of the test set, not chosen; {searched.rows(pair.gallery[1])} candidates each."
    return Section(pair.headline, about, gallery(answers))


def _say(scene: world.Scene) -> str:
    return f"{scene.count} {scene.size} {scene.kind}"


def _results(folder: Path) -> Section:
    rows: list[list[object]] = []
    strong = []
    for pair in PAIRS:
        found = {m: json.loads((folder / "results" / f"{name_of(pair, m)}.json").read_text()) for m in pair.methods}
        first = found[pair.methods[0]]
        for direction in first["values"]:
            title = direction.replace("_", " ").replace("->", " → ")
            rows.append([title, "chance", *(first["chance"][k] for k in _KS)])
            best = max(result["values"][direction][_KS[0]] for result in found.values())
            for method, result in found.items():
                strong += [len(rows)] if result["values"][direction][_KS[0]] == best else []
                rows.append([title, method, *(result["values"][direction][k] for k in _KS)])
    table = results_table(["question", "method", *_KS], rows, strong, label="What was measured")
    about = (
        f"Share of queries whose one right answer is among the first k of {first['gallery']}, {first['n']} queries "
        "a direction, ties counted against us; the best recall@1 is set off. One seed; benchmarks/README.md has "
        "five, with deviations, ablations and the oracle."
    )
    return Section("What was measured", about, table)


_KS = ("recall@1", "recall@5", "recall@10")
_TRAINED = tuple(pair for pair in PAIRS if "c-mcr" in pair.methods)


def _maps(folder: Path) -> Section:
    """Compare the outer similarities of C-MCR's projectors, untrained and trained; rows and columns ordered by kind."""
    maps: dict[str, np.ndarray] = {}
    labels = {}
    for pair in _TRAINED:
        space = ConnectedSpace.from_pretrained(folder / "spaces" / pair.space)
        recipe = {k: v for k, v in space.recipe.items() if k in ConnectConfig().to_dict()}
        first, second = space.encoders.values()
        fresh = dict(zip(space.encoders, new_projectors(ConnectConfig(**recipe), first.dim, second.dim), strict=True))
        before = ConnectedSpace(space.encoders, fresh, space.overlap, space.method)
        for label, shown in (("before training", before), ("after", space)):
            title = f"{pair.space}, {label}"
            maps[title] = _similarities(folder, pair, shown)
            labels[title] = (readable_name(pair.query[1]), readable_name(pair.gallery[1]))
    about = (
        "Cosine of every test query (row) with every candidate (column), ordered by kind of thing, so right answers "
        "lie on the diagonal: through C-MCR's projectors as they were initialised, and as they were trained. "
        "All have the same colours."
    )
    return Section("Similarity before and after", about, heat_maps(maps, labels=labels))


def _similarities(folder: Path, pair: Pair, space: ConnectedSpace) -> np.ndarray:
    """Return the cosines of all queries with all candidates, both in the order of their scenes."""
    projected = []
    scenes = read_scenes(folder / "test")
    for name, modality in (pair.query, pair.gallery):
        memory = Memory.open(folder / "mem" / name)
        ids = memory.ids(modality)
        rows = sorted(range(len(ids)), key=lambda row: scenes[ids[row]].combo)
        projected.append(space.project(memory, modality=modality)[rows])
    return np.asarray(projected[0] @ projected[1].T)


def _curves(folder: Path) -> Section:
    drawn = []
    for pair in _TRAINED:
        path = folder / "spaces" / f"{pair.space}.run" / "metrics.jsonl"
        records: list[Mapping[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]

        def curve(name: str, records: list[Mapping[str, Any]] = records) -> list[tuple[float, float]]:
            return [(record["epoch"], record[name]) for record in records]

        drawn.append(line_chart(f"{pair.space}: loss", {"training loss": curve("loss")}, "epoch", "loss"))
        recalls = {"overlap pair": curve("overlap_r1"), "recalled pair": curve("pseudo_r1")}
        drawn.append(line_chart(f"{pair.space}: recall@1 on held-out overlap", recalls, "epoch", "recall@1"))
        gaps = {"within each source space, before": curve("gap_before"), "after": curve("gap_after"),
                "between the connected modalities": curve("outer_gap_after")}  # fmt: skip
        drawn.append(line_chart(f"{pair.space}: modality gap", gaps, "epoch", "distance of the means"))
    about = (
        "Of C-MCR, all on overlap rows held out from training; no pair of the connected modalities is needed to choose "
        "a model."
    )
    return Section("Training", about, beside(*drawn))

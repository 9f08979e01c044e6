"""Retention: identity keeps everything, a collapse keeps nothing, and the numbers are those of a naive count."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import visit
from worlds import DIM_A, DIM_B, LATENT, rows, unit, write
from worlds import space as spread

from cmcr.ask import Subject
from cmcr.cli import main
from cmcr.encoders.tiny import TinyEncoder
from cmcr.errors import ArtifactError, InputError
from cmcr.evaluate.retention.pairs import pair_of_memories
from cmcr.evaluate.retention.retention import evaluate
from cmcr.memory import Memory
from cmcr.modality import Modality
from cmcr.space import ConnectedSpace, Projector, ProjectorConfig
from cmcr.space.space import SpaceEncoder
from cmcr.tiny import world
from cmcr.tiny.folders import write_paired

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
COUNT, KINDS = 60, 6


def unit64(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def linear(in_dim, weight, bias=None):
    projector = Projector(ProjectorConfig("linear", in_dim, len(weight)))
    with torch.no_grad():
        for name, parameter in projector.named_parameters():
            wanted = weight if parameter.dim() == 2 else np.zeros(len(weight)) if bias is None else bias
            parameter.copy_(torch.as_tensor(np.array(wanted), dtype=torch.float32))
            assert name
    return projector


def make(projector_a, projector_b=None):
    encoders = {
        "enc-a": SpaceEncoder("enc-a", "fp-enc-a", DIM_A, (TEXT, IMAGE)),
        "enc-b": SpaceEncoder("enc-b", "fp-enc-b", DIM_B, (TEXT, AUDIO)),
    }
    projectors = {"enc-a": projector_a, "enc-b": projector_b or linear(DIM_B, np.eye(DIM_A, DIM_B))}
    return ConnectedSpace(encoders, projectors, TEXT, "test")


def identity():
    return Projector(ProjectorConfig("identity", DIM_A, DIM_A))


@pytest.fixture(scope="module")
def memories(tmp_path_factory):
    """Paired rows of both encoders, four or so of ten right; one row of each modality has no partner."""
    folder = tmp_path_factory.mktemp("retention")
    rng = np.random.default_rng(0)
    things = 2 * rng.normal(size=(KINDS, LATENT))
    latents = things[np.arange(COUNT + 1) % KINDS] + 0.4 * rng.normal(size=(COUNT + 1, LATENT))
    ids = rows("p", COUNT + 2)
    for name, seed, dim, other in (("enc-a", 1, DIM_A, IMAGE), ("enc-b", 2, DIM_B, AUDIO)):
        write(
            folder / name,
            name,
            {
                TEXT: (spread(seed, dim, latents, 0, noise=0.2), ids[: COUNT + 1]),
                other: (spread(seed, dim, latents[::-1], 1, noise=0.2), [ids[COUNT + 1], *ids[COUNT - 1 :: -1]]),
            },
        )
    (folder / "labels.txt").write_text("".join(f"p{n}\tkind {n % KINDS}\n" for n in range(COUNT - 2)))
    (folder / "labels.jsonl").write_text(
        "".join(json.dumps({"id": f"p{n}", "kind": f"kind {n % KINDS}"}) + "\n" for n in range(COUNT - 2))
    )
    return folder


def raw(memories, encoder, modality):
    memory = Memory.open(memories / encoder)
    row_of = {name: row for row, name in enumerate(memory.ids(modality))}
    return memory.vectors(modality, [row_of[f"p{n}"] for n in range(COUNT)])


def measured(memories, space, folder, encoder="enc-a", other=IMAGE, **options):
    subject = Subject("space", space)
    memory = Memory.open(memories / encoder)
    return evaluate(subject, [pair_of_memories(subject, (memory, TEXT), (memory, other))], folder=folder, **options)


def hits(queries, gallery, k):
    scores = unit64(queries.astype(np.float64)) @ unit64(gallery.astype(np.float64)).T
    return np.array([np.sum(row >= row[i]) <= k for i, row in enumerate(scores)])


def test_the_identity_keeps_exactly_everything(memories, tmp_path):
    result = measured(memories, make(identity()), tmp_path)
    shares = [found for name, found in result.values.items() if "recall" in name]
    assert len(shares) == 9
    assert all(found["kept"] == 1 and found["before"] == found["after"] > found["chance"] for found in shares)
    assert all(found["difference low"] == found["difference high"] == 0 for found in shares)
    assert all(abs(found["difference"]) < 1e-5 for found in result.values.values())
    assert (result.n, result.gallery, result.settings["method"]) == (COUNT, COUNT, "test")


def test_a_collapsing_projector_keeps_nothing(memories, tmp_path):
    collapse = linear(DIM_A, np.zeros((8, DIM_A)), bias=np.eye(8)[0])
    values = measured(memories, make(collapse, linear(DIM_B, np.zeros((8, DIM_B)))), tmp_path).values
    for name, found in values.items():
        if "recall" in name:
            assert found["after"] == 0 <= found["chance"] < found["before"]
    assert values["enc-a text uniformity"]["after"] == pytest.approx(0, abs=1e-6)
    assert values["enc-a image effective rank"]["after"] == pytest.approx(1, abs=1e-4)
    assert values["enc-a text|image modality gap"]["after"] == pytest.approx(0, abs=1e-6)


def test_projecting_to_noise_falls_to_chance(tmp_path):
    rng = np.random.default_rng(0)
    half = DIM_A // 2
    x = [unit(np.hstack([3 * shown, rng.normal(size=(400, half))])) for shown in [rng.normal(size=(400, half))] * 2]
    write(tmp_path / "enc-a", "enc-a", {TEXT: (x[0], rows("p", 400)), IMAGE: (x[1], rows("p", 400))})
    only_noise = linear(DIM_A, np.eye(DIM_A)[half:])  # all that text and image share is thrown away
    values = measured(tmp_path, make(only_noise, linear(DIM_B, np.eye(half, DIM_B))), tmp_path).values
    found = values["enc-a text<->image recall@10"]
    assert found["before"] > 0.9
    assert found["after"] == pytest.approx(found["chance"], abs=0.025)


def test_recalls_and_their_difference_agree_with_a_naive_count(memories, tmp_path):
    weight = np.random.default_rng(3).normal(size=(4, DIM_A))
    space = make(linear(DIM_A, weight), linear(DIM_B, np.ones((4, DIM_B))))
    values = measured(memories, space, tmp_path).values
    x, y = raw(memories, "enc-a", TEXT), raw(memories, "enc-a", IMAGE)
    for k in (1, 5, 10):
        forward = [hits(a, b, k).mean() for a, b in ((x, y), (x @ weight.T, y @ weight.T))]
        back = [hits(a, b, k).mean() for a, b in ((y, x), (y @ weight.T, x @ weight.T))]
        for name, (before, after) in {
            "text->image": forward,
            "image->text": back,
            "text<->image": np.mean([forward, back], axis=0),
        }.items():
            found = values[f"enc-a {name} recall@{k}"]
            assert (found["before"], found["after"]) == pytest.approx((before, after))
            assert found["kept"] == pytest.approx(after / before)
            assert found["difference low"] <= found["difference"] == pytest.approx(after - before)
            assert found["difference"] <= found["difference high"]
    assert values["enc-a text->image recall@1"]["after"] < values["enc-a text->image recall@1"]["before"]


def test_kept_is_what_the_quality_benchmark_calls_own_recall_kept(memories, tmp_path):
    spec = importlib.util.spec_from_file_location(
        "quality_benchmark", Path(__file__).parent.parent / "benchmarks" / "quality.py"
    )
    quality = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = quality
    spec.loader.exec_module(quality)
    x, y = raw(memories, "enc-a", TEXT), raw(memories, "enc-a", IMAGE)
    both = write(tmp_path / "both", "enc-a", {TEXT: (x, rows("p", COUNT)), IMAGE: (y, rows("p", COUNT))})
    memory = Memory.open(both)
    space = make(linear(DIM_A, np.random.default_rng(3).normal(size=(4, DIM_A))), linear(DIM_B, np.ones((4, DIM_B))))
    expected = quality.retention(space, quality.Side(memory, memory, IMAGE), TEXT, COUNT)
    found = measured(memories, space, tmp_path).values["enc-a text<->image recall@1"]["kept"]
    assert 0 < expected < 1
    assert found == pytest.approx(expected)


def test_classes_are_means_without_the_querys_own_partner(memories, tmp_path):
    labels = {f"p{n}": f"kind {n % KINDS}" for n in range(COUNT - 2)} | {"p59": "alone"}
    result = measured(memories, make(identity()), tmp_path, labels=labels)
    x, y = raw(memories, "enc-a", TEXT)[: COUNT - 2], raw(memories, "enc-a", IMAGE)[: COUNT - 2]
    kinds = np.arange(COUNT - 2) % KINDS
    right = 0
    for n, query in enumerate(x):
        others = np.arange(len(x)) != n
        means = unit64(np.array([y[others & (kinds == kind)].mean(axis=0) for kind in range(KINDS)]))
        right += (means @ query).argmax() == kinds[n]
    found = result.values["enc-a text by class means of image top-1"]
    assert found["before"] == pytest.approx(right / len(x))
    assert (found["queries"], found["gallery"], found["chance"]) == (COUNT - 2, KINDS, 1 / KINDS)
    assert found["before"] > 2 * found["chance"]
    assert found["kept"] == 1
    assert "enc-a: 1 of 60 rows have no label and were not classified" in result.notes
    assert any("1 rows are alone in their class" in note for note in result.notes)


def test_a_class_mean_does_not_know_the_answer(tmp_path):
    """Labels at random cannot be told, though partners are equal: each would give its query away."""
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(400, DIM_A)))
    write(tmp_path / "enc-a", "enc-a", {TEXT: (x, rows("p", 400)), IMAGE: (x, rows("p", 400))})
    labels = {f"p{n}": str(rng.integers(20)) for n in range(400)}
    values = measured(tmp_path, make(identity()), tmp_path, labels=labels).values
    assert values["enc-a text by class means of image top-1"]["before"] < 0.1


def test_geometry_is_sampled_with_a_seed_and_says_so(memories, tmp_path):
    whole, some, again, other = (
        measured(memories, make(identity()), tmp_path, **options)
        for options in ({}, {"rows": 30}, {"rows": 30}, {"rows": 30, "seed": 1})
    )
    name = "enc-a text uniformity"
    assert some.values == again.values
    assert len({result.values[name]["before"] for result in (whole, some, other)}) == 3
    assert (some.settings["geometry rows"], other.settings["geometry seed"]) == (30, 1)
    assert some.values["enc-a text->image recall@1"]["queries"] == COUNT


def test_few_rows_have_a_gap_and_no_hubness(tmp_path):
    x = unit(np.random.default_rng(0).normal(size=(11, DIM_A)))
    write(tmp_path / "enc-a", "enc-a", {TEXT: (x, rows("p", 11)), IMAGE: (x, rows("p", 11))})
    names = measured(tmp_path, make(identity()), tmp_path).values.keys()
    assert "enc-a text|image modality gap" in names
    assert not any("hub" in name for name in names)


def test_two_pairs_of_one_encoder_keep_apart(memories, tmp_path):
    subject = Subject("space", make(identity()))
    a, b = Memory.open(memories / "enc-a"), Memory.open(memories / "enc-b")
    pairs = [pair_of_memories(subject, (a, TEXT), (a, IMAGE)), pair_of_memories(subject, (a, IMAGE), (a, TEXT)),
             pair_of_memories(subject, (b, TEXT), (b, AUDIO))]  # fmt: skip
    result = evaluate(subject, pairs, folder=tmp_path)
    assert {"enc-a text->image recall@1", "enc-a #2 text->image recall@1", "enc-b audio->text recall@1"} <= set(
        result.values
    )
    assert result.n == 3 * COUNT
    assert {"space", "enc-a text", "enc-b audio"} <= set(result.fingerprints)
    assert f"1 of {COUNT + 1} text rows of {a.path} have no partner and were left out" in result.notes


def test_refusals(memories, tmp_path):
    subject = Subject("space", make(identity()))
    a, b = Memory.open(memories / "enc-a"), Memory.open(memories / "enc-b")
    with pytest.raises(InputError, match="two modalities of one encoder; retrieval across"):
        pair_of_memories(subject, (a, IMAGE), (b, AUDIO))
    with pytest.raises(InputError, match="two modalities of one encoder"):
        pair_of_memories(subject, (a, TEXT), (a, TEXT))
    with pytest.raises(InputError, match="no audio"):
        pair_of_memories(subject, (a, TEXT), (a, AUDIO))
    stranger = write(tmp_path / "x", "enc-x", {TEXT: (unit(np.eye(3)), rows("p", 3))})
    with pytest.raises(ArtifactError, match="made by enc-x"):
        pair_of_memories(subject, (Memory.open(stranger), TEXT), (a, TEXT))
    apart = Memory.open(write(tmp_path / "y", "enc-a", {IMAGE: (unit(np.eye(3, DIM_A)), rows("q", 3))}))
    with pytest.raises(InputError, match="no id is in both"):
        pair_of_memories(subject, (a, TEXT), (apart, IMAGE))
    with pytest.raises(InputError, match="no pairs"):
        evaluate(subject, [], folder=tmp_path)
    with pytest.raises(InputError, match="none of the 1 labels"):
        measured(memories, make(identity()), tmp_path, labels={"nobody": "x"})
    with pytest.raises(InputError, match="is an encoder"):
        pair_of_memories(Subject.open("tiny-clip"), (a, TEXT), (a, IMAGE))


@pytest.fixture
def place(memories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(identity()).save("space")
    return memories


def run(capsys, *argv):
    code = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_shows_writes_and_says_what_was_left_out(place, capsys, tmp_path):
    sides = f"{place}/enc-a:text,{place}/enc-a:image"
    asked = ["eval", "retention", "space", "--pairs", sides, "--labels", place / "labels.txt", "-o", "out"]
    code, out, err = run(capsys, *asked, "--html")
    assert code == 0, err
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["", "queries", "gallery", "chance", "before", "after", "kept", "difference", "95 % interval"]
    assert all(len(line) == 9 for line in lines)
    assert next(line for line in lines if line[0] == "enc-a text<->image recall@1")[6] == "100.0 %"
    assert "text rows of" in err
    assert "have no partner" in err
    assert "2 of 60 rows have no label" in err
    assert "next: cmcr eval compare out" in err
    written = json.loads(Path("out/result.json").read_text())
    assert written["name"] == "retention"
    assert written["settings"]["class vectors"] == "means of the partners' rows"
    page = Path("out/index.html").read_text()
    assert "<script" not in page
    for word in ("Uniformity", "Effective rank", "Anti-hubs", "enc-a text|image", "100.0 %", "no partner"):
        assert word in page
    code, out, _ = run(capsys, *asked[:-4], "--labels", place / "labels.jsonl", "--label-field", "kind", "--json")
    assert code == 0
    assert json.loads(out)["values"] == written["values"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--pairs", "a:text,a:image", "--data", "x.jsonl"],
        ["--pairs", "a:text"],
        ["--pairs", "a:text,b:picture"],
        ["--pairs", "a:text,b:image,c:audio"],
        ["--pairs", "a:text,a:image", "--template", "a {}"],
    ],
)
def test_usage_errors(place, capsys, options):
    code, out, _ = run(capsys, "eval", "retention", "space", *options)
    assert (code, out) == (2, "")


def test_a_comma_may_stand_in_a_path(place, capsys, tmp_path):
    (tmp_path / "a,b").symlink_to(place)
    code, _, err = run(capsys, "eval", "retention", "space", "--pairs", "a,b/enc-a:text,a,b/enc-a:image", "-o", "out")
    assert code == 0, err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A paired manifest of 24 scenes of 8 kinds, and a space that leaves tiny-clip and tiny-clap as they are."""
    folder = tmp_path_factory.mktemp("tiny")
    scenes = world.test_scenes(0)[:24]
    write_paired(folder, scenes, 5)
    texts = [json.loads(line)["text"] for line in (folder / "texts.jsonl").read_text().splitlines()]
    records = [
        {"id": f"{n:05d}", "text": text, "image": f"images/{n:05d}.png", "kind": scene.kind}
        for n, (text, scene) in enumerate(zip(texts, scenes, strict=True))
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    broken = [*records[:-1], records[-1] | {"image": "images/none.png"}]
    (folder / "broken.jsonl").write_text("".join(json.dumps(record) + "\n" for record in broken))
    (folder / "single.jsonl").write_text('{"id": "a", "text": "a bell"}\n')
    loaded = {name: TinyEncoder(name) for name in ("tiny-clip", "tiny-clap")}
    encoders = {name: SpaceEncoder(name, e.fingerprint, e.dim, e.modalities) for name, e in loaded.items()}
    projectors = {
        "tiny-clip": Projector(ProjectorConfig("identity", 64, 64)),
        "tiny-clap": linear(48, np.eye(64, 48)),
    }
    ConnectedSpace(encoders, projectors, TEXT, "identity").save(folder / "space")
    return folder


def test_a_manifest_is_embedded_once_and_classified_by_prompts(tiny, tmp_path, monkeypatch, capsys):
    asked = ["eval", "retention", tiny / "space", "--data", tiny / "pairs.jsonl", "--labels", tiny / "pairs.jsonl",
             "--label-field", "kind", "--template", "a {}", "--template", "picture of a {}", "-o", tmp_path,
             "--json"]  # fmt: skip
    code, out, err = run(capsys, *asked)
    assert code == 0, err
    first = json.loads(out)
    recall = first["values"]["tiny-clip image->text recall@1"]
    assert recall["before"] > 0.9
    assert recall["kept"] == 1
    top = first["values"]["tiny-clip image zero-shot top-1"]
    assert top["queries"] == 24
    assert top["before"] > 4 * top["chance"]
    assert (first["n"], first["expected"], first["skipped"]) == (24, 24, {})
    assert first["settings"]["templates"] == ["a {}", "picture of a {}"]
    monkeypatch.setattr(TinyEncoder, "encode", lambda *_: pytest.fail("embedded again"))
    code, out, _ = run(capsys, *asked)
    assert code == 0
    assert json.loads(out)["values"] == first["values"]
    assert json.loads(out)["fingerprints"] == first["fingerprints"]


def test_prompts_are_projected_one_by_one_and_averaged_after(tiny, tmp_path):
    """The zero-shot numbers are those of cmcr.evaluate.zero_shot.classes's project-first order."""
    from cmcr.evaluate.retention.pairs import pairs_of_manifest
    from cmcr.evaluate.zero_shot.classes import build_classifier, phrases
    from cmcr.numbers import ranks

    space = ConnectedSpace.from_pretrained(tiny / "space")
    mlp = ProjectorConfig("mlp", 64, 64, hidden=32)
    torch.manual_seed(0)
    space.projectors["tiny-clip"] = Projector(mlp).eval()
    subject = Subject("space", space)
    labels = {f"{n:05d}": scene.kind for n, scene in enumerate(world.test_scenes(0)[:24])}
    pairs = pairs_of_manifest(subject, tiny / "pairs.jsonl", tmp_path)
    templates = ["a {}", "two small {}s"]
    result = evaluate(subject, pairs, folder=tmp_path, labels=labels, templates=templates)
    names = sorted(set(labels.values()))
    texts, _ = subject.texts(phrases(names, templates), tmp_path, encoder="tiny-clip")
    classes = build_classifier(
        texts, len(names), lambda x: space.project(x, encoder="tiny-clip", modality=TEXT), "project-first"
    )
    at = pairs[0].modalities.index(IMAGE)
    images = space.project(pairs[0].raw[at], encoder="tiny-clip", modality=IMAGE)
    truth = [names.index(labels[name]) for name in pairs[0].ids]
    assert result.values["tiny-clip image zero-shot top-1"]["after"] == np.mean(ranks(images, classes, truth) <= 1)


def test_missing_items_are_said_and_strict_fails(tiny, tmp_path, capsys):
    asked = ["eval", "retention", tiny / "space", "--data", tiny / "broken.jsonl", "-o", tmp_path]
    code, _, err = run(capsys, *asked)
    assert code == 0
    assert "warning: measured over 23 of 24 items: 1 x image: cannot be read" in err
    assert run(capsys, *asked, "--strict")[0] == 1


def test_a_manifest_without_a_pair_is_refused(tiny, tmp_path, capsys):
    code, _, err = run(capsys, "eval", "retention", tiny / "space", "--data", tiny / "single.jsonl", "-o", tmp_path)
    assert code == 1
    assert "no encoder finds two of its modalities in it; looked for columns of tiny-clip: image, text" in err
    code, _, err = run(capsys, "eval", "retention", tiny / "space", "--data", tiny / "none.jsonl", "-o", tmp_path)
    assert code == 1
    assert "expected a manifest that exists" in err


@pytest.mark.slow
def test_the_page_opens(place, capsys, tmp_path):
    sides = f"{place}/enc-a:text,{place}/enc-a:image"
    run(capsys, "eval", "retention", "space", "--pairs", sides, "--html", "-o", "out")
    visit(tmp_path / "out" / "index.html")

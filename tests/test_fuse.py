"""Fusing: the losses against naive forms, what each mechanism does, and ``cmcr fuse`` from the command line."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import LATENT, rows, space, write

from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.fuse import Fuser, FuseSettings, fuse, join_rows
from cmcr.fuse import rows as fuse_rows
from cmcr.fuse.losses import comm_loss, cross_loss, nt_xent
from cmcr.fuse.network import Adapter, Fusion, projection_head
from cmcr.fuse.objective import loss_of, see
from cmcr.fuse.rows import ViewMaker
from cmcr.fuse.train import train
from cmcr.memory import ArrayMemory, EncoderInfo, Memory, MemoryWriter, ViewSpec, pack, read_views
from cmcr.modality import Modality

QUICK = ["--epochs", "2", "--width", "16"]
SMALL = FuseSettings(epochs=2, width=16)
SIDES = ["see:image", "hear:audio"]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(u, v, tau):
    u, v = ((x / x.norm(dim=1, keepdim=True)).double().tolist() for x in (u, v))
    total = 0.0
    for a, b in ((u, v), (v, u)):
        for k in range(len(a)):
            e = [math.exp(sum(x * y for x, y in zip(a[k], other, strict=True)) / tau) for other in b]
            own = [math.exp(sum(x * y for x, y in zip(a[k], other, strict=True)) / tau) for other in a]
            total -= math.log(e[k] / (sum(e) + sum(own) - own[k]))
    return total / (2 * len(u))


def test_nt_xent_is_the_formula():
    u, v = draw(5, 4), draw(5, 4, seed=1)
    assert nt_xent(u, v, 0.3).item() == pytest.approx(naive(u, v, 0.3), rel=1e-5)


def test_comms_loss_is_the_mean_of_its_terms():
    one, two = [draw(6, 4), draw(4, 4, seed=1)], [draw(6, 4, seed=2), draw(4, 4, seed=3)]
    fused = draw(6, 4, seed=4), draw(6, 4, seed=5)
    present = torch.ones(6, 2, dtype=torch.bool)
    present[[1, 4], 1] = False
    own = present[:, 1]
    star = naive(*fused, 0.1)
    terms = [
        (naive(one[0], fused[1], 0.1) + naive(two[0], fused[0], 0.1)) / 2,
        (naive(one[1], fused[1][own], 0.1) + naive(two[1], fused[0][own], 0.1)) / 2,
    ]
    found = comm_loss(one, two, fused, present)
    assert found.item() == pytest.approx((star + sum(terms)) / 3, rel=1e-5)
    assert comm_loss(one, two, fused, present, with_fused=False).item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    assert comm_loss([None, None], [None, None], fused, present).item() == pytest.approx(star, rel=1e-5)


def test_cross_contrasts_modalities_and_self_their_views():
    one, two = [draw(6, 4), draw(4, 4, seed=1)], [draw(6, 4, seed=2), draw(4, 4, seed=3)]
    present = torch.ones(6, 2, dtype=torch.bool)
    present[[1, 4], 1] = False

    def info(a, b):
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        s = (a @ b.T / 0.1).double()
        return -((s.log_softmax(1).diag() + s.log_softmax(0).diag()) / 2).mean().item()

    kept = [0, 2, 3, 5]
    between = (info(one[0][kept], one[1]) + info(two[0][kept], two[1])) / 2
    assert cross_loss(one, two, present).item() == pytest.approx(between, rel=1e-5)
    selves = naive(one[0], two[0], 0.1) + naive(one[1], two[1], 0.1)
    found = cross_loss(one, two, present, with_self=True).item()
    assert found == pytest.approx((between + selves) / 3, rel=1e-5)


def network(dims=(5, 4), seed=0):
    torch.manual_seed(seed)
    return Fusion([Adapter(dim, 16) for dim in dims], 16).eval()


@torch.no_grad()
def test_what_a_row_lacks_is_attended_by_none():
    net, x, y = network(), draw(3, 5), draw(3, 4, seed=1)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    tokens = [net.tokens(0, x), net.tokens(1, y)]
    fused = net.fuse(tokens, present)
    other = net.fuse([tokens[0], net.tokens(1, y + 100)], present)
    assert torch.equal(fused[1], other[1]) and not torch.allclose(fused[0], other[0], atol=1e-2)
    assert torch.allclose(fused[1], net.alone(0, tokens[0])[1], atol=1e-5)
    assert torch.allclose(fused[2], net.alone(1, tokens[1])[2], atol=1e-5)
    assert not torch.allclose(fused[0], net.alone(0, tokens[0])[0], atol=1e-2)


def test_each_switch_changes_what_is_learnt_from():
    net, head = network(), projection_head(16)
    views = [[draw(8, 5, seed=s), draw(8, 4, seed=s + 10)] for s in (0, 1)]
    present = torch.ones(8, 2, dtype=torch.bool)
    present[0, 1] = False

    def loss(**choices):
        return loss_of(net, head, views, present, FuseSettings(width=16, **choices)).item()

    values = [loss(), loss(unimodal=False), loss(fused=False), loss(tau=1.0)]
    values += [loss(objective="cross"), loss(objective="cross-self")]
    assert len({round(value, 4) for value in values}) == 6
    seen = see(net, head, views[0], present, True, True)
    assert [len(each) for each in seen.alone] == [8, 7] and len(seen.fused) == 8
    present[1:, 1] = False  # one row has it: nothing to contrast it with
    assert see(net, head, views[0], present, True, True).alone[1] is None


def arrays(count=60, seed=0, lack=0):
    """Two memories whose rows share a latent; the first `lack` ids are only seen, the last only heard."""
    latent = np.random.default_rng(seed).normal(size=(count, LATENT))
    ids = [f"r{number}" for number in range(count)]
    see_, hear = space(1, 12, latent, 1), space(2, 10, latent, 1)
    return (
        ArrayMemory("see", {"image": see_[: count - lack]}, {"image": ids[: count - lack]}),
        ArrayMemory("hear", {"audio": hear[lack:]}, {"audio": ids[lack:]}),
    )


def joined(**choices):
    return join_rows(list(zip(arrays(**choices), ("image", "audio"), strict=True)))


def weights(net):
    return torch.cat([each.flatten() for each in net.state_dict().values()])


def test_training_learns_and_repeats_itself():
    settings = FuseSettings(epochs=6, width=16, batch=16)
    rows_ = joined()
    net, history = train(rows_, settings)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert torch.equal(weights(net), weights(train(rows_, settings)[0]))
    other = FuseSettings(epochs=6, width=16, batch=16, seed=1)
    assert not torch.equal(weights(net), weights(train(rows_, other)[0]))


def test_a_stopped_run_ends_with_the_same_weights(tmp_path):
    rows_, logged = joined(), []
    whole, history = train(rows_, FuseSettings(epochs=3, width=16, batch=16))

    def stop(record, epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(rows_, FuseSettings(epochs=3, width=16, batch=16), checkpoint=tmp_path / "c", log=stop)
    kept = train(
        rows_, FuseSettings(epochs=3, width=16, batch=16), checkpoint=tmp_path / "c", log=lambda *r: logged.append(r)
    )
    assert torch.equal(weights(whole), weights(kept[0])) and kept[1] == history
    assert [epoch for _, epoch in logged] == [1, 2, 3]


def viewed(path, encoder, modality, vectors, names, views):
    """Write a memory whose rows have these views, (N, K, D)."""
    with MemoryWriter(path, EncoderInfo(encoder, f"fp-{encoder}", vectors.shape[1]), "float32") as writer:
        packed = pack(vectors, "float32", names, (), views)
        writer.append_packed(Modality(modality), packed, views=ViewSpec(views.shape[1]))
    return Memory.open(path)


def test_stored_views_are_what_is_contrasted_and_noise_stands_in(tmp_path):
    latent = np.random.default_rng(0).normal(size=(40, LATENT))
    x, y = space(1, 12, latent, 1), space(2, 10, latent, 1)
    views = np.stack([x + 0.05 * np.roll(x, k + 1, axis=1) for k in range(3)], axis=1)
    see_ = viewed(tmp_path / "see", "see", "image", x[:36], rows("r", 40)[:36], views[:36])
    hear = Memory.open(write(tmp_path / "hear", "hear", {Modality.AUDIO: (y, rows("r", 40))}))
    of = join_rows([(hear, "audio"), (see_, "image")])
    stored = of.views(1)
    assert of.views(0) is None and stored.shape == (40, 4, 12)
    assert np.array_equal(stored[:, 0], of.table.vectors[1]) and not stored[36:].any()
    assert np.allclose(stored[:36, 1:], read_views(see_, Modality.IMAGE))
    maker = ViewMaker(of, SMALL)
    assert maker.noised == [0] and ViewMaker(of, FuseSettings(views="noise")).noised == [0, 1]
    one, two = maker.draw(torch.arange(36), torch.Generator().manual_seed(0))
    which = [np.abs(stored[:36] - each[1].numpy()[:, None]).sum(axis=2).argmin(axis=1) for each in (one, two)]
    assert (which[0] != which[1]).all() and set(which[0]) == {0, 1, 2, 3}
    cosine = (one[0] * torch.from_numpy(of.table.vectors[0][:36])).sum(dim=1)
    assert cosine.min() > 0.3 and cosine.max() < 0.999 and not torch.allclose(one[0], two[0], atol=0.05)
    quiet = ViewMaker(of, FuseSettings(noise=0, drop=0)).draw(torch.arange(36), torch.Generator())
    assert torch.allclose(quiet[0][0], torch.from_numpy(of.table.vectors[0][:36]), atol=1e-6)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Memories `see` and `hear` (10 ids only in each) and `fused` from them."""
    place = tmp_path_factory.mktemp("fuse")
    latent = np.random.default_rng(0).normal(size=(80, LATENT))
    (place / "files").mkdir()
    names = rows("r", 80)
    write(place / "see", "see", {Modality.IMAGE: (space(1, 12, latent, 1)[:70], names[:70])})
    write(place / "hear", "hear", {Modality.AUDIO: (space(2, 10, latent, 1)[10:], names[10:])})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["fuse", *SIDES, "-o", "fused", *QUICK]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *argv):
    code = main([*map(str, argv)])
    out, err = capsys.readouterr()
    return code, out, err


def test_every_row_is_fused_from_what_it_has(place, capsys, folder_bytes):
    code, out, err = run(capsys, "fuse", *SIDES, "-o", "again", *QUICK, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["added"] == 80 and facts["trained"] == 60 and facts["encoder"] == "cmcr:fuse/comm/image+audio"
    assert "20 of 80 rows lack a modality and are fused from what they have" in err
    assert "image, audio: noise stands for views" in err and "next: cmcr map again:fused" in err
    assert folder_bytes(place / "again") == folder_bytes(place / "fused")
    memory = Memory.open("fused")
    found = {row.id: row for row in memory.metadata(Modality("fused"))}
    assert len(found) == 80 and memory.verify() == []
    assert found["r0"].note == "without audio" and found["r79"].note == "without image" and found["r40"].note is None
    assert found["r40"].text == "r40" and len(found["r40"].hash) == 64
    records = [json.loads(line) for line in Path("fused.run/metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in records] == [1, 2] and records[1]["loss"] < records[0]["loss"]
    fuser = Fuser.from_pretrained("fused/fusion")
    table = join_rows([(Memory.open("see"), "image"), (Memory.open("hear"), "audio")]).table
    direct = fuser.fuse(table)
    direct /= np.linalg.norm(direct, axis=1, keepdims=True)
    assert np.allclose(direct, memory.vectors(Modality("fused")), atol=1e-3)
    assert run(capsys, "fuse", *SIDES, "-o", "fused", *QUICK)[2].count("0 fused rows of 16 components, 80 already") == 1


def test_new_rows_are_fused_by_what_is_trained(place, capsys):
    latent = np.random.default_rng(9).normal(size=(5, LATENT))
    write(place / "more", "see", {Modality.IMAGE: (space(1, 12, latent, 1), rows("n", 5))})
    before = Memory.open("fused").vectors(Modality("fused"))
    code, _, err = run(capsys, "fuse", "more:image", "--model", "fused")
    assert code == 0 and "fused: 5 fused rows of 16 components" in err, err
    assert "5 of 5 rows lack a modality" in err
    after = Memory.open("fused")
    assert np.array_equal(after.vectors(Modality("fused"))[:80], before) and after.rows(Modality("fused")) == 85
    assert run(capsys, "fuse", "more:image", "--model", "fused", "-o", "apart", "--as", "joint")[0] == 0
    apart = Memory.open("apart")
    assert apart.modalities == ("joint",) and apart.encoder == after.encoder
    assert np.array_equal(apart.vectors(Modality("joint")), after.vectors(Modality("fused"))[80:])
    assert run(capsys, "fuse", "see:image", "--model", "apart", "-o", "third")[0] == 0  # the weights went along


def test_what_was_fused_from_other_content_stays_and_is_told(place, capsys):
    changed = [row.__class__(row.id, row.source, "f" * 64, row.text) for row in rows("r", 3)]
    latent = np.random.default_rng(9).normal(size=(3, LATENT))
    write(place / "new", "see", {Modality.IMAGE: (space(1, 12, latent, 1), changed)})
    code, _, err = run(capsys, "fuse", "new:image", "--model", "fused")
    assert code == 0 and "3 rows were fused from other content, and stay as they are" in err


@pytest.mark.parametrize("objective", ["cross", "cross-self", "concatenation"])
def test_what_it_is_set_beside(place, capsys, objective):
    code, _, err = run(capsys, "fuse", *SIDES, "-o", "other", "--objective", objective, *QUICK)
    dims = 22 if objective == "concatenation" else 32
    assert code == 0 and f"80 fused rows of {dims} components" in err, err
    vectors = Memory.open("other").vectors(Modality("fused"))
    assert not vectors[0, dims // 2 + 1 :].any() and vectors[0].any()  # lacks the second
    assert run(capsys, "fuse", "see:image", "--model", "other", "-o", "by")[0] == 0
    assert (objective == "concatenation") == (not Path("other.run").exists())


def test_three_modalities_and_rows_of_two(place, capsys):
    latent = np.random.default_rng(0).normal(size=(80, LATENT))
    write(place / "read", "read", {Modality.TEXT: (space(3, 8, latent, 1)[5:50], rows("r", 80)[5:50])})
    code, _, err = run(capsys, "fuse", *SIDES, "read:text", "-o", "three", *QUICK)
    assert code == 0 and "trained on 65 rows" in err, err
    notes = {row.id: row.note for row in Memory.open("three").metadata(Modality("fused"))}
    assert notes["r0"] == "without audio, text" and notes["r20"] is None and notes["r75"] == "without image, text"


def test_other_commands_work_on_it(place, capsys):
    code, out, err = run(capsys, "info", "fused", "--verify")
    assert code == 0, err
    code, out, err = run(capsys, "map", "fused:fused", "-o", "map.html", "--json")
    assert code == 0 and json.loads(out)["points"] == 80, err
    Path("labels.csv").write_text("id,label\n" + "".join(f"r{n},{'ab'[n % 2]}\n" for n in range(80)))
    quick = ["--labels", "labels.csv", "-o", "model", "--epochs", "2", "--width", "8"]
    code, out, err = run(capsys, "classify", "fit", "--memory", "fused:fused", *quick)
    assert code == 0 and "fused alone" in out, err
    latent = np.random.default_rng(0).normal(size=(80, LATENT))
    write(place / "read", "read", {Modality.TEXT: (space(3, 8, latent, 1), rows("t", 80))})
    Path("pairs.csv").write_text("fused,text\n" + "".join(f"r{n},t{n}\n" for n in range(60)))
    connect = ["connect", "fused", "read", "-o", "joined", "--pairs", "pairs.csv", "--method", "csa"]
    code, _, err = run(capsys, *connect)
    assert code == 0, err
    code, out, err = run(capsys, "retrieve", "joined", "read#t70", "--in", "fused", "--modality", "fused", "--json")
    assert code == 0 and "r70" in [hit["id"] for hit in json.loads(out)["hits"]], out + err
    code, _, err = run(capsys, "index", "fused", "--modality", "fused", "--space", "joined")
    assert code == 0, err


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["see:image", "-o", "x"], 1, "one memory; expected MEMORY:MODALITY of two or more"),
        (["see", "hear:audio", "-o", "x"], 2, "MEMORY:MODALITY"),
        ([*SIDES], 2, "give the memory to write with -o"),
        (["see:audio", "hear:audio", "-o", "x"], 1, "see: holds no audio"),
        (["see:image", "see:image", "-o", "x"], 1, "stands there twice"),
        (["see:image", "apart:audio", "-o", "x"], 1, "0 ids are in two of the memories ('r0', ... and 'q0', ...)"),
        ([*SIDES, "-o", "see"], 1, "see is a memory that cmcr fuse has not made; choose another folder"),
        ([*SIDES, "-o", "fused", "--epochs", "3"], 1, "another recipe fused (epochs 2, now 3)"),
        ([*SIDES, "-o", "x", "--width", "20"], 1, "width 20; expected a multiple of 8"),
        ([*SIDES, "-o", "x", "--no-unimodal", "--no-fused"], 1, "nothing else is contrasted"),
        (["hear:audio", "--model", "see"], 1, "see/fusion: not a fusion (no config.json)"),
        (["apart:audio", "--model", "fused"], 1, "audio of apart (fp-apart): not what this model was fitted on"),
        ([*SIDES, "--model", "fused", "--tau", "1"], 2, "--model is trained already"),
        ([*SIDES, "-o", "x", "--as", "IMAGE!"], 2, "IMAGE!"),
        ([*SIDES, "-o", "x", *QUICK, "--lr", "1e17"], 1, "the loss became nan in epoch"),
    ],
)
def test_what_is_refused_is_one_line(place, capsys, argv, code, said):
    write(place / "apart", "apart", {Modality.AUDIO: (np.eye(3, dtype=np.float32), rows("q", 3))})
    found, out, err = run(capsys, "fuse", *argv)
    assert found == code and not out and said in err and err.count("\n") == 1, err
    assert not Path("x/fused_emb").exists()


def test_a_run_that_was_stopped_goes_on(place, capsys, monkeypatch, folder_bytes):
    import cmcr.fuse.model as model

    real = model.write_json

    def dying(path, value):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "write_json", dying)  # the memory is there, its weights are not named yet
    assert run(capsys, "fuse", *SIDES, "-o", "again", *QUICK)[0] == 130
    monkeypatch.setattr(model, "write_json", real)
    assert Memory.open("again").modalities == ()
    code, _, err = run(capsys, "fuse", *SIDES, "-o", "again", *QUICK)
    assert code == 0, err
    assert folder_bytes(place / "again") == folder_bytes(place / "fused")
    Path("begun.run").mkdir()
    shutil.copytree("fused.run", "begun.run", dirs_exist_ok=True)
    code, _, err = run(capsys, "fuse", *SIDES, "-o", "begun", *QUICK, "--seed", "4")
    assert code == 1 and "begun.run is a run of another recipe (seed 0, now 4)" in err and err.count("\n") == 1


def edit(change):
    path = Path("fused/fusion/config.json")
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(version=2), "version 2"),
        (lambda c: c.update(extra=1), "unknown extra"),
        (lambda c: c["settings"].update(width=1 << 40), "above half of memory"),
        (lambda c: c["settings"].update(layers=1 << 40), "layers"),
        (lambda c: c["settings"].update(width=24), "config.json says"),
        (lambda c: c["settings"].update(width=17), "a multiple of 8"),
        (lambda c: c["settings"].update(objective="concatenation"), "has not the tensors"),
        (lambda c: c["channels"].pop(), "1 channels, expected two or more"),
        (lambda c: c["channels"][0].update(dim=0), "0 components"),
        (lambda c: c["channels"].append(c["channels"][0]), "stands there twice"),
        (lambda c: c.update(model_sha256="0" * 64), "is not the file config.json names"),
    ],
)
def test_a_config_is_checked_before_anything_is_made_of_it(place, change, said):
    edit(change)
    with pytest.raises(ArtifactError, match=said) as caught:
        Fuser.from_pretrained("fused/fusion")
    assert "fusion" in str(caught.value) and "fuse anew" in str(caught.value)


def test_sources_lead_from_the_new_folder_to_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.png").write_bytes(b"x")
    names = [row.__class__("a", "../files/a.png", "0" * 64, None, "clipped") for row in rows("r", 1)]
    names.append(names[0].__class__("b", "list.txt:3", None, "words"))
    write(tmp_path / "mem", "see", {Modality.IMAGE: (np.eye(2, dtype=np.float32), names)})
    other = ArrayMemory("hear", {"audio": np.eye(2)}, {"audio": ["b", "c"]})
    of = fuse_rows.join_rows([(Memory.open("mem"), "image"), (other, "audio")])
    found = of.metadata(tmp_path / "deep/down/fused")
    assert [row.source for row in found] == ["../../../files/a.png", "list.txt:3", ""]
    assert [row.note for row in found] == ["clipped; without audio", None, "without image"]
    assert found[0].hash and found[1].hash is None and found[1].text == "words"


def test_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = fuse(list(zip(arrays(lack=4), ("image", "audio"), strict=True)), "fused", SMALL)
    assert (done.added, done.trained, done.memory.rows(Modality("fused"))) == (60, 52, 60)
    with pytest.raises(InputError, match="expected a whole number"):
        FuseSettings(epochs=1.5)

"""The heads of Ex-MCR, FreeBind, OmniBind and TextME: told by their keys, computed step by step as their code does."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from test_heads import audio_visual, linear, memory, no_weights, norm  # noqa: F401 - a fixture

from cmcr import ConnectedSpace, Modality
from cmcr.cli import main
from cmcr.errors import ArtifactError, InputError
from cmcr.space import import_heads
from cmcr.space.heads import omnibind

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD


def layers(prefix, parts):
    return {f"{prefix}{name}.{key}": tensor for name, values in parts.items() for key, tensor in values.items()}


def mlp(generator, in_dim, hidden, out_dim, prefix="mlps."):
    parts = {"0": linear(generator, in_dim, hidden), "1": norm(generator, hidden)}
    return layers(prefix, parts | {"3": linear(generator, hidden, out_dim), "4": norm(generator, out_dim)})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(count, dim, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


class ByHand:
    """Layers of a file, one after the other, in float64."""

    def __init__(self, state):
        self.state = {key: tensor.double().numpy() for key, tensor in state.items()}

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name):
        s = {key: self.state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        return (x - s["running_mean"]) / np.sqrt(s["running_var"] + 1e-5) * s["weight"] + s["bias"]

    def mlp(self, x, prefix, activation=lambda y: np.maximum(y, 0), names=("0", "1", "3", "4")):
        first, second, third, fourth = (f"{prefix}{name}" for name in names)
        return self.norm(self.linear(activation(self.norm(self.linear(x, first), second)), third), fourth)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def ex_mcr(dim=512, hidden=24, seed=0):
    generator, blocks = seeded(seed), {}
    for block in ("mlp1", "mlp2"):
        blocks |= {f"{block}.net1.0": linear(generator, dim, hidden), f"{block}.net1.1": norm(generator, hidden)}
        blocks |= {f"{block}.net2.0": linear(generator, hidden, dim), f"{block}.net2.1": norm(generator, dim)}
    return layers("", {"Head1": linear(generator, dim, dim)}) | layers("Head2.", blocks)


NETS = ("net1.0", "net1.1", "net2.0", "net2.1")


def test_both_heads_of_ex_mcr_are_one_space_of_clip(tmp_path, capsys):
    files = {}
    for seed, side in enumerate(("clap", "ulip")):
        files[side] = ex_mcr(seed=seed)
        torch.save(files[side], tmp_path / f"ex_{side}.pt")
    paths = [str(tmp_path / f"ex_{side}.pt") for side in files]
    sides = {"clip": IMAGE, "clap": AUDIO, "ulip": CLOUD}
    flags = [word for side, m in sides.items() for word in (f"--{side}", memory(tmp_path / side, f"my-{side}", m))]
    assert main(["import-heads", *paths, "-o", str(tmp_path / "space"), "--json", *flags]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["dim"] == 512 and "Head1 for audio alone, Head2 for audio and text of clap" in told.err
    space, x = ConnectedSpace.from_pretrained(tmp_path / "space"), rows(5, 512)
    clip, clap, ulip = space.encoders
    assert space.base == clip and [link.via for link in space.links] == [TEXT, IMAGE]
    for modality in (IMAGE, TEXT):
        assert np.allclose(space.project(x, encoder=clip, modality=modality), x, atol=1e-6)
    for encoder, own, shared, state in ((clap, AUDIO, TEXT, files["clap"]), (ulip, CLOUD, IMAGE, files["ulip"])):
        hand = ByHand(state)
        for modality in (own, shared):
            y = hand.linear(x, "Head1") if modality is own else x
            for block in ("mlp1", "mlp2"):
                y = hand.mlp(y, f"Head2.{block}.", names=NETS)
            found = space.project(x, encoder=encoder, modality=modality)
            assert np.allclose(found, unit(y), atol=1e-5), (encoder, modality)


def test_a_head_of_ex_mcr_says_whose_it_is_by_its_name_or_the_user_does(tmp_path):
    torch.save(ex_mcr(), tmp_path / "best.pt")
    with pytest.raises(InputError, match="a head of CLAP, or of ULIP"):
        import_heads(tmp_path / "best.pt")
    with pytest.raises(InputError, match="unknown encoder 'clop'"):
        import_heads(tmp_path / "best.pt", sides={"clap": "clop"})
    torch.save(ex_mcr(), tmp_path / "ex_ulip.pt")
    with pytest.raises(InputError, match=r"--clap: .*ex_ulip.pt connects clip and ulip"):
        import_heads(tmp_path / "ex_ulip.pt", sides={"clap": "clop"})


def test_the_projectors_of_freebind_are_averaged_and_its_factors_are_presets(tmp_path, capsys):
    states = [mlp(seeded(seed), 512, 16, 1024, "Head2.mlps.") for seed in range(3)]
    for mix, state in zip(("mix", "A", "T"), states, strict=True):
        (tmp_path / "IB_PP_G_Proj" / mix).mkdir(parents=True)
        torch.save(state, tmp_path / "IB_PP_G_Proj" / mix / "best.pt")
    paths = [str(path) for path in sorted(tmp_path.glob("*/*/best.pt"))]
    assert main(["import-heads", *paths, "-o", str(tmp_path / "space")]) == 0
    assert "clap -> imagebind: the mean of 3 projectors" in capsys.readouterr().err
    space = ConnectedSpace.from_pretrained(tmp_path / "space")
    hub, clap = space.encoders
    assert hub == space.base == "imagebind" and space.dim == 1024
    x, base = rows(4, 512, 1), rows(4, 1024, 2)
    mean = unit(np.mean([unit(ByHand(state).mlp(x, "Head2.mlps.")) for state in states], axis=0))
    for name, modality, factor in (
        ("versatile", TEXT, 0.1), ("versatile", AUDIO, 0.5), ("at-expertise", TEXT, 0.5), ("at-expertise", AUDIO, 0.8)
    ):  # fmt: skip
        found = space.mix({clap: x, hub: base}, modality=modality, weights=space.presets[name][modality])
        assert np.allclose(found, unit(factor * mean + (1 - factor) * base), atol=1e-5), (name, modality)


def test_projectors_of_freebind_into_one_base_are_one_space_and_those_of_two_are_not(tmp_path):
    for folder, dims in (("IB", (1024, 768)), ("X_M_Proj", (512, 768)), ("other", (512, 1024)), ("odd", (9, 7))):
        (tmp_path / folder).mkdir()
        torch.save(mlp(seeded(), dims[0], 8, dims[1], "Head2.mlps."), tmp_path / folder / "best.pt")
    files = {path.parent.name: path for path in tmp_path.glob("*/best.pt")}
    space, _ = import_heads([files["IB"], files["X_M_Proj"]])
    assert list(space.encoders) == ["internvl", "imagebind", "clap-m"]
    preset = space.presets["versatile"]
    assert preset[IMAGE] == {"internvl": 0.8, "imagebind": 0.2} and preset[AUDIO] == {"imagebind": 0.5, "clap-m": 0.5}
    assert {who: round(weight, 9) for who, weight in preset[TEXT].items()} == {
        "internvl": 0.72, "imagebind": 0.18, "clap-m": 0.1,
    }  # fmt: skip
    space.save(tmp_path / "space")
    assert ConnectedSpace.from_pretrained(tmp_path / "space").presets == space.presets
    with pytest.raises(ArtifactError, match="the files map into imagebind and internvl"):
        import_heads([files["IB"], files["other"]])
    with pytest.raises(ArtifactError, match=r"maps 9 -> 7 components; expected 512 -> 1024 \(clap into imagebind\)"):
        import_heads(files["odd"])


DIMS = {
    "wavcaps-pt": 12,
    "wavcaps-ft-audiocaps": 11,
    "wavcaps-ft-clotho": 10,
    "eva02-e14p": 9,
    "uni3d-lvis": 8,
    "imagebind": 7,
}
EXPERTS = list(DIMS)[:5]
SEEN = {AUDIO: EXPERTS[:3], IMAGE: EXPERTS[3:], CLOUD: EXPERTS[4:], TEXT: EXPERTS}
READ = {AUDIO: EXPERTS[:1], IMAGE: EXPERTS[3:4], CLOUD: EXPERTS[4:], TEXT: [EXPERTS[0], EXPERTS[3], EXPERTS[4]]}
ROUTERS = {AUDIO: "A_enc_router", IMAGE: "V_enc_router", CLOUD: "P_enc_router", TEXT: "T_enc_router"}


def omnibind_base(out=14, hidden=6, widths=(5, 4)):
    """The keys of base.pt, small."""
    state, generator = {}, seeded(3)
    for number, name in enumerate(EXPERTS):
        for mix in range(7):
            state |= mlp(generator, DIMS[name], hidden, out, f"projs.{7 * number + mix}.Head2.mlps.")
    for mix in range(7):
        state |= mlp(generator, DIMS["imagebind"], hidden, out, f"ib_projs.{mix}.Head2.mlps.")
    for modality, name in ROUTERS.items():
        sizes = [sum(DIMS[each] for each in READ[modality]), *widths, len(SEEN[modality]) + (modality is not CLOUD)]
        parts = {"0": linear(generator, sizes[0], sizes[1]), "1": norm(generator, sizes[1])}
        parts |= {"3": linear(generator, sizes[1], sizes[2]), "4": norm(generator, sizes[2])}
        state |= layers(f"{name}.router.", parts | {"6": linear(generator, sizes[2], sizes[3])})
    return state


def omnibind_by_hand(state, modality, raw):
    hand = ByHand(state)

    def mean(name):
        prefix, first = ("ib_projs", 0) if name == "imagebind" else ("projs", 7 * EXPERTS.index(name))
        return np.mean([unit(hand.mlp(raw[name], f"{prefix}.{first + mix}.Head2.mlps.")) for mix in range(7)], axis=0)

    ways = [mean(name) for name in SEEN[modality]]
    if modality is not CLOUD:
        ways.append(mean("imagebind") if modality is AUDIO else unit(mean("imagebind")))
    x = np.concatenate([raw[name] for name in READ[modality]], axis=1)
    router = f"{ROUTERS[modality]}.router."
    x = np.maximum(hand.norm(hand.linear(x, f"{router}0"), f"{router}1"), 0)
    x = np.tanh(hand.norm(hand.linear(x, f"{router}3"), f"{router}4"))
    gates = 1 / (1 + np.exp(-hand.linear(x, f"{router}6"))) * (10 if modality is TEXT else 1)
    weights = np.exp(gates) / np.exp(gates).sum(axis=1, keepdims=True)
    return unit(sum(weights[:, [number]] * way for number, way in enumerate(ways)))


def test_omnibind_routes_as_its_code_does(tmp_path):
    state = omnibind_base()
    torch.save(state, tmp_path / "base.pt")
    space, notes = import_heads(tmp_path / "base.pt")
    space.save(tmp_path / "space")
    space = ConnectedSpace.from_pretrained(tmp_path / "space")
    assert "base.pt: 6 spaces of 7 projectors each, 3 routers" in notes[0]
    for modality in (TEXT, IMAGE, AUDIO, CLOUD):
        names = [name for name in DIMS if modality in space.encoders[name].modalities]
        assert set(names) == {*SEEN[modality], *(["imagebind"] if modality is not CLOUD else [])}
        raw = {name: rows(5, DIMS[name], number) for number, name in enumerate(names)}
        found = space.mix(raw, modality=modality)
        assert np.allclose(found, omnibind_by_hand(state, modality, raw), atol=1e-5), modality
    with pytest.raises(InputError, match="the router of text reads wavcaps-pt, eva02-e14p, uni3d-lvis, and here are"):
        space.mix({name: rows(2, DIMS[name]) for name in EXPERTS[:2]}, modality=TEXT)


def test_other_sizes_of_omnibind_are_told(tmp_path):
    state = {key: value for key, value in omnibind_base().items() if not key.startswith("projs.3")}
    torch.save(state, tmp_path / "full.pt")
    with pytest.raises(
        ArtifactError, match=r"routers of audio 4, image 3, point_cloud 1, text 6 ways; expected base\.pt"
    ):
        import_heads(tmp_path / "full.pt")
    assert len(omnibind._LARGE.experts) == 12 and {m: len(w) for m, w in omnibind._LARGE.weighed().items()} == {
        AUDIO: 6, IMAGE: 8, CLOUD: 3, TEXT: 13,
    }  # fmt: skip


def textme(tmp_path, state=None, text=None, other=None):
    """clap.pt as trainers save it, and the offsets as torch pickles them."""
    state = mlp(seeded(5), 12, 24, 20) if state is None else state
    torch.save({"state_dict": state, "epoch": 50, "args": {"lr": 5e-4}}, tmp_path / "clap.pt")
    (tmp_path / "offsets").mkdir()
    means = [torch.from_numpy(rows(1, 12, seed) * 0.3) for seed in (7, 8)]
    for name, mean, given in zip(("text", "img"), means, (text, other), strict=True):
        (tmp_path / "offsets" / f"{name}_embed_mean.pkl").write_bytes(pickle.dumps(mean) if given is None else given)
    return state, [mean.numpy() for mean in means]


def gelu(y):
    return torch.nn.functional.gelu(torch.from_numpy(y)).numpy()


@pytest.mark.parametrize("protocol", [2, 4])
def test_textme_takes_the_mean_of_a_modality_from_its_vectors(tmp_path, protocol, capsys):
    state, means = textme(tmp_path)
    (tmp_path / "offsets" / "text_embed_mean.pkl").write_bytes(pickle.dumps(torch.from_numpy(means[0]), protocol))
    (tmp_path / "offsets" / "img_embed_mean.pkl").write_bytes(pickle.dumps(means[1][0], protocol))  # a plain array
    command = [
        "import-heads",
        str(tmp_path / "clap.pt"),
        "-o",
        str(tmp_path / "space"),
        "--offsets",
        str(tmp_path / "offsets"),
    ]
    assert main([*command, "--clap", "tiny-clap"]) == 1
    assert "tiny-clap has 48 components, and the clap head takes 12" in capsys.readouterr().err
    assert main(command) == 0
    space, x = ConnectedSpace.from_pretrained(tmp_path / "space"), rows(6, 12)
    base, leaf = space.encoders
    assert base == space.base == "sentence-transformers:Qwen/Qwen3-Embedding-4B"
    for modality, mean in ((TEXT, means[0]), (AUDIO, means[1])):
        found = space.project(x, encoder=leaf, modality=modality)
        assert np.allclose(found, unit(ByHand(state).mlp(x - mean, "mlps.", gelu)), atol=1e-5)


def test_several_projections_of_textme_share_their_base(tmp_path):
    textme(tmp_path)
    torch.save({"projector_state_dict": mlp(seeded(6), 12, 24, 20)}["projector_state_dict"], tmp_path / "uni3d.pt")
    files, folder = [tmp_path / "clap.pt", tmp_path / "uni3d.pt"], tmp_path / "offsets"
    space, _ = import_heads(files, offsets={"clap": folder, "uni3d": folder})
    assert space.modalities == (TEXT, AUDIO, CLOUD) and len(space.links) == 2
    with pytest.raises(InputError, match=r"uni3d\.pt needs the means of its vectors: --offsets uni3d=FOLDER"):
        import_heads(files, offsets={"clap": folder})
    with pytest.raises(InputError, match=r"--offsets clop=\.\.\.: here are the projections of clap, uni3d"):
        import_heads(files, offsets={"clop": folder})


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_offsets_that_are_more_than_arrays_are_refused(tmp_path):
    whole = torch.arange(24.0).reshape(2, 12)
    for number, (content, message) in enumerate(
        (
            (pickle.dumps(Hostile(tmp_path / "ran")), "pickle that wants (posix|nt).system"),
            (pickle.dumps({"mean": torch.zeros(12)}), "dict; expected 12 numbers"),
            (pickle.dumps(torch.zeros(13)), r"float32 \(13,\); expected 12 numbers"),
            (pickle.dumps(torch.full((12,), torch.nan)), "not finite"),
            (pickle.dumps(whole[1]), "impossible shape"),
            (pickle.dumps(whole[0]), "a part of another"),
            (pickle.dumps(torch.zeros(12, dtype=torch.float64)), "expected one of float32"),
            (pickle.dumps(torch.zeros(12)).replace(b"\x0c" + bytes(7), b"\x0d" + bytes(7)), "a part of"),
            (b"no pickle", "damaged pickle|pickle with"),
        )
    ):  # fmt: skip
        (tmp_path / str(number)).mkdir()
        textme(tmp_path / str(number), text=content)
        with pytest.raises(ArtifactError, match=message) as error:
            import_heads(tmp_path / str(number) / "clap.pt", offsets={"": tmp_path / str(number) / "offsets"})
        assert "\n" not in str(error.value) and not (tmp_path / "ran").exists()


def test_what_no_paper_published_is_told_with_its_keys(tmp_path, capsys):
    torch.save({"a.weight": torch.zeros(2, 2), "b": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(ArtifactError, match=r"keys a\.weight, b \.\.\.; expected Head_A.*TextME"):
        import_heads(tmp_path / "x.pt")
    torch.save(audio_visual(8, 8), tmp_path / "c.pt")
    torch.save(ex_mcr(8), tmp_path / "ex_clap.pt")
    with pytest.raises(InputError, match=r"c\.pt is C-MCR's, and another file Ex-MCR's"):
        import_heads([tmp_path / "c.pt", tmp_path / "ex_clap.pt"])
    with pytest.raises(InputError, match="2 files of C-MCR; each is a space of its own"):
        import_heads([tmp_path / "c.pt", tmp_path / "c.pt"])
    with pytest.raises(InputError, match=r"--offsets are TextME's, and .* is Ex-MCR's"):
        import_heads(tmp_path / "ex_clap.pt", offsets={"": tmp_path})
    assert main(["import-heads", str(tmp_path / "c.pt"), "-o", str(tmp_path / "s"), "--encoder", "clap"]) == 2
    assert "expected SIDE=NAME" in capsys.readouterr().err

"""Any number of memories in the space of a frozen base, and spaces of one base joined."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
from worlds import DIM_A, DIM_B, LATENT, rows, space, write

from cmcr import ConnectConfig, ConnectedSpace, Memory, Modality, demo
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.errors import ArtifactError, InputError
from cmcr.space import Link, join_spaces
from cmcr.tiny import folders, world

TEXT, IMAGE, AUDIO, CLOUD = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.POINT_CLOUD
DIM_C = 20
EYES, EARS, HANDS = "enc-a", "enc-b", "enc-c"
HELD = {TEXT: (1, DIM_A), IMAGE: (1, DIM_A), AUDIO: (2, DIM_B), CLOUD: (3, DIM_C)}
OF = {TEXT: EYES, IMAGE: EYES, AUDIO: EARS, CLOUD: HANDS}


@pytest.fixture(scope="module")
def memories(tmp_path_factory):
    """Eyes: text and image; ears: the texts and sounds; hands: the images and shapes. Ears and hands share nothing."""
    folder, rng = tmp_path_factory.mktemp("star"), np.random.default_rng(0)
    latent = {name: rng.normal(size=(240, LATENT)) for name in "tisp"}
    drawn = {name: rows(name, 240) for name in latent}

    def held(seed, dim, name, modality):
        return space(seed, dim, latent[name], modality), drawn[name]

    write(folder / "eyes", EYES, {TEXT: held(1, DIM_A, "t", 0), IMAGE: held(1, DIM_A, "i", 1)})
    write(folder / "ears", EARS, {TEXT: held(2, DIM_B, "t", 0), AUDIO: held(2, DIM_B, "s", 2)})
    write(folder / "hands", HANDS, {IMAGE: held(3, DIM_C, "i", 1), CLOUD: held(3, DIM_C, "p", 3)})
    write(folder / "text-only", EYES, {TEXT: held(1, DIM_A, "t", 0)})
    write(folder / "others", "enc-d", {AUDIO: held(4, 9, "s", 0), CLOUD: held(4, 9, "p", 1)})
    return folder


@pytest.fixture(scope="module", params=["linear", "route"])
def star(request, memories, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "space"
    names = [str(memories / name) for name in ("eyes", "ears", "hands")]
    assert main(["connect", *names, "-o", str(out), "--method", request.param, "--freeze-base"]) == 0
    return out


def seen(count=60):
    """Return the same things as each modality sees them; no memory holds them."""
    latents = np.random.default_rng(7).normal(size=(count, LATENT))
    numbers = {TEXT: 0, IMAGE: 1, AUDIO: 2, CLOUD: 3}
    return {modality: space(*HELD[modality], latents, numbers[modality]) for modality in numbers}


def recall(queries, gallery, k):
    scores = queries @ gallery.T
    return float(np.mean((scores >= np.diag(scores)[:, None]).sum(axis=1) <= k))


def test_every_pair_of_modalities_retrieves_though_sound_and_shape_were_never_linked(star):
    connected, things = ConnectedSpace.from_pretrained(star), seen()
    assert list(connected.encoders) == [EYES, EARS, HANDS] and connected.base == EYES
    assert connected.links == (Link(EYES, EARS, TEXT, IMAGE, AUDIO), Link(EYES, HANDS, IMAGE, TEXT, CLOUD))
    placed = {m: connected.project(x, encoder=OF[m], modality=m) for m, x in things.items()}
    for one, other in itertools.permutations(placed, 2):
        assert recall(placed[one], placed[other], 5) > 4 * 5 / 60, (one, other)


def test_the_vectors_of_the_base_and_their_order_are_kept(star, memories):
    connected, base = ConnectedSpace.from_pretrained(star), Memory.open(memories / "eyes")
    raw, placed = (
        seen(),
        {m: connected.project(x, encoder=EYES, modality=m) for m, x in seen().items() if OF[m] == EYES},
    )
    for modality in (TEXT, IMAGE):
        assert np.allclose(connected.project(base, modality=modality), base.vectors(modality), atol=1e-7)
        assert np.allclose(placed[modality], raw[modality], atol=1e-7)
    assert [recall(placed[TEXT], placed[IMAGE], k) for k in (1, 3)] == [
        recall(raw[TEXT], raw[IMAGE], k) for k in (1, 3)
    ]
    assert connected.projectors[EYES].config.kind == "identity" and not connected.projectors[EYES].config.centered


def test_a_modality_of_several_encoders_goes_through_the_base_unless_one_is_named(star):
    connected, things = ConnectedSpace.from_pretrained(star), seen()
    assert connected.encoder_for(TEXT).name == connected.encoder_for(IMAGE).name == EYES
    assert np.allclose(connected.project(things[TEXT], modality=TEXT), things[TEXT], atol=1e-6)
    assert connected.encoder_for(TEXT, EARS).name == EARS
    heard = space(2, DIM_B, np.random.default_rng(7).normal(size=(60, LATENT)), 0)
    both = connected.mix({EYES: things[TEXT], EARS: heard}, modality=TEXT, weights={EARS: 0.5})
    assert recall(both, things[TEXT], 1) > 0.9


def test_joined_spaces_are_what_connecting_at_once_gives(star, memories, tmp_path, capsys):
    method = ConnectedSpace.from_pretrained(star).method
    for leaf in ("ears", "hands"):
        names = [str(memories / "eyes"), str(memories / leaf)]
        assert main(["connect", *names, "-o", str(tmp_path / leaf), "--method", method, "--freeze-base"]) == 0
    parts = [str(tmp_path / leaf) for leaf in ("ears", "hands")]
    capsys.readouterr()
    assert main(["join", *parts, "-o", str(tmp_path / "joined"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["base"] == EYES
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "joined" / name).read_bytes() == (star / name).read_bytes()
    assert main(["info", "--verify", str(tmp_path / "joined")]) == main(["info", "--verify", str(star)]) == 0
    assert main(["join", *parts, "-o", str(tmp_path / "joined")]) == 1
    assert "holds a space; choose another folder or add --overwrite" in capsys.readouterr().err


def test_a_star_goes_on_and_does_not_replace_another(star, memories, tmp_path):
    shutil.copytree(star.parent, tmp_path / "copy")
    again, config = tmp_path / "copy" / "space", ConnectConfig(method=ConnectedSpace.from_pretrained(star).method)
    names = [memories / name for name in ("ears", "hands")]
    made = connect(memories / "eyes", *names, out=again, config=config)
    assert (again / "config.json").read_bytes() == (star / "config.json").read_bytes()
    assert [link.overlap.modality for link in made.links] == [TEXT, IMAGE]
    with pytest.raises(ArtifactError, match="is a run of other memories"):
        connect(memories / "eyes", names[0], again, config, freeze_base=True)
    with pytest.raises(ArtifactError, match="is a run of another recipe"):
        connect(memories / "eyes", memories / "ears", again, ConnectConfig())


def test_a_base_of_text_alone_takes_others_in(memories, tmp_path):
    connect(
        memories / "text-only",
        memories / "ears",
        out=tmp_path / "space",
        config=ConnectConfig(method="linear"),
        freeze_base=True,
    )
    connected, things = ConnectedSpace.from_pretrained(tmp_path / "space"), seen()
    heard = connected.project(things[AUDIO], encoder=EARS, modality=AUDIO)
    assert recall(heard, things[TEXT], 5) > 4 * 5 / 60


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (
            ["eyes", "ears", "hands"],
            [],
            "c-mcr moves both sides; choose --method linear, route, .* or auto, or connect two",
        ),
        (
            ["eyes", "ears"],
            ["--freeze-base"],
            "c-mcr moves both sides; choose --method linear, route, .* or auto, or leave out",
        ),
        (["eyes", "ears"], ["--method", "ensemble", "--freeze-base"], "ensemble moves both sides; .*one-sided"),
        (
            ["eyes", "ears", "others"],
            ["--method", "linear"],
            "eyes holds image, text, .*others holds audio, point_clou",
        ),
        (["eyes", "ears", "ears"], ["--method", "linear"], "two of the memories are of enc-b"),
        (["eyes", "text-only"], ["--method", "linear", "--freeze-base"], "two of the memories are of enc-a"),
        (
            ["eyes", "ears", "hands"],
            ["--method", "linear", "--via", "text", "--via", "text"],
            "--via text: not in both",
        ),
        (["eyes", "ears"], ["--via", "text", "--via", "image"], "2 overlaps for two memories"),
        (["eyes", "ears", "hands"], ["--method", "linear", *["--via", "text"] * 3], "3 overlaps for 2 memories"),
        (
            ["eyes", "ears", "hands"],
            ["--method", "linear", "--outer-a", "image"],
            "--outer-a and --outer-b are for two",
        ),
    ],
)
def test_what_is_no_star_is_refused_in_one_line(names, more, message, memories, tmp_path, capsys):
    assert main(["connect", *(str(memories / name) for name in names), "-o", str(tmp_path / "space"), *more]) == 1
    told = capsys.readouterr().err.strip()
    assert re.search(message, told) and "\n" not in told
    assert not (tmp_path / "space").exists()


def test_what_is_no_call_is_refused_before_anything_is_written(memories, tmp_path):
    config = ConnectConfig(method="linear")
    eyes, ears, hands = (memories / name for name in ("eyes", "ears", "hands"))
    for given, named, message in (
        ((eyes, ears, hands), {"config": config}, "hands is a memory; choose another folder for the space"),
        ((eyes, ears), {"config": config}, "1 memories; give two or more, and the folder of the space"),
        ((eyes,), {"out": tmp_path / "s"}, "1 memories; give two or more"),
        ((eyes, ears, Memory.open(hands)), {}, "out is a Memory; expected the folder of the space"),
        ((eyes, ears, tmp_path / "s", {"method": "linear"}), {}, "config is a dict; expected a ConnectConfig"),
        ((eyes, ears, hands, tmp_path / "s", config), {"outer_b": AUDIO}, "--outer-b are for two memories"),
    ):
        with pytest.raises(InputError, match=message):
            connect(*given, **named)
    assert not (tmp_path / "s").exists() and not (memories / "hands.run").exists()


def linked(memories, folder, base="eyes", leaf="ears", **more):
    name = f"{base}-{leaf}{len(more)}"
    return connect(memories / base, memories / leaf, folder / name, ConnectConfig(method="linear"), **more).space


def test_spaces_that_cannot_be_joined_are_named(memories, tmp_path):
    one = linked(memories, tmp_path, freeze_base=True)
    with pytest.raises(InputError, match="enc-b is in two of the spaces"):
        join_spaces(one, one)
    with pytest.raises(InputError, match=r"space enc-a \+ enc-c has no frozen base"):
        join_spaces(one, linked(memories, tmp_path, leaf="hands"))
    with pytest.raises(InputError, match=r"different bases, enc-a \(fp-enc-a\) and enc-c \(fp-enc-c\)"):
        join_spaces(one, linked(memories, tmp_path, "hands", "others", via=CLOUD, freeze_base=True))
    with pytest.raises(InputError, match="no space to join"):
        join_spaces()


def test_what_cannot_be_joined_leaves_nothing_and_no_space_is_written_into_a_memory(memories, tmp_path, capsys):
    linked(memories, tmp_path, freeze_base=True)
    linked(memories, tmp_path, "hands", "others", via=CLOUD, freeze_base=True)
    one, other = (str(tmp_path / name) for name in ("eyes-ears1", "hands-others2"))
    assert main(["join", one, other, "-o", str(tmp_path / "both")]) == 1
    told = capsys.readouterr().err
    assert "different bases" in told and told.count("\n") == 1 and not (tmp_path / "both").exists()
    shutil.copytree(memories / "eyes", tmp_path / "eyes")
    before = sorted(tmp_path.glob("eyes/**"))
    with pytest.raises(InputError, match="eyes is a memory; choose another folder for the space"):
        ConnectedSpace.from_pretrained(one).save(tmp_path / "eyes")
    assert sorted(tmp_path.glob("eyes/**")) == before


def test_a_third_space_joins_what_was_joined(memories, tmp_path, star):
    write(tmp_path / "nose", "enc-n", dict(_vectors(memories / "ears")))
    shutil.copytree(memories / "eyes", tmp_path / "eyes")
    third = connect(
        memories / "eyes", tmp_path / "nose", tmp_path / "third", ConnectConfig(method="linear"), freeze_base=True
    ).space
    both = join_spaces(ConnectedSpace.from_pretrained(star), third)
    assert list(both.encoders) == [EYES, EARS, HANDS, "enc-n"] and len(both.links) == 3
    assert {"enc-b.overlap_r1", "enc-c.overlap_r1", "enc-n.overlap_r1"} <= both.metrics.keys()
    assert both.recipe["seed"] == 0 and not any(key.startswith("enc-b.enc") for key in both.recipe)
    both.save(tmp_path / "both")
    assert ConnectedSpace.from_pretrained(tmp_path / "both").fingerprint == both.fingerprint


def _vectors(path):
    memory = Memory.open(path)
    return {modality: (memory.vectors(modality), list(memory.metadata(modality))) for modality in memory.modalities}


@pytest.mark.slow
def test_the_tiny_world_in_one_space(tmp_path):
    """tiny-clip as the base, tiny-clap by text and tiny-ulip by image: all four modalities find each other."""
    folders.write_unpaired(tmp_path, 0, dict.fromkeys(demo.SIZES, 300))
    folders.write_paired(tmp_path / "test", world.test_scenes(0), 0)
    embedded = {
        "clip": ("texts/of-pictures.txt", "texts/of-sounds.txt", "images"),
        "clap": ("texts/of-pictures.txt", "texts/of-sounds.txt", "sounds"),
        "ulip": ("images", "clouds"),
        "test-clip": ("test/texts.jsonl", "test/images"),
        "test-clap": ("test/sounds",),
        "test-ulip": ("test/clouds",),
    }
    for memory, sources in embedded.items():
        for source in sources:
            encoder = f"tiny-{memory.removeprefix('test-')}"
            assert main(["embed", str(tmp_path / source), "--encoder", encoder, "-o", str(tmp_path / memory)]) == 0
    three = [str(tmp_path / name) for name in ("clip", "clap", "ulip")]
    assert main(["connect", *three, "-o", str(tmp_path / "space"), "--method", "route", "--freeze-base"]) == 0
    connected = ConnectedSpace.from_pretrained(tmp_path / "space")
    of = {TEXT: "test-clip", IMAGE: "test-clip", AUDIO: "test-clap", CLOUD: "test-ulip"}
    raw = {m: Memory.open(tmp_path / name).vectors(m) for m, name in of.items()}
    placed = {m: connected.project(Memory.open(tmp_path / name), modality=m) for m, name in of.items()}
    for one, other in itertools.permutations(of, 2):
        assert recall(placed[one], placed[other], 10) > 4 * 10 / 96, (one, other)
    assert all(np.allclose(placed[m], raw[m], atol=1e-6) for m in (TEXT, IMAGE))
    assert recall(placed[TEXT], placed[IMAGE], 1) == recall(raw[TEXT], raw[IMAGE], 1)
    sound, shapes = str(tmp_path / "test" / "sounds" / "00000.wav"), str(tmp_path / "test-ulip")
    asked = ["retrieve", str(tmp_path / "space"), sound, "--in", shapes, "--modality", "point_cloud", "-k", "3"]
    assert main(asked) == 0

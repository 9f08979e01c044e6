"""Spaces connected by several mixes of data, joined into one whose maps are averaged."""

import numpy as np
import pytest
from worlds import DIM_B, LATENT, space, two_memories

from cmcr import ConnectConfig, ConnectedSpace, Modality
from cmcr.cli import main
from cmcr.connect import connect
from cmcr.errors import InputError
from cmcr.space import SpaceEncoder, Way, join_spaces

TEXT, AUDIO = Modality.TEXT, Modality.AUDIO


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("average"), []
    for seed in range(3):
        (folder / str(seed)).mkdir()
        a, b, _ = two_memories(folder / str(seed), texts=60, outer=60, seed=seed)
        made.append(
            connect(a, b, out=folder / f"by-{seed}", config=ConnectConfig(method="linear"), freeze_base=True).space
        )
    return folder, made


def test_an_encoder_of_several_spaces_enters_by_the_mean_of_its_maps(parts, tmp_path, capsys):
    folder, made = parts
    made[0].keep_preset("near", {TEXT: {"enc-a": 1, "enc-b": 0.5}})
    made[0].save(folder / "by-0")
    paths = [str(folder / f"by-{number}") for number in range(3)]
    assert main(["join", *paths, "-o", str(tmp_path / "no")]) == 1
    assert (
        "enc-b is in two of the spaces; it enters a space once: the mean of its maps: --average"
        in capsys.readouterr().err
    )
    assert main(["join", *paths, "-o", str(tmp_path / "all"), "--average"]) == 0
    joined = ConnectedSpace.from_pretrained(tmp_path / "all")
    assert [len(way.maps) for way in joined.ways] == [1, 3] and len(joined.links) == 1 and joined.base == "enc-a"
    assert joined.presets == {"near": {TEXT: {"enc-a": 1, "enc-b": 0.5}}}
    rows = space(2, DIM_B, np.random.default_rng(9).normal(size=(40, LATENT)), 1)
    each = [one.project(rows, encoder="enc-b", modality=AUDIO) for one in made]
    mean = np.mean(each, axis=0)
    assert np.allclose(
        joined.project(rows, encoder="enc-b", modality=AUDIO),
        mean / np.linalg.norm(mean, axis=1, keepdims=True),
        atol=1e-6,
    )
    both = join_spaces(join_spaces(made[0], made[1], average=True), made[2], average=True)
    assert both.fingerprint == joined.fingerprint


def test_what_has_no_mean_is_refused(parts):
    _, made = parts
    one, other = made[:2]
    stranger = {**one.encoders, "enc-b": SpaceEncoder("enc-b", "another", DIM_B, (TEXT, AUDIO))}
    with pytest.raises(InputError, match="enc-b is in two of the spaces; it enters a space once: leave one out"):
        join_spaces(other, ConnectedSpace(stranger, one.maps, TEXT, "linear", links=one.links), average=True)
    ways = (
        Way("enc-a", one.encoders["enc-a"].modalities, ("enc-a",)),
        Way("enc-b", (TEXT,), ("enc-b",)),
        Way("enc-b", (AUDIO,), ("enc-b",)),
    )
    apart = ConnectedSpace(one.encoders, one.maps, TEXT, "linear", ways=ways, links=one.links)
    with pytest.raises(InputError, match=r"enc-b enters the spaces by other ways \(text\+audio and text\)"):
        join_spaces(other, apart, average=True)

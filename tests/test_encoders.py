"""Encoders by name; the catalogue of what is installed and what is missing."""

import importlib.metadata
import json

import pytest

from cmcr.cli import main
from cmcr.encoders import ALIASES, TINY, known_encoders, load_encoder
from cmcr.encoders.catalogue import OFFERS
from cmcr.errors import UnknownEncoderError


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(UnknownEncoderError, match=r"unknown encoder 'clop'; expected one of .*; did you mean 'clip'"):
        load_encoder("clop")
    for name in ("open_clop:ViT-B-32/openai", "open_clip:", "open_clip", ""):
        with pytest.raises(UnknownEncoderError):
            load_encoder(name)


def test_the_catalogue_offers_every_encoder_that_loads():
    assert {offer.name for offer in OFFERS} == set(known_encoders())
    for offer in OFFERS:
        assert ALIASES.get(offer.name, offer.stands_for) == offer.stands_for
        if offer.name in TINY:
            encoder = load_encoder(offer.name)
            assert (encoder.modalities, encoder.dim) == (offer.modalities, offer.dim)


def test_cmcr_encoders_tells_what_is_there_and_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CMCR_WEIGHTS", str(tmp_path))
    real = importlib.metadata.version

    def version(name):
        if name == "laion-clap":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("cmcr.encoders.catalogue.version", version)
    (tmp_path / "pointbert_ULIP-2.pt").write_bytes(b"")
    assert main(["encoders", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    by_name = {each["name"]: each for each in shown["encoders"]}
    assert shown["weights_folder"] == str(tmp_path)
    assert by_name["clap"]["installed"] is False and by_name["clap"]["install"] == "pip install 'cmcr[clap]'"
    assert by_name["clap"]["expected"].startswith("630k-fusion-best.pt (https://")
    assert by_name["clip"]["library"] == f"open_clip_torch {real('open_clip_torch')}"
    assert by_name["ulip"]["weights"] == str(tmp_path / "pointbert_ULIP-2.pt")
    assert by_name["tiny-clap"]["dim"] == 48 and by_name["tiny-clap"]["modalities"] == ["audio", "text"]
    assert main(["encoders"]) == 0
    table = capsys.readouterr()
    assert "missing: pip install 'cmcr[clap]'" in table.out and str(tmp_path) in table.err


@pytest.mark.parametrize("given", ["0", "many", "-1"])
def test_a_batch_size_is_auto_or_a_number(given, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("a dog")
    command = ["embed", str(tmp_path / "t.txt"), "-e", "tiny-clip", "-o", str(tmp_path / "mem")]
    assert main([*command, f"--batch-size={given}"]) == 2
    assert "expected auto, or 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_precision_gives_nearly_the_same_vectors(precision, tmp_path):
    import numpy as np

    from cmcr.memory import Memory

    (tmp_path / "t.txt").write_text("a red ball\ntwo small blue boxes\nthree cones\n")
    for given in ("fp32", precision):
        command = ["embed", str(tmp_path / "t.txt"), "-e", "tiny-clip", "-o", str(tmp_path / given)]
        assert main([*command, "--precision", given, "--dtype", "float32"]) == 0
    full, lower = (Memory.open(tmp_path / given).vectors("text") for given in ("fp32", precision))
    assert (full * lower).sum(1).min() > 0.999
    assert not np.array_equal(full, lower)  # it does act

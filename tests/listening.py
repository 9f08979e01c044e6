"""A small space in which tiny-clip's pictures and tiny-clap's sounds meet: made in a second, far above chance."""

from cmcr.connect import ConnectConfig, connect
from cmcr.embed import embed
from cmcr.encoders import load_encoder
from cmcr.items import read_items
from cmcr.memory import Memory
from cmcr.tiny.folders import write_unpaired

TEXTS = ("texts/of-pictures.txt", "texts/of-sounds.txt")


def write_listening_space(folder):
    """Write ``folder/space``, connected through 600 texts by a route; no picture and sound of it are a pair."""
    write_unpaired(folder, 0, {"texts": 600, "images": 60, "sounds": 60, "clouds": 0})
    for name, own in (("clip", "images"), ("clap", "sounds")):
        encoder = load_encoder(f"tiny-{name}")
        for source in (*TEXTS, own):
            embed(encoder, read_items(str(folder / source), None, encoder.modalities), folder / "mem" / name)
    memories = (Memory.open(folder / "mem" / name) for name in ("clip", "clap"))
    connect(*memories, folder / "space", ConnectConfig(method="route", route_tau=0.05, route_top_k=0))
    return folder / "space"

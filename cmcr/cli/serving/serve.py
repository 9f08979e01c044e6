"""``cmcr serve``: a page to search with, and an API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmcr import console
from cmcr.cli.flags import with_flags
from cmcr.cli.options import EncoderWeight, MediaRoot, WeightPreset
from cmcr.serve.settings import Serving

if TYPE_CHECKING:
    from cmcr.serve import Service

DECODING = 1 << 30
"""Bytes that decoding what strangers upload may take together."""


@with_flags
def serve(
    space: Annotated[Path, typer.Argument(help="A space folder made by cmcr connect.", show_default=False)],
    memories: Annotated[
        list[Path],
        typer.Option(
            "--in", help="A memory to search; may be repeated. Rows of one id are one item.", show_default=False
        ),
    ],
    *,
    settings: Serving,
    weight: EncoderWeight = None,
    preset: WeightPreset = None,
    index: Annotated[
        Literal["exact", "flat", "hnsw", "ivf"],
        typer.Option(help="How to search; all but exact where cmcr index made one, opened memory-mapped."),
    ] = "exact",
    device: Annotated[str, typer.Option(help="Where the encoders run: auto, cpu, cuda or mps.")] = "auto",
    weights: Annotated[
        list[Path] | None, typer.Option(help="Encoders' weights: files, or folders that hold them.")
    ] = None,
    media_root: MediaRoot = None,
) -> None:
    """Serve a space: a page to search its memories with, and an API (docs at /openapi.json).

    Text, pictures, sounds, clouds and rows are asked for any modality of the memories. Only this machine reaches it,
    unless --host and --token say otherwise.
    """
    from cmcr.memory import MediaRoots
    from cmcr.serve.run import address, check_installed, serve, take_port

    check_installed()
    given = {"weights": weights or (), "shares": weight or (), "preset": preset}
    taken = take_port(settings)
    with taken:
        roots = MediaRoots(media_root or ())
        service = _service(space, memories, index, device, given)
        held = ", ".join(f"{shelf.rows} {each}" for each, shelf in service.shelves.items())
        console.say(f"serving {space} with {held} rows: open {address(taken, settings)} (Ctrl-C ends)")
        idle = serve(service, settings, taken, roots)
    console.say("ended")
    if not idle:  # Python would wait for the threads that are late
        os._exit(0)


def _service(space: Path, memories: list[Path], index: str, device: str, given: dict[str, Any]) -> Service:
    from cmcr.decode.common import BUDGET
    from cmcr.devices import choose_device
    from cmcr.memory import Memory
    from cmcr.serve import ReadySubject, Service
    from cmcr.space import ConnectedSpace

    BUDGET.total = min(BUDGET.total, DECODING)
    subject = ReadySubject(str(space), ConnectedSpace.from_pretrained(space), device=choose_device(device), **given)
    with console.progress("opening") as progress:
        service = Service(subject, [Memory.open(path) for path in memories], index=index, progress=progress)
    for modality in subject.modalities:
        if reason := subject.reason(modality):
            console.warn(f"no query of {modality}: {reason}")
    for note in service.notes:
        console.say(note)
    return service

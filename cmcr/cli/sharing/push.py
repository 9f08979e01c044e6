"""``cmcr push``: put a space on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcr import console


def push(
    space: Annotated[Path, typer.Argument(help="A space folder.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="ORG/NAME on the Hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the space. (default: the encoders' where they agree, else other)"),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="A data set on the Hub by whose rows it was connected; may be repeated.", show_default=False),
    ] = None,
    widget: Annotated[
        list[str] | None, typer.Option(help="A text that a reader may try; may be repeated.", show_default=False)
    ] = None,
    revision: Annotated[str | None, typer.Option(help="The branch. (default: main)")] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="Of the commit.")] = "A connected space",
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose it instead of changing the branch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Put a space on the Hub, with its card, in one commit.

    The token is the one that hf auth login stored, or HF_TOKEN. The space is then opened by its name wherever a command
    takes a SPACE.
    """
    from cmcr.space import About, ConnectedSpace
    from cmcr.space.card import UNKNOWN, licence_of

    opened = ConnectedSpace.from_pretrained(space)
    about = About(licence, tuple(dataset or ()), tuple(widget or ()))
    unknown = [name for name in opened.encoders if licence_of(name) == UNKNOWN]
    if unknown:
        console.warn(f"the licence of {', '.join(unknown)} is not known here, and the card says so; look it up")
    address = opened.push_to_hub(
        repository, about=about, private=private, revision=revision, message=message, create_pr=create_pr
    )
    if as_json:
        console.show_json({"repository": repository, "commit": address})
    else:
        console.show_table(("repository", "commit"), [(repository, address)])
    console.say(f"next: cmcr retrieve {repository} QUERY --in MEMORY")

"""Published files of heads, told by their keys, as one connected space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmcr.encoders.weights import read_state
from cmcr.errors import ArtifactError, InputError
from cmcr.files import sha256_file
from cmcr.space.heads import c_mcr, ex_mcr, freebind, omnibind, textme
from cmcr.space.heads.sides import File, Sides
from cmcr.space.space import ConnectedSpace

_PAPERS = {"C-MCR": c_mcr, "Ex-MCR": ex_mcr, "OmniBind": omnibind, "FreeBind": freebind, "TextME": textme}
_ONE = ("C-MCR", "OmniBind")
"""Papers whose space is one file."""
KNOWN = (
    "Head_A.net1.0.weight (clap_clip.pt), Head_A.net.0.weight (ulip_clip.pt), Head1.weight with Head2.mlp1 "
    "(ex_clap.pt, ex_ulip.pt), Head2.mlps.0.weight (FreeBind's best.pt), projs.0.Head2.mlps.0.weight with ib_projs "
    "(OmniBind's base.pt), or mlps.0.weight (TextME's)"
)


def import_heads(
    path: str | Path | Sequence[str | Path],
    *,
    sides: Mapping[str, str] | None = None,
    weights: Sequence[Path] = (),
    offsets: Mapping[str, Path] | None = None,
) -> tuple[ConnectedSpace, list[str]]:
    """Turn published files of heads into a space.

    Args:
        path: The file, or several of one paper; read without running anything in them.
        sides: By side of the file (``clip``, ``clap``, ``ulip``, ``imagebind``, ...) the name of an encoder, or a
            memory made with it: whose vectors go through that head. Left out: the encoder the authors used.
        weights: Where the encoders' weights are looked for first.
        offsets: For TextME, by file name (``clap``) the folder that holds the means of its vectors; ``""`` for one
            file alone.

    Returns:
        The space, and remarks for the user. An encoder that cannot be loaded, and was not named, enters without a
        fingerprint: its memories are then told by their encoder's name alone.

    Raises:
        InputError: no such file, a side that the file does not have, or a named encoder that cannot be loaded.
        ArtifactError: not a heads file, or damaged; the message has the keys seen.
    """
    paths = [Path(each) for each in ([path] if isinstance(path, str | Path) else path)]
    if missing := next((each for each in paths if not each.is_file()), None):
        raise InputError(f"{missing}: no such file; expected heads such as clap_clip.pt or ex_clap.pt")
    files = [File(each, read_state(each)) for each in paths]
    papers = [_paper(file) for file in files]
    if len(set(papers)) > 1:
        raise InputError(f"{files[0].path} is {papers[0]}'s, and another file {papers[-1]}'s; give those of one paper")
    paper, own = papers[0], Sides(dict(sides or {}), weights)
    if paper in _ONE and len(files) > 1:
        raise InputError(f"{len(files)} files of {paper}; each is a space of its own: give one")
    if offsets and paper != "TextME":
        raise InputError(f"--offsets are TextME's, and {files[0].path} is {paper}'s; leave them out")
    found = textme.read(files, own, offsets or {}) if paper == "TextME" else _PAPERS[paper].read(files, own)
    recipe = {"heads": files[0].path.name, "heads_sha256": sha256_file(files[0].path)}
    recipe |= {f"heads.{number}": sha256_file(file.path) for number, file in enumerate(files[1:], 1)}
    found.recipe = recipe
    return found, own.notes


def _paper(file: File) -> str:
    for name, paper in _PAPERS.items():
        if paper.fits(file):
            return name
    raise ArtifactError(f"{file.path}: keys {', '.join(sorted(file.state)[:12])} ...; expected {KNOWN}")

"""The published heads of C-MCR's successors as spaces, from your own copies of the files.

    python examples/published_heads.py SPACE ex_clap.pt ex_ulip.pt                 # Ex-MCR
    python examples/published_heads.py SPACE IB_PP_G_Proj/*/best.pt                # FreeBind
    python examples/published_heads.py SPACE base.pt                               # OmniBind
    python examples/published_heads.py SPACE clap.pt --offsets offsets/clap_audiocaps  # TextME

Prints who goes through which maps. Without files, a random one of Ex-MCR's shape is made and read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cmcr.space import import_heads


def random_head(path: Path, dim: int = 64) -> Path:
    """Write a file with the keys of ``ex_clap.pt``, for tiny-clip and tiny-clap."""

    def norm(width: int) -> dict[str, torch.Tensor]:
        return torch.nn.BatchNorm1d(width).state_dict()

    def linear(inputs: int, outputs: int) -> dict[str, torch.Tensor]:
        return torch.nn.Linear(inputs, outputs).state_dict()

    parts = {"Head1": linear(48, 48)}
    for block, inputs in (("mlp1", 48), ("mlp2", dim)):
        parts |= {f"Head2.{block}.net1.0": linear(inputs, 2 * dim), f"Head2.{block}.net1.1": norm(2 * dim)}
        parts |= {f"Head2.{block}.net2.0": linear(2 * dim, dim), f"Head2.{block}.net2.1": norm(dim)}
    torch.save({f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", type=Path)
    parser.add_argument("heads", type=Path, nargs="*")
    parser.add_argument("--offsets", type=Path)
    given = parser.parse_args()
    files, sides = given.heads, {}
    if not files:
        given.space.mkdir(parents=True, exist_ok=True)
        files, sides = [random_head(given.space / "ex_clap.pt")], {"clip": "tiny-clip", "clap": "tiny-clap"}
    space, notes = import_heads(files, sides=sides, offsets={"": given.offsets} if given.offsets else None)
    space.save(given.space)
    print("\n".join(notes))
    for way in space.ways:
        print(f"{way.encoder}: {', '.join(way.modalities)} through {len(way.maps)} maps")


if __name__ == "__main__":
    main()

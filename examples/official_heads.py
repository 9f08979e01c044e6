"""Check the published C-MCR heads against the tables in their README, with your own copies of all weights.

    python examples/official_heads.py clap_clip.pt ASSETS --weights WEIGHTS
    python examples/official_heads.py ulip_clip.pt ASSETS --weights WEIGHTS

ASSETS holds three things (toilet, BBQ, train) in each modality: the files of a modality in one order when sorted by
name, and their descriptions as three lines of texts.txt. WEIGHTS is a folder with 630k-fusion-best.pt and
roberta-base/, pointbert_ULIP-2.pt, and CLIP's weights unless open_clip may fetch them.

Prints softmax(10 cos) of every pair of modalities, the published diagonal beside ours, and how far apart they are.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from cmcr import Modality
from cmcr.ask import ask
from cmcr.space import import_heads

# Diagonals of softmax(10 cos) in the README of MCR-PEFT/C-MCR, in the order toilet, BBQ, train.
PUBLISHED = {
    ("text", ("audio", "text")): (0.9937, 0.9434, 0.8934),
    ("text", ("audio", "image")): (0.9712, 0.8966, 0.9616),
    ("text", ("image", "text")): (0.9681, 0.9398, 0.9910),
    ("image", ("point_cloud", "image")): (0.6783, 0.7866, 0.6512),
    ("image", ("point_cloud", "text")): (0.7448, 0.5625, 0.5346),
    ("image", ("image", "text")): (0.7340, 0.5995, 0.6542),
}
TEMPERATURE = 0.1


def things(assets: Path, modality: Modality) -> list[str]:
    """Return the three queries of a modality."""
    if modality is Modality.TEXT:
        found = (assets / "texts.txt").read_text("utf-8").splitlines()
    else:
        found = sorted(str(path) for path in assets.iterdir() if path.suffix.lower() in modality.suffixes)
    if len(found) != 3:
        raise SystemExit(f"{assets}: {len(found)} things of {modality}; expected three")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", type=Path)
    parser.add_argument("assets", type=Path)
    parser.add_argument("--weights", type=Path, action="append", default=[])
    for side in ("clip", "clap", "ulip"):
        parser.add_argument(f"--{side}", help=f"another encoder than {side}, such as hf_clap:laion/clap-htsat-fused")
    given = parser.parse_args()
    sides = {side: getattr(given, side) for side in ("clip", "clap", "ulip") if getattr(given, side)}
    space, notes = import_heads(given.heads, sides=sides, weights=given.weights)
    if space.overlap is Modality.IMAGE and not given.ulip:
        sides["ulip"] = "ulip:pointbert_ULIP-2.pt#raw"  # the tables come from clouds taken as they are
        space, notes = import_heads(given.heads, sides=sides, weights=given.weights)
    print("\n".join(notes))
    # Text, and an image where CLIP has it, are CLIP's: the space's first encoder embeds what several could.
    vectors = {
        modality: np.stack(
            [
                ask(space, query, modality=modality, weights=given.weights).vector
                for query in things(given.assets, modality)
            ]
        )
        for modality in space.modalities
    }
    for one, other in itertools.permutations(space.modalities, 2):
        published = PUBLISHED.get((str(space.overlap), (str(one), str(other))))
        if published is None:
            continue
        logits = vectors[one] @ vectors[other].T / TEMPERATURE
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        print(f"\n{one} -> {other}, softmax(10 cos)")
        print("\n".join("  ".join(f"{share:.4f}" for share in row) for row in shares))
        apart = np.abs(shares.diagonal() - published)
        print(
            f"published diagonal {'  '.join(f'{share:.4f}' for share in published)}; "
            f"largest difference {apart.max():.4f}"
        )


if __name__ == "__main__":
    main()

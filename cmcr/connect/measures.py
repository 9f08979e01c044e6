"""What the measures of a connection mean, in words: for the table that ``cmcr connect`` prints."""

from __future__ import annotations

MEASURES = {
    "epoch": "the epoch whose weights were kept",
    "loss": "mean of the method's objective over that epoch; of one method and data only, comparable with itself",
    "overlap_r1": "held-out overlap rows whose nearest row of the other encoder is the same item",
    "pseudo_r1": "held-out recalled pairs that find each other first, as overlap_r1 counts",
    "gap_before": "distance of the two encoders' mean overlap vectors where nothing moved them together",
    "gap_after": "the same distance in the space: 0 is no gap",
    "outer_gap_after": "that distance of the two outer modalities, in the space",
    "agreement": "rows that find a match among their 10 nearest; matches lie nearest to one held-out overlap row",
    "agreement_rows": "rows that have such a match",
    "selection": "mean of overlap_r1 and pseudo_r1, or overlap_r1 alone: what chose the epoch",
    "held_out": "overlap rows that were never trained on",
    "folds": "parts of the overlap that were held out in turn, for want of rows",
    "nearness": "mean cosine of overlap rows with their nearest memory rows, both sides multiplied",
    "trust": "how much recalled pairs count in training: 1 is wholly, 0 leaves routed similarities alone",
    "likeness": "how alike the memories' rows and the overlap's lie, both sides multiplied: 1 is of one kind",
    "overlap_rows": "rows that both encoders hold of the modality they share",
    "ridge": "weight of the ridge that was chosen, relative to the mean eigenvalue",
}
"""Name: meaning. A name may stand behind the encoder of a leaf and a dot, as in ``tiny-clap.likeness``."""


def meaning(name: str) -> str:
    """Return what a measure of ``space.metrics`` means, an empty text where it is a method's own.

    Example:
        >>> from cmcr.connect.measures import meaning
        >>> meaning("tiny-clap.held_out")
        'overlap rows that were never trained on'
    """
    return MEASURES.get(name.rpartition(".")[2], "")

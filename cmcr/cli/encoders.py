"""``cmcr encoders``: what can embed here, and what is missing for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cmcr import console

if TYPE_CHECKING:
    from cmcr.encoders.catalogue import Offer


def encoders(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the encoders: what is installed, what is missing, dims, modalities, and where weights are expected."""
    from cmcr.encoders.catalogue import OFFERS, registered
    from cmcr.encoders.weights import weights_folder

    others, problems = registered()
    described = [_described(offer) for offer in (*OFFERS, *others)]
    for problem in problems:
        console.warn(problem)
    if as_json:
        console.show_json({"weights_folder": str(weights_folder()), "encoders": described})
        return
    rows = [
        [
            each["name"] + (f"\n= {each['stands_for']}" if each["stands_for"] != each["name"] else ""),
            " ".join(each["modalities"]) or "by model",
            each["dim"] or "by model",
            each["library"] or f"missing: {each['install']}",
            each["weights"] or each["expected"] or each["source"],
        ]
        for each in described
    ]
    console.show_table(["encoder", "modalities", "dim", "library", "weights"], rows)
    console.say(f"weights are looked for with --weights, then in {weights_folder()} (another folder: set CMCR_WEIGHTS)")
    console.say("next: cmcr embed INPUT --encoder NAME -o mem/NAME")


def _described(offer: Offer) -> dict[str, Any]:
    library, found = offer.installed(), offer.weights_path()
    shown = f"{offer.library} {library}" if offer.library and library else library and "with cmcr"
    return {
        "name": offer.name,
        "stands_for": offer.stands_for,
        "modalities": [str(modality) for modality in offer.modalities],
        "dim": offer.dim,
        "installed": library is not None,
        "library": shown,
        "install": f"pip install 'cmcr[{offer.extra}]'" if offer.extra else None,
        "weights": str(found) if found else None,
        "expected": f"{offer.weights[0]} ({offer.source})" if offer.weights else None,
        "source": offer.source,
        "licence": offer.licence,
    }

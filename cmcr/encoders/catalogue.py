"""What users can ask for: the encoders, their libraries, and where their weights come from. Loads no model library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cmcr.encoders import ALIASES, built_in_encoders
from cmcr.encoders.plugins import GROUP, modalities_of
from cmcr.errors import InputError
from cmcr.modality import Modality
from cmcr.plugins import Plugin, Plugins


@dataclass(frozen=True)
class Offer:
    """One encoder, or one family of them.

    Attributes:
        name: What ``--encoder`` takes.
        stands_for: The full name of an alias, or the pattern of a family.
        modalities: What it embeds.
        dim: Components of a vector; None where it depends on the model.
        library: Its distribution; None for what comes with cmcr.
        extra: The extra of cmcr that installs it.
        weights: Files that hold its weights, the first usual; empty where they come with cmcr or by a library.
        source: Where the weights come from.
        licence: Of the weights, as their source states it.
    """

    name: str
    stands_for: str
    modalities: tuple[Modality, ...]
    dim: int | None
    library: str | None = None
    extra: str | None = None
    weights: tuple[str, ...] = ()
    source: str = "comes with cmcr"
    licence: str = "Apache-2.0"

    def installed(self) -> str | None:
        """Return the library's version, or None when it is missing."""
        try:
            return version(self.library or "cmcr")
        except PackageNotFoundError:
            return None

    def weights_path(self) -> Path | None:
        """Return its weights file where it lies in the weights folder."""
        from cmcr.encoders.weights import weights_folder

        places = [weights_folder() / name for name in self.weights]
        return next((place for place in places if place.exists()), None)


_IMAGE, _TEXT, _AUDIO, _CLOUD = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.POINT_CLOUD
_LAION = ("laion-clap", "clap")

OFFERS = (
    Offer("tiny-clip", "tiny-clip", (_IMAGE, _TEXT), 64),
    Offer("tiny-clap", "tiny-clap", (_AUDIO, _TEXT), 48),
    Offer("tiny-ulip", "tiny-ulip", (_CLOUD, _IMAGE), 56),
    Offer(
        "clip", ALIASES["clip"], (_IMAGE, _TEXT), 512, "open_clip_torch", "clip",
        ("ViT-B-32-quickgelu-openai.safetensors", "ViT-B-32-quickgelu-openai.pt", "ViT-B-32.pt"),
        "fetched by open_clip, or OpenAI's ViT-B-32.pt", "MIT",
    ),
    Offer(
        "clap", ALIASES["clap"], (_AUDIO, _TEXT), 512, *_LAION, ("630k-fusion-best.pt",),
        "https://huggingface.co/lukewys/laion_clap; its text also needs roberta-base", "CC0-1.0",
    ),
    Offer(
        "ulip", ALIASES["ulip"], (_CLOUD, _IMAGE, _TEXT), 512, None, None, ("pointbert_ULIP-2.pt",),
        "https://huggingface.co/datasets/SFXX/ulip", "BSD-3-Clause code; see its page for the training data",
    ),
    Offer(
        "open_clip:", "open_clip:MODEL/TAG-or-FILE, open_clip:hf-hub:ORG/NAME, open_clip:local-dir:FOLDER",
        (_IMAGE, _TEXT), None, "open_clip_torch", "clip", (), "fetched by open_clip", "by model",
    ),
    Offer(
        "laion_clap:", "laion_clap:HTSAT-tiny|HTSAT-base[-fusion]/FILE", (_AUDIO, _TEXT), 512, *_LAION, (),
        "https://huggingface.co/lukewys/laion_clap", "CC0-1.0",
    ),
    Offer(
        "hf_clap:", "hf_clap:FOLDER, hf_clap:ORG/NAME, hf_clap:FILE.pt", (_AUDIO, _TEXT), 512,
        "transformers", "hf-clap", (), "https://huggingface.co/laion/clap-htsat-fused", "Apache-2.0",
    ),
    Offer("ulip:", "ulip:FILE", (_CLOUD, _IMAGE, _TEXT), 512, None, None, (),
          "https://huggingface.co/datasets/SFXX/ulip", "BSD-3-Clause code"),
    Offer("sentence-transformers:", "sentence-transformers:FOLDER, sentence-transformers:ORG/NAME", (_TEXT,), None,
          "sentence-transformers", "sentence-transformers", (), "fetched by the library", "by model"),
)  # fmt: skip
"""In the order in which they are shown."""


def registered() -> tuple[list[Offer], list[str]]:
    """Return the encoders that other installed packages register, and a line for each that cannot be used."""
    offers, problems, plugins = [], [], Plugins(GROUP)
    for name, (first, *_) in plugins.claims.items():
        try:
            _check_name(first)
            offers.append(_offer(first, plugins.load(name)))
        except InputError as error:
            problems.append(str(error))
    return offers, problems


def _check_name(plugin: Plugin) -> None:
    """Refuse a name that ``load_encoder`` would never look for among plugins."""
    library, _, model = plugin.name.partition(":")
    if {plugin.name, f"{library}:"} & set(built_in_encoders()):
        raise InputError(f"{plugin} is not used: that name is cmcr's own")
    if not library or model:
        raise InputError(f"{plugin} cannot be asked for: expected a NAME, or a prefix LIBRARY:")


def _offer(plugin: Plugin, factory: Any) -> Offer:
    dim = getattr(factory, "dim", None)
    return Offer(
        plugin.name,
        f"{plugin.name}MODEL" if plugin.name.endswith(":") else plugin.name,
        modalities_of(factory),
        dim if isinstance(dim, int) else None,
        plugin.package,
        source=f"comes with {plugin.package}",
        licence=f"see {plugin.package}",
    )

"""What a space is made of: encoders, the ways their vectors enter, routers that weigh the ways, and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cmcr.modality import Modality
from cmcr.space.projector import Projector


@dataclass(frozen=True)
class SpaceEncoder:
    """An encoder of a connected space: its name, fingerprint, dim, and the modalities the space holds of it.

    The fingerprint is empty where it is not known (imported heads): then the name alone decides.

    >>> from cmcr import Modality
    >>> from cmcr.space import SpaceEncoder
    >>> SpaceEncoder("tiny-clip", "9f2c", 64, (Modality.IMAGE, Modality.TEXT)).matches("tiny-clip", "9f2c")
    True
    """

    name: str
    fingerprint: str
    dim: int
    modalities: tuple[Modality, ...]

    def matches(self, name: str, fingerprint: str) -> bool:
        """Tell whether vectors of that encoder are this one's."""
        return name == self.name and self.fingerprint in ("", fingerprint)


@dataclass(frozen=True)
class Link:
    """What connected two encoders: the modality of the rows they share, and what each recalled (None: nothing).

    Where rows of two modalities were known to belong together, ``via`` is the first's and ``via_b`` the second's.

    >>> from cmcr import Modality
    >>> from cmcr.space import Link
    >>> Link("tiny-clip", "tiny-clap", Modality.TEXT, Modality.IMAGE, Modality.AUDIO).via.value
    'text'
    """

    a: str
    b: str
    via: Modality
    outer_a: Modality | None = None
    outer_b: Modality | None = None
    via_b: Modality | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return the link as JSON-ready values; without ``via_b`` where both sides' rows are of one modality."""
        found = asdict(self)
        return found if self.via_b else {name: value for name, value in found.items() if name != "via_b"}


@dataclass(frozen=True)
class Way:
    """How an encoder's vectors of some modalities enter the space: through one map, or the mean of several.

    Attributes:
        encoder: Whose vectors.
        modalities: Of these modalities; each modality of an encoder has one way.
        maps: Names of the maps.
        weight: How much it counts where several encoders embed one item, unless a router or the caller says.

    >>> from cmcr import Modality
    >>> from cmcr.space import Way
    >>> Way("tiny-clip", (Modality.TEXT,), ("tiny-clip",)).weight
    1.0
    """

    encoder: str
    modalities: tuple[Modality, ...]
    maps: tuple[str, ...]
    weight: float = 1.0


class Router(nn.Module):
    """Weigh the ways of an item that several encoders embed, by its raw vectors.

    Attributes:
        modality: Of the items.
        reads: The encoders whose vectors it reads, side by side in this order; it weighs the ways of the same ones.

    >>> import torch
    >>> from cmcr import Modality
    >>> from cmcr.space import Router
    >>> router = Router(Modality.TEXT, ("one", "two"), in_dim=7)
    >>> router(torch.ones(3, 7)).shape
    torch.Size([3, 2])
    """

    def __init__(self, modality: Modality, reads: tuple[str, ...], in_dim: int) -> None:
        super().__init__()
        self.modality, self.reads = modality, reads
        self.body = nn.Linear(in_dim, len(reads))

    def forward(self, raw: Tensor) -> Tensor:
        """Return (N, ways) weights, each above 0 and 1 in sum, of (N, in_dim) raw unit vectors."""
        return F.softmax(self.body(raw), dim=1)


class MeanOfMaps(Projector):
    """Several maps as one: the normalised mean of what they make of a vector.

    >>> import torch
    >>> from cmcr.space import Projector, ProjectorConfig
    >>> from cmcr.space.parts import MeanOfMaps
    >>> same = Projector(ProjectorConfig("identity", 2, 2))
    >>> MeanOfMaps([same, same])(torch.tensor([[0.6, 0.8]])).tolist() == same(torch.tensor([[0.6, 0.8]])).tolist()
    True
    """

    def __init__(self, maps: Sequence[Projector]) -> None:
        nn.Module.__init__(self)
        centered = tuple(dict.fromkeys(name for each in maps for name in each.config.centered))
        anchors = max(each.config.anchors for each in maps)
        self.config = replace(maps[0].config, centered=centered, anchors=anchors)
        self.maps = nn.ModuleList(maps)

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Project (N, in_dim) unit vectors of one modality to (N, out_dim) unit vectors."""
        return F.normalize(torch.stack([each(x, modality) for each in self.maps]).mean(dim=0), dim=1)


def frozen_base(encoders: Sequence[SpaceEncoder], ways: Sequence[Way], maps: dict[str, Projector]) -> str | None:
    """Return the first encoder if the space keeps its vectors as they are; None where every encoder's move."""
    first = encoders[0].name
    through = [maps[name].config for way in ways if way.encoder == first for name in way.maps]
    return first if all(c.kind == "identity" and not c.centered for c in through) else None

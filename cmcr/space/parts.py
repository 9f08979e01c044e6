"""What a space is made of: encoders, the ways their vectors enter, routers that weigh the ways, and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

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
        plain_mean: Whether the mean of its maps counts there as long as it is, which is the shorter the less they agree
            (OmniBind), and not as a unit vector.

    >>> from cmcr import Modality
    >>> from cmcr.space import Way
    >>> Way("tiny-clip", (Modality.TEXT,), ("tiny-clip",)).weight
    1.0
    """

    encoder: str
    modalities: tuple[Modality, ...]
    maps: tuple[str, ...]
    weight: float = 1.0
    plain_mean: bool = False


class Router(nn.Module):
    """Weigh the ways of an item that several encoders embed, by its raw vectors.

    With ``hidden`` sizes it is OmniBind's (arXiv 2407.11895): Linear-BatchNorm-ReLU-Linear-BatchNorm-Tanh-Linear, a
    sigmoid, and a softmax over the ways; the last hidden layer ends in the Tanh. Without, one Linear and the softmax.

    Attributes:
        modality: Of the items.
        reads: The encoders whose vectors it reads, side by side in this order.
        weighs: The encoders whose ways it weighs; those that it reads, unless said.
        hidden: Widths of the hidden layers.
        scale: What is multiplied before the softmax: how far the weights can be apart. OmniBind's is 10 for texts.

    >>> import torch
    >>> from cmcr import Modality
    >>> from cmcr.space import Router
    >>> router = Router(Modality.TEXT, ("one", "two"), in_dim=7)
    >>> router(torch.ones(3, 7)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        modality: Modality,
        reads: tuple[str, ...],
        in_dim: int,
        *,
        weighs: tuple[str, ...] = (),
        hidden: tuple[int, ...] = (),
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.modality, self.reads, self.weighs = modality, reads, weighs or reads
        self.hidden, self.scale = hidden, scale
        layers: list[nn.Module] = []
        for number, width in enumerate(hidden):
            last = number + 1 == len(hidden)
            layers += [nn.Linear(in_dim, width), nn.BatchNorm1d(width), nn.Tanh() if last else nn.ReLU()]
            in_dim = width
        out = nn.Linear(in_dim, len(self.weighs))
        self.body = nn.Sequential(*layers, out) if layers else out

    def forward(self, raw: Tensor) -> Tensor:
        """Return (N, ways) weights, each above 0 and 1 in sum, of (N, in_dim) raw unit vectors."""
        found: Tensor = self.body(raw)
        return F.softmax((found.sigmoid() if self.hidden else found) * self.scale, dim=1)

    def to_dict(self) -> dict[str, Any]:
        """Return what makes it, as JSON-ready values, without what is as usual."""
        extra = {"weighs": list(self.weighs), "hidden": list(self.hidden), "scale": float(self.scale)}
        usual = {"weighs": list(self.reads), "hidden": [], "scale": 1.0}
        found = {name: value for name, value in extra.items() if value != usual[name]}
        return {"modality": self.modality, "reads": list(self.reads)} | found


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
        return F.normalize(self.mean(x, modality), dim=1)

    def mean(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Return the (N, out_dim) mean of what the maps make, not normalised."""
        return torch.stack([each(x, modality) for each in self.maps]).mean(dim=0)


def frozen_base(encoders: Sequence[SpaceEncoder], ways: Sequence[Way], maps: dict[str, Projector]) -> str | None:
    """Return the first encoder if the space keeps its vectors as they are; None where every encoder's move."""
    first = encoders[0].name
    through = [maps[name].config for way in ways if way.encoder == first for name in way.maps]
    return first if all(c.kind == "identity" and not c.centered for c in through) else None

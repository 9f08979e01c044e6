"""The maps from a source space into the connected space, each (N, D_in) raw unit vectors -> (N, D_out) unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from cmcr.errors import ArtifactError
from cmcr.modality import is_modality
from cmcr.space import lean_mlp
from cmcr.space.decoupled import Decoupled

Kind = Literal["mlp", "half-mlp", "gelu-mlp", "linear", "decoupled", "identity", "route", "ensemble", "mean"]
Init = Literal["default", "xavier", "identity"]


@dataclass(frozen=True)
class ProjectorConfig:
    """What a projector is made of.

    >>> from cmcr.space import ProjectorConfig
    >>> {name: tuple(tensor.shape) for name, tensor in ProjectorConfig("linear", 64, 48).tensors().items()}
    {'body.weight': (48, 64), 'body.bias': (48,)}

    Attributes:
        kind: ``mlp`` Linear-BatchNorm-ReLU-Linear-BatchNorm (the paper's audio-visual head); ``half-mlp``
            Linear-BatchNorm-ReLU (its 3D-language head, whose cosines are all >= 0); ``gelu-mlp`` ``mlp`` with GELU
            (TextME's head); ``linear`` one Linear; ``decoupled`` two MLP blocks, for some modalities a linear head
            before them (Ex-MCR's);
            ``identity`` nothing; ``route`` a softmax-weighted mean over anchor rows (no weights are trained);
            ``ensemble`` several of these side by side; ``mean`` their weighted mean.
        in_dim: Components of a raw vector.
        out_dim: Components in the connected space.
        hidden: Width of the hidden layers of ``mlp``, ``gelu-mlp`` and ``decoupled``.
        anchors: Rows of the overlap that ``route`` keeps, 0 otherwise.
        tau: Temperature of ``route``.
        top_k: Anchors a vector is routed through, 0 for all.
        centered: Modalities whose mean is subtracted from raw vectors first; their means are part of the weights.
            ``ensemble`` and ``mean`` subtract a mean of theirs from what their parts make, too.
        parts: What ``ensemble`` and ``mean`` put together; none is one of them, none is centred by itself.
        segments: Components of each segment of ``ensemble``, in the order of the parts; they need not be the parts'.
        weights: Of the segments in the similarity of two rows, or of the parts in ``mean``; their sum is 1.
        outer: Modalities that go through the linear head of ``decoupled``.
        gaps: Directions of the connected space that ``mean`` leaves out.
    """

    kind: Kind
    in_dim: int
    out_dim: int
    hidden: int = 0
    anchors: int = 0
    tau: float = 0.05
    top_k: int = 0
    centered: tuple[str, ...] = ()
    parts: tuple[ProjectorConfig, ...] = ()
    segments: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    outer: tuple[str, ...] = ()
    gaps: int = 0

    @property
    def width(self) -> int:
        """The most floats that projecting a row takes at once."""
        return max(self.anchors, self.in_dim, self.out_dim, *(part.width for part in self.parts), 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-ready values, without what only other kinds have."""
        found = asdict(self)
        for name in {name for names in _OWN.values() for name in names}.difference(_OWN.get(self.kind, ())):
            del found[name]
        return found | ({"parts": [part.to_dict() for part in self.parts]} if self.parts else {})

    def check(self) -> None:
        """Check what types do not tell.

        Raises:
            ValueError: a size, temperature or name that no projector of this kind has.
        """
        sizes = ["in_dim", "out_dim", *_SIZES.get(self.kind, ())]
        small = next((name for name in sizes if getattr(self, name) < 1), None)
        expect(small is None, f"{small} of a {self.kind} is {small and getattr(self, small)}, expected 1 or more")
        expect(self.kind != "identity" or self.in_dim == self.out_dim, f"identity of {self.in_dim} -> {self.out_dim}")
        expect(self.top_k >= 0 and 0 < self.tau < float("inf"), f"tau {self.tau}, top_k {self.top_k}")
        expect(all(map(is_modality, self.centered)), f"centered {self.centered}, expected modalities")
        expect(all(map(is_modality, self.outer)), f"outer {self.outer}, expected modalities")
        expect(self.kind == "decoupled" or not self.outer, f"a {self.kind} has no head for {', '.join(self.outer)}")
        if self.kind in ("ensemble", "mean"):
            self._check_parts()
        else:
            expect(not (self.parts or self.segments or self.weights or self.gaps), f"a {self.kind} has no parts")

    def _check_parts(self) -> None:
        for part in self.parts:
            expect(part.kind not in ("ensemble", "mean"), f"a part is an ensemble or a mean: {part.kind}")
            expect(not (part.centered or part.outer), "a part is centred by itself, or has a head of its own")
            expect(part.in_dim == self.in_dim, f"a part of {part.in_dim} components, expected {self.in_dim}")
            part.check()
        if self.kind == "ensemble":
            self._check_segments()
        else:
            made = [part.out_dim for part in self.parts]
            expect(set(made) == {self.out_dim}, f"parts of {made} components, expected {self.out_dim} each")
            expect(len(self.weights) == len(self.parts), f"{len(self.weights)} weights of {len(self.parts)} parts")
            expect(0 <= self.gaps < self.out_dim, f"{self.gaps} gaps of {self.out_dim} components")
        right = min(self.weights) > 0 and abs(sum(self.weights) - 1) < 1e-6
        expect(right, f"weights {self.weights}, expected above 0 and 1 in sum")

    def _check_segments(self) -> None:
        made, cut = sum(part.out_dim for part in self.parts), sum(self.segments)
        expect(made == cut == self.out_dim, f"parts of {made} and segments of {cut}, expected {self.out_dim}")
        expect(min(self.segments) > 0, f"segments {self.segments}, expected 1 or more components each")
        expect(len(self.weights) == len(self.segments), f"{len(self.weights)} weights of {len(self.segments)} segments")

    def tensors(self) -> dict[str, Tensor]:
        """Return the name, shape and type of each tensor of its projector, as tensors without storage."""
        with torch.device("meta"):
            return Projector(self).state_dict()


class Route(nn.Module):
    """Map a vector to the weighted mean of ``values``, weighted by the softmax of its similarity to ``keys``.

    keys: (M, D_in) overlap rows in the vector's own space; values: (M, D_out) the same rows in the other space.

    >>> import torch
    >>> from cmcr.space import Route
    >>> route = Route(anchors=2, in_dim=2, out_dim=3, tau=0.01)
    >>> route.load_state_dict({"keys": torch.eye(2), "values": torch.eye(2, 3)})
    <All keys matched successfully>
    >>> route(torch.tensor([[1.0, 0.0]])).round(decimals=3).tolist()
    [[1.0, 0.0, 0.0]]
    """

    keys: Tensor
    values: Tensor

    def __init__(self, anchors: int, in_dim: int, out_dim: int, tau: float, top_k: int = 0) -> None:
        super().__init__()
        self.tau, self.top_k = tau, top_k
        self.register_buffer("keys", torch.zeros(anchors, in_dim))
        self.register_buffer("values", torch.zeros(anchors, out_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Route (N, D_in) unit vectors; (N, D_out), not normalised."""
        logits = x @ self.keys.T / self.tau
        if self.top_k and self.top_k < len(self.keys):
            # Anchors below the k-th are left out; ties at the k-th stay in, so the result does not depend on order.
            least = logits.topk(self.top_k, dim=1).values[:, -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        return logits.softmax(dim=1) @ self.values


class Centers(nn.Module):
    """The (D_in,) mean of each centred modality, all zeros at first.

    No ``ParameterDict``, which refuses the names of its own methods: a modality may be called ``half`` or ``training``.

    Example:
        >>> from cmcr.space.projector import Centers
        >>> Centers(["half"], 3)["half"].shape
        torch.Size([3])
    """

    def __init__(self, names: Sequence[str], dim: int) -> None:
        super().__init__()
        for name in names:
            self._parameters[name] = nn.Parameter(torch.zeros(dim), requires_grad=False)

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, self._parameters[name])

    def train(self, mode: bool = True) -> Centers:
        """Stay as it is, for a mean is the same in training; the parent would set an attribute ``training``."""
        return self

    def values(self) -> list[Tensor]:
        """Return the means alone."""
        return [self[name] for name in self._parameters]


class Ensemble(nn.Module):
    """Several bodies side by side; the cosine of two rows is the weighted mean of their segments' cosines.

    A segment is what is compared: of what the bodies make, the mean of the modality is subtracted, each segment is
    normalised and multiplied by the root of its weight.

    >>> import torch
    >>> from cmcr.space import ProjectorConfig
    >>> from cmcr.space.projector import Ensemble
    >>> config = ProjectorConfig("identity", 2, 2)
    >>> both = Ensemble(ProjectorConfig("ensemble", 2, 4, parts=(config, config), segments=(2, 2), weights=(0.5, 0.5)))
    >>> both(torch.tensor([[0.6, 0.8]])).norm().item()
    1.0
    """

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_body(part) for part in config.parts)
        self.means = Centers(config.centered, config.out_dim)
        self.segments, self.weights = config.segments, config.weights

    def raw(self, x: Tensor) -> Tensor:
        """Return what the bodies make of (N, in_dim) rows, side by side, (N, out_dim)."""
        return torch.cat([part(x) for part in self.parts], dim=1)

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Map (N, in_dim) centred rows of one modality to (N, out_dim) unit vectors."""
        made = self.raw(x)
        if modality is not None and modality in self.means:
            made = made - self.means[modality]
        pieces = zip(made.split(list(self.segments), dim=1), self.weights, strict=True)
        return torch.cat([F.normalize(piece, dim=1) * weight**0.5 for piece, weight in pieces], dim=1)


class Mean(nn.Module):
    """The weighted mean of what several bodies make of a row, each centred by the row's modality and normalised.

    Of what they make, ``gaps`` are left out: orthonormal directions along which the rows of a space lie apart for their
    modality alone. So no row is nearer to all rows of one modality than another row is.

    >>> import torch
    >>> from cmcr.space import ProjectorConfig
    >>> from cmcr.space.projector import Mean
    >>> same = ProjectorConfig("identity", 2, 2)
    >>> mean = Mean(ProjectorConfig("mean", 2, 2, parts=(same, same), weights=(0.3, 0.7), gaps=1))
    >>> mean.gaps.copy_(torch.tensor([[1.0, 0.0]]))
    tensor([[1., 0.]])
    >>> mean(torch.tensor([[0.6, 0.8]])).tolist()
    [[0.0, 1.0]]
    """

    gaps: Tensor

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_body(part) for part in config.parts)
        self.means = Centers(config.centered, len(config.parts) * config.out_dim)
        self.register_buffer("gaps", torch.zeros(config.gaps, config.out_dim))
        self.shares = config.weights

    def raw(self, x: Tensor) -> Tensor:
        """Return what the bodies make of (N, in_dim) rows, side by side, (N, parts * out_dim)."""
        return torch.cat([part(x) for part in self.parts], dim=1)

    def views(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Return what is averaged, (N, parts, out_dim) unit vectors."""
        made = self.raw(x)
        if modality is not None and modality in self.means:
            made = made - self.means[modality]
        each = made.unflatten(1, (len(self.parts), -1))
        return F.normalize(each - each @ self.gaps.T @ self.gaps, dim=2)

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Map (N, in_dim) centred rows of one modality to (N, out_dim), not normalised."""
        shares = torch.tensor(self.shares, dtype=x.dtype, device=x.device)
        return torch.einsum("npd,p->nd", self.views(x, modality), shares)


class Projector(nn.Module):
    """One source space's map into the connected space: centre (if asked), body, L2-normalise.

    >>> import torch
    >>> from cmcr.space import Projector, ProjectorConfig
    >>> Projector(ProjectorConfig("mlp", 64, 48, hidden=32)).eval()(torch.ones(5, 64)).shape
    torch.Size([5, 48])
    """

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        self.body = _body(config)
        self.centers = Centers(config.centered, config.in_dim)

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        """Project (N, in_dim) unit vectors of one modality to (N, out_dim) unit vectors."""
        if modality is not None and modality in self.centers:
            x = F.normalize(x - self.centers[modality], dim=1)
        if lean_mlp.fits(self.body, x):
            return lean_mlp.lean_mlp(cast(nn.Sequential, self.body), x)
        body = self.body(x, modality) if isinstance(self.body, Ensemble | Mean | Decoupled) else self.body(x)
        return F.normalize(body, dim=1)

    def of(self, modality: str) -> OfModality:
        """Return the projector of one modality as a module of one argument, for export."""
        return OfModality(self, modality)


def with_centers(projector: Projector, centers: dict[str, Tensor]) -> Projector:
    """Return the projector with its own layers, subtracting (D_in,) ``centers`` from vectors of these modalities."""
    centred = Projector(replace(projector.config, centered=tuple(centers)))
    centred.body = projector.body
    for name, center in centers.items():
        centred.centers[name].data.copy_(center)
    return centred


class OfModality(nn.Module):
    """A projector bound to one modality."""

    def __init__(self, projector: Projector, modality: str) -> None:
        super().__init__()
        self.projector, self.modality = projector, modality

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, in_dim) unit vectors to (N, out_dim) unit vectors."""
        projected: Tensor = self.projector(x, self.modality)
        return projected


_SIZES = {**dict.fromkeys(("mlp", "gelu-mlp", "decoupled"), ("hidden",)), "route": ("anchors",)}
"""By kind, the sizes beside those of the vectors that it must have."""
_OWN = {
    "ensemble": ("parts", "segments", "weights"),
    "mean": ("parts", "weights", "gaps"),
    "decoupled": ("outer",),
}
"""By kind, what it alone has."""


def _mlp(c: ProjectorConfig, between: type[nn.Module] = nn.ReLU) -> nn.Module:
    first = (nn.Linear(c.in_dim, c.hidden), nn.BatchNorm1d(c.hidden), between())
    return nn.Sequential(*first, nn.Linear(c.hidden, c.out_dim), nn.BatchNorm1d(c.out_dim))


_BODIES: dict[str, Callable[[ProjectorConfig], nn.Module]] = {
    "mlp": _mlp,
    "half-mlp": lambda c: nn.Sequential(nn.Linear(c.in_dim, c.out_dim), nn.BatchNorm1d(c.out_dim), nn.ReLU()),
    "gelu-mlp": lambda c: _mlp(c, nn.GELU),
    "linear": lambda c: nn.Linear(c.in_dim, c.out_dim),
    "decoupled": lambda c: Decoupled(c.in_dim, c.out_dim, c.hidden, c.outer),
    "identity": lambda c: nn.Identity(),
    "route": lambda c: Route(c.anchors, c.in_dim, c.out_dim, c.tau, c.top_k),
    "ensemble": Ensemble,
    "mean": Mean,
}


def expect(holds: bool, what: str) -> None:
    """Raise ValueError, which says ``what``, unless it holds."""
    if not holds:
        raise ValueError(what)


def _body(config: ProjectorConfig) -> nn.Module:
    if config.kind not in _BODIES:
        raise ArtifactError(f"unknown projector kind {config.kind!r}; expected one of {', '.join(_BODIES)}")
    return _BODIES[config.kind](config)


def initialise(projector: Projector, init: Init, generator: torch.Generator) -> None:
    """Fill the linear layers from ``generator``: PyTorch's default rule, Xavier, or identity (as shapes allow)."""
    for layer in _linears(projector):
        bound = layer.in_features**-0.5
        with torch.no_grad():
            if init == "identity":
                layer.weight.copy_(torch.eye(*layer.weight.shape))
                layer.bias.zero_()
            elif init == "xavier":
                limit = (6 / sum(layer.weight.shape)) ** 0.5
                layer.weight.uniform_(-limit, limit, generator=generator)
                layer.bias.zero_()
            else:
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)


def _linears(projector: Projector) -> Sequence[nn.Linear]:
    return [layer for layer in projector.modules() if isinstance(layer, nn.Linear)]

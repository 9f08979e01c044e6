"""The projectors of training-free methods: nothing, a linear map, and routing through the overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cmcr.space.projector import Ensemble, Mean, Projector, ProjectorConfig, Route


def identity(dim: int, centers: dict[str, Tensor]) -> Projector:
    """Return the projector of the base space, (N, D) to (N, D): nothing but the centring by modality.

    ``centers`` are the (D,) means that are subtracted, by modality; of a modality without one nothing is.
    """
    return _centered(ProjectorConfig("identity", dim, dim, centered=tuple(centers)), centers)


def linear_bridge(weight: Tensor, bias: Tensor, centers: dict[str, Tensor]) -> Projector:
    """Return the projector x -> x W^T + b; the weight is (D_out, D_in), the bias (D_out,), each center (D_in,)."""
    config = ProjectorConfig("linear", weight.shape[1], weight.shape[0], centered=tuple(centers))
    projector = _centered(config, centers)
    projector.body.load_state_dict({"weight": weight, "bias": bias})
    return projector


def route_bridge(keys: Tensor, values: Tensor, tau: float, top_k: int, centers: dict[str, Tensor]) -> Projector:
    """Return the projector that routes a vector through the overlap rows nearest to it in its own space.

    Args:
        keys: (M, D_in) unit overlap rows in the vector's own space (centred like the vectors).
        values: (M, D_out) the same rows in the base space.
        tau: Temperature of the softmax over the rows.
        top_k: Rows a vector is routed through, 0 for all.
        centers: Mean of each modality of the routed space, to be subtracted first; may be empty.
    """
    config = ProjectorConfig(
        "route", keys.shape[1], values.shape[1], anchors=len(keys), tau=tau, top_k=top_k, centered=tuple(centers)
    )
    projector = _centered(config, centers)
    body = projector.body
    assert isinstance(body, Route)  # noqa: S101  (the config above says so)
    body.keys.copy_(keys)
    body.values.copy_(values)
    return projector


def ensemble(
    parts: Sequence[Projector], segments: Sequence[int], weights: Sequence[float], centers: dict[str, Tensor]
) -> Projector:
    """Return the projector that puts the bodies of several side by side.

    Args:
        parts: (N, D_in) -> (N, D) projectors, of whose centring nothing is kept.
        segments: Components of each segment that is compared; in sum the parts'.
        weights: Of the segments, in any unit.
        centers: (D_in,) mean of each modality, subtracted first; what is subtracted after the parts is 0.
    """
    configs = tuple(replace(part.config, centered=()) for part in parts)
    total = sum(weights)
    config = ProjectorConfig(
        "ensemble", configs[0].in_dim, sum(each.out_dim for each in configs), centered=tuple(centers), parts=configs,
        segments=tuple(segments), weights=tuple(weight / total for weight in weights),
    )  # fmt: skip
    projector = _centered(config, centers)
    assert isinstance(projector.body, Ensemble)  # noqa: S101  (the config above says so)
    for own, part in zip(projector.body.parts, parts, strict=True):
        own.load_state_dict(part.body.state_dict())
    return projector


def mean(parts: Sequence[Projector], gaps: Tensor, centers: dict[str, Tensor]) -> Projector:
    """Return the projector to the mean of what several make, with equal weights.

    Args:
        parts: (N, D_in) -> (N, D) projectors, of whose centring nothing is kept.
        gaps: (R, D) orthonormal directions that are left out.
        centers: (D_in,) mean of each modality, subtracted first; what is subtracted after the parts is 0.
    """
    configs = tuple(replace(part.config, centered=()) for part in parts)
    shares = (1 / len(parts),) * len(parts)
    config = ProjectorConfig(
        "mean", configs[0].in_dim, configs[0].out_dim, centered=tuple(centers), parts=configs, weights=shares,
        gaps=len(gaps),
    )  # fmt: skip
    projector = _centered(config, centers)
    assert isinstance(projector.body, Mean)  # noqa: S101  (the config above says so)
    projector.body.gaps.copy_(gaps)
    for own, part in zip(projector.body.parts, parts, strict=True):
        own.load_state_dict(part.body.state_dict())
    return projector


def reweighted(projector: Projector, weights: Sequence[float]) -> Projector:
    """Return an ensemble or a mean (on the processor) whose segments or parts weigh as given, in any unit."""
    config = replace(projector.config, weights=tuple(weight / sum(weights) for weight in weights))
    again = Projector(config)
    again.load_state_dict(projector.state_dict())
    return again.eval()


def beside(projector: Projector, part: Projector, share: float) -> Projector:
    """Return an ensemble (on the processor) with one more body, a segment that counts ``share`` to the others' 1."""
    config, own = projector.config, replace(part.config, centered=())
    weights = (*(weight / (1 + share) for weight in config.weights), share / (1 + share))
    wider = Projector(
        replace(
            config, out_dim=config.out_dim + own.out_dim, parts=(*config.parts, own),
            segments=(*config.segments, own.out_dim), weights=weights,
        )
    )  # fmt: skip
    added = {f"body.parts.{len(config.parts)}.{name}": tensor for name, tensor in part.body.state_dict().items()}
    kept = {
        name: torch.cat([tensor, tensor.new_zeros(own.out_dim)]) if name.startswith("body.means.") else tensor
        for name, tensor in projector.state_dict().items()
    }
    wider.load_state_dict(kept | added)
    return wider.eval()


def _centered(config: ProjectorConfig, centers: dict[str, Tensor]) -> Projector:
    projector = Projector(config)
    for name, center in centers.items():
        projector.centers[name].data.copy_(center)
    return projector.eval()

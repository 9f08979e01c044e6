"""MLA, its switches, and what it is set beside: each by its name, fitted to one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol

import torch

from cmcr.classify.joint import fit_alone, fit_concatenation, fit_sum
from cmcr.classify.late import fit_late
from cmcr.classify.mla import Mla, fit_mla
from cmcr.classify.ogm_ge import fit_ogm_ge
from cmcr.classify.qmf import fit_qmf
from cmcr.classify.settings import ClassifySettings
from cmcr.classify.table import Table


class Fitted(Protocol):
    """What a method returns."""

    def probabilities(self, table: Table) -> torch.Tensor:
        """Return (N, C) probabilities of the rows of a table that has the same channels."""
        ...


Fit = Callable[[Table, ClassifySettings], Fitted]


def baselines(channels: int, names: list[str]) -> dict[str, Fit]:
    """Return what MLA is set beside, by name: each of the channels alone, then the joint methods."""

    def alone(m: int) -> Fit:
        return lambda table, settings: fit_alone(table, settings, m)

    found: dict[str, Fit] = {f"{names[m]} alone": alone(m) for m in range(channels)}
    return found | {
        "concatenation": fit_concatenation,
        "sum": fit_sum,
        "late fusion": lambda table, _: fit_late(table),
        "OGM-GE": fit_ogm_ge,
        "QMF": fit_qmf,
    }


def fit_baselines(table: Table, settings: ClassifySettings) -> dict[str, Fitted]:
    """Fit all of them."""
    known = baselines(len(table.channels), [channel.name for channel in table.channels])
    return {name: fit(table, settings) for name, fit in known.items()}


def fit_switches(table: Table, settings: ClassifySettings, mla: Mla) -> dict[str, Fitted]:
    """Return what MLA is with one switch turned: P, its alpha, the weights of its fusion, the order of its steps."""
    turned: Literal["given", "reversed"] = "given" if settings.order == "reversed" else "reversed"
    return {
        "MLA without P" if settings.project else "MLA with P": fit_mla(
            table, replace(settings, project=not settings.project)
        ),
        "MLA, alpha constant" if settings.anneal_alpha else "MLA, alpha annealed": fit_mla(
            table, replace(settings, anneal_alpha=not settings.anneal_alpha)
        ),
        "MLA, equal weights" if settings.dynamic else "MLA, dynamic weights": replace(mla, dynamic=not mla.dynamic),
        f"MLA, order {turned}": fit_mla(table, replace(settings, order=turned)),
    }

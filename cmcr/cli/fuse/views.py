"""The flags of ``cmcr embed`` that ask for views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cmcr.settings import Checked, setting


@dataclass(frozen=True)
class ViewFlags(Checked):
    """How many views of each item are stored, and how they are drawn."""

    views: int | None = setting(
        None,
        "Also store K views of each item, changed a little: cmcr fuse learns by them. (default: as the memory is)",
        positive=True,
        metavar="K",
    )
    view_seed: int = setting(0, "Of the views, beside each item's content.")

    def spec(self) -> dict[str, Any]:
        """Return what ``embed`` takes; nothing where no views are asked for."""
        from cmcr.memory import ViewSpec

        return {} if self.views is None else {"views": ViewSpec(self.views, self.view_seed)}

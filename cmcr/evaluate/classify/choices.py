"""What an evaluation of classifiers leaves open: which shares go missing, and how often all of it is done."""

from __future__ import annotations

from dataclasses import dataclass

from cmcr.settings import Checked, setting

TENS = tuple(range(0, 100, 10))


@dataclass(frozen=True)
class MissingChoices(Checked):
    """The choices of ``cmcr eval classify``.

    >>> from cmcr.evaluate.classify.choices import MissingChoices
    >>> MissingChoices().shares
    (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    """

    seeds: int = setting(
        5, "How often all of it is done: other weights, masks and, without a split, rows.", positive=True
    )
    missing: list[int] | None = setting(
        None, "Percent of the entries that go missing, repeatable; default: 0, 10, ... 90.", below=100
    )
    complete: bool = setting(False, "Let entries go missing in the rows measured on only.")

    @property
    def shares(self) -> tuple[int, ...]:
        """The percentages, sorted."""
        return tuple(sorted(set(self.missing))) if self.missing else TENS

"""Evaluations, one folder each: what it measures and its page side by side."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.evaluate.evaluation import Evaluation
    from cmcr.evaluate.plugins import load_evaluation, measure
    from cmcr.evaluate.result import Result

__all__ = ["Evaluation", "Result", "load_evaluation", "measure"]

__getattr__ = lazily(
    __name__,
    {"evaluation": ("Evaluation",), "plugins": ("load_evaluation", "measure"), "result": ("Result",)},
)

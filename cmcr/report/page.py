"""Self-contained HTML pages: galleries of hits, curves, heat maps and tables.

A page is one file that opens from disk: pictures and sounds are embedded, nothing is fetched (a content policy in the
page forbids it), no script runs, and every text is escaped. A source that is gone or broken leaves a note on its card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from cmcr.report.charts import render
from cmcr.report.previews import Card


@dataclass(frozen=True)
class Answer:
    """A query and its hits, one row of a gallery.

    >>> from cmcr.report import Answer, Card, Media, gallery
    >>> drum = Card("drum", Media("text", text="a red drum"))
    >>> "a red drum" in gallery([Answer(drum, [drum], "What is near?")])
    True
    """

    query: Card
    hits: Sequence[Card]
    heading: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part of a page; ``body`` is markup made by this module, ``text`` is escaped.

    >>> from cmcr.report import Section
    >>> from cmcr.report.page import page
    >>> "&lt;b&gt;" in page("Hits", [Section("Found", text="a <b> in a caption")])
    True
    """

    title: str
    text: str = ""
    body: Markup = field(default_factory=Markup)


def gallery(answers: Sequence[Answer]) -> Markup:
    """Return queries and their hits as a grid of cards."""
    return render("gallery.html", answers=answers)


def beside(*parts: Markup) -> Markup:
    """Return parts next to each other where the page is wide enough, e.g. the heat maps before and after."""
    return Markup('<div class="maps">{}</div>').format(Markup("").join(parts))


def page(title: str, sections: Sequence[Section], lead: str = "", facts: Mapping[str, object] | None = None) -> str:
    """Return a whole page.

    Args:
        title: Heading and title of the page.
        sections: Its parts, in order.
        lead: A sentence or two below the heading.
        facts: Small named values below that, e.g. the space and the size of the gallery.
    """
    return str(render("page.html", title=title, sections=sections, lead=lead, facts=facts or {}))

"""Self-contained HTML pages: galleries of hits, curves, heat maps and tables.

A page is one file that opens from disk: pictures and sounds are embedded, nothing is fetched (a content policy in the
page forbids it), no script runs, and every text is escaped. A source that is gone or broken leaves a note on its card.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import PurePath

from markupsafe import Markup

from cmcr.report.charts import render
from cmcr.report.previews import Card

CONTENTS = 5
"""Sections from which on a page begins with a list of them."""


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

    @property
    def scale(self) -> float:
        """The score whose bar is full: the highest of the row, so that bars tell its hits apart."""
        return max((hit.score for hit in self.hits if hit.score is not None), default=1.0)


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


def gallery(answers: Sequence[Answer], level: int = 3) -> Markup:
    """Return queries and their hits as a grid of cards; ``level`` is that of their headings, 2 being a section's."""
    return render("gallery.html", answers=answers, level=level)


def beside(*parts: Markup) -> Markup:
    """Return parts next to each other where the page is wide enough, e.g. several charts."""
    return Markup('<div class="maps">{}</div>').format(Markup("").join(parts))


def side_by_side(parts: Mapping[str, Markup]) -> Markup:
    """Return titled parts next to each other where the page is wide enough, e.g. the best answers and the worst."""
    titled = [Markup("<div><h3>{}</h3>{}</div>").format(title, body) for title, body in parts.items()]
    return Markup('<div class="columns">{}</div>').format(Markup("").join(titled))


def page(
    title: str,
    sections: Sequence[Section],
    lead: str = "",
    facts: Mapping[str, object] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:
    """Return a whole page.

    Args:
        title: Heading and title of the page.
        sections: Its parts, in order; of five and more there is a list that leads to them.
        lead: A sentence or two below the heading.
        facts: Small named values below that, e.g. the space and the size of the gallery.
        links: Files in the page's folder, e.g. the numbers it shows, by what a link to each says.
    """
    titled = [(f"part-{number}", section.title) for number, section in enumerate(sections, 1) if section.title]
    values = {"title": title, "sections": sections, "lead": lead, "facts": facts or {}, "links": links or {}}
    contents = titled if len(titled) >= CONTENTS else []
    return str(render("page.html", contents=contents, version=version("cmcr"), date=_date(), **values))


def _date() -> str:
    """Return the day of a page, in UTC: today, or that of SOURCE_DATE_EPOCH (reproducible-builds.org); no date else."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = None if given is None else int(given)
        now = datetime.datetime.now(datetime.UTC)
        at = now if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return at.date().isoformat()


def readable_path(name: str) -> str:
    """Return what a title says of a folder or file: its own name, and not where it lies on somebody's machine.

    >>> from cmcr.report.page import readable_path
    >>> readable_path("/home/ada/spaces/av"), readable_path("mem/clap:audio"), readable_path("open_clip:ViT-B-32/laion")
    ('av', 'clap:audio', 'open_clip:ViT-B-32/laion')
    """
    is_encoder = ":" in name.partition("/")[0]
    return name if is_encoder else PurePath(name).name or name

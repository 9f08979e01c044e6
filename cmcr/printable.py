"""Texts of unknown origin (ids, captions, paths, errors), made fit to be shown: on a terminal, and on a page."""

from __future__ import annotations

import re

# Controls of both sets and DEL (a terminal obeys them), what breaks a line, halves of characters (no stream takes
# them), and what turns the direction of the text around it. Joiners stay: many scripts are written with them.
_BREAKS = "\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNFIT = re.compile(f"([{_BREAKS}]+)|([{_DIRECTIONS}]+)|[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPED = re.compile(f"[\x7f-\x9f\u2028\u2029\ud800-\udfff{_DIRECTIONS}]")


def printable(text: str) -> str:
    """Return a text on one line, without what a terminal would obey and what changes the direction of other text.

    A line break or tab becomes a blank, a mark of direction nothing, and any other control or half character ``?``.
    """
    return _UNFIT.sub(lambda found: " " if found[1] else "" if found[2] else "?", text)


def escaped(json_text: str) -> str:
    """Return a JSON document that means the same, its unfit characters as JSON writes them in ASCII."""
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)

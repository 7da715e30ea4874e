"""How bad something is: in a word and a shape, for those who do not tell the colours apart."""

from __future__ import annotations

from wsgi_persist.status.findings import Level
from wsgi_persist.status.page.markup import Html, tag

SHAPES = {Level.FAULT: "\u2716", Level.WARNING: "\u25b2", Level.NOTE: "\u25cb", Level.FINE: "\u2714"}
WORDS = {Level.FAULT: "Fault", Level.WARNING: "Warning", Level.NOTE: "Note", Level.FINE: "Fine"}


def mark(level: Level, word: str | None = None) -> Html:
    shape = tag("span", SHAPES[level], aria_hidden="true")
    return tag("span", shape, " ", word or WORDS[level], class_=f"mark {kind(level)}")


def kind(level: Level) -> str:
    """The class in the style sheet."""
    return WORDS[level].lower()

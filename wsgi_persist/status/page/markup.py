"""HTML and SVG from the standard library alone: whatever is not markup already is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

LONGEST = 160  # characters of a text that is not ours


class Html(str):
    """Markup; every other text is text."""

    __slots__ = ()


def joined(*content: object) -> Html:
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in content))


def _escaped(part: object) -> str:
    return html.escape(visible(str(part)))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element. Attributes that are None are left out; ``class_`` is class, ``aria_label`` aria-label."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{joined(*content)}</{name}>")


def table(caption: object, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """The first cell of a row is its heading. On a phone each row is a card: cells name their column."""
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = (tag("tr", *_cells(columns, row)) for row in rows)
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))


def _cells(columns: Sequence[str], row: Sequence[object]) -> Iterable[Html]:
    yield tag("th", row[0], scope="row", data_label=columns[0])
    for column, cell in zip(columns[1:], row[1:], strict=True):
        yield tag("td", cell or "\u2013", data_label=column, class_=None if cell else "none")


def visible(text: str) -> str:
    """What does not show, or turns the letters around it, as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[:longest]}\u2026 ({len(text)} characters)"


def words(name: str) -> str:
    return name.replace("_", " ")

"""Tables in reStructuredText."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[str]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A simple table; a cell without a text gets a dash, as an empty first one would be no row."""
    cells = [[cell or "-" for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])


def section(title: str, *paragraphs: str, mark: str = "-") -> str:
    return "\n".join([title, mark * len(title), "", *(f"{text.rstrip()}\n" for text in paragraphs)])


def fields(given: dict[str, str]) -> str:
    return "\n".join(f":{name}: {value}" for name, value in given.items()) + "\n"

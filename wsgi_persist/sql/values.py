"""A statement's text without its values, as ``pg_stat_statements`` shows it."""

from __future__ import annotations

from wsgi_persist.sql.lexer import NotUnderstood, scan

_VALUES = ("literal", "number", "place")
_NAMES = ("word", "name")
_SETS = ("=", "to")  # what follows in a SET is a value, with quotes or without


def without_values(sql: str | bytes, longest: int) -> str:
    """``$1``, ``$2`` and so on in their place; comments go, white space becomes one space. Of a text that the
    scanner does not understand only the first word is left, if it is one."""
    text = sql.decode(errors="replace") if isinstance(sql, bytes) else sql
    try:
        shown = _masked(text[: 10 * longest])
    except NotUnderstood:
        first = text.split(None, 1)[:1]
        shown = f"{first[0][:20]} ..." if first and first[0].isalpha() else "..."
    return shown if len(shown) <= longest else f"{shown[:longest]}..."


def _masked(text: str) -> str:
    found, end, values = "", 0, 0
    is_first, is_set, hides = True, False, False
    for kind, start, stop in scan(text):
        word = text[start:stop].lower()
        is_set, hides = (word == "set", False) if is_first else (is_set, hides)
        found += " " if start > end > 0 else ""
        if kind == "rows":
            found += "($n)"
        elif kind in _VALUES or (hides and kind in _NAMES):
            values += 1
            found += f"${values}"
        else:
            found += text[start:stop]
        is_first, hides, end = word == ";", hides or (is_set and word in _SETS), stop
    return found

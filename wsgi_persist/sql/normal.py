"""Texts without what cannot change their verdict, found without a scan.

Tracing tools write a comment of its own into every statement, a list of placeholders is as long as what was
asked for, and literals are what somebody typed. What is done here to a text looks at single characters only,
so that it costs a hundredth of a scan. Whether it was right depends on nothing but its result:
:func:`tokens_of` tells, once for all texts that have the same.
"""

from __future__ import annotations

import re

from wsgi_persist.sql.lexer import PLACE, SPACE, NotUnderstood, Token, scan

_ENDS = SPACE + ";"
_COMMENTS = 3  # at most on either side, so that no text takes long
_PLACE = re.compile(PLACE, re.ASCII)
# Characters that end whatever token they follow or begin a new one, so that the digits are a number.
_BEFORE = r"[*/<>=(,\n\t ]"
# Looked at after the first digit: those are rarer, and found sooner.
_NUMBER = re.compile(
    rf"[0-9](?:(?<={_BEFORE}[0-9])|(?<={_BEFORE}-[0-9]))[0-9]*(?:\.[0-9]+)?(?=[),;:\n\t ]|\Z)"
)
_ROWS = re.compile(r"(\(%s(?:,[ ]?%s)*\))(?:,[ ]?\1)+")
_CHANGED = re.compile(rf"{_NUMBER.pattern}|%s")


def uncommented(sql: str) -> str:
    """Without the comments before and after it; one that holds another stays."""
    sql = sql.strip(_ENDS)
    if sql.startswith("/*"):
        sql = _without_first(sql)
    return _without_last(sql) if sql.endswith("*/") else sql


def _without_first(sql: str) -> str:
    for _ in range(_COMMENTS):
        end = sql.find("*/", 2) if sql.startswith("/*") else -1
        if end < 0 or sql.find("/*", 2, end + 1) >= 0:
            break
        sql = sql[end + 2 :].lstrip(_ENDS)
    return sql


def _without_last(sql: str) -> str:
    for _ in range(_COMMENTS):
        start = sql.rfind("/*") if sql.endswith("*/") else -1
        if start < 0 or sql.find("*/", start + 2) != len(sql) - 2:
            break
        sql = sql[:start].rstrip(_ENDS)
    return sql


def normalized(sql: str) -> str:
    """Without comments around it, with empty literals, one number, and one placeholder for a list of them."""
    return numberless(emptied(uncommented(sql)))


def emptied(sql: str) -> str:
    """With empty literals, and one placeholder for a list of them."""
    pieces = sql.split("'")
    if len(pieces) % 2 == 0:
        return sql
    sql = "''".join(pieces[::2])
    if "%(" in sql:
        sql = _PLACE.sub("%s", sql)
    if "), (%s" in sql or "),(%s" in sql:
        sql = _ROWS.sub("(%s)", sql)
    if "(%s," in sql:
        first, *rest = sql.split("(%s")
        sql = "(%s".join([first, *map(_without_list, rest)])
    return sql


def numberless(sql: str) -> str:
    """With one number for all, but where a quote has no other: there nothing is known to be a number."""
    if sql.count("'") % 2:
        return sql
    return "0".join(_NUMBER.split(sql))  # sub() takes longer


def _without_list(after: str) -> str:
    """What follows the first placeholder in a parenthesis, without the others if it holds nothing else."""
    end = after.find(")")
    is_list = after[:end] in (", %s" * (end // 4), ",%s" * (end // 3))
    return after[end:] if is_list else after


def tokens_of(normal: str) -> list[Token] | None:
    """Those of each text that was made this one, but for what literals hold; None where they may differ."""
    if "--" in normal:  # which may have swallowed where a comment began
        return None
    try:
        tokens = list(scan(normal))
    except NotUnderstood:
        return None
    return tokens if _is_faithful(normal, tokens) else None


def _is_faithful(normal: str, tokens: list[Token]) -> bool:
    """Whether each literal began and ended where it was taken to, and no name was changed."""
    quotes = 0
    for kind, start, end in tokens:
        if kind == "name" and _CHANGED.search(normal, start, end):
            return False
        if kind == "literal" and normal[start] == "'":  # without escapes
            quotes += normal.count("'", start, end)
    return quotes == normal.count("'")

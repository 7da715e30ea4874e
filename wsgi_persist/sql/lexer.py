"""PostgreSQL's lexical rules (src/backend/parser/scan.l, ``standard_conforming_strings`` on), one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_LETTER = r"A-Za-z_\x80-\U0010ffff"
SPACE = " \t\n\r\f\v"
_SPACE = f"[{SPACE}]"
_PLAIN = r"'[^']*(?:''[^']*)*'(?!')"
_ESCAPES = r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'(?!')"
# A literal goes on in the next line's; with escapes if it began with them. Every comment ends its line.
_NEXT_LINE = rf"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:{_SPACE}|--[^\n\r]*[\n\r])*"
_DIGITS = "[0-9](?:_?[0-9])*"
PLACE = rf"%(?:\([{_LETTER}][{_LETTER}0-9. ]*\))?[sbt](?![{_LETTER}0-9$])"
_ITEM = rf"(?:{PLACE}(?:::[a-z]+(?:\[\])?)?|DEFAULT|NULL)"
_ROW = rf"\({_ITEM}(?:,[ ]?{_ITEM})*\)"
# Each part matches a text in one way only: what fails costs no more than what fits, so time is linear.
_TOKEN = re.compile(
    rf"""(?:(?P<skip>{_SPACE}+|--[^\n\r]*)
    |(?P<rows>(?P<row>{_ROW})(?:,[ ]?(?:(?P=row)|{_ROW}))*)
    |(?P<literal>(?:[nN]|[uU]&)?{_PLAIN}|[bBxX]'[^']*'|[eE]{_ESCAPES}(?:{_NEXT_LINE}{_ESCAPES})*)
    |(?P<unknown>[uU]&["']|[nNbBxXeE]')
    |(?P<word>[{_LETTER}][{_LETTER}0-9$]*)
    |(?P<name>"[^"]*(?:""[^"]*)*"(?!"))
    |(?P<symbol>[(),;\[\]]|::|:=|\.\.|:|\.(?![0-9]))
    |(?P<place>{PLACE})
    |(?P<number>0[xX](?:_?[0-9A-Fa-f])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|\$[0-9]+
        |(?:{_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?)
    |(?P<quote>/\*|\$(?:[{_LETTER}][{_LETTER}0-9]*)?\$)
    |(?P<operator>(?:(?!--|/\*|{PLACE})[-+*/<>=~!@\#%^&|`?])+)
    |(?P<stray>.)){_SPACE}*""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")

Token = tuple[str, int, int]  # kind, start and end in characters


class NotUnderstood(Exception):
    pass


def scan(sql: str) -> Iterator[Token]:
    """Its tokens; comments and white space are left out."""
    at = 0
    while at < len(sql):
        for match in _TOKEN.finditer(sql, at):
            kind = match.lastgroup or ""
            start, at = match.span(kind)
            if kind == "quote":
                at = _end_of_quote(sql, start, at)
                if sql[start] == "$":
                    yield "literal", start, at
                break
            if kind in ("stray", "unknown"):
                raise NotUnderstood
            if kind != "skip":
                yield kind, start, at
        else:
            return


def _end_of_quote(sql: str, start: int, at: int) -> int:
    if sql[start] == "$":
        end = sql.find(sql[start:at], at)
        if end >= 0:
            return end + at - start
    else:
        depth = 0
        for mark in _COMMENT_MARK.finditer(sql, start):
            depth += 1 if mark[0] == "/*" else -1
            if depth == 0:
                return mark.end()
    raise NotUnderstood


# A statement as the rules see it is a list of strings, two ";" before it and two after: words in lower
# case, names and plain literals in their quotes, "'" for other literals, "0" for numbers, "%s" for
# placeholders, symbols and operators as they are.
NO_TOKENS = [";", ";", ";", ";"]


def statements(sql: str, tokens: Iterable[Token]) -> Iterator[list[str]]:
    found = [";", ";"]
    for kind, start, end in tokens:
        if kind == "rows":
            found += ("(", "%s", ")")
            continue
        text = sql[start:end]
        if kind == "word":
            # PostgreSQL folds ASCII only; Python would make a k of the Kelvin sign.
            text = text.lower() if text.isascii() else text
        elif kind == "literal":
            text = text if text[0] == "'" else "'"
        elif kind in ("number", "place"):
            text = "0" if kind == "number" else "%s"
        if text == ";":
            yield [*found, ";", ";"]
            found = [";", ";"]
        else:
            found.append(text)
    yield [*found, ";", ";"]

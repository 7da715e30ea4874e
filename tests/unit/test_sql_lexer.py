"""The scanner and the rules against PostgreSQL's own scanner and grammar, which pglast carries."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from pglast import parser

from tests.unit.oracle import PLACE, called
from tests.unit.statements import LISTS, STATEMENTS, leaves
from wsgi_persist.sql import Leaves
from wsgi_persist.sql.lexer import scan

TEXTS = [PLACE.sub("NULL", text) for text, _, _ in STATEMENTS]
KINDS = {
    "SCONST": "literal",
    "USCONST": "literal",
    "BCONST": "literal",
    "XCONST": "literal",
    "IDENT": "name",
    "UIDENT": "name",
    "ICONST": "number",
    "FCONST": "number",
    "PARAM": "number",
}
NEXT_LINE = re.compile(r"[\n\r]([ \t\n\r\f\v]|--[^\n\r]*[\n\r])*$")
OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?]")


def theirs(text: str) -> list[tuple[str, int]] | None:
    """(kind, start in characters) of PostgreSQL's tokens, or None where it refuses the text."""
    try:
        tokens = parser.scan(text)
    except parser.ParseError:
        return None
    found = [(token.start, token) for token in tokens if token.name not in ("C_COMMENT", "SQL_COMMENT")]
    return normal([(kind_of(token.name, text[start]), start) for start, token in found], text)


def kind_of(name: str, first: str) -> str:
    if name in KINDS and not (name == "IDENT" and first != '"'):
        return KINDS[name]
    if OPERATOR.match(first) and not name[0].isdigit():
        return "operator"
    return "word" if first == "_" or first.isalpha() or first > "\x7f" else "symbol"


def ours(text: str) -> list[tuple[str, int]] | None:
    """The same of our scanner, with a run of rows in its parts."""
    found: list[tuple[str, int]] = []
    try:
        for kind, start, end in scan(text):
            if kind == "rows":
                found += [(token, start + at) for token, at in theirs(text[start:end]) or []]
            else:
                found.append((kind, start))
    except Exception:
        return None
    return normal(found, text)


def normal(tokens: list[tuple[str, int]], text: str) -> list[tuple[str, int]]:
    """Without what does not matter: PostgreSQL cuts the N off a literal and a last + or - off an operator.

    A literal that goes on in the next line is one to PostgreSQL, to us only if it has escapes.
    """
    kept: list[tuple[str, int]] = []
    for kind, start in tokens:
        last, begin = kept[-1] if kept else ("", 0)
        if kind == "literal" and last == "word" and text[begin:start] in ("n", "N"):
            kept[-1] = "literal", begin
        elif not (kind == last == "operator" and all(OPERATOR.match(c) for c in text[begin:start])):
            kept.append((kind, start))
    return [
        (kind, start)
        for (last, _), (kind, start) in pairwise([("", 0), *kept])
        if not (kind == last == "literal" and text[start] == "'" and NEXT_LINE.search(text[:start]))
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_same_tokens_on_the_table(text: str) -> None:
    expected = theirs(text)
    found = ours(text)
    if found is None:  # refusing is always allowed; the table says where it is expected
        return
    assert expected is None or found == expected


PIECES = [
    *(
        "'",
        "''",
        '"',
        '""',
        "\\",
        "\\'",
        "$$",
        "$a$",
        "$é$",
        "$",
        "a$b",
        "E'",
        "e'",
        "U&'",
        'U&"',
        "B'",
        "x'",
    ),
    *(
        "/*",
        "*/",
        "--",
        "\n",
        "\r",
        " ",
        "\t",
        "\f",
        "/",
        "*",
        "-",
        "+",
        "@",
        "#",
        "<>",
        "::",
        ":=",
        "..",
        ":",
    ),
    *(
        "1",
        "1.5",
        ".5",
        "1e",
        "e5",
        "1_0",
        "0x1F",
        "$1",
        "a",
        "E",
        "é",
        "_",
        "N'",
        "n",
        "u&",
        "select",
        "(",
        ")",
    ),
    *(
        ",",
        ";",
        "[",
        "]",
        ".",
        "=",
        "NULL",
        "(NULL, DEFAULT)",
        "abc",
        "\u00a0",
        "\u212a",
        "|",
        "?",
        "`",
        "~",
        "!",
    ),
]


@pytest.mark.parametrize("seed", range(40))
def test_same_tokens_on_random_texts(seed: int) -> None:
    luck = random.Random(seed)
    for _ in range(500):
        text = "".join(luck.choices(PIECES, k=luck.randint(1, 14)))
        found = ours(text)
        if found is not None:
            expected = theirs(text)
            assert expected is None or found == expected, repr(text)


@pytest.mark.parametrize("text", LISTS)
def test_grammar_has_what_the_table_says_to_be_no_call(text: str) -> None:
    parser.parse_sql_json(text)


# Functions that are no built-ins; one is named by a keyword.
CALLS = {"pay": ["pay(1)", "1, pay(1)", "pay(1), 1"], "include": ["include(1)"]}


@pytest.mark.parametrize("text", [text for text in TEXTS if ours(text)])
def test_no_call_is_missed(text: str) -> None:
    """Wherever the grammar takes a call in the place of a token, the rules see it, too."""
    for _, start, end in scan(text):
        for name, calls in CALLS.items():
            for call in calls:
                put = f"{text[:start]} {call} {text[end:]}"
                if leaves(put).leaves is Leaves.NOTHING:
                    assert name not in called(put), put

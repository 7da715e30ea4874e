"""What statements leave: the table, and properties that hold for any text."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.statements import STATEMENTS, leaves
from wsgi_persist.sql import Classifier, Functions, Kind, Leaves
from wsgi_persist.sql.classifier import NONE
from wsgi_persist.sql.functions import BUILT_INS, KEYWORDS, NEVER_FUNCTIONS

KNOWN = Functions(trusted=frozenset({"unaccent", "st_area", "crosstab", "dblink"}))
SHADOWED = Functions(shadowed=frozenset({"lower", "set_config", "setseed", "value"}))
EMPTY = {"", " \n\t", ";;", "-- only a comment", "/* only /* nested */ */"}
TEXTS = [text for text, _, _ in STATEMENTS]
# A byte order mark is not white space, and an open comment or literal swallows what is put after it.
WHOLE = [text for text, _, reason in STATEMENTS if reason != "unknown" and "unterminated" not in text]


@pytest.mark.parametrize(("text", "left", "reason"), STATEMENTS)
def test_table(text: str, left: Leaves, reason: str) -> None:
    assert leaves(text, KNOWN)[:2] == (left, reason)
    assert leaves(text.encode(), KNOWN) == leaves(text, KNOWN)


def test_table_is_large_and_without_repetition() -> None:
    assert len(set(TEXTS)) == len(TEXTS) >= 150


@pytest.mark.parametrize(
    ("text", "left", "reason"),
    [
        ("select upper('a')", Leaves.NOTHING, "nothing"),
        ("select lower('a')", Leaves.STATE, "function"),
        ("select pg_catalog.lower('a')", Leaves.NOTHING, "nothing"),
        ("select set_config('a', 'b', true)", Leaves.STATE, "function"),
        ("select set_config('a.b', 'b', false)", Leaves.FOR_GOOD, "custom a.b"),
        ("select setseed(1)", Leaves.FOR_GOOD, "setseed"),
        ("select value(1)", Leaves.STATE, "function"),
        ("select unaccent('a')", Leaves.STATE, "function"),
    ],
)
def test_shadowed_name_loses_its_place(text: str, left: Leaves, reason: str) -> None:
    assert leaves(text, SHADOWED)[:2] == (left, reason)


def test_a_reason_is_of_one_kind() -> None:
    """Of each reason the session notes the first alone."""
    kinds = {(reason, left) for _, left, reason in STATEMENTS}
    assert len(kinds) == len({reason for reason, _ in kinds})


def test_bytes_that_are_not_utf_8_are_unknown() -> None:
    assert leaves("select 'é'".encode("latin-1")) == (Leaves.STATE, "unknown", Kind.OTHER)


def test_names_are_plain_lower_case_words() -> None:
    assert {"now", "lower", "set_config", "hashtext", "starts_with", "jsonb_set"} <= BUILT_INS
    assert not NEVER_FUNCTIONS & KEYWORDS
    assert all(name == name.lower() and name.isidentifier() for name in BUILT_INS | KEYWORDS)


def test_memo_is_bounded_and_keeps_no_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "MOST", 3)
    classify = Classifier()
    for number in range(10):
        classify(f"select a{number} /* {number} */")
    classify("select " + "a" * Classifier.LONGEST)
    for memory in (classify._texts, classify._bare, classify._forms):
        assert 0 < len(memory) <= 6
        assert max(map(len, [*memory._newer, *memory._older])) <= Classifier.LONGEST


# Text around a statement, between its tokens and in its letters.

SPACES = st.sampled_from([" ", "\n", "\t", "/**/", "/* ' /* $$ */ \" */", "-- '\n", " /*\n*/ ", "\f", "--\r"])


@given(st.sampled_from(WHOLE), SPACES, SPACES, st.booleans())
def test_comments_around_change_nothing(text: str, before: str, after: str, empty: bool) -> None:
    wrapped = before + text + "\n" + after + (";" if empty else "")
    assert leaves(wrapped, KNOWN) == leaves(text, KNOWN)


@given(st.sampled_from([text for text in WHOLE if "%" not in text and "'" not in text]), SPACES)
def test_comments_for_spaces_change_nothing(text: str, space: str) -> None:
    if not set('$"') & set(text) and "--" not in text:
        assert leaves(text.replace(" ", space), KNOWN) == leaves(text, KNOWN)


@given(st.sampled_from([text for text in WHOLE if not set("$'\"%") & set(text)]), st.randoms())
def test_case_changes_nothing(text: str, luck: random.Random) -> None:
    mixed = "".join(luck.choice([c.upper(), c.lower()]) if c.isascii() else c for c in text)
    assert leaves(mixed, KNOWN) == leaves(text, KNOWN)


LITERALS = {
    "plain": lambda text: "'" + text.replace("'", "''") + "'",
    "escapes": lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "unicode": lambda text: "U&'" + text.replace("'", "''") + "'",
    "dollars": lambda text: "$ab$" + text.replace("$", "") + "$ab$",
    "name": lambda text: '"' + text.replace('"', '""') + '"',
    "comment": lambda text: "/*" + text.replace("/", "").replace("*", "") + "*/ 1",
    "line": lambda text: "--" + text.replace("\n", "").replace("\r", "") + "\n 1",
}
HOSTILE = st.one_of(st.text(), st.sampled_from(TEXTS), st.text(alphabet="'\"$\\-/*%();ab \n"))


@given(st.sampled_from(sorted(LITERALS)), HOSTILE, st.sampled_from(["select {}", "select 1, {}; listen x"]))
def test_text_in_a_literal_changes_nothing(kind: str, text: str, statement: str) -> None:
    quoted = statement.replace("{}", LITERALS[kind](text))
    # names of temporary schemas mean the same in quotes
    if "temp" not in text:
        assert leaves(quoted) == leaves(statement.replace("{}", "1"))


@given(st.sampled_from(WHOLE), st.sampled_from(TEXTS))
def test_two_statements_leave_the_worst_of_both(first: str, second: str) -> None:
    both = leaves(f"{first}\n;{second}", KNOWN)
    single = [leaves(first, KNOWN), leaves(second, KNOWN)]
    worst = max((verdict.leaves for verdict in single), key=lambda leaves: leaves.value)
    assert both.leaves is worst
    assert set(both.reason.split(", ")) == {
        reason for verdict in single if verdict.leaves is worst for reason in verdict.reason.split(", ")
    }
    alone = [verdict for verdict, text in zip(single, (first, second), strict=True) if text not in EMPTY]
    kinds = [verdict.kind for verdict in alone]
    if not kinds:
        assert both.kind is Kind.OTHER
    elif len(kinds) == 1:
        assert both.kind is kinds[0]
    else:
        assert both.kind is max([*kinds, Kind.WRITE], key=lambda kind: kind.value)


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "(",
                ")",
                "[",
                "]",
                ",",
                ";",
                ".",
                "::",
                "'",
                '"',
                "$$",
                "$a$",
                "/*",
                "*/",
                "--",
                "\n",
                "\\",
                "E'",
                "U&'",
                "%s",
                "%(",
                "%(",
                "a)s",
                "(",
                "1",
                "0x",
                "1e",
                ".",
                "-",
                "+",
            ]
        ),
        st.sampled_from(sorted(KEYWORDS | NEVER_FUNCTIONS)),
        st.text(max_size=3),
        st.sampled_from(TEXTS),
    )
)


@given(PIECES, st.sampled_from(["", " "]))
def test_any_text_gets_a_verdict(pieces: list[str], between: str) -> None:
    assert leaves(between.join(pieces)).leaves in Leaves


@given(st.binary())
def test_any_bytes_get_a_verdict(given: bytes) -> None:
    assert leaves(given).leaves in Leaves


REPEATED = [
    *("(", ")", "'", '"', "/*", "$a$", "$a$$b$", "a", "a.", "f(", "set_config(", "set_config('a',", "a.b("),
    *("E''\n", "E'' ", "E''\n-- ", "--", "-", "+-", "%", "%s", "(%s", "(%s,", "(%s),", "%(", "%(a ", "%(a)s"),
    *("1_", "1.", "1e", "0x", "explain ", "explain (", "with ", "with a(", ";", " ", "()", "temp ", "U&'"),
    *(
        "/*/",
        "/**/",
        "(%s),(%s,%s),",
        "\n--",
        "select 1;",
        "distinct on (a) f(",
        "(%s::aaaa",
        "update pg_settings ",
        "a(b).",
    ),
]


ITEMS = ["%s, ", "%s,", "%(a)s, ", "%s::text, ", "NULL, ", "DEFAULT, "]
HOSTILE = """
import sys
from tests.unit.test_sql import ITEMS, REPEATED
from wsgi_persist.sql import Classifier

for piece in REPEATED:
    for prefix in ("", "select ", "E''", "(%s, "):
        Classifier()(prefix + piece * (15_000 // len(piece)))
for item in ITEMS:
    Classifier()("select (" + item * 5_000 + "now())")
print("read to the end")
"""


def test_hostile_texts_are_read_to_their_end() -> None:
    """Linear time needs seconds for all of them; backtracking would not end in anybody's lifetime."""
    command = [sys.executable, "-c", HOSTILE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr) == ("read to the end\n", "")


def test_bulk_insert_is_seen_as_one_run() -> None:
    row = "(" + ", ".join(["%s"] * 8) + ")"
    text = 'INSERT INTO "t" ("a") VALUES ' + ", ".join([row] * 2000)
    assert leaves(text) == (Leaves.NOTHING, "nothing", Kind.WRITE)
    assert leaves(text + " RETURNING pay(1)", NONE) == (Leaves.STATE, "function", Kind.WRITE)

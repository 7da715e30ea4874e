"""Texts that share one verdict: what is left out of them has no part in it."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.reads import KINDS
from tests.unit.statements import STATEMENTS
from wsgi_persist.sql import Classifier, Verdict
from wsgi_persist.sql.lexer import NO_TOKENS, NotUnderstood, Token, scan, statements
from wsgi_persist.sql.normal import normalized, tokens_of, uncommented

TEXTS = [text for text, _, _ in STATEMENTS] + [text for text, _ in KINDS]
TRACE = "/*traceparent='00-{}-01',route='%2Fa%2F'*/"
SELECT = 'SELECT "t"."a" FROM "t" WHERE "t"."b" = %s LIMIT 21'
NUMBERS = ("7", "12.50", "99999")


class Scanning(Classifier):
    """Scans every text itself."""

    def _of_form(self, text: str) -> None:
        return None


SAME = {
    "comment after": [SELECT + TRACE.format(n) for n in NUMBERS],
    "comment before": [TRACE.format(n) + " " + SELECT for n in NUMBERS],
    "comment before the end": [SELECT + TRACE.format(n) + ";" for n in NUMBERS],
    "two comments each": [f"/* {n} */ /**/\n{SELECT} /*don't*/ /* /{n} */" for n in NUMBERS],
    "list": [f"SELECT a FROM t WHERE b IN ({', '.join(['%s'] * n)})" for n in (1, 2, 7, 999)],
    "list without spaces": [f"SELECT a FROM t WHERE b IN ({','.join(['%s'] * n)})" for n in (1, 2, 7)],
    "list of names": [f"SELECT IN ({', '.join(f'%(b_{i})s' for i in range(n))})" for n in (1, 2, 7)],
    "rows": ["INSERT INTO t (a, b) VALUES " + ", ".join(["(%s, %s)"] * n) for n in (1, 2, 900)],
    "literal": [f"SELECT a FROM t WHERE b = '{b}'" for b in ("", "x", "a -- /* b", "select pay(1)")],
    "number": [f"SELECT a FROM t WHERE b > {n} AND c<-{n} LIMIT {n}\n" for n in NUMBERS],
    "arguments of set_config": [f"SELECT set_config('a.b', '1', false) {TRACE.format(n)}" for n in NUMBERS],
}


@pytest.mark.parametrize("kind", SAME)
def test_only_one_is_judged(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    judge = Classifier._judge

    def noting(self: Classifier, text: str, tokens: Iterable[Token]) -> Verdict:
        judged.append(text)
        return judge(self, text, tokens)

    monkeypatch.setattr(Classifier, "_judge", noting)
    classify = Classifier()
    assert {classify(text) for text in SAME[kind]} == {Scanning()(SAME[kind][0])}
    assert len(judged) == 2, "by the form, and by the text for comparison"


def test_own_memory_of_texts_serves_the_second_time() -> None:
    classify = Classifier()
    for text in SAME["comment after"]:
        assert classify.seen(text) is None
        assert classify.seen(SELECT) is None
        assert classify(text) is classify.seen(text)


APART = [
    ("select pay1(1)", "select md5(1)"),
    ("select a.b from t", "select a, %s.b from t"),
    ("set %s.x = 1", "set %s, %s.x = 1"),
    ("with %s as (select 1), pay(a) as (select 1) table a", "with %s, %s as (select 1), pay(a) table a"),
    ("select $1", "select 1"),
    ("select set_config('a', 'b', false)", "select set_config('a', 'b', true)"),
    ("select set_config('a', 'b', false)", "select set_config('a.b', 'b', false)"),
    ("select SET_CONFIG ('a', 'b', 'off')", "select SET_CONFIG ('a', 'b', 'on')"),
    ("select \"set_config\"('a', 'b', 'off')", "select \"set_config\"('a', 'b', 'on')"),
    ('select "now"()', 'select "now "()'),
    ("select $$ '$$, pay(1), $$' $$", "select $$ 'a' $$"),
    (r"select E'\'', pay(1), E'\''", "select E'', pay(1), E''"),
    (r"select e'\\', 'pay(1)', 'a'", r"select e'\', pay(1), 'a'"),
    ("select 1 -- /* \n , pay(1) -- */", "select 1 -- /* */"),
    ("select 1 /* /* */ , pay(1) /* */ */", "select 1 , pay(1) /* */"),
    ('select "\'", pay(1), "\'"', "select \"''\""),
    ("/*/* a */ select pay(1) /* */*/ select 1", "select 1"),
    ("/*a/*/ select pay(1) /*/ */ */ select 1", "select 1"),
    ("select 1 /*/ , pay(1)*/", "select 1"),
    ("select 1 */ pay(1) */", "select 1"),
]


@pytest.mark.parametrize("pair", APART)
def test_each_has_its_own_verdict(pair: tuple[str, str]) -> None:
    for texts in (pair, pair[::-1]):
        classify = Classifier()
        assert [classify(text) for text in texts] == [Scanning()(text) for text in texts]


def parts(text: str, tokens: Iterable[Token]) -> list[list[str]]:
    """What the rules see of a text, but for what literals hold."""
    found = [
        ["'" if token[0] == "'" else token for token in statement] for statement in statements(text, tokens)
    ]
    return [statement for statement in found if statement != NO_TOKENS]


def assert_same_tokens(text: str, normal: str) -> None:
    tokens = tokens_of(normal)
    if tokens is not None:
        assert parts(text, scan(text)) == parts(normal, tokens)


PIECES = """' '' " "" \\ $$ $a$ E' e'' U&' N'' B' /* */ /**/ -- \n ; ( ) , . :: : - + * / = < @ [ ] %s %(a)s
%s.a %(a)sx %sx (%s) (%s, (%s,%s) %s) (%s::int) NULL (NULL,%s) $1 1 23 4.5 .6 1e5 0x1F 1_0 a e x t1 é \x0b \r
set_config select 'a' "a" "b(%s,%s)" " 5 " ' 6 ' /*'*/ /*"*/ (%(a)s,%(b)s)""".replace("\n", " ").split(" ")
HOSTILE = st.builds(
    lambda pieces, between: between.join(pieces),
    st.lists(st.sampled_from([*PIECES, "\n", " ", ", "]), max_size=16),
    st.sampled_from(["", " ", ""]),
)
AROUND = st.sampled_from(
    ["", " ", "\n", "\v", ";", "/* a */", "/*'*/", "/*/", "/*", "*/", "--", '"', "'", "$$"]
)


@given(st.one_of(HOSTILE, st.sampled_from(TEXTS)), AROUND, AROUND, AROUND)
def test_normal_text_has_the_same_tokens(text: str, before: str, after: str, end: str) -> None:
    whole = before + text + after + end
    assert_same_tokens(whole, normalized(whole))
    assert_same_tokens(whole, uncommented(whole))


@given(st.sampled_from(TEXTS), st.randoms())
def test_normal_text_has_the_same_tokens_wherever_something_is_put(text: str, luck: random.Random) -> None:
    at = luck.randrange(len(text) + 1)
    whole = text[:at] + "".join(luck.choices(PIECES, k=luck.randint(1, 4))) + text[at:]
    assert_same_tokens(whole, normalized(whole))
    assert_same_tokens(whole, uncommented(whole))


@given(st.lists(st.one_of(HOSTILE, st.sampled_from(TEXTS)), max_size=8), AROUND, AROUND)
def test_order_of_texts_does_not_matter(texts: list[str], before: str, after: str) -> None:
    every = texts + [before + text + after for text in texts]
    classify = Classifier()
    assert [classify(text) for text in every] == [Scanning()(text) for text in every]


@pytest.mark.parametrize("text", TEXTS)
def test_normal_text_is_its_own(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)
    assert uncommented(uncommented(text)) == uncommented(text)


def test_text_that_is_not_understood_is_no_form() -> None:
    with pytest.raises(NotUnderstood):
        list(scan("select 'a"))
    assert tokens_of("select 'a") is None

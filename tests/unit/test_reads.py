"""What may be sent again: the table, properties, and PostgreSQL's own grammar as the judge."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pglast import parser

from tests.unit.oracle import PLACE, is_read
from tests.unit.reads import KINDS, READS
from tests.unit.statements import DJANGO, STATEMENTS, leaves
from tools.postgres import binaries
from wsgi_persist.sql import QUIET, Classifier, Functions, Kind, Leaves
from wsgi_persist.sql.effects import BUILT_IN_VERDICTS, MARK, UNMARK, writes

TRUSTED = frozenset(
    {"unaccent", "st_area", "crosstab", "dblink", "dblink_is_busy", "st_fromflatgeobuftotable"}
)
KNOWN = Functions(trusted=TRUSTED)
HARMLESS = frozenset(name for name, verdict in BUILT_IN_VERDICTS.items() if verdict is QUIET)
HARMLESS |= {"unaccent", "st_area"}
TEXTS = [text for text, _ in KINDS] + [text for text, _, _ in STATEMENTS]


def kind(text: str, functions: Functions = KNOWN) -> Kind:
    return leaves(text, functions).kind


@pytest.mark.parametrize(("text", "expected"), KINDS)
def test_table(text: str, expected: Kind) -> None:
    assert kind(text) is expected
    assert kind(text.encode()) is expected
    assert (leaves(text, KNOWN) is QUIET) is (expected is Kind.READ)


@pytest.mark.parametrize("text", [text for text in DJANGO if text.startswith(("SELECT", "(SELECT"))])
def test_what_django_reads_is_a_read(text: str) -> None:
    acts = re.search(r"FOR (NO KEY )?UPDATE|setval|; ", text)
    assert (kind(text) is Kind.READ) is (acts is None)


@pytest.mark.parametrize("text", TEXTS)
def test_what_leaves_something_is_no_read(text: str) -> None:
    found = leaves(text, KNOWN)
    assert found.leaves is Leaves.NOTHING or found.kind is not Kind.READ


def test_a_read_is_one_object_also_when_it_was_seen_before() -> None:
    classify = Classifier()
    assert classify("select 1") is QUIET
    assert classify.seen("select 1") is QUIET
    assert classify("select 1 " + " " * Classifier.LONGEST) is QUIET


def test_what_is_about_the_session_alone_writes_nothing() -> None:
    for text in (
        "set search_path to a",
        "reset all",
        "set my.tenant = 'a'",
        "savepoint a",
        "release a",
        "select 1",
    ):
        assert not writes(leaves(text))
    for text in (
        "set local a.b = 1; delete from t",
        "delete from t",
        "insert into t values (1) returning set_config('a', 'b', false)",
        "insert into t values (1) returning set_config('a.b', 'b', false)",
        "alter role a set b.c = 1",
        "savepoint a; delete from t",
        "begin",
    ):
        assert writes(leaves(text))


def test_savepoints_are_told_apart_from_writes() -> None:
    assert leaves('SAVEPOINT "a"') is MARK
    assert leaves('RELEASE SAVEPOINT "a"') is UNMARK
    assert leaves('ROLLBACK TO SAVEPOINT "a"') is UNMARK
    for text in ("savepoint a; delete from t", "rollback prepared 'a'", "delete from t"):
        assert leaves(text) is not MARK
        assert leaves(text) is not UNMARK


@pytest.mark.parametrize("name", ["lower", "random", "value", "pg_advisory_lock"])
def test_shadowed_name_is_no_read(name: str) -> None:
    assert kind(f"select {name}(1)", Functions(shadowed=frozenset({name}))) is not Kind.READ


def test_names_of_an_extension_are_reads_only_where_it_is_there() -> None:
    assert kind("select unaccent('a')", Functions()) is Kind.WRITE


# The grammar as the judge.


def assert_never_called_a_read_wrongly(text: str) -> None:
    if kind(text) is Kind.READ:
        assert is_read(PLACE.sub("NULL", text), HARMLESS) is not False, text


@pytest.mark.parametrize("text", TEXTS)
def test_grammar_agrees_on_the_table(text: str) -> None:
    assert_never_called_a_read_wrongly(text)


@pytest.mark.parametrize("text", READS)
def test_reads_are_reads_to_the_grammar(text: str) -> None:
    assert is_read(PLACE.sub("NULL", text), HARMLESS)


# Put in the place of any token of a read, or beside it.
INTRUDERS = [
    *("nextval('s')", "1, nextval('s')", "nextval('s'), 1", "1 + app.now()", "treat(1 as pg_sleep)"),
    *("for update", "for key share", "into u", "(a).b", "1 for share", "from t for no key update"),
    *("(with w as (delete from t returning 1) select 1)", "with w as (insert into t table u) select"),
    *("as (update t set a = 1)", "; delete from t", "explain analyze delete from t", "analyze"),
]


@pytest.mark.parametrize("text", READS)
def test_no_intruder_is_missed(text: str) -> None:
    text = PLACE.sub("NULL", text)
    for token in parser.scan(text):
        for intruder in INTRUDERS:
            assert_never_called_a_read_wrongly(f"{text[: token.start]} {intruder} {text[token.end + 1 :]}")
            assert_never_called_a_read_wrongly(f"{text[: token.start]} {intruder} {text[token.start :]}")


def shipped() -> list[str]:
    """Statements of the SQL files that a PostgreSQL installation brings, and the queries of its views."""
    asked = [str(binaries() / "pg_config"), "--sharedir"]
    folder = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    found = []
    # Without what leads from one version of an extension to another.
    for path in (path for path in sorted(Path(folder).glob("**/*.sql")) if path.name.count("--") < 2):
        lines = path.read_text(errors="replace").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("\\"))
        try:
            found += parser.split(text)
        except parser.ParseError:
            continue  # a template, with names to be put in
    views = [re.split(r"\bAS\s+(?=SELECT|WITH|\()", text, maxsplit=1) for text in found]
    return found + [parts[1] for parts in views if len(parts) == 2]


def test_grammar_agrees_on_what_postgresql_ships() -> None:
    texts = shipped()
    for text in texts:
        assert_never_called_a_read_wrongly(text)
    reads = [text for text in texts if is_read(text, HARMLESS)]
    assert len(texts) > 500
    assert len(reads) > 60
    # What a row is taken apart by might as well be a function's name.
    assert [text for text in reads if kind(text) is not Kind.READ and ").*" not in text] == []


# Queries of any shape, with and without something that has an effect. Each # stands for one more piece;
# a piece is not cut.

ATOMS = [
    *("1", "a", "t.a", '"t"."A"', "NULL", "$1", "%s", "-1", ".5", "1e5", "now()", "random()", "current_date"),
    *("'it''s'", r"E'\''", r"e'\\'", "N'x'", "B'1'", r"U&'\0061'", "';'", "$q$ ' $q$", "interval '1' day"),
    *("'; delete from t'", "$$ for update $$", '"into"', '"a;""b"'),
]
GAPS = [" ", "\n", "\t", " /* ' */ ", '/* /* " */ $$ */', " -- ; '\n", "\f", " --\r"]
EFFECTS = """nextval('s')
NextVal /**/ ('s')
pg_catalog . nextval ('s')
"nextval"('s')
pay(1)
app.now()
"Now"()
%s(1)
pg_notify('a', 'b')
set_config('a', 'b', true)
pg_try_advisory_xact_lock(1)
setval('s', 1)
lastval()
lo_unlink(1)
treat('s' as nextval)
query_to_xml('x', true, true, '')
(t).f
(select (row(1)).pay)
(select 1 for update)
(with w as (delete from t returning 1) table w)""".splitlines()
EXPRESSIONS = """( # )
( # , # )
# + #
( # ) operator(pg_catalog.+) #
- #
lower ( # )
COALESCE( # , # )
count (distinct # ) filter (where # )
# :: numeric(10,2)
sum( # ) over (partition by # order by # rows between 1 preceding and current row)
case when # then # else # end
# is distinct from #
not #
# and #
array[ # , # ]
exists (select # from t where # )
# in (select # from u)
( # , # ) = ( # , # )
cast( # as varchar(3))
extract(year from # )
substring( # from # for # )
string_agg( # , # order by # )
array(select # )
# between # and #
# at time zone #
# -> #
# #>> #
# ? #
( # ) [1]
# like # escape '!'
(select # union select # )""".splitlines()
QUERIES = """select #
select # , # from t where #
values ( # ), ( # )
table t
show time zone
(select # ) union all (select # )
((select # ))
select distinct on ( # ) # as x from t u left join v on # where # group by # , 2 having #
select # from t, lateral (select # ) s, generate_series( # , # ) g(i) order by # desc limit #
with w as (select # ), x(y) as materialized (values ( # )) select # from w, x where #
select # from (values ( # , # )) v(a, b) cross join unnest( # ) with ordinality
explain (costs off) select #
explain analyze select # from t""".splitlines()
AROUND = """# for update
# for share
# for no key update nowait
# for key share
# ; delete from t
# ; #
# ; commit ;
begin ; #
insert into t #
create table u as #
copy ( # ) to stdout
with c as (update t set a = 1 returning *) select ( # )
with c as (insert into t # ) table c
with c as ( # ) delete from t
select 1 into u from ( # ) x
prepare p as #
declare c cursor for #""".splitlines()

Pieces = list[str]


def filled(template: str, inner: st.SearchStrategy[Pieces]) -> st.SearchStrategy[Pieces]:
    parts = template.split()
    holes = parts.count("#")
    return st.lists(inner, min_size=holes, max_size=holes).map(lambda given: fill(parts, given))


def fill(parts: Pieces, given: list[Pieces]) -> Pieces:
    left = iter(given)
    return [piece for part in parts for piece in (next(left) if part == "#" else [part])]


def expressions(inner: st.SearchStrategy[Pieces]) -> st.SearchStrategy[Pieces]:
    return st.sampled_from(EXPRESSIONS).flatmap(lambda template: filled(template, inner))


ANY = st.recursive(st.sampled_from(ATOMS).map(lambda atom: [atom]), expressions, max_leaves=6)
QUERY = st.sampled_from(QUERIES).flatmap(lambda template: filled(template, ANY))


def written(pieces: Pieces, luck: random.Random) -> str:
    """The pieces with any white space and comments between, and in any case where case does not count."""
    cased = [
        piece if set("'\"$%") & set(piece) else "".join(luck.choice([c.upper(), c.lower()]) for c in piece)
        for piece in pieces
    ]
    return "".join(piece + luck.choice(GAPS) for piece in cased)


@given(QUERY, st.randoms(), st.sampled_from(["", ";", ";;", "; -- commit\n"]))
def test_queries_of_harmless_parts_are_reads(pieces: Pieces, luck: random.Random, end: str) -> None:
    assert leaves(written(pieces, luck) + end, KNOWN) is QUIET


@given(QUERY.filter(lambda pieces: bool(set(pieces) & set(ATOMS))), st.sampled_from(EFFECTS), st.randoms())
def test_an_effect_in_any_place_is_seen(pieces: Pieces, effect: str, luck: random.Random) -> None:
    if pieces[1] == "(costs":
        pieces = ["explain", "(analyze)", *pieces[3:]]
    place = luck.choice([at for at, piece in enumerate(pieces) if piece in ATOMS])
    assert kind(written([*pieces[:place], effect, *pieces[place + 1 :]], luck)) is not Kind.READ


@given(QUERY, st.sampled_from(AROUND), st.randoms())
def test_a_query_inside_something_else_is_no_read(pieces: Pieces, around: str, luck: random.Random) -> None:
    if pieces[0] in ("explain", "show"):
        pieces = ["table", "t"]
    assert kind(written(fill(around.split(), [pieces, pieces]), luck)) is not Kind.READ


@given(QUERY, QUERY, st.sampled_from(INTRUDERS + EFFECTS), st.randoms())
def test_grammar_agrees_on_any_mixture(one: Pieces, two: Pieces, part: str, luck: random.Random) -> None:
    head, tail = one[: luck.randrange(len(one) + 1)], two[luck.randrange(len(two)) :]
    assert_never_called_a_read_wrongly(written([*head, *tail], luck))
    assert_never_called_a_read_wrongly(written([*head, part, *tail], luck))

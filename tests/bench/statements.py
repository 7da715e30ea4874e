"""What watching costs a statement, by how much of its text is new."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from tests.bench.timing import microseconds
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.sql import Classifier

TIMES = 1_000


class Sink:
    """A cursor class that sends nothing, so that the cost of watching stands alone."""

    def execute(self, query: str, params: Any = None) -> None:
        pass


SELECT = 'SELECT "a"."id", "a"."name" FROM "a" WHERE ("a"."id" IN (%s) AND "a"."name" = %s) LIMIT 21'
CHANGED = "a statement seen before but for {}"
TRACE = "/*traceparent='00-{:032x}-01'*/"
# Statements that a request sends with something else in them than the last one did.
CHANGING: dict[str, Callable[[int], str]] = {
    "a comment after it": lambda number: f"{SELECT} {TRACE.format(number)}",
    "a comment before it": lambda number: f"{TRACE.format(number)} {SELECT}",
    "the length of a list": lambda number: SELECT.replace("(%s)", f"({', '.join(['%s'] * (number + 1))})"),
    "a literal": lambda number: SELECT.replace("= %s", f"= 'name {number}'"),
    "a number": lambda number: f"{SELECT} OFFSET {number}",
}


def measure_statements(rounds: int) -> dict[str, float]:
    """What watching costs a statement whose text was seen before, or differs little from one that was."""
    found = {"a statement seen before": _watching([SELECT] * TIMES, rounds)}
    for what, text in CHANGING.items():
        found[CHANGED.format(what)] = _watching([text(number) for number in range(100)], rounds)
    return found


def _watching(texts: list[str], rounds: int) -> float:
    """Microseconds for each text after the first, in processes that have seen nothing else."""

    def once() -> float:
        classify = Classifier()
        ears = Ears(classify.seen, classify, _ignore, _ignore, _ignore)
        bare, watched = Sink(), telling(Sink, ears)()
        watched.execute(texts[0])
        return sent(watched) - sent(bare)

    def sent(cursor: Any) -> float:
        return microseconds(lambda: send(cursor, texts[1:]), len(texts) - 1)

    return median(once() for _ in range(rounds))


def _ignore(*told: object) -> None:
    pass


def send(cursor: Any, texts: list[str]) -> None:
    for text in texts:
        cursor.execute(text)


def measure_scanner() -> dict[str, float]:
    select = (
        'SELECT "a"."id", "a"."name", "a"."at" FROM "a" WHERE ("a"."id" = %s AND "a"."name" = %s) LIMIT 21'
    )
    insert = "INSERT INTO a (b, c, d) VALUES " + ", ".join(["(%s, %s, %s)"] * 2000)

    def first_sight(sql: str, times: int) -> float:
        texts = [sql.replace("a", f"a{number}") for number in range(times)]
        classify = Classifier()
        return median(microseconds(partial(classify, text), 1) for text in texts)

    return {
        f"first sight of a SELECT of {len(select)} characters": first_sight(select, 900),
        "first sight of an INSERT of 2,000 rows": first_sight(insert, 50),
    }

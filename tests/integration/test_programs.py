"""Random programs of blocks, savepoints, statements and errors: on a pin as on stock Django, step by step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from webtest import TestApp

from tests.conftest import Server
from tests.integration.programs import READS, STEPS, Run, Step, uncaught
from tests.site.extra import extra_alias, extra_view
from wsgi_persist.worker import registry

PROGRAMS = 5000

LOSS = re.compile("AdminShutdown|server closed|connection (is|already) closed|terminating connection")

every = settings(
    max_examples=PROGRAMS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Programs = Callable[..., list[Run]]


@pytest.fixture
def aliases(site: TestApp) -> Iterator[None]:
    """Django's own backend, on a database of its own, and ours in its other ways."""
    from django.db import connections

    engine = "django.db.backends.postgresql"
    apart = {"NAME": connections.settings["second"]["NAME"], "ENGINE": engine, "OPTIONS": {}}
    with (
        extra_alias("django", **apart),
        extra_alias("lazy", OPTIONS={"persist": {"transactions": "lazy"}}),
        extra_alias("stock", OPTIONS={"persist": {"transactions": "stock"}}),
    ):
        yield


@pytest.fixture
def run(site: TestApp, aliases: None, server: Server) -> Programs:
    """A program's runs by these aliases, in one request."""
    from django.http import HttpResponse

    for database in ("site", "second"):
        with server.connect(dbname=database) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS noted, parent CASCADE")
            cursor.execute("CREATE TABLE parent (id int PRIMARY KEY)")
            cursor.execute(
                "CREATE TABLE noted (id int PRIMARY KEY, "
                "parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
            )

    def run(program: list[Step], *aliases: str, before: Any = lambda number: None) -> list[Run]:
        """:param before: gets the number of each statement that the last is about to send."""
        runs: list[Run] = []

        def view(request: Any) -> Any:
            runs.extend(Run(alias).of(program) for alias in aliases[:-1])
            runs.append(Run(aliases[-1], before).of(program))
            return HttpResponse("")

        with extra_view(view):
            site.get("/extra/", expect_errors=True)
        return runs

    return run


def runs_as_on_stock_django(run: Programs, program: list[Step], alias: str) -> None:
    django, ours = run(program, "django", alias)
    assert ours.trace == django.trace
    assert ours.rows == django.rows


@every
@given(program=st.lists(STEPS, max_size=6))
def test_program_runs_as_on_stock_django(run: Programs, program: list[Step]) -> None:
    runs_as_on_stock_django(run, program, "default")


@settings(every, max_examples=PROGRAMS // 10)
@given(program=st.lists(STEPS, max_size=6))
def test_program_runs_so_with_round_trips_as_on_stock_django(run: Programs, program: list[Step]) -> None:
    runs_as_on_stock_django(run, program, "stock")


@settings(every, max_examples=PROGRAMS // 10)
@given(program=st.lists(STEPS, max_size=6).map(uncaught))
def test_lazy_program_does_as_long_as_it_catches_no_error_of_a_statement(
    run: Programs, program: list[Step]
) -> None:
    runs_as_on_stock_django(run, program, "lazy")


# Django rolls back where the connection was lost, without a word; then the block fails by itself.
FAILS_BY_ITSELF: list[Step] = [
    ("execute", READS[0], False),
    ("atomic", True, False, True, [("iterate",), ("set_rollback", True), ("execute", READS[0], False)]),
    ("atomic", False, True, False, []),
]


@pytest.mark.parametrize("alias", ["default", "lazy", "stock"])
@settings(every, max_examples=PROGRAMS // 50)
@example(steps=FAILS_BY_ITSELF, at=1)
@given(steps=st.lists(STEPS, min_size=1, max_size=6).map(uncaught), at=st.integers(0, 5))
def test_lost_connection_changes_nothing_or_undoes_the_block(
    run: Programs, server: Server, alias: str, steps: list[Step], at: int
) -> None:
    """As the application, a loss is known by its exception, unless the block fails anyway; and where there is
    none, nothing was lost."""

    def cut(number: int) -> None:
        pin = registry.process_scope().pins[alias]
        if number == at and pin.backend in server.backends():
            server.terminate(pin.backend)
            cuts.append(number)

    cuts: list[int] = []
    program = [("atomic", True, False, True, steps)]
    django, ours = run(program, "django", alias, before=cut)
    if ours.trace == django.trace:
        assert ours.rows == django.rows
    else:
        assert cuts
        assert LOSS.search(str(ours.trace)) or ours.has_failed
        assert ours.rows == [(None, 0)]

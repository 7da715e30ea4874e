"""Random requests that write, whose connection is cut anywhere: what they are told is what was saved."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webtest import TestApp

from tests.conftest import Server
from tests.integration.relay import Relay
from tests.site.extra import extra_view
from wsgi_persist import PersistMiddleware, Policy

Step = tuple[Any, ...]
Cut = tuple[str, int]

EXAMPLES = 150

WRITE = st.tuples(st.just("write"), st.sampled_from(["far", "far", "far", "default"]))
READ = st.tuples(st.just("read"))
# Aliases, whether it is rolled back in the end, and what is in it.
BLOCKS: st.SearchStrategy[Step] = st.recursive(
    st.one_of(WRITE, WRITE, READ),
    lambda steps: st.tuples(
        st.just("block"),
        st.sampled_from(["far", "far", "default"]),
        st.sampled_from([False, False, False, True]),
        st.lists(steps, min_size=1, max_size=3),
    ),
    max_leaves=6,
)
CUT = st.tuples(st.sampled_from(["before", "after", "silently"]), st.integers(0, 8))


THREE_TIMES = ("block", "far", False, [("write", "far")] * 3)
NESTED = ("block", "far", False, [("write", "far"), ("block", "far", True, [("read",)])])
every = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


class RolledBack(Exception):
    pass


class Program:
    """A view that writes numbers.

    :ivar done: what was written and not rolled back on purpose, with its alias.
    :ivar blocks: what is saved together or not at all.
    """

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, request: Any) -> Any:
        from django.http import HttpResponse

        self._number = 0
        self.done: dict[str, str] = {}
        self.blocks: list[set[str]] = []
        self._run(self._steps)
        return HttpResponse("done")

    def _run(self, steps: list[Step]) -> None:
        for name, *how in steps:
            {"read": self._read, "write": self._write, "block": self._block}[name](*how)

    def _read(self) -> None:
        self._execute("far", "SELECT 1")

    def _write(self, alias: str) -> None:
        self._number += 1
        self._execute(alias, f"INSERT INTO entry (note) VALUES ('{self._number}')")
        self.done[str(self._number)] = alias

    def _block(self, alias: str, is_rolled_back: bool, steps: list[Step]) -> None:
        from django.db import connections, transaction

        before = self.done.copy()
        is_outermost = not connections[alias].in_atomic_block
        with suppress(RolledBack), transaction.atomic(alias):
            self._run(steps)
            within = {id for id, of in self.done.items() if of == alias and id not in before}
            if is_rolled_back:
                self.done = {id: of for id, of in self.done.items() if id not in within}
                raise RolledBack
            if is_outermost:
                self.blocks.append(within)

    @staticmethod
    def _execute(alias: str, sql: str) -> None:
        from django.db import connections

        with connections[alias].cursor() as cursor:
            cursor.execute(sql)


@pytest.fixture
def client(site: TestApp) -> TestApp:
    from django.core.wsgi import get_wsgi_application

    wrapped = PersistMiddleware(get_wsgi_application(), policy=Policy(replay_requests="all", prewarm=False))
    return TestApp(wrapped, extra_environ={"wsgi.multithread": False})


MODES = {"folded": {}, "lazy": {"transactions": "lazy"}, "stock": {"transactions": "stock"}}


@pytest.mark.parametrize("repeats", [False, "all"])
@pytest.mark.parametrize("mode", MODES)
def test_answer_agrees_with_what_was_saved(
    mode: str, repeats: Any, client: TestApp, far: Any, relay: Relay, server: Server
) -> None:
    far(replay_requests=repeats, commit_outcome="always", **MODES[mode])
    kinds: Counter[str] = Counter()

    def answer(steps: list[Step], cuts: list[Cut]) -> None:
        server("TRUNCATE entry")
        program = Program(steps)

        def cut() -> None:
            if cuts:
                relay.cut(*cuts.pop(0))

        relay.at_cut = cut
        cut()
        with extra_view(program):
            found = client.post("/extra/", status="*")
        relay.spare()
        rows = Counter(note for (note,) in server("SELECT note FROM entry"))
        assert max(rows.values(), default=1) == 1
        assert all(block <= rows.keys() or not block & rows.keys() for block in program.blocks)
        if found.status_int == 200:
            assert rows.keys() == program.done.keys()
        else:
            assert found.status_int == 503
            assert "Retry-After" not in found.headers or not rows
        kinds[f"{found.status_int}{'+' * ('Retry-After' in found.headers)}"] += 1

    for after in range(12):
        for program in (THREE_TIMES, NESTED):
            answer([program], [("before", after)])
    assert kinds.keys() >= ({"200"} if repeats else {"200", "503+"})
    answer([("write", "far")], [("after", 0)])
    assert kinds["503"]
    programs = st.lists(BLOCKS, min_size=1, max_size=4), st.lists(CUT, min_size=1, max_size=2)
    every(given(*programs)(answer))()

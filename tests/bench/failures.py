"""What visitors see when the database is harmed, and what a request finds that another has left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlencode

from tests.bench.results import Failing
from tests.bench.variants import Variant
from tests.faults.network import Network
from tests.faults.outcome import Play, Scale
from tests.faults.pgbouncer import PgBouncer
from tests.faults.scenarios import Scenario, restarts_under_reads, silence, terminations_under_reads
from tests.faults.stage import Stage
from tests.http import get
from tools.apache import public_folder

WORKERS = 2
SHORT = Scale(rate=60, restarts=2, pause=1, terminating=3, silence=10)
# What a request leaves; the role last, as it may do less than the others need.
LEFT = {
    "SET": "SET statement_timeout = 12345",
    "set_config": "SELECT set_config('work_mem', '1234kB', false)",
    "time zone": "SET TIME ZONE 'Asia/Tokyo'",
    "temporary table": "CREATE TEMPORARY TABLE left_behind (id int)",
    "advisory lock": "SELECT pg_advisory_lock(42)",
    "LISTEN": "LISTEN news",
    "PREPARE": "PREPARE left_behind AS SELECT 1",
    "cursor WITH HOLD": "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
    "DO": "DO $$ BEGIN PERFORM set_config('work_mem', '2345kB', false); END $$",
    "custom setting": "SET my.tenant = 'one'",
    "search_path": "SET search_path = pg_catalog",
    "role": "SET ROLE pg_monitor",
}


class PlayAlone(Play):
    """Without the wait for sessions to end: a pooler's may stay, and that is no failure here."""

    def _sessions_beyond(self, allowed: int) -> int:
        return 0


class Harm:
    """Servers to be harmed, one for each driver."""

    def __init__(self) -> None:
        self._home = public_folder("failures")
        self._stages: dict[str, Stage] = {}

    def __enter__(self) -> Harm:
        return self

    def __exit__(self, *exception: object) -> None:
        for stage in self._stages.values():
            stage.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def failing(self, variant: Variant) -> Failing:
        driver = variant.drivers[0]
        if driver not in self._stages:
            self._stages[driver] = Stage(self._home, driver)
        stage = self._stages[driver]
        found = Failing(driver)
        for name, scenario in {
            "restarts": restarts_under_reads,
            "terminations": terminations_under_reads,
        }.items():
            found.scenarios[name] = _harmed(stage, variant, scenario)
        found.leaks = leaks(stage, variant)
        return found

    def silenced(self, variant: Variant) -> tuple[int, int, float]:
        """:raises Unavailable: a network whose cable can be pulled cannot be made here."""
        network = Network()
        home = public_folder("silence")
        try:
            with Stage(home, variant.drivers[0], network) as stage:
                return _harmed(stage, variant, silence)
        finally:
            network.close()
            shutil.rmtree(home, ignore_errors=True)


def _harmed(stage: Stage, variant: Variant, scenario: Scenario) -> tuple[int, int, float]:
    """Requests, those that failed, seconds that the slowest took."""
    with _reached(stage, variant) as site:
        results = scenario(PlayAlone(stage, cast(Any, site), WORKERS, SHORT)).results
    return results.sent, len(results.failures), results.latency(1.0)


@contextmanager
def _reached(stage: Stage, variant: Variant) -> Iterator[Variant]:
    if not variant.pooler:
        yield variant
        return
    with PgBouncer(stage.cluster, "transaction") as pooler:
        yield variant.given(HOST=str(pooler.folder), PORT=str(pooler.port))


def leaks(stage: Stage, variant: Variant) -> list[str]:
    """The kinds of state that the next request finds in its session."""
    with _reached(stage, variant) as site:
        with stage.site(cast(Any, site.given(ATOMIC_REQUESTS=False)), 1) as apache:
            return [kind for kind, sql in LEFT.items() if _leaks(apache.port, sql)]


def _leaks(port: int, sql: str) -> bool:
    before = _sessions(port)
    _asked(port, "/run/?" + urlencode({"sql": sql}))
    return not _sessions(port) <= before


def _sessions(port: int) -> set[str]:
    """Asked often enough to meet each connection of a small pool that goes round."""
    return {_asked(port, "/session/") for _ in range(6)}


def _asked(port: int, path: str) -> str:
    answer = get(port, path)
    if answer.status != 200:
        raise RuntimeError(f"{path} is answered {answer.status}")
    return answer.text

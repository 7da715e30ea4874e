"""Workers behind PgBouncer, with the settings of the manual's page on scaling."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DRIVER, Server, eventually, or_skip
from tests.faults import Unavailable
from tests.faults.pgbouncer import PgBouncer, pgbouncer_version
from tests.http import get, in_parallel
from tests.serving import ROOT, started

WORKERS = 4
APP = "tests.site.wsgi:application"
GUNICORN = ["-m", "gunicorn", "--bind=127.0.0.1:{port}", f"--workers={WORKERS}", APP]
PAGE = (ROOT / "docs" / "scaling.rst").read_text()
# Of the manual's machines, and of a pool larger than a test wants.
THEIRS = {"listen_addr", "listen_port", "auth_type", "auth_file", "default_pool_size", "max_db_connections"}
WHOSE_ZONE = "SELECT current_setting('application_name') || ' ' || current_setting('TimeZone')"
Settings = dict[str, str]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", PAGE, re.MULTILINE)
    return [textwrap.dedent(block) for block in found]


def pgbouncer_settings(block: str) -> Settings:
    config = ConfigParser(comment_prefixes=(";",), delimiters=("=",))
    config.read_string(block)
    return {name: value for name, value in config["pgbouncer"].items() if name not in THEIRS}


def site_settings() -> dict[str, str]:
    """The manual's alias as the tests' site reads it, without its address."""
    (block,) = blocks("python")
    namespace: dict[str, Any] = {}
    exec(block, namespace)
    alias = namespace["DATABASES"]["default"]
    rest = {name: alias[name] for name in alias if name not in ("ENGINE", "NAME", "HOST", "PORT", "OPTIONS")}
    return {
        "SITE_ENGINE": alias["ENGINE"],
        "SITE_OPTIONS": json.dumps(alias["OPTIONS"]),
        "SITE_DATABASE": json.dumps(rest),
    }


POOL, CLEANING = map(pgbouncer_settings, blocks("ini"))


class Pooled:
    """The site behind a pooler."""

    def __init__(self, port: int, pooler: PgBouncer) -> None:
        self._port = port
        self.pooler = pooler
        self._met: set[int] = set()

    def get(self, path: str) -> str:
        answer = get(self._port, path)
        assert answer.status == 200, answer.text
        return answer.text

    def at_once(self, path: str) -> list[str]:
        """The answers to more clients than there are workers."""
        return in_parallel(2 * WORKERS, lambda: self.get(path))

    def workers(self) -> int:
        """How many have answered so far, after having asked their database."""
        self._met.update(json.loads(text)["worker"] for text in self.at_once("/busy/"))
        return len(self._met)

    def pins(self) -> list[str]:
        """The connections that PgBouncer has from workers, by their ports."""
        rows = [row.split("|") for row in self.pooler.command("SHOW CLIENTS").splitlines()]
        return sorted(row[5] for row in rows if row[2] == "site")


Start = Callable[..., AbstractContextManager[Pooled]]


@pytest.fixture
def pooled(server: Server, tmp_path: Path) -> Start:
    """Starts the site, once every worker has its pin; how many sessions, further settings of the pooler, and
    further OPTIONS."""

    @contextmanager
    def start(sessions: int, settings: Settings, **options: Any) -> Iterator[Pooled]:
        given = {**POOL, **settings, "default_pool_size": str(sessions)}
        with or_skip():
            pooler = PgBouncer(server.cluster, given.pop("pool_mode"), settings=given)
        environment = {**site_settings(), "SITE_HOST": "127.0.0.1", "SITE_PORT": str(pooler.port)}
        environment["SITE_OPTIONS"] = json.dumps({**json.loads(environment["SITE_OPTIONS"]), **options})
        with pooler, started([sys.executable, *GUNICORN], server, tmp_path / "log", **environment) as running:
            site = Pooled(running.port, pooler)
            assert eventually(site.workers, WORKERS, 20)
            yield site

    return start


def test_query_for_busy_sessions(server: Server) -> None:
    (sql,) = blocks("sql")
    ((whole, busy),) = server(sql.replace("'mysite'", "'site'"))
    assert whole >= busy >= 0


def test_pins_of_many_workers_share_few_sessions(pooled: Start, server: Server) -> None:
    with pooled(2, {}) as site:
        pins = site.pins()
        assert len(pins) == WORKERS
        for _ in range(5):
            site.at_once("/busy/")
        assert 1 <= len(server.backends()) <= 2
        assert site.pins() == pins, "none was opened again"


def test_what_a_transaction_sets_for_itself_ends_with_it(pooled: Start) -> None:
    with pooled(1, {}) as site:
        site.get("/run/?sql=BEGIN&sql=SET LOCAL work_mem = '1234kB'&sql=COMMIT")
        assert set(site.at_once("/sql/?sql=SHOW work_mem")) == {"4MB"}


def test_time_zone_and_name_follow_the_worker(pooled: Start) -> None:
    with pooled(1, {}) as site:
        site.get("/run/?sql=SET TimeZone = 'Asia/Tokyo'")
        zones: dict[str, str] = {}

        def known() -> int:
            for text in site.at_once(f"/sql/?sql={WHOSE_ZONE}"):
                name, zone = text.split()
                assert zones.setdefault(name, zone) == zone
            return len(zones)

        assert eventually(known, WORKERS, 20)
        assert sorted(zones.values()) == ["Asia/Tokyo", *["UTC"] * (WORKERS - 1)]


@pytest.mark.parametrize(("settings", "next_one"), [({}, "1234kB"), (CLEANING, "4MB")], ids=["", "cleaning"])
def test_what_a_session_was_set_to_meets_the_next_worker(
    pooled: Start, settings: Settings, next_one: str
) -> None:
    with pooled(1, settings) as site:
        site.get("/run/?sql=SET work_mem = '1234kB'")
        assert set(site.at_once("/sql/?sql=SHOW work_mem")) == {next_one}


# Statements that psycopg 3 prepares.

CARRIES_THEM = (1, 21)
PREPARES = {"prepare_threshold": 0, "server_side_binding": True}


@pytest.fixture
def prepared(pooled: Start) -> Iterator[Pooled]:
    """Few sessions for all workers, by a pooler that carries prepared statements from one to another."""
    if DRIVER != "psycopg":
        pytest.skip("psycopg2 prepares nothing")
    with or_skip():
        if (found := pgbouncer_version()) < CARRIES_THEM:
            raise Unavailable(f"PgBouncer {'.'.join(map(str, found))} carries no prepared statement")
    with pooled(2, {"max_prepared_statements": "200"}, **PREPARES) as site:
        yield site


def test_prepared_statements_are_carried(prepared: Pooled, server: Server) -> None:
    """They were: the sessions have them, under PgBouncer's own names."""
    for _ in range(3):
        prepared.at_once("/busy/")
        prepared.at_once("/three/")
    assert any("execute PGBOUNCER_" in line for line in server.log())


@pytest.mark.parametrize("harm", ["RECONNECT", "sessions", "restart"])
def test_they_survive_what_poolers_do(prepared: Pooled, server: Server, harm: str) -> None:
    prepared.at_once("/three/")
    if harm == "RECONNECT":
        prepared.pooler.reconnect()
    elif harm == "restart":
        prepared.pooler.restart()
    else:
        for backend in server.backends():
            server.terminate(backend)
    for _ in range(3):
        prepared.at_once("/three/")
        prepared.at_once("/write/?note=prepared")


def test_more_than_psycopg_keeps_are_forgotten_by_name(prepared: Pooled) -> None:
    """It deallocates them, which a pooler cannot by SQL."""
    for first in range(0, 120, 20):
        texts = "&".join(f"sql=SELECT {number}, 'more'" for number in range(first, first + 20))
        prepared.get(f"/run/?{texts}")
    prepared.at_once("/three/")

"""PostgreSQL's own account on the page of the workers: on either driver, and whatever state it is in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import Server, eventually
from tests.page.test_answers import ask
from tools.postgres import Cluster
from wsgi_persist.status import StatusPage
from wsgi_persist.status.findings import Level
from wsgi_persist.status.page import database as module
from wsgi_persist.status.page.database import Database
from wsgi_persist.status.page.sessions import of_database, sessions

NAME = "wsgi_persist.status"  # of the threads


@pytest.fixture
def database(server: Server, driver: ModuleType) -> Iterator[Database]:
    given = server.cluster.dsn(dbname="site", application_name="page", connect_timeout=2)
    database = Database(lambda: driver.connect(**given))
    yield database
    database.close()


def test_sessions_are_counted_by_application(server: Server, database: Database) -> None:
    """A worker's number at the end of its name is left out, and the page's own session, too."""
    held = [server.connect(application_name=f"wsgi_persist:shop:{pid}") for pid in (11, 12)]
    open_one = held[0].cursor()
    open_one.execute("BEGIN")
    open_one.execute("SELECT 1")
    database.ask()
    assert database.error == ""
    account = database.account
    assert account is not None
    (shop,) = [each for each in account.sessions if each.application == "wsgi_persist:shop"]
    assert (shop.database, shop.count, shop.idle_in_transaction, shop.idle) == ("site", 2, 1, 1)
    assert shop.oldest > 0
    assert (account.most, account.used) == (int(server("SHOW max_connections")[0][0]), 3)
    assert "wsgi_persist:shop" in sessions(database, account.time)
    for connection in held:
        connection.close()


def test_one_session_serves_all_questions(server: Server, database: Database) -> None:
    server.mark()
    for _ in range(3):
        database.ask()
    assert server.connections() == 1


def test_server_that_is_away_is_a_fault_until_it_is_back(server: Server, database: Database) -> None:
    database.ask()
    (pid,) = [row[0] for row in server("SELECT pid FROM pg_stat_activity WHERE application_name = 'page'")]
    server.terminate(pid)
    database.ask()
    assert [finding.level for finding in of_database(database, database.account.time)] == [Level.FAULT]
    database.ask()
    assert list(of_database(database, database.account.time)) == []


def test_server_that_refuses_is_shown_without_its_password(server: Server, driver: ModuleType) -> None:
    given = server.cluster.dsn(dbname="nowhere")
    database = Database(lambda: driver.connect(**given, password="s3cret"))
    database.ask()
    assert 'database "nowhere" does not exist' in database.error
    told = "cannot parse postgresql://monitor:s3cret@db/shop"
    failing = Database(lambda: _raise(RuntimeError(told)))
    failing.ask()
    assert "s3cret" not in failing.error
    assert failing.error in sessions(failing, 0.0)


def _raise(error: Exception) -> None:
    raise error


def test_full_server_is_a_warning(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMITS", "SELECT 1, 0")
    database.ask()
    (found,) = of_database(database, database.account.time)
    assert found.level == Level.WARNING
    assert found.text == f"{database.account.used} of 1 sessions are in use"


def test_page_does_not_wait_for_a_server_that_hangs(
    victim: Cluster, driver: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    given = victim.dsn(dbname="site", connect_timeout=2)

    def connect() -> Any:
        return driver.connect(**given)

    page, fresh = (StatusPage(tmp_path, connect=connect) for _ in range(2))
    assert eventually(lambda: "sessions are in use" in ask(page)[2], True)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        assert "It has not answered yet." in ask(fresh)[2]
        assert ask(page)[0] == "200 OK"
    finally:
        os.kill(victim.pid, signal.SIGCONT)
        for each in (page, fresh):
            each.stop()
    assert eventually(lambda: [thread for thread in threading.enumerate() if thread.name == NAME], [], 10)


def test_no_answer_is_a_fault(database: Database) -> None:
    database.ask()
    (found,) = of_database(database, database.account.time + 60)
    assert (found.level, found.text) == (Level.FAULT, "No answer for 60 s")

"""What is told becomes counters, events and leaks, and shows nothing that is nobody's business."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_manual import REASONS, entries
from wsgi_persist.sql import without_values
from wsgi_persist.status import Counters, Event, Leak, OutageState
from wsgi_persist.status.account import KINDS, LONGEST, MOST_EVENTS, MOST_LEAKS, Account, short
from wsgi_persist.status.reasons import word_for


def told(
    account: Account, kind: str, *, pin: str = "default", request: str = "", text: str = "", **facts: Any
) -> None:
    account.note((7.0, kind, pin, request, text, facts))


@pytest.fixture
def account() -> Account:
    return Account()


def test_each_kind_has_its_counter(account: Account) -> None:
    kinds = ["opened", "replayed", "run_again", "answered_503", "rolled_back", "reset", "own_scope", "outage"]
    for kind in kinds:
        told(account, kind)
    assert account.counters(requests=10) == Counters(
        requests=9,
        opened=1,
        replayed_statements=1,
        replayed_requests=1,
        answered_503=1,
        rolled_back=1,
        reset=1,
        own_scopes=1,
        outages=1,
    )


def test_connection_that_broke_is_not_one_that_was_closed(account: Account) -> None:
    told(account, "closed", text="the server closed it", backend=4711)
    told(account, "closed", text="older than max_age=3600.0 s", backend=4712)
    told(account, "closed", text="session state left by GET '/' (attribute) that no reset undoes", backend=4)
    counters = account.counters(0)
    assert counters.lost == {"closed_by_server": 1}
    assert counters.closed == {"max_age": 1, "left_state": 1}
    assert counters.closed_for_good == 1
    assert list(account.events)[:2] == [
        Event(7.0, "broke", "default", "", "backend 4711: the server closed it"),
        Event(7.0, "closed", "default", "", "backend 4712: older than max_age=3600.0 s"),
    ]


def test_every_reason_of_the_guide_has_a_word() -> None:
    found = {reason: word_for(reason) for reason in entries(REASONS)}
    assert [reason for reason, word in found.items() if word == "other"] == []
    assert word_for("some day there may be another") == "other"


def test_outage_lasts_until_a_connection_is_opened(account: Account) -> None:
    for _ in range(2):
        told(account, "postponed", text="refused", window=0.8)
    assert account.outages() == [OutageState("default", 7.0, 7.8, "refused")]
    told(account, "opened", pin="other")
    assert len(account.outages()) == 1
    told(account, "opened")
    assert account.outages() == []
    told(account, "postponed", window=0.8)
    told(account, "in_reach")
    assert account.outages() == []


def test_leak_is_news_once_and_counted_each_time(account: Account) -> None:
    for value in range(3):
        told(account, "leak", request="GET '/a/'", what="SET", sql=f"SET work_mem = {value}")
    told(account, "rolled_back", request="GET '/b/'")
    assert account.leaks() == [
        Leak("GET '/a/'", "SET", "SET work_mem = $1", 3),
        Leak("GET '/b/'", "transaction", "", 1),
    ]
    assert [event.kind for event in account.events] == ["leak", "rolled_back"]


def test_worst_leaks_stay_among_any_number_of_others(account: Account) -> None:
    for number in range(2000):
        told(account, "rolled_back", request="GET '/worst/'")
        told(account, "rolled_back", request=f"GET '/{number}/'")
    assert account.leaks()[0] == Leak("GET '/worst/'", "transaction", "", 2000)
    assert len(account.leaks()) == MOST_LEAKS
    assert len(account.events) == MOST_EVENTS


def test_what_comes_with_every_request_is_no_event(account: Account) -> None:
    told(account, "reset")
    told(account, "postponed", window=0.8)
    assert not account.events
    assert "reset" not in KINDS


def test_first_reason_to_stop_counts(account: Account) -> None:
    told(account, "stopped", text="shutdown_signal")
    told(account, "stopped", text="atexit")
    assert account.stopped == "shutdown_signal"


def test_no_password_and_no_long_path_is_shown() -> None:
    assert "hunter2" not in short('connection to "postgresql://me:hunter2@host/db" failed')
    assert len(short("x" * 10_000)) < LONGEST + 10
    assert short("\ud800") == "?"


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SET work_mem = 64000", "SET work_mem = $1"),
        ("SET app.token TO abc", "SET app.token TO $1"),
        ('SET search_path = "hidden", other; SELECT x', "SET search_path = $1, $2; SELECT x"),
        ("SET ROLE editor", "SET ROLE editor"),
        ("select set_config('a.b', 'secret', false)", "select set_config($1, $2, false)"),
        ("SELECT  1 -- why\n + 2", "SELECT $1 + $2"),
        ("INSERT INTO t VALUES (%s, %s), (%s, %s)", "INSERT INTO t VALUES ($n)"),
        ("SELECT %(name)s", "SELECT $1"),
        ("DO $body$ secret $body$", "DO $1"),
        ("ALTER ROLE me PASSWORD 'secret'", "ALTER ROLE me PASSWORD $1"),
        (b"SELECT E'sec\\'ret'", "SELECT $1"),
        ("UPDATE t SET a = b", "UPDATE t SET a = b"),
        ("SELECT 'secret", "SELECT ..."),
        ("'secret", "..."),
        ("secret1 'x", "..."),
        ("", ""),
    ],
)
def test_statement_is_shown_without_its_values(sql: str | bytes, shown: str) -> None:
    assert without_values(sql, 200) == shown


def test_long_statement_is_cut_off() -> None:
    assert without_values("SELECT " + "a, " * 1000, 20) == "SELECT a, a, a, a, a..."
    assert without_values("SELECT '" + "secret" * 1000, 20) == "SELECT ..."


def test_answers_of_an_outage_are_one_event(account: Account) -> None:
    told(account, "closed", text="lost during a request")
    for _ in range(2 * MOST_EVENTS):
        told(account, "answered_503")
    told(account, "in_reach")
    told(account, "answered_503")
    assert [event.kind for event in account.events] == ["broke", "answered_503", "in_reach", "answered_503"]
    assert account.counters(0).answered_503 == 2 * MOST_EVENTS + 1

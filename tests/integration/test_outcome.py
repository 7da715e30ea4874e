"""The fate of a transaction whose COMMIT is lost: known, said, and never wrong."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server, eventually, or_skip
from tests.faults.faults import FAST, IMMEDIATE, Faults
from tests.faults.pgbouncer import PgBouncer
from tests.faults.standby import query
from tests.integration.relay import Relay
from tests.site.extra import extra_view
from tools.apache import public_folder
from tools.postgres import Cluster
from wsgi_persist import PersistMiddleware, Policy
from wsgi_persist.pins import STARTED, Backend
from wsgi_persist.worker import registry

# More for who has changed something here.
TIMES = int(os.environ.get("LOST_COMMITS", "20"))
INSERT = "INSERT INTO entry (note) VALUES (%s)"
WAYS = {"unix": "disable", "tls": "require"}
MODES = {"folded": {}, "lazy": {"transactions": "lazy"}, "stock": {"transactions": "stock"}}


@pytest.fixture
def post(site: TestApp) -> Callable[..., Any]:
    from django.http import HttpResponse

    def post(view: Callable[[], None]) -> Any:
        def answer(request: Any) -> Any:
            view()
            return HttpResponse("done")

        with extra_view(answer):
            return site.get("/extra/", status="*")

    return post


@pytest.fixture
def repeated(site: TestApp) -> Callable[..., Any]:
    """As *post*, by a site whose requests of every method may be run again."""
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse

    wrapped = PersistMiddleware(get_wsgi_application(), policy=Policy(replay_requests="all", prewarm=False))
    client = TestApp(wrapped, extra_environ={"wsgi.multithread": False})

    def repeated(view: Callable[[str], None], note: str) -> Any:
        def answer(request: Any) -> Any:
            view(request.POST["note"])
            return HttpResponse("done")

        with extra_view(answer):
            return client.post("/extra/", {"note": note}, status="*")

    return repeated


def run(sql: str, *params: Any) -> None:
    from django.db import connections

    with connections["far"].cursor() as cursor:
        cursor.execute(sql, params or None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["before", "after"])
def test_fate_of_a_lost_commit_is_told(
    how: str, mode: str, way: str, far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    from django.db import transaction

    hooks: list[str] = []

    def view(note: str) -> None:
        run("SELECT 1")
        with transaction.atomic("far"):
            run(INSERT, note)
            transaction.on_commit(lambda: hooks.append(note), "far")
            relay.cut(how, after=1)  # the transaction's number is asked for first

    far(WAYS[way], commit_outcome="always" if mode == "stock" else True, **MODES[mode])
    posted = [f"{how} {number}" for number in range(TIMES)]
    for note in posted:
        answer = post(lambda note=note: view(note))
        if how == "after":
            assert (answer.status_int, answer.text) == (200, "done")
        else:
            assert (answer.status_int, answer.headers["Retry-After"]) == (503, "2")
    assert sorted(notes()) == sorted(posted if how == "after" else [])
    assert hooks == (posted if how == "after" else [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["before", "after"])
def test_every_write_is_saved_once_where_requests_may_be_run_again(
    how: str, mode: str, way: str, far: Any, relay: Relay, repeated: Any, notes: Any
) -> None:
    from django.db import transaction

    hooks: list[str] = []
    runs: list[str] = []

    def view(note: str) -> None:
        runs.append(note)
        run("SELECT 1")
        with transaction.atomic("far"):
            run(INSERT, note)
            transaction.on_commit(lambda: hooks.append(note), "far")
            if runs.count(note) == 1:
                relay.cut(how, after=1)

    outcome = "always" if mode == "stock" else True
    far(WAYS[way], commit_outcome=outcome, replay_requests="all", **MODES[mode])
    posted = [f"{how} {number}" for number in range(TIMES)]
    for note in posted:
        answer = repeated(view, note)
        assert (answer.status_int, answer.text) == (200, "done")
    assert sorted(notes()) == sorted(posted)
    assert hooks == posted
    assert len(runs) == (2 if how == "before" else 1) * TIMES


# A server that crashes forgets what it has not written to its log, and gives the same numbers again.


@pytest.fixture(scope="module")
def harmed() -> Iterator[Faults]:
    """A server that writes its log for a COMMIT alone."""
    root = public_folder("harmed")
    cluster = Cluster(root / "data", ["fsync=off", "wal_writer_delay=10s"]).create().start()
    faults = Faults(cluster, importlib.import_module(DRIVER))
    query(cluster, "CREATE DATABASE site")
    query(cluster, "CREATE TABLE entry (note text)", "site")
    yield faults
    cluster.destroy()
    shutil.rmtree(root)


HARM: dict[str, Callable[[Faults], None]] = {
    "killed": Faults.kill_postmaster,
    "crashed": Faults.crash_neighbour,
    "at once": lambda faults: faults.restart(IMMEDIATE),
    "orderly": lambda faults: faults.restart(FAST),
    "crashed, and orderly": lambda faults: (faults.crash_neighbour(), faults.restart(FAST))[1],
}


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("harm", HARM)
def test_number_that_was_given_again_tells_nothing(
    harm: str, how: str, far: Any, relay: Relay, post: Any, harmed: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    """The next transaction after a crash has the number of the one that was lost, and commits."""
    from django.db import transaction

    query(harmed.cluster, "TRUNCATE entry", "site")
    relay.upstream = "127.0.0.1", harmed.cluster.port
    numbers: list[str] = []

    def crash() -> None:
        numbers.append(query(harmed.cluster, "SELECT max(backend_xid::text) FROM pg_stat_activity"))
        HARM[harm](harmed)
        another = "INSERT INTO entry VALUES ('another') RETURNING pg_current_xact_id()"
        numbers.append(query(harmed.cluster, another, "site"))

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "mine")
            relay.cut(how, after=1)

    relay.at_cut = crash
    far(transactions="folded")
    answer = post(view)
    rows = query(harmed.cluster, "SELECT note FROM entry ORDER BY note", "site").split()
    if how == "after":
        assert rows == ["another", "mine"]
        assert answer.status_int == (503 if "and" in harm else 200)
        assert "Retry-After" not in answer.headers
        return
    assert rows == ["another"]
    assert answer.status_int == 503
    assert ("Retry-After" in answer.headers) == ("and" not in harm)
    assert (numbers[0] == numbers[1]) == (harm != "orderly")


@pytest.mark.parametrize("how", ["before", "after"])
def test_pooler_keeps_its_clients_while_the_server_crashes(
    how: str, far: Any, relay: Relay, post: Any, harmed: Faults
) -> None:
    """The server whose number it is has crashed since the connection was opened."""
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "mine")
            relay.cut(how, after=1)

    query(harmed.cluster, "TRUNCATE entry", "site")
    with or_skip():
        pooler = PgBouncer(harmed.cluster, "transaction")
    with pooler:
        relay.upstream = "127.0.0.1", pooler.port
        far(pooler="transaction")
        assert post(lambda: run("SELECT 1")).text == "done"
        harmed.kill_postmaster()
        answer = post(view)
    assert answer.status_int == (200 if how == "after" else 503)
    assert ("Retry-After" in answer.headers) == (how == "before")
    assert query(harmed.cluster, "SELECT note FROM entry", "site") == ("mine" if how == "after" else "")


@pytest.mark.parametrize("how", ["before", "after"])
def test_fate_is_told_of_a_session_that_has_state_of_its_own_too(
    how: str, far: Any, relay: Relay, post: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The request cannot go on without it: where its write was saved, it fails, and is not invited again."""
    from django.db import transaction

    def view() -> None:
        run("SET work_mem = '5MB'")
        with transaction.atomic("far"):
            run(INSERT, "stateful")
            relay.cut(how, after=1)

    far(commit_outcome="always")
    answer = post(view)
    assert answer.status_int == 503
    assert ("Retry-After" in answer.headers) == (how == "before")
    assert notes() == (["stateful"] if how == "after" else [])
    assert ("and the session had state of its own" in caplog.text) == (how == "after")


@pytest.mark.parametrize("how", ["before", "after"])
def test_commit_that_was_not_sent_saved_nothing(
    how: str, far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    """The connection is lost when the number is asked for."""
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "gone")
            relay.cut(how)

    far()
    assert post(view).headers["Retry-After"] == "2"
    assert notes() == []


@pytest.mark.parametrize("mode", MODES)
def test_writes_have_no_more_round_trips_than_on_stock_django(
    mode: str, far: Any, relay: Relay, post: Any
) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "one")

    far(**MODES[mode])
    post(lambda: run("SELECT 1"))
    post(lambda: run("SELECT 1"))
    before = relay.round_trips
    post(view)
    assert relay.round_trips - before == 3


def test_reads_pay_nothing(far: Any, relay: Relay, post: Any) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run("SELECT 1")

    far()
    post(lambda: run("SELECT 1"))
    before = relay.round_trips
    post(view)
    assert relay.round_trips - before == 2


def test_first_of_two_transactions_is_known_to_be_saved(
    far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far", durable=True):
            run(INSERT, "first")
        with transaction.atomic("far", durable=True):
            run(INSERT, "second")
            relay.cut("before", after=1)

    far()
    answer = post(view)
    assert answer.status_int == 503
    assert "Retry-After" not in answer.headers  # part of it was saved
    assert notes() == ["first"]


def test_write_that_others_may_not_see_yet_is_waited_for(
    far: Any, relay: Relay, post: Any, notes: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A COMMIT that waits for a standby which is not there: neither committed nor aborted."""
    from django.db import transaction

    server("ALTER SYSTEM SET synchronous_standby_names = 'nowhere'")
    server("SELECT pg_reload_conf()")

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "waits")
            relay.cut("unanswered", after=1)

    far(reconnect_deadline=1.0)
    try:
        answer = post(view)
        assert answer.status_int == 503
        assert "Retry-After" not in answer.headers
        assert "is not known (it is still under way)" in caplog.text
        assert server("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)]
    finally:
        server("ALTER SYSTEM RESET synchronous_standby_names")
        server("SELECT pg_reload_conf()")
    eventually(notes, ["waits"])


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("at", range(6))
def test_question_that_is_lost_is_asked_again(
    at: int, how: str, far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    from django.db import transaction

    cuts = [("before", at)]

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "one")
            relay.cut(how, after=1)

    relay.at_cut = lambda: relay.cut(*cuts.pop()) if cuts else None
    far()
    answer = post(view)
    assert answer.status_int == (200 if how == "after" else 503)
    assert ("Retry-After" in answer.headers) == (how == "before")
    assert notes() == (["one"] if how == "after" else [])


def test_session_that_waits_for_a_client_that_is_gone_is_ended(
    far: Any, relay: Relay, post: Any, notes: Any, server: Server
) -> None:
    """It has not heard of the loss, and would hold what it wrote for hours."""
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "held")
            relay.cut("silently", after=1)

    far()
    assert post(view).headers["Retry-After"] == "2"
    assert notes() == []
    assert server("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'") == [(0,)]


def test_session_in_another_transaction_is_left_alone(
    far: Any, relay: Relay, post: Any, notes: Any, server: Server
) -> None:
    """Pgpool gives a session that its client has left to another one."""
    from django.db import transaction

    with server.connect() as other:
        other.autocommit = False
        with other.cursor() as cursor:
            cursor.execute(INSERT, ["another's"])
            cursor.execute(f"SELECT pid, {STARTED} FROM pg_stat_activity WHERE pid = pg_backend_pid()")
            backend = Backend(*cursor.fetchone())

        def view() -> None:
            with transaction.atomic("far"):
                run(INSERT, "mine")
                registry.process_scope().pins["far"].greeting.present = backend
                relay.cut("before", after=1)

        far()
        assert post(view).headers["Retry-After"] == "2"
        other.commit()
    other.close()
    assert notes() == ["another's"]


def test_session_that_was_lost_before_its_commit_keeps_no_locks(
    far: Any, relay: Relay, repeated: Any, notes: Any, server: Server
) -> None:
    """It has not heard of the loss, and the second run needs the same row."""
    from django.db import transaction

    runs: list[None] = []

    def view(note: str) -> None:
        runs.append(None)
        with transaction.atomic("far"):
            run("SET LOCAL lock_timeout = '2s'")
            run("UPDATE entry SET note = note || %s", note)
            if len(runs) == 1:
                relay.cut("silently")

    server(INSERT, "once: ")
    far(replay_requests="all")
    assert repeated(view, "yes").text == "done"
    assert (len(runs), notes()) == (2, ["once: yes"])


def test_what_was_written_before_a_block_is_not_undone_with_it(
    far: Any, relay: Relay, repeated: Any, notes: Any
) -> None:
    """Not every statement's standing is asked for: not of those of the driver's own cursor."""
    from django.db import connections, transaction

    def view(note: str) -> None:
        with connections["far"].cursor() as cursor:
            cursor.executemany(INSERT, [[note]])
        with transaction.atomic("far"):
            with connections["far"].connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.execute(INSERT, ["never"])
            relay.cut("before")
            run("SELECT 1")

    far(replay_requests="all")
    assert "Retry-After" not in repeated(view, "by itself").headers
    assert notes() == ["by itself"]


@pytest.mark.parametrize(
    "sql", ["COMMIT AND CHAIN", "COMMIT; BEGIN", "END; BEGIN", "COPY (SELECT 1) TO PROGRAM 'cat'"]
)
def test_block_of_which_a_part_is_done_for_good_is_not_run_again(
    sql: str, far: Any, relay: Relay, repeated: Any, notes: Any
) -> None:
    from django.db import transaction

    runs: list[None] = []

    def view(note: str) -> None:
        runs.append(None)
        with transaction.atomic("far"):
            run(INSERT, note)
            run(sql)
            relay.cut("before")
            run("SELECT 1")

    far(replay_requests="all")
    assert "Retry-After" not in repeated(view, "one").headers
    assert (len(runs), notes()) == (1, [] if "COPY" in sql else ["one"])


@pytest.mark.parametrize("wrote", [True, False])
def test_loss_of_what_is_never_sent_again_is_noticed_in_a_block_too(
    wrote: bool, far: Any, relay: Relay, repeated: Any, notes: Any, server: Server
) -> None:
    from django.db import connections, transaction

    runs: list[None] = []

    def view(note: str) -> None:
        runs.append(None)
        with transaction.atomic("far"), connections["far"].chunked_cursor() as cursor:
            if wrote:
                run(INSERT, note)
            cursor.execute("SELECT generate_series(1, 9)")
            if len(runs) == 1:
                relay.cut("before")
            cursor.fetchone()

    far(replay_requests="all")
    answer = repeated(view, "undone")
    assert (answer.status_int, len(runs), notes()) == ((503, 1, []) if wrote else (200, 2, []))


@pytest.mark.parametrize("in_block", [True, False])
def test_request_whose_hooks_have_run_is_not_run_again(
    in_block: bool, far: Any, relay: Relay, repeated: Any, notes: Any
) -> None:
    """Even if their transaction wrote nothing: they are where effects elsewhere belong."""
    from django.db import transaction

    hooks: list[str] = []

    def view(note: str) -> None:
        with transaction.atomic("far") if in_block else nullcontext():
            run("SELECT 1")
            transaction.on_commit(lambda: hooks.append(note), "far")
        with transaction.atomic("far"):
            run(INSERT, note)
            relay.cut("before")
            run("SELECT 1")

    far(replay_requests="all")
    assert "Retry-After" not in repeated(view, "mail").headers
    assert (hooks, notes()) == (["mail"], [])


def test_transaction_of_another_timeline_stays_unknown(
    far: Any, relay: Relay, post: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "elsewhere")
            pin = registry.process_scope().pins["far"]
            pin.greeting.server = pin.greeting.server._replace(timeline="7 00000001")  # a failover
            relay.cut("after", after=1)

    far()
    answer = post(view)
    assert answer.status_int == 503
    assert "Retry-After" not in answer.headers
    assert "another timeline" in caplog.text


def test_role_that_may_not_ask_is_told_once(
    far: Any, relay: Relay, post: Any, notes: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import connections, transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "saved")
            relay.cut("after")

    far()
    connections.settings["far"]["USER"] = "hardened"
    server("CREATE ROLE hardened LOGIN")
    server("GRANT INSERT ON entry TO hardened")
    server("GRANT USAGE ON SEQUENCE entry_id_seq TO hardened")
    server("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    caplog.set_level("INFO")
    try:
        for _ in range(2):
            assert "Retry-After" not in post(view).headers
    finally:
        server("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
        connections["far"].close()
        server("DROP OWNED BY hardened")
        server("DROP ROLE hardened")
    assert notes() == ["saved", "saved"]
    assert caplog.text.count("pin 'far': a lost COMMIT stays unknown") == 1


def test_outcome_can_be_left_alone(far: Any, relay: Relay, post: Any, notes: Any) -> None:
    from django.db import transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "saved")
            relay.cut("after")

    far(commit_outcome=False)
    assert "Retry-After" not in post(view).headers
    assert notes() == ["saved"]


# A loss whose error is caught within the block: Django rolls the transaction back without a word.


def inner_block_fails(lose: Callable[[], None]) -> None:
    """The application rolls back a part of what it did, on purpose."""
    from django.db import transaction

    with suppress(KeyError), transaction.atomic("far"):
        run(INSERT, "inner")
        lose()
        raise KeyError


def inner_block_is_lost(lose: Callable[[], None]) -> None:
    """The application gets over an error of the database, as Django's cache in the database does."""
    from django.db import DatabaseError, transaction

    with suppress(DatabaseError), transaction.atomic("far"):
        run(INSERT, "inner")
        lose()
        run(INSERT, "never")


def statement_is_lost(lose: Callable[[], None]) -> None:
    """As that of ``save()``, whose block has no savepoint."""
    from django.db import DatabaseError, transaction

    lose()
    with suppress(DatabaseError), transaction.atomic("far", savepoint=False):
        run(INSERT, "never")


INNER = [inner_block_fails, inner_block_is_lost, statement_is_lost]


@pytest.mark.parametrize("amid", [False, True], ids=["", "amid an exception"])
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("mode", MODES)
def test_block_that_was_lost_does_not_end_well(
    mode: str, inner: Any, amid: bool, far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    from django.db import transaction

    def block() -> None:
        with transaction.atomic("far"):
            run(INSERT, "outer")
            inner(lambda: relay.cut("before"))

    def view() -> None:
        try:
            if amid:
                raise LookupError
            block()
        except LookupError:
            block()

    far(**MODES[mode])
    answer = post(view)
    assert (answer.status_int, "Retry-After" in answer.headers) == (503, True)
    assert notes() == []
    assert post(lambda: run(INSERT, "later")).text == "done"


def test_block_that_the_application_closes_is_no_other_requests_loss(
    far: Any, relay: Relay, post: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import DatabaseError, connections, transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "lost")
            relay.cut("before")
            with suppress(DatabaseError):
                run("SELECT 1")
            connections["far"].close()

    far()
    post(view)
    assert post(lambda: run("SELECT 1")).text == "done"
    assert "cannot connect" not in caplog.text


def test_block_whose_connection_was_looked_after_does_not_end_well(
    far: Any, relay: Relay, post: Any, notes: Any
) -> None:
    """As a request within the request has Django do."""
    from django.db import DatabaseError, close_old_connections, transaction

    def view() -> None:
        with transaction.atomic("far"):
            run(INSERT, "lost")
            relay.cut("before")
            with suppress(DatabaseError):
                run("SELECT 1")
            close_old_connections()

    far()
    answer = post(view)
    assert (answer.status_int, "Retry-After" in answer.headers) == (503, True)
    assert notes() == []


@pytest.mark.parametrize("inner", INNER)
def test_block_that_was_lost_is_run_again(
    inner: Any, far: Any, relay: Relay, repeated: Any, notes: Any
) -> None:
    from django.db import transaction

    runs: list[None] = []

    def lose() -> None:
        if len(runs) == 1:
            relay.cut("before")

    def view(note: str) -> None:
        runs.append(None)
        with transaction.atomic("far"):
            run(INSERT, note)
            inner(lose)

    far(replay_requests="all")
    assert repeated(view, "outer").text == "done"
    assert len(runs) == 2
    assert "outer" in notes()


@pytest.mark.parametrize("inner", INNER)
def test_what_the_application_raises_itself_comes_first(
    inner: Any, far: Any, relay: Relay, post: Any
) -> None:
    from django.db import transaction

    raised: list[str] = []

    def view() -> None:
        try:
            with transaction.atomic("far"):
                inner(lambda: relay.cut("before"))
                raise ValueError
        except ValueError:
            raised.append("its own")

    far()
    post(view)
    assert raised == ["its own"]

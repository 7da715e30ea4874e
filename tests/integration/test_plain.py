"""A bare WSGI application with its own pins, on a real server."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, Server, abandoned, eventually
from tests.integration.relay import Relay
from tests.late import Late
from wsgi_persist import NotInRequestError, PersistMiddleware, Pin, Policy, TransactionError
from wsgi_persist.worker import registry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def pin(server: Server, driver: ModuleType) -> Iterator[Pin]:
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site")), name="main")
    yield pin
    kept = registry.process_scope().pins.pop(pin, None)
    if kept is not None:
        kept.stop()


@pytest.fixture
def visit(pin: Pin) -> Callable[..., Any]:
    """Run work inside a request, as the body of an application; gives what it returns."""

    def visit(work: Callable[[], Any]) -> Any:
        found: list[Any] = []

        def app(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            found.append(work())
            return [b"done"]

        client = TestApp(PersistMiddleware(app, pins=[pin]), extra_environ={"wsgi.multithread": False})
        client.get("/page")
        return found[0]

    return visit


def test_rows_of_the_applications_own_kind(server: Server, driver: ModuleType) -> None:
    """What the server is asked about the session comes in tuples all the same."""
    if driver.__name__ == "psycopg2":
        from psycopg2.extras import RealDictCursor

        given: dict[str, Any] = {"cursor_factory": RealDictCursor}
    else:
        from psycopg.rows import dict_row

        given = {"row_factory": dict_row}
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site"), **given), name="main")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        with pin.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid() AS pid, current_setting('work_mem') AS memory")
            found = cursor.fetchone()
            assert found["memory"] == "4MB"
            cursor.execute("SET work_mem = '2MB'")
            if environ["QUERY_STRING"]:
                cursor.execute("RESET work_mem")
        return [str(found["pid"]).encode()]

    client = TestApp(PersistMiddleware(app, pins=[pin]), extra_environ={"wsgi.multithread": False})
    assert len({client.get("/", query).text for query in ({}, {"undone": "1"}, {})}) == 1
    registry.process_scope().pins.pop(pin).stop()


def backend_of(cursor: Any) -> int:
    cursor.execute("SELECT pg_backend_pid()")
    return int(cursor.fetchone()[0])


def backend(pin: Pin) -> int:
    with pin.cursor() as cursor:
        return backend_of(cursor)


def insert(cursor: Any, note: str) -> None:
    cursor.execute("INSERT INTO entry (note) VALUES (%s)", [note])


def test_connection_is_kept(pin: Pin, visit: Any, server: Server) -> None:
    first = visit(lambda: backend(pin))
    assert all(visit(lambda: backend(pin)) == first for _ in range(5))
    assert server.backends() == [first]
    assert server.connections() == 1


def test_what_a_new_connection_asks_is_marked(pin: Pin, visit: Any, server: Server) -> None:
    """Tracing tools show it among the application's statements."""
    visit(lambda: backend(pin))
    ours = [sql for sql in server.statements() if sql != "SELECT pg_backend_pid()"]
    assert len(ours) == 2
    assert all(sql.startswith("/* wsgi_persist */ ") for sql in ours)


def test_cursor_is_in_autocommit(pin: Pin, visit: Any, notes: Any) -> None:
    def work() -> list[str]:
        with pin.cursor() as cursor:
            insert(cursor, "one")
            return list(notes())

    assert visit(work) == ["one"]


def test_transaction_commits(pin: Pin, visit: Any, notes: Any, server: Server) -> None:
    def work() -> list[str]:
        with pin.transaction() as cursor:
            insert(cursor, "one")
            insert(cursor, "two")
            return list(notes())

    visit(lambda: backend(pin))
    server.mark()
    assert visit(work) == []
    assert notes() == ["one", "two"]
    statements = server.statements()
    assert (statements[0].partition("; ")[0], statements[-1]) == ("BEGIN", "COMMIT")


@pytest.fixture
def of_client(server: Server, driver: ModuleType) -> Iterator[Callable[[Callable[[Pin], None]], list[str]]]:
    """What the server is sent by work with a pin whose cursors bind parameters themselves."""
    given = {"cursor_factory": driver.ClientCursor} if driver.__name__ == "psycopg" else {}
    policy = Policy(commit_outcome=False)
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site"), **given), policy=policy)

    def sent(work: Callable[[Pin], None]) -> list[str]:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            backend(pin)
            server.mark()
            work(pin)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

        TestApp(PersistMiddleware(app, pins=[pin]), extra_environ={"wsgi.multithread": False}).get("/")
        return server.statements()

    yield sent
    registry.process_scope().pins.pop(pin).stop()


def test_transaction_begins_in_one_text_with_its_first_statement(of_client: Any, notes: Any) -> None:
    def work(pin: Pin) -> None:
        with pin.transaction() as cursor:
            insert(cursor, "folded")
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]

    first, *rest = of_client(work)
    assert (first, rest) == ("BEGIN; INSERT INTO entry (note) VALUES ('folded')", ["SELECT 1", "COMMIT"])
    assert "folded" in notes()


@pytest.mark.parametrize("before", [False, True])
def test_connection_that_is_taken_knows_of_the_transaction(
    before: bool, of_client: Any, notes: Any, driver: ModuleType
) -> None:
    """Also psycopg2's own class, which cannot be taught."""

    def work(pin: Pin) -> None:
        with pin.transaction() as cursor:
            if before:
                insert(cursor, "undone")
            else:
                pin.connection  # noqa: B018
                insert(cursor, "undone")
            pin.connection.rollback()
            assert pin.connection.info.transaction_status == 0

    of_client(work)
    assert "undone" not in notes()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_transaction_rolls_back_on_an_exception(
    error: type[BaseException], pin: Pin, visit: Any, notes: Any
) -> None:
    def work() -> None:
        with pytest.raises(error), pin.transaction() as cursor:
            insert(cursor, "one")
            raise error
        with pin.transaction() as cursor:
            insert(cursor, "two")

    visit(work)
    assert notes() == ["two"]


def test_failed_transaction_is_never_taken_for_committed(
    pin: Pin, visit: Any, notes: Any, driver: ModuleType
) -> None:
    def work() -> None:
        with pytest.raises(TransactionError, match="a statement failed inside this transaction"):
            with pin.transaction() as cursor:
                insert(cursor, "one")
                with pytest.raises(driver.Error):
                    cursor.execute("SELECT 1/0")

    visit(work)
    assert notes() == []


def test_transactions_do_not_nest(pin: Pin, visit: Any, notes: Any) -> None:
    def work() -> None:
        with pin.transaction() as cursor:
            insert(cursor, "outer")
            with pytest.raises(TransactionError, match="they do not nest"), pin.transaction():
                pass

    visit(work)
    assert notes() == ["outer"]


def test_transaction_left_open_is_rolled_back(
    pin: Pin, visit: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> int:
        cursor = pin.connection.cursor()
        cursor.execute("BEGIN")
        insert(cursor, "left")
        return backend(pin)

    first = visit(work)
    assert "pin 'main': rolled back a transaction left open by GET '/page'" in caplog.text
    assert visit(lambda: backend(pin)) == first
    assert notes() == []


def test_driver_object_is_the_drivers_own(pin: Pin, visit: Any, driver: ModuleType) -> None:
    assert isinstance(
        visit(lambda: pin.connection),
        driver.extensions.connection if DRIVER == "psycopg2" else driver.Connection,
    )


def test_read_is_sent_again(pin: Pin, visit: Any, server: Server) -> None:
    def work() -> tuple[int, int]:
        with pin.cursor() as cursor:
            cursor.arraysize = 7
            first = backend_of(cursor)
            server.terminate(first)
            return first, backend_of(cursor)

    first, second = visit(work)
    assert first != second
    assert visit(lambda: backend(pin)) == second


def test_read_that_runs_for_long_is_sent_again_once(
    pin: Pin, visit: Any, server: Server, driver: ModuleType, monkeypatch: Any
) -> None:
    from wsgi_persist.plain import lease

    sent: list[int] = []

    def work() -> None:
        with pin.cursor() as cursor, pytest.raises(driver.Error):
            cursor.execute("SELECT pg_sleep(60)")
        sent.append(len([sql for sql in server.statements() if "pg_sleep" in sql]))

    visit(lambda: backend(pin))
    clock = itertools.count(0.0, 3.0)  # of 5 seconds, twice
    monkeypatch.setattr(lease, "monotonic", lambda: next(clock))
    thread = threading.Thread(target=end_sleepers, args=(server, 2))
    thread.start()
    visit(work)
    thread.join()
    assert sent == [2]


def end_sleepers(server: Server, times: int) -> None:
    for _ in range(times):
        eventually(server.sleeping, 1)
        server(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE query LIKE 'SELECT pg_sleep%%' AND application_name <> 'observer'"
        )


def test_write_is_not_sent_again_and_the_next_use_reconnects(
    pin: Pin, visit: Any, server: Server, driver: ModuleType, notes: Any
) -> None:
    def work() -> tuple[int, int]:
        first = backend(pin)
        server.terminate(first)
        with pytest.raises(driver.OperationalError), pin.cursor() as cursor:
            insert(cursor, "unknown")
        return first, backend(pin)

    first, second = visit(work)
    assert first != second
    assert notes() == []


def test_raw_connection_is_not_replaced_under_the_application(
    pin: Pin, visit: Any, server: Server, driver: ModuleType
) -> None:
    def work() -> None:
        connection = pin.connection
        server.terminate(backend(pin))
        with pytest.raises(driver.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert pin.connection is not connection

    visit(work)


def test_first_statement_of_a_transaction_is_sent_again(
    pin: Pin, visit: Any, server: Server, notes: Any
) -> None:
    def work() -> None:
        before = backend(pin)
        with pin.transaction() as cursor:
            server.terminate(before)
            insert(cursor, "first")
            insert(cursor, "second")
        assert pin.connection.autocommit

    visit(work)
    assert notes() == ["first", "second"]


def test_commit_of_reads_alone_counts_as_done(pin: Pin, visit: Any, server: Server) -> None:
    def work() -> int:
        with pin.transaction() as cursor:
            before = backend_of(cursor)
            server.terminate(before)
        return before

    assert visit(work) != visit(lambda: backend(pin))


def test_commit_of_a_write_is_not(
    pin: Pin, visit: Any, server: Server, driver: ModuleType, notes: Any
) -> None:
    def work() -> None:
        with pytest.raises(driver.OperationalError), pin.transaction() as cursor:
            insert(cursor, "never")
            server.terminate(backend_of(cursor))

    visit(work)
    assert notes() == []


@pytest.mark.parametrize("again", [False, "all"])
@pytest.mark.parametrize("how", ["before", "after"])
def test_fate_of_a_lost_commit_is_told(
    how: str, again: Any, server: Server, driver: ModuleType, notes: Any
) -> None:
    relay = Relay(server.cluster.port)
    address = server.cluster.dsn(dbname="site", host="127.0.0.1", port=relay.port)
    policy = Policy(prewarm=False, replay_requests=again, commit_outcome="always")
    pin = Pin(lambda: driver.connect(**address), name="far", policy=policy)
    runs: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ["wsgi.input"].read())
        with pin.transaction() as cursor:
            insert(cursor, "one")
            if len(runs) == 1:
                relay.cut(how, after=1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    client = TestApp(PersistMiddleware(app, pins=[pin]), extra_environ={"wsgi.multithread": False})
    answer = client.post("/", {"a": "b"}, status="*")
    assert answer.status_int == (503 if (how, again) == ("before", False) else 200)
    assert ("Retry-After" in answer.headers) == (answer.status_int == 503)
    assert notes() == ([] if answer.status_int == 503 else ["one"])
    assert runs == [b"a=b"] * (2 if (how, again) == ("before", "all") else 1)
    registry.process_scope().pins.pop(pin).stop()
    relay.close()


def test_lost_transaction_does_not_go_on_elsewhere(
    pin: Pin, visit: Any, server: Server, driver: ModuleType, notes: Any
) -> None:
    def work() -> None:
        with pytest.raises(TransactionError, match="was lost"), pin.transaction() as cursor:
            insert(cursor, "one")
            server.terminate(backend_of(cursor))
            with pytest.raises(driver.Error):
                insert(cursor, "two")
            with pytest.raises(driver.Error):
                insert(cursor, "three")
            with pin.cursor() as other:
                insert(other, "four")
        with pin.cursor() as cursor:
            insert(cursor, "after")

    visit(work)
    assert notes() == ["after"]


def test_cursor_passes_for_the_drivers(pin: Pin, visit: Any, driver: ModuleType) -> None:
    def work() -> None:
        with pin.cursor() as cursor:
            assert isinstance(cursor, type(pin.connection.cursor()))
            done = cursor.execute("SELECT n FROM generate_series(1, 3) n")
            assert done is (None if driver.__name__ == "psycopg2" else cursor)
            assert next(iter(cursor)) == (1,)
            assert cursor.fetchall() == [(2,), (3,)]
            assert cursor.description[0].name == "n"
        assert cursor.closed

    visit(work)


def test_transaction_lost_mid_way_raises_what_the_driver_says(
    pin: Pin, visit: Any, server: Server, driver: ModuleType, notes: Any
) -> None:
    def work() -> None:
        with pytest.raises(driver.OperationalError), pin.transaction() as cursor:
            insert(cursor, "one")
            server.terminate(backend_of(cursor))
            insert(cursor, "two")

    visit(work)
    assert notes() == []


def test_outside_a_request(pin: Pin) -> None:
    message = r"<Pin 'main'> can only be used by the thread that serves a request"
    with pytest.raises(NotInRequestError, match=message):
        pin.connection  # noqa: B018
    with pytest.raises(NotInRequestError, match=message), pin.cursor():
        pass
    with pytest.raises(NotInRequestError, match=message), pin.transaction():
        pass


def test_from_a_second_thread(pin: Pin, visit: Any) -> None:
    errors: list[BaseException] = []

    def use() -> None:
        try:
            backend(pin)
        except NotInRequestError as error:
            errors.append(error)

    def work() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    visit(work)
    assert len(errors) == 1


@pytest.fixture
def begin(pin: Pin) -> Iterator[Callable[..., Late]]:
    """Begin a request that streams what *chunks* yields."""
    with ExitStack() as open_ones:

        def begin(chunks: Callable[[], Iterator[Any]]) -> Late:
            def app(environ: Any, start_response: Any) -> Any:
                start_response("200 OK", [])
                return (str(chunk).encode() for chunk in chunks())

            late = Late(PersistMiddleware(app, pins=[pin]), "/page")
            open_ones.callback(late.close)
            return late

        yield begin


def test_stream_in_a_transaction_beside_other_requests(pin: Pin, begin: Any, visit: Any, notes: Any) -> None:
    def chunks() -> Iterator[Any]:
        with pin.transaction() as cursor:
            insert(cursor, "host")
            for _ in range(3):
                yield backend_of(cursor)
        yield backend(pin)

    def write() -> int:
        with pin.transaction() as cursor:
            insert(cursor, "guest")
            return backend_of(cursor)

    host = begin(chunks)
    own = host.piece()
    assert str(visit(write)) != own
    assert host.piece() == own
    assert notes() == ["guest"]
    assert host.end() == own * 2
    assert notes() == ["host", "guest"]


def test_loss_of_a_stream_is_not_told_of_the_next_request(
    pin: Pin, begin: Any, visit: Any, server: Server
) -> None:
    def chunks() -> Iterator[Any]:
        with pin.transaction() as cursor:
            insert(cursor, "host")
            yield backend_of(cursor)
            insert(cursor, "host")

    def own_backend() -> Iterator[Any]:
        yield backend(pin)
        yield "end"

    host = begin(chunks)
    server_side = int(host.piece())
    guest = begin(own_backend)
    guest.piece()
    server.terminate(server_side)
    with pytest.raises(Exception, match=r"terminat|closed"):
        host.rest()
    inside = registry.process_scope()
    assert inside.owner is not None
    assert inside.trouble is not None
    assert not inside.trouble.lost
    assert guest.end() == "end"


def test_request_within_a_transaction_has_its_own(pin: Pin, begin: Any, visit: Any, notes: Any) -> None:
    def inner() -> Iterator[Any]:
        with pin.transaction() as cursor:
            insert(cursor, "inner")
            yield backend_of(cursor)

    def outer() -> tuple[int, int]:
        with pin.transaction() as cursor:
            first = backend_of(cursor)
            found = int(begin(inner).end())
            assert notes() == ["inner"]
            insert(cursor, "outer")
            assert backend_of(cursor) == first
            return first, found

    first, found = visit(outer)
    assert first != found
    assert notes() == ["inner", "outer"]


def test_thread_scope_keeps_one_for_each_thread(server: Server, driver: ModuleType) -> None:
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site")), policy=Policy(scope="thread"))
    found: list[list[int]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(backend(pin)).encode()]

    application = PersistMiddleware(app, pins=[pin])
    ready = threading.Barrier(3)

    def serve() -> None:
        client = TestApp(application)
        found.append([int(client.get("/").text) for _ in range(5)])
        ready.wait(10)  # so that all three live at once

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(set(answers)) for answers in found] == [1, 1, 1]
    assert len({answers[0] for answers in found}) == 3
    assert eventually(server.backends, [])


def test_prewarm_by_choice_opens_at_wrapping(server: Server, driver: ModuleType) -> None:
    pin = Pin(lambda: driver.connect(**server.cluster.dsn(dbname="site")), policy=Policy(prewarm=True))
    PersistMiddleware(lambda environ, start_response: [], pins=[pin])
    try:
        assert len(server.backends()) == 1
    finally:
        registry.process_scope().pins.pop(pin).stop()


def test_database_down_at_start_only_warns(
    driver: ModuleType, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    port = server.cluster.port
    reachable = {"port": 1}
    pin = Pin(
        lambda: driver.connect(**server.cluster.dsn(dbname="site", **reachable)),
        policy=Policy(prewarm=True, reconnect_deadline=0.1),
        name="main",
    )

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(backend(pin)).encode()]

    client = TestApp(PersistMiddleware(app, pins=[pin]), extra_environ={"wsgi.multithread": False})
    assert "pin 'main': not opened at start, the first request that needs it will try again" in caplog.text
    assert client.get("/", status=503).headers["Retry-After"] == "2"
    reachable["port"] = port
    try:
        assert eventually(lambda: client.get("/", status="*").status_int, 200)
    finally:
        registry.process_scope().pins.pop(pin).stop()


@pytest.mark.parametrize("result", [None, 7, "a string", object()])
def test_connect_function_that_returns_no_connection(result: Any, visit: Any) -> None:
    stranger = Pin(lambda: result)

    def work() -> None:
        with pytest.raises(TypeError, match="is not a connection of a known driver"):
            stranger.connection  # noqa: B018

    visit(work)


def test_connection_that_cannot_be_kept_is_closed(server: Server, driver: ModuleType, visit: Any) -> None:
    """In a transaction already, so that autocommit cannot be switched on."""

    def connect() -> Any:
        connection = driver.connect(**server.cluster.dsn(dbname="site"))
        connection.cursor().execute("SELECT 1")
        return connection

    stranger = Pin(connect)

    def work() -> None:
        with pytest.raises(driver.ProgrammingError):
            stranger.connection  # noqa: B018

    visit(work)
    gc.collect()
    assert eventually(server.backends, [])


WITHOUT_DJANGO = """
import importlib.util, sys
assert importlib.util.find_spec("django") is None, "Django is installed here"
import psycopg2
from wsgiref.util import setup_testing_defaults
from wsgi_persist import PersistMiddleware, Pin

pin = Pin(lambda: psycopg2.connect(sys.argv[1]))

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    with pin.transaction() as cursor:
        cursor.execute("INSERT INTO entry (note) VALUES ('plain')")
    with pin.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return [str(cursor.fetchone()[0]).encode()]

application = PersistMiddleware(app, pins=[pin])
seen = set()
for _ in range(3):
    environ = {}
    setup_testing_defaults(environ)
    response = application({**environ, "wsgi.multithread": False}, lambda *args: None)
    seen.add(b"".join(response))
    response.close()
assert len(seen) == 1, seen
assert not {name for name in sys.modules if name.split(".")[0] in ("django", "psycopg")}
"""


def test_without_django_installed(server: Server, notes: Any, tmp_path: Path) -> None:
    """An environment that holds the driver and nothing else."""
    import psycopg2

    packages = Path(psycopg2.__file__).parent.parent
    for name in ("psycopg2", "psycopg2_binary.libs"):
        if (packages / name).exists():
            (tmp_path / name).symlink_to(packages / name)
    (tmp_path / "wsgi_persist").symlink_to(ROOT / "wsgi_persist")
    dsn = " ".join(f"{key}={value}" for key, value in server.cluster.dsn(dbname="site").items())
    before = abandoned(server)
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", WITHOUT_DJANGO, dsn],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert notes() == ["plain"] * 3
    assert eventually(server.backends, [])
    assert abandoned(server) == before, "closed at the end of the process"


def test_log_tells_what_happened_to_the_pin(pin: Pin, visit: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wsgi_persist")
    first = visit(lambda: backend(pin))
    visit(lambda: pin.connection.close())
    told = [record.getMessage() for record in caplog.records]
    assert f"pin 'main': opened backend {first}" in told
    assert f"pin 'main': closed backend {first} after 2 leases: lost during a request" in told


def left_open(pin: Pin, note: str) -> Any:
    """A block that its request enters and never leaves, as a generator does that nobody closed."""
    block = pin.transaction()
    insert(block.__enter__(), note)
    return block


def test_transaction_left_open_is_not_the_next_requests(pin: Pin, visit: Any, notes: Any) -> None:
    left = [visit(lambda: left_open(pin, "left"))]

    def write() -> None:
        with pin.transaction() as cursor:
            insert(cursor, "one")
            left.clear()  # its generator is closed now
            insert(cursor, "two")

    visit(write)
    assert notes() == ["one", "two"]


def test_transaction_whose_request_is_over_commits_nothing(pin: Pin, visit: Any, notes: Any) -> None:
    left = visit(lambda: left_open(pin, "left"))

    def write() -> None:
        with pin.transaction() as cursor:
            insert(cursor, "one")
            with pytest.raises(TransactionError, match="rolled back when its request ended"):
                left.__exit__(None, None, None)
            raise KeyError

    with pytest.raises(KeyError):
        visit(write)
    assert notes() == []

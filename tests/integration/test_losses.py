"""Every way in which a session dies, on a real server: within a request, within a statement, between two."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import DRIVER, SCHEMA, eventually, or_skip
from tests.faults.faults import FAST, IMMEDIATE, Faults
from tests.faults.pgbouncer import PgBouncer
from tests.faults.proxy import Proxy
from tests.faults.standby import Standby, query
from tests.front import Front
from tests.site.extra import extra_alias, extra_view
from tools.postgres import Cluster
from wsgi_persist.drivers import driver_of
from wsgi_persist.recovery import replay

ALIAS = "harmed"
Harm = Callable[[], Any]


@pytest.fixture
def alias(site: TestApp, victim: Cluster) -> Iterator[Callable[..., None]]:
    """Defines the alias that the tests of this file use."""
    with extra_alias(ALIAS) as settings:

        def define(host: str = str(victim.socket_dir), port: Any = victim.port, **given: Any) -> None:
            settings(HOST=host, PORT=str(port), **given)

        define()
        yield define


@pytest.fixture
def visit(site: TestApp, alias: Any) -> Callable[..., Any]:
    """A request whose view does this work; its answer."""
    from django.http import HttpResponse

    def visit(*work: Callable[[], Any], status: int = 200) -> Any:
        with extra_view(lambda request: HttpResponse(str([do() for do in work]))):
            return site.get("/extra/", status=status)

    return visit


def run(sql: str = "SELECT pg_backend_pid()") -> Any:
    from django.db import connections

    with connections[ALIAS].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


# Each gives what does the harm, when the alias is defined.


@contextmanager
def direct(harm: Callable[[Faults], Any], alias: Any, faults: Faults) -> Iterator[Harm]:
    yield lambda: harm(faults)


@contextmanager
def timeout(name: str, alias: Any, faults: Faults) -> Iterator[Harm]:
    """The server's own, which ends a session that is idle."""
    alias(OPTIONS={"options": f"-c {name}=100"})
    yield lambda: eventually(faults.backends, [])


@contextmanager
def proxied(harm: Callable[[Proxy], Any], alias: Any, faults: Faults) -> Iterator[Harm]:
    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        alias("127.0.0.1", proxy.port)
        yield lambda: harm(proxy)


@contextmanager
def tls(alias: Any, faults: Faults) -> Iterator[Harm]:
    """The end of an encrypted stream."""
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    front = Front(("127.0.0.1", faults.cluster.port), context)
    alias("127.0.0.1", front.port, OPTIONS={"sslmode": "require"})
    yield front.hang_up
    front.close()


@contextmanager
def pooled(
    mode: str, harm: Callable[[PgBouncer], Any], alias: Any, faults: Faults, **settings: object
) -> Iterator[Harm]:
    transactions = {"DISABLE_SERVER_SIDE_CURSORS": mode == "transaction"}
    with or_skip(), PgBouncer(faults.cluster, mode, settings=settings) as pgbouncer:
        alias("127.0.0.1", pgbouncer.port, **transactions)
        yield lambda: harm(pgbouncer)


DIRECT = {
    "terminated": Faults.terminate_all,
    "fast restart": lambda faults: faults.restart(FAST),
    "immediate restart": lambda faults: faults.restart(IMMEDIATE),
    "neighbour crashed": Faults.crash_neighbour,
    "postmaster killed": Faults.kill_postmaster,
}
POOLED = {
    "restarted": PgBouncer.restart,
    "RECONNECT": PgBouncer.reconnect,
    "server restarted": lambda pgbouncer: pgbouncer.cluster.restart(),
    "KILL": lambda pgbouncer: (pgbouncer.command("KILL site"), pgbouncer.command("RESUME site")),
}


def without_clients(pgbouncer: PgBouncer) -> bool:
    return eventually(lambda: "|site|" in pgbouncer.command("SHOW CLIENTS"), False)


def without_servers(pgbouncer: PgBouncer) -> bool:
    return eventually(lambda: "|site|" in pgbouncer.command("SHOW SERVERS"), False)


# PgBouncer's own, which end a client's connection, or the server's under it.
TIMEOUTS = {
    ("transaction", "client_idle_timeout"): without_clients,
    ("transaction", "server_idle_timeout"): without_servers,
    ("transaction", "server_lifetime"): without_servers,
}
LOSSES: dict[str, Any] = {
    **{name: lambda *a, harm=harm: direct(harm, *a) for name, harm in DIRECT.items()},
    "idle_session_timeout": lambda *a: timeout("idle_session_timeout", *a),
    "reset": lambda *a: proxied(Proxy.reset, *a),
    "closed": lambda *a: proxied(Proxy.hang_up, *a),
    "TLS closed": tls,
    **{
        f"PgBouncer ({mode}) {name}": lambda *a, mode=mode, harm=harm: pooled(mode, harm, *a)
        for mode in ("session", "transaction")
        for name, harm in POOLED.items()
    },
    **{
        f"PgBouncer ({mode}) {name}": lambda *a, mode=mode, name=name, harm=harm: pooled(
            mode, harm, *a, **{name: 1}
        )
        for (mode, name), harm in TIMEOUTS.items()
    },
}


@pytest.fixture(params=LOSSES)
def harm(request: pytest.FixtureRequest, alias: Any, faults: Faults) -> Iterator[Harm]:
    with LOSSES[request.param](alias, faults) as harm:
        yield harm


def test_read_survives(harm: Harm, visit: Any) -> None:
    visit(run, harm, run)


def test_next_request_survives(harm: Harm, visit: Any) -> None:
    visit(run)
    harm()
    visit(run)


def test_first_write_of_a_transaction_survives(harm: Harm, visit: Any, victim: Cluster) -> None:
    from django.db import transaction

    def write() -> None:
        with transaction.atomic(using=ALIAS):
            harm()
            run("INSERT INTO entry (note) VALUES ('once')")

    query(victim, "TRUNCATE entry", "site")
    visit(run, write)
    assert query(victim, "SELECT note FROM entry", "site") == "once"


@pytest.mark.parametrize(
    "name",
    ["terminated", "fast restart", "immediate restart", "neighbour crashed", "reset", "closed", "TLS closed"],
)
def test_statement_under_way_survives(name: str, alias: Any, faults: Faults, visit: Any) -> None:
    with LOSSES[name](alias, faults) as harm:

        def run_meanwhile() -> None:
            eventually(faults.busy, 1)
            harm()

        thread = threading.Thread(target=run_meanwhile)

        def start() -> None:
            thread.start()

        visit(run, start, lambda: run("SELECT pg_sleep(1)"), thread.join, run)


def test_idle_in_transaction_is_told(alias: Any, faults: Faults, visit: Any) -> None:
    from django.db import transaction

    def idle() -> None:
        with transaction.atomic(using=ALIAS):
            run("INSERT INTO entry (note) VALUES ('gone')")
            eventually(faults.backends, [])
            run("INSERT INTO entry (note) VALUES ('gone')")

    alias(OPTIONS={"options": "-c idle_in_transaction_session_timeout=100"})
    assert visit(idle, status=503).headers["Retry-After"] == "2"
    visit(run)


# A connection that is cut on its way: the server has not noticed, and still runs the statement.


@pytest.fixture
def cut(alias: Any, faults: Faults) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        alias("127.0.0.1", proxy.port)
        yield proxy


def busy_meanwhile(faults: Faults, proxy: Proxy, done: threading.Event, found: list[int]) -> None:
    """How often the statement runs at once after the first is cut off."""
    eventually(faults.busy, 1)
    proxy.reset()
    while not done.is_set():
        found.append(faults.busy("SELECT pg_sleep"))


@pytest.mark.parametrize("block", [False, True], ids=["autocommit", "first of a transaction"])
def test_statement_that_is_sent_again_never_runs_twice_at_once(
    block: bool, cut: Proxy, faults: Faults, visit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from django.db import transaction

    done, found = threading.Event(), []
    watcher = threading.Thread(target=busy_meanwhile, args=(faults, cut, done, found))

    def sleep() -> None:
        watcher.start()
        with transaction.atomic(using=ALIAS) if block else nullcontext():
            run("SELECT pg_sleep(1.5)")

    try:
        visit(run, sleep)
    finally:
        done.set()
        watcher.join()
    assert set(found) <= {0, 1}
    assert 1 in found
    assert ", which still ran what was sent to it" in caplog.text
    assert len(cut.accepted()) == 2


@pytest.fixture
def humble(faults: Faults) -> Iterator[str]:
    """A role that may not even end its own sessions, as on some hosted servers."""
    end = "EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend"
    query(faults.cluster, "CREATE ROLE humble LOGIN", "site")
    query(faults.cluster, f"REVOKE {end} FROM PUBLIC", "site")
    yield "humble"
    faults.terminate_all()
    query(faults.cluster, f"GRANT {end} TO PUBLIC", "site")
    query(faults.cluster, "DROP ROLE humble", "site")


@pytest.mark.parametrize(("short", "status"), [(60.0, 200), (0.0, 503)])
@pytest.mark.parametrize("why", ["pooler", "role"])
def test_statement_that_ran_for_long_and_may_still_run_is_not_sent_again(
    why: str,
    short: float,
    status: int,
    cut: Proxy,
    alias: Any,
    faults: Faults,
    visit: Any,
    humble: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut_off() -> None:
        eventually(lambda: faults.busy("pg_sleep"), 1)
        cut.reset()

    def sleep() -> None:
        thread.start()
        run("SELECT pg_sleep(2)")

    monkeypatch.setattr(replay, "SHORT", short)
    options = {"persist": {"pooler": "session"}} if why == "pooler" else {}
    alias("127.0.0.1", cut.port, OPTIONS=options, USER=humble)
    thread = threading.Thread(target=cut_off)
    visit(sleep, status=status)
    thread.join()
    assert len(cut.accepted()) == (2 if status == 200 else 1)


def test_statement_that_a_poolers_timeout_cuts_off_runs_once(alias: Any, faults: Faults, visit: Any) -> None:
    """It tells its client farewell, and the server nothing."""
    with or_skip(), PgBouncer(faults.cluster, settings={"query_timeout": 2}) as pgbouncer:
        alias("127.0.0.1", pgbouncer.port)
        visit(lambda: run("SELECT pg_sleep(8)"), status=503)
        assert faults.busy("pg_sleep") == 1
        faults.terminate_all()


@pytest.mark.parametrize("pooler", [None, "session"])
def test_statement_that_is_not_sent_again_is_ended_by_the_next_connection(
    pooler: str | None, cut: Proxy, alias: Any, faults: Faults, visit: Any
) -> None:
    """But behind a pooler its session may be another client's by then."""
    from django.db import transaction

    def cut_off() -> None:
        eventually(faults.busy, 1)
        cut.reset()

    def sleep() -> None:
        with transaction.atomic(using=ALIAS):
            run()
            thread.start()
            run("SELECT pg_sleep(60)")

    alias("127.0.0.1", cut.port, OPTIONS={"persist": {"pooler": pooler}})
    thread = threading.Thread(target=cut_off)
    visit(sleep, status=503)
    thread.join()
    assert faults.busy() == 1
    visit(run)
    eventually(faults.busy, 0 if pooler is None else 1)
    faults.terminate_all()


def test_second_restart_while_the_new_connection_asks_is_one_more_loss(
    cut: Proxy, faults: Faults, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsgi_persist.pins import greeting

    asked: list[str] = []

    def restart_before(driver: Any, connection: Any, sql: str, timeout: float) -> Any:
        asked.append(sql)
        if len(asked) == 2:
            faults.restart(IMMEDIATE)
        return ask(driver, connection, sql, timeout)

    ask = greeting._ask
    monkeypatch.setattr(greeting, "_ask", restart_before)
    visit(run, cut.reset, run)
    assert len(asked) == 3
    assert "pg_terminate_backend(" not in asked[0]
    assert all("pg_terminate_backend(" in sql for sql in asked[1:])


def sent_when_reconnecting(faults: Faults, visit: Any, harm: Harm) -> int:
    """How many statements the server gets until the next one is answered."""

    def lines() -> int:
        return faults.cluster.log.read_text(errors="replace").count("LOG:  statement: ")

    counted: list[int] = []
    ended = lambda: eventually(faults.backends, [])  # noqa: E731  # else it is asked for again
    visit(run, harm, ended, lambda: counted.append(lines()), run, lambda: counted.append(lines()))
    return counted[1] - counted[0]


@pytest.mark.parametrize("name", ["terminated", "immediate restart", "reset"])
def test_lost_statement_costs_few_round_trips(name: str, alias: Any, faults: Faults, visit: Any) -> None:
    with LOSSES[name](alias, faults) as harm:
        from django.db import connections

        address = connections.settings[ALIAS]
        alias(address["HOST"], address["PORT"], OPTIONS={"options": "-c log_statement=all"})
        # Who is there, the time zone, what the catalogue says of the session, and the statement itself.
        assert sent_when_reconnecting(faults, visit, harm) == 4


# A pooler that has no server, and one that has no place.


@contextmanager
def held(pgbouncer: PgBouncer, driver: Any) -> Iterator[Any]:
    """A client of somebody else's, in a transaction."""
    given = pgbouncer.cluster.dsn(host="127.0.0.1", port=pgbouncer.port, dbname="site")
    with closing(driver.connect(**given)) as connection:
        connection.cursor().execute("SELECT 1")
        yield connection


@contextmanager
def without_server(pgbouncer: PgBouncer, driver: Any) -> Iterator[None]:
    pgbouncer.command("RECONNECT")
    pgbouncer.cluster.stop()
    try:
        yield
    finally:
        pgbouncer.cluster.start()


@contextmanager
def killed(pgbouncer: PgBouncer, driver: Any) -> Iterator[None]:
    pgbouncer.command("KILL site")
    yield
    pgbouncer.command("RESUME site")


UNWILLING: dict[str, tuple[Any, dict[str, object]]] = {
    "the server is down": (without_server, {}),
    "query_wait_timeout": (held, {"query_wait_timeout": 1, "default_pool_size": 1}),
    "max_client_conn": (held, {"max_client_conn": 1}),
    "client_login_timeout": (killed, {"client_login_timeout": 1}),
}


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("name", UNWILLING)
def test_pooler_that_does_not_serve_is_an_outage(
    name: str, mode: str, alias: Any, faults: Faults, driver: Any, visit: Any
) -> None:
    harm, settings = UNWILLING[name]
    with or_skip(), PgBouncer(faults.cluster, mode, settings=settings) as pgbouncer:
        options = {"persist": {"reconnect_deadline": 1, "connect_timeout": 2}}
        alias("127.0.0.1", pgbouncer.port, OPTIONS=options)
        with harm(pgbouncer, driver):
            for _ in range(3):  # the first one waits, and is followed by others that do not
                assert visit(run, status=503).headers["Retry-After"] == "2"
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


# A password that is wrong.


@pytest.fixture
def asks_for_password(faults: Faults) -> Iterator[None]:
    rules = faults.cluster.data / "pg_hba.conf"
    before = rules.read_text()
    query(faults.cluster, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{before}")
    query(faults.cluster, "SELECT pg_reload_conf()")
    # The postmaster reads the file a moment later.
    given = faults.cluster.dsn(host="127.0.0.1", dbname="site", user="guarded", password="wrong")
    eventually(lambda: is_let_in(faults, given), False)
    yield
    rules.write_text(before)
    query(faults.cluster, "SELECT pg_reload_conf()")
    query(faults.cluster, "DROP ROLE guarded")


def is_let_in(faults: Faults, given: dict[str, Any]) -> bool:
    try:
        faults.cluster.run("psql", "-X", "-c", "", " ".join(f"{k}={v}" for k, v in given.items()))
    except RuntimeError:
        return False
    return True


def test_wrong_password_is_not_tried_again(
    asks_for_password: None, alias: Any, faults: Faults, visit: Any
) -> None:
    from django.db import connections

    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        given = {"USER": "guarded", "PASSWORD": "wrong", "OPTIONS": {"sslmode": "disable"}}
        alias("127.0.0.1", proxy.port, **given)
        for _ in range(5):
            visit(run, status=503)
        assert len(proxy.accepted()) == 1
        connections[ALIAS].settings_dict["PASSWORD"] = "right"
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


def test_login_that_the_pooler_refuses_is_not_tried_again(alias: Any, faults: Faults, visit: Any) -> None:
    from django.db import connections

    with or_skip(), PgBouncer(faults.cluster) as pgbouncer:
        alias("127.0.0.1", pgbouncer.port, USER="nobody", OPTIONS={"sslmode": "disable"})
        for _ in range(5):
            visit(run, status=503)
        assert pgbouncer.log.read_text().count("login attempt: db=site user=nobody") == 1
        connections[ALIAS].settings_dict["USER"] = "postgres"
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


# A certificate that has expired.


def test_expired_certificate_is_an_outage_to_new_connections_alone(
    alias: Any, faults: Faults, visit: Any, root: Path
) -> None:
    import ssl

    import trustme

    authority, authorities = trustme.CA(), root / "authority.crt"
    authority.cert_pem.write_to_path(authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def load(until: datetime | None = None) -> None:
        """As a server does that is told to read its certificate anew."""
        authority.issue_cert("localhost", not_after=until).configure_cert(context)

    load()
    with closing(Front(("127.0.0.1", faults.cluster.port), context)) as front:
        verifying = {"sslmode": "verify-full", "sslrootcert": str(authorities)}
        alias("localhost", front.port, OPTIONS={**verifying, "persist": {"reconnect_deadline": 0.1}})
        backend = visit(run).text
        load(datetime(2020, 1, 1, tzinfo=timezone.utc))
        assert visit(run).text == backend
        faults.terminate_all()
        assert visit(run, status=503).headers["Retry-After"] == "2"
        load()
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


# Silence: the peer acknowledges and never answers.

HASTY = {"persist": {"connect_timeout": 2, "reconnect_deadline": 0, "idle_check": 0}}


def test_deaf_at_connect_is_answered(alias: Any, faults: Faults, visit: Any) -> None:
    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        alias("127.0.0.1", proxy.port, OPTIONS=HASTY)
        proxy.go_deaf()
        assert visit(run, status=503)
        proxy.forward()
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


@pytest.mark.skipif(DRIVER != "psycopg2", reason="psycopg 3 waits for each connection by itself")
def test_deadline_is_no_other_connections(faults: Faults, driver: Any) -> None:
    """What psycopg2 has for that would be every thread's: COPY is refused meanwhile."""

    def sleep() -> None:
        with (
            closing(faults.connect()) as connection,
            pytest.raises(driver.OperationalError, match=r"no answer within 2\.0 s"),
        ):
            asked.set()
            driver_of(connection).ask(connection, "SELECT pg_sleep(60)", 2.0)

    asked = threading.Event()
    thread = threading.Thread(target=sleep)
    thread.start()
    asked.wait()
    with closing(faults.connect()) as connection, connection.cursor() as cursor:
        while thread.is_alive():
            cursor.copy_expert("COPY (SELECT 1) TO STDOUT", io.StringIO())
    thread.join()


class Hasty:
    """A psycopg 3 connection's libpq, of which nothing may be wanted that it has to wait for."""

    def __init__(self, connection: Any) -> None:
        self.pgconn, self._own = self, connection.pgconn
        self.OperationalError = connection.OperationalError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def get_result(self) -> Any:
        assert not self._own.is_busy(), "it waits without a deadline, and no other thread runs"
        return self._own.get_result()


@pytest.mark.skipif(DRIVER != "psycopg", reason="psycopg2 has its own waiting")
def test_deadline_holds_for_what_follows_an_error(faults: Faults, driver: Any) -> None:
    with closing(faults.connect()) as connection:
        for _ in range(200):
            with pytest.raises(driver.OperationalError, match="division by zero"):
                driver_of(connection).ask(Hasty(connection), "SELECT 1 / 0", 2.0)


def test_deaf_at_the_ping_is_answered(
    alias: Any, faults: Faults, visit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(("127.0.0.1", faults.cluster.port)) as proxy:
        alias("127.0.0.1", proxy.port, OPTIONS=HASTY)
        visit(run)
        proxy.go_deaf()
        assert visit(run, status=503)
        assert "no answer after more than idle_check=0 s" in caplog.text
        proxy.forward()
        eventually(lambda: visit(run, status="*").status_int, 200, timeout=20)


def test_frozen_backend_is_left_at_the_ping(alias: Any, faults: Faults, visit: Any) -> None:
    alias(OPTIONS={"persist": {"connect_timeout": 2, "idle_check": 0}})
    visit(run)
    (frozen,) = faults.backends()
    with faults.frozen(frozen):
        visit(run)
        assert frozen in faults.backends()
    eventually(lambda: frozen in faults.backends(), False)


# Failover.


def test_promotion_is_followed(root: Path, alias: Any, visit: Any) -> None:
    with ExitStack() as stack:
        primary = Cluster(root / "primary", ["fsync=off"]).create()
        stack.callback(primary.destroy)
        primary.start()
        query(primary, "CREATE DATABASE site")
        query(primary, SCHEMA, "site")
        standby = Standby(primary, root / "standby").create()
        stack.callback(standby.destroy)
        standby.start()
        standby.catch_up()
        hosts = f"{primary.socket_dir},{standby.socket_dir}"
        ports = f"{primary.port},{standby.port}"
        alias(hosts, ports, OPTIONS={"target_session_attrs": "read-write"})
        write = lambda: run("INSERT INTO entry (note) VALUES ('kept') RETURNING note")  # noqa: E731
        visit(write)
        standby.catch_up()

        primary.stop(signal.SIGINT)
        promotion = threading.Thread(target=standby.promote)
        promotion.start()
        visit(run, write)
        promotion.join()
        assert query(standby, "SELECT count(*) FROM entry", "site") == "2"


def test_read_only_server_is_left_for_the_one_that_is_not(alias: Any, victim: Cluster, visit: Any) -> None:
    """As after a failover that left the old connection open."""
    before = visit(run).text

    def demoted() -> None:
        run("SET default_transaction_read_only = on")
        run("INSERT INTO entry (note) VALUES ('refused')")

    visit(demoted, status=500)
    assert visit(run).text != before

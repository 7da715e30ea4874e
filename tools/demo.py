"""`make demo`: one site on the stock engine and on wsgi_persist, measured in turn, then served.

``--once`` (or ONCE=1) stops after the table, ``--port`` (or PORT) says where to serve.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tools import environment, load
from tools.apache import Apache, ApacheError
from tools.httpd import daemon_group, daemon_user, require_readable
from tools.postgres import Cluster, can_bind, free_port
from tools.steps import ENDING, Trouble, alone, ended, run, say, undisturbed

SITE = environment.ROOT / "deploy" / "demo"
DATABASE = "demo"
WORKERS = 2
PAGES = {"/": "list, by the ORM", "/sign/": "form", "/three/": "three queries", "/plain/": "none"}
# Where all workers are shown.
PAGE = "/persist-status"
# The stock engine first: the ratio is against the first.
VARIANTS = {
    "stock, CONN_MAX_AGE=0": "django.db.backends.postgresql",
    "wsgi_persist": "wsgi_persist.backends.postgresql",
}


@dataclass
class Measured:
    rps: list[float] = field(default_factory=list)
    requests: int = 0
    errors: int = 0
    connections: int = 0


class Demo:
    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port
        self.site = home / "site"
        # Below it, what the workers tell of themselves.
        self.status = home / "status"
        # Each connection leaves a line in the log, at once; the server's counters lag by seconds.
        self.cluster = Cluster(home / "postgresql", ["log_connections=on"])
        self.key = secrets.token_urlsafe(50)

    def environ(self, engine: str) -> dict[str, str]:
        return {
            "DEMO_ENGINE": engine,
            "DEMO_SECRET_KEY": self.key,
            "DEMO_DB_NAME": DATABASE,
            "DEMO_DB_HOST": str(self.cluster.socket_dir),
            "DEMO_DB_PORT": str(self.cluster.port),
            "DEMO_STATUS": str(self.status),
        }

    def prepare(self) -> None:
        say("site and data")
        shutil.rmtree(self.site, ignore_errors=True)
        shutil.copytree(SITE, self.site, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [self.site, *self.site.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(self.status, ignore_errors=True)
        (self.status / DATABASE).mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.status / DATABASE, daemon_user().pw_name, daemon_group())
        # The import of psycopg2 loses a KeyboardInterrupt.
        with undisturbed():
            _create_database(self.cluster)
        command = [sys.executable, "-B", str(self.site / "manage.py"), "migrate", "-v", "0"]
        stock, log = next(iter(VARIANTS.values())), self.home / "migrate.log"
        log.unlink(missing_ok=True)
        run(command, log, {**os.environ, **self.environ(stock)})

    def apache(self, name: str, port: int | None, *, shown: bool = False) -> Apache:
        """:param shown: its workers tell what they do, and there is a page of it."""
        root = self.home / name.split(",")[0]
        root.mkdir(exist_ok=True)
        defines = {
            "PERSIST_PROJECT": str(self.site),
            "PERSIST_PROCESSES": str(WORKERS),
            "PERSIST_SCRIPT": str(self.site / "demosite" / "wsgi.py"),
            **({"PERSIST_STATUS_PAGE": PAGE} if shown else {}),
        }
        tells = {"PERSIST_STATUS": str(self.status / DATABASE)} if shown else {}
        return Apache(
            root,
            port=port,
            defines=defines,
            environ={**self.environ(VARIANTS[name]), **tells},
            reaches=[self.cluster.socket_dir],
        )

    def opened(self) -> int:
        """Connections to the site's database since the cluster's log began."""
        lines = self.cluster.log.read_text(errors="replace").splitlines()
        authorized = [line for line in lines if "connection authorized:" in line]
        return sum(f"database={DATABASE}" in line.split() for line in authorized)

    def measure(self, servers: dict[str, Apache], rounds: int, seconds: float) -> dict:
        measured = {name: Measured() for name in servers}
        for server in servers.values():
            load.run(f"{server.url}/three/", clients=WORKERS, seconds=0.5)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}: {seconds:g} s of /three/ on each")
            for name, server in servers.items():
                self._round(measured[name], server, seconds)
        return measured

    def _round(self, measured: Measured, server: Apache, seconds: float) -> None:
        before = self.opened()
        result = load.run(f"{server.url}/three/", clients=2 * WORKERS, seconds=seconds)
        measured.rps.append(result.rps)
        measured.requests += result.requests
        measured.errors += result.errors
        measured.connections += self.opened() - before


def _create_database(cluster: Cluster) -> None:
    import psycopg2

    connection = psycopg2.connect(**cluster.dsn())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
    connection.close()


def table(measured: dict[str, Measured]) -> str:
    base = median(next(iter(measured.values())).rps)
    lines = [f"{'':24}{'requests/s':>12}{'ratio':>8}{'requests':>10}{'errors':>8}{'connections':>13}"]
    for name, m in measured.items():
        rps = median(m.rps)
        ratio = rps / base if base else 0.0
        lines.append(f"{name:24}{rps:12.0f}{ratio:8.1f}{m.requests:10}{m.errors:8}{m.connections:13}")
    return "\n".join([*lines, "connections: opened in PostgreSQL while measured"])


@contextmanager
def running(home: Path, port: int) -> Iterator[tuple[Demo, ExitStack]]:
    """With its cluster, and on the stack whatever is started later; all stopped, whatever happens."""
    with ExitStack() as stack:
        with undisturbed():
            demo = Demo(home, port)
            stack.callback(shutil.rmtree, demo.cluster.socket_dir, ignore_errors=True)
            stack.callback(demo.cluster.stop)
        try:
            say("PostgreSQL")
            demo.cluster.log.unlink(missing_ok=True)
            demo.cluster.create().start()
            yield demo, stack
        finally:
            # A second, impatient Ctrl-C must not leave a server behind.
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)
            say("stopping")


def started(server: Apache, stack: ExitStack) -> Apache:
    # First: who is interrupted when it has just started stops it, too.
    stack.callback(server.stop)
    return server.start()


def show(options: argparse.Namespace) -> None:
    home = options.home
    # The users that PostgreSQL and Apache run as must get through.
    os.umask(0o022)
    home.mkdir(exist_ok=True)
    with alone(home, _refuse_a_second):
        require_readable([Path(sys.executable)])
        with running(home, chosen_port(options.port)) as (demo, stack):
            demo.prepare()
            present(demo, stack, options)


def present(demo: Demo, stack: ExitStack, options: argparse.Namespace) -> None:
    say(f"two Apaches, {WORKERS} workers each")
    stock, ours = VARIANTS
    servers = {
        stock: started(demo.apache(stock, None), stack),
        ours: started(demo.apache(ours, demo.port, shown=True), stack),
    }
    print(table(demo.measure(servers, options.rounds, options.seconds)), flush=True)
    if not options.once:
        servers[stock].stop()
        serve(servers[ours])


def serve(server: Apache) -> None:
    print("\nServing with wsgi_persist until Ctrl-C:", flush=True)
    for page, what in PAGES.items():
        print(f"  {server.url}{page:16} {what}", flush=True)
    print(f"  {server.url}{PAGE:16} what the workers do", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _refuse_a_second() -> None:
    raise Trouble("the demonstration of this clone is running already: stop it")


def chosen_port(given: int | None) -> int:
    """The port asked for or a fault that says so; else 8000, else whichever is free."""
    if can_bind(given or 8000):
        return given or 8000
    if given:
        raise Trouble(f"port {given} is taken or not allowed: PORT=<another>")
    return free_port()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve and measure the demonstration site.")
    parser.add_argument("--once", action="store_true", default=os.environ.get("ONCE") == "1")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or None)
    parser.add_argument("--home", type=Path, default=environment.folder() / "demo")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    return parser.parse_args()


def main() -> int:
    def work() -> int:
        show(arguments())
        return 0

    return ended("demo", environment.folder(), work, ApacheError, RuntimeError)


if __name__ == "__main__":
    sys.exit(main())

"""A PostgreSQL server, the ways to reach it, and the tests' site in front of it in any variant."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from tests.bench.variants import OURS, Variant
from tests.conftest import make_certificate, site_environment
from tests.faults.pgbouncer import PgBouncer
from tests.faults.remote import RemoteProxy
from tests.faults.stage import require_start
from tests.faults.standby import query
from tests.front import Front
from tests.http import get, in_parallel
from tests.served import public_project
from tests.site.fault_views import LEDGER
from tools.apache import Apache, public_folder
from tools.httpd import ApacheError
from tools.postgres import SUPERUSER, Cluster, has_tls

# As the site's own time zone, or stock Django would pay a statement for each connection.
SETTINGS = ("timezone=UTC", "max_connections=300")
TABLES = (
    LEDGER,
    "CREATE TABLE entry (id serial PRIMARY KEY, note text NOT NULL)",
    "INSERT INTO entry (note) SELECT 'note ' || n FROM generate_series(1, 100) n",
)
ROUND_TRIP = 0.001
WARM = "/bench/warm/"
# Over a network the server wants it, by SCRAM-SHA-256, as with Debian's pg_hba.conf. Through its Unix socket
# it wants none, which costs as little as Debian's peer does.
PASSWORD = "of the bench"
# With 2048 bits, as in the certificate that Debian makes for its servers.
KEY = trustme.KeyType.RSA
# Of a variant, and not of this program.
FAILURES = (RuntimeError, ApacheError, OSError)


class Address(NamedTuple):
    """:ivar options: entries of ``OPTIONS``.
    :ivar login: further entries of ``DATABASES``.
    """

    host: str
    port: int
    options: Mapping[str, Any] = {}
    login: Mapping[str, Any] = {}


@contextmanager
def spared(variant: Variant, failed: dict[str, str]) -> Iterator[None]:
    """Whatever a rival fails in does not end the run: it is noted, by its key."""
    try:
        yield
    except FAILURES as error:
        if variant.key == OURS.key:
            raise
        failed[variant.key] = _reason(error)


def require_warm(apache: Apache, patience: float = 120.0) -> None:
    """Until each worker has loaded the site and its driver, and asked its databases: or the first bursts
    would measure that, of all who do it in the first request."""
    require_start(apache)
    give_up = time.monotonic() + patience
    seen: set[int] = set()
    while cold := set(apache.daemon_pids()) - seen:
        if time.monotonic() > give_up:
            raise RuntimeError(f"{len(cold)} workers do not answer within {patience:g} s")
        for answer in in_parallel(2 * len(cold), lambda: get(apache.port, WARM)):
            if answer.status != 200:
                raise RuntimeError(f"the site answers {answer.status}")
            seen.add(int(answer.text))


def _reason(error: Exception) -> str:
    """In one line that may be published: without paths of this machine."""
    return re.sub(r"/\S*/\S*", "...", str(error).partition(";")[0].partition("\n")[0])


class Stage:
    """:param settings: of the server, beside the usual ones.
    :ivar failed: why a variant could not be run, by its key.
    """

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self._stack = ExitStack()
        self.home = public_folder("bench")
        self._stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        self.cluster = Cluster(self.home / "data", [*SETTINGS, *settings])
        self._certificate = make_certificate(self.home, KEY)
        self._addresses: dict[str, Address] = {}
        self.proxy: RemoteProxy | None = None
        self.failed: dict[str, str] = {}

    def __enter__(self) -> Stage:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def has_tls(self) -> bool:
        """Whether the server itself speaks it; else something in front of it does."""
        return has_tls(self.cluster.bin)

    def address(self, transport: str) -> Address:
        if transport not in self._addresses:
            self._addresses[transport] = getattr(self, f"_{transport}")()
        return self._addresses[transport]

    @staticmethod
    def network_address(port: int, sslmode: str = "disable") -> Address:
        return Address("127.0.0.1", port, {"sslmode": sslmode}, {"PASSWORD": PASSWORD})

    @contextmanager
    def sites(
        self, variants: Iterable[Variant], address: Address, driver: str, workers: int, aliases: int = 1
    ) -> Iterator[dict[str, Apache]]:
        """All of them at once, warm, by their keys; those that do not start are in ``failed``."""
        with ExitStack() as stack:
            project = stack.enter_context(public_project())
            started = {}
            for variant in variants:
                site = self._warm(variant, address, driver, workers, aliases, project)
                with spared(variant, self.failed):
                    started[variant.key] = stack.enter_context(site)
            yield started

    @contextmanager
    def _warm(self, *given: Any) -> Iterator[Apache]:
        with self.site(*given) as apache:
            require_warm(apache)
            yield apache

    @contextmanager
    def site(
        self, variant: Variant, address: Address, driver: str, workers: int, aliases: int, project: Path
    ) -> Iterator[Apache]:
        with ExitStack() as stack:
            if variant.pooler:
                address = stack.enter_context(self.pooled(address))
            root = public_folder("apache")
            stack.callback(shutil.rmtree, root, ignore_errors=True)
            environ = site_environment(
                self.cluster,
                **variant.given(address.options, **address.login).environment,
                SITE_DRIVER=driver,
                SITE_HOST=address.host,
                SITE_PORT=str(address.port),
                SITE_ALIASES=json.dumps({f"alias {number}": {} for number in range(2, aliases + 1)}),
                PYTHONPATH="",
            )
            defines = {"PERSIST_PROJECT": str(project), "PERSIST_PROCESSES": str(workers)}
            yield stack.enter_context(Apache(root, defines=defines, environ=environ, mpm="event"))

    @contextmanager
    def pooled(self, address: Address) -> Iterator[Address]:
        """PgBouncer stands beside the workers, whatever is between it and the server."""
        tls = address.options.get("sslmode", "disable")
        password = address.login.get("PASSWORD", "")
        with PgBouncer(self.cluster, "transaction", address[:2], tls, password=password) as pooler:
            yield Address(str(pooler.folder), pooler.port)

    def _start(self) -> None:
        certificate, key = self._certificate
        if self.has_tls:
            self.cluster.settings += ["ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}"]
        self.cluster.create().admit("127.0.0.1/32", "scram-sha-256")
        self.cluster.start()
        self._stack.callback(self.cluster.destroy)
        query(self.cluster, f"ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'")
        query(self.cluster, "CREATE DATABASE site")
        for sql in TABLES:
            query(self.cluster, sql, "site")

    def _socket(self) -> Address:
        return Address(str(self.cluster.socket_dir), self.cluster.port)

    def _tcp(self) -> Address:
        return self.network_address(self.cluster.port)

    def _tls(self) -> Address:
        port = self.cluster.port if self.has_tls else self._encrypting()
        return self.network_address(port, "require")

    def _far(self) -> Address:
        server = ("127.0.0.1", self.cluster.port)
        self.proxy = self._stack.enter_context(RemoteProxy(server, delay=ROUND_TRIP / 2))
        return self.network_address(self.proxy.port)

    def _encrypting(self) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._certificate)
        front = Front(("127.0.0.1", self.cluster.port), context)
        self._stack.callback(front.close)
        return int(front.port)

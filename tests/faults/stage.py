"""A PostgreSQL server that may be harmed, and the tests' site in front of it, ours or stock."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import site_environment
from tests.faults.faults import Faults
from tests.faults.network import Network
from tests.faults.standby import Standby, query
from tests.http import get, in_parallel
from tests.served import public_project
from tests.site.fault_views import LEDGER
from tools.apache import Apache, public_folder
from tools.postgres import Cluster

# Without fsync a killed server loses nothing as long as the machine itself stays up. The server
# notices a client behind a pulled cable by these settings, or else after two hours.
SETTINGS = (
    "fsync=off tcp_keepalives_idle=3 tcp_keepalives_interval=1 tcp_keepalives_count=3 tcp_user_timeout=6000"
)
WORKER = "/faults/worker/"


@dataclass(frozen=True)
class Variant:
    """How the site reaches its database; *database* are entries of Django's DATABASES."""

    name: str
    engine: str = "django.db.backends.postgresql"
    database: Mapping[str, Any] = field(default_factory=dict)
    persist: Mapping[str, Any] | None = None

    @property
    def environment(self) -> dict[str, str]:
        database = {"ATOMIC_REQUESTS": True, **self.database}
        options = {} if self.persist is None else {"persist": dict(self.persist)}
        return {
            "SITE_ENGINE": self.engine,
            "SITE_DATABASE": json.dumps(database),
            "SITE_OPTIONS": json.dumps({**options, "target_session_attrs": "read-write"}),
            "SITE_MIDDLEWARE": "none" if self.persist is None else "persist",
        }


OURS = Variant("wsgi_persist", "wsgi_persist.backends.postgresql", persist={"replay_requests": True})
# As it is for a site that sets no option: pages in a transaction are not repeated as a whole.
DEFAULTS = Variant("wsgi_persist, defaults", "wsgi_persist.backends.postgresql", persist={})
# As for a site that says that its views have no effects elsewhere.
ALL = Variant("wsgi_persist, all", "wsgi_persist.backends.postgresql", persist={"replay_requests": "all"})
STOCK = Variant("stock, new connections")
KEPT = Variant("stock, kept and checked", database={"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True})
VARIANTS = {"ours": OURS, "all": ALL, "defaults": DEFAULTS, "stock": STOCK, "kept": KEPT}


class Stage:
    """The server, reached by TCP; with *network*, through its cable.

    :param home: a folder that PostgreSQL's user can get to.
    :param driver: ``"psycopg"`` or ``"psycopg2"``.
    """

    def __init__(self, home: Path, driver: str, network: Network | None = None) -> None:
        self.driver = driver
        self.network = network
        address = network.address if network else "127.0.0.1"
        self.cluster = Cluster(home / f"{driver}-{address}", SETTINGS.split(), address=address).create()
        if network:
            self.cluster.admit(f"{network.near}/32")
        with network.inside() if network else nullcontext():
            self.cluster.start()
        self.faults = Faults(self.cluster, importlib.import_module(driver))
        query(self.cluster, "CREATE DATABASE site")
        query(self.cluster, LEDGER, "site")

    @property
    def address(self) -> tuple[str, int]:
        return self.cluster.address, self.cluster.port

    @contextmanager
    def standby(self, sync: bool) -> Iterator[Standby]:
        """A server that follows; if *sync*, each COMMIT waits for it."""
        standby = Standby(self.cluster, self.cluster.data.with_name(f"{self.cluster.data.name}-")).create()
        standby.start()
        try:
            if sync:
                query(self.cluster, "ALTER SYSTEM SET synchronous_standby_names = '*'")
                self.cluster.reload()
            standby.catch_up()
            yield standby
        except BaseException:
            standby.destroy()
            raise

    def turn_to(self, server: Cluster) -> None:
        """It is the one from now on."""
        gone, self.cluster = self.cluster, server
        self.faults = Faults(server, importlib.import_module(self.driver))
        query(server, "ALTER SYSTEM RESET synchronous_standby_names")
        server.reload()
        gone.destroy()

    @contextmanager
    def site(
        self,
        variant: Variant,
        workers: int,
        address: tuple[str, int | str] | None = None,
        status: Path | None = None,
    ) -> Iterator[Apache]:
        """The site, warm, with an empty ledger; *address* is that of a proxy before the server.

        :param status: the folder where the workers tell of themselves.
        """
        query(self.cluster, "TRUNCATE ledger", "site")
        root = public_folder("apache")
        try:
            with (
                public_project() as project,
                self._apache(root, project, variant, workers, address, status) as apache,
            ):
                require_start(apache)
                yield apache
        finally:
            shutil.rmtree(root)

    def ledger(self) -> list[str]:
        """The ids that were committed."""
        return query(self.cluster, "SELECT id FROM ledger", "site").split()

    def close(self) -> None:
        self.cluster.destroy()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _apache(
        self,
        root: Path,
        project: Path,
        variant: Variant,
        workers: int,
        address: tuple[str, int | str] | None,
        status: Path | None,
    ) -> Apache:
        host, port = address or self.address
        return Apache(
            root,
            defines={"PERSIST_PROJECT": str(project), "PERSIST_PROCESSES": str(workers)},
            environ=site_environment(
                self.cluster,
                SITE_DRIVER=self.driver,
                SITE_HOST=host,
                SITE_PORT=str(port),
                SITE_ALIASES="{}",
                PYTHONPATH="",
                **({} if status is None else {"PERSIST_STATUS": str(status)}),
                **variant.environment,
            ),
            mpm="event",
        )


def require_start(apache: Apache) -> None:
    """Raise with the end of the log if the site does not answer."""
    answer = get(apache.port, WORKER)
    if answer.status != 200 or silent_workers(apache):
        end = "\n".join(apache.error_text().splitlines()[-5:])
        raise RuntimeError(f"the site answers {answer.status}; the end of its log:\n{end}")


def silent_workers(apache: Apache, patience: float = 30.0) -> list[int]:
    """Workers that do not answer a request, though they are given time for it."""
    give_up = time.monotonic() + patience
    seen: set[int] = set()
    while silent := set(apache.daemon_pids()) - seen:
        if time.monotonic() > give_up:
            break
        answers = in_parallel(8, lambda: get(apache.port, WORKER))
        seen.update(int(answer.text) for answer in answers if answer.status == 200)
    return sorted(silent)

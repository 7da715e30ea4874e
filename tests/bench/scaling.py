"""How far one PostgreSQL server reaches, computed from a run's figures: hosts, connections, pooler."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.bench.results import Results
from tests.bench.rst import Row, table
from tests.bench.statistics import figure
from tests.bench.variants import OURS
from wsgi_persist.command.sizing import automatic

HOSTS = (1, 2, 4, 8, 16, 32)
MIB, GIB = 2**20, 2**30
# Sessions that a core of the server can keep busy, between waiting for the disk and for the client:
# with more of them they only wait for each other. A pool lies in the middle of it.
POOLED, SATURATED = 3, 4


@dataclass(frozen=True)
class Assumed:
    """What the table takes for granted, as it cannot be measured on one machine.

    :ivar memory: of a host, bytes; half of it is for workers.
    :ivar aliases: that each process keeps a connection for; *threads* likewise.
    :ivar share: of a busy worker's time that its session is within a statement or a transaction.
    :ivar database_cores: of PostgreSQL's host.
    :ivar reserved: by PostgreSQL, for superusers.
    :ivar others: cron, migrations, monitoring, psql.
    """

    cores: int = 4
    memory: int = 4 * GIB
    aliases: int = 1
    threads: int = 1
    share: float = 0.25
    database_cores: int = 16
    max_connections: int = 100
    reserved: int = 3
    others: int = 10


@dataclass(frozen=True)
class Measured:
    """:ivar rate: requests a second for each core of the machine that was measured.
    :ivar worker: bytes; *backend* likewise, of one session in the server.
    """

    rate: float | None
    worker: int | None
    backend: int | None


def measured(results: Results) -> Measured:
    rates = [
        outcome.rate.median
        for outcome in results.outcomes
        if (outcome.contest.page, *outcome.contest.stage[:2], outcome.contest.aliases)
        == ("three", "socket", "psycopg", 1)
    ]
    cores = re.match(r"(\d+) cores", results.facts.get("Machine", ""))
    counts = results.counts.get(OURS.key)
    return Measured(
        rate=max(rates) / int(cores[1]) if rates and cores else None,
        worker=counts and counts.pss,
        backend=counts and counts.backend,
    )


def processes(found: Measured, assumed: Assumed) -> int:
    """Of a host: as ``wsgi-persist apache --processes auto`` has them, if they fit into its memory."""
    wanted = automatic([], {}, assumed.cores).processes
    return wanted if found.worker is None else min(wanted, assumed.memory // 2 // found.worker)


@dataclass(frozen=True)
class Site:
    """On so many hosts, each with so many processes."""

    hosts: int
    processes: int
    assumed: Assumed

    @property
    def connections(self) -> int:
        return self.hosts * self._of_host

    @property
    def needed(self) -> int:
        """While one host is restarted gracefully, old and new workers are there."""
        return self.connections + self._of_host + self.assumed.others

    @property
    def busy(self) -> float:
        """Sessions that are at work at once when all workers are."""
        return self.connections * self.assumed.share

    @property
    def pool(self) -> int:
        return POOLED * self.assumed.database_cores

    @property
    def way(self) -> str:
        """To PostgreSQL."""
        given = self.assumed
        if self.needed <= given.max_connections - given.reserved:
            return "direct"
        if self.busy <= SATURATED * given.database_cores:
            return f"direct, max_connections={_up(self.needed + given.reserved, 50)}"
        clients = _up(self.needed, 100)
        return f"PgBouncer, transaction mode, default_pool_size={self.pool}, max_client_conn={clients}"

    @property
    def sessions(self) -> int:
        """In the server."""
        return self.pool if self.way.startswith("PgBouncer") else self.connections

    @property
    def _of_host(self) -> int:
        return self.processes * self.assumed.aliases * self.assumed.threads


def _up(number: int, step: int) -> int:
    """To the next multiple of *step*."""
    return -(-number // step) * step


def report(results: Results, assumed: Assumed = Assumed()) -> str:
    found = measured(results)
    sites = [Site(hosts, processes(found, assumed), assumed) for hosts in HOSTS]
    head = (
        "hosts",
        "processes",
        "connections",
        "busy at once",
        "requests/s on paper",
        "sessions in the server",
        "their memory, MiB",
        "to PostgreSQL",
    )
    rows = [_row(site, found) for site in sites]
    return "\n".join([table(head, rows), _measured(results, found), _assumed(sites[0])])


def _row(site: Site, found: Measured) -> Row:
    rate = found.rate and found.rate * site.assumed.cores * site.hosts
    return [
        str(site.hosts),
        str(site.hosts * site.processes),
        str(site.connections),
        f"{site.busy:.0f}",
        f"{rate:,.0f}" if rate else "",
        str(site.sessions),
        f"{site.sessions * found.backend / MIB:.0f}" if found.backend else "",
        site.way,
    ]


def _measured(results: Results, found: Measured) -> str:
    """Where the figures are from."""
    told = [
        f"{figure(found.rate)} requests a second for each core" if found.rate else "",
        f"{found.worker / MIB:.1f} MiB for a worker" if found.worker else "",
        f"{found.backend / MIB:.1f} MiB for its backend" if found.backend else "",
    ]
    said = ", ".join(filter(None, told)) or "nothing that this table is made of"
    provisional = "" if results.plan == "full" else "**Provisional**, of a quick run. "
    where = "; ".join(filter(None, (results.facts.get(name, "") for name in ("Date", "Machine"))))
    return (
        f"{provisional}Measured ({where}): {said}. The page has three SELECTs, over a Unix socket; load, "
        "Apache and PostgreSQL had the same machine.\n"
    )


def _assumed(site: Site) -> str:
    given = site.assumed
    return (
        f"Assumed: hosts of {given.cores} cores and {given.memory // GIB} GiB with {site.processes} "
        f"processes, {given.aliases} alias, {given.threads} thread; a worker's session at work for "
        f"{given.share:.0%} of the time while all are busy; a PostgreSQL server of {given.database_cores} "
        f"cores with max_connections={given.max_connections}, of which {given.reserved} are reserved and "
        f"{given.others} are for others than the workers. Requests are added up by cores of hosts, as if "
        "PostgreSQL, PgBouncer and the network had no limit.\n"
    )

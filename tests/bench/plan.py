"""Which variants are compared where, as data: not all with all, but what answers a question."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from tests.bench import boundary
from tests.bench.variants import of_driver

# Pages of the tests' site.
PAGES = {
    "three": "/faults/read/",
    "orm": "/bench/orm/",
    "atomic": "/faults/read-atomic/",
    "write": "/bench/write/",
    "nested": "/bench/nested-write/",
    "none": "/faults/no-query/",
    "aliases": "/bench/each-alias/",
}
PAGE_NAMES = {
    "three": "three SELECTs",
    "orm": "three ORM queries",
    "atomic": "three SELECTs, ATOMIC_REQUESTS",
    "write": "a write, ATOMIC_REQUESTS",
    "nested": "a write in a nested block, ATOMIC_REQUESTS",
    "none": "no query",
    "aliases": "a SELECT on each of 4 aliases",
}
TRANSPORT_NAMES = {
    "socket": "Unix socket",
    "tcp": "TCP, loopback",
    "tls": "TLS, loopback",
    "far": "TCP, 1 ms round trip",
}


@dataclass(frozen=True)
class Contest:
    """Ours against each of *rivals*, with the same driver, so many workers and aliases.

    :ivar starts: how often the sites are started for it. Processes differ in luck, such as where their
        memory lies, by more than one part in a hundred: then each start is one pair, of the medians.
    :ivar mode: of ours, how its transactions are sent; the default if it is empty.
    """

    page: str
    transport: str
    driver: str
    workers: int
    aliases: int
    rounds: int
    rivals: tuple[str, ...]
    starts: int = 1
    mode: str = ""

    @property
    def name(self) -> str:
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        page = PAGE_NAMES[self.page] + (f", {self.mode}" if self.mode else "")
        return f"{page}, {TRANSPORT_NAMES[self.transport]}, {workers}, {self.driver}"

    @property
    def stage(self) -> tuple[str, str, int, int, str]:
        """Contests of the same stage share their running sites."""
        return self.transport, self.driver, self.workers, self.aliases, self.mode

    @property
    def given(self) -> dict[str, dict[str, str]]:
        """OPTIONS of ours."""
        return {"persist": {"transactions": self.mode}} if self.mode else {}

    @property
    def bursts(self) -> int:
        """In each round every rival stands beside one of ours, and ours between two rivals."""
        return self.starts * self.rounds * (len(self.rivals) + (len(self.rivals) + 1) // 2)


def by_stage(contests: Iterable[Contest]) -> list[list[Contest]]:
    """Those that follow each other on the same stage, together."""
    return [list(together) for _, together in groupby(contests, key=lambda contest: contest.stage)]


def rivals_of(contests: Iterable[Contest]) -> list[str]:
    """Of all of them, each once."""
    return list(dict.fromkeys(key for contest in contests for key in contest.rivals))


def others(driver: str) -> tuple[str, ...]:
    return tuple(key for key in of_driver(driver) if key != "ours")


DJANGO = ("stock", "kept", "checked")
QUICKLY = (*DJANGO, "pool", "pool-checked", "connection-pool", "pgbouncer", "global")
VALIDATING = ("stock", "kept", "checked", "pool-checked", "connection-pool", "pgbouncer", "global", "local")

TRANSACTIONS = tuple(
    Contest(page, transport, "psycopg", 1, 1, 8, ("kept",), mode=mode)
    for transport in ("socket", "tls", "far")
    for mode in ("folded", "lazy", "stock")
    for page in ("atomic", "write", "nested")
)
FULL = (
    #       page       transport  driver      workers  aliases  rounds  rivals
    Contest("three", "socket", "psycopg", 2, 1, 16, others("psycopg")),
    Contest("orm", "socket", "psycopg", 2, 1, 12, (*DJANGO, "pool")),
    Contest("atomic", "socket", "psycopg", 2, 1, 12, (*DJANGO, "pool")),
    Contest("none", "socket", "psycopg", 2, 1, 12, (*DJANGO, "pool")),
    # The ceiling once more, alone, with as many starts as it takes to see two parts in a hundred; one worker
    # leaves a core to the server, the proxy and the load.
    Contest("three", "socket", "psycopg", 1, 1, 3, ("kept", "checked"), starts=48),
    Contest("three", "socket", "psycopg2", 2, 1, 12, others("psycopg2")),
    Contest("three", "tcp", "psycopg", 2, 1, 12, (*DJANGO, "pool")),
    Contest("three", "tls", "psycopg", 2, 1, 24, (*DJANGO, "pool", "pgbouncer")),
    Contest("three", "far", "psycopg", 2, 1, 16, VALIDATING),
    Contest("three", "far", "psycopg", 1, 1, 3, ("kept",), starts=48),
    *TRANSACTIONS,
    Contest("aliases", "socket", "psycopg", 2, 4, 12, DJANGO),
    Contest("three", "socket", "psycopg", 4, 1, 8, DJANGO),
    Contest("three", "socket", "psycopg", 8, 1, 8, DJANGO),
    Contest("three", "socket", "psycopg", 16, 1, 8, DJANGO),
)
SHORT = (
    Contest("three", "socket", "psycopg", 2, 1, 2, QUICKLY),
    Contest("three", "tls", "psycopg", 2, 1, 3, DJANGO),
    Contest("three", "far", "psycopg", 2, 1, 3, DJANGO),
)
# A cable is pulled for these alone: each takes most of a minute.
SILENCED = ("ours", "checked", "pool-checked")


@dataclass(frozen=True)
class Plan:
    """:ivar burst: seconds of load at a time.
    :ivar counted: variants whose statements, connections, memory and system calls are counted.
    :ivar starts: of the site, for the first page after each.
    :ivar failing: variants whose failures and leaks are counted.
    :ivar effort: at the boundary.
    """

    contests: tuple[Contest, ...]
    burst: float
    counted: tuple[str, ...]
    starts: int
    failing: tuple[str, ...]
    silenced: tuple[str, ...]
    effort: boundary.Effort

    @property
    def seconds(self) -> float:
        """Of load in the contests."""
        return sum(contest.bursts for contest in self.contests) * self.burst


EVERYONE = (*of_driver("psycopg"), "reconnect")
PLANS = {
    "full": Plan(FULL, 0.6, EVERYONE, 5, EVERYONE, SILENCED, boundary.FULL),
    "transactions": Plan(TRANSACTIONS, 0.6, (), 0, (), (), boundary.SHORT),
    "quick": Plan(SHORT, 0.4, ("ours", *DJANGO), 1, ("ours", "checked"), (), boundary.SHORT),
}

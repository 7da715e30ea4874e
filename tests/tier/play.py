"""An event under load on several sites at once, and the row of figures of each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType

from tests.faults.ledger import Verdict, Writer, judge, stale
from tests.faults.load import Load, NextRequest
from tests.faults.pages import COUNT, WRITE, WRITE_ATOMIC, reads
from tests.faults.results import Request, Results, aligned, counted
from tests.tier.events import Event, Tier
from tests.tier.front import PASSWORD, USER
from tests.tier.site import Site

AROUND = 3.0  # seconds of load before the event, and after the cluster is whole
HEAD = (
    "event",
    "site",
    "requests",
    "answers",
    "reads",
    "writes",
    "ledger",
    "stale",
    "pause s",
    "slowest s",
    "server's",
)


class Prober:
    """Writes to each member itself, by a new connection each time: what the cluster's own pause is."""

    def __init__(self, driver: ModuleType, hosts: Iterable[str]) -> None:
        self._driver = driver
        self.accepted: list[float] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(host,)) for host in hosts]

    def __enter__(self) -> Prober:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def longest_pause(self) -> tuple[float, float]:
        """Its beginning and its end."""
        pairs = itertools.pairwise(sorted(self.accepted))
        return max(pairs, key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))

    def _run(self, host: str) -> None:
        while not self._stopped.wait(0.05):
            try:
                self._write(host)
            except self._driver.Error:
                continue
            self.accepted.append(time.monotonic())

    def _write(self, host: str) -> None:
        given = {"host": host, "user": USER, "password": PASSWORD, "dbname": USER, "connect_timeout": 2}
        connection = self._driver.connect(**given, target_session_attrs="read-write")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO probed DEFAULT VALUES")
        finally:
            connection.close()


@dataclass
class Outcome:
    """What an event did to a site; *server* is the cluster's own longest pause, by its moments."""

    event: str
    site: str
    results: Results
    verdict: Verdict = field(default_factory=Verdict)
    server: tuple[float, float] = (0.0, 0.0)

    @property
    def stale_reads(self) -> int:
        """Of how many a server was believed that had been replaced."""
        return len(stale(self.results.answers, COUNT))

    @property
    def failed_reads(self) -> int:
        return len([answer for answer in self.results.failures if not answer.request.id])

    @property
    def failed_writes(self) -> int:
        return len([answer for answer in self.results.failures if answer.request.id])

    def pause(self) -> float:
        """The longest time without a single page."""
        done = sorted(a.ended for a in self.results.answers if not a.failed)
        return max((later - earlier for earlier, later in itertools.pairwise(done)), default=0.0)

    def recovery(self) -> float:
        """Seconds from the server's first accepted write after its pause to the first that succeeds here."""
        done = [a.ended for a in self.results.answers if a.request.id and not a.failed]
        return min((moment - self.server[1] for moment in done if moment >= self.server[1]), default=0.0)

    def row(self) -> tuple[str, ...]:
        wrong = self.verdict
        ledger = "balanced" if wrong.balanced else f"{len(wrong.lost)} lost, {len(wrong.doubled)} doubled"
        server = self.server[1] - self.server[0]
        return (
            self.event,
            self.site,
            str(self.results.sent),
            counted(self.results.kinds()),
            str(self.failed_reads),
            str(self.failed_writes),
            ledger,
            str(self.stale_reads),
            f"{self.pause():.1f}",
            f"{self.results.latency(1.0):.1f}",
            f"{server:.1f}",
        )


def requests(name: str) -> NextRequest:
    """Two reads for each write, of which one tells how many writes it knows of."""
    writers = itertools.cycle([Writer(WRITE, f"{name}/auto"), Writer(WRITE_ATOMIC, f"{name}/atomic")])
    count = Request(f"{COUNT}?of={name}/")
    every = itertools.cycle([reads(), lambda: count, lambda: next(writers)()])
    return lambda: next(every)()


class Play:
    """:param rate: requests a second, of each site."""

    def __init__(self, tier: Tier, sites: list[Site], driver: ModuleType, rate: float) -> None:
        self.tier, self.sites = tier, sites
        self._driver, self._rate = driver, rate
        self._run = itertools.count(1)

    def __call__(self, name: str, event: Event) -> list[Outcome]:
        run = next(self._run)
        names = {site.name: f"{run}/{number}" for number, site in enumerate(self.sites)}
        with self._loads(names) as loads, Prober(self._driver, self.tier.cluster.by_name.values()) as prober:
            time.sleep(AROUND)
            event(self.tier)
            self.tier.cluster.settle(90.0)
            time.sleep(AROUND)
        found = []
        for site in self.sites:
            outcome = Outcome(name, site.name, loads[site.name].results, server=prober.longest_pause())
            outcome.verdict = judge(outcome.results.answers, self._rows(names[site.name]))
            found.append(outcome)
        return found

    @contextmanager
    def _loads(self, names: dict[str, str]) -> Iterator[dict[str, Load]]:
        loads = {
            site.name: Load(site.apache.url, requests(names[site.name]), rate=self._rate, timeout=40.0)
            for site in self.sites
        }
        with ExitStack() as stack:
            for load in loads.values():
                stack.enter_context(load)
            yield loads

    def _rows(self, name: str) -> list[str]:
        return self.tier.cluster.query(f"SELECT id FROM ledger WHERE id LIKE '{name}/%'", USER).split()


def table(outcomes: list[Outcome]) -> str:
    return "\n".join(aligned([HEAD, *(outcome.row() for outcome in outcomes)]))

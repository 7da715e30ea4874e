"""A scenario's run: the site under load while harm is done, and the row of figures that it ends with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.faults import wait_for
from tests.faults.ledger import Verdict, judge
from tests.faults.load import Load, NextRequest
from tests.faults.results import Results, aligned, counted
from tests.faults.stage import Stage, Variant, silent_workers
from tests.faults.told import LINES, differences, numbers, status_folder
from tools.apache import Apache
from wsgi_persist.status.site import read_site

HEAD = ("scenario", "variant", "driver", "workers", "requests", "answers", "failures", "slowest s", "verdict")


def _scaled(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Scale:
    """How long, how often, how much; times are seconds."""

    rate: float = _scaled(150.0, "requests a second")
    restarts: int = _scaled(10, "of the server, fast and immediate in turn")
    pause: float = _scaled(3.0, "seconds before each restart and each silence")
    terminating: float = _scaled(30.0, "seconds in which all sessions are terminated")
    kills: int = _scaled(3, "of the server, and promotions of its standby")
    down: float = _scaled(60.0, "seconds that the server is down")
    around: float = _scaled(10.0, "seconds before and after that")
    silence: float = _scaled(20.0, "seconds that the cable is pulled")
    rounds: int = _scaled(200, "of random faults")
    seed: int = _scaled(0, "of the random faults")


@dataclass
class Outcome:
    """What a scenario found.

    :ivar stuck: workers that did not answer in the end.
    :ivar leaked: sessions that were left, beyond one for each worker, or after the workers' end.
    :ivar attempts: to connect, while the server was down.
    :ivar untrue: where what the workers told of themselves is not what log and visitors say.
    :ivar recoveries: seconds from the end of a silence to the first request that succeeded.
    """

    scenario: str
    variant: str
    driver: str
    workers: int
    results: Results = field(default_factory=Results)
    verdict: Verdict = field(default_factory=Verdict)
    stuck: list[int] = field(default_factory=list)
    leaked: int = 0
    untrue: list[str] = field(default_factory=list)
    attempts: int = 0
    recoveries: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """The books balance, the workers told the truth, and no worker or session has gone astray."""
        return self.verdict.balanced and not (self.stuck or self.leaked or self.untrue)

    def row(self) -> tuple[str, ...]:
        results = self.results
        return (
            self.scenario,
            self.variant,
            self.driver,
            str(self.workers),
            str(results.sent),
            counted(results.kinds()),
            str(len(results.failures)),
            f"{results.latency(1.0):.2f}",
            self._verdict(),
        )

    def _verdict(self) -> str:
        found = [str(self.verdict)] if any(answer.request.id for answer in self.results.answers) else []
        found += [f"{len(self.stuck)} workers stuck"] if self.stuck else []
        found += [f"{self.leaked} sessions leaked"] if self.leaked else []
        found += [f"UNTRUE: {self.untrue[0]}"] if self.untrue else []
        return ", ".join(found) or "-"


@dataclass
class Play:
    """One variant of the site, so many workers, on a stage."""

    stage: Stage
    variant: Variant
    workers: int
    scale: Scale

    @contextmanager
    def under_load(
        self,
        scenario: str,
        next_request: NextRequest,
        *,
        address: tuple[str, int | str] | None = None,
        rate: float | None = None,
        timeout: float = 60.0,
    ) -> Iterator[tuple[Outcome, Apache]]:
        """The site is asked while the block runs; then the books are made up."""
        outcome = Outcome(scenario, self.variant.name, self.stage.driver, self.workers)
        with (
            status_folder() as status,
            self.stage.site(self.variant, self.workers, address, status) as apache,
        ):
            load = Load(apache.url, next_request, rate=rate or self.scale.rate, timeout=timeout)
            outcome.results = load.results
            with load:
                yield outcome, apache
            outcome.stuck = silent_workers(apache)
            outcome.leaked = self._sessions_beyond(self.workers)
            # Ended, the workers have told all; the log is removed with the site.
            apache.stop()
            self._compare(outcome, status, apache.error_text())
        outcome.leaked = max(outcome.leaked, self._sessions_beyond(0))
        outcome.verdict = judge(outcome.results.answers, self.stage.ledger())

    def _compare(self, outcome: Outcome, status: Path, log: str) -> None:
        """Stock workers tell nothing."""
        if self.variant.persist is None:
            return
        site = read_site(status)
        outcome.untrue = differences(site, log, outcome.results)
        told = numbers(site.counters())
        outcome.notes.append(
            f"{len(site.workers)} workers told of {', '.join(f'{told[name]} {name}' for name in LINES)}"
        )

    def _sessions_beyond(self, allowed: int) -> int:
        """Sessions above this number that do not end by themselves soon."""
        faults = self.stage.faults
        try:
            wait_for(lambda: len(faults.backends()) <= allowed, 15.0)
        except TimeoutError:
            return len(faults.backends()) - allowed
        return 0


def table(outcomes: Iterable[Outcome]) -> str:
    """A row for each, and below them their notes."""
    outcomes = list(outcomes)
    lines = aligned([HEAD, *(outcome.row() for outcome in outcomes)])
    for outcome in outcomes:
        if outcome.notes:
            lines += ["", ", ".join(outcome.row()[:3]) + f", {outcome.workers} workers:"]
            lines += [f"    {note}" for note in outcome.notes]
    return "\n".join(lines)

"""What a run has found, as it is written to ``results.json`` and read again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.plan import Contest
from tests.bench.statistics import Spread, ratios, spread


@dataclass
class Pairs:
    """Requests a second, ours and theirs, burst beside burst."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    errors: int = 0

    def add(self, ours: float, theirs: float) -> None:
        self.ours.append(ours)
        self.theirs.append(theirs)

    @property
    def ratio(self) -> Spread:
        return spread(ratios(self.ours, self.theirs))

    @property
    def share(self) -> Spread:
        """Theirs as a part of ours."""
        return spread(ratios(self.theirs, self.ours))

    @property
    def rate(self) -> Spread:
        return spread(self.theirs)


@dataclass
class Outcome:
    """Of a contest.

    :ivar errors: of ours.
    :ivar round_trip: seconds to the server and back, where they were measured.
    """

    contest: Contest
    pairs: dict[str, Pairs]
    errors: int = 0
    round_trip: float | None = None

    @property
    def rate(self) -> Spread:
        return spread(rate for pairs in self.pairs.values() for rate in pairs.ours)

    def add_start(self, once: Outcome) -> None:
        """The medians of one start of the sites."""
        self.errors += once.errors
        self.round_trip = once.round_trip
        for key, found in once.pairs.items():
            pairs = self.pairs.setdefault(key, Pairs())
            pairs.add(median(found.ours), median(found.theirs))
            pairs.errors += found.errors


@dataclass
class Counts:
    """Of one worker, for each request if nothing else is said.

    :ivar opened: connections that the server saw opened while so many requests were served.
    :ivar open: connections at the end of them.
    :ivar pss: of the worker, bytes; *rss* likewise; *backend* of one of its sessions in the server, what
        is its own.
    :ivar first_page: milliseconds of the first page after each start.
    :ivar first_opened: connections that these first pages opened, at most.
    """

    driver: str
    statements: float
    round_trips: float
    requests: int
    opened: int
    open: int
    pss: int
    rss: int
    backend: int | None
    system_calls: float | None
    first_page: list[float]
    first_opened: int


@dataclass
class Failing:
    """What visitors saw, and which kinds of session state the next request found."""

    driver: str
    scenarios: dict[str, tuple[int, int, float]] = field(default_factory=dict)  # requests, failed, slowest
    leaks: list[str] = field(default_factory=list)


# What is counted of a worker that answers very many requests; memory in bytes.
OBJECTS, BLOCKS = "Python's objects", "Python's blocks of memory"
FILES, THREADS = "open files", "threads"
RSS, PSS, BACKEND = "memory, RSS", "memory, PSS", "memory of its backend"


@dataclass
class Growth:
    """Of one worker from its thousandth request to its last.

    :ivar first: how many it had answered when it was counted *before*.
    :ivar types: by how much the number of Python's objects has changed, for each type where it has.
    """

    first: int
    requests: int
    errors: int
    before: dict[str, int]
    after: dict[str, int]
    types: dict[str, int]
    same_backend: bool

    def by(self, what: str) -> int:
        return self.after[what] - self.before[what]


@dataclass
class Results:
    facts: dict[str, str]
    plan: str = ""
    missing: dict[str, str] = field(default_factory=dict)
    releases: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    failing: dict[str, Failing] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    boundary: dict[str, dict[str, float]] = field(default_factory=dict)
    growth: dict[str, Growth] = field(default_factory=dict)

    def outcome(self, page: str, transport: str, driver: str = "psycopg", workers: int = 2) -> Outcome | None:
        wanted = (page, transport, driver, workers)
        for outcome in self.outcomes:
            contest = outcome.contest
            if (contest.page, contest.transport, contest.driver, contest.workers) == wanted:
                return outcome
        return None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(path: Path) -> Results:
    given: dict[str, Any] = json.loads(path.read_text())
    for name, kind in {"counts": Counts, "failing": Failing, "growth": Growth}.items():
        given[name] = {key: kind(**each) for key, each in given[name].items()}
    given["outcomes"] = [_outcome(each) for each in given["outcomes"]]
    return Results(**given)


def _outcome(given: dict[str, Any]) -> Outcome:
    contest = Contest(**{**given["contest"], "rivals": tuple(given["contest"]["rivals"])})
    pairs = {key: Pairs(**each) for key, each in given["pairs"].items()}
    return Outcome(contest, pairs, given["errors"], given["round_trip"])

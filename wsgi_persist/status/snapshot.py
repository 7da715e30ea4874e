"""What a worker tells of itself: the parts of a snapshot.

Times are seconds since the epoch. Texts are cut off where they are long, and hold neither parameters of
statements nor passwords; of a visitor there is only a request's method and path, as the log shows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Of all that is below, and of what `wsgi-persist status --json` prints: another number, another meaning.
FORMAT = 1


@dataclass(frozen=True)
class Worker:
    """:ivar site: mod_wsgi's process group, or the name of the site's folder.
    :ivar start: the kernel's start time of the process, in ticks since boot; 0 where it is not known.
    :ivar server: what runs the application, such as ``mod_wsgi 6.0.0``.
    :ivar version: of wsgi_persist.
    :ivar scope: who shares a pin: ``process`` or ``thread``.
    :ivar started: when the worker began to serve.
    """

    site: str
    pid: int
    start: int
    host: str
    server: str
    version: str
    scope: str
    started: float


# In place of method and path.
UNNAMED = "(came in after the last write)"


@dataclass(frozen=True)
class Inside:
    """A request under way.

    :ivar request: method and path, or ``UNNAMED``.
    :ivar since: when it came in.
    """

    request: str
    since: float


@dataclass(frozen=True)
class PinState:
    """One pin: of the process, or of one of its threads.

    :ivar pin: the alias, or the name of a plain pin.
    :ivar scope: ``process``, or ``thread`` and ``request``, of which there may be several.
    :ivar state: ``empty``, ``open`` (idle), ``leased`` (in use by a request), ``stopped`` or ``forgotten``.
    :ivar backend: pid of PostgreSQL's process; 0 before the first connection.
    :ivar opened: when the present connection was opened; None where there is none.
    :ivar leases: requests that have used the present connection.
    :ivar checks: how often its socket was readable while it was idle, and it was looked at.
    :ivar pings: round trips to prove that it is alive.
    :ivar used: when it was last leased; None where there is no connection.
    """

    pin: str
    scope: str
    state: str
    backend: int
    opened: float | None
    leases: int
    checks: int
    pings: int
    used: float | None


@dataclass(frozen=True)
class Counters:
    """Since the worker started; those of ended workers are kept by their site.

    :ivar requests: that came in.
    :ivar opened: connections.
    :ivar lost: connections that broke, by reason: a key of ``LOST`` in ``reasons.py``.
    :ivar closed: connections closed on purpose, by reason: another key there.
    :ivar replayed_statements: sent again on a new connection.
    :ivar replayed_requests: run again as a whole.
    :ivar answered_503: requests.
    :ivar rolled_back: transactions that a request left open.
    :ivar reset: sessions made as good as new in one round trip.
    :ivar closed_for_good: sessions that no reset could make so; also in ``closed``.
    :ivar own_scopes: requests that got connections of their own, as another was still inside.
    :ivar outages: times when a database was out of reach for longer than a request waits.
    """

    requests: int = 0
    opened: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    replayed_statements: int = 0
    replayed_requests: int = 0
    answered_503: int = 0
    rolled_back: int = 0
    reset: int = 0
    closed_for_good: int = 0
    own_scopes: int = 0
    outages: int = 0


@dataclass(frozen=True)
class OutageState:
    """A database that is out of reach at present.

    :ivar next_try: when a request tries again; until then they fail at once.
    :ivar error: the driver's words.
    """

    pin: str
    since: float
    next_try: float
    error: str


@dataclass(frozen=True)
class Event:
    """:ivar kind: a word of ``KINDS`` in ``account.py``.
    :ivar pin: empty where it is about none.
    :ivar request: empty where it happened outside of any.
    :ivar text: what else there is to say: the reason, the driver's words.
    """

    time: float
    kind: str
    pin: str
    request: str
    text: str


@dataclass(frozen=True)
class Leak:
    """What a request leaves behind, time and again.

    :ivar kind: in a word: ``SET``, ``cursor``, ``transaction``.
    :ivar statement: with ``$1`` in place of values; empty where no single one left it.
    :ivar count: how often since the worker started.
    """

    request: str
    kind: str
    statement: str
    count: int


@dataclass(frozen=True)
class Snapshot:
    """:ivar written: when; up to a second older than what it does not tell yet.
    :ivar inside: requests under way; of one that came in after the last write no more than that is known.
    :ivar events: the last 50, in time.
    :ivar leaks: the ten that come most often, worst first.
    :ivar stopped: why the worker stops or has stopped; empty while it does not.
    """

    worker: Worker
    written: float
    inside: list[Inside]
    pins: list[PinState]
    counters: Counters
    outages: list[OutageState]
    events: list[Event]
    leaks: list[Leak]
    stopped: str


@dataclass(frozen=True)
class Totals:
    """Of a site's workers whose files are gone.

    :ivar workers: how many.
    :ivar folded: names of files that are counted here, and may still be there.
    """

    workers: int = 0
    counters: Counters = field(default_factory=Counters)
    folded: list[str] = field(default_factory=list)


def added(counters: Iterable[Counters]) -> Counters:
    """The sum; reasons one by one."""
    sums: dict[str, Any] = {}
    for each in counters:
        for name, value in vars(each).items():
            sums[name] = _sum(sums[name], value) if name in sums else value
    return Counters(**sums)


def _sum(one: Any, other: Any) -> Any:
    if not isinstance(one, dict):
        return one + other
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in sorted({*one, *other})}


def plain(part: Any) -> dict[str, Any]:
    """As dictionaries and lists."""
    return dataclasses.asdict(part)

"""What is wrong with workers and sites, in words: for the table, for monitoring, and for the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from wsgi_persist.status.site import DEAD, RUNNING, SLOW, Seen, Site
from wsgi_persist.status.snapshot import Leak, OutageState
from wsgi_persist.status.times import ago

RECENT = 300.0  # seconds for which something that is over still counts
# Kinds of events.
TROUBLE = {"broke", "lost", "answered_503", "run_again", "outage", "in_reach", "cancelled"}


class Level(IntEnum):
    FINE = 0
    NOTE = 1
    WARNING = 2
    FAULT = 3


class Condition(Enum):
    """Of a worker, the worst first."""

    OUTAGE = Level.FAULT, "no database"
    SLOW = Level.WARNING, "slow"
    DEAD = Level.WARNING, "killed"
    TROUBLE = Level.WARNING, "had trouble"
    LEAKS = Level.NOTE, "leaves state"
    OK = Level.FINE, "fine"
    STOPPED = Level.FINE, "stopped"

    def __init__(self, level: Level, words: str) -> None:
        self.level = level
        self.words = words
        self.rank = len(type(self).__members__)


@dataclass(frozen=True)
class Finding:
    """:ivar site: its name; empty where there is none."""

    level: Level
    site: str
    text: str

    def __str__(self) -> str:
        return f"{self.site}: {self.text}" if self.site else self.text


def find_faults(sites: Sequence[Site], now: float) -> Iterator[Finding]:
    """What monitoring and the page say."""
    if not sites:
        yield Finding(Level.FAULT, "", "No worker tells of itself")
    for site in sites:
        for level, text in (*_outages(site, now), *_slow(site, now), *_ends(site), *_lately(site, now)):
            yield Finding(level, site.name, text)
        for line in site.ignored:
            yield Finding(Level.WARNING, site.name, line)


def condition_of(seen: Seen, now: float) -> Condition:
    if seen.state != RUNNING:
        return Condition.DEAD if seen.state == DEAD else Condition.STOPPED
    holds = {
        Condition.OUTAGE: bool(seen.snapshot.outages),
        Condition.SLOW: seen.longest(now) > SLOW,
        Condition.TROUBLE: _has_trouble(seen, now),
        Condition.LEAKS: bool(seen.snapshot.leaks),
    }
    return next((condition for condition, does in holds.items() if does), Condition.OK)


def _has_trouble(seen: Seen, now: float) -> bool:
    return any(event.kind in TROUBLE and now - event.time < RECENT for event in seen.snapshot.events)


def running(site: Site) -> list[Seen]:
    return [seen for seen in site.workers if seen.state == RUNNING]


def outages(site: Site) -> list[OutageState]:
    """Of the workers that run, the longest first."""
    found = [outage for seen in running(site) for outage in seen.snapshot.outages]
    return sorted(found, key=lambda outage: outage.since)


def leaks(site: Site) -> list[Leak]:
    """The same of several workers together, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for seen in site.workers:
        for leak in seen.snapshot.leaks:
            counts[leak.request, leak.kind, leak.statement] += leak.count
    return [Leak(*what, count) for what, count in counts.most_common()]


def slow(site: Site, now: float) -> list[Seen]:
    return [seen for seen in running(site) if seen.longest(now) > SLOW]


def ages(site: Site, now: float) -> list[float]:
    """Of the connections that are open, in seconds."""
    opened = (pin.opened for seen in running(site) for pin in seen.snapshot.pins)
    return sorted(max(now - each, 0.0) for each in opened if each is not None)


def _outages(site: Site, now: float) -> Iterator[tuple[Level, str]]:
    found = outages(site)
    for pin in dict.fromkeys(outage.pin for outage in found):
        first = next(outage for outage in found if outage.pin == pin)
        workers = f"{sum(outage.pin == pin for outage in found)} of {len(running(site))} workers"
        told = f"The database of {pin!r} has been out of reach for {ago(now - first.since)}"
        yield Level.FAULT, f"{told}, as {workers} found: {first.error}"


def _ends(site: Site) -> Iterator[tuple[Level, str]]:
    killed = [str(seen.snapshot.worker.pid) for seen in site.workers if seen.state == DEAD]
    if killed:
        pids = ", ".join(killed[:5]) + (" and others" if len(killed) > 5 else "")
        yield Level.WARNING, f"{_counted(len(killed), 'worker')} ended without a word: pid {pids}"
    if site.workers and not running(site):
        yield Level.FAULT, "No worker runs"


def _slow(site: Site, now: float) -> Iterator[tuple[Level, str]]:
    if found := slow(site, now):
        all_of_them = len(found) == len(running(site))
        who = f"All {len(found)}" if all_of_them else f"{len(found)} of {len(running(site))}"
        level = Level.FAULT if all_of_them else Level.WARNING
        yield level, f"{who} workers have been busy with one request for more than {ago(SLOW)}"


def _lately(site: Site, now: float) -> Iterator[tuple[Level, str]]:
    if troubled := sum(_has_trouble(seen, now) for seen in site.workers):
        told = f"{_counted(troubled, 'worker')} lost a connection or failed a request"
        yield Level.WARNING, f"{told} in the last {ago(RECENT)}"
    if found := leaks(site):
        told = _counted(sum(leak.count for leak in found), "time")
        yield Level.NOTE, f"Requests have left state in their session {told}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""What is wrong with workers and sites, in words, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from wsgi_persist.status.page.history import History
from wsgi_persist.status.page.times import ago
from wsgi_persist.status.site import DEAD, RUNNING, SLOW, STOPPED, Seen, Site
from wsgi_persist.status.snapshot import Leak, OutageState


class Level(IntEnum):
    FINE = 0
    NOTE = 1
    WARNING = 2
    FAULT = 3


@dataclass(frozen=True)
class Finding:
    level: Level
    site: str
    text: str


def of_site(site: Site, history: History, now: float) -> Iterator[Finding]:
    for level, text in (*_outages(site, now), *_ends(site), *_slow(site, now), *_recent(site, history, now)):
        yield Finding(level, site.name, text)
    for line in site.ignored:
        yield Finding(Level.NOTE, site.name, line)


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


def state_of(seen: Seen, now: float) -> tuple[Level, str]:
    """A worker in a few words, and how bad that is."""
    if seen.state == DEAD:
        return Level.WARNING, "killed"
    if seen.state == STOPPED:
        return Level.FINE, f"stopped: {seen.snapshot.stopped}"
    if seen.snapshot.outages:
        return Level.FAULT, "no database"
    if not seen.snapshot.inside:
        return Level.FINE, "idle"
    took = seen.longest(now)
    return (Level.WARNING if took > SLOW else Level.FINE), f"busy for {ago(took)}"


def _outages(site: Site, now: float) -> Iterator[tuple[Level, str]]:
    found = outages(site)
    for pin in dict.fromkeys(outage.pin for outage in found):
        first = next(outage for outage in found if outage.pin == pin)
        workers = sum(outage.pin == pin for outage in found)
        told = f"The database of {pin!r} has been out of reach for {ago(now - first.since)}"
        yield Level.FAULT, f"{told}, as {_counted(workers, 'worker')} found: {first.error}"


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
        who = "All workers have" if all_of_them else _counted(len(found), "worker has", "workers have")
        level = Level.FAULT if all_of_them else Level.WARNING
        yield level, f"{who} been busy with one request for more than {ago(SLOW)}"


def _recent(site: Site, history: History, now: float) -> Iterator[tuple[Level, str]]:
    failed = sum(filter(None, history.bars(site, lambda sums: sums.answered_503, now)))
    if failed:
        yield Level.WARNING, f"{_counted(failed, 'request')} answered with 503 in the last minutes"
    if found := leaks(site):
        told = _counted(sum(leak.count for leak in found), "time")
        yield Level.NOTE, f"Requests have left state in their session {told}"


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"

"""How bad what a worker tells is: for the order of the table, and for monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wsgi_persist.status import DEAD, RUNNING, SLOW, Seen, Site

RECENT = 300.0  # seconds for which something that is over still counts
_TROUBLE = {"broke", "lost", "answered_503", "run_again", "outage", "cancelled"}
OK, WARNING, CRITICAL = range(3)
_NAMES = ("OK", "WARNING", "CRITICAL")


class Concern(NamedTuple):
    """:ivar rank: the smaller, the worse."""

    rank: int
    word: str


def concern(seen: Seen, now: float) -> Concern:
    snapshot = seen.snapshot
    if seen.state == RUNNING:
        ranked = {
            "OUTAGE": bool(snapshot.outages),
            "SLOW": seen.longest(now) > SLOW,
            "TROUBLE": any(_is_trouble(event.kind, now - event.time) for event in snapshot.events),
            "leaks": bool(snapshot.leaks),
            "ok": True,
        }
        word = next(word for word, holds in ranked.items() if holds)
        return Concern(list(ranked).index(word) + 1, word)
    return Concern(0, "DEAD") if seen.state == DEAD else Concern(9, "stopped")


def _is_trouble(kind: str, age: float) -> bool:
    return kind in _TROUBLE and age < RECENT


class Verdict(NamedTuple):
    """As plugins of Nagios answer: the exit status, and one line."""

    status: int
    line: str


def verdict(sites: Sequence[Site], now: float) -> Verdict:
    found = [fault for site in sites for fault in _faults(site, now)] or list(_absent(sites))
    status = max((status for status, _ in found), default=OK)
    workers = [seen for site in sites for seen in site.workers if seen.state == RUNNING]
    told = [text for level, text in found if level == status]
    said = "; ".join(told) if told else f"{len(workers)} workers of {len(sites)} sites"
    return Verdict(status, f"{_NAMES[status]} - {said}")


def _absent(sites: Sequence[Site]) -> Iterator[tuple[int, str]]:
    if not sites:
        yield CRITICAL, "no worker tells of itself"


def _faults(site: Site, now: float) -> Iterator[tuple[int, str]]:
    words = [concern(seen, now).word for seen in site.workers]
    running = [word for word in words if word not in ("DEAD", "stopped")]
    if not running and site.workers:
        yield CRITICAL, f"{site.name}: no worker runs"
    if count := words.count("OUTAGE"):
        yield CRITICAL, f"{site.name}: database out of reach for {count} of {len(running)} workers"
    if count := words.count("SLOW"):
        status = CRITICAL if count == len(running) else WARNING
        yield status, f"{site.name}: {count} of {len(running)} workers in one request for over {SLOW:.0f} s"
    for word, what in {"DEAD": "killed", "TROUBLE": "lost a connection or a request"}.items():
        if count := words.count(word):
            yield WARNING, f"{site.name}: {count} workers {what} lately"
    if site.ignored:
        yield WARNING, f"{site.name}: {len(site.ignored)} files ignored"

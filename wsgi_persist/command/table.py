"""What the workers tell, as text that fits a terminal of 80 columns: the worst first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsgi_persist.status import Event, Level, Seen, Site, Snapshot, condition_of, leaks

WIDTH = 80
_COLUMNS = "{:<8} {:>7} {:>5} {:>9} {:>5} {:>5} {:>4}  {}"
_TITLES = ("STATE", "PID", "UP", "REQUESTS", "LOST", "AGAIN", "503", "DOING")
_EVENTS = _LEAKS = 5


def table(sites: Sequence[Site], databases: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    queries = dict(_queries(databases))
    lines = [line for site in sites for line in _of_site(site, now, queries)]
    return [_cut(line) for line in (*lines, *map(_of_database, databases))]


def _queries(databases: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, float]]:
    """Backends that have been busy for longer than a worker takes to tell, and for how long."""
    for session in (session for each in databases for session in each.get("sessions", ())):
        if session["state"] == "active" and session["seconds"] > 1.0:
            yield session["backend"], session["seconds"]


def _of_site(site: Site, now: float, queries: Mapping[int, float]) -> Iterator[str]:
    sums = site.counters()
    again = sums.replayed_statements + sums.replayed_requests
    yield (
        f"{site.name}: {sums.requests} requests, {sum(sums.lost.values())} connections lost, "
        f"{again} replays, {sums.answered_503} answered 503"
    )
    yield _COLUMNS.format(*_TITLES)
    for seen in sorted(site.workers, key=lambda seen: condition_of(seen, now).rank):
        yield _COLUMNS.format(*_row(seen, now, queries))
    yield from _events([event for seen in site.workers for event in seen.snapshot.events], now)
    for leak in leaks(site)[:_LEAKS]:
        yield f"  left {leak.count} times by {leak.request} ({leak.kind}) {leak.statement}"


def _row(seen: Seen, now: float, queries: Mapping[int, float]) -> tuple[object, ...]:
    snapshot, counters = seen.snapshot, seen.snapshot.counters
    return (
        _word(seen, now),
        snapshot.worker.pid,
        span(now - snapshot.worker.started),
        counters.requests,
        sum(counters.lost.values()),
        counters.replayed_statements + counters.replayed_requests,
        counters.answered_503,
        _doing(snapshot, now, queries),
    )


def _word(seen: Seen, now: float) -> str:
    """In capitals what is an alarm."""
    condition = condition_of(seen, now)
    return condition.name if condition.level >= Level.WARNING else condition.name.lower()


def _doing(snapshot: Snapshot, now: float, queries: Mapping[int, float]) -> str:
    """The longest request, else the outage, else what became of the connection."""
    if snapshot.stopped:
        return f"{snapshot.stopped}, {span(now - snapshot.written)} ago"
    if snapshot.inside:
        oldest = min(snapshot.inside, key=lambda inside: inside.since)
        return f"{span(now - oldest.since)} {oldest.request}"
    if query := next((queries[pin.backend] for pin in snapshot.pins if pin.backend in queries), None):
        return f"{span(query)} in a query, its request came in after the last write"
    if snapshot.outages:
        return f"{snapshot.outages[0].pin}: {snapshot.outages[0].error}"
    return ", ".join(f"{pin.pin} {pin.backend}" for pin in snapshot.pins if pin.opened) or "no connection"


def _events(events: Sequence[Event], now: float) -> Iterator[str]:
    for event in sorted(events, key=lambda event: event.time)[-_EVENTS:]:
        told = " ".join(filter(None, [event.kind, event.pin, event.request, event.text]))
        yield f"  {span(now - event.time):>5} ago  {told}"


def _of_database(about: Mapping[str, Any]) -> str:
    if about["error"]:
        return f"database of {about['alias']}: {about['error']}"
    return (
        f"database of {about['alias']}: {len(about['sessions'])} of {about['max_connections']} connections, "
        f"{about['idle_in_transaction']} idle in transaction, oldest {span(about['oldest_transaction'])}"
    )


def span(seconds: float) -> str:
    """In at most five characters."""
    left = max(int(seconds), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if left >= 2 * size:
            return f"{left // size}{unit}"
    return f"{left}s"


def _cut(line: str) -> str:
    shown = printable(line)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 3]}..."


def printable(line: str) -> str:
    """What a visitor chose is quoted in it; what else does not print is not for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def stamp(now: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))

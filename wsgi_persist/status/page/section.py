"""One site on the page: its figures, its charts and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wsgi_persist.status.findings import Condition, ages, condition_of, leaks, running
from wsgi_persist.status.page.charts import chart, figures
from wsgi_persist.status.page.history import BARS, STEP, History, Sums
from wsgi_persist.status.page.marks import mark
from wsgi_persist.status.page.markup import Html, joined, shortened, table, tag, words
from wsgi_persist.status.site import Seen, Site
from wsgi_persist.status.snapshot import Event, PinState
from wsgi_persist.status.times import ago, clock

EVENTS = 50
FEWEST = 18  # bars
LOSSES = ("broke", "lost")  # kinds of events
MOST_INSIDE = 5  # requests of a worker with threads that are shown
WORKERS = (
    "Worker",
    "State",
    "Request inside",
    "Connections",
    "Requests",
    "Replays",
    "503",
    "Lost",
    "Last loss",
)
COUNTED = {
    "requests": "requests",
    "answered_503": "answered with 503",
    "replayed_statements": "statements sent again",
    "replayed_requests": "requests run again",
    "opened": "connections opened",
    "rolled_back": "transactions rolled back",
    "reset": "sessions reset",
    "closed_for_good": "sessions given up, as no reset helps",
    "own_scopes": "requests with connections of their own",
    "outages": "outages",
}


def section(site: Site, history: History, now: float) -> Html:
    title = tag("h2", site.name)
    parts = [_charts(site, history, now), _workers(site, now), _sums(site), _ended(site)]
    parts += [_leaks(site), _events(site, now)]
    return tag("section", title, *filter(None, parts), aria_label=site.name)


def _charts(site: Site, history: History, now: float) -> Html:
    def grown(title: str, of: Callable[[Sums], int], which: str, tell: Callable[[list[int]], str]) -> Html:
        bars = _shown(history.bars(site, of, now))
        known = [bar for bar in bars if bar is not None]
        words = tell(known) if known else "not known yet"
        return chart(title, words, bars, (f"{ago(STEP * len(bars))} ago", "now"), which)

    return figures(
        [
            grown("Requests", lambda sums: sums.requests, "requests", _rate),
            grown("Replays", lambda sums: sums.replays, "replays", _sum),
            grown("503", lambda sums: sums.answered_503, "failures", _sum),
            _ages(site, now),
        ]
    )


def _shown(bars: list[int | None]) -> list[int | None]:
    """Less of the past, where nothing is known of it."""
    first = next((at for at, bar in enumerate(bars) if bar is not None), BARS)
    return bars[min(first, BARS - FEWEST) :]


def _sum(known: list[int]) -> str:
    return f"{sum(known):,} in {ago(len(known) * STEP)}"


def _rate(known: list[int]) -> str:
    last = known[-2] if len(known) > 1 else known[-1]  # the present step is not over
    return f"{last / STEP:,.1f} a second, at most {max(known) / STEP:,.1f}"


def _ages(site: Site, now: float) -> Html:
    found = ages(site, now)
    told = f"{len(found)}, of {ago(found[0])} to {ago(found[-1])}" if found else "none"
    return chart("Age of connections", told, found, ("youngest", "oldest"), "ages")


def _workers(site: Site, now: float) -> Html:
    told = [(condition_of(seen, now), seen) for seen in site.workers]
    told.sort(key=lambda each: (each[0].rank, -each[1].longest(now), each[1].snapshot.worker.pid))
    rows = (
        [seen.snapshot.worker.pid, mark(condition.level, _state(condition, seen, now)), *_cells(seen, now)]
        for condition, seen in told
    )
    return table(f"Workers: {len(running(site))} of {len(site.workers)} run", WORKERS, rows)


def _state(condition: Condition, seen: Seen, now: float) -> str:
    if condition is Condition.STOPPED:
        return f"stopped: {seen.snapshot.stopped}"
    if condition in (Condition.OK, Condition.SLOW):
        return f"busy for {ago(seen.longest(now))}" if seen.snapshot.inside else "idle"
    return condition.words


def _cells(seen: Seen, now: float) -> Iterator[object]:
    snapshot = seen.snapshot
    counters = snapshot.counters
    inside = sorted(snapshot.inside, key=lambda each: each.since)[:MOST_INSIDE]
    yield _lines(f"{shortened(each.request)}, {ago(now - each.since)}" for each in inside)
    yield _lines(_pin(pin, now) for pin in snapshot.pins)
    yield f"{counters.requests:,}"
    yield f"{counters.replayed_statements + counters.replayed_requests:,}"
    yield f"{counters.answered_503:,}"
    yield f"{sum(counters.lost.values()):,}"
    losses = [event for event in snapshot.events if event.kind in LOSSES]
    yield _lines(_happened(event, now) for event in losses[-1:])


def _pin(pin: PinState, now: float) -> str:
    name = shortened(pin.pin) + ("" if pin.scope == "process" else f" of a {pin.scope}")
    if pin.opened is None:
        return f"{name}: {pin.state}"
    age = ago(now - pin.opened)
    return f"{name}: {pin.state}, backend {pin.backend}, {age}, {pin.leases:,} leases"


def _lines(lines: Iterator[str]) -> Html:
    return joined(*(tag("div", line) for line in lines))


def _happened(event: Event, now: float) -> str:
    return f"{clock(event.time, now)} {shortened(event.pin)}: {shortened(event.text)}"


def _sums(site: Site) -> Html:
    counters = site.counters()
    sums = {what: getattr(counters, name) for name, what in COUNTED.items()}
    told = (tag("div", tag("dt", what), tag("dd", f"{count:,}")) for what, count in sums.items() if count)
    gone = f"Since the first worker, {site.gone.workers} of which are gone" if site.gone.workers else "In all"
    return joined(tag("h3", gone), tag("dl", *told))


def _ended(site: Site) -> Html:
    counters = site.counters()
    rows = [
        [words(reason), how, f"{count:,}"]
        for how, reasons in (("lost", counters.lost), ("closed", counters.closed))
        for reason, count in sorted(reasons.items(), key=lambda each: -each[1])
    ]
    return table("Connections that ended", ("Reason", "How", "Times"), rows) if rows else Html("")


def _leaks(site: Site) -> Html:
    rows = [
        [shortened(leak.request), leak.kind, tag("code", shortened(leak.statement)), f"{leak.count:,}"]
        for leak in leaks(site)[:10]
    ]
    columns = ("Request", "Kind", "Statement", "Times")
    return table("Requests that leave state in their session", columns, rows) if rows else Html("")


def _events(site: Site, now: float) -> Html:
    found = [(event, seen) for seen in site.workers for event in seen.snapshot.events]
    found.sort(key=lambda each: each[0].time, reverse=True)
    rows = [
        [clock(event.time, now), seen.snapshot.worker.pid, *_about(event)] for event, seen in found[:EVENTS]
    ]
    columns = ("Time", "Worker", "Event", "Pin", "Request", "Told")
    return table("Last events, the newest first", columns, rows) if rows else Html("")


def _about(event: Event) -> list[str]:
    return [words(event.kind), *map(shortened, (event.pin, event.request, event.text))]

"""The sums of each site for Prometheus, in the formats that prometheus-client, an extra, knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics

from wsgi_persist.status import findings
from wsgi_persist.status.page.markup import visible
from wsgi_persist.status.site import DEAD, RUNNING, STOPPED, Site

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
# Counters of a snapshot: what stands behind wsgi_persist_, and what it counts.
COUNTERS = {
    "requests": ("requests", "Requests that came in."),
    "opened": ("connections_opened", "Connections to PostgreSQL that were opened."),
    "replayed_statements": ("replayed_statements", "Statements sent again after a loss."),
    "replayed_requests": ("replayed_requests", "Requests run again after a loss."),
    "answered_503": ("answers_503", "Requests answered with 503."),
    "rolled_back": ("transactions_rolled_back", "Transactions that a request left open."),
    "reset": ("sessions_reset", "Sessions made as good as new after a request."),
    "closed_for_good": ("sessions_given_up", "Sessions closed as no reset helped."),
    "own_scopes": ("own_scopes", "Requests that got connections of their own."),
    "outages": ("outages", "Times when a worker found the database out of reach."),
}
BY_REASON = {
    "lost": ("connections_lost", "Connections that broke."),
    "closed": ("connections_closed", "Connections closed on purpose."),
}


def exposition(sites: Sequence[Site], accept: str, now: float) -> tuple[str, bytes]:
    """Content type and text of what a scrape gets."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(sites, now))
    if wants_openmetrics(accept):
        return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(registry)
    return TEXT, generate_latest(registry)


def wants_openmetrics(accept: str) -> bool:
    """Whether it is accepted, and not less than plain text."""
    weights = {OPENMETRICS: 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if name in weights:
            weights[name] = max(weights[name], _weight(parameters))
    return 0 < weights[OPENMETRICS] >= weights["text/plain"]


def _weight(parameters: Sequence[str]) -> float:
    given = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return float(given)
    except ValueError:
        return 0.0


class _Collector:
    def __init__(self, sites: Sequence[Site], now: float) -> None:
        self._sites = {visible(site.name): site for site in sites}
        self._now = now

    def collect(self) -> Iterator[Any]:
        yield from self._counters()
        yield from self._by_reason()
        yield self._gauge("workers", "Workers by state.", ["state"], _workers)
        yield self._gauge("connections", "Connections by pin and state.", ["pin", "state"], _connections)
        yield self._gauge("outage_workers", "Workers that cannot reach a database.", ["pin"], _outages)
        yield self._gauge("requests_inside", "Requests under way.", [], _inside)
        yield self._gauge(
            "longest_request_seconds", "How long the oldest request is inside.", [], self._longest
        )
        yield self._gauge("slow_workers", "Workers in one request for more than 10 s.", [], self._slow)
        yield self._gauge("oldest_connection_seconds", "Age of the oldest connection.", [], self._oldest)
        yield self._gauge("ignored_files", "Files of the runtime folder that say nothing.", [], _ignored)

    def _counters(self) -> Iterator[CounterMetricFamily]:
        sums = {name: site.counters() for name, site in self._sites.items()}
        for field, (name, told) in COUNTERS.items():
            family = CounterMetricFamily(f"wsgi_persist_{name}", told, labels=["site"])
            for site, counters in sums.items():
                family.add_metric([site], getattr(counters, field))
            yield family

    def _by_reason(self) -> Iterator[CounterMetricFamily]:
        for field, (name, told) in BY_REASON.items():
            family = CounterMetricFamily(f"wsgi_persist_{name}", told, labels=["site", "reason"])
            for site_name, site in self._sites.items():
                for reason, count in getattr(site.counters(), field).items():
                    family.add_metric([site_name, visible(reason)], count)
            yield family

    def _gauge(
        self, name: str, told: str, labels: Sequence[str], of: Callable[[Site], dict[tuple[str, ...], float]]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"wsgi_persist_{name}", told, labels=["site", *labels])
        for site_name, site in self._sites.items():
            for values, number in of(site).items():
                family.add_metric([site_name, *map(visible, values)], number)
        return family

    def _longest(self, site: Site) -> dict[tuple[str, ...], float]:
        return {(): max((seen.longest(self._now) for seen in findings.running(site)), default=0.0)}

    def _slow(self, site: Site) -> dict[tuple[str, ...], float]:
        return {(): len(findings.slow(site, self._now))}

    def _oldest(self, site: Site) -> dict[tuple[str, ...], float]:
        return {(): max(findings.ages(site, self._now), default=0.0)}


def _workers(site: Site) -> dict[tuple[str, ...], float]:
    states = Counter(seen.state for seen in site.workers)
    return {(state,): states[state] for state in (RUNNING, STOPPED, DEAD)}


def _connections(site: Site) -> dict[tuple[str, ...], float]:
    pins = (pin for seen in findings.running(site) for pin in seen.snapshot.pins)
    return dict(Counter((pin.pin, pin.state) for pin in pins))


def _outages(site: Site) -> dict[tuple[str, ...], float]:
    pins = {pin.pin for seen in findings.running(site) for pin in seen.snapshot.pins}
    found = Counter(outage.pin for outage in findings.outages(site))
    return {(pin,): found[pin] for pin in sorted({*pins, *found})}


def _inside(site: Site) -> dict[tuple[str, ...], float]:
    return {(): sum(len(seen.snapshot.inside) for seen in findings.running(site))}


def _ignored(site: Site) -> dict[tuple[str, ...], float]:
    return {(): len(site.ignored)}

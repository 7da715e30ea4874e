"""What wsgi_persist promises, against what a run has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.boundary import CALLS, FLATNESS, ONE_PIN
from tests.bench.plan import TRANSPORT_NAMES
from tests.bench.results import BACKEND, BLOCKS, FILES, OBJECTS, RSS, THREADS, Results
from tests.bench.statements import CHANGED, CHANGING
from tests.bench.statistics import Spread, figure
from tests.bench.variants import OURS, VARIANTS

MIB = 2**20


@dataclass(frozen=True)
class Verdict:
    what: str
    wanted: str
    found: str
    met: bool

    def row(self) -> tuple[str, ...]:
        return self.what, self.wanted, self.found, "met" if self.met else "**missed**"


def verdicts(results: Results) -> list[Verdict]:
    """On all that was measured."""
    sources: list[Callable[[Results], Iterator[Verdict]]] = [_ratios, _ahead, _boundary, _counts, _growth]
    return [verdict for source in sources for verdict in source(results)]


# Page, transport, workers, rival, and the least that ours has to be as a multiple of theirs.
LEAST = (
    ("three", "socket", 2, "stock", 5.0),
    ("three", "tls", 2, "stock", 10.0),
    ("three", "socket", 1, "kept", 0.97),
    ("three", "far", 2, "checked", 1.2),
    ("three", "far", 1, "kept", 0.97),
)


def _ratios(results: Results) -> Iterator[Verdict]:
    for page, transport, workers, rival, least in LEAST:
        outcome = results.outcome(page, transport, workers=workers)
        if outcome is not None and rival in outcome.pairs:
            ratio = outcome.pairs[rival].ratio
            where = TRANSPORT_NAMES[transport] + (", 1 worker" if workers == 1 else "")
            what = f"three SELECTs, {where}: against {VARIANTS[rival].name}"
            yield Verdict(what, f"at least {least:g}", _sure(ratio), ratio.median >= least)


def _ahead(results: Results) -> Iterator[Verdict]:
    """Of the nearest of those that validate."""
    for transport in TRANSPORT_NAMES:
        outcome = results.outcome("three", transport)
        rivals = {
            key: pairs.ratio
            for key, pairs in (outcome.pairs.items() if outcome else ())
            if VARIANTS[key].validates and not key.startswith(OURS.key)
        }
        if rivals:
            nearest = min(rivals, key=lambda key: rivals[key].median)
            what = f"three SELECTs, {TRANSPORT_NAMES[transport]}: against the nearest that validates"
            found = f"{_sure(rivals[nearest])}, {VARIANTS[nearest].name}"
            yield Verdict(what, "above 1", found, rivals[nearest].median > 1)


def _sure(ratio: Spread) -> str:
    return f"{figure(ratio.median)} ({figure(ratio.sure_low)}-{figure(ratio.sure_high)})"


def _boundary(results: Results) -> Iterator[Verdict]:
    drivers = {name: found for name, found in results.boundary.items() if name != "any"}
    for driver, found in drivers.items():
        cost, flat = found[ONE_PIN], found[FLATNESS]
        yield Verdict(f"the boundary, {driver}", "at most 5 us", f"{cost:.1f} us", cost <= 5)
        yield Verdict(f"8 pins against 1, {driver}", "at most 1.2", figure(flat), flat <= 1.2)
    for name, found in results.boundary.get("any", {}).items():
        if name in (CALLS.format(1), CALLS.format(8)):
            yield Verdict(name, "1", f"{found:.2f}", round(found) <= 1)
        elif name in map(CHANGED.format, CHANGING):
            yield Verdict(name, "at most 5 us", f"{found:.1f} us", found <= 5)


def _counts(results: Results) -> Iterator[Verdict]:
    ours, stock = results.counts.get(OURS.key), results.counts.get("stock")
    if ours is None or stock is None:
        return
    statements, opened = ours.statements, ours.opened
    yield Verdict(
        "statements a request, of which the page's own are 3", "3", f"{statements:g}", statements == 3
    )
    yield Verdict(f"connections opened in {ours.requests} requests", "0", str(opened), opened == 0)
    first = ours.first_opened
    yield Verdict("connections opened by a worker's first page", "0", str(first), first == 0)
    more = (ours.pss - stock.pss) / MIB
    yield Verdict("memory of a worker beyond stock", "at most 2 MiB", f"{more:.1f} MiB", more <= 2)


# Of one worker between its thousandth request and its millionth. Python allocates 16 bytes at the least, so
# a request that leaks anything at all takes 16 MiB. Stock Django has more memory, too: CPython builds its
# table of interned strings (2 MiB) anew every 1,500 requests or so, for which the heap once gets room.
MOST = {OBJECTS: 50, BLOCKS: 1_000, FILES: 0, THREADS: 0, RSS: 4 * MIB, BACKEND: MIB}


def _growth(results: Results) -> Iterator[Verdict]:
    for driver, found in results.growth.items():
        between = f"{driver}, from request {found.first:,} to {found.requests:,}"
        for what, most in MOST.items():
            by = found.by(what)
            yield Verdict(f"growth of {what}, {between}", f"at most {most:,}", f"{by:+,}", by <= most)
        yield Verdict(f"requests that failed, {between}", "0", f"{found.errors:,}", found.errors == 0)

"""The tables of a report."""

from __future__ import annotations

from statistics import median

from tests.bench.failures import LEFT
from tests.bench.plan import DJANGO, TRANSPORT_NAMES
from tests.bench.results import Counts, Failing, Growth, Outcome, Results
from tests.bench.rst import Row, fields, section, table
from tests.bench.statistics import figure
from tests.bench.targets import MIB, verdicts
from tests.bench.variants import OURS, VARIANTS

RATIO = "ours / theirs"


def name_of(key: str, driver: str = "psycopg") -> str:
    """With the driver, where it is not the usual one."""
    return VARIANTS[key].name + ("" if driver == "psycopg" else f", {driver}")


def report(results: Results) -> str:
    """All of it."""
    parts = [
        section("Machine and versions", fields({**results.facts, **_releases(results)})),
        section("Targets", TARGETS, targets(results)),
    ]
    if results.outcomes:
        parts.append(section("Overview", OVERVIEW, overview(results)))
        parts += [section(outcome.contest.name, *contest(outcome)) for outcome in results.outcomes]
    if results.counts:
        parts.append(section("One worker, counted", COUNTED, counts(results)))
    if results.failing:
        parts.append(section("Failures and leaks", FAILING, failures(results), leaks(results)))
    if results.boundary:
        parts.append(section("The boundary", BOUNDARY, boundary(results)))
    if results.growth:
        told = [growth_told(driver, found) for driver, found in results.growth.items()]
        parts.append(section("One worker, many requests", GROWTH, growth(results), *told))
    if results.missing or results.notes:
        left = [f"{VARIANTS[key].name}: {why}" for key, why in results.missing.items()]
        parts.append(section("Not measured", "\n".join(f"- {text}" for text in left + results.notes)))
    return "\n".join(parts)


TARGETS = (
    "Of ratios the median, and in brackets the interval that holds the true median in 95 of 100 such runs."
)
OVERVIEW = (
    "Requests a second, ours divided by theirs: the median of ratios of bursts that stood side by side, "
    "and in brackets the middle half of them. 2 workers, psycopg 3."
)
COUNTED = (
    "Of one worker that answers the page with three SELECTs over TCP. Statements, round trips and system "
    "calls are for each request, connections opened for a hundred; system calls are all of the worker's, "
    "Python's and mod_wsgi's among them. Memory is proportional (PSS) and in MiB; the backend's is its own, "
    "without the server's buffers."
)
FAILING = (
    "Pages that read, on 2 workers: how many failed, of how many, and the slowest. The server was restarted "
    "twice; all sessions were terminated again and again for 3 s (both at 60 pages a second); the network "
    "was silent twice for 10 s (at 2 a second, where 15 s without an answer count as failed). "
    "Some of the pages are in a transaction, of which only the first statement can be sent again: later ours "
    "answers 503, unless replay_requests allows to run the whole request again, which was not set."
)
BOUNDARY = (
    "What PersistMiddleware adds to a WSGI application that does nothing, without a web server: "
    "microseconds a request unless it says otherwise, median of paired differences."
)
GROWTH = (
    "One worker that answers the page with three SELECTs, counted twice. Objects are those that Python's "
    "collector knows, when all garbage is gone, blocks all of Python's allocations; memory is in bytes, the "
    "backend's its own."
)


def targets(results: Results) -> str:
    rows = [verdict.row() for verdict in verdicts(results)]
    return table(("target", "wanted", "found", "verdict"), rows) if rows else "Nothing that has a target."


def overview(results: Results) -> str:
    """A row for each rival, a column for each transport."""
    columns = _by_transport(results)
    keys = dict.fromkeys(key for outcome in columns.values() for key in outcome.contest.rivals)
    rows = [[name_of(key), *(_ratio(outcome, key) for outcome in columns.values())] for key in _ordered(keys)]
    return table(["three SELECTs against", *columns], rows)


def short(results: Results) -> str:
    """Django's own ways and their medians, for the README."""
    columns = _by_transport(results)
    rows = [
        [name_of(key), *(figure(outcome.pairs[key].ratio.median) for outcome in columns.values())]
        for key in DJANGO
        if all(key in outcome.pairs for outcome in columns.values())
    ]
    return table(["three SELECTs against", *columns], rows)


def _by_transport(results: Results) -> dict[str, Outcome]:
    found = {name: results.outcome("three", transport) for transport, name in TRANSPORT_NAMES.items()}
    return {name: outcome for name, outcome in found.items() if outcome is not None}


def contest(outcome: Outcome) -> list[str]:
    rows: list[Row] = [[name_of(OURS.key), str(outcome.rate), "", str(outcome.errors)]]
    for key in _ordered(outcome.contest.rivals):
        if key in outcome.pairs:
            pairs = outcome.pairs[key]
            rows.append([name_of(key), str(pairs.rate), str(pairs.ratio), str(pairs.errors)])
    trip = outcome.round_trip
    said = [f"A round trip through the proxy took {trip * 1000:.2f} ms."] if trip else []
    rounds, starts = f"{outcome.contest.rounds} rounds", outcome.contest.starts
    told = f"{starts} starts of {rounds}, each of which makes one pair, of medians" if starts > 1 else rounds
    return [" ".join([f"{told}.", *said]), table(["", "requests/s", RATIO, "errors"], rows)]


def counts(results: Results) -> str:
    head = (
        "",
        "statements",
        "round trips",
        "system calls",
        "opened by 100",
        "open",
        "worker",
        "its RSS",
        "backend",
        "first page, ms",
        "opened by it",
    )
    return table(head, [_counted(key, each) for key, each in results.counts.items()])


def _counted(key: str, found: Counts) -> Row:
    return [
        name_of(key, found.driver),
        f"{found.statements:g}",
        f"{found.round_trips:g}",
        "" if found.system_calls is None else f"{found.system_calls:.1f}",
        str(found.opened),
        str(found.open),
        f"{found.pss / MIB:.1f}",
        f"{found.rss / MIB:.1f}",
        "" if found.backend is None else f"{found.backend / MIB:.1f}",
        f"{median(found.first_page):.0f}",
        str(found.first_opened),
    ]


def failures(results: Results) -> str:
    kinds = list(dict.fromkeys(kind for each in results.failing.values() for kind in each.scenarios))
    rows = [
        [
            name_of(key, each.driver),
            *(_failed(each, kind) for kind in kinds),
            f"{len(each.leaks)} of {len(LEFT)}",
        ]
        for key, each in results.failing.items()
    ]
    return table(["", *kinds, "state left to the next"], rows)


def _failed(found: Failing, kind: str) -> str:
    if kind not in found.scenarios:
        return ""
    requests, failed, slowest = found.scenarios[kind]
    return f"{failed} of {requests}, {slowest:.1f} s"


def leaks(results: Results) -> str:
    kinds = ", ".join(LEFT)
    return f"State that was tried: {kinds}."


def boundary(results: Results) -> str:
    rows = [
        [name, "" if driver == "any" else driver, figure(value)]
        for driver, found in results.boundary.items()
        for name, value in found.items()
    ]
    return table(["", "driver", "us"], rows)


def growth(results: Results) -> str:
    rows = [
        [what, driver, f"{each.before[what]:,}", f"{each.after[what]:,}", f"{each.by(what):+,}"]
        for driver, each in results.growth.items()
        for what in each.before
    ]
    return table(["", "driver", "before", "after", "difference"], rows)


def growth_told(driver: str, found: Growth) -> str:
    """Between which requests, and which types there are more or fewer objects of."""
    types = ", ".join(f"{name} {by:+,}" for name, by in found.types.items()) or "none"
    backend = "the same backend" if found.same_backend else "another backend"
    return (
        f"{driver}: after {found.first:,} and after {found.requests:,} requests, of which {found.errors:,} "
        f"failed; {backend} served the last. Types with more objects or fewer: {types}."
    )


def _ratio(outcome: Outcome, key: str) -> str:
    return str(outcome.pairs[key].ratio) if key in outcome.pairs else ""


def _ordered(keys: object) -> list[str]:
    """As in the list of variants."""
    return [key for key in VARIANTS if key in keys]  # type: ignore[operator]


def _releases(results: Results) -> dict[str, str]:
    packages = {VARIANTS[key].package: version for key, version in results.releases.items()}
    return {name: version.split()[-1] for name, version in packages.items()}

"""Run Django's own test suite on our ENGINE and on the stock one, and compare test by test."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.django_suite.report import report
from tests.django_suite.sdist import suite
from tests.django_suite.server import Server, choose
from tests.django_suite.suite import ALL, ENGINES, POSTGIS, Plan, run_all
from tools.environment import folder
from tools.steps import Trouble, say

LABELS = (
    "backends", "transactions", "transaction_hooks", "handlers", "servers", "db_utils",
    "requests_tests", "postgres_tests", "test_utils", "select_for_update", "get_or_create",
    "bulk_create", "schema", "queries", "basic", "lookup", "aggregation", "expressions",
)  # fmt: skip
# Tests that are slow without transactions, which flush after each.
TO_CUT = ("basic", "transactions")
# Of these labels Django 5.2 has 2,813 tests: far fewer mean that they were not found.
AT_LEAST = 2800
NEEDS_CONTRIB = "postgres_tests"
OF_POSTGIS = "gis_tests"


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.django_suite", description=__doc__)
    parser.add_argument("--driver", choices=("psycopg2", "psycopg"), default="psycopg2")
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--labels", nargs="+", metavar="LABEL", help="test labels of Django's suite")
    which.add_argument("--all", action="store_true", help="the whole suite")
    parser.add_argument("--requests", action="store_true", help="each class of tests inside a request")
    parser.add_argument("--cuts", action="store_true", help="and connections that end all the time")
    which.add_argument("--postgis", action="store_true", help=f"{OF_POSTGIS}, on our engine for PostGIS")
    parser.add_argument("--parallel", type=int, choices=(1, 2), default=2, help="engines at a time")
    parser.add_argument("--pg-bin", help="folder of the PostgreSQL programs to use")
    parser.add_argument("--cache", type=Path, default=folder(), help="where the suite is kept")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for all of it")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    options = arguments(given)
    # Ended politely, it still stops its server and its suites.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return 0 if run(options) else 1
    except Trouble as trouble:
        print(f"django_suite: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def run(options: argparse.Namespace) -> bool:
    server = choose(options.pg_bin)
    labels = wanted_labels(options, server)
    tests = suite(options.cache.resolve())
    require(labels, tests)
    engines = list(ENGINES) if options.engine == "both" else [options.engine]
    if options.requests:
        engines = ["stock", "folded", "lazy"]
    if options.cuts:
        engines = ["flushed", "cut"]
    logs = options.cache.resolve() / "django_suite"
    logs.mkdir(exist_ok=True)
    with scratch() as here, server.cluster(here) as cluster:
        say(f"Django's suite on {' and '.join(engines)}; what it writes goes to {logs}")
        modules = POSTGIS if options.postgis else ALL
        plan = Plan(tests, labels, modules, options.driver, cluster, here, logs)
        results = run_all(engines, plan, options.parallel, options.timeout)
    facts = results[0].facts
    driver = f"{facts['driver']} {facts['driver_version']}"
    print(f"Django {facts['django']}, {driver}, PostgreSQL {server.version}")
    return report(results, AT_LEAST if tuple(labels) == LABELS else 1)


def wanted_labels(options: argparse.Namespace, server: Server) -> list[str]:
    """The labels, without the one that the server is not equipped for."""
    say(f"PostgreSQL {server.version} of {server.bin}")
    if server.stand_in:
        say("uuid-ossp is not among its modules: an empty extension stands in for it")
    if options.postgis:
        return [OF_POSTGIS]
    usual = TO_CUT if options.cuts else LABELS
    wanted = [] if options.all else list(options.labels or usual)
    if server.missing and (options.all or NEEDS_CONTRIB in wanted):
        lacking = f"it has no {', '.join(sorted(server.missing))}"
        if options.all:
            raise Trouble(f"{lacking}: the whole suite needs them, choose another with --pg-bin")
        say(f"{lacking}: {NEEDS_CONTRIB} is left out")
        wanted.remove(NEEDS_CONTRIB)
    return wanted


def require(labels: Sequence[str], tests: Path) -> None:
    """A label that does not exist would fail on both engines alike, and so pass."""
    unknown = [label for label in labels if not (tests / label.split(".")[0]).is_dir()]
    if unknown:
        raise Trouble(f"Django's suite has no {', '.join(unknown)}")


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="django_suite-") as name:
        # PostgreSQL's user, who is not root, has to pass.
        Path(name).chmod(0o755)
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

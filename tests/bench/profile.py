"""Account for every microsecond between wsgi_persist and a connection kept by stock Django.

``python -m tests.bench.profile`` prints the tables; ``--into docs/figures/profile.rst`` writes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.burst import loader
from tests.bench.facts import facts
from tests.bench.rst import fields, table
from tests.bench.stage import Stage
from tests.conftest import site_environment

DRIVERS = ("psycopg", "psycopg2")
PARTS = {
    "boundary": "the boundary of a request, on a WSGI application that does nothing",
    "lease": "beyond it, the pin leased and given back",
    "adoption": "beyond it, Django's wrapper around it",
    "statement": "for each statement, beyond stock's cursor",
    "page": "a page of three SELECTs through Django's handler, PostgreSQL included",
}
# Beside a page's own boundary, lease and adoption: three cursors, and three times sending.
OF_A_STATEMENT = ("making a cursor", "sending it, all of the above but the cursor")
TOTAL, BEYOND = "measured as a whole", "ours beyond it"
# Of the site: ours is the default, the other keeps its connection as stock Django does.
ALIASES = {"stock": {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}, "CONN_MAX_AGE": None}}
Found = list[tuple[str, str, float, int]]


def measured(stage: Stage, driver: str, pairs: int) -> Found:
    """In a process of its own: Django takes one driver for good."""
    environ = site_environment(stage.cluster, SITE_DRIVER=driver, SITE_ALIASES=json.dumps(ALIASES))
    command = [sys.executable, "-m", "tests.bench.profile", "--steps", "--pairs", str(pairs)]
    done = subprocess.run(command, env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE)
    return [(part, name, us, times) for part, name, us, times in json.loads(done.stdout)]


def accounted(found: Found) -> float:
    """Microseconds of a page's cost that the steps explain."""
    whole = sum(us for _, name, us, _ in found if name == TOTAL)
    return whole + sum(us * times for _, name, us, times in found if name in OF_A_STATEMENT)


def report(by_driver: dict[str, Found]) -> str:
    first = next(iter(by_driver.values()))
    texts = [_part(part, title, first, by_driver) for part, title in PARTS.items()]
    sums = [
        ["accounted for by the steps", *(f"{accounted(found):.1f}" for found in by_driver.values())],
        ["measured", *(f"{_us(found, BEYOND):.1f}" for found in by_driver.values())],
    ]
    return "\n".join([*texts, "A page's cost beyond stock, microseconds:\n", table(["", *by_driver], sums)])


def _part(part: str, title: str, first: Found, by_driver: dict[str, Found]) -> str:
    names = [name for of, name, _, _ in first if of == part]
    rows = [[name, *(f"{_us(found, name, part):.2f}" for found in by_driver.values())] for name in names]
    if TOTAL in names:
        rest = [_rest(found, part) for found in by_driver.values()]
        rows.insert(-1, ["what joins them", *(f"{us:.2f}" for us in rest)])
    return f"{title[0].upper()}{title[1:]}, microseconds:\n\n{table(['', *by_driver], rows)}"


def _us(found: Found, name: str, part: str | None = None) -> float:
    return next(us for of, called, us, _ in found if called == name and part in (None, of))


def _rest(found: Found, part: str) -> float:
    steps = [us for of, name, us, _ in found if of == part and name != TOTAL]
    return _us(found, TOTAL, part) - sum(steps)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--into", type=Path, help="a file for the tables")
    parser.add_argument("--pairs", type=int, default=200, help="of loops for each figure (200)")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps:
        import django

        django.setup()
        from tests.bench.steps import steps

        print(json.dumps(steps(given.pairs)))
        return
    with Stage() as stage:
        head = fields(facts(stage, loader()[0]))
        text = f"{head}\n{report({driver: measured(stage, driver, given.pairs) for driver in DRIVERS})}"
    if given.into:
        given.into.parent.mkdir(parents=True, exist_ok=True)
        given.into.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

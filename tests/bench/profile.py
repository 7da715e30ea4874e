"""Account for every microsecond between wsgi_persist and a connection kept by stock Django.

``python -m tests.bench.profile`` prints the tables; ``--into docs/figures/profile.rst`` writes them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.burst import loader
from tests.bench.facts import facts
from tests.bench.rst import fields, table
from tests.bench.stage import Stage
from tests.conftest import site_environment

DRIVERS = ("psycopg", "psycopg2")
FACTS = ("Date", "Machine", "wsgi_persist", "Python", "Django", *DRIVERS, "PostgreSQL")
PARTS = {
    "boundary": "the boundary of a request, on a WSGI application that does nothing",
    "lease": "beyond it, the pin leased and given back",
    "adoption": "beyond it, Django's wrapper around it",
    "statement": "for each statement, beyond stock's cursor",
    "page": "pages through Django's handler, PostgreSQL's time not counted",
}
# Beside a page's own boundary, lease and adoption: three cursors, and three times sending.
OF_A_STATEMENT = ("making a cursor", "sending it, all of the above but the cursor")
TOTAL, BEYOND = "measured as a whole", "three SELECTs: ours beyond it"
# Of the site: ours is the default, the other keeps its connection as stock Django does.
ALIASES: dict[str, dict[str, Any]] = {
    "stock": {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}, "CONN_MAX_AGE": None}
}
Found = list[tuple[str, str, float, int]]
Layers = list[tuple[int, str, float, float]]
Calls = tuple[int, int]


def measured(stage: Stage, driver: str, pairs: int) -> tuple[Found, Layers, Calls]:
    """In a process of its own: Django takes one driver for good."""
    environ = site_environment(stage.cluster, SITE_DRIVER=driver, SITE_ALIASES=json.dumps(ALIASES))
    command = [sys.executable, "-m", "tests.bench.profile", "--steps", "--pairs", str(pairs)]
    done = subprocess.run(command, env={**os.environ, **environ}, check=True, stdout=subprocess.PIPE)
    steps, layers, calls = json.loads(done.stdout)
    return [tuple(step) for step in steps], [tuple(layer) for layer in layers], tuple(calls)


def accounted(found: Found) -> float:
    """Microseconds of a page's cost that the steps explain."""
    whole = sum(us for _, name, us, _ in found if name == TOTAL)
    return whole + sum(us * times for _, name, us, times in found if name in OF_A_STATEMENT)


def report(by_driver: dict[str, Found], layers: dict[str, Layers], calls: dict[str, Calls]) -> str:
    first = next(iter(by_driver.values()))
    texts = [_part(part, title, first, by_driver) for part, title in PARTS.items()]
    sums = [
        ["the steps above, in a loop", *(f"{accounted(found):.1f}" for found in by_driver.values())],
        ["the layers, in their places", *(f"{_outermost(found):.1f}" for found in layers.values())],
        ["measured, ours beyond stock", *(f"{_us(found, BEYOND):.1f}" for found in by_driver.values())],
        ["function calls beyond stock", *(f"{ours - stock} to {stock}" for ours, stock in calls.values())],
    ]
    texts += ["The layers in their places, microseconds a page of three SELECTs:\n", in_places(layers)]
    return "\n".join(
        [*texts, "A page's cost, microseconds where nothing else is said:\n", table(["", *by_driver], sums)]
    )


def in_places(layers: dict[str, Layers]) -> str:
    """A layer within another is marked with a dot for each that it is in."""
    costs = [{what: us for _, what, us, _ in found} for found in layers.values()]
    rows = [
        [f"{'· ' * depth}{what}", f"{calls:g}", *(f"{each.get(what, 0.0):.2f}" for each in costs)]
        for depth, what, _, calls in next(iter(layers.values()))
    ]
    return table(["", "calls", *layers], rows)


def _outermost(layers: Layers) -> float:
    return sum(us for depth, _, us, _ in layers if depth == 0)


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


def tables(pairs: int) -> str:
    with Stage() as stage:
        found = {driver: measured(stage, driver, pairs) for driver in DRIVERS}
        text = report(
            {driver: steps for driver, (steps, _, _) in found.items()},
            {driver: layers for driver, (_, layers, _) in found.items()},
            {driver: calls for driver, (_, _, calls) in found.items()},
        )
        told = facts(stage, loader()[0])
        return f"{fields({name: told[name] for name in FACTS})}\n{text}"


def child(pairs: int) -> None:
    """What :func:`measured` starts."""
    import django

    django.setup()
    from tests.bench import steps

    logging.disable(logging.INFO)
    print(json.dumps([steps.steps(pairs), steps.layers(3 * pairs), steps.function_calls()]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--into", type=Path, help="a file for the tables")
    parser.add_argument("--pairs", type=int, default=200, help="of loops for each figure (200)")
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.steps:
        child(given.pairs)
        return
    text = tables(given.pairs)
    if given.into:
        given.into.parent.mkdir(parents=True, exist_ok=True)
        given.into.write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Run the scenarios in full, stock Django beside ours, and print a row of figures for each.

python -m tests.faults.report --only down --variants ours,kept --workers 2 --down 20
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path

from tests.faults import Unavailable
from tests.faults.network import Network
from tests.faults.outcome import Outcome, Play, Scale, table
from tests.faults.scenarios import SCENARIOS, Scenario, silence
from tests.faults.stage import VARIANTS, Stage
from tools.steps import say

DRIVERS = {"psycopg": "psycopg", "psycopg2": "psycopg2"}


def chosen(known: Iterable[str]) -> Callable[[str], list[str]]:
    """For argparse: names of *known*, separated by commas."""
    allowed = list(known)

    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(allowed)}")
        return names

    return parse


def parser() -> argparse.ArgumentParser:
    summary, _, example = (__doc__ or "").strip().partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.report",
        description=summary,
        epilog=f"for example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = {"--only": SCENARIOS, "--variants": VARIANTS, "--drivers": DRIVERS}
    for option, known in names.items():
        help = f"of {', '.join(known)}"
        parser.add_argument(option, type=chosen(known), default=list(known), help=help)
    parser.add_argument("--workers", type=chosen(map(str, range(1, 33))), default=["2", "4"], help="numbers")
    for each in fields(Scale):
        if each.name != "seed":
            parser.add_argument(f"--{each.name}", type=type(each.default), default=each.default, help=" ")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="repeats a run")
    return parser


def outcomes(given: argparse.Namespace, home: Path) -> Iterator[Outcome]:
    """One after the other: at the same time they would disturb each other."""
    scale = Scale(**{each.name: getattr(given, each.name) for each in fields(Scale)})
    for driver, name in product(given.drivers, given.only):
        try:
            yield from _of_scenario(given, home, driver, SCENARIOS[name], scale)
        except Unavailable as missing:
            say(f"{name} is left out: {missing}")


def _of_scenario(
    given: argparse.Namespace, home: Path, driver: str, scenario: Scenario, scale: Scale
) -> Iterator[Outcome]:
    network = Network() if scenario is silence else None
    folder = Path(tempfile.mkdtemp(dir=home))
    folder.chmod(0o755)
    try:
        with Stage(folder, driver, network) as stage:
            for workers, variant in product(given.workers, given.variants):
                say(f"{scenario.__name__}, {driver}, {workers} workers, {VARIANTS[variant].name}")
                yield scenario(Play(stage, VARIANTS[variant], int(workers), scale))
    finally:
        if network:
            network.close()


def main() -> None:
    given = parser().parse_args()
    print(f"{os.cpu_count()} cores, {given.rate:g} requests a second, --seed {given.seed}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="faults"))
    home.chmod(0o755)
    found: list[Outcome] = []
    try:
        for outcome in outcomes(given, home):
            found.append(outcome)
            say("    " + "  ".join(outcome.row()))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(table(found))


if __name__ == "__main__":
    main()

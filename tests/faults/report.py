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
from tests.faults.stage import DEFAULTS, OURS, VARIANTS, Stage
from tools.steps import say

DRIVERS = ["psycopg", "psycopg2"]


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
    choices: dict[str, tuple[list[str], list[str]]] = {
        "only": (list(SCENARIOS), list(SCENARIOS)),
        "variants": (list(VARIANTS), ["ours", "kept"]),
        "drivers": (DRIVERS, DRIVERS),
        "workers": ([str(number) for number in range(1, 33)], ["2", "4"]),
    }
    for name, (known, default) in choices.items():
        help = "how many, such as 2,4" if name == "workers" else f"of {', '.join(known)}"
        parser.add_argument(f"--{name}", type=chosen(known), default=",".join(default), help=help)
    for each in fields(Scale):
        parser.add_argument(
            f"--{each.name}", type=type(each.default), default=each.default, help=each.metadata["help"]
        )
    parser.set_defaults(seed=random.randrange(1_000_000))
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


def main() -> int:
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
    # What stock Django does is for comparison.
    ours = [outcome for outcome in found if outcome.variant in (OURS.name, DEFAULTS.name)]
    return 0 if all(outcome.sound for outcome in ours) else 1


if __name__ == "__main__":
    sys.exit(main())

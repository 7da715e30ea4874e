"""Compare wsgi_persist with what a user would pick instead, on this machine, with real servers.

QUICK=1 or --plan quick: under three minutes. --million: one worker and a million requests beside that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from tests.bench import boundary, counts, endurance, report, tables
from tests.bench.burst import loader
from tests.bench.contests import STARTING, WARM_UP, Runner
from tests.bench.facts import facts
from tests.bench.failures import Harm
from tests.bench.plan import PLANS, Plan, by_stage, rivals_of
from tests.bench.progress import Progress
from tests.bench.results import Results
from tests.bench.stage import Stage, spared
from tests.bench.variants import VARIANTS
from tests.conftest import DRIVER
from tests.faults import Unavailable

ROOT = Path(__file__).parent.parent.parent
# Seconds of one variant's part, as seen on a machine of two cores.
COUNTING, STARTED, FAILING, SILENCE = 4.0, 3.0, 16.0, 60.0
# Of the boundary, for each pair of each round.
PAIR = 0.2


class Run:
    """Each part adds to ``results``; what has been found is kept when a later part fails."""

    def __init__(self, plan: Plan, given: argparse.Namespace) -> None:
        self.plan = plan
        self.million = given.million
        self.progress = Progress(seconds(plan, given.only, given.million))
        self.loader, self.drive = loader()
        self.results = Results({}, given.plan)
        for key, variant in VARIANTS.items():
            if why := variant.missing():
                self.results.missing[key] = why
            elif variant.release:
                self.results.releases[key] = variant.release

    def present(self, keys: tuple[str, ...]) -> list[str]:
        return [key for key in keys if key not in self.results.missing]

    def contests(self) -> None:
        with self._stage() as stage:
            runner = Runner(stage, self.drive, self.plan.burst, self.progress)
            for outcome in runner.run(self.plan.contests):
                self.results.outcomes.append(outcome)

    def counts(self) -> None:
        with self._stage(counts.SETTINGS) as stage:
            counter = counts.Counter(stage, self.drive, self.plan.starts)
            for key in self.present(self.plan.counted):
                self.progress.say(f"one worker, counted: {VARIANTS[key].name}")
                with spared(VARIANTS[key], self.results.missing):
                    self.results.counts[key] = counter.counts(VARIANTS[key])
                self.progress.done(COUNTING + STARTED * self.plan.starts)
        if any(found.system_calls is None for found in self.results.counts.values()):
            self.results.notes.append("system calls: strace is not installed, or may not trace here")

    def failures(self) -> None:
        with Harm() as harm:
            for key in self.present(self.plan.failing):
                self.progress.say(f"failures and leaks: {VARIANTS[key].name}")
                with spared(VARIANTS[key], self.results.missing):
                    self.results.failing[key] = harm.failing(VARIANTS[key])
                self.progress.done(FAILING)
            try:
                self._silence(harm)
            except Unavailable as missing:
                self.results.notes.append(f"silence of the network: {missing}")

    def _silence(self, harm: Harm) -> None:
        for key in self.present(self.plan.silenced):
            self.progress.say(f"silence of the network: {VARIANTS[key].name}")
            with spared(VARIANTS[key], self.results.missing):
                self.results.failing[key].scenarios["silence"] = harm.silenced(VARIANTS[key])
            self.progress.done(SILENCE)

    def boundary(self) -> None:
        self.progress.say("the boundary, without a web server")
        with self._stage() as stage:
            self.results.boundary = boundary.figures(stage.cluster, self.plan.effort)
        self.progress.done(PAIR * self.plan.effort.size)

    def growth(self) -> None:
        if self.million:
            with self._stage() as stage:
                self.results.growth[DRIVER] = endurance.growth(
                    stage, self.drive, DRIVER, self.million, self.progress
                )

    @contextmanager
    def _stage(self, settings: Iterable[str] = ()) -> Iterator[Stage]:
        with Stage(settings) as stage:
            self.results.facts = self.results.facts or facts(stage, self.loader)
            try:
                yield stage
            finally:
                self.results.missing.update(stage.failed)


PARTS: dict[str, Callable[[Run], None]] = {
    "contests": Run.contests,
    "counts": Run.counts,
    "failures": Run.failures,
    "boundary": Run.boundary,
    "growth": Run.growth,
}


def seconds(plan: Plan, parts: Iterable[str], million: int = 0) -> float:
    """About how long these parts take."""
    sites = sum(together[0].starts * (1 + len(rivals_of(together))) for together in by_stage(plan.contests))
    warmed = sum(contest.starts * (1 + len(contest.rivals)) for contest in plan.contests)
    by_part = {
        "contests": plan.seconds + STARTING * sites + WARM_UP * warmed,
        "counts": (COUNTING + STARTED * plan.starts) * len(plan.counted),
        "failures": FAILING * len(plan.failing) + SILENCE * len(plan.silenced),
        "boundary": PAIR * plan.effort.size,
        "growth": endurance.REQUEST * million,
    }
    return sum(by_part.get(part, 0.0) for part in parts)


def _part(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a part: the parts are {', '.join(PARTS)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests: a whole number from 1")
    return int(text)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    default = "quick" if os.environ.get("QUICK") else "full"
    parser.add_argument("--plan", choices=list(PLANS), default=default)
    parser.add_argument("--only", type=_part, default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--burst", type=float, help="seconds of load at a time")
    parser.add_argument("--rounds", type=float, default=1.0, help="times the rounds of the plan")
    parser.add_argument(
        "--million",
        type=_positive,
        nargs="?",
        const=1_000_000,
        default=0,
        metavar="REQUESTS",
        help="to one worker, by the driver in SITE_DRIVER (psycopg); with --only growth nothing else",
    )
    parser.add_argument("--into", type=Path, help="the folder of the results")
    return parser


def planned(given: argparse.Namespace) -> Plan:
    plan = PLANS[given.plan]
    contests = tuple(
        replace(contest, rounds=max(round(contest.rounds * given.rounds), 1)) for contest in plan.contests
    )
    return replace(plan, contests=contests, burst=given.burst or plan.burst)


def main() -> int:
    given = parser().parse_args()
    folder = given.into or ROOT / "bench-results" / datetime.now(timezone.utc).strftime("%Y-%m-%d-%H%M")
    run = Run(planned(given), given)
    status = 0
    try:
        for name in given.only:
            PARTS[name](run)
    except KeyboardInterrupt:
        print("stopped: what was found so far is written", file=sys.stderr)
        status = 130
    finally:
        report.write(run.results, folder)
    print(tables.report(run.results))
    print(f"--> {folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

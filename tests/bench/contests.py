"""Contests: ours and its rivals asked in turn, in short bursts, while all of them run."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.burst import Driver
from tests.bench.plan import PAGES, Contest, by_stage, rivals_of
from tests.bench.progress import Progress
from tests.bench.results import Outcome, Pairs
from tests.bench.stage import Stage, spared
from tests.bench.variants import OURS, VARIANTS
from tools.apache import Apache

# Seconds: of load before the first round, and for a site to start with its workers and to stop.
WARM_UP, STARTING = 0.5, 2.5


class Runner:
    """:param burst: seconds of load at a time."""

    def __init__(self, stage: Stage, drive: Driver, burst: float, progress: Progress) -> None:
        self._stage = stage
        self._drive = drive
        self._burst = burst
        self._progress = progress
        self._draw = random.Random(0)

    def run(self, contests: Sequence[Contest]) -> Iterator[Outcome]:
        for together in by_stage(contests):
            if together[0].starts > 1:
                yield self._started_anew(together[0])
                continue
            yield from self._of_stage(together)

    def _started_anew(self, contest: Contest) -> Outcome:
        outcome = Outcome(contest, {})
        for _ in range(contest.starts):
            for once in self._of_stage([contest]):
                outcome.add_start(once)
        return outcome

    def _of_stage(self, contests: list[Contest]) -> Iterator[Outcome]:
        first = contests[0]
        left_out = self._stage.failed
        present = [
            VARIANTS[key]
            for key in rivals_of(contests)
            if key not in left_out and not VARIANTS[key].missing()
        ]
        address = self._stage.address(first.transport)
        self._progress.say(f"{len(present) + 1} sites, {first.transport}, {first.workers} workers each")
        variants = [OURS.given(first.given), *present]
        self._draw.shuffle(variants)
        with self._stage.sites(variants, address, first.driver, first.workers, first.aliases) as sites:
            self._progress.done(STARTING * len(sites))
            for contest in contests:
                yield self._contest(contest, sites)

    def _contest(self, contest: Contest, sites: Mapping[str, Apache]) -> Outcome:
        rivals = self._warm(contest, sites)
        self._progress.done(WARM_UP * (1 + len(rivals)))
        outcome = Outcome(contest, {key: Pairs() for key in rivals})
        for number in range(contest.rounds):
            self._progress.say(f"{contest.name}: round {number + 1} of {contest.rounds}")
            self._round(outcome, sites, rivals)
            self._progress.done(contest.bursts / contest.starts / contest.rounds * self._burst)
        if contest.transport == "far" and self._stage.proxy is not None:
            outcome.round_trip = self._stage.proxy.round_trip()
        return outcome

    def _warm(self, contest: Contest, sites: Mapping[str, Apache]) -> list[str]:
        """The rivals that answer."""
        answering = []
        for key in (OURS.key, *contest.rivals):
            if key in sites:
                with spared(VARIANTS[key], self._stage.failed):
                    url = self._url(sites[key], contest)
                    if not self._drive(url, 2 * contest.workers, WARM_UP).requests:
                        raise RuntimeError(f"it answers no page of: {contest.name}")
                    answering.append(key)
        return answering[1:]

    def _round(self, outcome: Outcome, sites: Mapping[str, Apache], rivals: Sequence[str]) -> None:
        """Ours stands between two rivals, so that each has a burst of ours right beside its own: as often
        before it as after it, or what comes first would gain or lose by that."""
        turns = [*rivals, *[""] * (len(rivals) % 2)]
        self._draw.shuffle(turns)
        for before, after in zip(turns[::2], turns[1::2], strict=True):
            rates = {key: self._one(outcome, sites, key) for key in (before, OURS.key, after) if key}
            ours = rates.pop(OURS.key)
            for key, rate in rates.items():
                outcome.pairs[key].add(ours, rate)

    def _one(self, outcome: Outcome, sites: Mapping[str, Apache], key: str) -> float:
        contest = outcome.contest
        burst = self._drive(self._url(sites[key], contest), 2 * contest.workers, self._burst)
        if burst.errors:
            self._progress.say(f"{VARIANTS[key].name}: {burst.trouble}")
        if key == OURS.key:
            outcome.errors += burst.errors
        else:
            outcome.pairs[key].errors += burst.errors
        return burst.rate

    @staticmethod
    def _url(apache: Apache, contest: Contest) -> str:
        return apache.url + PAGES[contest.page]

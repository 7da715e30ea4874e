"""Who is asked when, and what is compared with what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.bench.burst import Burst
from tests.bench.contests import Runner
from tests.bench.plan import Contest
from tests.bench.progress import Progress
from tests.bench.results import Outcome

NAMES = "stock", "kept", "checked", "pool", "pool-checked", "global"


class Told:
    """A driver that says which site it was sent to, and how often any site was asked before."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, url: str, clients: int, seconds: float) -> Burst:
        self.asked.append(url.partition("/")[0])
        return Burst(float(len(self.asked)), 1, 0)


def contest(rivals: tuple[str, ...], rounds: int) -> tuple[Outcome, list[str]]:
    told = Told()
    runner = Runner(cast(Any, SimpleNamespace(proxy=None, failed={})), told, 0.1, Progress(1.0))
    sites = {key: SimpleNamespace(url=key) for key in ("ours", *rivals)}
    wanted = Contest("none", "socket", "psycopg", 1, 1, rounds, rivals)
    outcome = runner._contest(wanted, cast(Any, sites))
    return outcome, told.asked[len(sites) :]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_rival_is_asked_right_beside_ours_once_a_round(count: int) -> None:
    rivals = NAMES[:count]
    outcome, asked = contest(rivals, 7)
    assert len(asked) == outcome.contest.bursts
    for rival in rivals:
        pairs = outcome.pairs[rival]
        assert len(pairs.ours) == 7
        assert all(abs(ours - theirs) == 1 for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_rival_is_always_asked_first(count: int) -> None:
    outcome, _ = contest(NAMES[:count], 200)
    for pairs in outcome.pairs.values():
        first = sum(theirs < ours for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True))
        assert 50 < first < 150

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


def contest(rivals: tuple[str, ...], rounds: int) -> tuple[Outcome, list[str]]:
    """What it finds, where each burst's rate is its number, and which sites the bursts went to."""
    asked: list[str] = []

    def drive(url: str, clients: int, seconds: float) -> Burst:
        asked.append(url.partition("/")[0])
        return Burst(len(asked) - 1.0, 1, 0)

    runner = Runner(cast(Any, SimpleNamespace(proxy=None, failed={})), drive, 0.1, Progress(1.0))
    sites = {key: SimpleNamespace(url=key) for key in ("ours", *rivals)}
    wanted = Contest("none", "socket", "psycopg", 1, 1, rounds, rivals)
    outcome = runner._contest(wanted, cast(Any, sites))
    return outcome, asked


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_rival_is_asked_right_beside_ours_once_a_round(count: int) -> None:
    rivals = NAMES[:count]
    outcome, asked = contest(rivals, 7)
    assert len(asked) == 1 + count + outcome.contest.bursts  # each has one to warm up
    for rival in rivals:
        pairs = outcome.pairs[rival]
        assert [asked[int(burst)] for burst in pairs.theirs] == [rival] * 7
        assert [asked[int(burst)] for burst in pairs.ours] == ["ours"] * 7
        assert all(abs(ours - theirs) == 1 for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_no_rival_is_always_asked_first(count: int) -> None:
    outcome, _ = contest(NAMES[:count], 200)
    for pairs in outcome.pairs.values():
        first = sum(theirs < ours for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True))
        assert 50 < first < 150

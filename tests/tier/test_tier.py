"""The shorter part: what an operator does to a cluster and a pooler on purpose fails no page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType

import pytest

from tests.conftest import DRIVER, or_skip
from tests.tier.events import EVENTS
from tests.tier.play import Play
from tests.tier.report import sites, tier

RATE = 15.0

pytestmark = [pytest.mark.postgres, pytest.mark.apache]


@pytest.fixture(scope="module")
def play(driver: ModuleType) -> Iterator[Play]:
    with or_skip(), ExitStack() as stack:
        ready = stack.enter_context(tier())
        every = sites(ready, DRIVER, stack, ["ours"], ["hosts", "pooler"])
        yield Play(ready, every, driver, RATE)


@pytest.mark.parametrize("event", ["switchover", "pooler-reconnects", "pooler-paused"])
def test_no_page_fails_and_each_write_is_done_once(event: str, play: Play) -> None:
    for outcome in play(event, EVENTS[event]):
        said = " ".join(outcome.row())
        assert set(outcome.results.kinds()) == {"200"}, said
        assert outcome.verdict.balanced, said
        assert outcome.verdict.committed > 0, said


def test_poolers_restart_fails_no_page_that_reads(play: Play) -> None:
    """A write that is on its way may be known to nobody."""
    for outcome in play("pooler-restarted", EVENTS["pooler-restarted"]):
        said = " ".join(outcome.row())
        assert outcome.failed_reads == 0, said
        assert set(outcome.results.kinds()) <= {"200", "503"}, said
        assert outcome.verdict.balanced, said


def test_a_leader_that_dies_is_followed(play: Play) -> None:
    """What was answered with 200 is there, whoever leads now; the rest is honest."""
    before = play.tier.cluster.lead().name
    for outcome in play("leader-killed", EVENTS["leader-killed"]):
        said = " ".join(outcome.row())
        assert set(outcome.results.kinds()) <= {"200", "503", "503+"}, said
        assert outcome.verdict.balanced, said
    assert play.tier.cluster.lead().name != before

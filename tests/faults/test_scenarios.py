"""The scenarios, short: what a site on wsgi_persist promises its visitors while its database is harmed."""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DRIVER
from tests.faults.faults import wait_for
from tests.faults.network import Network
from tests.faults.outcome import Outcome, Play, Scale
from tests.faults.pages import NO_QUERY, READ, READ_SLOWLY, WRITE, WRITE_ATOMIC
from tests.faults.promotion import promotion_async, promotion_sync
from tests.faults.scenarios import (
    Scenario,
    down,
    kills_under_forms,
    random_faults,
    restarts_under_forms,
    restarts_under_reads,
    restarts_under_writes,
    silence,
    terminations_under_forms,
    terminations_under_reads,
    terminations_under_writes,
)
from tests.faults.stage import ALL, OURS, Stage, Variant
from tests.http import get

# FAULT_SEED repeats the random faults of a run that failed; its notes name the seed.
SEED = int(os.environ.get("FAULT_SEED") or random.randrange(1_000_000))
SHORT = Scale(
    rate=60, restarts=2, pause=1, terminating=3, down=8, around=1.5, silence=16, rounds=12, seed=SEED
)
DONE, REFUSED, UNKNOWN = "200", "503+", "503"

pytestmark = [pytest.mark.postgres, pytest.mark.apache]


@pytest.fixture(scope="module")
def stage(root: Path) -> Iterator[Stage]:
    with Stage(root, DRIVER) as stage:
        yield stage


@pytest.fixture
def play(stage: Stage) -> Play:
    return Play(stage, OURS, 2, SHORT)


def require_sound(outcome: Outcome, *allowed: str) -> None:
    """Only answers of these kinds, books that balance, and no worker or session gone astray."""
    said = "\n".join([" ".join(outcome.row()), *outcome.notes, outcome.results.table()])
    assert outcome.results.of(READ, WRITE, WRITE_ATOMIC).answers, said
    assert outcome.results.kinds()[DONE] > 0, said
    assert set(outcome.results.kinds()) <= set(allowed), said
    assert outcome.sound, said


def test_restarts_fail_no_page_that_reads(play: Play) -> None:
    require_sound(restarts_under_reads(play), DONE)


def test_terminations_fail_no_page_that_reads(play: Play) -> None:
    require_sound(terminations_under_reads(play), DONE)


def test_restarts_lose_and_double_no_write(play: Play) -> None:
    require_sound(restarts_under_writes(play), DONE, REFUSED, UNKNOWN)


def test_terminations_lose_and_double_no_write(play: Play) -> None:
    require_sound(terminations_under_writes(play), DONE, REFUSED, UNKNOWN)


# Forms are posted to a view that is a transaction: nothing of them stays unknown.


@pytest.mark.parametrize("scenario", [restarts_under_forms, terminations_under_forms, kills_under_forms])
def test_fate_of_every_form_is_known(scenario: Scenario, stage: Stage) -> None:
    require_sound(scenario(Play(stage, OURS, 2, SHORT)), DONE, REFUSED)


@pytest.mark.parametrize("scenario", [restarts_under_forms, kills_under_forms])
def test_no_form_fails_where_requests_may_be_run_again(scenario: Scenario, stage: Stage) -> None:
    require_sound(scenario(Play(stage, ALL, 2, SHORT)), DONE)


@pytest.mark.parametrize("variant", [OURS, ALL], ids=["defaults", "all"])
@pytest.mark.parametrize("scenario", [promotion_sync, promotion_async])
def test_standby_that_takes_over_is_believed_nothing_of_the_past(
    scenario: Scenario, variant: Variant, root: Path, request: pytest.FixtureRequest
) -> None:
    with Stage(root / request.node.callspec.id, DRIVER) as stage:
        require_sound(scenario(Play(stage, variant, 2, SHORT)), DONE, REFUSED, UNKNOWN)


def test_long_outage_is_said_to_visitors_and_spares_pages_without_a_query(play: Play) -> None:
    outcome = down(play)
    require_sound(outcome, DONE, REFUSED)
    assert outcome.results.kinds()[REFUSED] > 0
    assert set(outcome.results.of(NO_QUERY).kinds()) == {DONE}
    # One that tries for every page would not give the server a chance to come up.
    assert outcome.attempts < outcome.results.of(READ).kinds()[REFUSED] / 2


def test_silence_is_answered_and_gone_with_its_cause(network: Network, root: Path) -> None:
    with Stage(root, DRIVER, network) as stage:
        outcome = silence(Play(stage, OURS, 2, SHORT))
    require_sound(outcome, DONE, REFUSED)
    assert len(outcome.recoveries) == 2
    assert math.inf not in outcome.recoveries


def test_silence_leaves_the_other_workers_to_pages_without_a_query(network: Network, root: Path) -> None:
    answers: list[int] = []
    with Stage(root, DRIVER, network) as stage, stage.site(OURS, 2) as apache:
        page = f"{READ_SLOWLY}?seconds=0.5"
        visitor = threading.Thread(target=lambda: answers.append(get(apache.port, page).status))
        visitor.start()
        wait_for(lambda: stage.faults.busy() > 0)
        network.down()
        for _ in range(50):
            assert get(apache.port, NO_QUERY).status == 200
        assert answers == []
        visitor.join()
        network.up()
    assert answers == [503]


def test_random_faults_lose_and_double_no_write(play: Play) -> None:
    """Workers are killed, too, whose visitors Apache tells so."""
    require_sound(random_faults(play), DONE, REFUSED, UNKNOWN, "500", "502", "none")

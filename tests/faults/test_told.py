"""That a worker which tells something else than its log and its visitors is found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.results import Answer, Request, Results
from tests.faults.told import differences
from tests.page.scenes import Scene
from wsgi_persist.status import Counters
from wsgi_persist.status.site import read_site

# A scene's workers have this process's pid.
ME = os.getpid()
LOG = """\
[pid 7:tid 9] INFO pin 'default': closed backend 5 after 1 leases: lost during SQL
[pid 7:tid 9] INFO pin 'default': closed backend 6 after 1 leases: older than 1 s
[pid 7:tid 9] WARNING GET '/' is answered 503: its connection was lost
""".replace("pid 7", f"pid {ME}")
TRUE = Counters(lost={"in_request": 1}, closed={"max_age": 1}, answered_503=1)
ANSWERED = Results([Answer(Request("/"), 0.0, 0.1, status=503, retry_after="2")])


def said(scene: Scene, counters: Counters, log: str = LOG, results: Results = ANSWERED) -> list[str]:
    scene.worker("shop", 7, counters=counters, dead=True, stopped="SIGTERM")
    return differences(read_site(scene.folder / "shop"), log, results)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, 1_000_000.0)


def test_truth_is_no_difference(scene: Scene) -> None:
    assert said(scene, TRUE) == []


def test_too_little_and_too_much(scene: Scene) -> None:
    assert said(scene, Counters(lost={"in_request": 1, "no_answer": 1})) == [
        f"worker {ME} told of 2 connections lost, and logged 1",
        f"worker {ME} told of 0 answered 503, and logged 1",
        "the workers told of 0 answers 503, and visitors saw 1",
    ]


def test_visitors_who_saw_nothing(scene: Scene) -> None:
    assert said(scene, TRUE, results=Results()) == ["the workers told of 1 answers 503, and visitors saw 0"]


def test_answer_that_was_lost_on_its_way(scene: Scene) -> None:
    assert said(scene, TRUE, results=Results([Answer(Request("/"), 0.0, 60.0, error="timed out")])) == []


def test_worker_without_a_file(scene: Scene) -> None:
    log = LOG + LOG.replace(f"pid {ME}", "pid 8")
    assert any("worker 8 told nothing" in line for line in said(scene, TRUE, log))

"""What is computed from a run's figures, on paper."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.nodes import table as table_node

from tests.bench import scaling
from tests.bench.plan import Contest
from tests.bench.results import Counts, Outcome, Pairs, Results
from tests.bench.scaling import MIB, Assumed, Measured, Site

COUNTS = Counts("psycopg", 3.0, 3.0, 100, 0, 1, 40 * MIB, 50 * MIB, 2 * MIB, 37.0, [11.0], 0)
ASSUMED = Assumed()


def outcome(rate: float, workers: int = 2, page: str = "three", aliases: int = 1) -> Outcome:
    contest = Contest(page, "socket", "psycopg", workers, aliases, 1, ("kept",))
    return Outcome(contest, {"kept": Pairs([rate], [rate])})


@pytest.fixture
def results() -> Results:
    outcomes = [outcome(900.0, 1), outcome(1200.0), outcome(5000.0, page="none"), outcome(99.0, aliases=4)]
    return Results({"Machine": "2 cores, a processor"}, "full", outcomes=outcomes, counts={"ours": COUNTS})


def test_rate_is_the_best_of_the_page_for_each_core(results: Results) -> None:
    assert scaling.measured(results) == Measured(600.0, 40 * MIB, 2 * MIB)


@pytest.mark.parametrize(("memory", "processes"), [(4 << 30, 9), (400 * MIB, 5)])
def test_processes_fit_into_half_of_the_memory(results: Results, memory: int, processes: int) -> None:
    found = scaling.measured(results)
    assert scaling.processes(found, replace(ASSUMED, memory=memory)) == processes


@pytest.mark.parametrize(
    ("hosts", "given", "way"),
    [
        (8, {}, "direct"),
        # 72 and 9 while a host restarts are 81: with 16 others as many as there are, and one too many.
        (8, {"others": 16}, "direct"),
        (8, {"others": 17}, "direct, max_connections=150"),
        # Of 256 connections 64 are busy, as many as 16 cores take.
        (28, {}, "direct, max_connections=300"),
        (29, {}, "PgBouncer, transaction mode, default_pool_size=48, max_client_conn=300"),
        (29, {"database_cores": 32}, "direct, max_connections=300"),
        (16, {"aliases": 2}, "PgBouncer, transaction mode, default_pool_size=48, max_client_conn=400"),
        (16, {"threads": 2}, "PgBouncer, transaction mode, default_pool_size=48, max_client_conn=400"),
    ],
)
def test_way_to_postgresql(hosts: int, given: dict[str, int], way: str) -> None:
    assert Site(hosts, 9, replace(ASSUMED, **given)).way == way


def test_rows(results: Results) -> None:
    text = scaling.report(results)
    rows = {line.split()[0]: line.split()[1:7] for line in text.splitlines() if line[:1].isdigit()}
    assert rows["1"] == ["9", "9", "2", "2,400", "9", "18"]
    assert rows["32"] == ["288", "288", "72", "76,800", "48", "96"], "the pool's sessions, not the workers'"
    assert list(rows) == [str(hosts) for hosts in scaling.HOSTS]
    assert "Provisional" not in text


def test_what_was_not_measured_is_left_open(results: Results) -> None:
    text = scaling.report(Results({}, "quick"))
    (row,) = (line.split() for line in text.splitlines() if line.startswith("1 "))
    assert row == ["1", "9", "9", "2", "-", "9", "-", "direct"]
    assert "**Provisional**" in text
    assert "nothing that this table is made of" in text


def test_report_is_restructured_text(results: Results) -> None:
    document = publish_doctree(scaling.report(results), settings_overrides={"halt_level": 1})
    assert len(list(document.findall(table_node))) == 1


def test_settings_of_the_manual_are_those_of_the_last_row() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "scaling.rst").read_text()
    wanted = re.findall(r"\w+=\d+", Site(scaling.HOSTS[-1], 9, ASSUMED).way)
    given = [line.strip().replace(" ", "") for line in page.splitlines()]
    assert len(wanted) == 2
    assert set(wanted) <= set(given)

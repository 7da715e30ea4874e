"""What is written about a run's figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from docutils.core import publish_doctree
from docutils.nodes import table as table_node

from tests.bench import __main__ as bench
from tests.bench import report, tables
from tests.bench.boundary import CALLS, EIGHT_PINS, FLATNESS, LEASED, ONE_PIN
from tests.bench.burst import Burst, parse
from tests.bench.plan import FULL, PAGES, PLANS, SHORT, Contest, Plan, by_stage, rivals_of
from tests.bench.progress import span
from tests.bench.results import (
    BACKEND,
    BLOCKS,
    FILES,
    OBJECTS,
    RSS,
    THREADS,
    Counts,
    Failing,
    Growth,
    Outcome,
    Pairs,
    Results,
    read,
)
from tests.bench.rst import table
from tests.bench.stage import spared
from tests.bench.statements import CHANGED
from tests.bench.targets import MOST, verdicts
from tests.bench.variants import VARIANTS

CONTEST = Contest("three", "socket", "psycopg", 2, 1, 2, ("stock", "kept", "retry"))
COUNTS = Counts(
    driver="psycopg",
    statements=3.0,
    round_trips=3.0,
    requests=100,
    opened=0,
    open=1,
    pss=40 << 20,
    rss=50 << 20,
    backend=4 << 20,
    system_calls=37.0,
    first_page=[11.0, 12.0, 30.0],
    first_opened=0,
)

BEFORE = {OBJECTS: 60_000, BLOCKS: 240_000, FILES: 12, THREADS: 5, RSS: 58 << 20, BACKEND: 2 << 20}
GROWN = Growth(1_100, 1_000_000, 0, BEFORE, {**BEFORE, OBJECTS: 60_003}, {"builtins.dict": 3}, True)


@pytest.fixture
def results() -> Results:
    pairs = {"stock": Pairs([60.0, 66.0], [10.0, 11.0]), "kept": Pairs([60.0, 66.0], [60.0, 60.0], errors=3)}
    far = replace(CONTEST, transport="far", rivals=("stock", "checked"))
    far_pairs = {"stock": Pairs([30.0], [10.0]), "checked": Pairs([30.0], [25.0])}
    return Results(
        facts={"Date": "2026-01-02"},
        plan="full",
        missing={"retry": "it could not be installed"},
        releases={"reconnect": "django-postgresql-reconnect 1.2.0"},
        outcomes=[Outcome(CONTEST, pairs), Outcome(far, far_pairs, round_trip=0.00111)],
        counts={"ours": COUNTS, "stock": replace(COUNTS, pss=39 << 20, opened=100, system_calls=None)},
        failing={"ours": Failing("psycopg", {"restarts": (100, 2, 0.31)}, ["SET", "role"])},
        boundary={"psycopg": {ONE_PIN: 4.0, EIGHT_PINS: 4.4, LEASED: 9.0, FLATNESS: 1.1}, "any": {}},
        growth={"psycopg": GROWN},
    )


def test_table_of_plain_cells() -> None:
    assert table(("", "a"), [("one", ""), ("three", "12")]).splitlines() == [
        "=====  ==",
        "-      a",
        "=====  ==",
        "one    -",
        "three  12",
        "=====  ==",
    ]


def test_report_is_restructured_text(results: Results) -> None:
    said: list[str] = []
    settings = {"report_level": 1, "halt_level": 5, "warning_stream": _Into(said)}
    document = publish_doctree(tables.report(results), settings_overrides=settings)
    assert said == []
    assert len(list(document.findall(table_node))) == 8


class _Into:
    def __init__(self, said: list[str]) -> None:
        self.write = said.append


def test_rival_has_its_ratio_and_its_errors(results: Results) -> None:
    text = tables.contest(results.outcomes[0])[1]
    (kept,) = (line for line in text.splitlines() if "unchecked" in line)
    assert kept.split("  ")[-1].strip() == "3"
    assert "1.050 (1.025-1.075)" in kept


def test_true_round_trip_is_told(results: Results) -> None:
    assert "1.11 ms" in tables.contest(results.outcomes[1])[0]


def test_who_was_not_measured_is_named_with_the_reason(results: Results) -> None:
    assert "django-dbconn-retry: it could not be installed" in tables.report(results)


def test_targets_are_met_or_missed(results: Results) -> None:
    results.growth = {}
    found = {verdict.what: verdict.met for verdict in verdicts(results)}
    assert found == {
        "three SELECTs, Unix socket: against CONN_MAX_AGE=0": True,
        "three SELECTs, TCP, 1 ms round trip: against CONN_HEALTH_CHECKS": True,
        "three SELECTs, Unix socket: against the nearest that validates": True,
        "three SELECTs, TCP, 1 ms round trip: against the nearest that validates": True,
        "the boundary, psycopg": True,
        "8 pins against 1, psycopg": True,
        "statements a request, of which the page's own are 3": True,
        "connections opened in 100 requests": True,
        "connections opened by a worker's first page": True,
        "memory of a worker beyond stock": True,
    }


@pytest.mark.parametrize(
    ("what", "worse"),
    [
        ("three SELECTs, Unix socket: against CONN_MAX_AGE=0", {"stock": Pairs([49.0], [10.0])}),
        ("three SELECTs, Unix socket: against the nearest that validates", {"stock": Pairs([9.0], [10.0])}),
    ],
)
def test_missed_ratio(results: Results, what: str, worse: dict[str, Pairs]) -> None:
    results.outcomes[0].pairs = worse
    (verdict,) = (each for each in verdicts(results) if each.what == what)
    assert not verdict.met
    assert "**missed**" in verdict.row()


def test_missed_counts(results: Results) -> None:
    results.boundary = {"any": {CALLS.format(1): 2.0, CHANGED.format("a literal"): 6.0}}
    results.counts["ours"] = replace(COUNTS, statements=4.0, opened=1, first_opened=1, pss=42 << 20)
    missed = [verdict.what for verdict in verdicts(results) if not verdict.met]
    assert len(missed) == 6


def test_growth_is_told_by_type(results: Results) -> None:
    text = tables.report(results)
    assert "after 1,100 and after 1,000,000 requests, of which 0 failed; the same backend" in text
    assert "builtins.dict +3" in text


@pytest.mark.parametrize(("what", "most"), MOST.items())
def test_growth_beyond_its_tolerance_is_missed(results: Results, what: str, most: int) -> None:
    for by, met in ((most, True), (most + 1, False)):
        after = {**BEFORE, what: BEFORE[what] + by}
        results.growth = {"psycopg": replace(GROWN, after=after)}
        (verdict,) = (each for each in verdicts(results) if each.what.startswith(f"growth of {what},"))
        assert verdict.met is met


def test_requests_that_failed_are_missed(results: Results) -> None:
    results.growth = {"psycopg": replace(GROWN, errors=1)}
    (missed,) = (each for each in verdicts(results) if not each.met)
    assert missed.what.startswith("requests that failed")


def test_ours_in_another_scope_is_no_rival(results: Results) -> None:
    results.outcomes[0].pairs = {"ours-thread": Pairs([9.0], [10.0]), "stock": Pairs([20.0], [10.0])}
    (nearest,) = (
        each for each in verdicts(results) if each.what.startswith("three SELECTs, Unix socket: against the")
    )
    assert nearest.met


def test_figures_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    again = read(tmp_path / "results.json")
    assert again.outcomes == results.outcomes
    assert again.counts == results.counts
    assert again.growth == results.growth
    assert tables.report(again) == tables.report(results)


def test_folder_of_a_run(results: Results, tmp_path: Path) -> None:
    report.write(results, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"results.json", "benchmark.rst", "overview.rst", "readme.rst", "scaling.rst"} <= names
    assert json.loads((tmp_path / "run" / "results.json").read_text())["plan"] == "full"


def test_charts(results: Results, tmp_path: Path) -> None:
    from tests.bench import charts

    results.outcomes[0].pairs["checked"] = Pairs([60.0], [50.0])
    results.outcomes[1].pairs["kept"] = Pairs([60.0], [50.0])
    assert charts.draw(results, tmp_path) == ["rivals", "transports"]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in ("rivals", "transports") for kind in charts.KINDS
    }
    assert "<svg" in (tmp_path / "rivals.svg").read_text()


SAID = """\
Running 10m test @ http://127.0.0.1:8000/
  1 threads and 4 connections
  617 requests in 0.50s, 100.00KB read
{}Requests/sec:   1234.00
Transfer/sec:    200.00KB
"""


@pytest.mark.parametrize(
    ("trouble", "burst"),
    [
        ("", Burst(1234.0, 617, 0)),
        ("  Non-2xx or 3xx responses: 617\n", Burst(0.0, 0, 617, "Non-2xx or 3xx responses: 617")),
        (
            "  Socket errors: connect 1, read 2, write 0, timeout 3\n",
            Burst(1234.0, 617, 6, "Socket errors: connect 1, read 2, write 0, timeout 3"),
        ),
    ],
)
def test_what_wrk_says(trouble: str, burst: Burst) -> None:
    assert parse(SAID.format(trouble)) == burst


def test_time_is_that_of_the_parts_chosen() -> None:
    plan = PLANS["full"]
    assert bench.seconds(plan, ["growth"]) == 0
    assert bench.seconds(plan, ["growth"], 1_000_000) > 60
    assert bench.seconds(plan, bench.PARTS) > bench.seconds(plan, ["contests"]) > plan.seconds


@pytest.mark.parametrize(("seconds", "said"), [(7.2, "7 s"), (89, "89 s"), (90, "2 min"), (1500, "25 min")])
def test_time_that_is_left(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_wrk_that_says_nothing_has_not_measured_zero() -> None:
    with pytest.raises(ValueError, match="measured nothing"):
        parse("")


@pytest.mark.parametrize("contest", [*FULL, *SHORT], ids=lambda contest: contest.name)
def test_contest_is_of_what_there_is(contest: Contest) -> None:
    assert contest.page in PAGES
    assert contest.rivals
    for key in contest.rivals:
        assert contest.driver in VARIANTS[key].drivers, key


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plan_counts_and_harms_what_there_is(plan: Plan) -> None:
    assert {*plan.counted, *plan.failing, *plan.silenced} <= set(VARIANTS)
    assert set(plan.silenced) <= set(plan.failing)


def test_rounds_and_bursts_are_chosen() -> None:
    given = bench.parser().parse_args(["--plan", "quick", "--rounds", "0.1", "--burst", "0.2"])
    plan = bench.planned(given)
    assert plan.burst == 0.2
    assert {contest.rounds for contest in plan.contests} == {1}


def test_rival_that_fails_is_left_out_with_the_reason() -> None:
    failed: dict[str, str] = {}
    with spared(VARIANTS["pool"], failed):
        raise RuntimeError("nobody reads /home/somebody/project: 500; the end of its log:\nmuch")
    assert failed == {"pool": "nobody reads ... 500"}


def test_ours_that_fails_ends_the_run() -> None:
    with pytest.raises(RuntimeError), spared(VARIANTS["ours"], {}):
        raise RuntimeError("the site answers 500")


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_number_of_requests_that_is_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parser().parse_args([f"--million={given}"])
    assert f"{given!r} is not a number of requests" in capsys.readouterr().err


def test_sites_of_a_stage_are_started_once() -> None:
    first, second = FULL[:2]
    assert by_stage(FULL)[0][:2] == [first, second]
    assert rivals_of([first, second]) == list(first.rivals)
    alone = replace(PLANS["full"], contests=(first,))
    both = replace(alone, contests=(first, second))
    longer = bench.seconds(both, ["contests"]) - bench.seconds(alone, ["contests"])
    warming = bench.WARM_UP * (1 + len(second.rivals))
    assert longer == pytest.approx(both.seconds - alone.seconds + warming)


def test_part_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parser().parse_args(["--only", "contests,nonsense"])
    assert "'nonsense' is not a part: the parts are contests, counts" in capsys.readouterr().err


def test_start_of_the_sites_is_one_pair() -> None:
    whole = Outcome(CONTEST, {})
    for ours, theirs in (([90, 110, 100], [100, 120, 80]), ([50.0], [100.0])):
        whole.add_start(Outcome(CONTEST, {"kept": Pairs(list(ours), list(theirs), errors=1)}, errors=2))
    assert whole.pairs["kept"] == Pairs([100, 50], [100, 100], errors=2)
    assert whole.errors == 4


def test_readme_has_the_figures_of_the_manual() -> None:
    root = Path(__file__).parent.parent.parent
    assert tables.short(read(root / "docs/figures/results.json")) in (root / "README.rst").read_text()

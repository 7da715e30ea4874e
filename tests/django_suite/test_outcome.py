"""The comparison itself: a wrong one would be green for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.django_suite.outcome import BY_NAME, IN_REQUESTS_OTHERWISE, Difference, Result, differences, read
from tests.django_suite.report import report


def result(engine: str, **outcomes: str) -> Result:
    made = Result(engine, {}, 1.0)
    for test, outcome in outcomes.items():
        made.note(test, outcome, "")
    return made


@pytest.mark.parametrize(
    ("ours", "stock", "is_failure"),
    [
        ("failed", "passed", True),
        ("error", "skipped", True),
        ("unexpected success", "expected failure", True),
        ("skipped", "passed", True),
        ("skipped", "expected failure", True),
        ("error", "failed", False),
        ("passed", "failed", False),
        ("skipped", "error", False),
        ("passed", "skipped", False),
    ],
)
def test_that_which_differences_are_failures_is_decided_by_ours(
    ours: str, stock: str, is_failure: bool
) -> None:
    (found,) = differences(result("ours", a=ours, b="passed"), result("stock", a=stock, b="passed"))
    assert (found.test, found.is_failure) == ("a", is_failure)


@pytest.mark.parametrize("test", sorted(BY_NAME))
def test_that_only_skipping_is_forgiven_to_a_test_that_asks_for_the_name(test: str) -> None:
    assert not Difference(test, "skipped", "passed").is_failure
    assert Difference(test, "failed", "passed").is_failure


def test_that_a_test_that_did_not_run_on_ours_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    ours, stock = result("ours", a="passed"), result("stock", a="passed", b="failed")
    assert not report([ours, stock], at_least=1)
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 1 failed"


def test_that_what_fails_on_both_is_told_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = {"a": "passed", "b": "failed", "c": "skipped"}
    assert report([result("ours", **outcomes), result("stock", **outcomes)], at_least=3)
    told = capsys.readouterr().out.splitlines()
    assert "Fails on both engines: 1" in told
    assert told[-1] == "1 passed, 0 failed"


def test_that_too_few_tests_or_none_that_passed_are_a_failure() -> None:
    assert not report([result("ours", a="passed"), result("stock", a="passed")], at_least=2)
    assert not report([result("ours", a="error"), result("stock", a="error")], at_least=1)
    assert not report([result("ours"), result("stock")], at_least=0)


def test_that_one_engine_alone_is_judged_by_its_own_failures() -> None:
    assert report([result("stock", a="passed", b="skipped")], at_least=1)
    assert not report([result("stock", a="passed", b="error")], at_least=1)


def test_that_of_several_outcomes_of_a_test_the_worst_counts() -> None:
    made = result("ours", a="failed")
    made.note("a", "skipped", "a subtest")
    made.note("a", "passed", "")
    assert made.outcomes == {"a": "failed"}


def test_that_records_without_an_end_are_no_result(tmp_path: Path) -> None:
    records = tmp_path / "records"
    lines = [{"total": 1}, {"id": "a", "outcome": "passed", "detail": ""}, {"seconds": 2.0}]
    for count, is_result in ((0, False), (1, False), (2, False), (3, True)):
        records.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))
        assert (read("ours", records) is not None) == is_result


def test_that_pins_have_to_be_taken_inside_requests() -> None:
    stock, ours = result("stock", a="passed"), result("folded", a="passed")
    ours.facts["leases"] = 0
    assert not report([stock, ours], at_least=1)
    ours.facts["leases"] = 1
    assert report([stock, ours], at_least=1)


def test_that_what_differs_by_design_inside_requests_counts_elsewhere() -> None:
    (test, *_) = sorted(IN_REQUESTS_OTHERWISE)
    stock, ours = Result("stock", {}, 1.0), Result("folded", {}, 1.0)
    stock.note(test, "passed", "")
    ours.note(test, "failed", "")
    assert differences(ours, stock)[0].is_failure
    ours.facts["leases"] = 1
    assert not differences(ours, stock)[0].is_failure

"""How the tests went on each engine, and where the engines differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# From best to worst: a test with several outcomes (subtests) has its worst.
OUTCOMES = ("passed", "expected failure", "skipped", "unexpected success", "failed", "error")
GOOD = ("passed", "expected failure")
BAD = ("unexpected success", "failed", "error")
MISSING = "missing"
# Skip themselves under an ENGINE whose name is not among Django's own, to which GDAL has a driver.
BY_NAME = {"gis_tests.inspectapp.tests.OGRInspectTest.test_time_field"}
# Inside a request the connection is checked without is_usable(), which these replace to see it asked.
_HEALTH = "backends.base.test_base.ConnectionHealthChecksTests"
IN_REQUESTS_OTHERWISE = {
    f"{_HEALTH}.test_health_checks_enabled",
    f"{_HEALTH}.test_set_autocommit_health_checks_enabled",
}


@dataclass
class Result:
    """One engine's run, by test id."""

    engine: str
    facts: dict[str, Any]
    seconds: float
    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def leases(self) -> int | None:
        """How often a test took a pin, where they ran inside requests."""
        return self.facts.get("leases")

    @property
    def cuts(self) -> int | None:
        """How often its connection was ended, where it was."""
        return self.facts.get("cuts")

    @property
    def ran(self) -> int:
        # Not unittest's testsRun, which leaves out the skipped ones in some Pythons (3.12.1).
        return len(self.outcomes)

    def note(self, test: str, outcome: str, detail: str) -> None:
        before = self.outcomes.get(test)
        if before is None or OUTCOMES.index(outcome) >= OUTCOMES.index(before):
            self.outcomes[test] = outcome
            self.details[test] = detail

    def of(self, *outcomes: str) -> list[str]:
        return sorted(test for test, outcome in self.outcomes.items() if outcome in outcomes)


@dataclass(frozen=True)
class Difference:
    test: str
    ours: str
    stock: str
    in_requests: bool = False

    @property
    def is_failure(self) -> bool:
        """Ours fails where stock does not, or has not run what stock ran."""
        if self.in_requests and self.test in IN_REQUESTS_OTHERWISE:
            return False
        if self.ours in BAD:
            return self.stock not in BAD
        left_out = self.ours == "skipped" and self.stock in GOOD
        return self.ours == MISSING or (left_out and self.test not in BY_NAME)


def read(engine: str, records: Path) -> Result | None:
    """None if the run did not reach its end, of which the last record tells."""
    lines = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    if not lines or "seconds" not in lines[-1]:
        return None
    counted = {name: lines[-1].get(name) for name in ("leases", "cuts")}
    result = Result(engine, {**lines[0], **counted}, lines[-1]["seconds"])
    for line in lines[1:-1]:
        result.note(line["id"], line["outcome"], line["detail"])
    return result


def differences(ours: Result, stock: Result) -> list[Difference]:
    tests = sorted({*ours.outcomes, *stock.outcomes})
    pairs = [(test, ours.outcomes.get(test, MISSING), stock.outcomes.get(test, MISSING)) for test in tests]
    return [Difference(*pair, ours.leases is not None) for pair in pairs if pair[1] != pair[2]]


def table(results: Sequence[Result]) -> str:
    head = ("engine", "tests", *OUTCOMES, "seconds")
    rows = [tuple(map(str, _row(result))) for result in results]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(_line(row, widths) for row in (head, *rows))


def _row(result: Result) -> list[str | int]:
    counts = Counter(result.outcomes.values())
    return [result.engine, result.ran, *(counts[name] for name in OUTCOMES), f"{result.seconds:.0f}"]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)])

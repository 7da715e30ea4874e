"""What is written about the microseconds, and the counting of calls."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.bench import profile
from tests.bench.rst import table
from tests.bench.timing import calls, nothing
from tests.serving import ROOT

FOUND: profile.Found = [
    ("boundary", "a step", 1.0, 1),
    ("boundary", "another", 2.0, 1),
    ("boundary", profile.TOTAL, 4.5, 1),
    ("lease", profile.TOTAL, 3.0, 1),
    ("adoption", profile.TOTAL, 5.0, 1),
    ("statement", "making a cursor", 0.5, 3),
    ("statement", "hearing its text", 0.25, 3),
    ("statement", "sending it, all of the above but the cursor", 1.0, 3),
    ("page", profile.BEYOND, 30.0, 1),
]
LAYERS: profile.Layers = [(0, "outer", 8.0, 1), (1, "inner", 3.0, 1), (0, "other", 2.0, 3)]


def report() -> list[str]:
    found = profile.report({"psycopg": FOUND}, {"psycopg": LAYERS}, {"psycopg": (110, 100)})
    return [" ".join(line.split()) for line in found.splitlines()]


def test_steps_of_a_page_are_summed_up_once() -> None:
    assert profile.accounted(FOUND) == 4.5 + 3.0 + 5.0 + 3 * (0.5 + 1.0)


def test_rest_joins_the_steps() -> None:
    assert "what joins them 1.50" in report()


def test_layers_within_others_are_marked_and_not_summed_up() -> None:
    assert "· inner 1 3.00" in report()
    assert "the layers, in their places 10.0" in report()


def test_calls_beyond_stock() -> None:
    assert "function calls beyond stock 10 to 100" in report()


def test_calls_of_python_and_of_c_are_counted() -> None:
    def work() -> None:
        nothing()
        len([])

    assert calls(work) - calls(nothing) == 2


def test_table_is_as_wide_as_its_widest_cell() -> None:
    assert table(("a",), [["long text"]]).splitlines()[0] == "=" * len("long text")


@pytest.mark.postgres
def test_it_runs() -> None:
    """All of it, with loops too short to tell anything."""
    command = [sys.executable, "-m", "tests.bench.profile", "--pairs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for driver in profile.DRIVERS:
        assert driver in done.stdout
    assert "the response that leaves once" in done.stdout
    assert "the request comes in" in done.stdout
    beyond = re.findall(r"(\d+) to \d+", done.stdout.partition("function calls beyond stock")[2])
    assert len(beyond) == len(profile.DRIVERS)
    assert all(int(calls) <= 60 for calls in beyond), beyond

"""The report and its arguments, on the shortest of runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DRIVER

ROOT = Path(__file__).parent.parent.parent
SHORTEST = ["--restarts=1", "--pause=0.5", "--rate=40", "--workers=1", "--seed=7", f"--drivers={DRIVER}"]


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.postgres
@pytest.mark.apache
def test_stock_django_is_measured_by_the_same_means() -> None:
    done = report("--only=restarts-writes", "--variants=stock,kept", *SHORTEST)
    assert done.returncode == 0, done.stderr
    assert "40 requests a second, --seed 7" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("restarts, writes")]
    assert [row.split("  ")[1] for row in rows] == ["stock, new connections", "stock, kept and checked"]
    assert all("200: " in row and "balanced (" in row for row in rows), done.stdout


def test_scenario_that_is_none_is_refused() -> None:
    done = report("--only=flood")
    assert done.returncode == 2
    assert "'flood' is not one of restarts-reads, terminations-reads" in done.stderr

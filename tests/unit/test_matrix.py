"""The matrix says what became of each environment, and takes nothing for a success that is none."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

import pytest

from tools import lacking, matrix
from tools.matrix import FAILED, LACKING, PASSED, Outcome, attempt, counts, judge, table

ROOT = Path(__file__).parent.parent.parent
VERSIONS = "versions: Python 3.10.13, Django 5.2.19, PostgreSQL 15.18\n"
NONE = "ERROR: Could not find a version\nERROR: No matching distribution found for Django<6.2,>=6.1\n"


@pytest.mark.parametrize(
    ("text", "failed", "state", "told"),
    [
        (f"{VERSIONS}=== 7 passed, 2 skipped in 1.5s ===", False, PASSED, "7 passed, 2 skipped"),
        ("=== 7 passed in 1.5s ===", False, FAILED, "7 passed"),
        (f"{VERSIONS}=== 1 failed, 7 passed in 1.5s", True, FAILED, "1 failed, 7 passed"),
        (NONE, True, LACKING, "the package index has no Django<6.2,>=6.1 for it"),
        (f"{lacking.MARK}no GDAL library\n", True, LACKING, "no GDAL library"),
        (
            "couldn't run 'pg_config' --includedir: ",
            True,
            LACKING,
            "no pg_config (Debian: apt-get install libpq-dev)",
        ),
        ("error: the wheel could not be built", True, FAILED, "no test ran"),
        ("", False, FAILED, "no test ran"),
    ],
)
def test_outcome(text: str, failed: bool, state: str, told: str) -> None:
    found = judge("py310-django52-psycopg-pg15", text, failed)
    assert (found.state, found.told) == (state, told)


@pytest.mark.parametrize(("factor", "told"), matrix.TOLD.items())
def test_run_that_does_not_tell_what_its_name_is_about_has_not_passed(factor: str, told: str) -> None:
    name, text = f"py310-django52-psycopg-pg15-{factor}", f"{VERSIONS}1 passed in 1.0s\n"
    assert judge(name, text, False).state == FAILED
    assert judge(name, f"{text}versions: {told}.1", False).state == PASSED


def test_several_runs_of_pytest_are_counted_together() -> None:
    assert counts("3 passed in 1.0s\n== 4 passed, 1 skipped in 62.5s (0:01:02) ==") == "7 passed, 1 skipped"


def test_absent_python_is_named(tmp_path: Path) -> None:
    found = attempt("py399-django61-psycopg-pg18", (), tmp_path / "log")
    assert (found.state, found.told) == (LACKING, "no Python 3.99 in PATH or pyenv")


def test_python_that_pyenv_refuses_to_start_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert matrix.interpreter("py399") is None
    shim.write_text("#!/bin/sh\nexit 0\n")
    assert matrix.interpreter("py399") == str(shim)


def test_pyenvs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "versions" / "3.99.1" / "bin" / "python3.99"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert matrix.interpreter("py399") == str(python)


@pytest.mark.parametrize(
    ("states", "status", "line"),
    [
        ([PASSED, LACKING], 0, "1 passed, 0 failed, 1 skipped"),
        ([PASSED, FAILED], 1, "1 passed, 1 failed, 0 skipped"),
        ([LACKING], 1, "0 passed, 0 failed, 1 skipped"),
    ],
)
def test_status(
    states: list[str],
    status: int,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    waiting = [Outcome(f"env{number}", state, "", "") for number, state in enumerate(states)]
    monkeypatch.setattr(matrix, "folder", lambda: tmp_path)
    monkeypatch.setattr(matrix, "attempt", lambda name, tests, log: waiting[int(name[3:])])
    assert matrix.run_all([each.name for each in waiting], ()) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.parametrize(
    ("given", "tests"),
    [
        ([], ()),
        (["tests/unit"], ["tests/unit"]),
        (["--part", "ci"], matrix.SLICE),
        (["--part", "ci", "tests/unit"], ["tests/unit"]),
    ],
)
def test_tests_that_are_named_are_run(
    given: list[str], tests: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(matrix, "WORK", tmp_path)
    monkeypatch.setattr(os, "umask", lambda mask: mask)
    monkeypatch.setattr(matrix, "environments", lambda part: [part])
    monkeypatch.setattr(matrix, "run_all", lambda names, tests: ran.append(tests) or 0)
    assert matrix.main(given) == 0
    assert ran == [tests]


def test_table_names_the_reason() -> None:
    lines = table(
        [Outcome("py314", LACKING, "", "no Python 3.14"), Outcome("py310", PASSED, "v", "7 passed")]
    )
    assert [line.split()[0] for line in lines.splitlines()] == ["environment", "py314", "py310"]
    assert "no Python 3.14" in lines


def test_what_is_asked_for_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setenv("PG", "7")
    missing = "no PostgreSQL 7 here (Debian: apt-get install postgresql-7)"
    assert lacking.lacking("py310-django52-psycopg-pg15") == missing
    assert lacking.lacking("py310-django52-psycopg") is None


def test_every_version_that_is_claimed_is_in_tox() -> None:
    config = ConfigParser(interpolation=None)
    config.read([ROOT / "setup.cfg", ROOT / "tox.ini"])
    classifiers = config["metadata"]["classifiers"]
    environments = config["tox"]["envlist"]
    for minor in re.findall(r"Python :: 3\.(\d+)", classifiers):
        assert f"3{minor}" in environments
    for major, minor in re.findall(r"Django :: (\d)\.(\d)", classifiers):
        assert re.search(rf"django(\{{[\d,]*)?{major}{minor}", environments)
    assert {factor for factor in lacking.LOOKS if factor.rstrip("0123456789") not in environments} == set()

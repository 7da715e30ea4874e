"""A test runner that writes down, test by test, how it went: one JSON object a line."""

from __future__ import annotations

import json
import time
import unittest
from pathlib import Path
from typing import Any

import django
from django.db import connections
from django.test.runner import DiscoverRunner
from suite_cuts import CUTS, cut, flush_instead
from suite_requests import LEASES, install
from suite_settings import GIVEN


class Recorder(unittest.TextTestResult):
    """The usual result, with a line for each outcome: a test that has subtests may get several."""

    total = 0

    def startTestRun(self) -> None:
        super().startTestRun()
        self._started = time.monotonic()
        self._write(total=self.total, **_facts())

    def stopTestRun(self) -> None:
        leases = LEASES["pins"] if GIVEN["transactions"] else None
        cuts = CUTS["made"] if GIVEN["cuts"] else None
        self._write(seconds=time.monotonic() - self._started, leases=leases, cuts=cuts)
        super().stopTestRun()

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._note(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", err)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "error", err)

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", detail=reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "unexpected success")

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed" if issubclass(err[0], test.failureException) else "error", err)

    def _note(self, test: Any, outcome: str, err: Any = None, detail: str = "") -> None:
        # A skipped subtest comes as itself, not as its test.
        whole = getattr(test, "test_case", test)
        text = self._exc_info_to_string(err, test) if err else detail  # type: ignore[attr-defined]
        self._write(id=whole.id(), outcome=outcome, detail=str(text))

    def _write(self, **record: Any) -> None:
        with Path(GIVEN["records"]).open("a", encoding="utf-8") as records:
            records.write(json.dumps(record) + "\n")


class Runner(DiscoverRunner):
    def setup_test_environment(self, **kwargs: Any) -> None:
        super().setup_test_environment(**kwargs)
        if GIVEN["transactions"]:
            install()
        if GIVEN["flushes"]:
            flush_instead()
        if GIVEN["cuts"]:
            cut()

    def get_resultclass(self) -> type[Recorder]:
        return Recorder

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        Recorder.total = suite.countTestCases()
        return super().run_suite(suite, **kwargs)


def _facts() -> dict[str, str]:
    """What really runs, for the other side to compare with what it asked for."""
    driver = connections["default"].Database
    return {
        "engine": type(connections["default"]).__module__.removesuffix(".base"),
        "driver": driver.__name__,
        "driver_version": driver.__version__.split()[0],
        "django": django.get_version(),
    }

"""One run of Django's suite: a process on one engine that writes down how each test went."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.django_suite.outcome import Result, read
from tools.postgres import SUPERUSER, Cluster
from tools.steps import Trouble, say

ENGINES = {
    "ours": "wsgi_persist.backends.postgresql",
    "stock": "django.db.backends.postgresql",
}
# Ours inside requests, and how it sends transactions.
IN_REQUESTS = {"folded": "folded", "lazy": "lazy", "cut": "folded"}
# Where tests have no transaction of their own, so that there is more to be sent again.
FLUSHING = ("flushed", "cut")
ALL = {**ENGINES, **dict.fromkeys(IN_REQUESTS, ENGINES["ours"]), "flushed": ENGINES["stock"]}
POSTGIS = {
    "ours": "wsgi_persist.backends.postgis",
    "stock": "django.contrib.gis.db.backends.postgis",
}
INSIDE = Path(__file__).parent / "inside"
BEAT = 10.0
# Of the caller's environment nothing may decide on a test.
FOREIGN = ("PG", "DJANGO", "PYTHON", "COV_", "COVERAGE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass
class Plan:
    """What all runs have in common."""

    tests: Path
    labels: Sequence[str]
    engines: Mapping[str, str]
    driver: str
    cluster: Cluster
    folder: Path
    logs: Path


class Run:
    """Django's suite on one engine, in a process of its own."""

    def __init__(self, engine: str, plan: Plan) -> None:
        self.engine = engine
        self.plan = plan
        self.records = plan.logs / f"{engine}-{plan.driver}.jsonl"
        self.log = self.records.with_suffix(".log")
        self.records.write_text("")
        self._temporary = plan.folder / engine
        self._temporary.mkdir()
        self._process = self._start()

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def progress(self) -> str:
        if self.is_over():
            return f"{self.engine}: done"
        lines = self.records.read_text(encoding="utf-8").splitlines()
        if not lines:
            return f"{self.engine}: making the databases"
        # A test whose subtests failed has several lines.
        total = json.loads(lines[0])["total"]
        return f"{self.engine}: {min(len(lines) - 1, total)} of {total}"

    def end(self) -> None:
        """Also what a test may have left running."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def result(self) -> Result:
        result = read(self.engine, self.records)
        if result is None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise Trouble(f"the suite on {self.engine} did not reach its end ({self.log}):\n{tail}")
        asked = (self.plan.engines[self.engine], self.plan.driver)
        if (result.facts["engine"], result.facts["driver"]) != asked:
            raise Trouble(f"asked for {' on '.join(asked)}, but {result.facts} ran")
        return result

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "runtests.py", "--settings=suite_settings", "--noinput"]
        with self.log.open("w") as log:
            return subprocess.Popen(
                [*command, "--verbosity=2", "--parallel=1", *self.plan.labels],
                cwd=self.plan.tests,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _environ(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.upper().startswith(FOREIGN)}
        temporary = str(self._temporary)
        return {
            **kept,
            "PATH": os.pathsep.join([str(self.plan.cluster.bin), os.environ.get("PATH", os.defpath)]),
            "HOME": temporary,
            "TMPDIR": temporary,
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join([str(INSIDE), str(_only_the_package(self.plan.folder))]),
            "DJANGO_SUITE": json.dumps(self._settings()),
        }

    def _settings(self) -> dict[str, str | int | bool]:
        return {
            "driver": self.plan.driver,
            "records": str(self.records),
            "ENGINE": self.plan.engines[self.engine],
            "transactions": IN_REQUESTS.get(self.engine, ""),
            "flushes": self.engine in FLUSHING,
            "cuts": self.engine == "cut",
            "NAME": f"django_{self.engine}",
            "USER": SUPERUSER,
            "HOST": str(self.plan.cluster.socket_dir),
            "PORT": self.plan.cluster.port,
        }


def run_all(engines: Iterable[str], plan: Plan, parallel: int, timeout: float) -> list[Result]:
    """The engines, at most ``parallel`` at a time."""
    waiting, runs = list(engines), list[Run]()
    give_up = time.monotonic() + timeout
    try:
        while waiting or not all(run.is_over() for run in runs):
            while waiting and sum(not run.is_over() for run in runs) < parallel:
                runs.append(Run(waiting.pop(0), plan))
            _wait(runs, min(time.monotonic() + BEAT, give_up))
            say("    " + ", ".join(run.progress() for run in runs))
            if time.monotonic() > give_up:
                raise Trouble(f"not done after {timeout:.0f} s: see {plan.logs}, or raise --timeout")
    finally:
        for run in runs:
            run.end()
    return [run.result() for run in runs]


def _wait(runs: Sequence[Run], until: float) -> None:
    """Until one more run is over, or until the time given."""
    over = sum(run.is_over() for run in runs)
    while time.monotonic() < until and sum(run.is_over() for run in runs) == over:
        time.sleep(0.2)


def _only_the_package(folder: Path) -> Path:
    """A folder to import wsgi_persist from, and nothing else that stands beside it."""
    home = folder / "path"
    if not home.exists():
        spec = importlib.util.find_spec("wsgi_persist")
        if spec is None or spec.origin is None:
            raise Trouble("no wsgi_persist here: start from the clone, or install it")
        home.mkdir()
        (home / "wsgi_persist").symlink_to(Path(spec.origin).parent.resolve())
    return home

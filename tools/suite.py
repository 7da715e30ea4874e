"""`make test`: everything on psycopg 3, then what a driver has a part in on psycopg2.

All temporary files stand in one folder, which goes when the last test has ended, however it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tools.apache import scratch
from tools.environment import folder
from tools.steps import ENDING, end_tidily, say, undisturbed

PYTEST = (sys.executable, "-W", "error", "-m", "pytest", "--cov")
RUNS: tuple[tuple[str, Mapping[str, str], Sequence[str]], ...] = (
    ("everything on psycopg 3", {"SITE_DRIVER": "psycopg"}, ["--cov-report="]),
    (
        "what a driver has a part in on psycopg2, with the machine's PostgreSQL if it has one",
        {"SITE_DRIVER": "psycopg2", "PG": "machine"},
        [
            "--cov-append",
            "tests/integration",
            "tests/apache/test_workers.py",
            "tests/apache/test_ends.py",
            "tests/apache/test_killed.py",
            "tests/faults/test_scenarios.py",
        ],
    ),
)


def main() -> int:
    end_tidily()
    # The users that PostgreSQL and Apache run as must get through.
    os.umask(0o022)
    # In /tmp, not below the clone: a socket's path is limited to 107 bytes.
    with scratch("test") as temporary:
        for what, chosen, arguments in RUNS:
            say(what)
            # Some packages that the tests load put their caches and settings below the home.
            places = {"TMPDIR": temporary, "HOME": temporary, "COVERAGE_FILE": folder() / "coverage"}
            given = {name: str(path) for name, path in places.items()}
            status = _run([*PYTEST, *arguments], {**os.environ, **given, **chosen})
            if status != 0:
                return status
    return 0


# What runs now, and the signals that were to end it.
_running: list[subprocess.Popen[bytes]] = []
_came: list[int] = []


def _interrupt(number: int, _: object) -> None:
    _came.append(number)
    for process in _running:
        process.send_signal(signal.SIGINT)


def _run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Its status. Interrupted or ended from outside, it is told to stop, and waited for: it has servers to
    stop, and their folders to remove."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    with undisturbed():
        if _came:
            return 128 + _came[0]
        # In a session of its own, Ctrl-C reaches it once.
        _running[:] = [subprocess.Popen(command, env=environ, start_new_session=True)]
    status = _running[0].wait()
    return 128 + _came[0] if _came else status


if __name__ == "__main__":
    sys.exit(main())

"""Long steps that stay visibly alive, and failures told in one line."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# What pip and the compilers write, and what to do about it; the first that fits is told.
REMEDIES = {
    "Failed to establish a new connection": "pip found no network: connect, and start again",
    "Temporary failure in name resolution": "pip found no network: connect, and start again",
    "Max retries exceeded": "pip found no network: connect, and start again",
    "No matching distribution": "no network, or no such package for this Python: check both",
    "Python.h": "no Python headers: install them (Debian: apt-get install python3-dev)",
    "No space left on device": "the disk is full",
    "Unable to locate package": "apt-get has no such package: APACHE=standalone compiles one",
}


class Trouble(Exception):
    """Something that the user has to put right; the text is one line and says what."""


def say(text: str) -> None:
    """Progress goes to standard error: the standard output is the result."""
    print(f"--> {text}", file=sys.stderr, flush=True)


@contextmanager
def alone(folder: Path, when_taken: Callable[[], None]) -> Iterator[None]:
    """Hold the folder's lock; *when_taken* says or raises what somebody has to know who must wait."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_taken()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None, beat: float = 10.0
) -> None:
    """Run a command with its output in ``log``; say every ``beat`` seconds that it still works."""
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ
        )
        try:
            while _still_running(process, beat):
                say(f"    still at it after {time.monotonic() - started:.0f} s")
        except BaseException:
            _let_end(process)
            raise
    if process.returncode != 0:
        raise Trouble(f"{_diagnosis(log)} (all of it: {log})")


def _still_running(process: subprocess.Popen[bytes], beat: float) -> bool:
    try:
        process.wait(beat)
    except subprocess.TimeoutExpired:
        return True
    return False


def _let_end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C has reached the child too, which then tidies up after itself; but not for ever."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _diagnosis(log: Path) -> str:
    text = log.read_text(errors="replace")
    for sign, remedy in REMEDIES.items():
        if sign in text:
            return remedy
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it failed without a word"])[-1]

"""Long steps that stay visibly alive, end cleanly, and fail in one line."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_NETWORK = "no network, or the package index does not answer: connect, and start again"
LOCKED = "another process holds apt's lock: wait for its end, or start with APT=0"
LOCAL = {"LC_ALL": "C.UTF-8"}  # so that the words are these
# What pip, apt-get and the compilers write, and what to do about it; the first that fits is told.
REMEDIES = {
    "No space left on device": "the disk is full: make room, and start again",
    "Could not get lock": LOCKED,
    "Unable to acquire the dpkg frontend lock": LOCKED,
    "Failed to establish a new connection": NO_NETWORK,
    "Temporary failure in name resolution": NO_NETWORK,
    "Name or service not known": NO_NETWORK,
    "Max retries exceeded": NO_NETWORK,
    "Temporary failure resolving": NO_NETWORK,
    "No matching distribution": "no such package for this Python, or no network: check both",
    "Python.h: No such file": "no Python headers: install them (Debian: apt-get install python3-dev)",
}
LOOK_AT, TAIL = 100, 15  # lines from the end: where those words stand, and what is shown


class Trouble(Exception):
    """Something that the user has to put right. The first line says what; the end of a log may follow."""

    @property
    def line(self) -> str:
        return str(self).partition("\n")[0]


class Locked(Trouble):
    """Another process holds apt's lock."""


def say(text: str) -> None:
    """Progress goes to standard error: the standard output is the result."""
    print(f"--> {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Step:
    """
    :ivar what: for the eyes.
    :ivar seconds: about how long it takes.
    """

    what: str
    seconds: int
    do: Callable[[], None]


def follow(steps: Sequence[Step]) -> None:
    left = sum(step.seconds for step in steps)
    for number, step in enumerate(steps, 1):
        say(f"{number} of {len(steps)}: {step.what} (about {left} s to go)")
        step.do()
        left -= step.seconds


def ended(name: str, place: Path, work: Callable[[], int], *troubles: type[Exception]) -> int:
    """The status of a tool: what its *work* gives; 2, and one line, for what the user has to put right.

    :param place: what an error of the system is about that names no file.
    :param troubles: further exceptions that are of that kind.
    """
    end_tidily()
    try:
        return work()
    except (Trouble, *troubles) as trouble:
        print(f"{name}: {trouble}", file=sys.stderr)
    except OSError as error:
        print(f"{name}: {error.filename or place}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 2


def end_tidily() -> None:
    """At SIGTERM, and when the terminal is closed, end as at an error: what was started is stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A signal that would end this waits until the block is left: nothing is started and not known of."""
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()  # no other one is interrupted
    heeded = [number for number in ENDING if is_main and signal.getsignal(number) is not signal.SIG_IGN]
    kept = {number: signal.signal(number, lambda number, _: came.append(number)) for number in heeded}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)


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
    """Run a command, with what it prints at the end of ``log``; say every ``beat`` seconds that it works.

    :raises Trouble: it failed; with the remedy, if its words are known, else with its last lines.
    """
    started = time.monotonic()
    with log.open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        begin = output.tell()
        # A group of its own: who interrupts this reaches all that the command has started, once.
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = None
        try:
            with undisturbed():
                process = subprocess.Popen(command, env=environ, start_new_session=True, **how)
            while _still_running(process, beat):
                say(f"    still at it after {time.monotonic() - started:.0f} s")
        except BaseException:
            if process is not None:
                _end(process)
            raise
    if process.returncode != 0:
        told = _diagnosis(log, begin)
        raise Locked(told) if told.startswith(LOCKED) else Trouble(told)


def _still_running(process: subprocess.Popen[bytes], beat: float) -> bool:
    try:
        process.wait(beat)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would, so that it tidies up after itself; but not for ever."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _diagnosis(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read().decode(errors="replace")
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    end = "\n".join(lines[-LOOK_AT:])
    for sign, remedy in REMEDIES.items():
        if sign in end:
            return f"{remedy} (all of it: {log})"
    errors = [line.strip() for line in lines if "error" in line.lower()]
    told = (errors or lines or ["it failed without a word"])[-1]
    return "\n".join([f"{told} (all of it: {log}; its end:)", *(f"    {line}" for line in lines[-TAIL:])])

"""A burst of load: by wrk where it is installed, else by the closed loop of our own."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.faults import wait_for
from tools import load


class Burst(NamedTuple):
    """Requests a second that were answered well, how many that were, how many were not, and why."""

    rate: float
    requests: int
    errors: int
    trouble: str = ""


Driver = Callable[[str, int, float], Burst]


def loader() -> tuple[str, Driver]:
    """Its name, and the function: URL, clients, seconds."""
    program = shutil.which("wrk")
    if program is None:
        return "the closed loop of tools/load.py", _by_loop
    return "wrk", lambda url, clients, seconds: _by_wrk(program, url, clients, seconds)


def _by_loop(url: str, clients: int, seconds: float) -> Burst:
    result = load.run(url, clients=clients, seconds=seconds)
    trouble = str(result) if result.errors else ""
    return Burst(result.rps, result.requests - result.errors, result.errors, trouble)


def _by_wrk(program: str, url: str, clients: int, seconds: float) -> Burst:
    command = [program, "-t1", f"-c{clients}", "-d600s", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        wait_for(lambda: _catches_interrupt(process.pid))
        time.sleep(seconds)
        # It knows whole seconds alone; interrupted, it tells what it has measured so far.
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return parse(said)


def _catches_interrupt(pid: int) -> bool:
    """Before it has made its connections it does not, and would end without a word."""
    caught = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGINT - 1) & 1)


def parse(said: str) -> Burst:
    """What wrk says at its end."""
    if "requests in" not in said:
        raise ValueError(f"wrk has measured nothing: {said!r}")
    requests = int(_number(r"(\d+) requests in", said))
    failed = int(_number(r"Non-2xx or 3xx responses: (\d+)", said))
    broken = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    errors = failed + sum(map(int, broken.groups() if broken else ()))
    rate = _number(r"Requests/sec:\s+([\d.]+)", said)
    good = requests - failed
    trouble = "; ".join(line.strip() for line in said.splitlines() if re.search(r"errors:|Non-2xx", line))
    return Burst(rate * good / requests if requests else 0.0, good, errors, trouble)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0

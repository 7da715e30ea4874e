"""What the kernel knows of a process: its memory, its processor time, its system calls."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STILL = 0.5


def memory(pid: int) -> dict[str, int]:
    """Bytes: ``Rss`` counts what is shared in full, ``Pss`` divides it among those who share it, and
    ``Pss_Anon`` leaves out files and shared memory, such as PostgreSQL's buffers."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = re.findall(r"^(Rss|Pss|Pss_Anon):\s+(\d+) kB", text, re.MULTILINE)
    return {name: int(size) * 1024 for name, size in sizes}


def wait_until_idle(pid: int, timeout: float = 30.0) -> None:
    """Until it has done something, and then nothing for STILL seconds: its site is loaded."""
    give_up = time.monotonic() + timeout
    used, since = 0, time.monotonic()
    while not used or time.monotonic() - since < STILL:
        if time.monotonic() > give_up:
            raise TimeoutError(f"a worker was not idle within {timeout:g} s")
        if (now := _ticks(pid)) != used:
            used, since = now, time.monotonic()
        time.sleep(0.02)


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def system_calls(pid: int, work: Callable[[], None]) -> int | None:
    """Those of the process while *work* runs; None where strace is missing or not allowed."""
    if shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile("r") as report:
        command = ["strace", "-f", "-c", "-U", "calls,name", "-o", report.name, "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert tracer.stderr is not None
            if "attached" not in tracer.stderr.readline():
                return None
            work()
        finally:
            os.kill(tracer.pid, signal.SIGINT)
            tracer.wait()
        found = re.search(r"^\s*(\d+) total", report.read(), re.MULTILINE)
    return int(found[1]) if found else None

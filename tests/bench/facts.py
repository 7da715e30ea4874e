"""When, on what machine and with which versions was measured; nothing that names the machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.stage import Stage
from tools import httpd, standalone
from tools.machine import SEARCH
from wsgi_persist import __version__


def facts(stage: Stage, loader: str) -> dict[str, str]:
    return {
        "Date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "Machine": f"{os.cpu_count()} cores, {_processor()}, {_memory()} GiB of memory",
        "wsgi_persist": __version__,
        "Python": platform.python_version(),
        "Django": version("Django"),
        "psycopg": version("psycopg"),
        "psycopg2": version("psycopg2-binary"),
        "PostgreSQL": _said([str(stage.cluster.bin / "postgres"), "--version"])
        + ("" if stage.has_tls else ", TLS by a proxy in front of it"),
        "Apache": f"{httpd.pypi().version().split()[0].removeprefix('Apache/')}, event MPM",
        "mod_wsgi": f"{_mod_wsgi()}, daemon mode, threads=1",
        "PgBouncer": _said([shutil.which("pgbouncer", path=SEARCH) or "", "--version"]),
        "Load": f"{loader}, two clients for each worker, on the same machine",
    }


def _mod_wsgi() -> str:
    """By either of the names under which it is installed."""
    try:
        return version("mod_wsgi")
    except PackageNotFoundError:
        return version(standalone.NAME)


def _said(command: list[str]) -> str:
    """The version in what a program says."""
    if not command[0]:
        return "none"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout)
    return found[0] if found else "unknown"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)

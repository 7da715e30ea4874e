"""What this machine offers: a Python to build on, an Apache to build for, a compiler."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.steps import Trouble, run, say

# A daemon's programs are often not in an ordinary user's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
APT = ("apache2", "apache2-dev")
STANDALONE = "mod_wsgi-standalone"
# Asked of each candidate in its own process: it is another Python than the one that asks.
QUESTIONS = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "version": sys.version_info[:3],
    "venv": all(map(importlib.util.find_spec, ("venv", "ensurepip"))),
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "files": [os.path.realpath(sys.executable), os.path.dirname(os.__file__)],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    path: str
    version: tuple[int, int, int]

    @property
    def identity(self) -> str:
        """Changes when an environment built on it has to be built anew."""
        return f"{self.path} {self.version[0]}.{self.version[1]}"


def interpreter() -> Interpreter:
    """``$PYTHON``, else the system's, else that of ``PATH``: the first that can do the job."""
    given = os.environ.get("PYTHON")
    candidates = [given] if given else ["/usr/bin/python3", "python3", sys.executable]
    objections = {}
    for path in dict.fromkeys(filter(None, map(shutil.which, candidates))):
        facts = _ask(path)
        objection = _objection(facts)
        if not objection:
            return Interpreter(path, tuple(facts["version"]))
        objections[path] = objection
    found = "; ".join(f"{path} {objection}" for path, objection in objections.items())
    raise Trouble(f"no fitting Python ({found or 'none found'}): set PYTHON to one that fits")


def _ask(path: str) -> dict:
    command = [path, "-I", "-c", QUESTIONS]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def _objection(facts: dict) -> str | None:
    if not facts or tuple(facts["version"]) < (3, 10):
        return "is older than 3.10"
    if not facts["venv"]:
        return "has no venv (Debian: apt-get install python3-venv)"
    if not facts["headers"]:
        return "has no headers (Debian: apt-get install python3-dev)"
    if os.geteuid() == 0 and (private := _private(facts["files"])):
        return f"cannot be run by Apache's unprivileged user ({private} is private)"
    return None


def _private(files: list[str]) -> Path | None:
    steps = [step for file in map(Path, files) for step in [*reversed(file.parents), file]]
    return next((step for step in steps if not step.stat().st_mode & stat.S_IXOTH), None)


def require_compiler() -> None:
    compiler = os.environ.get("CC", "cc").split()[0]
    if not (shutil.which(compiler) or shutil.which("gcc")):
        raise Trouble("no C compiler: install one (Debian: apt-get install gcc libc6-dev)")


def mod_wsgi_flavour(installed: str, log: Path) -> str:
    """Which package fits: the one for the machine's Apache, or the one that brings its own."""
    # Once compiled it stays: the question below is not asked at each start.
    if os.environ.get("APACHE") == "standalone" or STANDALONE in installed:
        return STANDALONE
    if not _has_apache() and _may_install():
        _install_apache(log)
    if _has_apache():
        return "mod_wsgi"
    say("no Apache with apxs here: one is compiled, for six minutes or more")
    return STANDALONE


def _has_apache() -> bool:
    apxs = os.environ.get("APXS") or shutil.which("apxs2", path=SEARCH)
    return bool(apxs or shutil.which("apxs", path=SEARCH))


def _may_install() -> bool:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    if not sys.stdin.isatty():
        return bool(os.environ.get("CI") or os.environ.get("APT") == "1")
    sys.stderr.write(f"Install {' and '.join(APT)} with apt-get? Otherwise one is compiled. [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _install_apache(log: Path) -> None:
    say(f"apt-get install {' '.join(APT)}")
    # RUNLEVEL=1: installed, but not started as a service.
    environ = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "install", "-y", *APT], log, environ)
    except Trouble:
        # A fresh container has no lists of packages yet.
        run(["apt-get", "update"], log, environ)
        run(["apt-get", "install", "-y", *APT], log, environ)

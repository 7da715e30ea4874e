"""What this machine offers to build on: a Python, a compiler, headers, room on the disk."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tools.steps import Trouble

# A daemon's programs are often not in an ordinary user's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
OLDEST = (3, 10)
HEADERS = "python3-dev"
INCLUDE = Path("/usr/include")
# Asked of each candidate in its own process: it is another Python than the one that asks.
QUESTIONS = """
import json, os, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    venv = None
print(json.dumps({
    "version": sys.version_info[:3],
    "venv": venv is not None,
    "headers": os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")),
    "files": [os.path.realpath(sys.executable), os.path.dirname(os.__file__)],
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """
    :ivar lacks: what it is without, by the package of Debian that brings it.
    """

    path: str
    version: tuple[int, ...]
    lacks: dict[str, str]

    @property
    def identity(self) -> str:
        """Changes when an environment built on it has to be built anew."""
        return f"{self.path} {self.version[0]}.{self.version[1]}"


def interpreter() -> Interpreter:
    """``$PYTHON``, else the system's, else that of ``PATH``: the first that lacks nothing, else the first.

    :raises Trouble: none will ever do.
    """
    given = os.environ.get("PYTHON")
    candidates = [given] if given else ["/usr/bin/python3", "python3", sys.executable]
    found, objections = [], {}
    for path in dict.fromkeys(filter(None, map(shutil.which, candidates))):
        facts = _ask(path)
        if objection := _objection(facts):
            objections[path] = objection
        else:
            found.append(Interpreter(path, tuple(facts["version"]), _lacks(facts)))
    if not found:
        told = "; ".join(f"{path} {objection}" for path, objection in objections.items())
        told = told or f"there is no {given}"
        raise Trouble(f"no fitting Python ({told}): set PYTHON to one that fits")
    return min(found, key=lambda python: bool(python.lacks))


def _ask(path: str) -> dict:
    command = [path, "-I", "-c", QUESTIONS]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def _objection(facts: dict) -> str | None:
    if not facts:
        return "does not run"
    if tuple(facts["version"]) < OLDEST:
        return "is older than {}.{}".format(*OLDEST)
    if os.geteuid() == 0 and (private := _private(facts["files"])):
        return f"cannot be run by Apache's unprivileged user ({private} is private)"
    return None


def _lacks(facts: dict) -> dict[str, str]:
    venv = {} if facts["venv"] else {"python3-venv": "Python's venv"}
    return venv if facts["headers"] else {**venv, HEADERS: "Python's headers"}


def _private(files: list[str]) -> Path | None:
    steps = [step for file in map(Path, files) for step in [*reversed(file.parents), file]]
    return next((step for step in steps if not step.stat().st_mode & stat.S_IXOTH), None)


class Needs(NamedTuple):
    """Programs and headers, to compile."""

    programs: tuple[str, ...]
    headers: tuple[str, ...]


NOTHING = Needs((), ())
COMPILER = Needs(("cc",), ("stdio.h",))
# What of Debian brings it, and what it is.
PACKAGES = {
    "cc": ("gcc", "a C compiler"),
    "make": ("make", "make"),
    "stdio.h": ("libc6-dev", "the C library's headers"),
    "expat.h": ("libexpat1-dev", "expat's headers"),
}


def require(python: Interpreter, folder: Path, megabytes: int, needs: Needs) -> None:
    """All that will be needed is there, before anything is begun.

    :raises Trouble: one line with everything that is missing, and the command that brings it.
    """
    lacks = {package: what for package, what in python.lacks.items() if needs.programs or package != HEADERS}
    lacks.update(_missing(needs))
    if lacks:
        there = ", ".join(dict.fromkeys(lacks.values()))
        raise Trouble(f"missing here: {there} (Debian, as root: apt-get install {' '.join(lacks)})")
    free = shutil.disk_usage(folder).free >> 20
    if free < megabytes:
        raise Trouble(f"the disk is full: {folder} needs {megabytes} MB, and has {free} MB")


def _missing(needs: Needs) -> Iterator[tuple[str, str]]:
    there = {name: bool(compiler() if name == "cc" else shutil.which(name)) for name in needs.programs}
    there.update((name, has_header(name)) for name in needs.headers)
    return (PACKAGES[name] for name, found in there.items() if not found)


def compiler() -> list[str]:
    """Its command, such as ``$CC``; empty if there is none."""
    commands = (shlex.split(os.environ.get("CC", "")), ["cc"], ["gcc"])
    return next((command for command in commands if command and shutil.which(command[0])), [])


def has_header(name: str) -> bool:
    """Whether the compiler finds it; where there is none, whether one would."""
    command = compiler()
    if not command:
        return any(found.exists() for found in [INCLUDE / name, *INCLUDE.glob(f"*-linux-gnu*/{name}")])
    asked = f"#include <{name}>\n".encode()
    command = [*command, "-E", "-x", "c", "-o", os.devnull, "-"]
    return subprocess.run(command, input=asked, capture_output=True, check=False).returncode == 0

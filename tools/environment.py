"""The one virtual environment of the demonstration, the tests, the gates and the benchmarks.

``python3 -m tools.environment demo apache`` makes it, or brings it up to date, and prints the path
of its Python; ``-- -m tools.demo`` behind that runs it instead. ``--where`` prints the folder. Runs
on any Python 3.10 or later, without packages.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from functools import partial
from pathlib import Path

from tools import apt, machine
from tools.mod_wsgi import ModWsgi
from tools.steps import Step, Trouble, alone, ended, follow, say
from tools.venv import Venv

ROOT = Path(__file__).resolve().parent.parent
# What a wheel is built from.
SOURCES = (
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "MANIFEST.in",
    "README.rst",
    "LICENSE",
    "wsgi_persist",
    "deploy",
)
# Compiled, so it may fail.
OPTIONAL = ("uwsgi",)
# Extras whose packages have nothing to do with each other: one that fails leaves the others.
SINGLY = ("bench",)
# Programs of their own, in an environment each: what they need is nothing to the site.
APART = ("patroni",)
# About how long each takes on two cores, in seconds.
SECONDS = {"base": 15, "apt": 60, "uwsgi": 40, "package": 5, "demo": 15}
USUAL = 30
# Megabytes: with all extras, and what a compiler needs for a while.
ROOM_IF_NEW, ROOM = 1000, 300


def folder() -> Path:
    """Where everything that is built lives: in the clone, if other users can read it there."""
    inside = ROOT / ".build"
    if os.geteuid() != 0 or all(p.stat().st_mode & stat.S_IXOTH for p in [ROOT, *ROOT.parents]):
        return inside
    mark = hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]
    return Path(f"/var/tmp/wsgi_persist-{os.geteuid()}-{mark}")


def build(extras: Sequence[str]) -> Path:
    """Bring the environment up to date and return its Python."""
    home = own_folder()
    with alone(home, _say_that_it_waits):
        environment = Environment(home, extras)
        if steps := environment.pending():
            environment.venv.log.unlink(missing_ok=True)
            environment.require()
            follow(steps)
    return environment.venv.python


class Environment:
    """What these extras put into the virtual environment."""

    def __init__(self, home: Path, extras: Sequence[str]) -> None:
        self.venv = Venv(home)
        self._extras = extras
        self._apache = ModWsgi(self.venv, *requirements("apache"))

    def pending(self) -> list[Step]:
        """What is still to be done, in order."""
        venv, steps = self.venv, []
        if venv.is_new:
            # First, as it asks the package index: a missing network is told early.
            what = f"virtual environment of {venv.base.path} in {venv.root}"
            steps.append(Step(what, SECONDS["base"], venv.create))
        for packages in apt.wanted(self._extras, self._apache.is_standalone()):
            what = f"apt-get install {' '.join(packages)} (APT=0 refuses; Ctrl-C waits for its end)"
            steps.append(Step(what, SECONDS["apt"], partial(apt.bring, packages, venv.log)))
        for extra in self._extras:
            steps += self._pending(extra)
        mark = _fingerprint()
        if not venv.has("package", mark):
            steps.append(Step("wsgi_persist itself", SECONDS["package"], partial(self._add_package, mark)))
        return steps

    def _pending(self, extra: str) -> Iterator[Step] | list[Step]:
        if extra == "apache":
            return self._apache.pending()
        return self._program(extra) if extra in APART else self._packages(extra)

    def _program(self, extra: str) -> Iterator[Step]:
        venv, wanted = Venv(self.venv.home, extra), requirements(extra)
        if not venv.has(extra, _mark(wanted)):
            yield Step(f"{extra} in {venv.root}", USUAL, partial(_add_program, venv, extra, wanted))

    def require(self) -> None:
        """What the pending steps need of the machine is there.

        :raises Trouble: one line says what is not.
        """
        needs = self._apache.needs() if "apache" in self._extras else machine.NOTHING
        room = ROOM_IF_NEW if self.venv.is_new else ROOM
        machine.require(self.venv.base, self.venv.home, room, needs)

    def _packages(self, extra: str) -> Iterator[Step]:
        wanted = requirements(extra)
        if extra in SINGLY:
            for each in wanted:
                yield from self._step(f"{extra}-{_slug(each)}", [each], self._add_beside)
        else:
            yield from self._step(extra, wanted, self._add_compiled if extra in OPTIONAL else self._add)

    def _step(self, name: str, wanted: list[str], add: Callable[[str, list[str]], None]) -> Iterator[Step]:
        if not self.venv.has(name, _mark(wanted)):
            what = f"packages of [{name.partition('-')[0]}]: {', '.join(wanted)}"
            yield Step(what, SECONDS.get(name, USUAL), partial(add, name, wanted))

    def _add(self, name: str, wanted: list[str], *options: str) -> None:
        self.venv.install(*options, *wanted)
        self.venv.stamp(name, _mark(wanted))

    def _add_compiled(self, name: str, wanted: list[str]) -> None:
        # Linked with the Python that it is built for: another's from pip's cache may not fit.
        self._add_if_possible(name, wanted, "--no-cache-dir")

    def _add_if_possible(self, name: str, wanted: list[str], *options: str) -> None:
        try:
            self._add(name, wanted, *options)
        except Trouble as trouble:
            say(f"{wanted[-1]} is left out: {trouble.line}")

    def _add_beside(self, name: str, wanted: list[str]) -> None:
        """They may not replace what is there: Django and the drivers are what is compared."""
        kept = self.venv.home / "kept.txt"
        found = [str(self.venv.python), "-m", "pip", "freeze", "--exclude", "wsgi-persist"]
        kept.write_text(subprocess.run(found, check=True, capture_output=True, text=True).stdout)
        self._add_if_possible(name, wanted, "-c", str(kept))

    def _add_package(self, mark: str) -> None:
        # Built from a copy, so that the clone stays as it is.
        with tempfile.TemporaryDirectory(dir=self.venv.home) as copy:
            for name in filter(lambda name: (ROOT / name).exists(), SOURCES):
                _copy(ROOT / name, Path(copy) / name)
            self.venv.install("--no-deps", "--no-build-isolation", "--force-reinstall", copy)
        self.venv.stamp("package", mark)


def _add_program(venv: Venv, name: str, wanted: list[str]) -> None:
    try:
        venv.create()
        venv.install(*wanted)
        venv.stamp(name, _mark(wanted))
    except Trouble as trouble:
        say(f"{name} is left out: {trouble.line}")


def requirements(extra: str) -> list[str]:
    """The requirements of an extra, as setup.cfg has them."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    known = config["options.extras_require"]
    if extra not in known:
        raise Trouble(f"no extra {extra!r} in setup.cfg; known are {', '.join(known)}")
    return known[extra].split()


def _mark(wanted: Sequence[str]) -> str:
    return "\n".join(wanted)


def _slug(requirement: str) -> str:
    """The name alone."""
    return re.split(r"[^\w-]", requirement)[0]


def own_folder() -> Path:
    """:func:`folder`, made if it is missing, and nobody else's."""
    os.umask(0o022)
    home = folder()
    home.mkdir(mode=0o755, exist_ok=True)
    facts = home.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise Trouble(f"{home} is not a folder of this user; remove it and start again")
    return home


def _say_that_it_waits() -> None:
    """`make test` may start while `make demo` still compiles."""
    say("waiting for another build of the same environment")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name in SOURCES:
        for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def main(given: Sequence[str]) -> int:
    if given == ["--where"]:
        print(folder())
        return 0
    cut = given.index("--") if "--" in given else len(given)
    return ended("environment", folder(), lambda: start(given[:cut], given[cut + 1 :]))


def start(extras: Sequence[str], command: Sequence[str]) -> int:
    python = build(extras)
    if command:
        become(python, command)
    print(python)
    return 0


def become(python: Path, command: Sequence[str]) -> None:
    """The command in place of this process: signals meant for it reach it."""
    environ = {**os.environ, "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"}
    os.execve(python, [str(python), *command], environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

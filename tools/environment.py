"""The one virtual environment of the demonstration, the tests, the gates and the benchmarks.

``python3 -m tools.environment demo apache`` makes it, or brings it up to date, and prints the path
of its Python; ``--where`` prints the folder. Runs on any Python 3.10 or later, without packages.
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
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

from tools import machine
from tools.steps import Trouble, alone, run, say

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
# Extras that are linked with the Python they are built for: another's from pip's cache may not fit.
COMPILED = ("apache", "uwsgi")
OPTIONAL = ("uwsgi",)
# Extras whose packages have nothing to do with each other: one that fails leaves the others.
SINGLY = ("bench",)


def folder() -> Path:
    """Where everything that is built lives: in the clone, if other users can read it there."""
    inside = ROOT / ".build"
    if os.geteuid() != 0 or all(p.stat().st_mode & stat.S_IXOTH for p in [ROOT, *ROOT.parents]):
        return inside
    mark = hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]
    return Path(f"/var/tmp/wsgi_persist-{os.geteuid()}-{mark}")


def build(extras: Sequence[str]) -> Path:
    """Bring the environment up to date and return its Python."""
    os.umask(0o022)
    home = _own_folder()
    with alone(home, _say_that_it_waits):
        venv = Environment(home)
        venv.create()
        for extra in extras:
            venv.add(extra)
        venv.add_package()
    return venv.python


class Environment:
    """A virtual environment that remembers, by stamp files, what was put into it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "venv"
        self.python = self.root / "bin" / "python"
        self.log = home / "build.log"

    def create(self) -> None:
        base = machine.interpreter()
        if self._is_current("base", base.identity):
            return
        say(f"virtual environment of {base.path} in {self.root}")
        run([base.path, "-m", "venv", "--clear", str(self.root)], self.log)
        # The ones that come with venv may be missing (setuptools) or too old to know our metadata.
        self.pip("-U", "pip", "setuptools", "wheel")
        self._stamp("base", base.identity)

    def add(self, extra: str) -> None:
        wanted = requirements(extra)
        if extra == "apache":
            wanted = [self._fitting(requirement) for requirement in wanted]
        if extra in SINGLY:
            self._add_singly(extra, wanted)
        else:
            self._add(extra, extra, wanted, extra in OPTIONAL)

    def _add_singly(self, extra: str, wanted: list[str]) -> None:
        """None of them may replace what is there: Django and the drivers are what is compared."""
        kept = self.home / "kept.txt"
        found = [str(self.python), "-m", "pip", "freeze", "--exclude", "wsgi-persist"]
        if not all(self._is_current(f"{extra}-{_slug(each)}", each) for each in wanted):
            kept.write_text(subprocess.run(found, check=True, capture_output=True, text=True).stdout)
        for each in wanted:
            self._add(f"{extra}-{_slug(each)}", extra, [each], True, "-c", str(kept))

    def _add(self, name: str, extra: str, wanted: list[str], optional: bool, *options: str) -> None:
        mark = "\n".join(wanted)
        if self._is_current(name, mark):
            return
        say(f"packages of [{extra}]: {', '.join(wanted)}")
        try:
            self._install(extra, [*options, *wanted])
        except Trouble as trouble:
            if not optional:
                raise
            say(f"{wanted[0] if options else f'[{extra}]'} is left out: {trouble}")
        else:
            self._stamp(name, mark)

    def _install(self, extra: str, wanted: list[str]) -> None:
        if extra in COMPILED:
            machine.require_compiler()
        if extra == "apache":
            self._remove_old_flavour()
        self.pip(*(["--no-cache-dir"] if extra in COMPILED else []), *wanted)

    def add_package(self) -> None:
        mark = _fingerprint()
        if self._is_current("package", mark):
            return
        say("wsgi_persist itself")
        # Built from a copy, so that the clone stays as it is.
        with tempfile.TemporaryDirectory(dir=self.home) as copy:
            for name in filter(lambda name: (ROOT / name).exists(), SOURCES):
                _copy(ROOT / name, Path(copy) / name)
            self.pip("--no-deps", "--no-build-isolation", "--force-reinstall", copy)
        self._stamp("package", mark)

    def pip(self, *arguments: str) -> None:
        # Compilers may use every core; the flags of a make that started this are not theirs.
        environ = {**os.environ, "MAKEFLAGS": f"-j{os.cpu_count()}"}
        run([str(self.python), "-m", "pip", "install", "-q", *arguments], self.log, environ)

    def _fitting(self, requirement: str) -> str:
        stamp = self.root / ".stamp-apache"
        installed = stamp.read_text() if stamp.exists() else ""
        return requirement.replace("mod_wsgi", machine.mod_wsgi_flavour(installed, self.log))

    def _remove_old_flavour(self) -> None:
        # Two flavours of it own the same files.
        old = ["mod_wsgi", "mod_wsgi-standalone", "mod_wsgi-httpd"]
        run([str(self.python), "-m", "pip", "uninstall", "-q", "-y", *old], self.log)

    def _is_current(self, name: str, mark: str) -> bool:
        stamp = self.root / f".stamp-{name}"
        return stamp.exists() and stamp.read_text() == mark

    def _stamp(self, name: str, mark: str) -> None:
        (self.root / f".stamp-{name}").write_text(mark)


def requirements(extra: str) -> list[str]:
    """The requirements of an extra, as setup.cfg has them."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    known = config["options.extras_require"]
    if extra not in known:
        raise Trouble(f"no extra {extra!r} in setup.cfg; known are {', '.join(known)}")
    return known[extra].split()


def _slug(requirement: str) -> str:
    """The name alone."""
    return re.split(r"[^\w-]", requirement)[0]


def _own_folder() -> Path:
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


def main(arguments: Sequence[str]) -> int:
    try:
        print(folder() if arguments == ["--where"] else build(arguments))
    except Trouble as trouble:
        print(f"environment: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

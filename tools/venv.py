"""A virtual environment that remembers what was put into it, and whose pip leaves nothing elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tools import machine
from tools.steps import LOCAL, run


class Venv:
    """
    :ivar home: the folder of all that is built.
    :ivar root: the environment in it.
    :ivar is_new: whether it is still to be made, or to be made anew.
    """

    def __init__(self, home: Path, name: str = "venv") -> None:
        self.home = home
        self.root = home / name
        self.python = self.root / "bin" / "python"
        self.log = home / "build.log"
        self.base = machine.interpreter()
        self.is_new = self.holds("base") != self.base.identity

    def create(self) -> None:
        run([self.base.path, "-m", "venv", "--clear", str(self.root)], self.log)
        # The ones that come with venv may be missing (setuptools) or too old to know our metadata.
        # A missing network is told after seconds, not after half a minute.
        self.install("--retries", "3", "-U", "pip", "setuptools", "wheel")
        self.stamp("base", self.base.identity)
        self.is_new = False

    def install(self, *wanted: str, environ: Mapping[str, str] | None = None) -> None:
        self.pip("install", *wanted, environ=environ)

    def pip(self, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        """What it keeps and what it builds in is ours alone: programs remember where they were built."""
        scratch = self.home / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        given = {"PIP_CACHE_DIR": str(self.home / "cache"), **(environ or os.environ)}
        # Compilers may use every core; the flags of a make that started this are not theirs.
        ours = {**LOCAL, "TMPDIR": str(scratch), "MAKEFLAGS": f"-j{os.cpu_count()}"}
        run([str(self.python), "-m", "pip", *arguments], self.log, {**given, **ours})
        shutil.rmtree(scratch, ignore_errors=True)

    def has(self, name: str, mark: str) -> bool:
        """Whether this was put in, and still is what is wanted."""
        return not self.is_new and self.holds(name) == mark

    def holds(self, name: str) -> str:
        stamp = self.root / f".stamp-{name}"
        return stamp.read_text() if stamp.exists() else ""

    def stamp(self, name: str, mark: str) -> None:
        (self.root / f".stamp-{name}").write_text(mark)

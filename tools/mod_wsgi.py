"""The mod_wsgi of the package index: for the machine's Apache, or with one of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tools import apt, machine, standalone
from tools.standalone import WITH_TLS, WITHOUT_TLS
from tools.steps import Step, say
from tools.venv import Venv

SECONDS = 25


class ModWsgi:
    """
    :param requirement: such as ``mod_wsgi>=6.0``.
    """

    def __init__(self, venv: Venv, requirement: str) -> None:
        self._venv = venv
        self._requirement = requirement

    def is_standalone(self, hoping: bool = True) -> bool:
        """Whether its Apache comes with it; *hoping* that apt-get brings one, where it may."""
        # Once compiled it stays, as long as its environment does.
        compiled = not self._venv.is_new and standalone.NAME in self._venv.holds("apache")
        if compiled or os.environ.get("APACHE") == "standalone":
            return True
        return not (apt.has_apache() or (hoping and apt.is_allowed()))

    def needs(self) -> machine.Needs:
        """Of the machine, to compile it."""
        if not any(self.pending()):
            return machine.NOTHING
        return standalone.NEEDS if self.is_standalone() else machine.COMPILER

    def pending(self) -> Iterator[Step]:
        mark = self._mark()
        # One that has TLS is as good where it would be compiled without by now.
        if any(self._venv.has("apache", fits) for fits in (mark, mark.replace(WITHOUT_TLS, WITH_TLS))):
            return
        if self.is_standalone():
            yield Step(f"Apache and mod_wsgi, compiled ({standalone.about()})", standalone.SECONDS, self._add)
        else:
            yield Step("mod_wsgi, compiled for the machine's Apache", SECONDS, self._add)

    def _add(self) -> None:
        standing_alone = self.is_standalone(hoping=False)
        if standing_alone and not self.is_standalone():
            self._fall_back()
        mark = self._mark(hoping=False)
        self._venv.stamp("apache", "")  # an interruption leaves none
        # Two flavours of it own the same files.
        self._venv.pip("uninstall", "-y", "mod_wsgi", standalone.NAME, "mod_wsgi-httpd")
        if standing_alone:
            environ = standalone.environ(self._venv.home, self._venv.base)
            self._venv.install(mark.partition(" ")[0], environ=environ)
        else:
            # Another Python of the same version may have left one in pip's cache.
            self._venv.install("--no-cache-dir", mark)
        self._venv.stamp("apache", mark)

    def _fall_back(self) -> None:
        """apt-get was to bring an Apache, and did not."""
        machine.require(self._venv.base, self._venv.home, 0, standalone.NEEDS)
        say(f"no Apache with apxs here: one is compiled, for about {standalone.SECONDS} s")

    def _mark(self, hoping: bool = True) -> str:
        if not self.is_standalone(hoping):
            return self._requirement
        return f"{self._requirement.replace('mod_wsgi', standalone.NAME)} {standalone.about()}"

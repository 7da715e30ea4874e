"""Which Apache, which mod_wsgi module, and whom its daemons run as."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.apt import MODULE
from tools.machine import SEARCH
from wsgi_persist.command.probe import mod_wsgi
from wsgi_persist.command.syntax import environ_with

SYSTEM = "mod_wsgi of Debian"
# Run as the daemon's user; parents come before children, so the first that fails is the culprit.
PROBE = """for path; do
    if [ -d "$path" ]; then [ -x "$path" ]; else [ -r "$path" ]; fi || { echo "$path"; exit 1; }
done"""


class ApacheError(Exception):
    """Apache cannot do what is asked; the text says why."""


@dataclass(frozen=True)
class Httpd:
    """An Apache, the mod_wsgi module that it loads, and where its own libraries are, by variable."""

    name: str
    program: Path
    modules: Path
    wsgi: Path
    libraries: Mapping[str, str] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        """Of its processes."""
        return environ_with(self.libraries)

    def load(self, names: Iterable[str]) -> str:
        """LoadModule lines; what is compiled in has no file and needs none."""
        files = {name: self.modules / f"mod_{name}.so" for name in names}
        files["wsgi"] = self.wsgi
        lines = [f'LoadModule {name}_module "{file}"' for name, file in files.items() if file.exists()]
        return "\n".join(lines)

    @property
    def own(self) -> bool:
        """Whether it came with the virtual environment, not with the machine."""
        return self.program.is_relative_to(sys.prefix)

    @property
    def generation(self) -> int:
        """Of its mod_wsgi: 4 in Debian 12, 5 in Debian 13. (Python's version stands there, too.)"""
        found = re.search(rb"\0([4-9])\.\d+\.\d+\0", self.wsgi.read_bytes())
        if found is None:
            raise ApacheError(f"{self.wsgi} does not tell its version")
        return int(found[1])

    @property
    def old(self) -> bool:
        """Whether its mod_wsgi is older than 6."""
        return self.generation < 6

    def lacks_tls(self) -> str | None:
        """What to say where it was compiled without."""
        if (self.modules / "mod_ssl.so").exists():
            return None
        return f"the Apache of {self.name} has no mod_ssl: libssl-dev was not there when it was compiled"

    def objection(self) -> str | None:
        """Why this Python cannot run under it."""
        built_for = re.search(rb"libpython(3\.\d+)", self.wsgi.read_bytes())
        if self.name != SYSTEM or built_for is None:
            return None
        wanted = f"/usr/bin/python{built_for[1].decode()}"
        ours = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
        return None if ours == wanted else f"{self.name} is for {wanted}, not for {sys.executable}"

    def version(self) -> str:
        """Such as Apache/2.4.62 (Debian)."""
        command = [str(self.program), "-v"]
        said = subprocess.run(command, env=self.environ(), capture_output=True, text=True, check=True)
        return said.stdout.splitlines()[0].removeprefix("Server version: ")


def pypi() -> Httpd:
    """The Apache that the mod_wsgi of this Python was built for: the machine's, or its own."""
    found = mod_wsgi()
    if found is None:
        raise ApacheError(f"no mod_wsgi in {sys.prefix}: python3 -m tools.environment apache")
    paths = (Path(found[what]) for what in ("program", "modules", "module"))
    return Httpd("mod_wsgi of PyPI", *paths, found["libraries"])


def at_hand() -> Httpd:
    """That of this Python, else the distribution's, if it is for this Python."""
    if mod_wsgi() is not None:
        return pypi()
    found = system()
    if objection := found.objection():
        raise ApacheError(objection)
    return found


def system() -> Httpd:
    """The Apache and the mod_wsgi that the distribution packaged."""
    found = shutil.which("apache2", path=SEARCH)
    if found is None or not MODULE.exists():
        raise ApacheError("no mod_wsgi of Debian here: apt-get install apache2 libapache2-mod-wsgi-py3")
    return Httpd(SYSTEM, Path(found), MODULE.parent, MODULE)


def daemon_user() -> pwd.struct_passwd:
    """Root hands over to somebody unprivileged; anybody else cannot, and stays who they are."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("www-data") or names["nobody"]


def daemon_group() -> str:
    return grp.getgrgid(daemon_user().pw_gid).gr_name


def require_readable(paths: Iterable[Path]) -> None:
    """Raise an error that names the path and the user, instead of a 500 that names neither."""
    user = daemon_user()
    wanted = [step for path in paths for step in _steps(path)]
    for path in wanted:
        if not path.exists():
            raise ApacheError(f"{path} does not exist")
    switch = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    probe = subprocess.run(
        ["/bin/sh", "-c", PROBE, "probe", *map(str, wanted)],
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        **(switch if os.geteuid() == 0 else {}),  # type: ignore
    )
    if probe.returncode != 0:
        raise ApacheError(
            f"{probe.stdout.strip()} cannot be read by user {user.pw_name}, who serves the site: "
            "put it where everybody may read (chmod o+rx on the folder and those above it)"
        )


def _steps(path: Path) -> list[Path]:
    """The path, what it links to, and every folder on the way to both."""
    ends = dict.fromkeys([path.absolute(), path.resolve()])
    return [step for end in ends for step in [*reversed(end.parents), end]]

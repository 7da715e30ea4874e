"""Apache's own syntax test of a rendered virtual host."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wsgi_persist.command.refusal import Refused

# A daemon's programs are often not in an ordinary user's PATH.
_SEARCH = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/usr/local/apache2/bin"]
)
_PROGRAMS = ("apache2", "httpd")
_MODULES = (
    *("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/lib/httpd/modules"),
    *("/etc/httpd/modules", "/usr/local/apache2/modules", "/usr/local/libexec/apache24"),
)
_NEEDED = (
    *("mpm_event", "mpm_worker", "mpm_prefork"),
    *("unixd", "authz_core", "authz_host", "alias", "log_config"),
)
_USEFUL = ("headers", "setenvif", "deflate", "expires", "mime", "env", "rewrite", "ssl", "socache_shmcb")


class Httpd(NamedTuple):
    """An Apache; ``libraries`` are folders of its own by the variable that leads to them."""

    program: Path
    modules: Path
    wsgi: Path
    libraries: Mapping[str, str]


def environ_with(libraries: Mapping[str, str]) -> dict[str, str]:
    """The environment of an Apache's processes. What mod_wsgi-standalone compiled looks for its libraries
    where pip built it, below the folder for temporary files, unless it finds them earlier."""
    found = {name: [folder, os.environ.get(name)] for name, folder in libraries.items()}
    # An empty part would be the current folder.
    return {**os.environ, **{name: os.pathsep.join(filter(None, parts)) for name, parts in found.items()}}


def find(of_the_venv: Mapping[str, Any] | None) -> Httpd:
    """The Apache that the site's own mod_wsgi was built for, else the machine's."""
    if of_the_venv and (program := shutil.which(of_the_venv["program"], path=_SEARCH)):
        modules, wsgi = Path(of_the_venv["modules"]), Path(of_the_venv["module"])
        return Httpd(Path(program), modules, wsgi, of_the_venv["libraries"])
    program = next(filter(None, (shutil.which(name, path=_SEARCH) for name in _PROGRAMS)), None)
    if program is None:
        raise Refused("--check: no Apache on this machine (apache2, httpd): install it, or leave --check out")
    for folder in map(Path, _MODULES):
        if (folder / "mod_wsgi.so").is_file():
            return Httpd(Path(program), folder, folder / "mod_wsgi.so", {})
    raise Refused(
        f"--check: {program} has no mod_wsgi: install libapache2-mod-wsgi-py3, or mod_wsgi from PyPI "
        "into the site's virtual environment, or leave --check out"
    )


def check(httpd: Httpd, text: str) -> None:
    """As ``apachectl -t``, with nothing but this file.

    :raises Refused: with what Apache says.
    """
    with tempfile.TemporaryDirectory(prefix="wsgi-persist") as name:
        folder = Path(name)
        (folder / "site.conf").write_text(text, encoding="utf-8")
        (folder / "httpd.conf").write_text(_main(httpd, folder), encoding="utf-8")
        command = [str(httpd.program), "-t", "-f", str(folder / "httpd.conf")]
        environ = environ_with(httpd.libraries)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).replace(str(folder / "site.conf"), "the rendered file")
            raise Refused(f"--check: {httpd.program} -t: {said}")


def _main(httpd: Httpd, folder: Path) -> str:
    lines = [f'ServerRoot "{folder}"', f'DefaultRuntimeDir "{folder}"', f'ErrorLog "{folder}/error.log"']
    lines += ["ServerName localhost", f'LoadModule wsgi_module "{httpd.wsgi}"']
    mpm = next((name for name in _NEEDED if (httpd.modules / f"mod_{name}.so").exists()), None)
    for name in [*filter(None, [mpm]), *_NEEDED[3:], *_USEFUL]:
        if (file := httpd.modules / f"mod_{name}.so").exists():
            lines.append(f'LoadModule {name}_module "{file}"')
    return "\n".join([*lines, f'Include "{folder}/site.conf"', ""])

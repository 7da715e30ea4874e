"""``apachectl -t`` of every shipped file, with every Apache and every mod_wsgi at hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import trustme

from tools import httpd as installed
from tools.apache import VHOSTS, scratch
from tools.httpd import ApacheError, Httpd
from tools.steps import end_tidily, say

MODULES = (
    *("unixd", "authz_core", "authz_host", "log_config", "alias", "env"),
    *("headers", "macro", "socache_shmcb", "ssl"),
)
LOADS_MOD_WSGI = "load_mod_wsgi.conf"
CONFIG = """\
{load}
ServerRoot "{root}"
ServerName localhost
DefaultRuntimeDir "{root}"
ErrorLog "{root}/error.log"
Listen 127.0.0.1:9
{defines}
Include "{file}"
"""


def files() -> list[Path]:
    """Those that stand on their own; what is named *.inc is a part of one of them."""
    return sorted(VHOSTS.glob("*.conf"))


def servers() -> tuple[list[Httpd], list[str]]:
    """What is at hand, and what is missing."""
    found, missing = [], []
    ways: tuple[Callable[[], Httpd], ...] = (installed.pypi, installed.system)
    for way in ways:
        try:
            found.append(way())
        except ApacheError as error:
            missing.append(str(error))
    if not any(server.own for server in found):
        missing.append("no Apache of mod_wsgi-standalone here: APACHE=standalone in another clone")
    return found, missing


def objection(file: Path, server: Httpd) -> str | None:
    """Why this file cannot be checked with this Apache."""
    parts = [VHOSTS / name for name in re.findall(r"\w+\.inc\b", file.read_text())]
    return server.lacks_tls() if any("SSLEngine" in part.read_text() for part in [file, *parts]) else None


def check(file: Path, server: Httpd, root: Path) -> None:
    """Raise with what Apache complains about, be it a warning."""
    said = told(file, server, root, "DUMP_INCLUDES")
    if str(file) not in said:
        raise ApacheError(f"{file.name}, {server.name}:\n{said.strip()}")


def told(file: Path, server: Httpd, root: Path, what: str) -> str:
    """What Apache says of its configuration with that file; raises where it complains."""
    config = root / "httpd.conf"
    config.write_text(_configuration(file, server, root))
    command = [str(server.program), "-f", str(config), "-t", "-D", what]
    done = subprocess.run(command, env=server.environ(), capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0 or re.search(r"AH\d{5}", said):
        raise ApacheError(f"{file.name}, {server.name}:\n{said.strip()}")
    return said


def _configuration(file: Path, server: Httpd, root: Path) -> str:
    mpm = file.stem if file.stem.startswith("mpm_") else "mpm_prefork"
    if not (server.modules / f"mod_{mpm}.so").exists():
        raise ApacheError(f"{file.name}: {server.name} has no {mpm}")
    load = server.load([mpm, *MODULES])
    if file.name == LOADS_MOD_WSGI:
        load = "\n".join(line for line in load.splitlines() if "wsgi_module" not in line)
    defines = dict.fromkeys(("PERSIST_PROJECT", "PERSIST_STATIC", "PERSIST_MEDIA"), root)
    defines["PERSIST_FILES"] = VHOSTS
    defines["PERSIST_CERTIFICATE"] = defines["PERSIST_KEY"] = root / "tls.pem"
    defines["PERSIST_MOD_WSGI"] = server.wsgi
    defines["PERSIST_STATUS"], defines["PERSIST_STATUS_PAGE"] = root, Path("/persist-status")
    lines = "\n".join(f'Define {name} "{value}"' for name, value in defines.items())
    return CONFIG.format(load=load, root=root, defines=lines, file=file)


def main() -> int:
    end_tidily()
    found, missing = servers()
    try:
        with scratch("check") as root:
            certificate = trustme.CA().issue_cert("localhost")
            certificate.private_key_and_cert_chain_pem.write_to_path(root / "tls.pem")
            for server in found:
                checked = [file for file in files() if not objection(file, server)]
                missing += [
                    f"{file.name}: {objection(file, server)}" for file in files() if file not in checked
                ]
                for file in checked:
                    check(file, server, root)
                names = ", ".join(file.name for file in checked)
                print(f"syntax OK with {server.name} in {server.version()}: {names}")
    except ApacheError as error:
        print(error, file=sys.stderr)
        return 1
    for name in missing:
        say(f"not checked: {name}")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())

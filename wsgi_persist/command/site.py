"""The site as its own interpreter sees it, and what would keep it from being served."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wsgi_persist.command import probe
from wsgi_persist.command.access import ENTER, READ, WRITE, Account, obstacle
from wsgi_persist.command.refusal import Refused

_PATIENCE = 60.0  # seconds; a site that imports for longer would not start under Apache either
# Apache's environment has none of these, and a script that lives by them works in a shell only.
_OF_THE_SHELL = re.compile(r"DJANGO_SETTINGS_MODULE|PYTHON.*")


@dataclass(frozen=True)
class Site:
    """What the arguments say about a site; all paths are absolute."""

    project: Path
    venv: Path
    script: Path | None
    settings: str | None

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    def find_missing(self) -> Iterator[str]:
        """What has to exist before anything can be asked."""
        if not self.project.is_dir():
            yield f"the project folder {self.project} does not exist: give --project"
        elif self.script is not None and not self.script.is_file():
            yield f"the script {self.script} does not exist: give --wsgi"
        if not os.access(self.python, os.X_OK):
            yield f"{self.venv} has no bin/python that can be run: give the virtual environment with --venv"

    def ask(self, ask_databases: bool = False) -> dict[str, Any]:
        """What the probe finds.

        :raises Refused: the site cannot be imported, for the reason that is told.
        """
        script = str(self.script) if self.script else None
        request = {"script": script, "settings": self.settings, "ask_databases": ask_databases}
        source = Path(probe.__file__).read_text(encoding="utf-8")
        # -B: root's compiled files are not for the project.
        command = [str(self.python), "-B", "-c", source, str(self.project), json.dumps(request)]
        facts = _answer(command, self.project)
        if "error" in facts:
            raise Refused(f"the site, asked by {self.python}: {facts['error']}")
        return facts


def _answer(command: list[str], folder: Path) -> dict[str, Any]:
    environ = {name: value for name, value in os.environ.items() if not _OF_THE_SHELL.fullmatch(name)}
    # A file, not a pipe, which programs that the site starts would keep open.
    with tempfile.TemporaryFile() as said:
        return _run(command, folder, environ, said)


def _run(command: list[str], folder: Path, environ: dict[str, str], said: IO[bytes]) -> dict[str, Any]:
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": said}
    try:
        done = subprocess.run(command, cwd=folder, env=environ, check=False, timeout=_PATIENCE, **pipes)
        return dict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise Refused(f"the site was not imported by {command[0]} within {_PATIENCE:.0f} s") from None
    except OSError as error:
        raise Refused(f"{command[0]} cannot be run in {folder}: {error.strerror}") from None
    except ValueError:
        said.seek(0)
        last = " ".join(said.read().decode(errors="replace").strip().splitlines()[-1:])
        raise Refused(
            f"{command[0]} ended with status {done.returncode} while it imported the site: {last}"
        ) from None


def find_mistakes(site: Site, facts: Mapping[str, Any]) -> Iterator[str]:
    """What the site itself lacks to keep its connections."""
    script = facts["script"]
    if not facts["application"]:
        yield f"{script} has no callable named 'application', which is what Apache asks it for"
    elif not facts["wrapped"]:
        yield (
            f"{script} does not wrap its application: write "
            "'from wsgi_persist import PersistMiddleware' and "
            "'application = PersistMiddleware(get_wsgi_application())'"
        )
    elif not facts["aliases"] and not facts["pins"]:
        yield (
            f"{script} wraps its application, but has no connection to keep: write "
            '"ENGINE": "wsgi_persist.backends.postgresql" in DATABASES, or give pins=[Pin(...)]'
        )
    if site.settings and facts["settings"] != site.settings:
        yield f"{script} uses the settings {facts['settings']!r}, not {site.settings!r} as --settings says"
    if not Path(script).is_relative_to(site.project):
        yield f"{script} is not inside of {site.project}, and Apache grants nothing else: give --project"


def find_obstacles(
    site: Site, facts: Mapping[str, Any], account: Account, static: Path | None
) -> Iterator[str]:
    """What the workers' user cannot reach."""
    folders = [site.project, site.venv, *map(Path, facts["files"]), *([static] if static else [])]
    wanted = [(site.python, READ | ENTER), *((folder, READ | ENTER) for folder in folders)]
    wanted.append((Path(facts["script"]), READ))
    for about in facts["aliases"].values():
        wanted += _socket_of(about["host"], about["port"])
    found: dict[Path, str] = {}
    for path, bits in wanted:
        if met := obstacle(account, path, bits):
            found.setdefault(met.path, met.text)  # one folder is often in the way of several
    yield from found.values()
    if not found:
        yield from _find_unreadable(facts["imported"], account)


def _find_unreadable(files: Iterable[str], account: Account) -> Iterator[str]:
    """The first one stands for all: a umask of 077 makes hundreds."""
    found = {met.path: met.text for file in files if (met := obstacle(account, Path(file), READ))}
    for text in list(found.values())[:1]:
        yield text + (f" ({len(found) - 1} more like this)" if len(found) > 1 else "")


def _socket_of(host: str, port: str) -> list[tuple[Path, int]]:
    """The folder of a Unix socket, and the socket itself while the server is up."""
    if not host.startswith("/"):
        return []
    socket = Path(host) / f".s.PGSQL.{port}"
    return [(Path(host), ENTER), *([(socket, READ | WRITE)] if os.path.exists(socket) else [])]

"""The site as its own interpreter sees it, and what would keep it from being served."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wsgi_persist.command import probe
from wsgi_persist.command.access import Account
from wsgi_persist.command.refusal import Refused
from wsgi_persist.version import OLDEST_DJANGO

_PATIENCE = 60.0  # seconds; a site that imports for longer would not start under Apache either
# Apache's environment has none of these, and a script that lives by them works in a shell only.
_OF_THE_SHELL = re.compile(r"DJANGO_SETTINGS_MODULE|PYTHON.*|PG[A-Z]+")


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

    def ask(self, account: Account, about: str = "") -> dict[str, Any]:
        """What the probe finds, or why the site cannot be imported.

        :param about: what its databases are asked for: ``limits``, ``sessions`` or nothing.
        :raises Refused: there is no answer.
        """
        script = str(self.script) if self.script else None
        request = {"script": script, "settings": self.settings, "asked": about}
        source = Path(probe.__file__).read_text(encoding="utf-8")
        # -B: an operator's compiled files are not for the project.
        command = [str(self.python), "-B", "-c", source, str(self.project), json.dumps(request)]
        # A file, not a pipe, which programs that the site starts would keep open.
        with tempfile.TemporaryFile() as said:
            return _answer(command, self.project, said, _as_worker(account))


def _as_worker(account: Account) -> dict[str, Any]:
    """The environment of a worker, and its user: what the site writes when it is imported, such as a
    log file, has to be the worker's."""
    environ = {name: value for name, value in os.environ.items() if not _OF_THE_SHELL.fullmatch(name)}
    if not account.can_be_taken:
        return {"env": environ}
    environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name)
    groups = sorted(account.groups)
    return {"env": environ, "user": account.uid, "group": account.gid, "extra_groups": groups}


def _answer(command: list[str], folder: Path, said: IO[bytes], how: Mapping[str, Any]) -> dict[str, Any]:
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": said}
    try:
        done = subprocess.run(command, cwd=folder, check=False, timeout=_PATIENCE, **pipes, **how)
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
    if facts["django"] and tuple(facts["django"][:2]) < OLDEST_DJANGO:
        found, oldest = (".".join(map(str, version)) for version in (facts["django"][:3], OLDEST_DJANGO))
        yield f"{site.venv} has Django {found}, which is not supported: install {oldest} or later there"
    if site.settings and facts["settings"] != site.settings:
        yield f"{script} uses the settings {facts['settings']!r}, not {site.settings!r} as --settings says"
    if not Path(script).is_relative_to(site.project):
        yield f"{script} is not inside of {site.project}, and Apache grants nothing else: give --project"

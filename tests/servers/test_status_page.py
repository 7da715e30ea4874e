"""The page of the workers by servers other than Apache, with the commands of the manual."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.http import get
from tests.servers.test_samples import UWSGI
from tests.serving import ROOT, started

MANUAL = (ROOT / "docs" / "page.rst").read_text()
COMMANDS = re.findall(r"^    ((?:gunicorn|uwsgi|waitress-serve) .*)$", MANUAL, re.MULTILINE)


def test_manual_has_three() -> None:
    assert [command.partition(" ")[0] for command in COMMANDS] == ["gunicorn", "uwsgi", "waitress-serve"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.partition(" ")[0])
def test_page_is_served(command: str, server: Server, tmp_path: Path) -> None:
    name, *options = shlex.split(command.replace("8001", "{port}"))
    program = Path(sys.executable).with_name(name)
    if program == UWSGI and not UWSGI.exists():
        pytest.skip("no uWSGI beside this Python: pip install uwsgi, which needs a C compiler")
    (tmp_path / "status").mkdir()
    given = {"page": "/", "PERSIST_STATUS": str(tmp_path / "status")}
    with started([str(program), *options], server, tmp_path / "log", **given) as running:
        assert "No worker tells of itself" in get(running.port, "/").text
        assert get(running.port, "/metrics").status == 200
        assert get(running.port, "/other").status == 404

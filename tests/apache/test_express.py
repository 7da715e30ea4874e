"""mod_wsgi-express, which writes an Apache's configuration of its own for one site."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Server, eventually
from tests.http import get, in_parallel
from tests.serving import Running, started
from tools.apache import public_folder
from tools.postgres import unprivileged_user

EXPRESS = Path(sys.executable).with_name("mod_wsgi-express")
pytestmark = [
    pytest.mark.apache,
    pytest.mark.skipif(not EXPRESS.exists(), reason="no mod_wsgi-express beside this Python"),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = public_folder("express")
    yield made
    shutil.rmtree(made)


def command(project: Path, folder: Path, threads: int) -> list[str]:
    options = ["--port={port}", f"--server-root={folder}", "--log-to-terminal", "--locale=C.UTF-8"]
    user = unprivileged_user()
    if user is not None:
        options += [f"--user={user}", f"--group={user}"]
    start = [str(EXPRESS), "start-server", str(project / "wsgi.py"), f"--working-directory={project}"]
    return [*start, "--processes=2", f"--threads={threads}", *options]


@pytest.mark.parametrize("threads", [1, 2])
def test_each_keeps_its_own_until_the_stop(
    threads: int, project: Path, folder: Path, server: Server, tmp_path: Path
) -> None:
    with started(command(project, folder, threads), server, tmp_path / "log", PYTHONPATH="") as running:
        assert eventually(lambda: len(places(running)), 2 * threads, timeout=20)
        assert len(set(places(running).values())) == 2 * threads == server.connections()
        running.stop(signal.SIGTERM)
    assert eventually(server.backends, [])
    assert "connections closed" in (tmp_path / "log").read_text()


def places(running: Running) -> dict[tuple[int, int], int]:
    """The backend that each thread of each worker keeps."""
    answers = [answer.json for answer in in_parallel(12, lambda: get(running.port, "/busy/"))]
    return {(answer["worker"], answer["thread"]): answer["first"] for answer in answers}

"""``make demo`` leaves nothing, whatever ends it and whenever."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.http import get
from tools.apache import Apache, public_folder, scratch
from tools.demo import running, started
from tools.postgres import free_port

pytestmark = pytest.mark.apache
ROOT = Path(__file__).parent.parent.parent


class Demo:
    """One that runs, and what stands in its folder for temporary files."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mark = f"DEMO_MARK={uuid.uuid4()}"
        self.home = folder / "demo"
        self.said = folder / f"said-{uuid.uuid4()}"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        name, _, value = self.mark.partition("=")
        environ = {**os.environ, name: value, "TMPDIR": str(self.temporary)}
        command = [sys.executable, "-m", "tools.demo", "--home", str(self.home), *options]
        with self.said.open("w") as said:
            how = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
            # A session of its own, as a terminal gives it.
            self.process = subprocess.Popen(command, cwd=ROOT, env=environ, start_new_session=True, **how)

    def says(self, words: str) -> bool:
        return words in self.said.read_text()

    def processes(self) -> list[int]:
        """All that it has started, and it."""
        found = filter(self._is_of_it, Path("/proc").glob("[0-9]*"))
        return [int(process.name) for process in found]

    def _is_of_it(self, process: Path) -> bool:
        try:
            # PostgreSQL's overwrite their environment with their title, and stand in their data.
            marked = self.mark.encode() in (process / "environ").read_bytes()
            return marked or self.home in (process / "cwd").readlink().parents
        except OSError:
            return False


@pytest.fixture
def folder() -> Iterator[Path]:
    made = public_folder("demo")
    yield made
    shutil.rmtree(made)


def segments() -> set[str]:
    """Shared memory of PostgreSQL that has a name, and so outlives its processes."""
    return {path.name for path in Path("/dev/shm").glob("PostgreSQL.*")}


MOMENTS = [
    ("--> PostgreSQL", signal.SIGTERM),
    ("--> site and data", signal.SIGINT),
    ("--> two Apaches", signal.SIGHUP),
    ("--> round 1 of 1", signal.SIGTERM),
    ("Serving with wsgi_persist", signal.SIGINT),
    ("Serving with wsgi_persist", signal.SIGHUP),
]


@pytest.mark.parametrize(("moment", "number"), MOMENTS, ids=str)
def test_nothing_is_left(moment: str, number: signal.Signals, folder: Path) -> None:
    there = segments()
    demo = Demo(folder, "--rounds", "1", "--seconds", "0.2")
    assert eventually(lambda: demo.says(moment), True, timeout=60)
    assert len(demo.processes()) > (0 if moment.endswith("PostgreSQL") else 1)
    # As a terminal does: to all of its group.
    os.killpg(demo.process.pid, number)
    demo.process.wait(30)
    assert eventually(demo.processes, [])
    assert list(demo.temporary.iterdir()) == []
    assert eventually(lambda: segments() - there, set())
    assert "Traceback" not in demo.said.read_text()


@pytest.fixture
def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """When a temporary folder has just been made, and nobody knows of it."""
    make = tempfile.mkdtemp

    def made(*args: Any, **kwargs: Any) -> str:
        new = make(*args, **kwargs)
        signal.raise_signal(signal.SIGTERM)
        return new

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    (folder / "tmp").mkdir()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("what", ["Apache", "PostgreSQL", "a folder"])
def test_no_folder_is_left_that_nobody_knows_of(interrupted: None, what: str, folder: Path) -> None:
    project = folder / "site"
    project.mkdir()
    (project / "wsgi.py").touch()
    with ExitStack() as stack, pytest.raises(SystemExit):
        if what == "Apache":
            started(Apache(folder, defines={"PERSIST_PROJECT": str(project)}), stack)
        else:
            stack.enter_context(running(folder, free_port()) if what == "PostgreSQL" else scratch("any"))
    assert list((folder / "tmp").iterdir()) == []


def test_its_workers_are_shown_beside_it(folder: Path) -> None:
    demo = Demo(folder, "--rounds", "1", "--seconds", "0.2", "--port", str(free_port()))
    try:
        assert eventually(lambda: demo.says("what the workers do"), True, timeout=60)
        address = re.search(r"http://127\.0\.0\.1:(\d+)(/\S+) +what the workers do", demo.said.read_text())
        assert address is not None
        port, path = int(address[1]), address[2]
        assert eventually(lambda: "sessions are in use" in get(port, path).text, True)
        assert eventually(lambda: "Workers: 2 of 2 run" in get(port, path).text, True)
        assert 'requests_total{site="demo"}' in get(port, f"{path}/metrics").text
    finally:
        demo.process.send_signal(signal.SIGTERM)
        demo.process.wait(30)


def test_second_one_says_so(folder: Path) -> None:
    first = Demo(folder, "--rounds", "1", "--seconds", "0.2")
    try:
        assert eventually(lambda: first.says("--> PostgreSQL"), True, timeout=60)
        second = Demo(folder)
        assert second.process.wait(30) == 2
        assert second.says("demo: the demonstration of this clone is running already: stop it\n")
    finally:
        first.process.send_signal(signal.SIGTERM)
        first.process.wait(30)


def test_initdb_is_waited_for(folder: Path) -> None:
    """Killed, it leaves a server behind for a moment, and segments of its shared memory for ever."""
    there = segments()
    demo = Demo(folder, "--rounds", "1", "--seconds", "0.2")
    assert eventually((demo.home / "postgresql/global/pg_control").exists, True)
    demo.process.send_signal(signal.SIGTERM)
    demo.process.wait(30)
    assert demo.processes() == []
    databases = demo.home / "postgresql/base"
    assert len(list(databases.iterdir())) == 3
    assert eventually(lambda: segments() - there, set())


def test_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = Demo(folder, "--port", str(port))
        assert demo.process.wait(30) == 2
    assert demo.says(f"demo: port {port} is taken or not allowed: PORT=<another>\n")

"""The page of the workers: as text, and as a browser shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from tests.page.scenes import Scene
from tools.browser import LACKING, Browser, browser, program
from tools.environment import folder
from wsgi_persist.status import StatusPage
from wsgi_persist.status.page.repeater import Repeater

Serve = Callable[[StatusPage], str]


class Threaded(ThreadingMixIn, WSGIServer):
    """A browser opens connections on which it asks nothing."""

    daemon_threads = True


class Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads when it is asked, so that it is known when."""
    monkeypatch.setattr(Repeater, "start", lambda repeater: None)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "status", time.time())
    yield scene
    scene.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a page and gives its address."""
    with ExitStack() as stack:

        def start(page: StatusPage) -> str:
            server = make_server("127.0.0.1", 0, page, Threaded, Silent)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if program() is None:
        pytest.skip(LACKING)
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are kept."""
    found = folder() / "pictures"
    found.mkdir(parents=True, exist_ok=True)
    return found

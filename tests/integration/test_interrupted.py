"""A request that an exception interrupts anywhere, as mod_wsgi's does one that takes too long."""

from __future__ import annotations

import dis
import gc
import itertools
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.late import Late
from wsgi_persist.worker import process_scope


class Interrupted(BaseException):
    pass


class Interruption:
    """Raises once where requests are seen in and out, at a bytecode where Python itself looks for exceptions
    from outside: at the beginning of a function, after a call, at a jump back. So none comes between a lock
    and its block.
    """

    LOOKS_AFTER = ("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")
    FILES = ("entrance", "scope", "boundary", "leases", "beside", "wrappers")
    PLACES = tuple(f"wsgi_persist/worker/{name}.py" for name in FILES)

    def __init__(self, at: int) -> None:
        self.left = at
        self.came: tuple[str, int] | None = None
        self._looks = True

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: Any, event: str, arg: Any) -> Any:
        code = frame.f_code
        # What comes in a finaliser, Python itself ignores.
        if code.co_name == "__del__" or not code.co_filename.endswith(self.PLACES):
            return None
        frame.f_trace = self._stepped  # first: without it Python 3.13 takes no notice of the next
        frame.f_trace_opcodes = self._looks = True
        return self._stepped

    def _stepped(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "return":
            self._looks = True
        elif event == "opcode" and self.came is None:
            code = frame.f_code
            self.left -= self._looks
            self._looks = dis.opname[code.co_code[frame.f_lasti]].startswith(self.LOOKS_AFTER)
            if self.left < 0:
                self.came = code.co_name, frame.f_lineno
                raise Interrupted
        return self._stepped


@pytest.fixture
def quick_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def serve(application: Any, path: str) -> None:
    with closing(Late(application, path)) as late:
        late.rest()


def begun(application: Any, path: str) -> Any:
    late = Late(application, path)
    late.piece()
    return closing(late)


REQUESTS = {
    "alone": (None, "/pid/"),
    "that leaves state": (None, "/run/?sql=SET work_mem = '2MB'"),
    "answered by a file": (None, "/file/"),
    "after one that waits": ("/pid/", "/pid/"),
    "after one that goes on": ("/stream/", "/pid/"),
}


@pytest.mark.usefixtures("quick_collector")
@pytest.mark.parametrize("kind", REQUESTS)
def test_request_after_an_interrupted_one_has_the_pin(kind: str, site: TestApp, server: Server) -> None:
    """None of its own, as it gets where another request is inside."""
    (before, path), scope = REQUESTS[kind], process_scope()
    with Interruption(sys.maxsize):
        serve(site.app, path)  # Python 3.12 looks at single bytecodes from the second time on
    for at in itertools.count():
        interruption = Interruption(at)
        with begun(site.app, before) if before else nullcontext():
            with suppress(Interrupted), interruption:
                serve(site.app, path)
            gc.collect()  # a server lets go of what it was answered
        assert scope.owner is None, interruption.came
        pid = int(site.get("/pid/").text)
        assert pid == scope.pins["default"].backend, interruption.came
        assert eventually(server.backends, [pid]), interruption.came
        assert site.get("/sql/?sql=SHOW work_mem").text == "4MB", interruption.came
        if interruption.came is None:
            break
    assert at > 20

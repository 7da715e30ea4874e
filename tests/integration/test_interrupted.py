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
from tests.interruption import Interrupted, Interruption
from tests.late import Late
from wsgi_persist.worker import process_scope

FILES = ("entrance", "scope", "boundary", "leases", "beside", "wrappers")


class AtTheBoundary(Interruption):
    """Raises once where requests are seen in and out, at a bytecode where Python itself looks for exceptions
    from outside: at the beginning of a function, after a call, at a jump back. So none comes between a lock
    and its block.
    """

    LOOKS_AFTER = ("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")

    def __init__(self, at: int) -> None:
        super().__init__(at, tuple(f"wsgi_persist/worker/{name}.py" for name in FILES))
        self._looks = True

    def _called(self, frame: Any, event: str, arg: Any) -> Any:
        # What comes in a finaliser, Python itself ignores.
        if frame.f_code.co_name == "__del__":
            return None
        traced = super()._called(frame, event, arg)
        self._looks = self._looks or traced is not None
        return traced

    def _stepped(self, frame: Any, event: str, arg: Any) -> Any:
        if event == "return":
            self._looks = True
        return super()._stepped(frame, event, arg)

    def _counts(self, frame: Any) -> bool:
        looks = self._looks
        self._looks = dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(self.LOOKS_AFTER)
        return looks


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
    with AtTheBoundary(sys.maxsize):
        serve(site.app, path)  # Python 3.12 looks at single bytecodes from the second time on
    for at in itertools.count():
        interruption = AtTheBoundary(at)
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

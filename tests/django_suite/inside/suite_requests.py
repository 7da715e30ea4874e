"""Every test class runs inside a request, so that its statements are sent on pins."""

from __future__ import annotations

import sys
from typing import Any

from django.test import SimpleTestCase

from wsgi_persist.backends.mixin import PersistMixin
from wsgi_persist.worker import current, process_scope

LEASES = {"pins": 0}  # how often a pin was adopted


def install() -> None:
    SimpleTestCase.setUpClass = classmethod(_inside(SimpleTestCase.setUpClass.__func__))  # type: ignore
    PersistMixin.close = _kept(PersistMixin.close)  # type: ignore[method-assign]
    PersistMixin._adopt = _counted(PersistMixin._adopt)  # type: ignore[method-assign]


def _inside(set_up: Any) -> Any:
    def setUpClass(cls: type[SimpleTestCase]) -> None:
        if current() is None:  # some classes are run by a test of another
            cls.addClassCleanup(process_scope().enter(_environ(cls)).leave)  # type: ignore[attr-defined]
        set_up(cls)

    return setUpClass


def _environ(cls: type) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/{cls.__module__}.{cls.__qualname__}/",
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.errors": sys.stderr,
    }


def _kept(close: Any) -> Any:
    """Django's base classes close connections at the end: the next test is to meet the last one's session."""

    def method(self: Any) -> None:
        is_teardown = sys._getframe(1).f_globals["__name__"] == "django.test.testcases"
        if not (is_teardown and self._pin is not None and not self.closed_in_transaction):
            close(self)

    return method


def _counted(adopt: Any) -> Any:
    def method(self: Any, *args: Any) -> None:
        LEASES["pins"] += 1
        adopt(self, *args)

    return method

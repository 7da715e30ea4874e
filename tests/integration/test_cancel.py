"""A server that gives up on a request has its query cancelled, from another thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server, eventually
from tests.site.extra import extra_view
from wsgi_persist.worker import registry


class Asked(threading.Thread):
    """A request on a thread of its own."""

    def __init__(self, site: TestApp, path: str) -> None:
        super().__init__()
        self.status = 0
        self._ask = lambda: site.get(path, expect_errors=True)

    def run(self) -> None:
        self.status = self._ask().status_int


def test_query_is_cancelled_and_the_pin_lives_on(site: TestApp, server: Server, caplog: Any) -> None:
    asked = Asked(site, "/sleep/?seconds=600")
    asked.start()
    assert eventually(server.sleeping, 1)
    backend = registry.process_scope().pins["default"].backend
    registry.cancel_oldest()
    asked.join()
    assert asked.status == 500
    assert f"GET '/sleep/': cancelling its query in backend {backend}" in caplog.text
    assert int(site.get("/pid/").text) == backend


def test_only_the_oldest_request_loses_its_query(site: TestApp, server: Server) -> None:
    site.extra_environ["wsgi.multithread"] = True
    old, young = Asked(site, "/sleep/?seconds=600"), Asked(site, "/sleep/?seconds=2")
    old.start()
    assert eventually(server.sleeping, 1)
    young.start()
    assert eventually(server.sleeping, 2)
    registry.cancel_oldest()
    old.join()
    young.join()
    assert (old.status, young.status) == (500, 200)


def test_request_that_waits_for_no_query_is_left_alone(site: TestApp, server: Server, caplog: Any) -> None:
    inside, over = threading.Event(), threading.Event()

    def view(request: Any) -> Any:
        answer = pid(request)
        inside.set()
        assert over.wait(10)
        return answer

    from tests.site.views import pid

    with extra_view(view):
        asked = Asked(site, "/extra/")
        asked.start()
        assert inside.wait(10)
        registry.cancel_oldest()
        over.set()
        asked.join()
    assert asked.status == 200
    assert "cancel" not in caplog.text


def test_nothing_is_under_way(site: TestApp, server: Server, caplog: Any) -> None:
    site.get("/pid/")
    registry.cancel_oldest()
    assert "cancel" not in caplog.text


def test_failure_to_cancel_is_logged(
    site: TestApp, server: Server, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(site, "/sleep/?seconds=600")
    asked.start()
    assert eventually(server.sleeping, 1)

    def refuse(self: Any, connection: Any) -> None:
        raise OSError("no way to the server")

    pin = registry.process_scope().pins["default"]
    with monkeypatch.context() as patch:
        patch.setattr(type(pin.driver), "cancel", refuse)
        registry.cancel_oldest()
    registry.cancel_oldest()
    asked.join()
    assert asked.status == 500
    assert f"its query in backend {pin.backend} cannot be cancelled: no way" in caplog.text

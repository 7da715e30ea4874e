"""mod_wsgi and uWSGI are only modules with attributes here; the real ones are in tests/apache and
tests/servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsgi_persist import Pin, Policy, ScopeError
from wsgi_persist.worker import lifecycle, registry, servers
from wsgi_persist.worker.scope import Scope

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def mod_wsgi(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module: Any = ModuleType("mod_wsgi")
    module.process_group = "site"
    module.threads_per_process = 1
    module.application_group = ""
    module.subscribed = []
    module.subscribe_shutdown = module.subscribed.append
    monkeypatch.setitem(sys.modules, "mod_wsgi", module)
    return module


def test_outside_apache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mod_wsgi", None)  # type: ignore[arg-type]
    assert servers.mod_wsgi_daemon() is None
    assert servers.worker_name() == str(os.getpid())


def test_module_of_the_same_name_outside_apache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of PyPI can be imported by any Python; it has no process_group."""
    monkeypatch.setitem(sys.modules, "mod_wsgi", ModuleType("mod_wsgi"))
    assert servers.mod_wsgi_daemon() is None


def test_embedded_mode_is_no_daemon(mod_wsgi: Any) -> None:
    mod_wsgi.process_group = ""
    assert servers.mod_wsgi_daemon() is None


def test_daemon(mod_wsgi: Any) -> None:
    daemon = servers.mod_wsgi_daemon()
    assert daemon is not None
    assert (daemon.group, daemon.threads) == ("site", 1)
    assert servers.worker_name() == f"site:{os.getpid()}"


def test_hooks_are_installed_once(mod_wsgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_hooks_installed", False)
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: None)
    monkeypatch.setattr("atexit.register", lambda *hook: None)
    stopped: list[str] = []
    monkeypatch.setattr(lifecycle, "shut_down", stopped.append)
    for _ in range(3):
        lifecycle.start([], Policy())
    assert len(mod_wsgi.subscribed) == 1
    mod_wsgi.subscribed[0]("process_stopping", shutdown_reason="shutdown_signal")
    mod_wsgi.subscribed[0]("process_stopping", shutdown_reason="")  # as mod_wsgi 4.9 and 5.0 have it
    assert stopped == ["shutdown_signal", "process_stopping"]


@pytest.mark.parametrize(("reason", "cancelled"), [("request_timeout", 1), ("shutdown_signal", 0)])
def test_query_is_cancelled_only_where_the_request_is_lost(
    reason: str, cancelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(lifecycle, "shut_down", lambda reason: None)
    monkeypatch.setattr(lifecycle.registry, "cancel_oldest", lambda: calls.append(None))
    lifecycle._on_process_stopping("process_stopping", shutdown_reason=reason)
    assert len(calls) == cancelled


def test_old_mod_wsgi_without_events(mod_wsgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del mod_wsgi.subscribe_shutdown
    monkeypatch.setattr(lifecycle, "_hooks_installed", False)
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: None)
    registered: list[Any] = []
    monkeypatch.setattr("atexit.register", lambda *hook: registered.append(hook))
    lifecycle.start([], Policy())
    assert registered == [(lifecycle.shut_down, "atexit")]


def uwsgi_with(monkeypatch: pytest.MonkeyPatch, **hooks: Any) -> Any:
    """uWSGI's module after ours was put into its hooks."""
    module: Any = ModuleType("uwsgi")
    module.opt = {}
    vars(module).update(hooks)
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    monkeypatch.setattr(lifecycle, "_hooks_installed", False)
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: None)
    monkeypatch.setattr("atexit.register", lambda *hook: None)
    lifecycle.start([], Policy())
    return module


def test_fork_by_uwsgi_forgets_what_is_the_masters(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(registry, "forget_all", lambda: called.append("forget_all"))
    uwsgi = uwsgi_with(monkeypatch, post_fork_hook=lambda: called.append("the site's own"))
    uwsgi.post_fork_hook()
    assert called == ["the site's own"], "the process that loaded the application was not forked"
    monkeypatch.setattr(os, "getpid", lambda: -1)
    uwsgi.post_fork_hook()
    assert called == ["the site's own", "forget_all", "the site's own"]


def test_end_of_a_worker_of_uwsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(lifecycle, "shut_down", called.append)
    uwsgi_with(monkeypatch).atexit()
    assert called == ["uwsgi.atexit"]


def test_process_scope_in_a_threaded_daemon(mod_wsgi: Any) -> None:
    mod_wsgi.threads_per_process = 4
    with pytest.raises(ScopeError, match=r"mod_wsgi's threads=4\): set threads=1 in WSGIDaemonProcess"):
        lifecycle.start([], Policy(scope="process"))


def test_sub_interpreter_is_warned_of(mod_wsgi: Any, caplog: pytest.LogCaptureFixture) -> None:
    lifecycle.start([], Policy())
    assert "sub-interpreter" not in caplog.text
    mod_wsgi.application_group = "www.example.org|"
    lifecycle.start([], Policy())
    assert "application group 'www.example.org|' is a sub-interpreter of process group 'site'" in caplog.text
    assert "set application-group=%{GLOBAL}" in caplog.text


@pytest.mark.parametrize(
    ("middleware", "own", "one_at_a_time", "wanted"),
    [
        ("auto", "auto", True, True),
        ("auto", "auto", False, False),
        ("auto", True, False, True),
        ("auto", False, True, False),
        (False, True, True, False),
        (True, "auto", False, True),
    ],
)
def test_who_is_warmed_up(
    middleware: Any, own: Any, one_at_a_time: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed: list[str] = []
    monkeypatch.setattr(Pin, "warm_up", lambda self: warmed.append(self.name))
    threads = 1 if one_at_a_time else 4
    monkeypatch.setattr(lifecycle, "mod_wsgi_daemon", lambda: servers.Daemon("site", threads, None))
    pin = Pin(list, name="main", policy=Policy(prewarm=own))
    lifecycle.start([pin], Policy(prewarm=middleware))
    assert warmed == (["main"] if wanted else [])


def test_transaction_pooler_is_not_warmed(mod_wsgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    warmed: list[str] = []
    monkeypatch.setattr(Pin, "warm_up", lambda self: warmed.append(self.name))
    lifecycle.start([Pin(list, policy=Policy(pooler="transaction"))], Policy())
    assert warmed == []


def test_shutdown_is_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Scope, "stop", lambda self: 1)
    with caplog.at_level("INFO", "wsgi_persist"):
        lifecycle.shut_down("restart_interval")
    assert f"worker {os.getpid()} stops (restart_interval): " in caplog.text
    assert len(caplog.records) == 1

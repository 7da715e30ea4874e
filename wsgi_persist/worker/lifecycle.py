"""The life of a worker: start, fork, shutdown."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable
from typing import Any

from wsgi_persist.errors import ScopeError
from wsgi_persist.events import tell
from wsgi_persist.policy import Policy
from wsgi_persist.worker import registry
from wsgi_persist.worker.frozen import guard
from wsgi_persist.worker.scope import current
from wsgi_persist.worker.servers import (
    Daemon,
    hook_into_uwsgi,
    mod_wsgi_daemon,
    refuse_greenlets,
    worker_name,
)
from wsgi_persist.worker.warmup import Target, Warmable, open_wrappers, targets, wants_warm_up, warm_up

logger = logging.getLogger("wsgi_persist.lifecycle")


def choose_scope(policy: Policy, found: Iterable[Target]) -> str:
    """The scope that all agree on.

    :raises ValueError: two of them name different scopes.
    :raises ScopeError: ``"process"`` in a mod_wsgi daemon with several request threads.
    """
    wanted = [("PersistMiddleware", policy.scope), *((t.name, t.policy.scope) for t in found)]
    named = [(name, scope) for name, scope in wanted if scope != "auto"]
    if len({scope for _, scope in named}) > 1:
        given = ", ".join(f"{name!r}: {scope!r}" for name, scope in named)
        raise ValueError(f"one scope for all is needed, but these were given: {given}")
    chosen = named[0][1] if named else "auto"
    daemon = mod_wsgi_daemon()
    if chosen == "process" and daemon is not None and daemon.threads > 1:
        raise ScopeError(threads_refused(f"mod_wsgi's threads={daemon.threads}"))
    return chosen


def threads_refused(found: str) -> str:
    return (
        f'scope="process" keeps one connection for requests that come one at a time, but this '
        f"server runs them in threads ({found}): set threads=1 in WSGIDaemonProcess (or the like "
        f'elsewhere), or choose scope="thread"'
    )


def start(pins: Iterable[Warmable], policy: Policy) -> tuple[str, list[Policy]]:
    """Prepare this process to keep pins; called when the application is wrapped.

    :return: the scope chosen (auto, process or thread), and every policy that is known.
    :raises ScopeError: the server is none that pins can be kept in.
    """
    refuse_greenlets()
    found = targets(pins)
    chosen = choose_scope(policy, found)
    _install_hooks()
    daemon = mod_wsgi_daemon()
    if daemon is not None:
        _warn_of_sub_interpreter(daemon)
        _close_connections_of_the_script()
    one_at_a_time = daemon is not None and daemon.threads == 1
    if chosen != "thread" and current() is None:
        warm_up([t for t in found if wants_warm_up(policy, t.policy, one_at_a_time)])
    return chosen, [policy, *(t.policy for t in found)]


def _warn_of_sub_interpreter(daemon: Daemon) -> None:
    if daemon.sub_interpreter:
        logger.warning(
            "application group %r is a sub-interpreter of process group %r, with connections of its own; "
            "drivers in C are not made for that: set application-group=%%{GLOBAL} in WSGIScriptAlias, "
            "and give each site a process group",
            daemon.sub_interpreter,
            daemon.group,
        )


def _close_connections_of_the_script() -> None:
    """mod_wsgi loads the script on a thread that never serves a request: what it opened is orphaned."""
    if current() is None:
        for wrapper in open_wrappers():
            logger.info("alias %r: closed what the script opened while loading", wrapper.alias)
            wrapper.close()


_hooks_installed = False


def _install_hooks() -> None:
    """Once per process, however often the script is loaded again."""
    global _hooks_installed
    if _hooks_installed:
        return
    _hooks_installed = True
    os.register_at_fork(after_in_child=registry.forget_all)
    atexit.register(shut_down, "atexit")
    daemon = mod_wsgi_daemon()
    if daemon is not None and daemon.subscribe_shutdown is not None:
        # atexit may never run there: it waits for threads, and WSGIDestroyInterpreter Off skips it.
        daemon.subscribe_shutdown(_on_process_stopping)
    hook_into_uwsgi(registry.forget_all, shut_down)


def _on_process_stopping(event: str, **details: Any) -> None:
    reason = details.get("shutdown_reason") or event
    shut_down(reason)
    if reason == "request_timeout":
        # Its request is lost: mod_wsgi kills this process, and the query would run on in the server.
        registry.cancel_oldest()


def shut_down(reason: str) -> None:
    """Close every idle pin; requests in flight close theirs. Safe to call twice, from any thread."""
    closed, in_flight = registry.stop_all()
    guard().end()
    tell("stopped", text=reason)
    if closed or in_flight:
        logger.info(
            "worker %s stops (%s): %d connections closed, %d requests in flight will close theirs",
            worker_name(),
            reason,
            closed,
            in_flight,
        )

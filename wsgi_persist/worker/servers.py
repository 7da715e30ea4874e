"""What runs this process: the only module that knows mod_wsgi, uWSGI and the coroutine libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wsgi_persist.errors import ScopeError


class Daemon(NamedTuple):
    """The mod_wsgi daemon process that this is."""

    group: str
    threads: int
    subscribe_shutdown: Callable[[Callable[..., Any]], Any] | None
    sub_interpreter: str = ""  # the application group, if it is not %{GLOBAL}


def mod_wsgi_daemon() -> Daemon | None:
    """None outside Apache, where a module of the same name may be importable, and in embedded mode."""
    try:
        import mod_wsgi

        group = mod_wsgi.process_group
    except (ImportError, AttributeError):
        return None
    if not group:
        return None
    subscribe = getattr(mod_wsgi, "subscribe_shutdown", None)
    return Daemon(group, mod_wsgi.threads_per_process, subscribe, mod_wsgi.application_group)


def server_name(environ: Mapping[str, Any]) -> str:
    """What runs this process, as far as that tells; *environ* is of a request."""
    if mod_wsgi_daemon() is not None:
        import mod_wsgi

        return f"mod_wsgi {'.'.join(map(str, mod_wsgi.version))}"
    try:
        import uwsgi
    except ImportError:
        return str(environ.get("SERVER_SOFTWARE", ""))
    return f"uWSGI {uwsgi.version.decode()}"


def worker_name() -> str:
    """Tells workers apart in ``pg_stat_activity``: mod_wsgi's process group and the pid."""
    daemon = mod_wsgi_daemon()
    return f"{daemon.group}:{os.getpid()}" if daemon else str(os.getpid())


def refuse_greenlets() -> None:
    """
    :raises ScopeError: requests take turns on one thread: none of them has a connection to itself.
    """
    found = _greenlets()
    if found is not None:
        raise ScopeError(
            f"this server runs requests in greenlets ({found}), and a connection kept for a process or a "
            f"thread cannot serve several at once: choose workers that are processes or threads "
            f"(gunicorn: worker_class sync or gthread), or serve without PersistMiddleware"
        )


def _greenlets() -> str | None:
    """What runs several requests at once on one thread here, if anything does."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    try:
        import uwsgi
    except ImportError:
        return None
    return next((f"uWSGI's {name}" for name in ("gevent", "asyncio", "async") if name in uwsgi.opt), None)


def hook_into_uwsgi(forget: Callable[[], None], stop: Callable[[str], None]) -> None:
    """uWSGI forks without Python's hooks, and with skip-atexit-teardown it ends without atexit's.

    :param forget: called in each process that it forks.
    :param stop: called when it ends, with the reason.
    """
    try:
        import uwsgi
    except ImportError:
        return
    loader = os.getpid()

    def after_fork() -> None:
        # Without a master it also runs in the first worker, which loaded the application itself.
        if os.getpid() != loader:
            forget()

    _put_before(uwsgi, "post_fork_hook", after_fork)
    _put_before(uwsgi, "atexit", lambda: stop("uwsgi.atexit"))


def _put_before(uwsgi: Any, name: str, ours: Callable[[], Any]) -> None:
    """There is one place for each hook, and the application may have taken it."""
    theirs = getattr(uwsgi, name, None)

    def both() -> None:
        ours()
        if theirs is not None:
            theirs()

    setattr(uwsgi, name, both)

"""Whether and where this process tells of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsgi_persist import events
from wsgi_persist.status.reader import RUNTIME
from wsgi_persist.status.writer import Writer
from wsgi_persist.worker import all_scopes, mod_wsgi_daemon

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    Wrap = Callable[[Callable[[WSGIApplication], WSGIApplication]], None]

# Of the process, and of a request where Apache's SetEnv gives it.
VARIABLE = "PERSIST_STATUS"

_writer: Writer | None = None


def begin(status_dir: str | None, wrap: Wrap) -> None:
    """Called when the application is wrapped, before anything is opened.

    :param status_dir: of the policy; None for what the environment says.
    :param wrap: is given what to put around the application, where this is switched on.
    """
    if _writer is not None:
        wrap(_writer.counting)  # the second application of this process
    elif folder := _folder(status_dir):
        _begin(folder, wrap)
    elif mod_wsgi_daemon() is not None:
        events.listen(_Undecided(wrap))


def _begin(folder: str, wrap: Wrap) -> Writer:
    global _writer
    daemon = mod_wsgi_daemon()
    path = Path(folder)
    _writer = Writer(path, daemon.group if daemon else path.name)
    events.listen(_writer)
    for scope in all_scopes():
        scope.hurry()
    wrap(_writer.counting)
    return _writer


def _folder(status_dir: str | None) -> str | None:
    daemon = mod_wsgi_daemon()
    usual = RUNTIME / daemon.group if daemon else None
    return (
        status_dir
        or os.environ.get(VARIABLE)
        or (str(usual) if usual is not None and usual.is_dir() else None)
    )


class _Undecided:
    """Until the first request, whose environment has what Apache's SetEnv says."""

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap

    def hear(self, kind: str, pin: str, request: object, text: str, facts: dict[str, Any]) -> None:
        """Not told: the state of each pin will be."""

    def look(self, now: float, environ: Mapping[str, Any]) -> float:
        if "wsgi.version" not in environ:
            return now  # the warm-up, which is no request of Apache's
        events.listen(None)
        folder = environ.get(VARIABLE)
        return _begin(folder, self._wrap).look(now, environ) if folder else events.NEVER

"""The file of this worker: written at events, and at most once a second when a request comes in."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from wsgi_persist.status.account import KINDS, Account, short
from wsgi_persist.status.files import start_of
from wsgi_persist.status.mark import mark_of, place
from wsgi_persist.status.scopes import inside, pins
from wsgi_persist.status.slot import Slot
from wsgi_persist.status.snapshot import Snapshot, Worker
from wsgi_persist.version import __version__
from wsgi_persist.worker import Scope, all_scopes, current, here, server_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("wsgi_persist.status")

# Seconds: between a write and the next boundary's, what a write costs the next event, and after a failure.
PAUSE, COST, FAILED = 1.0, 0.5, 10.0


class Writer:
    """Hears what becomes of connections and requests, and tells it in a file.

    Called from any thread, and by the garbage collector in the midst of its own work: so nothing here waits
    for a lock, and what is told is put aside first.
    """

    def __init__(self, folder: Path, site: str) -> None:
        self._slot = Slot(folder)
        self._site = site
        self._server = ""
        self._begin()

    def _begin(self) -> None:
        self._account = Account()
        self._news: deque[tuple[float, str, str, str, str, dict[str, Any]]] = deque()
        self._requests = 0
        self._started = time.time()
        self._due = self._free = 0.0  # for the next boundary, for the next event
        self._writing = threading.Lock()
        self._fails = False

    def counting(self, app: WSGIApplication) -> WSGIApplication:
        """*app*, whose calls are counted and marked; an addition without a call in it is not divided by a
        switch of threads."""

        def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self._requests += 1
            scope = here.inside
            if scope is not None and scope.mark is not None:
                scope.mark.since[0] = scope.now
            return app(environ, start_response)

        return counted

    # ##### What a listener is #####

    def hear(self, kind: str, pin: str, request: object, text: str, facts: dict[str, Any]) -> None:
        if kind == "forked":
            self._slot.forget()
            self._begin()
            return
        if kind == "stopped" and not self._slot.is_made:
            return  # of a process that has served nothing, as a forked child or a master
        self._news.append((time.time(), kind, pin, str(request), text, facts))
        now = monotonic()
        if kind not in KINDS:
            return  # a number that comes with every request
        if now >= self._free or kind == "stopped":
            self._write(now)
            return
        self._due = min(self._due, self._free)
        if (scope := current()) is not None:
            scope.hurry()

    def look(self, now: float, environ: Mapping[str, Any]) -> float:
        if now >= self._due:
            self._server = self._server or short(server_name(environ))
            self._write(now)
        return self._due

    def close(self) -> None:
        """Nobody holds the file any more."""
        self._slot.forget()

    def left(self) -> None:
        self._write(monotonic())  # else the file would show a request as inside that is over

    # ##### Writing #####

    def _write(self, now: float) -> None:
        if not self._writing.acquire(blocking=False):
            return  # another thread does, or this one was interrupted while it did
        try:
            self._due, self._free = now + PAUSE, max(now, self._free + COST)
            while self._news:
                self._account.note(self._news.popleft())
            scopes = all_scopes()
            self._slot.write(self._snapshot(scopes))
            place([mark_of(scope, self.left) for scope in scopes], self._slot.places)
            self._fails = False
        except Exception as error:
            self._due = self._free = now + FAILED
            if not self._fails:
                fault = not isinstance(error, OSError)
                logger.warning("the status of this worker cannot be written: %s", error, exc_info=fault)
            self._fails = True
        finally:
            self._writing.release()

    def _snapshot(self, scopes: list[Scope]) -> Snapshot:
        return Snapshot(
            worker=self._worker(scopes),
            written=time.time(),
            inside=inside(scopes, self.left),
            pins=pins(scopes),
            counters=self._account.counters(self._requests),
            outages=self._account.outages(),
            events=list(self._account.events),
            leaks=self._account.leaks(),
            stopped=self._account.stopped,
        )

    def _worker(self, scopes: list[Scope]) -> Worker:
        pid = os.getpid()
        return Worker(
            site=self._site,
            pid=pid,
            start=start_of(pid),
            host=socket.gethostname(),
            server=self._server,
            version=__version__,
            scope="thread" if any(scope.kind == "thread" for scope in scopes) else "process",
            started=self._started,
        )

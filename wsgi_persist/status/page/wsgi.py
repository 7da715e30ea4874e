"""The WSGI application of the page: which address is what, and what nobody may ask for."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from wsgi_persist.status.page.database import Database
from wsgi_persist.status.page.markup import Html
from wsgi_persist.status.page.overview import STYLE, overview, refused
from wsgi_persist.status.page.watch import Reading, Watch
from wsgi_persist.status.reader import RUNTIME

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LONGEST_REFRESH = 3600
LACKING = b"Metrics need the package prometheus-client: pip install 'wsgi-persist[metrics]'\n"
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = [
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
# Status, type of the content, content.
Answer = tuple[str, str, bytes]


class StatusPage:
    """A WSGI application that shows the workers of all sites below a runtime folder.

    :param folder: that of one site, or the one in which sites have theirs. Without it:
        ``PERSIST_STATUS`` in the process's environment, or ``/run/wsgi_persist``.
    :param connect: called without arguments, connects to the PostgreSQL that is shown beside them, by
        psycopg 3 or psycopg2. It may wait: a thread of its own calls it, and asks every few seconds.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, connect: Callable[[], Any] | None = None
    ) -> None:
        self._watch = Watch(Path(folder or os.environ.get("PERSIST_STATUS") or RUNTIME))
        self._database = Database(connect) if connect else None
        self._repeaters = [each.repeater for each in (self._watch, self._database) if each]

    def start(self) -> None:
        """Look from now on, and not first when the page is asked for."""
        _exposition()
        self._look()

    def _look(self) -> None:
        for repeater in self._repeaters:
            repeater.start()

    def stop(self) -> None:
        """Look no more, until the next visitor comes."""
        for repeater in self._repeaters:
            repeater.stop()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._look()
        status, kind, body = self._answer(environ)
        headers = [*HEADERS, ("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(status, headers + ([("Allow", "GET, HEAD")] if status.startswith("405") else []))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path, root = environ.get("PATH_INFO", ""), quote(environ.get("SCRIPT_NAME", ""), encoding="latin-1")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refused("405 Method Not Allowed", "There is nothing to send here.", root)
        if path == "/metrics":
            return _metrics(self._watch.reading(), environ.get("HTTP_ACCEPT", ""))
        if path in ("", "/"):
            return self._overview(environ, root)
        return _refused("404 Not Found", "There is no such page.", root)

    def _overview(self, environ: WSGIEnvironment, root: str) -> Answer:
        asked = parse_qs(environ.get("QUERY_STRING", ""), errors="surrogateescape")
        site, refresh = asked.get("site", [None])[-1], _refresh(asked.get("refresh", [""])[-1])
        reading = self._watch.reading()
        if site is not None and site not in [each.name for each in reading.sites]:
            return _refused("404 Not Found", "There is no such site.", root)
        return _html("200 OK", overview(reading, self._database, site, refresh, root))


def _metrics(reading: Reading, accept: str) -> Answer:
    exposition = _exposition()
    if exposition is None:
        return "501 Not Implemented", "text/plain; charset=utf-8", LACKING
    return "200 OK", *exposition(reading.sites, accept, reading.time)


def _exposition() -> Callable[..., tuple[str, bytes]] | None:
    """Its package takes long to import, and need not be there."""
    try:
        from wsgi_persist.status.page.metrics import exposition
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return None
    return exposition


def _refresh(given: str) -> int:
    """Seconds; whatever else is given means not to."""
    return min(int(given), LONGEST_REFRESH) if given.isascii() and given.isdigit() and len(given) < 10 else 0


def _refused(status: str, told: str, root: str) -> Answer:
    return _html(status, refused(status, told, root))


def _html(status: str, page: Html) -> Answer:
    return status, "text/html; charset=utf-8", page.encode()


application = StatusPage()

"""Which errors tell that a connection had better be closed, though it is alive."""

from __future__ import annotations

from wsgi_persist.drivers import first_line, sqlstate


def reason_to_evict(error: BaseException) -> str | None:
    if not isinstance(error, Exception):
        # A timeout that the web server injected, for instance: the answer may still be on its way.
        return f"a statement was interrupted by {error!r}"
    code = sqlstate(error)
    if code == "25006":
        return f"the server is read-only: {first_line(error)}"
    if code == "0A000":
        return f"a plan may no longer fit its tables: {first_line(error)}"
    return None

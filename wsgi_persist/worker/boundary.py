"""What a request holds from its way in until its response is closed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from wsgi_persist.worker.trouble import Trouble

logger = logging.getLogger("wsgi_persist.boundary")


class Inside(Protocol):
    """The scope that a request is inside of, as far as its answer has to know it."""

    leaving: bool

    def leave(self) -> None: ...
    def assess(self) -> Trouble | None: ...
    def has_written(self) -> bool: ...


class Boundary:
    """What a request got on its way in; it leaves once, whoever closes its response.

    :ivar scope: whose pins the request may lease; None when it has left, as a response that lives on
        must not keep the scope of a thread alive that has ended.
    """

    scope: Inside | None = None

    def leave(self) -> None:
        if self.scope is not None:
            try:
                self.scope.leave()
            finally:
                self.scope = None

    def leave_after(self, inner: Any) -> None:
        """The application's own close first, then ours, even if that raises."""
        try:
            close = getattr(inner, "close", None)
            if close is not None:
                if self.scope is not None:
                    self.scope.leaving = True
                close()
        finally:
            self.leave()

    def __del__(self) -> None:
        if self.scope is not None:
            logger.warning(
                "a response was thrown away without close(), against PEP 3333: its request ends now"
            )
            self.leave()


def name_of(environ: Mapping[str, Any]) -> str:
    """Method and path of a request, for the log."""
    method, script, path = (environ.get(key, "") for key in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"))
    # Quoted: a visitor chooses it.
    return f"{method if method.isalpha() else repr(method)} {script + path!r}"

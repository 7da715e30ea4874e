"""What a request holds from its way in until its response is closed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsgi_persist.scope import Scope

logger = logging.getLogger("wsgi_persist.boundary")


class Boundary:
    """What a request got on its way in; it leaves once, whoever closes its response.

    :ivar scope: whose pins the request may lease; None when it has left, as a response that lives on
        must not keep the scope of a thread alive that has ended.
    """

    scope: Scope | None = None

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


class ClosingFile:
    """A file whose ``close()`` ends the request once it has been returned as the response."""

    boundary: Boundary | None = None

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def close(self) -> None:
        boundary, self.boundary = self.boundary, None
        (boundary or Boundary()).leave_after(self._file)


def name_of(environ: Mapping[str, Any]) -> str:
    """Method and path of a request, for the log."""
    method, script, path = (environ.get(key, "") for key in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"))
    # Quoted: a visitor chooses it.
    return f"{method if method.isalpha() else repr(method)} {script + path!r}"

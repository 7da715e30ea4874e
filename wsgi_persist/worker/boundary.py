"""What a request holds from its way in until its response is closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from threading import get_ident
from typing import Any, Protocol, TypeVar

from wsgi_persist.worker.trouble import Trouble

logger = logging.getLogger("wsgi_persist.boundary")

T = TypeVar("T")


class Inside(Protocol):
    """The scope that a request is inside of, as far as its answer has to know it."""

    owner: int | None
    holder: dict[int, object]

    @property
    def claims(self) -> AbstractContextManager[Any]: ...
    def leave(self) -> None: ...
    def end_early(self, boundary: Boundary) -> None: ...
    def run(self, work: Callable[..., T], *args: Any) -> T: ...
    def assess(self) -> Trouble | None: ...
    def has_written(self) -> bool: ...


class Boundary:
    """What a request got on its way in; it leaves once, whoever closes its response.

    :ivar scope: whose pins the request may lease; None when it has left, as a response that lives on
        must not keep the scope of a thread alive that has ended.
    :ivar token: by which the scope knows who is inside.
    :ivar is_beside: whether that is a scope of its own, beside the thread's other requests.
    :ivar runs_on: the thread that runs its application now; 0 while that only waits to be gone on with.
    :ivar is_spent: whether nothing of the application follows but ``close()``.
    :ivar is_leaving: whether the response is being closed.
    """

    scope: Inside | None = None
    token: object = None
    is_beside = False
    runs_on = 0
    is_spent = False
    is_leaving = False

    def run(self, work: Callable[..., T], *args: Any) -> T:
        """Code of the application, after that has returned."""
        if self.is_beside and self.scope is not None:
            return self.scope.run(work, *args)
        self.runs_on = get_ident()
        try:
            return work(*args)
        finally:
            self.runs_on = 0

    def end_early(self) -> None:
        """Nothing follows but ``close()``, whenever and on whatever thread: the request ends now."""
        self.is_spent = True
        if self.scope is not None:
            self.scope.end_early(self)

    def leave(self) -> None:
        scope = self.scope
        if scope is None:
            return
        if scope.owner == get_ident():
            if scope.holder.get(0) is self.token:
                scope.leave()
            self.scope = None  # not before: who is interrupted there is not through
            return
        with scope.claims:  # its own thread may be taking its next request just now
            claimed, self.scope = self.scope, None
        if claimed is not None and claimed.holder.get(0) is self.token:
            claimed.leave()

    def leave_after(self, inner: Any) -> None:
        """The application's own close first, then ours, even if that raises."""
        try:
            close = getattr(inner, "close", None)
            if close is not None:
                self.is_leaving = True
                if self.is_beside:
                    self.run(close)
                else:
                    self.runs_on = get_ident()
                    close()
        finally:
            self.leave()

    def __del__(self) -> None:
        if self.scope is not None and self.scope.holder.get(0) is self.token:
            logger.warning(
                "a response was thrown away without close(), against PEP 3333: its request ends now"
            )
            self.leave()


def name_of(environ: Mapping[str, Any]) -> str:
    """Method and path of a request, for the log."""
    method, script, path = (environ.get(key, "") for key in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO"))
    # Quoted: a visitor chooses it.
    return f"{method if method.isalpha() else repr(method)} {script + path!r}"

"""PersistMiddleware, and the response that closes once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from wsgi_persist.boundary import Boundary
from wsgi_persist.errors import ScopeError
from wsgi_persist.lifecycle import start, threads_refused
from wsgi_persist.plain import Pin
from wsgi_persist.policy import Policy
from wsgi_persist.registry import process_scope, thread_scope
from wsgi_persist.scope import Scope

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class PersistMiddleware:
    """A WSGI application around yours: every request finds its database connections open and alive.

    :param app: the WSGI application; one of Django is wrapped after ``get_wsgi_application()``.
    :param pins: the pins that the application uses without Django, to warm up and to validate.
    :param policy: ``scope`` and ``prewarm`` for all pins; Django's aliases may give them, too.
    :raises TypeError: an argument is not what it should be.
    :raises ValueError: options contradict each other.
    :raises ScopeError: ``scope="process"`` where mod_wsgi runs requests in threads.
    """

    def __init__(
        self, app: WSGIApplication, pins: Iterable[Pin] = (), *, policy: Policy | None = None
    ) -> None:
        self._app = _checked_app(app)
        self._scope = start(_checked_pins(pins), _checked_policy(policy))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        boundary = self._scope_of(environ).enter(environ)
        try:
            files = _lend_file_wrapper(environ)
            result = self._app(environ, start_response)
            if files is not None:
                # Servers test a response against their own class.
                environ["wsgi.file_wrapper"] = files.lent
                if files.response is result:
                    return files.ending(boundary)
            return _respond(result, boundary)
        except BaseException:
            boundary.leave()
            raise

    def _scope_of(self, environ: WSGIEnvironment) -> Scope:
        multithread = environ["wsgi.multithread"]
        if self._scope == "thread" or (multithread and self._scope == "auto"):
            return thread_scope()
        if multithread:
            raise ScopeError(threads_refused("wsgi.multithread is true"))
        return process_scope()


class Response:
    """What the application returned; closing it closes that first, then ends the request."""

    __slots__ = ("_boundary", "_iterator", "_result")

    def __init__(self, result: Any, boundary: Boundary) -> None:
        self._result = result
        self._boundary = boundary
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        # Itself and not the application's iterator, which would not keep the request open.
        self._iterator = iter(self._result)
        return self

    def __next__(self) -> bytes:
        return next(self._iterator)  # type: ignore[arg-type]

    def close(self) -> None:
        result, self._result = self._result, None
        _close(result, self._boundary)


class SizedResponse(Response):
    """Of a list or the like: servers read its length to give a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)


class FileWrapper:
    """Stands in for the server's ``wsgi.file_wrapper`` while the application runs.

    The server sends a file by its own fast way only if it gets back the very object that its own
    wrapper made. So that object is passed on as it is, and the file in it ends the request.

    :ivar lent: the server's own.
    :ivar response: what it made last.
    """

    __slots__ = ("_file", "lent", "response")

    def __init__(self, lent: Callable[..., Any]) -> None:
        self.lent = lent
        self.response: Any = None

    def __call__(self, file: Any, *block_size: int) -> Any:
        self._file = ClosingFile(file)
        self.response = self.lent(self._file, *block_size)
        return self.response

    def ending(self, boundary: Boundary) -> Iterable[bytes]:
        """The response, whose file the server closes: that ends the request."""
        self._file.boundary = boundary
        return cast("Iterable[bytes]", self.response)


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
        _close(self._file, self.boundary)


def _lend_file_wrapper(environ: WSGIEnvironment) -> FileWrapper | None:
    lent = environ.get("wsgi.file_wrapper")
    if lent is None:
        return None
    files = environ["wsgi.file_wrapper"] = FileWrapper(lent)
    return files


def _respond(result: Any, boundary: Boundary) -> Response:
    kind = SizedResponse if hasattr(result, "__len__") else Response
    return kind(result, boundary)


def _close(inner: Any, boundary: Boundary | None) -> None:
    """The application's own close first, then ours, even if that raises."""
    try:
        close = getattr(inner, "close", None)
        if close is not None:
            if boundary is not None:
                boundary.closing()
            close()
    finally:
        if boundary is not None:
            boundary.leave()


def _checked_app(app: Any) -> Any:
    if isinstance(app, PersistMiddleware):
        raise TypeError("the application is wrapped in PersistMiddleware already: once is enough")
    if not callable(app):
        raise TypeError(f"{app!r} is not callable: give the WSGI application, such as get_wsgi_application()")
    return app


def _checked_pins(pins: Any) -> list[Pin]:
    if isinstance(pins, Pin):
        raise TypeError(f"pins={pins!r} is one pin: give a list, such as pins=[pin]")
    found = list(pins)
    for pin in found:
        if not isinstance(pin, Pin):
            # Its type alone: it may be a connection string with a password.
            raise TypeError(f"a {type(pin).__name__} in pins is not a Pin: give wsgi_persist.Pin(connect)")
    return found


def _checked_policy(policy: Any) -> Policy:
    if policy is None:
        return Policy()
    if not isinstance(policy, Policy):
        raise TypeError(f"policy={policy!r} is not a Policy: give wsgi_persist.Policy(...)")
    return policy

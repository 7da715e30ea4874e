"""Responses that end their request once, when the server closes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from wsgi_persist.answer import Answer
from wsgi_persist.boundary import Boundary

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Response(Answer):
    """What the application returned; closing it closes that first, then ends the request.

    :ivar result: the application's; None before and after.
    """

    result: Any = None

    def __iter__(self) -> Iterator[bytes]:
        # A generator of its own, and not the application's iterator, which would not keep the request
        # open. Until there is a piece, the server has sent nothing: an answer can still be replaced.
        pieces = iter(self.result)
        try:
            first = next(pieces, _NOTHING)
        except Exception as error:
            if not self.replaces(error):
                raise
        if self.trouble is None:
            self.begun = True
            if first is not _NOTHING:
                yield first
                yield from pieces
            return
        self.begun = True
        yield from self.send()

    def close(self) -> None:
        result, self.result = self.result, None
        close(result, self._boundary)


_NOTHING: Any = object()


class Sized:
    """A response of a known number of pieces: servers read it to give a Content-Length."""

    __slots__ = ("_response", "_result")

    def __init__(self, response: Response, result: Any) -> None:
        self._response = response
        self._result = result

    def __len__(self) -> int:
        return len(self._result)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        self._response.close()


class Replacement:
    """A 503 in its place."""

    def __init__(self, response: Response) -> None:
        self._response = response
        try:
            self._body = response.send()
        except BaseException:
            response.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def close(self) -> None:
        self._response.close()


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
        close(self._file, self.boundary)


def lend_file_wrapper(environ: WSGIEnvironment) -> FileWrapper | None:
    lent = environ.get("wsgi.file_wrapper")
    if lent is None:
        return None
    files = environ["wsgi.file_wrapper"] = FileWrapper(lent)
    return files


def close(inner: Any, boundary: Boundary | None) -> None:
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

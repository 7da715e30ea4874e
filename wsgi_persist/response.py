"""Responses that end their request once, when the server closes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from wsgi_persist.answer import Answer
from wsgi_persist.boundary import Boundary

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Response:
    """What the application returned; closing it closes that first, then ends the request."""

    __slots__ = ("_answer", "_iterator", "_result")

    _iterator: Iterator[bytes]

    def __init__(self, result: Any, answer: Answer) -> None:
        self._result = result
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        # Itself and not the application's iterator, which would not keep the request open.
        self._iterator = iter(self._result)
        return self

    def __next__(self) -> bytes:
        if self._answer.begun:
            return next(self._iterator)
        return self._first()

    def close(self) -> None:
        result, self._result = self._result, None
        self._answer.leave_after(result)

    def _first(self) -> bytes:
        """Until there is a piece of it, the server has sent nothing: an answer can still be replaced."""
        try:
            piece = next(self._iterator)
            if self._answer.trouble is None:
                self._answer.begun = True
                return piece
        except StopIteration:
            if self._answer.trouble is None:
                raise
        except Exception as error:
            if not self._answer.replaces(error):
                raise
        self._answer.begun = True
        self._iterator = iter(self._answer.send())
        return next(self._iterator)


class SizedResponse(Response):
    """Of a list or the like: servers read its length to give a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)


class Replacement(SizedResponse):
    """A 503 in its place."""

    __slots__ = ("_body",)

    def __init__(self, result: Any, answer: Answer) -> None:
        super().__init__(result, answer)
        try:
            self._body = answer.send()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)


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
        boundary, self.boundary = self.boundary, None
        (boundary or Boundary()).leave_after(self._file)


def lend_file_wrapper(environ: WSGIEnvironment) -> FileWrapper | None:
    lent = environ.get("wsgi.file_wrapper")
    if lent is None:
        return None
    files = environ["wsgi.file_wrapper"] = FileWrapper(lent)
    return files

"""Responses that end their request once, when the server closes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wsgi_persist.answer import Answer
from wsgi_persist.boundary import Boundary

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


class Response(Answer):
    """What the application returned; closing it closes that first, then ends the request.

    :ivar result: the application's; None before and after.
    """

    result: Any = None
    _lent: Any = None
    _file: ClosingFile | None = None
    _sendfile: Any = None

    def __iter__(self) -> Iterator[bytes]:
        # A generator of its own, and not the application's iterator, which would not keep the request
        # open. Until there is a piece, the server has sent nothing: an answer can still be replaced.
        pieces = iter(self.result)
        try:
            first = next(pieces, _NOTHING)
        except Exception as error:
            if not self.replaces(error):
                raise
        self.begun = True
        if self.trouble is not None:
            yield from self.send()
        elif first is not _NOTHING:
            yield first
            yield from pieces

    def close(self) -> None:
        result, self.result = self.result, None
        self.leave_after(result)

    def answer(self, app: WSGIApplication, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Run the application; what the server gets, unless a 503 takes its place."""
        self._lent = lent = environ.get("wsgi.file_wrapper")
        if lent is not None:
            environ["wsgi.file_wrapper"] = self.wrap_file
        try:
            self.result = result = app(environ, self.start)
        except Exception as error:
            if not self.replaces(error):
                raise
            return self
        finally:
            if lent is not None:
                # Servers test a response against their own class.
                environ["wsgi.file_wrapper"] = lent
        if self._file is not None and self._sendfile is result and self.trouble is None:
            return self._with_file()
        return Sized(self, result) if hasattr(result, "__len__") else self

    def wrap_file(self, file: Any, *block_size: int) -> Any:
        """Stands in for the server's ``wsgi.file_wrapper`` while the application runs.

        The server sends a file by its own fast way only if it gets back the very object that its own
        wrapper made. So that object is passed on as it is, and the file in it ends the request.
        """
        self._file = ClosingFile(file)
        self._sendfile = self._lent(self._file, *block_size)
        return self._sendfile

    def _with_file(self) -> Iterable[bytes]:
        """Hand over: from here on the file knows this and not the other way round, or none would be freed
        with the last reference to it."""
        assert self._file is not None
        result: Iterable[bytes] = self._sendfile
        self._file.boundary = self
        self.result = self._file = self._sendfile = None
        return result


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
        if self.boundary is not None:
            self.boundary.leave_after(self._file)
        elif hasattr(self._file, "close"):
            self._file.close()

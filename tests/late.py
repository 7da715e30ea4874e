"""A WSGI client that lets responses wait, as a server does that has more than one under way on a thread."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults


class Late:
    """A response that is read, and closed, when the test says so."""

    status = ""

    def __init__(self, application: Callable[..., Any], path: str, **environ: Any) -> None:
        path, _, query = path.partition("?")
        given: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
        given |= {"wsgi.multithread": False, "wsgi.file_wrapper": FileWrapper, **environ}
        setup_testing_defaults(given)
        self._response = application(given, self._start)
        self._pieces: Iterator[bytes] = iter(self._response)

    def _start(self, status: str, headers: list[Any], *exc_info: Any) -> Callable[[bytes], Any]:
        self.status = status[:3]
        return lambda data: None

    def piece(self) -> str:
        return next(self._pieces).decode()

    def rest(self) -> str:
        return b"".join(self._pieces).decode()

    def close(self) -> None:
        self._response.close()

    def end(self) -> str:
        """As a server that does not let it wait."""
        try:
            return self.rest()
        finally:
            self.close()

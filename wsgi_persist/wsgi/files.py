"""Files that a request is answered with, sent by the server's own fast way: closing one ends the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsgi_persist.worker import Boundary


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

"""Files that a request is answered with, sent by the server's own fast way: closing one ends the request."""

from __future__ import annotations

import io
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

    def read(self, *size: int) -> Any:
        boundary = self.boundary
        if boundary is None or boundary.is_spent:
            return self._file.read(*size)
        return boundary.run(self._file.read, *size)

    def runs_no_code(self) -> bool:
        """Whether reading it is nothing of the application's, as it may be with a file that is kept in
        the database: one of the operating system has a number."""
        if isinstance(self._file, io.BytesIO):
            return True
        try:
            return isinstance(self._file.fileno(), int)
        except (AttributeError, OSError, ValueError):
            return False

    def close(self) -> None:
        boundary, self.boundary = self.boundary, None
        (boundary or Boundary()).leave_after(self._file)

"""The first of the old ideas: the connection in a global of the process."""

from __future__ import annotations

from typing import Any

from tests.bench.backends.keeping import Keeping

_kept: dict[str, Any] = {}


class DatabaseWrapper(Keeping):
    def kept(self) -> dict[str, Any]:
        return _kept

"""The second of the old ideas: the connection in a thread local."""

from __future__ import annotations

import threading
from typing import Any

from tests.bench.backends.keeping import Keeping

_local = threading.local()


class DatabaseWrapper(Keeping):
    def kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = _local.__dict__
        return kept

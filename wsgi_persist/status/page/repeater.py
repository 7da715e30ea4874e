"""A thread that does the same again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Repeater:
    def __init__(self, work: Callable[[], object], pause: float) -> None:
        self._work = work
        self._pause = pause
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Unless it runs. A process that was forked since has no such thread any more."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._repeat, name="wsgi_persist.status", daemon=True)
                self._thread.start()

    def _repeat(self) -> None:
        while True:
            self._work()
            time.sleep(self._pause)

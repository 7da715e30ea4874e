"""A thread that does the same again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Repeater:
    """:param pause: seconds in between.
    :param at_end: what the thread does last.
    """

    def __init__(
        self, work: Callable[[], object], pause: float, at_end: Callable[[], object] = lambda: None
    ) -> None:
        self._work = work
        self._pause = pause
        self._at_end = at_end
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Unless it runs. A process that was forked since has no such thread any more."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopped.clear()
                self._thread = threading.Thread(target=self._repeat, name="wsgi_persist.status", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """After what it is at. That may take long, so it is not waited for."""
        self._stopped.set()

    def _repeat(self) -> None:
        while not self._stopped.is_set():
            self._work()
            self._stopped.wait(self._pause)
        self._at_end()

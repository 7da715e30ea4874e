"""The page's own look at the runtime folder: now and then by itself, so that it knows the last minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsgi_persist.status.page.history import STEP, History
from wsgi_persist.status.page.repeater import Repeater
from wsgi_persist.status.reader import read
from wsgi_persist.status.site import Site

FRESH = 1.0  # seconds: workers write no more often, and many who look at once are shown the same
QUICK = 0.03  # seconds: where reading takes longer, as with hundreds of workers, no visitor waits for it
LATE = 2 * STEP  # seconds: then the thread does not run, as under uWSGI without --enable-threads


@dataclass(frozen=True)
class Reading:
    """:ivar took: seconds that it took to read."""

    time: float
    sites: list[Site]
    history: History
    took: float


class Watch:
    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Reading | None = None
        self._history = History()
        self.repeater = Repeater(self.look, STEP / 2)

    def reading(self) -> Reading:
        """What the files said within the last second; where they are many, when the thread read them."""
        last = self._last
        if last is not None and 0 <= self._clock() - last.time < (FRESH if last.took < QUICK else LATE):
            return last
        return self.look()

    def look(self) -> Reading:
        with self._lock:
            now = self._clock()
            if self._last is None or not 0 <= now - self._last.time < FRESH:
                sites = read(self.folder)
                self._history.add(sites, now)
                self._last = Reading(now, sites, self._history, self._clock() - now)
            return self._last

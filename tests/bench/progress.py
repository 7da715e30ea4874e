"""How far a run is, and how long it may still take."""

from __future__ import annotations

import time

from tools.steps import say


class Progress:
    """:param seconds: that the parts will take together, as far as that is known."""

    def __init__(self, seconds: float) -> None:
        self._planned = max(seconds, 1.0)
        self._done = 0.0
        self._started = time.monotonic()

    def done(self, seconds: float) -> None:
        """A part is over that was planned to take so long."""
        self._done += seconds

    def say(self, text: str) -> None:
        share = min(self._done / self._planned, 1.0)
        elapsed = time.monotonic() - self._started
        left = f", about {span(elapsed / share * (1 - share))} left" if share > 0.05 else ""
        say(f"[{share:4.0%}{left}] {text}")


def span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"

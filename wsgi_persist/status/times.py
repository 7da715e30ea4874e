"""Times as they are read."""

from __future__ import annotations

import time as clocks
from datetime import datetime


def on_the_wall(at: float) -> float:
    """A reading of the monotonic clock as seconds since the epoch."""
    return max(clocks.time() - clocks.monotonic() + at, 0.0)


def ago(seconds: float) -> str:
    """In the largest unit that tells enough: ``4.2 s``, ``42 s``, ``12 min``, ``3 h``, ``5 d``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    for unit, size, enough in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < size * enough:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def clock(time: float, now: float) -> str:
    """The time of the day where the server stands, with the date unless it is today's."""
    moment, today = datetime.fromtimestamp(time), datetime.fromtimestamp(now)
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%Y-%m-%d %H:%M:%S")

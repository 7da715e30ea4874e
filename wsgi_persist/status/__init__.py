"""What the workers tell of themselves, in small files of a runtime folder, and who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wsgi_persist.status.reader import RUNTIME, read
from wsgi_persist.status.site import DEAD, RUNNING, STOPPED, Seen, Site
from wsgi_persist.status.snapshot import (
    FORMAT,
    Counters,
    Event,
    Inside,
    Leak,
    OutageState,
    PinState,
    Snapshot,
    Totals,
    Worker,
    added,
    plain,
)
from wsgi_persist.status.start import begin

if TYPE_CHECKING:
    from wsgi_persist.status.page import StatusPage, application

__all__ = [
    "DEAD",
    "FORMAT",
    "RUNNING",
    "RUNTIME",
    "STOPPED",
    "Counters",
    "Event",
    "Inside",
    "Leak",
    "OutageState",
    "PinState",
    "Seen",
    "Site",
    "Snapshot",
    "StatusPage",
    "Totals",
    "Worker",
    "added",
    "application",
    "begin",
    "plain",
    "read",
]


def __getattr__(name: str) -> Any:
    """The page is imported by the process that shows it, not by each worker."""
    if name not in ("StatusPage", "application"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wsgi_persist.status import page

    return getattr(page, name)

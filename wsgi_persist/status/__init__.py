"""What the workers tell of themselves, in small files of a runtime folder, and who reads them."""

from wsgi_persist.status.findings import Level, condition_of, find_faults, leaks, running
from wsgi_persist.status.page import StatusPage, application
from wsgi_persist.status.reader import RUNTIME, read
from wsgi_persist.status.site import DEAD, RUNNING, SLOW, STOPPED, Seen, Site
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

__all__ = [
    "DEAD",
    "FORMAT",
    "RUNNING",
    "RUNTIME",
    "SLOW",
    "STOPPED",
    "Counters",
    "Event",
    "Inside",
    "Leak",
    "Level",
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
    "condition_of",
    "find_faults",
    "leaks",
    "plain",
    "read",
    "running",
]

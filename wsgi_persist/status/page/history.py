"""How the sums of each site grew in the last minutes: what charts are drawn from.

Snapshots hold sums since a worker started. Whoever reads them again and again knows what came in between,
over the ends of workers, too, as the sum of a site never goes down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from wsgi_persist.status.site import Site
from wsgi_persist.status.snapshot import Counters

STEP = 10.0  # seconds of a bar
BARS = 90


@dataclass(frozen=True)
class Sums:
    requests: int
    replays: int
    answered_503: int


class History:
    """The sums at the end of each step, of all sites."""

    def __init__(self) -> None:
        self._sums: dict[Path, deque[tuple[int, Sums]]] = {}

    def add(self, sites: Sequence[Site], now: float) -> None:
        before = self._sums
        self._sums = {site.folder: before.get(site.folder) or deque(maxlen=BARS + 1) for site in sites}
        for site in sites:
            seen, step = self._sums[site.folder], int(now // STEP)
            if seen and seen[-1][0] == step:
                seen.pop()
            seen.append((step, sums_of(site.counters())))

    def bars(self, site: Site, what: Callable[[Sums], int], now: float) -> list[int | None]:
        """What was added in each step, the present one last; None where nobody looked."""
        found: list[int | None] = [None] * BARS
        first = int(now // STEP) - BARS + 1
        seen = list(self._sums.get(site.folder, ()))
        for (before, old), (step, new) in pairwise(seen):
            if step >= first and step - before == 1:
                # A site whose folder was emptied begins anew.
                found[step - first] = max(what(new) - what(old), 0)
        return found


def sums_of(counters: Counters) -> Sums:
    replays = counters.replayed_statements + counters.replayed_requests
    return Sums(counters.requests, replays, counters.answered_503)

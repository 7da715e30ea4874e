"""One worker and very many requests: what has grown between the thousandth and the last."""

from __future__ import annotations

from tests.bench.plan import PAGES
from tests.bench.progress import Progress
from tests.bench.results import Growth
from tests.bench.stage import Stage
from tests.bench.variants import OURS
from tests.http import get
from tools import load
from tools.apache import Apache

CENSUS = "/bench/census/"
FIRST = 1_000
PORTION = 20_000


def growth(stage: Stage, requests: int, progress: Progress) -> Growth:
    """Exactly so many requests, by the closed loop of our own."""
    with stage.sites([OURS], stage.address("socket"), "psycopg", 1) as sites:
        apache = sites[OURS.key]
        errors = _ask(apache, FIRST)
        before = get(apache.port, CENSUS).json
        asked = FIRST
        while asked < requests:
            portion = min(PORTION, requests - asked)
            errors += _ask(apache, portion)
            asked += portion
            progress.say(f"{asked:,} of {requests:,} requests to one worker")
        return Growth(asked, errors, before, get(apache.port, CENSUS).json)


def _ask(apache: Apache, requests: int) -> int:
    return load.run(apache.url + PAGES["three"], clients=2, requests=requests).errors

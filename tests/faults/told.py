"""What the workers told of themselves, against what their log says and what their visitors saw."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.results import Results
from tools import httpd
from tools.apache import public_folder
from wsgi_persist.status import STOPPED, Counters, Site

REFUSED = "answered 503"
# A line of the log for each, in the log's own words.
LINES = {
    "connections lost": r"closed backend \d+ after \d+ leases: "
    r"(the server closed it|no answer after|lost |the session left by)",
    "statements replayed": r"its statement is sent again:|a COMMIT of nothing but reads:"
    r"|its COMMIT was carried out:",
    "requests replayed": r"is run again: its connection was lost",
    REFUSED: r"is answered 503: its connection was lost",
}
_BY = re.compile(r"\[pid (\d+)")


@contextmanager
def status_folder() -> Iterator[Path]:
    """Of the workers' user."""
    root = public_folder("status")
    folder = root / "site"
    folder.mkdir()
    if os.geteuid() == 0:
        user = httpd.daemon_user()
        os.chown(folder, user.pw_uid, user.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(root)


def numbers(counters: Counters) -> Counter[str]:
    found = (
        sum(counters.lost.values()),
        counters.replayed_statements,
        counters.replayed_requests,
        counters.answered_503,
    )
    return Counter(dict(zip(LINES, found, strict=True)))


def logged(text: str) -> dict[int, Counter[str]]:
    """What is in the log, for each worker."""
    found: dict[int, Counter[str]] = {}
    for line in text.splitlines():
        if by := _BY.search(line):
            counts = found.setdefault(int(by[1]), Counter())
            counts.update(name for name, pattern in LINES.items() if re.search(pattern, line))
    return found


def differences(site: Site, log: str, results: Results) -> list[str]:
    """A killed worker may not have told its last second; an answer may be lost on its way."""
    lines = logged(log)
    found = [f"status: {line}" for line in site.ignored]
    for seen in site.workers:
        pid, told = seen.snapshot.worker.pid, numbers(seen.snapshot.counters)
        found += _apart(f"worker {pid}", told, lines.pop(pid, Counter()), exact=seen.state == STOPPED)
    found += [f"worker {pid} told nothing of {counts}" for pid, counts in lines.items() if counts]
    if all(seen.state == STOPPED for seen in site.workers):
        found += _refusals(numbers(site.counters())[REFUSED], results)
    return found


def _apart(who: str, told: Mapping[str, int], lines: Mapping[str, int], exact: bool) -> Iterator[str]:
    for name in LINES:
        if told[name] > lines[name] or (exact and told[name] < lines[name]):
            yield f"{who} told of {told[name]} {name}, and logged {lines[name]}"


def _refusals(told: int, results: Results) -> Iterator[str]:
    kinds = results.kinds()
    seen = kinds["503"] + kinds["503+"]
    if not seen <= told <= seen + kinds["none"]:
        yield f"the workers told of {told} answers 503, and visitors saw {seen}"

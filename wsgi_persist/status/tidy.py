"""Files of ended workers are removed after a while; their counters are kept, in one file for the site."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsgi_persist.status.encoding import encoded
from wsgi_persist.status.files import LOCK, TOTALS, content, is_draft, is_locked, opened, took_lock
from wsgi_persist.status.shape import Malformed
from wsgi_persist.status.site import RUNNING, Seen, Site, totals
from wsgi_persist.status.snapshot import Snapshot, Totals, added

# Ended workers are shown for so many seconds, and never more of them than this.
KEPT = 600.0
MOST = 20


def tidy(site: Site, kept: float = KEPT) -> None:
    """Done by whoever starts or reads as the folder's owner; a file of a running worker is never touched.

    :raises OSError: it cannot be done.
    """
    outdated = _outdated(site, kept)
    if outdated and os.stat(site.folder).st_uid == os.geteuid():
        with _locked(site.folder) as is_ours:
            if is_ours:
                _fold(site.folder, [seen.file for seen in outdated])


def _outdated(site: Site, kept: float) -> list[Seen]:
    ended = [seen for seen in site.workers if seen.state != RUNNING]
    ended.sort(key=lambda seen: seen.snapshot.written)
    oldest = time.time() - kept
    surplus = len(ended) - MOST
    return [seen for at, seen in enumerate(ended) if at < surplus or seen.snapshot.written < oldest]


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """One process at a time; nobody waits."""
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        yield took_lock(fd)
    finally:
        os.close(fd)


def _fold(folder: Path, names: list[str]) -> None:
    """Counted first, then removed: who is interrupted between leaves a file that is known to be counted."""
    owner = os.stat(folder).st_uid
    gone = totals(folder, owner)
    _remove(folder, [*gone.folded, *_drafts(folder)])
    found = {name: last for name in names if (last := _last(folder / name, owner)) is not None}
    counters = added([gone.counters, *(last.counters for last in found.values())])
    _replace(folder / TOTALS, encoded(Totals(gone.workers + len(found), counters, list(found))))
    _remove(folder, list(found))


def _last(path: Path, owner: int) -> Snapshot | None:
    """None where another process was quicker."""
    try:
        fd = opened(path, owner)
    except FileNotFoundError:
        return None
    try:
        return content(Snapshot, fd)
    finally:
        os.close(fd)


def _drafts(folder: Path) -> Iterator[str]:
    """Of workers that were killed while they made their file."""
    for name in filter(is_draft, os.listdir(folder)):
        with suppress(OSError, Malformed):
            fd = opened(folder / name, os.geteuid())
            is_left = not is_locked(fd) and os.fstat(fd).st_mtime < time.time() - KEPT
            os.close(fd)
            if is_left:
                yield name


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)  # of who was killed here
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640), "wb") as file:
        file.write(data)
    os.replace(draft, path)


def _remove(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)

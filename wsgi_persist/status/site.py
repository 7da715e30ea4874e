"""The workers of one site, read from their folder: those that were killed among them."""

from __future__ import annotations

import functools
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from wsgi_persist.status.files import (
    TOTALS,
    content,
    exists,
    is_locked,
    is_of_worker,
    marks,
    opened,
    start_of,
)
from wsgi_persist.status.shape import Malformed
from wsgi_persist.status.snapshot import UNNAMED, Counters, Inside, Snapshot, Totals, Worker, added
from wsgi_persist.status.times import on_the_wall

RUNNING, STOPPED, DEAD = "running", "stopped", "dead"
SLOW = 10.0  # seconds that a request may be inside before it is told of
_ATTEMPTS = 5  # to read a folder while ended workers are removed from it


@dataclass(frozen=True)
class Seen:
    """A worker as its file shows it.

    :ivar state: ``running``; ``stopped``: it has ended, and said so; ``dead``: it was killed.
    :ivar file: its name in the folder.
    :ivar snapshot: the last one.
    """

    state: str
    file: str
    snapshot: Snapshot

    def longest(self, now: float) -> float:
        """For how many seconds its oldest request is inside; 0 if none is."""
        return max((now - inside.since for inside in self.snapshot.inside), default=0.0)


@dataclass(frozen=True)
class Site:
    """A folder of workers.

    :ivar workers: by pid; ended ones for a while, see ``tidy()``.
    :ivar gone: those that are not listed any more.
    :ivar ignored: what else is in the folder, a line each: the name, and why it is not shown.
    """

    name: str
    folder: Path
    workers: list[Seen]
    gone: Totals
    ignored: list[str]

    def counters(self) -> Counters:
        """The sum of all workers that there have been; it never goes down."""
        return added([self.gone.counters, *(worker.snapshot.counters for worker in self.workers)])


def read_site(folder: Path) -> Site:
    """As it is at one moment: a worker is listed, or counted among those that are gone, and never both.

    Nothing raises: what cannot be read is a line in ``ignored``.
    """
    for _ in range(_ATTEMPTS):
        found, again = _read_site(folder), _totals(folder, [])
        if again == found.gone:
            break
    return found


def _read_site(folder: Path) -> Site:
    ignored: list[str] = []
    gone = _totals(folder, ignored)
    workers = []
    for name in _names(folder, ignored):
        if name in gone.folded:
            continue
        try:
            workers.append(_seen(folder / name, _owner(folder)))
        except FileNotFoundError:
            pass  # removed since
        except (OSError, Malformed) as error:
            ignored.append(line_about(name, error))
    workers.sort(key=lambda worker: worker.snapshot.worker.pid)
    return Site(folder.name, folder, workers, gone, ignored)


def _names(folder: Path, ignored: list[str]) -> list[str]:
    try:
        found = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        ignored.append(line_about(".", error))
        return []
    for name in found:
        strange = not (is_of_worker(name) or name == TOTALS or name.startswith("."))
        if strange and not _is_folder(folder / name):
            ignored.append(line_about(name, Malformed("no name of a snapshot")))
    return [name for name in found if is_of_worker(name)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _owner(folder: Path) -> int:
    return os.stat(folder).st_uid


def _seen(path: Path, owner: int) -> Seen:
    fd = opened(path, owner)
    try:
        locked = is_locked(fd)  # first: what it writes last is read then
        snapshot = _with_marks(content(Snapshot, fd), marks(fd))
        if locked and _is_there(snapshot.worker):
            return Seen(RUNNING, path.name, snapshot)
        return Seen(STOPPED if snapshot.stopped else DEAD, path.name, snapshot)
    finally:
        os.close(fd)


def _with_marks(snapshot: Snapshot, marked: list[float]) -> Snapshot:
    """With the requests that came in after it was written."""
    times = [on_the_wall(at) for at in marked if 0 < at <= time.monotonic()]
    unnamed = [Inside(UNNAMED, since) for since in sorted(times) if since > snapshot.written]
    return replace(snapshot, inside=[*snapshot.inside, *unnamed]) if unnamed else snapshot


_this_host = functools.cache(socket.gethostname)


def _is_there(worker: Worker) -> bool:
    """A child that it left behind may hold its lock, and another process may have its pid by now."""
    if worker.host != _this_host():
        return True  # in a container: its pids are others
    start = start_of(worker.pid)
    return exists(worker.pid) and (not start or not worker.start or start == worker.start)


def totals(folder: Path, owner: int) -> Totals:
    """
    :raises OSError: it cannot be read.
    :raises Malformed: it is something else.
    """
    try:
        fd = opened(folder / TOTALS, owner)
    except FileNotFoundError:
        return Totals()
    try:
        return content(Totals, fd)
    finally:
        os.close(fd)


def _totals(folder: Path, ignored: list[str]) -> Totals:
    try:
        return totals(folder, _owner(folder))
    except FileNotFoundError:
        return Totals()  # the folder itself
    except (OSError, Malformed) as error:
        ignored.append(line_about(TOTALS, error))
        return Totals()


def line_about(name: str, error: Exception) -> str:
    """The name is anybody's choice: quoted, and not all of it."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return f"{name[:80]!r} is ignored: {why}"

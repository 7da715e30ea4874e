"""The file of one worker: made when it is first written, held by a lock until the process ends."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
from pathlib import Path
from typing import Any

from wsgi_persist.status.encoding import LARGEST, MARKS, PLACE, SIZE_OF_MARKS, encoded
from wsgi_persist.status.files import draft_of, is_in_memory, name_of_file, took_lock
from wsgi_persist.status.reader import read_and_tidy
from wsgi_persist.status.snapshot import Snapshot


class Slot:
    """:ivar places: in the file, where marks are seen; none unless it is in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._file = (0, 0)  # device and inode
        self._number = 0
        self.places: list[Any] = []

    @property
    def is_made(self) -> bool:
        return self._fd >= 0

    def write(self, snapshot: Snapshot) -> None:
        """
        :raises OSError: the disk is full, the folder is not there, or of another user.
        """
        if self.is_made and self._is_there():
            self._put(snapshot)
        else:
            self._make(snapshot)

    def _is_there(self) -> bool:
        """Somebody may have removed the file, or closed the descriptor, whose number may be another's now."""
        try:
            found = os.fstat(self._fd)
        except OSError:
            self._fd = -1
            return False
        if (found.st_dev, found.st_ino) != self._file:
            self._fd = -1
        elif not found.st_nlink:
            self.forget()
        return self.is_made

    def forget(self) -> None:
        """In a forked child: the file, and the lock on it, are the parent's."""
        fd, self._fd, self.places = self._fd, -1, []
        if fd >= 0:
            os.close(fd)

    def _make(self, snapshot: Snapshot) -> None:
        """Not seen by anybody before it is locked and written."""
        if (owner := os.stat(self._folder).st_uid) != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {owner}", str(self._folder))
        read_and_tidy(self._folder)
        name = name_of_file(snapshot.worker.pid, snapshot.written)
        draft = self._folder / draft_of(name)
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            if not took_lock(self._fd):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(draft))
            found = os.fstat(self._fd)
            self._file = found.st_dev, found.st_ino
            self._put(snapshot)
            self.places = self._map(draft)
            draft.rename(self._folder / name)
        except BaseException:
            self.forget()
            draft.unlink(missing_ok=True)
            raise

    def _map(self, path: Path) -> list[Any]:
        # On a disk that is full, a write to memory that is mapped ends the process by SIGBUS.
        if not is_in_memory(self._fd):
            return []
        os.pwrite(self._fd, bytes(SIZE_OF_MARKS), LARGEST)
        # Opened once more: the mapping keeps a descriptor, and with it a lock would outlive forget().
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            numbers = memoryview(mmap.mmap(fd, SIZE_OF_MARKS, offset=LARGEST)).cast("d")
        finally:
            os.close(fd)
        os.fchmod(self._fd, 0o440)  # who cut it off would end the process, too
        return [numbers[at : at + 1] for at in range(MARKS)]

    def _put(self, snapshot: Snapshot) -> None:
        data = _fitting(snapshot, self._number)
        if os.pwrite(self._fd, data, self._number % 2 * PLACE) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        self._number += 1


def _fitting(snapshot: Snapshot, number: int) -> bytes:
    """Of one that is too large, the older half of the events goes, and of all else what comes last."""
    data = encoded(snapshot, number)
    while len(data) > PLACE:
        events, parts = snapshot.events, ("pins", "inside", "leaks", "outages")
        halves = {name: (found := getattr(snapshot, name))[: len(found) // 2] for name in parts}
        snapshot = dataclasses.replace(snapshot, events=events[(len(events) + 1) // 2 :], **halves)
        data = encoded(snapshot, number)
    return data

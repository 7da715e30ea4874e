"""The files of a runtime folder: opened without trust in whoever put them there."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import struct
from pathlib import Path

from wsgi_persist.status.encoding import LARGEST, SIZE_OF_MARKS, T, decoded
from wsgi_persist.status.shape import Malformed

TOTALS = "totals"
LOCK = ".lock"
_OF_WORKER = re.compile(r"worker-[0-9]{1,10}-[0-9]{1,20}")
_ATTEMPTS = 3


def name_of_file(pid: int, started: float) -> str:
    """No two workers of a folder have the same."""
    return f"worker-{pid}-{started * 1e6:.0f}"


def is_of_worker(name: str) -> bool:
    return _OF_WORKER.fullmatch(name) is not None


def draft_of(name: str) -> str:
    """Where it is written and locked before anybody looks at it."""
    return f".{name}"


def is_draft(name: str) -> bool:
    return name.startswith(".") and is_of_worker(name[1:])


def opened(path: Path, owner: int) -> int:
    """A descriptor of a plain file that belongs to *owner*; never of what a link leads to.

    :raises Malformed: it is something else.
    :raises OSError: it is gone, or may not be read.
    """
    # Not blocking: opening a FIFO would wait for somebody to write.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Malformed("not a plain file")
        if found.st_uid != owner:
            raise Malformed(f"of user {found.st_uid}, while its folder is of user {owner}")
        if found.st_size > (most := LARGEST + SIZE_OF_MARKS):
            raise Malformed(f"{found.st_size} bytes, and {most} are allowed")
        return fd
    except BaseException:
        os.close(fd)
        raise


def content(kind: type[T], fd: int) -> T:
    """What the file says; once more if both its places were written meanwhile.

    :raises Malformed: it says nothing that is understood.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return decoded(kind, os.pread(fd, LARGEST, 0))
        except Malformed:
            pass
    return decoded(kind, os.pread(fd, LARGEST, 0))


def marks(fd: int) -> list[float]:
    """When the requests came in that are inside, by the monotonic clock; whatever the file holds there."""
    data = os.pread(fd, SIZE_OF_MARKS, LARGEST)
    return [at for (at,) in struct.iter_unpack("d", data[: len(data) // 8 * 8])]


def is_in_memory(fd: int) -> bool:
    device = os.fstat(fd).st_dev
    number = b"%d:%d" % (os.major(device), os.minor(device))
    mounts = map(bytes.split, Path("/proc/self/mountinfo").read_bytes().splitlines())
    return any(mount[2] == number and mount[mount.index(b"-") + 1] == b"tmpfs" for mount in mounts)


def took_lock(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether nobody else holds it; kept until the descriptor is closed, or the process ends in any way."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(fd: int) -> bool:
    if took_lock(fd, fcntl.LOCK_SH):
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False
    return True


def start_of(pid: int | str) -> int:
    """When a process started, in ticks since boot; 0 where the kernel does not say."""
    try:
        # The name of the program in the second field may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    return True

"""What a user may do with a path, computed from its permissions, and how to mend it."""

from __future__ import annotations

import grp
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

READ, WRITE, ENTER = 4, 2, 1
_VERBS = {READ: "read", WRITE: "write to", ENTER: "enter"}
_LETTERS = {READ: "r", WRITE: "w", ENTER: "x"}
# Of <linux/posix_acl.h>.
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


class Account(NamedTuple):
    """A user as the kernel sees one.

    :ivar gid: the main one of the groups.
    """

    name: str
    uid: int
    gid: int
    groups: frozenset[int]
    home: str

    @property
    def can_be_taken(self) -> bool:
        """Whether this process can start another as that user, and is not that user already."""
        return os.geteuid() == 0 and self.uid != 0

    @property
    def group(self) -> str:
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)


class Obstacle(NamedTuple):
    """The first folder or file that is in the way, and how to mend it."""

    path: Path
    text: str


def obstacle(account: Account, path: Path, wanted: int) -> Obstacle | None:
    """Why *account* cannot do *wanted* with *path*; None if it can."""
    try:
        for step in _steps(path):
            needed = wanted if step.last else ENTER
            if not _may(account, step.path, needed):
                return Obstacle(step.path, _refusal(account, step.path, needed, path))
    except PermissionError as error:
        found = Path(error.filename)
        return Obstacle(found, f"{found} cannot be looked at: run this as root or as the owner of the site")
    except OSError as error:
        return Obstacle(path, f"{path} cannot be used: {error.filename}: {error.strerror}")
    return None


class _Step(NamedTuple):
    path: Path
    last: bool


def _steps(path: Path) -> Iterator[_Step]:
    """Every folder that is crossed on the way to *path*, through links, and what it leads to."""
    done, ahead, links = Path("/"), list(path.parts[1:]), 0
    while ahead:
        yield _Step(done, False)
        here = done / ahead.pop(0)
        if not stat.S_ISLNK(os.lstat(here).st_mode):
            done = here if here.name != ".." else done.parent
            continue
        if (links := links + 1) > 40:  # as the kernel counts
            raise OSError(40, "too many symbolic links", str(path))
        target = Path(os.readlink(here))
        ahead = [*(target.parts[1:] if target.is_absolute() else target.parts), *ahead]
        done = Path("/") if target.is_absolute() else done
    yield _Step(done, True)


def _may(account: Account, path: Path, wanted: int) -> bool:
    found = os.stat(path)
    if account.uid == 0:
        return bool(wanted != ENTER or stat.S_ISDIR(found.st_mode) or found.st_mode & 0o111)
    if account.uid == found.st_uid:
        return found.st_mode >> 6 & wanted == wanted
    listed = _access_list(path)
    if listed:
        return _may_by_list(account, found, listed, wanted)
    if found.st_gid in account.groups:
        return found.st_mode >> 3 & wanted == wanted
    return found.st_mode & wanted == wanted


def _access_list(path: Path) -> list[tuple[int, int, int]]:
    """The entries of an access control list (tag, permissions, id), empty where there is none."""
    get: Callable[[Path, str], bytes] | None = getattr(os, "getxattr", None)
    try:
        raw = get(path, "system.posix_acl_access") if get is not None else b""
    except OSError:
        return []
    return list(struct.iter_unpack("<HHI", raw[4:]))


def _may_by_list(
    account: Account, found: os.stat_result, listed: Iterable[tuple[int, int, int]], wanted: int
) -> bool:
    """acl(5): a named user's entry alone, else any group's that fits, both cut by the mask."""
    entries = list(listed)
    mask = next((given for tag, given, _ in entries if tag == _MASK), 7)
    for tag, given, number in entries:
        if tag == _USER and number == account.uid:
            return given & mask & wanted == wanted
    of_groups = [
        given & mask & wanted == wanted
        for tag, given, number in entries
        if (tag == _GROUP and number in account.groups)
        or (tag == _GROUP_OBJ and found.st_gid in account.groups)
    ]
    return any(of_groups) if of_groups else found.st_mode & wanted == wanted


def _refusal(account: Account, step: Path, wanted: int, path: Path) -> str:
    bits = [bit for bit in (READ, WRITE, ENTER) if wanted & bit]
    on_the_way = "" if step == path else f", on the way to {path}"
    return (
        f"user {account.name} may not {' and '.join(_VERBS[bit] for bit in bits)} {step}{on_the_way}: "
        f"{_mend(account, step, ''.join(_LETTERS[bit] for bit in bits))}"
    )


def _mend(account: Account, step: Path, letters: str) -> str:
    found = os.stat(step)
    if found.st_uid == account.uid:
        return f"chmod u+{letters} {step}"
    if found.st_gid in account.groups:
        return f"chmod g+{letters} {step}"
    if stat.S_ISDIR(found.st_mode) and "w" not in letters:
        return f"chmod o+{letters} {step}, or move it to where everybody may read"
    # Not for everybody: settings hold secrets.
    return f"chgrp {account.group} {step} && chmod g+{letters} {step}"

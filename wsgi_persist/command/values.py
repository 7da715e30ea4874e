"""The values of arguments: each one read and checked on its own."""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

# Whom Apache runs as: Debian, Red Hat, Alpine and Arch, SUSE, BSD; then whoever owns nothing.
DAEMONS = ("www-data", "apache", "http", "wwwrun", "www", "nobody")
MODULE_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
SITE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
# What ends a quoted value in Apache's configuration, or means something inside of it.
# Halves of surrogate pairs are what Python makes of bytes that are no text.
SPECIAL = re.compile(r"[\"\\\x00-\x1f\x7f\ud800-\udfff]|[$%]\{")


def matching(pattern: str, allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give {allowed}")
        return text

    return read


server_name = matching(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*",
    "a host name, such as shop.example.org",
)
site_name = matching(SITE_NAME, "letters, digits, '.', '_' and '-'")
address = matching(r"(/[A-Za-z0-9._~-]+)+", "a path of the site, such as /persist-status")
module_name = matching(MODULE_NAME, "a module's name, such as shop.settings")


def whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not allowed: give a whole number from {least} to {most}"
            )
        return int(text)

    return read


def processes(text: str) -> int | None:
    """None stands for auto."""
    return None if text == "auto" else whole(1, 10_000)(text)


def reserved(text: str) -> tuple[str, int]:
    """``NAME=N`` or ``N``: connections that belong to somebody else."""
    name, _, number = text.rpartition("=")
    return site_name(name or "others"), whole(0, 1_000_000)(number)


def plain(text: str) -> str:
    if SPECIAL.search(text) or not text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: give a text without quotes, backslashes, "
            "control characters, '${' and '%{'"
        )
    return text


def find_special(defines: Mapping[str, str]) -> Iterator[str]:
    """What came from the machine or the site itself, and could not be written down as it is."""
    for name, value in defines.items():
        if SPECIAL.search(value):
            yield f"{name} would be {value!r}, which means something else to Apache: rename it"


def path(text: str) -> Path:
    """Absolute; links stay, so that a link to the current release keeps its meaning."""
    plain(text)
    return Path(plain(str(absolute(Path(text)))))


def absolute(path: Path) -> Path:
    """Without any ``..``, which after a link is the folder above of what the link leads to."""
    found = Path("/")
    for part in path.absolute().parts[1:]:
        if part != "..":
            found /= part
        else:
            found = (found.resolve() if found.is_symlink() else found).parent
    _require_sight(found)
    return found


def _require_sight(path: Path) -> None:
    """From Python 3.14 on, ``Path.exists()`` hides that one may not look."""
    try:
        path.stat()
    except PermissionError:
        raise
    except OSError:
        pass  # it does not exist, which is for others to say


def user(text: str) -> pwd.struct_passwd:
    try:
        found = pwd.getpwnam(text)
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no user of this machine: give the one that the workers run as"
        ) from None
    try:
        grp.getgrgid(found.pw_gid)
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text!r} has the group {found.pw_gid}, which has no name: groupadd --gid {found.pw_gid} {text}"
        ) from None
    return found


def apache_user() -> pwd.struct_passwd:
    """The user of the machine's Apache, as far as one can tell without it."""
    known = {entry.pw_name: entry for entry in reversed(pwd.getpwall())}
    return next((known[name] for name in DAEMONS if name in known), pwd.getpwuid(os.getuid()))

"""Whom the workers run as."""

from __future__ import annotations

import grp
import os
import pwd
import re

from wsgi_persist.command import values
from wsgi_persist.command.access import Account
from wsgi_persist.command.refusal import Refused


def account_of(user: pwd.struct_passwd | None, options: str) -> Account:
    """As mod_wsgi chooses; *options* are those of WSGIDaemonProcess, of which the last one counts.

    :raises Refused: a group in them is none.
    """
    entry = user or values.apache_user()
    given = dict(re.findall(r"(?<!\S)(group|supplementary-groups)=(\S+)", options))
    gid = _number_of("group", given["group"]) if "group" in given else entry.pw_gid
    groups = os.getgrouplist(entry.pw_name, gid)
    if names := given.get("supplementary-groups"):
        groups = [gid, *(_number_of("supplementary-groups", name) for name in names.split(","))]
    return Account(entry.pw_name, entry.pw_uid, gid, frozenset(groups), entry.pw_dir)


def identity(user: pwd.struct_passwd | None) -> str:
    """Nothing where it is Apache's own user: an Apache that is not root cannot switch at all."""
    if user is None or user == values.apache_user():
        return ""
    return f"user={user.pw_name} group={grp.getgrgid(user.pw_gid).gr_name}"


def _number_of(option: str, name: str) -> int:
    """Of a group's name, or of its number after a ``#``."""
    try:
        return int(name[1:]) if re.fullmatch(r"#[0-9]{1,9}", name) else grp.getgrnam(name).gr_gid
    except KeyError:
        raise Refused(f"--options {option}={name}: no group of this machine: give one that is") from None

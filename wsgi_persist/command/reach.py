"""What the workers' user cannot reach of a site."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wsgi_persist.command.access import ENTER, READ, WRITE, Account, obstacle
from wsgi_persist.command.site import Site

Wanted = Iterable[tuple[Path, int]]


def find_closed(site: Site, account: Account, static: Path | None) -> Iterator[str]:
    """What is known before the site is asked, which is done as that user."""
    folders = [site.project, site.venv, *([static] if static else [])]
    wanted = [(site.python, READ | ENTER), *((folder, READ | ENTER) for folder in folders)]
    if site.script:
        wanted.append((site.script, READ))
    yield from _obstacles(account, wanted)


def find_unwritable(status: Path, account: Account) -> Iterator[str]:
    """A worker tells nothing in a folder of another user, where others could put files in its place."""
    if not status.is_dir():
        yield f"the folder {status} does not exist: see deploy/tmpfiles.conf, which makes it at each start"
    elif status.stat().st_uid != account.uid:
        yield f"{status} does not belong to the workers' user {account.name}: chown {account.name} {status}"
    else:
        yield from _obstacles(account, [(status, READ | WRITE | ENTER)])


def find_failure(site: Site, facts: Mapping[str, Any], account: Account) -> Iterator[str]:
    """Why the site could not be imported."""
    if "error" in facts:
        yield _why(facts, account) or f"the site, asked by {site.python}{_whom(account)}: {facts['error']}"


def find_obstacles(facts: Mapping[str, Any], account: Account) -> Iterator[str]:
    """What the site has told that it needs."""
    wanted = [(Path(folder), READ | ENTER) for folder in facts["files"]]
    wanted.append((Path(facts["script"]), READ))
    for about in facts["aliases"].values():
        wanted += _socket_of(about["host"], about["port"])
    found = list(_obstacles(account, wanted))
    yield from found
    for alias, about in facts["aliases"].items():
        yield from _find_unusable_passfile(alias, about["passfile"], account)
    if not found:
        yield from _find_unreadable(facts["imported"], account)


def _obstacles(account: Account, wanted: Wanted) -> Iterator[str]:
    """One folder is often in the way of several."""
    found: dict[Path, str] = {}
    for path, bits in wanted:
        if met := obstacle(account, path, bits):
            found.setdefault(met.path, met.text)
    yield from found.values()


def _why(facts: Mapping[str, Any], account: Account) -> str | None:
    """The permission that is missing, where the error came from that."""
    return next(_obstacles(account, [*_of_denied(facts["denied"]), *_of_module(facts)]), None)


def _of_denied(name: str | None) -> Wanted:
    """The error does not say what was wanted: of a file that can be read, to write to it."""
    if not name:
        return
    path = Path(name)
    if os.path.lexists(path):
        yield from ((path, READ), (path, WRITE))
    else:
        yield path.parent, WRITE | ENTER


def _of_module(facts: Mapping[str, Any]) -> Wanted:
    """To Python a folder that it may not look into is empty."""
    parts = (facts["missing"] or "").split(".")
    for start in map(Path, facts["path"] if parts[0] else ()):
        for count in range(len(parts)):
            folder = start.joinpath(*parts[: count + 1])
            if start.is_absolute() and folder.is_dir():
                yield folder, READ | ENTER


def _whom(account: Account) -> str:
    return f" as {account.name}" if account.can_be_taken else ""


def _find_unreadable(files: Iterable[str], account: Account) -> Iterator[str]:
    """The first one stands for all: a umask of 077 makes hundreds."""
    found = list(_obstacles(account, ((Path(file), READ) for file in files)))
    for text in found[:1]:
        yield text + (f" ({len(found) - 1} more like this)" if len(found) > 1 else "")


def _find_unusable_passfile(alias: str, name: str, account: Account) -> Iterator[str]:
    """libpq passes over it in silence."""
    path = Path(name)
    if name and (obstacle(account, path, READ) or stat.S_IMODE(path.stat().st_mode) & 0o077):
        yield (
            f"{path}, the passfile of alias {alias!r}, has to be a file that user {account.name} alone may "
            f"read, or libpq ignores it: chown {account.name} {path} && chmod 600 {path}"
        )


def _socket_of(host: str, port: str) -> list[tuple[Path, int]]:
    """The folder of a Unix socket, and the socket itself while the server is up."""
    if not host.startswith("/"):
        return []
    socket = Path(host) / f".s.PGSQL.{port}"
    return [(Path(host), ENTER), *([(socket, READ | WRITE)] if os.path.exists(socket) else [])]

"""How many processes a site gets: as many as the cores want, no more than the database takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wsgi_persist.command.refusal import Refused


class Database(NamedTuple):
    """A server's limit, and the aliases that each process keeps a connection to it for."""

    aliases: list[str]
    max_connections: int
    reserved: int  # by the server itself, for superusers and roles that may

    def room(self, others: int) -> int:
        return self.max_connections - self.reserved - others


class Size(NamedTuple):
    processes: int
    why: str


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def automatic(databases: Iterable[Database], reserved: Mapping[str, int], cores: int) -> Size:
    """Two processes for each core and one more, so that one computes while others wait for an answer.

    :raises Refused: there is not even room for one.
    """
    wanted = 2 * cores + 1
    size = Size(wanted, f"2 x {cores} cores + 1; the database has room for them")
    for database in databases:
        room = database.room(sum(reserved.values()))
        fitting = room // len(database.aliases)
        if fitting < 1:
            raise Refused(_too_small(database, reserved, room))
        if fitting < size.processes:
            size = Size(
                fitting, f"as many as fit, of {wanted} for {cores} cores: {_account(database, reserved)}"
            )
    return size


def _account(database: Database, reserved: Mapping[str, int]) -> str:
    parts = [f"max_connections={database.max_connections}", f"{database.reserved} reserved by the server"]
    parts += [f"{number} for {name}" for name, number in reserved.items()]
    return f"{', '.join(parts)}; {len(database.aliases)} for each process ({', '.join(database.aliases)})"


def _too_small(database: Database, reserved: Mapping[str, int], room: int) -> str:
    return (
        f"--processes auto: no process fits into the {max(room, 0)} connections that are left "
        f"({_account(database, reserved)}): raise max_connections, reserve less, or put PgBouncer between"
    )

"""How many processes a site gets: as many as the cores want, no more than the database takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wsgi_persist.command.refusal import Refused


class Limit(NamedTuple):
    """How many connections there may be, and the aliases that each process keeps one of them for.

    :ivar what: max_connections of a server, max_client_conn of a pooler; a role or a database whose
        CONNECTION LIMIT it is.
    :ivar reserved: by the server itself, for superusers and roles that may.
    """

    aliases: list[str]
    what: str
    most: int
    reserved: int = 0

    @property
    def name(self) -> str:
        return self.what if self.is_shared else f"CONNECTION LIMIT of {self.what}"

    @property
    def of_pooler(self) -> bool:
        return self.what == "max_client_conn"

    @property
    def is_shared(self) -> bool:
        """With other sites."""
        return self.of_pooler or self.what == "max_connections"

    def others(self, reserved: Mapping[str, int]) -> Mapping[str, int]:
        """Who else needs some of them: other sites have roles and databases of their own."""
        return reserved if self.is_shared else {}

    def room(self, reserved: Mapping[str, int]) -> int:
        return self.most - self.reserved - sum(self.others(reserved).values())


class Size(NamedTuple):
    processes: int
    why: str


def cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def automatic(limits: Iterable[Limit], reserved: Mapping[str, int], cores: int) -> Size:
    """Two processes for each core and one more, so that one computes while others wait for an answer.

    :raises Refused: there is not even room for one.
    """
    wanted = 2 * cores + 1
    size = Size(wanted, f"2 x {cores} cores + 1; the database has room for them")
    for limit in limits:
        fitting = limit.room(reserved) // len(limit.aliases)
        if fitting < 1:
            raise Refused(_too_small(limit, reserved))
        if fitting < size.processes:
            size = Size(
                fitting, f"as many as fit, of {wanted} for {cores} cores: {_account(limit, reserved)}"
            )
    return size


def _account(limit: Limit, reserved: Mapping[str, int]) -> str:
    parts = [f"{limit.name}={limit.most}"]
    parts += [f"{limit.reserved} reserved by the server"] if limit.what == "max_connections" else []
    parts += [f"{number} for {name}" for name, number in limit.others(reserved).items()]
    return f"{', '.join(parts)}; {len(limit.aliases)} for each process ({', '.join(limit.aliases)})"


def _too_small(limit: Limit, reserved: Mapping[str, int]) -> str:
    left = max(limit.room(reserved), 0)
    choices = [f"raise {limit.name}", "reserve less", *([] if limit.of_pooler else ["put PgBouncer between"])]
    return (
        f"--processes auto: no process fits into the {left} connections that are left "
        f"({_account(limit, reserved)}): {', '.join(choices[:-1])}, or {choices[-1]}"
    )

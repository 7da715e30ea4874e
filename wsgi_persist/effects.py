"""What can be left in a session, and which of PostgreSQL's own functions leave it."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from wsgi_persist.functions import BUILT_INS


class Leaves(enum.Enum):
    """What the next request finds; the greater, the more it takes to undo it."""

    NOTHING = 0  # the session as it was
    STATE = 1  # something that a reset undoes
    FOR_GOOD = 2  # something that only closing the connection undoes


class Verdict(NamedTuple):
    leaves: Leaves
    reason: str


NOTHING = Verdict(Leaves.NOTHING, "nothing")
UNKNOWN = Verdict(Leaves.STATE, "unknown")
FUNCTION = Verdict(Leaves.STATE, "function")
TEMPORARY = Verdict(Leaves.STATE, "temporary")
SETTING = Verdict(Leaves.STATE, "SET")
CURSOR = Verdict(Leaves.STATE, "cursor")
# A new session has NULL there, one where it was ever named an empty string.
CUSTOM = Verdict(Leaves.FOR_GOOD, "custom")

_EFFECTS = {
    "advisory": (Leaves.STATE, "pg_(try_)?advisory_lock(_shared)?"),
    "setseed": (Leaves.FOR_GOOD, "setseed"),
    "replication": (
        Leaves.FOR_GOOD,
        "pg_(create|copy)_(logical|physical)_replication_slot|pg_replication_origin_(session|xact)_setup",
    ),
    "server": (Leaves.FOR_GOOD, "binary_upgrade_.*|pg_(backup_start|start_backup)"),
    "dblink": (Leaves.FOR_GOOD, "dblink_connect(_u)?"),
    "SET": (Leaves.STATE, "set_limit"),
    # These run SQL that they get as text, or make.
    "function": (
        Leaves.STATE,
        "((query|cursor|table|schema|database)_to_xml|crosstab|connectby|xpath_table|dblink).*"
        "|ts_stat|ts_rewrite",
    ),
}
_EFFECT = re.compile("|".join(f"(?P<{reason}>{names})" for reason, (_, names) in _EFFECTS.items()))


def effect(name: str) -> Verdict | None:
    found = _EFFECT.fullmatch(name)
    reason = found and found.lastgroup
    return Verdict(_EFFECTS[reason][0], reason) if reason else None


BUILT_IN_VERDICTS = {name: effect(name) or NOTHING for name in BUILT_INS | {"cube", "rollup"}}

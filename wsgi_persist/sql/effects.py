"""What a statement does that matters afterwards, and which of PostgreSQL's own functions do it."""

from __future__ import annotations

import enum
import operator
import re
from collections.abc import Iterable
from typing import NamedTuple

from wsgi_persist.sql.functions import BUILT_INS, VOLATILE


class Leaves(enum.Enum):
    """What the next request finds; the greater, the more it takes to undo it."""

    NOTHING = 0  # the session as it was
    LISTED = 1  # what a reset undoes, if it is still there: the server lists it
    STATE = 2  # perhaps something that a reset undoes
    FOR_GOOD = 3  # something that only closing the connection undoes


class Kind(enum.IntEnum):
    """Whether it may be sent again when a connection is lost; the greater, the less."""

    READ = 0  # anywhere: one statement that only reads
    WRITE = 1  # as the first of a transaction: one statement that a rollback undoes
    OTHER = 2  # never: several, transaction control, COPY, or nobody knows
    FINAL = 3  # never: COMMIT, or what else no rollback undoes


class Verdict(NamedTuple):
    """:ivar reason: what the worst of it is; several with commas between them."""

    leaves: Leaves
    reason: str
    kind: Kind


class Aside(Verdict):
    """On what writes nothing: it is about the session alone, or about places in a transaction. Beside
    anything else in one text the verdict is another."""


# The one verdict on every read that leaves nothing: watching cursors know it by identity.
QUIET = Verdict(Leaves.NOTHING, "nothing", Kind.READ)
UNDONE = Verdict(Leaves.NOTHING, "nothing", Kind.WRITE)
# The one verdict each on setting savepoints, and on the rest about them.
MARK = Aside(Leaves.NOTHING, "nothing", Kind.WRITE)
UNMARK = Aside(Leaves.NOTHING, "nothing", Kind.OTHER)
ONCE = Verdict(Leaves.NOTHING, "nothing", Kind.OTHER)
DONE = Verdict(Leaves.NOTHING, "nothing", Kind.FINAL)
UNKNOWN = Verdict(Leaves.STATE, "unknown", Kind.OTHER)
# A user's own, which cannot commit either.
FUNCTION = Verdict(Leaves.STATE, "function", Kind.WRITE)
TEMPORARY = Verdict(Leaves.LISTED, "temporary", Kind.WRITE)
SETTING = Aside(Leaves.LISTED, "SET", Kind.WRITE)
RESETTING = Aside(Leaves.LISTED, "RESET", Kind.WRITE)
CURSOR = Verdict(Leaves.LISTED, "cursor", Kind.OTHER)
SEED = Aside(Leaves.FOR_GOOD, "setseed", Kind.WRITE)
# A new session has NULL there, one where it was ever named an empty string.
CUSTOM = Aside(Leaves.FOR_GOOD, "custom", Kind.WRITE)
# As SET LOCAL does it: the empty string remains.
CUSTOM_RESET = Aside(Leaves.LISTED, "RESET custom", Kind.WRITE)
_CUSTOM_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*[.][A-Za-z_][A-Za-z0-9_]*")


def custom(name: str) -> Verdict:
    """On setting that one, or another if that cannot be its whole name."""
    return CUSTOM._replace(reason=f"custom {name.lower()}") if _CUSTOM_NAME.fullmatch(name) else CUSTOM


def writes(verdict: Verdict) -> bool:
    """Whether something of it may be in the database when its transaction is over."""
    return verdict.kind is not Kind.READ and verdict.__class__ is not Aside


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """What several things do together."""
    loud = [verdict for verdict in verdicts if verdict is not QUIET]
    if len(loud) < 2:
        return loud[0] if loud else QUIET
    leaves = max((verdict.leaves for verdict in loud), key=_value)
    reasons = dict.fromkeys(verdict.reason for verdict in loud if verdict.leaves is leaves)
    return Verdict(leaves, ", ".join(reasons), max((verdict.kind for verdict in loud), key=_value))


_value = operator.attrgetter("value")


_EFFECTS = {
    "advisory": (Leaves.LISTED, "pg_(try_)?advisory_lock(_shared)?"),
    "setseed": (Leaves.FOR_GOOD, "setseed"),
    "replication": (
        Leaves.FOR_GOOD,
        "pg_(create|copy)_(logical|physical)_replication_slot|pg_replication_origin_(session|xact)_setup",
    ),
    "server": (Leaves.FOR_GOOD, "binary_upgrade_.*|pg_(backup_start|start_backup)"),
    "dblink": (Leaves.FOR_GOOD, "dblink_connect(_u)?"),
    "SET": (Leaves.LISTED, "set_limit"),
    # These run SQL that they get as text, or make; some call themselves stable or immutable all the same.
    "function": (
        Leaves.STATE,
        "((query|cursor|table|schema|database)_to_xml|crosstab|connectby|xpath_table|dblink).*"
        "|ts_stat|ts_rewrite|st_fromflatgeobuftotable",
    ),
}
_EFFECT = re.compile("|".join(f"(?P<{reason}>{names})" for reason, (_, names) in _EFFECTS.items()))


def effect(name: str) -> Verdict | None:
    found = _EFFECT.fullmatch(name)
    reason = found and found.lastgroup
    return Verdict(_EFFECTS[reason][0], reason, Kind.OTHER) if reason else None


# Volatile, but all that they do is draw random numbers, wait, or read what the server is doing.
_HARMLESS = """
array_sample array_shuffle clock_timestamp current_query gen_random_uuid pg_blocking_pids
pg_collation_actual_version pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
pg_database_collation_actual_version pg_database_size pg_get_wait_events pg_indexes_size pg_is_in_recovery
pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact pg_last_wal_receive_lsn
pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage
pg_partition_ancestors pg_partition_tree pg_relation_size pg_safe_snapshot_blocking_pids
pg_sequence_last_value pg_sleep pg_sleep_for pg_sleep_until pg_table_size pg_tablespace_size
pg_total_relation_size pg_xact_commit_timestamp pg_xact_status random random_normal timeofday txid_status
uuidv4 uuidv7
"""
HARMLESS = frozenset(_HARMLESS.split())
_ACTING = VOLATILE - HARMLESS
# A rollback undoes what these do, or it ends with the session; the last two are not volatile, but write.
_UNDONE = re.compile(
    "nextval|set_config|setseed|pg_notify|pg_(try_)?advisory_.*|lo_(?!export).*|loread|lowrite"
    "|txid_current|pg_current_xact_id"
)


def _of_built_in(name: str) -> Verdict:
    found = effect(name) or ONCE
    if _UNDONE.fullmatch(name):
        return found._replace(kind=Kind.WRITE)
    return QUIET if found is ONCE and name not in _ACTING else found


BUILT_IN_VERDICTS = {name: _of_built_in(name) for name in BUILT_INS | {"cube", "rollup"}}

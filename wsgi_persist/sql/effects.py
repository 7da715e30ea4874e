"""What a statement does that matters afterwards, and which of PostgreSQL's own functions do it."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import NamedTuple

from wsgi_persist.sql.functions import BUILT_INS, VOLATILE


class Leaves(enum.Enum):
    """What the next request finds; the greater, the more it takes to undo it."""

    NOTHING = 0  # the session as it was
    STATE = 1  # something that a reset undoes
    FOR_GOOD = 2  # something that only closing the connection undoes


class Kind(enum.Enum):
    """Whether it may be sent again when a connection is lost; the greater, the less."""

    READ = 0  # anywhere: one statement that only reads
    WRITE = 1  # as the first of a transaction: one statement that a rollback undoes
    OTHER = 2  # never: several, transaction control, COPY, what no rollback undoes or nobody knows


class Verdict(NamedTuple):
    leaves: Leaves
    reason: str
    kind: Kind


# The one verdict on every read that leaves nothing: watching cursors know it by identity.
QUIET = Verdict(Leaves.NOTHING, "nothing", Kind.READ)
UNDONE = Verdict(Leaves.NOTHING, "nothing", Kind.WRITE)
# The one verdict each on setting savepoints, and on the rest about them: neither writes anything.
MARK = Verdict(Leaves.NOTHING, "nothing", Kind.WRITE)
UNMARK = Verdict(Leaves.NOTHING, "nothing", Kind.OTHER)
ONCE = Verdict(Leaves.NOTHING, "nothing", Kind.OTHER)
UNKNOWN = Verdict(Leaves.STATE, "unknown", Kind.OTHER)
# A user's own, which cannot commit either.
FUNCTION = Verdict(Leaves.STATE, "function", Kind.WRITE)
TEMPORARY = Verdict(Leaves.STATE, "temporary", Kind.WRITE)
SETTING = Verdict(Leaves.STATE, "SET", Kind.WRITE)
RESETTING = Verdict(Leaves.STATE, "RESET", Kind.WRITE)
CURSOR = Verdict(Leaves.STATE, "cursor", Kind.OTHER)
# A new session has NULL there, one where it was ever named an empty string.
CUSTOM = Verdict(Leaves.FOR_GOOD, "custom", Kind.WRITE)


# What is only about the session, or marks a place in a transaction; beside anything else in one text
# the verdict is another object.
_WRITE_NOTHING = {id(verdict) for verdict in (MARK, UNMARK, SETTING, RESETTING, CUSTOM)}


def writes(verdict: Verdict) -> bool:
    """Whether something of it may be in the database when its transaction is over."""
    return verdict.kind is not Kind.READ and id(verdict) not in _WRITE_NOTHING


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """What several things do together."""
    loud = [verdict for verdict in verdicts if verdict is not QUIET]
    if len(loud) < 2:
        return loud[0] if loud else QUIET
    leaves, reason, _ = max(loud, key=lambda verdict: verdict.leaves.value)
    return Verdict(leaves, reason, max((verdict.kind for verdict in loud), key=lambda kind: kind.value))


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

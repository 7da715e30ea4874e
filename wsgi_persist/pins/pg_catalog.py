"""What the server's catalogue says when a connection is new: its baseline, and the database's functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsgi_persist.drivers import Driver
from wsgi_persist.sql import BUILT_INS, KEYWORDS, Classifier, Functions

# Tracing tools show what is sent here among the application's statements.
OURS = "/* wsgi_persist */"

# What a session has of its own, by what it comes from: its settings as SQL that restores them (but for a
# transaction's, which stay listed after it), and what SQL cannot restore.
SETTINGS, USER = "settings", "user"
_OWN = {
    SETTINGS: """(SELECT pg_catalog.string_agg(pg_catalog.format(
        'SELECT pg_catalog.set_config(%L, %L, false)', name, setting), '; ')
     FROM (SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
               AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')
           UNION ALL
           SELECT 'role', pg_catalog.current_setting('role')
           WHERE pg_catalog.current_setting('role') <> 'none') settings)""",
    USER: "session_user::text",
    "temporary": """EXISTS (SELECT FROM pg_catalog.pg_depend
        WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND refobjid = pg_catalog.pg_my_temp_schema())""",
    "LISTEN": "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())",
    # Not the driver's own.
    "PREPARE": "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)",
    "cursor": "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)",
    "advisory": """EXISTS (SELECT FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())""",
}
# Where to look for what a statement left, by the verdict's reason where that is not its name.
_WHERE = {
    # What is created while the search_path begins with pg_temp is temporary.
    "SET": (SETTINGS, USER, "temporary"),
    "RESET": (SETTINGS, USER),
    "RESET custom": ("custom",),
    "UNLISTEN": ("LISTEN",),
    "DEALLOCATE": ("PREPARE",),
    "EXECUTE": ("PREPARE",),
}

# Volatile functions of uuid-ossp and pgcrypto that only draw random numbers.
_HARMLESS = """uuid_generate_v1,uuid_generate_v1mc,uuid_generate_v4,gen_random_bytes,gen_salt,
pgp_sym_encrypt,pgp_sym_encrypt_bytea,pgp_pub_encrypt,pgp_pub_encrypt_bytea""".replace("\n", "")

# Names of functions outside pg_catalog: those that leave nothing in any form, as far as their volatility
# tells, which of an extension's is taken at its word also where it is stable; and all others.
_FUNCTIONS = f"""
    (SELECT pg_catalog.array_agg(name) FILTER (WHERE safe) AS trusted,
            pg_catalog.array_agg(name) FILTER (WHERE NOT safe) AS others
     FROM (SELECT p.proname::text AS name,
                  pg_catalog.bool_and(p.provolatile = 'i' AND p.prokind = 'f' OR d.objid IS NOT NULL AND (
                      p.provolatile IN ('i', 's') OR p.proname = ANY ('{{{_HARMLESS}}}'::name[]))) AS safe
           FROM pg_catalog.pg_proc p
           LEFT JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
               AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
               AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
           WHERE p.pronamespace NOT IN ('pg_catalog'::pg_catalog.regnamespace,
                                        'information_schema'::pg_catalog.regnamespace)
           GROUP BY p.proname) names) functions"""

# Another one when such a function was created, altered or dropped; the server's own have lower numbers.
_STAND = """
    (SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.max(oid),
                                 pg_catalog.sum(xmin::text::bigint))
     FROM pg_catalog.pg_proc WHERE oid >= 16384)"""

Own = dict[str, Any]

# What the catalogue said of a database's functions when they stood so, once per process.
_classifiers: dict[tuple[object, ...], tuple[str, Classifier]] = {}


def learn(driver: Driver, connection: Any) -> tuple[Classifier, Own]:
    """One query when a connection is new; another one where functions have changed since the last."""
    database = driver.database(connection)
    sql = f"{OURS} SELECT {', '.join(_OWN.values())}, {_STAND}"
    if known := _classifiers.get(database):
        *found, stand = driver.row(connection, sql)
        if stand == known[0]:
            return known[1], _own(found)
    *found, stand, trusted, others = driver.row(connection, f"{sql}, trusted, others FROM {_FUNCTIONS}")
    # Compared here and not there: a name may be a built-in of a newer version than the server's.
    shadowed = (BUILT_INS | KEYWORDS).intersection(others or ())
    classifier = Classifier(Functions(frozenset(trusted or ()), shadowed))
    _classifiers[database] = stand, classifier
    return classifier, _own(found)


def _own(found: Iterable[Any]) -> Own:
    return dict(zip(_OWN, found, strict=True))


def ask(driver: Driver, connection: Any, kinds: Iterable[str] = _OWN) -> Own:
    """What the session has of these kinds."""
    wanted = list(kinds)
    sql = f"{OURS} SELECT {', '.join(map(_question, wanted))}"
    return dict(zip(wanted, driver.row(connection, sql), strict=True))


def kinds_of(reason: str) -> set[str]:
    """Where to look for what statements left with these verdicts."""
    return {kind for each in reason.split(", ") for kind in _WHERE.get(each, (each,))}


def _question(kind: str) -> str:
    """What to ask for it, also if it is a custom setting, which the server does not list."""
    name = kind.removeprefix("custom ")
    return _OWN.get(kind) or f"nullif(pg_catalog.current_setting('{name}', true), '') IS NOT NULL"

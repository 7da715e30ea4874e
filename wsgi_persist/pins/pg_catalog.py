"""What the server's catalogue says when a connection is new: its baseline, and the database's functions."""

from __future__ import annotations

from typing import Any

from wsgi_persist.drivers import Driver
from wsgi_persist.sql import BUILT_INS, KEYWORDS, Classifier, Functions

# Tracing tools show what is sent here among the application's statements.
_OURS = "/* wsgi_persist: a new connection */"

# What a session has of its own when it is new: its settings as SQL that restores them, and whether
# there is more, which SQL cannot restore.
_BASELINE = """
    (SELECT pg_catalog.string_agg(pg_catalog.format(
        'SELECT pg_catalog.set_config(%L, %L, false)', name, setting), '; ')
     FROM (SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
           UNION ALL
           SELECT 'role', pg_catalog.current_setting('role')
           WHERE pg_catalog.current_setting('role') <> 'none') settings),
    pg_catalog.pg_my_temp_schema() <> 0
        OR EXISTS (SELECT FROM pg_catalog.pg_listening_channels())
        OR EXISTS (SELECT FROM pg_catalog.pg_prepared_statements)
        OR EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)
        OR EXISTS (SELECT FROM pg_catalog.pg_locks
                   WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid())"""

# Volatile functions of uuid-ossp and pgcrypto that only draw random numbers.
_HARMLESS = """uuid_generate_v1,uuid_generate_v1mc,uuid_generate_v4,gen_random_bytes,gen_salt,
pgp_sym_encrypt,pgp_sym_encrypt_bytea,pgp_pub_encrypt,pgp_pub_encrypt_bytea""".replace("\n", "")

# Names of functions outside pg_catalog: those that belong to extensions and leave nothing in any form, as
# far as their volatility tells, and all others.
_FUNCTIONS = f"""
    (SELECT pg_catalog.array_agg(name) FILTER (WHERE safe) AS trusted,
            pg_catalog.array_agg(name) FILTER (WHERE NOT safe) AS others
     FROM (SELECT p.proname::text AS name,
                  pg_catalog.bool_and(d.objid IS NOT NULL AND (
                      p.provolatile IN ('i', 's') OR p.proname = ANY ('{{{_HARMLESS}}}'::name[]))) AS safe
           FROM pg_catalog.pg_proc p
           LEFT JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
               AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
               AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
           WHERE p.pronamespace NOT IN ('pg_catalog'::pg_catalog.regnamespace,
                                        'information_schema'::pg_catalog.regnamespace)
           GROUP BY p.proname) names) functions"""

# What the catalogue said of a database's functions, once per process.
_classifiers: dict[tuple[object, ...], Classifier] = {}


def learn(driver: Driver, connection: Any) -> tuple[Classifier, str | None, bool]:
    """One query when a connection is new; the first in a process and database asks for more."""
    database = driver.database(connection)
    classifier = _classifiers.get(database)
    if classifier is not None:
        baseline, more = driver.row(connection, f"{_OURS} SELECT {_BASELINE}")
        return classifier, baseline, more
    sql = f"{_OURS} SELECT {_BASELINE}, trusted, others FROM {_FUNCTIONS}"
    baseline, more, trusted, others = driver.row(connection, sql)
    # Compared here and not there: a name may be a built-in of a newer version than the server's.
    shadowed = (BUILT_INS | KEYWORDS).intersection(others or ())
    functions = Functions(frozenset(trusted or ()), shadowed)
    classifier = _classifiers[database] = Classifier(functions)
    return classifier, baseline, more

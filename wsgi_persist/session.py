"""What requests leave in a session, and making it as good as new for the next one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from wsgi_persist.cursors import Ears, telling
from wsgi_persist.drivers import ACTIVE, IDLE, Driver
from wsgi_persist.errors import LeakedStateError
from wsgi_persist.functions import BUILT_INS, KEYWORDS
from wsgi_persist.policy import Policy
from wsgi_persist.sql import Classifier, Functions, Leaves

logger = logging.getLogger("wsgi_persist.session")

# DISCARD ALL in effect (https://www.postgresql.org/docs/current/sql-discard.html), which itself
# cannot share a round trip with what restores the baseline. It ends every role, too.
_DISCARD = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; DEALLOCATE ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)

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

# Texts that were reported, so that the log names each once.
_reported: set[str | bytes] = set()
_REPORT_AT_MOST = 1000


class Session:
    """One connection's session, from the moment when it is new: baseline, watch and reset.

    :ivar leaves: the worst that the present request has left.
    :ivar reason: what left it, in one word.
    :ivar sql: the statement that left it.
    :ivar complaint: what the last request left, if the policy wants it raised.
    """

    def __init__(
        self, driver: Driver, connection: Any, name: str, policy: Policy, clock: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._name = name
        self._policy = policy
        self._clock = clock
        self._autocommit = connection.autocommit
        self._held: list[Any] = []
        self.complaint: LeakedStateError | None = None
        self.settle()
        if policy.watches:
            self._watch()

    def _watch(self) -> None:
        driver, connection = self._driver, self._connection
        self._classify, baseline, self._beyond_reset = _learn(driver, connection)
        self._reset_sql = "; ".join(filter(None, [_DISCARD, baseline]))
        self._ears = Ears(self._classify.seen, self.tell, self._held.append)
        driver.watch(connection, self._ears, self.registered)
        self._attributes = driver.attributes(connection)

    def settle(self) -> None:
        """As new: nothing is left."""
        self.leaves = Leaves.NOTHING
        self.reason = ""
        self.sql: str | bytes = ""
        self._held.clear()

    def tell(self, query: Any) -> None:
        """A statement is about to be sent."""
        text = self._driver.text_of(query, self._connection)
        verdict = self._classify(text)
        if verdict.leaves is not Leaves.NOTHING:
            self._note(verdict.leaves, verdict.reason, text)

    def adopt(self, cursor: Any) -> None:
        """Watch a cursor that was not made by the connection's own factory."""
        if self._policy.watches and not hasattr(cursor, "tells"):
            cursor.__class__ = telling(cursor.__class__, self._ears)

    def registered(self) -> None:
        """An adapter was registered with the connection: no reset reaches that."""
        self._note(Leaves.FOR_GOOD, "adapter", "")

    def bring_to_rest(self, request: object, since: float) -> str | None:
        """Undo what the request left; the reason to drop the connection where that cannot be done.

        :param request: its text is in the log.
        :param since: when it came in.
        """
        self.complaint = None
        if self._driver.is_closed(self._connection):
            return "lost during a request"
        status = self._driver.status(self._connection)
        if status == ACTIVE:
            return f"a statement was interrupted in {request}"
        try:
            if status != IDLE:
                self._roll_back(request, since)
            if self._connection.autocommit is not self._autocommit:
                self._connection.autocommit = self._autocommit
            return self._clean(request) if self._policy.watches else None
        except Exception as error:
            return f"the session left by {request} could not be cleaned: {error}"

    def _roll_back(self, request: object, since: float) -> None:
        self._driver.rollback(self._connection)
        if not self._autocommit:
            return  # with AUTOCOMMIT off every query begins one
        age = self._clock() - since
        self._report(f"rolled back a transaction left open by {request}, {age:.3f} s after it came in")

    def _clean(self, request: object) -> str | None:
        left = self._look()
        if left is not Leaves.NOTHING:
            what = f"session state left by {request} ({self.reason})"
            if self._policy.reset_report == "raise" or _is_news(self.sql or self.reason):
                self._report(f"{what}: {self.sql!r:.200}")
            if left is Leaves.FOR_GOOD:
                return f"{what} that no reset undoes"
        if left is not Leaves.NOTHING or self._policy.reset == "always":
            self._reset()
        return None

    def _report(self, what: str) -> None:
        logger.warning("pin %r: %s", self._name, what)
        if self._policy.reset_report == "raise":
            self.complaint = LeakedStateError(f"pin {self._name!r}: {what}")

    def _look(self) -> Leaves:
        """What the request has left, now that it is over."""
        if any(not cursor.closed and cursor.withhold for cursor in self._held):
            self._note(Leaves.STATE, "cursor", "")
        if self._driver.attributes(self._connection) != self._attributes:
            self._note(Leaves.FOR_GOOD, "attribute", "")
        if self.leaves is Leaves.STATE and self._beyond_reset:
            return Leaves.FOR_GOOD
        return self.leaves

    def _reset(self) -> None:
        """As DISCARD ALL, and then as the connection was when it was new: one round trip."""
        self._driver.run(self._connection, self._reset_sql)
        self._driver.forget_prepared(self._connection)
        self.settle()

    def _note(self, leaves: Leaves, reason: str, sql: str | bytes) -> None:
        if leaves.value > self.leaves.value:
            self.leaves, self.reason, self.sql = leaves, reason, sql


def _is_news(what: str | bytes) -> bool:
    """Whether this was not reported before by this process; in time every text was."""
    if what in _reported or len(_reported) >= _REPORT_AT_MOST:
        return False
    _reported.add(what)
    return True


def _learn(driver: Driver, connection: Any) -> tuple[Classifier, str | None, bool]:
    """One query when a connection is new; the first in a process and database asks for more."""
    database = driver.database(connection)
    classifier = _classifiers.get(database)
    if classifier is not None:
        baseline, more = driver.row(connection, f"SELECT {_BASELINE}")
        return classifier, baseline, more
    sql = f"SELECT {_BASELINE}, trusted, others FROM {_FUNCTIONS}"
    baseline, more, trusted, others = driver.row(connection, sql)
    # Compared here and not there: a name may be a built-in of a newer version than the server's.
    shadowed = (BUILT_INS | KEYWORDS).intersection(others or ())
    functions = Functions(frozenset(trusted or ()), shadowed)
    classifier = _classifiers[database] = Classifier(functions)
    return classifier, baseline, more

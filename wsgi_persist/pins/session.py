"""What requests leave in a session, and making it as good as new for the next one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers import ACTIVE, IDLE, UNKNOWN, Driver, Ears, first_line, sqlstate, telling
from wsgi_persist.errors import LeakedStateError
from wsgi_persist.pins.pg_catalog import learn
from wsgi_persist.pins.state import LOST, Standing
from wsgi_persist.policy import Policy
from wsgi_persist.redaction import redacted
from wsgi_persist.sql import ONCE, UNDONE, Leaves, Recent, Verdict, normalized, writes

logger = logging.getLogger("wsgi_persist.session")

# DISCARD ALL in effect (https://www.postgresql.org/docs/current/sql-discard.html), which itself
# cannot share a round trip with what restores the baseline. It ends every role, too.
_DISCARD = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; DEALLOCATE ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


# Of the usual request: looking up a member costs as much as the rest of a question.
FRESH, NOTHING = Standing.FRESH, Leaves.NOTHING

# What was reported lately, so that the log names each once.
_reported: Recent[str, bool] = Recent(1000)


class Session:
    """One connection's session, from the moment when it is new: baseline, watch and reset.

    :ivar leaves: the worst that the present request has left.
    :ivar reason: what left it, in one word.
    :ivar sql: the statement that left it.
    :ivar complaint: what the last request left, if the policy wants it raised.
    :ivar wrote: whether anything but reads was sent since the session was last seen idle.
    :ivar completed: whether the request sent such a thing before it was seen idle again.
    :ivar evict: why the connection is to be closed when the request is over.
    """

    def __init__(
        self, driver: Driver, connection: Any, name: str, policy: Policy, clock: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._name = name
        self._policy = policy
        self._watches, self._resets = policy.watches, policy.resets
        self._resets_what_is_left = policy.resets and policy.reset != "always"
        self._clock = clock
        self._status = driver.status_asker(connection)
        self._autocommit = connection.autocommit
        self._held: list[Any] = []
        self._told: tuple[Any, Verdict] = (None, ONCE)
        self.complaint: LeakedStateError | None = None
        self.wrote = False
        self.completed = not self._watches  # nobody knows, so it may have
        self.evict: str | None = None
        self.settle()
        if self._watches:
            self._watch()

    def _watch(self) -> None:
        driver, connection = self._driver, self._connection
        self._classify, baseline, self._beyond_reset = learn(driver, connection)
        self._reset_sql = "; ".join(filter(None, [_DISCARD, baseline]))
        self._ears = Ears(self._classify.seen, self._classify, self.tell, self._held.append, self.failed)
        driver.watch(connection, self._ears, self.registered)
        self._attributes = driver.attributes_asker(connection)
        self._baseline = self._attributes()

    def settle(self) -> None:
        """As new: nothing is left."""
        self.leaves = Leaves.NOTHING
        self.reason = ""
        self.sql: str | bytes = ""
        self._held.clear()

    def standing(self) -> Standing:
        """Asked before each statement that might have to be sent again."""
        status = self._status()
        if status != IDLE and status != UNKNOWN:
            return Standing.BUSY
        if self.wrote:
            self.complete()
        if status == UNKNOWN:
            return Standing.GONE
        if self.leaves is NOTHING and not (self._held and self._holds()):
            return FRESH
        return Standing.MARKED

    def _holds(self) -> bool:
        """Whether a server-side cursor is still open."""
        # A transaction's end closes all that are not withheld, and they do not know it.
        self._held[:] = [cursor for cursor in self._held if cursor.withhold and not cursor.closed]
        return bool(self._held)

    def is_unchanged(self) -> bool:
        """Whether the driver's own object is known to be as it was when the connection was new."""
        return self._watches and self._attributes() == self._baseline

    def complete(self) -> None:
        """No transaction is under way: no loss undoes what was sent up to now."""
        self.wrote, self.completed = False, self.completed or self.wrote

    def verdict_on(self, query: Any) -> Verdict:
        """On the statement that was sent last."""
        if not self._watches:
            return ONCE
        told, verdict = self._told
        return verdict if told is query else self._classify(query)

    def tell(self, query: Any, verdict: Verdict | None = None) -> None:
        """A statement is about to be sent; *verdict* if its text was seen before."""
        if self.wrote and self._status() in (IDLE, UNKNOWN):
            self.complete()  # not every statement's standing is asked for
        if verdict is UNDONE:
            self.wrote = True
            return
        text = self._driver.text_of(query, self._connection)
        verdict = self._classify(text)
        self._told = query, verdict
        self.wrote = self.wrote or writes(verdict)
        if verdict.leaves is not Leaves.NOTHING:
            self._note(verdict.leaves, verdict.reason, text)

    def failed(self, error: BaseException) -> None:
        """Sending a statement raised."""
        self.evict = self.evict or _reason_to_evict(error)

    def adopt(self, cursor: Any) -> None:
        """Watch a cursor that was not made by the connection's own factory."""
        if self._watches:
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
        self.wrote, self.completed = False, not self._watches
        status = self._status()
        if status == UNKNOWN:
            return LOST
        if status == ACTIVE:
            return f"a statement was interrupted in {request}"
        try:
            if status != IDLE:
                self._roll_back(request, since)
            elif self._is_spotless():
                return None
            if self._connection.autocommit is not self._autocommit:
                self._connection.autocommit = self._autocommit
            return self.evict or self._clean(request)
        except Exception as error:
            return f"the session left by {request} could not be cleaned: {error}"

    def _is_spotless(self) -> bool:
        """All at once what follows step by step, for the usual request."""
        return (
            self._resets_what_is_left
            and self.leaves is NOTHING
            and self.evict is None
            and not self._held
            and self._connection.autocommit is self._autocommit
            and self._attributes() == self._baseline
        )

    def _roll_back(self, request: object, since: float) -> None:
        self._driver.rollback(self._connection)
        if not self._autocommit:
            return  # with AUTOCOMMIT off every query begins one
        age = self._clock() - since
        self._report(f"rolled back a transaction left open by {request}, {age:.3f} s after it came in")

    def _clean(self, request: object) -> str | None:
        if not self._resets:
            if self._policy.pooler == "transaction":
                self.settle()  # every transaction has another session there
            return None
        left = self._look()
        if left is not NOTHING:
            what = f"session state left by {request} ({self.reason})"
            if self._policy.reset_report == "raise" or _is_news(self.sql or self.reason):
                self._report(f"{what}: {self.sql!r:.200}")
            if left is Leaves.FOR_GOOD:
                return f"{what} that no reset undoes"
        if left is not NOTHING or self._policy.reset == "always":
            self._reset()
        return None

    def _report(self, what: str) -> None:
        logger.warning("pin %r: %s", self._name, what)
        if self._policy.reset_report == "raise":
            self.complaint = LeakedStateError(f"pin {self._name!r}: {redacted(what)}")

    def _look(self) -> Leaves:
        """What the request has left, now that it is over."""
        if self._held and self._holds():
            self._note(Leaves.STATE, "cursor", "")
        if self._attributes() != self._baseline:
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


def _reason_to_evict(error: BaseException) -> str | None:
    if not isinstance(error, Exception):
        # A timeout that the web server injected, for instance: the answer may still be on its way.
        return f"a statement was interrupted by {error!r}"
    code = sqlstate(error)
    if code == "25006":
        return f"the server is read-only: {first_line(error)}"
    if code == "0A000":
        return f"a plan may no longer fit its tables: {first_line(error)}"
    return None


def _is_news(what: str | bytes) -> bool:
    """Whether nothing like it, but for comments and literals, was reported by this process lately."""
    form = normalized(what if isinstance(what, str) else what.decode(errors="replace"))
    if _reported.find(form):
        return False
    _reported.keep(form, True)
    return True

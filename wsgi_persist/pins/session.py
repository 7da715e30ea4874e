"""What requests leave in a session, and making it as good as new for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from wsgi_persist.drivers import ACTIVE, IDLE, UNKNOWN, Driver, Ears, telling
from wsgi_persist.events import tell
from wsgi_persist.pins.baseline import Baseline, Note
from wsgi_persist.pins.eviction import reason_to_evict
from wsgi_persist.pins.pg_catalog import learn
from wsgi_persist.pins.reports import Reports
from wsgi_persist.pins.state import LOST, Standing
from wsgi_persist.pins.transaction import Transaction, transaction_for
from wsgi_persist.policy import Policy
from wsgi_persist.sql import ONCE, UNDONE, Kind, Leaves, Verdict, writes

# Of the usual request: looking up a member costs as much as the rest of a question.
FRESH, NOTHING = Standing.FRESH, Leaves.NOTHING


class Session:
    """One connection's session, from the moment when it is new: baseline, watch and reset.

    :ivar leaves: the worst that the present request may have left.
    :ivar reports: who tells what it left.
    :ivar wrote: whether anything but reads was sent since the session was last seen idle.
    :ivar completed: whether the request sent such a thing before it was seen idle again.
    :ivar evict: why the connection is to be closed when the request is over.
    :ivar transaction: what is sent for one that the application is in; None where that is the driver's.
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
        self._notes: dict[str, Note] = {}  # of the present request, the first for each reason
        self._told: tuple[Any, Verdict] = (None, ONCE)
        self.reports = Reports(name, policy)
        self.wrote, self.completed = False, not self._watches  # else nobody knows, so it may have
        self.evict: str | None = None
        self.transaction: Transaction | None = None
        self.settle()
        if self._watches:
            self._watch()

    def _watch(self) -> None:
        driver, connection = self._driver, self._connection
        self._classify, own = learn(driver, connection)
        self._as_new = Baseline(driver, connection, own)
        judge, hold = self._classify, self._held.append
        is_new = lambda: self.leaves is NOTHING  # noqa: E731
        self.transaction = transaction_for(self._policy, driver, connection, judge, is_new)
        self._ears = Ears(judge.seen, judge, self.tell, hold, self.failed, self.transaction)
        driver.watch(connection, self._ears, self.registered)
        self._attributes = driver.attributes_asker(connection)
        self._baseline = self._attributes()

    def connected_with(self, said: Iterable[Any]) -> None:
        """What was sent before the session was watched."""
        if self._watches:
            texts = (self._driver.text_of(query, self._connection) for query in said)
            self._as_new.add(self._classify(text).reason for text in texts)

    def accept(self) -> None:
        """What receivers did when the session was announced to another wrapper is its own."""
        if not self._watches:
            return
        if self.leaves is not NOTHING:
            self._as_new.add(self._notes)
            self._as_new.take_anew()
        self._baseline = self._attributes()
        self.settle()

    def settle(self) -> None:
        """As new: nothing is left."""
        self.leaves = Leaves.NOTHING
        self._notes.clear()
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

    def look(self) -> None:
        """Whether what was written up to now is done, as no transaction is under way."""
        if self.wrote and self._status() in (IDLE, UNKNOWN):
            self.complete()

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
        self.look()  # not every statement's standing is asked for
        if verdict is UNDONE:
            self.wrote = True
            return
        text = self._driver.text_of(query, self._connection)
        verdict = self._classify(text)
        self._told = query, verdict
        self.wrote = self.wrote or writes(verdict)
        if verdict.kind is Kind.FINAL:
            self.completed = True  # nor is what was sent before it undone by a loss
        if verdict.leaves is not Leaves.NOTHING:
            self._note(verdict.leaves, verdict.reason, text)

    def failed(self, error: BaseException) -> None:
        """Sending a statement raised."""
        self.evict = self.evict or reason_to_evict(error)

    def adopt(self, cursor: Any) -> None:
        """Watch a cursor that was not made by the connection's own factory."""
        if self._watches:
            cursor.__class__ = telling(cursor.__class__, self._ears)

    def registered(self, kind: str) -> None:
        """An adapter was registered with the connection: no reset reaches that."""
        self._note(Leaves.FOR_GOOD, "adapter", kind)

    def bring_to_rest(self, request: object, since: float) -> str | None:
        """Undo what the request left; the reason to drop the connection where that cannot be done.

        :param request: its text is in the log.
        :param since: when it came in.
        """
        self.reports.complaint = None
        if self.transaction is not None and self.transaction.is_wanted:
            self.transaction.end()
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
        tell("rolled_back", self._name, request)
        self.reports.left_open(request, age)

    def _clean(self, request: object) -> str | None:
        if not self._resets:
            if self._policy.pooler == "transaction":
                if self.leaves is not NOTHING:
                    self.reports.shared(request, self._worst())
                self.settle()  # every transaction has another session there
            return None
        self._look()
        if self.leaves is not NOTHING:
            note = self._worst()
            tell("leak", self._name, request, what=note.reason, sql=note.sql)
            self.reports.leak(request, note)
            if note.leaves is Leaves.FOR_GOOD or self._as_new.is_beyond_reset:
                return f"session state left by {request} ({note.reason}) that no reset undoes"
        elif self._policy.reset != "always":
            return None
        self._as_new.reset()
        self.settle()
        return None

    def _worst(self) -> Note:
        return max(self._notes.values(), key=lambda note: note.leaves.value)

    def _look(self) -> None:
        """Note what the request has left, now that it is over."""
        if self._held and self._holds():
            self._note(Leaves.LISTED, "cursor", f"cursor {self._held[0].name}")
        if changed := self._driver.changed(self._baseline, self._attributes()):
            self._note(Leaves.FOR_GOOD, "attribute", ", ".join(changed))
        if self._notes and all(map(self._as_new.is_asked_for, self._notes.values())):
            self._forget_what_is_undone()

    def _forget_what_is_undone(self) -> None:
        notes = self._notes.values()
        if self.leaves is Leaves.LISTED and self.reports.are_known(notes):
            return  # one round trip resets it, without a question
        left = self._as_new.what_is_left(notes)
        if not left and self.leaves is Leaves.FOR_GOOD:
            self._as_new.reset()  # the role or the database may have a value for that setting
        self._notes = {note.reason: note for note in left}
        if not left:
            self.settle()

    def _note(self, leaves: Leaves, reason: str, sql: str | bytes) -> None:
        self._notes.setdefault(reason, Note(leaves, reason, sql))
        if leaves.value > self.leaves.value:
            self.leaves = leaves

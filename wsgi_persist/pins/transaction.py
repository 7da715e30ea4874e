"""The transaction that the application is in, of which the server may not know yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsgi_persist.drivers import IDLE, IN_ERROR, IN_TRANSACTION, Driver, has_position, sqlstate
from wsgi_persist.pins.pg_catalog import OURS
from wsgi_persist.policy import Policy
from wsgi_persist.sql import Classifier, Leaves


def transaction_for(
    policy: Policy, driver: Driver, connection: Any, judge: Classifier, is_new: Callable[[], bool]
) -> Transaction | None:
    """None where every round trip is the driver's own.

    :param is_new: whether the session is as good as a new one.
    """
    if policy.transactions == "stock" or not connection.autocommit:
        return None
    may_wait = is_new if policy.transactions == "lazy" and _reads_committed(driver, connection) else _never
    return Transaction(driver, connection, judge, may_wait)


def _reads_committed(driver: Driver, connection: Any) -> bool:
    """Whether each statement sees what is committed by then, so that a read alone sees the same."""
    return driver.begin(connection) == "BEGIN" and driver.row(
        connection, f"{OURS} SELECT pg_catalog.current_setting('transaction_isolation')"
    ) == ("read committed",)


def _never() -> bool:
    return False


class Transaction:
    """Has BEGIN and savepoints sent in one text with the statement that follows them.

    Whether the server has begun is told by its last answer and not remembered: a statement that is sent
    again on a new connection takes along all that went before it.

    :ivar is_wanted: whether the application is in one.
    :ivar has_saved: whether its BEGIN cost no round trip.
    :ivar waits: whether something of that is still to be sent.
    :ivar is_the_drivers: whether the driver was told, which begins it then by itself.
    """

    def __init__(
        self, driver: Driver, connection: Any, judge: Classifier, may_wait: Callable[[], bool]
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._status = driver.status_asker(connection)
        self._judge = judge
        self._forms = judge.forms
        self._may_wait = may_wait
        self._speaks_utf8 = driver.speaks_utf8(connection)
        self._untried: str | None = None
        self._way_back = "", 0  # what undoes that which stood in front, and how many savepoints it leaves
        self.is_wanted = self.is_the_drivers = self.waits = False
        self.settle()

    # ##### What the application does #####

    def begin(self) -> None:
        self.is_wanted = self.waits = True

    def end(self) -> bool:
        """Whether the driver has to be told, too."""
        told, self.is_the_drivers = self.is_the_drivers, False
        self.is_wanted = self.waits = False
        self.settle()
        return told

    def settle(self) -> None:
        """It was committed or rolled back."""
        self.has_saved = False
        self._savepoints: list[str] = []  # outermost first
        self._sent = 0  # how many of them the server has
        self._released: str | None = None  # the outermost that it does not know to be released

    def mark(self, name: str) -> bool:
        """Whether a savepoint is set, for all that the application sees."""
        if not self.is_wanted or self._status() not in (IDLE, IN_TRANSACTION):
            return False
        self._savepoints.append(name)
        self.waits = True
        return True

    def release(self, name: str) -> bool:
        """Whether it is, for all that the application sees."""
        if name not in self._savepoints or self._status() not in (IDLE, IN_TRANSACTION):
            return False
        at = self._savepoints.index(name)
        if at < self._known():
            self._released, self._sent, self.waits = name, at, True
        del self._savepoints[at:]
        return True

    def return_to(self, name: str) -> bool:
        """Whether nothing was sent since the savepoint; else it is the application's to send."""
        if name not in self._savepoints:
            return False
        at = self._savepoints.index(name)
        del self._savepoints[at + 1 :]
        if at >= self._known():
            return True
        self._sent, self._released = at + 1, None  # what was released lies inside
        return False

    def _known(self) -> int:
        return 0 if self._status() == IDLE else self._sent

    def take_over(self, other: Transaction) -> None:
        """The same transaction, on this connection in the place of the other's."""
        self._savepoints = other._savepoints

    # ##### What is sent #####

    def is_idle(self) -> bool:
        """Whether the server is in no transaction."""
        return self._status() == IDLE

    def is_pending(self) -> bool:
        """Whether the server has to hear something before the next statement; also where what was to tell
        it was refused by the driver, or interrupted."""
        return self.waits or (self.is_wanted and self._status() == IDLE)

    def opening(self, query: Any, params: Any) -> list[str]:
        """What goes in front of a statement, in one text with it; what cannot go so was sent."""
        status = self._status()
        if status == IDLE:
            return self._first(query)
        if status == IN_TRANSACTION and self.waits:
            return self._in_the_middle(query, params)
        return []  # else the server has something to say to whatever is sent

    def _first(self, query: Any) -> list[str]:
        forms = self._forms
        can_follow = forms.can_follow(query)
        if can_follow and self._may_wait() and forms.stands_alone(query):
            return []
        if self.is_the_drivers or not can_follow:
            self.send()
            return []
        self._sent = 0
        self._way_back, self.has_saved = ("ROLLBACK", 0), True
        begin = self._driver.begin(self._connection)
        return [begin, *self._waiting()] if self._savepoints else [begin]

    def _in_the_middle(self, query: Any, params: Any) -> list[str]:
        can_follow = self._forms.can_follow(query)
        if self._sent == len(self._savepoints):
            if not can_follow or self._judge(query).leaves is not Leaves.NOTHING:
                self.send()
            return []  # RELEASE waits for a savepoint: behind it there is no way back
        # A text that cannot be parsed ends the transaction before its savepoint is set.
        if can_follow and self._speaks_utf8 and self._forms.can_be_parsed(query, params):
            self._way_back = f"ROLLBACK TO SAVEPOINT {self._savepoints[self._sent]}", self._sent + 1
            return self._waiting()
        self.send()
        self._untried = query if can_follow else None
        return []

    def _waiting(self) -> list[str]:
        waiting = [f"SAVEPOINT {name}" for name in self._savepoints[self._sent :]]
        if self._released is not None:
            waiting.insert(0, f"RELEASE SAVEPOINT {self._released}")
        return waiting

    def sending(self) -> None:
        """What waits is about to be sent. Who is interrupted now finds it missing, rather than undone."""
        self._sent, self._released, self.waits = len(self._savepoints), None, False

    def tell_driver(self) -> None:
        """Leave it to the driver to begin, with whatever is sent next."""
        if self.is_wanted and not self.is_the_drivers and self._status() == IDLE:
            self.is_the_drivers, self._sent = True, 0
            self._connection.autocommit = False
            self.waits = bool(self._savepoints)

    def send(self) -> None:
        """Send what waits in a text of its own."""
        self.tell_driver()
        waiting = self._waiting()
        self.sending()
        if waiting:
            self._driver.send(self._connection, "; ".join(waiting))

    def hand_over(self) -> None:
        """The application takes the driver's connection, whose methods have to know of the transaction."""
        self.send()
        if not (self.is_the_drivers or self._driver.ends_any(self._connection)):
            self.is_the_drivers, self._connection.autocommit = True, False
            self._driver.send(self._connection, "SELECT 1")  # its BEGIN before that is a warning

    def was_understood(self) -> None:
        """The statement is done."""
        if self._untried is not None:
            query, self._untried = self._untried, None
            self._forms.was_parsed(query)

    def starts_over(self, error: Exception) -> bool:
        """Whether the statement is to be sent by itself now, because what stood in front shows in its error:
        the server refused it before it carried it out."""
        status = self._status()
        if status == IDLE and sqlstate(error) is not None:
            self.send()  # not parsed: nothing of the text was carried out
            return True
        if status != IN_ERROR or not has_position(error):
            return False
        undo, self._sent = self._way_back
        self.waits = True
        self._driver.send(self._connection, undo)
        self.send()
        return True

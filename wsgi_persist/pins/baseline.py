"""What a session has when it is as good as new, and how it gets there again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from wsgi_persist.drivers import Driver
from wsgi_persist.events import tell
from wsgi_persist.pins.pg_catalog import SETTINGS, USER, Own, ask, kinds_of
from wsgi_persist.sql import Leaves

# DISCARD ALL in effect (https://www.postgresql.org/docs/current/sql-discard.html), which itself
# cannot share a round trip with what restores the baseline. It ends every role, too.
_DISCARD = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; DEALLOCATE ALL; UNLISTEN *; "
    "SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
# A custom setting, which the server does not list, and RESET ALL would destroy.
CUSTOM = "custom"


class Note(NamedTuple):
    """What something may have left.

    :ivar sql: the statement; where it was none, what of the driver's object has changed.
    """

    leaves: Leaves
    reason: str
    sql: str | bytes


class Baseline:
    def __init__(self, driver: Driver, connection: Any, own: Own) -> None:
        self._driver = driver
        self._connection = connection
        self._own = {**own, CUSTOM: False}

    @property
    def is_beyond_reset(self) -> bool:
        """Whether it has something that :meth:`reset` would destroy."""
        return any(self._own[kind] for kind in self._own.keys() - {SETTINGS, USER})

    def add(self, reasons: Iterable[str]) -> None:
        """The session has what was done to it for these reasons, as verdicts name them."""
        parts = (part for reason in reasons for part in reason.split(", "))
        self._own[CUSTOM] = self._own[CUSTOM] or any(part.startswith(CUSTOM) for part in parts)

    def take_anew(self) -> None:
        """It is what the session has now."""
        self._own.update(ask(self._driver, self._connection))

    def reset(self) -> None:
        """As DISCARD ALL, and then as the connection was when it was new: one round trip."""
        reset_sql = "; ".join(filter(None, [_DISCARD, self._own[SETTINGS]]))
        self._driver.run(self._connection, reset_sql)
        tell("reset")
        self._driver.forget_prepared(self._connection)

    def is_asked_for(self, note: Note) -> bool:
        """Whether the server can tell if that is still there."""
        if note.leaves is Leaves.FOR_GOOD and not self.is_beyond_reset:
            return all(reason.startswith("custom ") for reason in note.reason.split(", "))
        return note.leaves is Leaves.LISTED

    def what_is_left(self, notes: Collection[Note]) -> list[Note]:
        """Those of the notes that the server bears out: what they are about is not as it was."""
        kinds = {kind for note in notes for kind in kinds_of(note.reason)}
        asked = kinds - {CUSTOM}
        found = ask(self._driver, self._connection, asked) if asked else {}
        changed = {kind for kind in kinds if self._has_changed(kind, found.get(kind, False))}
        return [note for note in notes if not changed.isdisjoint(kinds_of(note.reason))]

    def _has_changed(self, kind: str, now: Any) -> bool:
        before = self._own.get(kind, False)
        # Where there was such a thing before, nobody knows whether it is the same.
        return bool(now != before or before is True)

"""What was reported lately to be left, so that the log names each text once."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from wsgi_persist.errors import LeakedStateError
from wsgi_persist.pins.baseline import Note
from wsgi_persist.policy import Policy
from wsgi_persist.redaction import redacted
from wsgi_persist.sql import Leaves, Recent, normalized

logger = logging.getLogger("wsgi_persist.session")

_reported: Recent[str, bool] = Recent(1000)


def was_reported(what: str | bytes) -> bool:
    """Whether anything like it, but for comments and literals, was reported by this process lately."""
    return bool(_reported.find(_form(what)))


def is_news(what: str | bytes) -> bool:
    """Whether it was not, and is now."""
    if was_reported(what):
        return False
    _reported.keep(_form(what), True)
    return True


def _form(what: str | bytes) -> str:
    return normalized(what if isinstance(what, str) else what.decode(errors="replace"))


class Reports:
    """What the log, or the test, is told of one connection's session.

    :ivar complaint: what the last request left, if the policy wants it raised.
    """

    def __init__(self, name: str, policy: Policy) -> None:
        self._name = name
        self._raises = policy.reset_report == "raise"
        self.complaint: LeakedStateError | None = None

    def left_open(self, request: object, age: float) -> None:
        self._report(f"rolled back a transaction left open by {request}, {age:.3f} s after it came in")

    def leak(self, request: object, note: Note) -> None:
        if not self._raises and not is_news(note.sql):
            return
        if note.leaves is Leaves.STATE:
            self._report(f"{request} may have left session state ({note.reason}): {note.sql!r:.200}")
        else:
            self._report(f"session state left by {request} ({note.reason}): {note.sql!r:.200}")

    def shared(self, request: object, note: Note) -> None:
        """Behind a pooler it is left to whoever is served by that session next."""
        if self._raises or is_news(note.sql):
            self._report(
                f"session state of {request} is shared behind the pooler ({note.reason}): {note.sql!r:.200}"
            )

    def _report(self, what: str) -> None:
        logger.warning("pin %r: %s", self._name, what)
        if self._raises:
            self.complaint = LeakedStateError(f"pin {self._name!r}: {redacted(what)}")

    def are_known(self, notes: Iterable[Note]) -> bool:
        """Whether to report one of them again is neither news nor asked for."""
        return not self._raises and any(was_reported(note.sql) for note in notes)

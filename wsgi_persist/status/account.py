"""What a worker has been told of since it started: counters, the last events, leaks, outages."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from functools import lru_cache
from typing import Any

from wsgi_persist.redaction import redacted
from wsgi_persist.sql import without_values
from wsgi_persist.status.reasons import LOST, word_for
from wsgi_persist.status.snapshot import Counters, Event, Leak, OutageState

MOST_EVENTS = 50
MOST_LEAKS = 10
_REMEMBERED = 500  # leaks, of which the ten worst are told
LONGEST = 200  # characters of a text; a visitor may send paths of any length

# Every kind of event, in a few words.
KINDS = {
    "opened": "a connection was opened",
    "closed": "a connection was closed on purpose",
    "broke": "a connection broke",
    "replayed": "a statement was sent again",
    "lost": "a statement was lost, and told so to the application",
    "run_again": "a request was run again",
    "answered_503": "a request was answered 503, the first of several in a row",
    "outage": "a database is out of reach",
    "in_reach": "and is in reach again",
    "rolled_back": "a request left a transaction open",
    "leak": "a request left session state, the first time",
    "own_scope": "a request got connections of its own, the first time",
    "cancelled": "mod_wsgi gave up on a request",
    "stopped": "the worker stops",
}
_COUNTED = {
    "opened": "opened",
    "replayed": "replayed_statements",
    "run_again": "replayed_requests",
    "answered_503": "answered_503",
    "rolled_back": "rolled_back",
    "reset": "reset",
    "own_scope": "own_scopes",
    "outage": "outages",
}


class Account:
    """Of one process. Not thread-safe.

    :ivar stopped: why the worker stops; empty while it does not.
    """

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.stopped = ""
        self._counts: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._closed: Counter[str] = Counter()
        self._leaks: Counter[tuple[str, str, str]] = Counter()
        self._outages: dict[str, OutageState] = {}

    def note(self, told: tuple[float, str, str, str, str, dict[str, Any]]) -> None:
        """*told* is what :class:`~wsgi_persist.events.Listener` was, and when."""
        time, kind, pin, request, text, facts = told
        if kind in _COUNTED:
            self._counts[_COUNTED[kind]] += 1
        if kind == "closed":
            kind = self._note_closing(text)
        elif kind == "postponed":
            since = self._outages[pin].since if pin in self._outages else time
            self._outages[pin] = OutageState(pin, since, time + facts["window"], short(text))
        elif kind in ("opened", "in_reach"):
            self._outages.pop(pin, None)
        elif kind == "stopped":
            self.stopped = self.stopped or short(text)
        if self._is_news(kind, request, facts):
            backend = f"backend {facts['backend']}: " if "backend" in facts else ""
            self.events.append(Event(time, kind, short(pin), short(request), backend + short(text)))

    def _note_closing(self, reason: str) -> str:
        word = word_for(reason)
        (self._lost if word in LOST else self._closed)[word] += 1
        return "broke" if word in LOST else "closed"

    def _is_news(self, kind: str, request: str, facts: dict[str, Any]) -> bool:
        """Whether it is worth a line: what comes with each request would drive out all others."""
        if kind == "rolled_back":
            return self._note_leak(request, "transaction", "")
        if kind == "answered_503" and self.events and self.events[-1].kind == kind:
            return False  # an outage is one thing, however many visitors it meets
        if kind == "leak":
            return self._note_leak(request, facts["what"], _shown(facts["sql"]))
        return kind in KINDS and (kind != "own_scope" or self._counts["own_scopes"] == 1)

    def _note_leak(self, request: str, what: str, statement: str) -> bool:
        leak = (short(request), what, statement)
        is_new = leak not in self._leaks
        if is_new and len(self._leaks) >= _REMEMBERED:
            del self._leaks[min(self._leaks, key=self._leaks.__getitem__)]
        self._leaks[leak] += 1
        return is_new

    def counters(self, requests: int) -> Counters:
        """:param requests: how often the application was called."""
        return dataclasses.replace(
            Counters(),
            **self._counts,
            requests=max(requests - self._counts["replayed_requests"], 0),
            lost=dict(self._lost),
            closed=dict(self._closed),
            closed_for_good=self._closed["left_state"],
        )

    def outages(self) -> list[OutageState]:
        return list(self._outages.values())

    def leaks(self) -> list[Leak]:
        return [Leak(*leak, count) for leak, count in self._leaks.most_common(MOST_LEAKS)]


def short(text: str) -> str:
    """As it may be shown: of a password, or of a long path, not all."""
    text = redacted(text[: 2 * LONGEST]).encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@lru_cache(maxsize=256)
def _shown(sql: str | bytes) -> str:
    return redacted(without_values(sql, LONGEST))

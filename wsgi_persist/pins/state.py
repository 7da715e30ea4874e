"""The states of a pin and which may follow which, where its session stands, and who may hold it."""

from __future__ import annotations

import enum
from typing import Protocol

# Why a connection was closed, where several places close it for that.
LOST = "lost during a request"
CLOSED = "closed by the application"


class State(enum.Enum):
    __hash__ = object.__hash__  # Enum's own is Python code, and every lease moves twice

    EMPTY = "no connection"
    OPEN = "idle"
    LEASED = "in use by a request"
    STOPPED = "closed for good"
    FORGOTTEN = "left to the parent process"


MOVES = {
    State.EMPTY: {State.OPEN, State.STOPPED, State.FORGOTTEN},
    State.OPEN: {State.LEASED, State.EMPTY, State.STOPPED, State.FORGOTTEN},
    State.LEASED: {State.OPEN, State.EMPTY, State.STOPPED, State.FORGOTTEN},
    State.STOPPED: {State.FORGOTTEN},
    State.FORGOTTEN: set(),
}


class Standing(enum.Enum):
    """Of a session when a statement is about to be sent."""

    FRESH = "idle, and no different from a new one"
    MARKED = "idle, with state of its own"
    BUSY = "inside a transaction"
    GONE = "not known: its connection is lost"


class Claim(Protocol):
    """What a pin is kept for."""

    def stands(self) -> bool:
        """Whether somebody may still come for the pin."""

    def end(self) -> None:
        """The pin is forgotten."""


class Holder(Protocol):
    """Who uses a leased connection."""

    def detach(self) -> None:
        """Let go of the connection: the lease is over, or the process was forked."""

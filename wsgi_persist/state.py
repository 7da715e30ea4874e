"""The states of a pin, and which may follow which."""

from __future__ import annotations

import enum


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

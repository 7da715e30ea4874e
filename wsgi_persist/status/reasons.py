"""Why a connection was closed, in one word: the reasons in the log hold names and numbers."""

from __future__ import annotations

# Each with how the log's reasons begin, see "Why a connection was closed" in docs/operators.rst.
LOST = {
    "closed_by_server": ("the server closed it",),
    "no_answer": ("no answer after",),
    "in_request": ("lost during", "lost or closed"),
    "in_cleaning": ("the session left by",),
}
CLOSED = {
    "max_age": ("older than",),
    "left_state": ("session state left by",),
    "interrupted": ("interrupted", "a statement was interrupted"),
    "read_only": ("the server is read-only",),
    "stale_plan": ("a plan may no longer fit",),
    "by_application": ("closed by the application", "the application has put it away"),
    "too_many": ("the least recently used",),
    "alias_gone": ("its alias is gone",),
    "settings_changed": ("the settings of",),
    "still_held": ("its wrapper may",),
    "other": ("",),
}


def word_for(reason: str) -> str:
    return next(word for word, begins in {**LOST, **CLOSED}.items() if reason.startswith(begins))

"""What Django's wrapper knows of the transaction under way."""

from __future__ import annotations

from typing import Any

_NAMES = (
    "in_atomic_block",
    "savepoint_ids",
    "atomic_blocks",
    "commit_on_exit",
    "needs_rollback",
    "rollback_exc",
    "closed_in_transaction",
    "errors_occurred",
    "run_on_commit",
    "run_commit_hooks_on_set_autocommit_on",
)


def come_to_rest(wrapper: Any) -> None:
    """There is none."""
    wrapper.in_atomic_block = False
    wrapper.savepoint_ids = []
    wrapper.atomic_blocks = []
    wrapper.commit_on_exit = True
    wrapper.needs_rollback = False
    wrapper.rollback_exc = None
    wrapper.closed_in_transaction = False
    wrapper.errors_occurred = False
    wrapper.run_on_commit = []
    wrapper.run_commit_hooks_on_set_autocommit_on = False


def state_of(wrapper: Any) -> dict[str, Any]:
    return {name: getattr(wrapper, name) for name in _NAMES}

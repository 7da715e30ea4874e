"""What Django's wrapper knows of the transaction under way."""

from __future__ import annotations

from typing import Any


def at_rest() -> dict[str, Any]:
    """A wrapper's attributes when there is none."""
    return {
        "in_atomic_block": False,
        "savepoint_ids": [],
        "atomic_blocks": [],
        "commit_on_exit": True,
        "needs_rollback": False,
        "rollback_exc": None,
        "closed_in_transaction": False,
        "errors_occurred": False,
        "run_on_commit": [],
        "run_commit_hooks_on_set_autocommit_on": False,
    }


def state_of(wrapper: Any) -> dict[str, Any]:
    return {name: getattr(wrapper, name) for name in at_rest()}

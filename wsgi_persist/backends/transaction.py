"""What Django's wrapper knows of the transaction under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


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


_names = SimpleNamespace()
come_to_rest(_names)


def state_of(wrapper: Any) -> dict[str, Any]:
    return {name: getattr(wrapper, name) for name in vars(_names)}

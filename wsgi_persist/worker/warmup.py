"""What a worker opens before its first request: plain pins, and aliases of Django's whose ENGINE is ours.

Nothing here imports Django: where the application uses it, it is there already.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from wsgi_persist.policy import Policy
from wsgi_persist.worker import registry

logger = logging.getLogger("wsgi_persist.lifecycle")

_WARM_UP = {"REQUEST_METHOD": "(warm-up)"}


class Warmable(Protocol):
    """A plain pin."""

    name: str
    policy: Policy

    def warm_up(self) -> None: ...


class Target(NamedTuple):
    """Something to warm up: a plain pin or an alias of Django's."""

    name: str
    policy: Policy
    warm_up: Callable[[], Any]


def targets(pins: Iterable[Warmable]) -> list[Target]:
    """The pins given, and every alias of Django's whose backend is ours, with validated options."""
    plain = [Target(pin.name, pin.policy, pin.warm_up) for pin in pins]
    return plain + [Target(w.alias, w.persist_policy, w.warm_up) for w in _django_wrappers()]


def wants_warm_up(middleware: Policy, own: Policy, one_at_a_time: bool) -> bool:
    if own.pooler == "transaction":
        return False
    prewarm = own.prewarm if middleware.prewarm == "auto" else middleware.prewarm
    return one_at_a_time if prewarm == "auto" else prewarm


def warm_up(found: list[Target]) -> None:
    """Open the pins on the loading thread, as a request would, for the request thread to adopt."""
    if not found:
        return
    boundary = registry.process_scope().enter(_WARM_UP)
    try:
        for target in found:
            _quietly_warm_up(target)
    finally:
        boundary.leave()


def _quietly_warm_up(target: Target) -> None:
    try:
        target.warm_up()
    except Exception as error:
        logger.warning(
            "pin %r: not opened at start, the first request that needs it will try again: %s",
            target.name,
            str(error).strip(),
        )


def is_ours(db: Any, alias: str) -> bool:
    """Whether the alias's ENGINE is one of this package or a subclass; *db* is ``django.db``."""
    try:
        backend = db.utils.load_backend(db.connections.settings[alias]["ENGINE"])
    except Exception as error:
        # A stranger's broken backend is Django's to report, when and if somebody uses it.
        logger.debug("alias %r: its backend cannot be loaded: %s", alias, error)
        return False
    return hasattr(backend.DatabaseWrapper, "persist_policy")


def open_wrappers() -> list[Any]:
    """Django's, of the calling thread, that are connected."""
    db = _django_db()
    found = [] if db is None else db.connections.all(initialized_only=True)
    return [wrapper for wrapper in found if wrapper.connection is not None]


def _django_db() -> Any:
    """``django.db`` where the application uses it, else None."""
    conf = sys.modules.get("django.conf")
    return sys.modules.get("django.db") if conf is not None and conf.settings.configured else None


def _django_wrappers() -> list[Any]:
    db = _django_db()
    if db is None:
        return []
    return [db.connections[alias] for alias in db.connections if is_ours(db, alias)]

"""What the scopes of this process are at, seen from whichever thread writes."""

from __future__ import annotations

from collections.abc import Callable

from wsgi_persist.pins import PinnedConnection
from wsgi_persist.status.account import short
from wsgi_persist.status.mark import mark_of
from wsgi_persist.status.snapshot import Inside, PinState
from wsgi_persist.status.times import on_the_wall
from wsgi_persist.worker import Scope

MOST = 200  # of each are told


def inside(scopes: list[Scope], left: Callable[[], None]) -> list[Inside]:
    """The requests under way; their scopes know then that they are shown, and call *left* at their end."""
    found = []
    for scope in scopes:
        if scope.owner is not None:
            mark_of(scope, left).is_shown = True
            found.append(Inside(short(str(scope)), on_the_wall(scope.now)))
    return found[:MOST]


def pins(scopes: list[Scope]) -> list[PinState]:
    """Those that are in use first."""
    found = [_state_of(pin, scope.kind) for scope in scopes for pin in list(scope.pins.values())]
    found.sort(key=lambda pin: (pin.state != "leased", pin.pin))
    return found[:MOST]


def _state_of(pin: PinnedConnection, kind: str) -> PinState:
    is_there = pin.connection is not None
    return PinState(
        pin=short(pin.name),
        scope=kind,
        state=pin.state.name.lower(),
        backend=pin.backend,
        opened=on_the_wall(pin.opened_at) if is_there else None,
        leases=pin.leases,
        checks=pin.checks,
        pings=pin.pings,
        used=on_the_wall(pin.used_at) if is_there else None,
    )

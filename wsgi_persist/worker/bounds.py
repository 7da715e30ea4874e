"""How many pins a scope keeps between its requests."""

from __future__ import annotations

from collections.abc import Hashable

from wsgi_persist.pins import PinnedConnection

Pins = dict[Hashable, PinnedConnection]


def keep_within_bounds(pins: Pins) -> None:
    """Forget those that nobody can come for, and of the others those that were not used for longest.

    All are idle. A tenant's alias may be made for a request and be gone with it.
    """
    for key in [key for key, pin in pins.items() if pin.claim is not None and not pin.claim.stands()]:
        _forget(pins.pop(key), "its alias is gone")
    kept = [key for key, pin in pins.items() if pin.connection is not None]
    most = max((pins[key].policy.max_pins for key in kept), default=0)
    for key in sorted(kept, key=lambda key: pins[key].used_at)[: max(0, len(kept) - most)]:
        _forget(pins.pop(key), f"the least recently used of more than max_pins={most}")


def _forget(pin: PinnedConnection, reason: str) -> None:
    if pin.connection is not None:
        pin.drop(reason)
    if pin.claim is not None:
        pin.claim.end()

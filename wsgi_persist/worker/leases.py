"""What the present request has leased, what it did with that, and what it suffered."""

from __future__ import annotations

from typing import Any

from wsgi_persist.errors import LeakedStateError
from wsgi_persist.pins import Holder, PinnedConnection, State
from wsgi_persist.policy import Policy
from wsgi_persist.worker.trouble import Trouble


class Leases:
    """The leases of one request at a time, and its account with the database; its text names the request.

    :ivar now: the monotonic clock, read once when the request came in.
    :ivar trouble: what it suffered from the database, if anything.
    :ivar wrote: whether it had an effect that the pins do not know of.
    :ivar no_replay: how many blocks are open that forbid to send anything again.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.trouble: Trouble | None = None
        self.wrote = False
        self.no_replay = 0
        self._leased: list[tuple[PinnedConnection, Holder | None]] = []
        self._stopping = False  # whether the worker is; then there is no time to wait

    def lease(self, pin: PinnedConnection, holder: Holder | None) -> Any:
        """The pin's live connection for the present request, or None when one must be opened."""
        # First, so that whatever interrupts the lease is seen to at the end.
        self._leased.append((pin, holder))
        return pin.lease(holder, self.now)

    def in_trouble(self) -> Trouble:
        """The record of the present request's trouble with the database."""
        if self.trouble is None:
            self.trouble = Trouble(lambda: self._stopping)
        return self.trouble

    def lost(self, policy: Policy, unknown: bool) -> None:
        """The application is told that a connection was lost, or cannot be had.

        :param unknown: a write was in flight, and may have been carried out.
        """
        self.in_trouble().note(policy, unknown)

    def assess(self) -> Trouble | None:
        """What the application suffered, also where nobody noticed that a connection was lost."""
        for pin, _ in self._leased:
            if pin.state is State.LEASED and not pin.is_alive():
                self.lost(pin.policy, pin.has_written())
        trouble = self.trouble
        return trouble if trouble is not None and trouble.lost and not trouble.excused else None

    def has_written(self) -> bool:
        """Whether the present request may have completed anything but reads."""
        unknown = self.trouble is not None and self.trouble.unknown
        return self.wrote or unknown or any(pin.has_written() for pin, _ in self._leased)

    def suspect(self) -> None:
        """What was sent may have written, whatever its text says."""
        for pin, _ in self._leased:
            if pin.session is not None:
                pin.session.wrote = True

    def holders(self) -> list[Holder]:
        # Another thread may be ending the leases.
        return [holder for _, holder in list(self._leased) if holder is not None]

    def _close_account(self) -> None:
        """For the next request."""
        self.trouble = None
        self.wrote = False
        self.no_replay = 0

    def _give_back(self) -> LeakedStateError | None:
        """End every lease; what to raise about what the request left."""
        leak = None
        leased = self._leased
        while leased:
            leak = leased[-1][0].give_back(self) or leak
            leased.pop()
        return leak

    def _drop_interrupted(self) -> None:
        """Reached with leases only when an exception came while one was ended or moved, as a server's timeout
        does."""
        while self._leased:
            pin, holder = self._leased.pop()
            pin.abandon(holder, f"interrupted at the end of {self}")

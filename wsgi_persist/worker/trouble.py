"""What a request suffered from the database."""

from __future__ import annotations

from collections.abc import Callable

from wsgi_persist.policy import Policy, Repeats


class Trouble:
    """Of one request, made when it first meets any.

    :ivar waited: seconds that it has waited in vain.
    :ivar lost: whether the application was told that a connection was lost, or cannot be had.
    :ivar excused: whether it is not why the request failed.
    :ivar unknown: whether a write may have been carried out or not.
    :ivar retry_after: seconds, for the answer.
    :ivar repeats: which requests may be run again; every alias that was lost has to allow it.
    :ivar is_urgent: says whether the worker has no time to wait.
    """

    def __init__(self, is_urgent: Callable[[], bool]) -> None:
        self.waited = 0.0
        self.lost = False
        self.excused = False
        self.unknown = False
        self.retry_after = 0
        self.repeats = Repeats.ALL
        self.is_urgent = is_urgent

    def note(self, policy: Policy, unknown: bool) -> None:
        self.repeats = min(self.repeats, policy.repeats)
        self.lost = True
        self.unknown = self.unknown or unknown
        self.retry_after = max(self.retry_after, policy.retry_after)

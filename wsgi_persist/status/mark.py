"""Where a scope marks that a request is inside, so that who reads knows of it before it is written."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence

from wsgi_persist.worker import Scope

Place = MutableSequence[float]


class Mark:
    """Of one scope.

    :ivar since: the first number is when the present request came in, by the monotonic clock; 0 if none is
        inside. It is in the file, if that has a place for it.
    :ivar is_shown: whether the file names the present request.
    :ivar left: is called at the end of one that it names.
    """

    __slots__ = ("is_shown", "left", "since")

    def __init__(self, left: Callable[[], None]) -> None:
        self.since: Place = [0.0]
        self.is_shown = False
        self.left = left

    def clear(self) -> None:
        """The request is over."""
        self.since[0] = 0.0
        if self.is_shown:
            self.is_shown = False
            self.left()


def mark_of(scope: Scope, left: Callable[[], None]) -> Mark:
    mark = scope.mark
    if not isinstance(mark, Mark):
        mark = scope.mark = Mark(left)
    mark.left = left  # another one wrote before
    return mark


def place(marks: Sequence[Mark], places: Sequence[Place]) -> None:
    """Give a place to those that have none, as long as there are any."""
    known = set(map(id, places))
    taken = {id(mark.since) for mark in marks}
    free = (each for each in places if id(each) not in taken)
    for mark in marks:
        if id(mark.since) not in known and (found := next(free, None)) is not None:
            found[0], mark.since = mark.since[0], found

"""What the application reaches its leases by: Django's wrappers, of which this room knows no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Wrapper(Protocol):
    """Belongs to one request at a time, of several that its thread may have under way."""

    def is_busy(self) -> bool:
        """Whether a request within the present one has to share its transaction."""

    def step_aside(self) -> None:
        """Another request is about to run on this thread: it gets wrappers of its own."""

    def step_back(self) -> None:
        """Its own request goes on."""

    def mark(self) -> Any:
        """Where the transaction stands, before it is shared."""

    def return_to(self, mark: Any, request: object) -> None:
        """Undo the blocks that *request* entered since then and never left."""


_finders: list[Callable[[], list[Wrapper]]] = []


def find_wrappers_by(find: Callable[[], list[Any]]) -> None:
    """*find* gives those of the calling thread that a request may have used."""
    _finders.append(find)


def wrappers_here() -> list[Wrapper]:
    return [wrapper for find in _finders for wrapper in find()]


def put_aside(but: Sequence[Wrapper] = ()) -> list[Wrapper]:
    gone = [wrapper for wrapper in wrappers_here() if wrapper not in but]
    for wrapper in gone:
        wrapper.step_aside()
    return gone


def put_back(wrappers: Sequence[Wrapper]) -> None:
    for wrapper in wrappers:
        wrapper.step_back()

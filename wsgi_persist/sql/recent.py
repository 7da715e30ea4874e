"""A bounded memory, out of which goes what was not used for the longest time."""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key", bound="str | bytes")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Knows the last *most* keys that were asked for, or more, up to twice as many; fewer where they are
    longer than :attr:`USUAL` on average.

    In two halves: when the newer is full, it becomes the older, and what nobody asked for since the last
    time goes. So a key that is found costs no more than it does in a dict.

    :ivar get: finds what is in the newer half; the same function for good.
    """

    USUAL = 512  # characters

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = most * self.USUAL
        self._length = 0  # of all keys in the newer half
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}
        self.get = self._newer.get

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def find(self, key: Key) -> Value | None:
        found = self.get(key)
        if found is None:
            found = self._older.pop(key, None)
            if found is not None:
                self.keep(key, found)
        return found

    def keep(self, key: Key, value: Value) -> None:
        self._length += len(key)
        if len(self._newer) >= self._most or self._length > self._room:
            self._older = self._newer.copy()
            self._newer.clear()  # and not another dict: get() is this one's
            self._length = len(key)
        self._newer[key] = value

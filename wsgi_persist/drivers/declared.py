"""psycopg2's named cursor in a transaction that psycopg2 has not begun itself, where it refuses its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def declared(base: Any) -> type:
    """A subclass of a cursor class: the same statements that psycopg2 sends for a named cursor."""

    class Cursor(base):  # type: ignore[misc]
        __module__ = base.__module__
        name = ""
        scrollable: bool | None = None
        withhold = False
        itersize = 2000
        _has_run = False

        def declared_as(self, name: str, scrollable: bool | None = None) -> Any:
            self.name, self.scrollable = name, scrollable
            return self

        def execute(self, query: Any, params: Any = None) -> None:
            if self._has_run:
                raise self.connection.ProgrammingError(
                    "can't call .execute() on named cursors more than once"
                )
            scroll = {None: "", True: "SCROLL ", False: "NO SCROLL "}[self.scrollable]
            text = self.mogrify(query, params)
            super().execute(f"DECLARE {self._quoted()} {scroll}CURSOR WITHOUT HOLD FOR ".encode() + text)
            self._has_run = True

        def executemany(self, *args: Any) -> None:
            raise self.connection.ProgrammingError("can't call .executemany() on named cursors")

        def fetchone(self) -> Any:
            rows = self._fetch("FORWARD 1")
            return rows[0] if rows else None

        def fetchmany(self, size: int | None = None) -> Any:
            return self._fetch(f"FORWARD {int(self.arraysize if size is None else size)}")

        def fetchall(self) -> Any:
            return self._fetch("FORWARD ALL")

        def __iter__(self) -> Iterator[Any]:
            while rows := self._fetch(f"FORWARD {int(self.itersize)}"):
                yield from rows

        def scroll(self, value: int, mode: str = "relative") -> None:
            where = "ABSOLUTE" if mode == "absolute" else "FORWARD"
            super().execute(f"MOVE {where} {int(value)} FROM {self._quoted()}")

        def close(self) -> None:
            if self._has_run and not self.closed and self.connection.get_transaction_status() in (0, 2):
                self._has_run = False
                super().execute(f"CLOSE {self._quoted()}")
            super().close()

        def _fetch(self, which: str) -> list[Any]:
            super().execute(f"FETCH {which} FROM {self._quoted()}")
            return list(super().fetchall())

        def _quoted(self) -> str:
            return '"{}"'.format(self.name.replace('"', '""'))

    return Cursor

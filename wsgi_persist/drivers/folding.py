"""Cursors that send what begins a transaction in one text with its first statement.

They stand right above the driver's own class: a tracing tool's class, or the application's, is above them
and sees the statement as the application gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from wsgi_persist.drivers.modules import extensions, psycopg

# Methods of either driver that send something else than one text.
_OTHERS = ("executemany", "callproc", "copy", "stream", "copy_expert", "copy_from", "copy_to")


class Opening(Protocol):
    """The transaction that the application is in."""

    is_wanted: bool
    is_the_drivers: bool

    def is_pending(self) -> bool: ...

    def opening(self, query: Any, params: Any) -> list[str]: ...

    def sending(self) -> None: ...

    def send(self) -> None: ...

    def tell_driver(self) -> None: ...

    def was_understood(self) -> None: ...

    def starts_over(self, error: Exception) -> bool: ...


def folding(base: type, transaction: Opening) -> type:
    """A subclass of a driver's cursor class, or of a subclass of it."""
    own, execute = _own(base, transaction)
    methods = {"execute": execute, "__module__": own.__module__}
    for name in _OTHERS:
        if hasattr(own, name):
            methods[name] = _alone(getattr(own, name), transaction)
    if own.__module__.startswith("psycopg2"):
        methods["query"] = property(_without_opening)
    below = type(own.__name__, (own,), methods)
    return below if base is own else type(base.__name__, (base, below), {"__module__": base.__module__})


def _own(base: type, transaction: Opening) -> tuple[type, Callable[..., Any]]:
    """The driver's class that it is or comes from, and how that executes."""
    if any(each.__module__ == "psycopg2.extensions" for each in base.__mro__):
        own = extensions().cursor
        return own, _together(own.execute, transaction, _go_on_in_one)
    own = psycopg().ClientCursor
    if issubclass(base, own):
        return own, _together(own.execute, transaction, _go_on)
    # These bind on the server's side, where a text is one statement.
    own = psycopg().ServerCursor
    own = own if issubclass(base, own) else psycopg().Cursor
    return own, _alone(own.execute, transaction)


def _together(
    send: Callable[..., Any], transaction: Opening, go_on: Callable[..., None]
) -> Callable[..., Any]:
    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if not (transaction.is_wanted and transaction.is_pending()):
            return send(self, query, params, **options)
        if options:
            transaction.send()
            return send(self, query, params, **options)
        opening = transaction.opening(query, params)
        if not opening:
            result = send(self, query, params)
            transaction.was_understood()
            return result
        text = _joined(self, opening, query, params)
        transaction.sending()
        try:
            result = send(self, *text)
        except Exception as error:
            if not transaction.starts_over(error):
                raise
            return send(self, query, params)
        go_on(self, opening)
        return result

    return execute


def _joined(cursor: Any, opening: list[str], query: str, params: Any) -> tuple[Any, ...]:
    if len(opening) == 1 and opening[0].startswith("BEGIN"):
        return f"{opening[0]}; {query}", params
    # What the driver refuses it refuses here, before a savepoint counts as sent. And names of savepoints are
    # new each time, while psycopg remembers each text that has parameters.
    begin, text = _text(opening), cursor.mogrify(query, params)
    return (begin.encode() + text if isinstance(text, bytes) else begin + text), None


def _text(opening: list[str]) -> str:
    return "; ".join(opening) + "; "


def _go_on(cursor: Any, opening: list[str]) -> None:
    """To the statement's own result."""
    for _ in opening:
        cursor.nextset()


def _go_on_in_one(cursor: Any, opening: list[str]) -> None:
    """psycopg2 keeps the last result alone."""
    cursor.opening = opening


def _without_opening(cursor: Any) -> Any:
    query = extensions().cursor.query.__get__(cursor)
    opening = vars(cursor).get("opening")
    return query if query is None or opening is None else query.removeprefix(_text(opening).encode())


def _alone(send: Callable[..., Any], transaction: Opening) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if transaction.is_wanted:
            transaction.send()
        return send(self, *args, **kwargs)

    return method

"""Classes of connections: cursors are watched however they are made, and the transaction that is sent in one
text with its first statement looks as if the driver itself had begun it."""

from __future__ import annotations

import functools
from typing import Any

from wsgi_persist.drivers.base import IDLE
from wsgi_persist.drivers.cursors import Ears, telling
from wsgi_persist.drivers.declared import declared
from wsgi_persist.drivers.folding import Opening
from wsgi_persist.drivers.modules import extensions


def watchable(base: type | None) -> type:
    """Of psycopg2: also where the application names its cursors' class, and where it writes large objects,
    for which psycopg2 has methods.

    :ivar entered: whether ``with connection`` is open: it sends its BEGIN with its first statement only.
    """

    parent: Any = base or extensions().connection

    class Connection(parent):  # type: ignore[misc]
        __module__ = parent.__module__  # tracing tools name what it does after that
        _ears: Ears | None = None
        _cursors: type
        entered = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            try:
                super().__init__(*args, **kwargs)
            except Exception as error:
                if self.info.used_password:
                    error.asked_password_of = self.info.user  # type: ignore[attr-defined]
                raise

        def be_watched(self, cursors: type, ears: Ears) -> None:
            self._cursors, self._ears = cursors, ears
            self._watched = functools.cache(lambda given: telling(given, ears))
            self._declared = functools.cache(lambda given: telling(declared(given), ears))

        def __enter__(self) -> Any:
            self.entered = True
            return super().__enter__()

        def __exit__(self, *exc: Any) -> None:
            self.entered = False
            super().__exit__(*exc)

        def lobject(self, *args: Any, **kwargs: Any) -> Any:
            if self._ears is not None:
                self._ears.tell("SELECT lo_open()")
            transaction = self._folded()
            if transaction is not None:
                transaction.send()
                # It insists on a transaction of the driver's own, and its BEGIN in another is a warning.
                parent.autocommit.__set__(self, False)
                transaction.is_the_drivers = True
            return super().lobject(*args, **kwargs)

        def cursor(
            self, name: str | None = None, cursor_factory: Any = None, withhold: bool = False, **options: Any
        ) -> Any:
            transaction = self._folded() if name is not None else None
            if transaction is not None:
                transaction.send()
                if not transaction.is_the_drivers and not withhold:
                    cursor = super().cursor(None, self._declared(cursor_factory or self._cursors))
                    return cursor.declared_as(name, **options)
            if cursor_factory is None:
                return super().cursor(name, withhold=withhold, **options)
            if self._ears is not None and isinstance(cursor_factory, type):
                cursor_factory = self._watched(cursor_factory)
            return super().cursor(name, cursor_factory, withhold=withhold, **options)

        def _folded(self) -> Opening | None:
            """The transaction, where the driver knows of none."""
            transaction = self._ears and self._ears.transaction
            return transaction if transaction and transaction.is_wanted else None

        def _is_open(self) -> bool:
            """Whether it has begun so."""
            if self._folded() is None or not parent.autocommit.__get__(self):
                return False
            return int(self.get_transaction_status()) != IDLE

        @property
        def autocommit(self) -> bool:
            return bool(parent.autocommit.__get__(self)) and self._folded() is None

        @autocommit.setter
        def autocommit(self, value: bool) -> None:
            if self._is_open():
                raise self.ProgrammingError("set_session cannot be used inside a transaction")
            transaction = self._folded()
            if transaction is not None:
                transaction.tell_driver()
            parent.autocommit.__set__(self, value)

        def commit(self) -> None:
            super().commit()
            self._end("COMMIT")

        def rollback(self) -> None:
            super().rollback()
            self._end("ROLLBACK")

        def _end(self, how: str) -> None:
            if self._is_open():
                extensions().cursor(self).execute(how)

    return Connection


def foldable(base: Any, transaction: Opening) -> type:
    """Of psycopg 3."""

    class Connection(base):  # type: ignore[misc]
        __module__ = base.__module__

        @property
        def autocommit(self) -> bool:
            return bool(super().autocommit) and not transaction.is_wanted

        @autocommit.setter
        def autocommit(self, value: bool) -> None:
            self.set_autocommit(value)

        def set_autocommit(self, value: bool) -> None:
            transaction.tell_driver()
            super().set_autocommit(value)

        def transaction(self, *args: Any, **kwargs: Any) -> Any:
            transaction.send()
            return super().transaction(*args, **kwargs)

        def pipeline(self) -> Any:
            transaction.send()
            return super().pipeline()

    return Connection

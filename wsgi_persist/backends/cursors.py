"""Django's cursor wrappers, whose statements survive the loss of their connection."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.base import CursorDebugWrapper
from django.db.backends.utils import CursorWrapper

from wsgi_persist.replay import MOST

# Called for every statement: super() would cost as much as all that is done here.
_send = CursorWrapper._execute  # type: ignore[attr-defined]  # missing from the stubs


class Replaying(CursorWrapper):
    def _execute(self, sql: Any, params: Any, *ignored: Any) -> Any:
        pin = self.db._pin
        session = None if pin is None else pin.session
        if session is None:
            return _send(self, sql, params)
        standing = session.standing()
        try:
            return _send(self, sql, params)
        except Exception as error:
            if not self.db.recovers(self, sql, standing, error, MOST):
                raise
        return self._execute_again(sql, params)

    def _execute_again(self, sql: Any, params: Any) -> Any:
        for left in reversed(range(MOST)):
            standing = self.db._pin.session.standing()
            try:
                return _send(self, sql, params)
            except Exception as error:
                if not self.db.recovers(self, sql, standing, error, left):
                    raise
        raise AssertionError("the last one is not sent again")


class ReplayingDebug(Replaying, CursorDebugWrapper):
    pass

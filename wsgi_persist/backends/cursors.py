"""Django's cursor wrappers, whose statements survive the loss of their connection."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.base import CursorDebugWrapper
from django.db.backends.utils import CursorWrapper

from wsgi_persist.replay import LEFT


class Replaying(CursorWrapper):
    def _execute(self, sql: Any, params: Any, *ignored: Any) -> Any:
        for left in LEFT:
            session = self.db.pinned_session()
            if session is None:
                break
            standing = session.standing()
            try:
                return super()._execute(sql, params, *ignored)  # type: ignore[misc]
            except Exception as error:
                if not self.db.recovers(self, sql, standing, error, left):
                    raise
        return super()._execute(sql, params, *ignored)  # type: ignore[misc]


class ReplayingDebug(Replaying, CursorDebugWrapper):
    pass

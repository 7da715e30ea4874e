"""What can be told of a statement before it is sent in one text with others, or outside a transaction."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from wsgi_persist.sql.effects import MARK, QUIET, Kind, Verdict
from wsgi_persist.sql.normal import uncommented
from wsgi_persist.sql.recent import Recent

# Functions, keywords and literals whose value is the transaction's own.
_OF_TRANSACTION = re.compile(
    r"""\b(?:now|age|transaction_timestamp|txid_\w+|pg_current_(?:xact_id\w*|snapshot)) "? \s* \(
        | \b(?:current_(?:timestamp|date|time)|local(?:timestamp|time))\b
        | ' \s* (?:now|today|tomorrow|yesterday)\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Of such a type a driver makes a literal that can always be parsed.
_PLAIN = {
    *(bool, bytes, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal),
    *(float, int, str, type(None), uuid.UUID),
}


class Forms:
    """Texts of one database: which can go together with others, which were parsed already, and which have
    the same result outside a transaction."""

    def __init__(self, most: int, longest: int, judge: Callable[[str], Verdict]) -> None:
        self._longest = longest
        self._judge = judge
        self._together: Recent[str, bool] = Recent(most)
        self._parsed: Recent[str, bool] = Recent(most)
        self._alone: Recent[str, bool] = Recent(most)

    def can_follow(self, query: Any) -> bool:
        """Whether it is one statement for certain, of which a rollback undoes all."""
        if query.__class__ is not str:
            return False
        found = self._together.find(query)
        if found is None:
            verdict = self._judge(query)
            found = verdict.kind < Kind.OTHER and verdict is not MARK
            found = found and ";" not in query.rstrip("; \n")
            self._keep(self._together, query, found)
        return found

    def _keep(self, memory: Recent[str, bool], query: str, found: bool) -> None:
        if len(query) <= self._longest:
            memory.keep(query, found)

    def can_be_parsed(self, query: str, params: Any) -> bool:
        values = params.values() if isinstance(params, dict) else params or ()
        return _all_plain(values) and self._parsed.find(uncommented(query)) is True

    def was_parsed(self, query: str) -> None:
        self._keep(self._parsed, uncommented(query), True)

    def stands_alone(self, query: str) -> bool:
        """Whether it is a read that has the same result outside the transaction."""
        found = self._alone.find(query)
        if found is None:
            found = self._judge(query) is QUIET and _OF_TRANSACTION.search(query) is None
            self._keep(self._alone, query, found)
        return found


def _all_plain(values: Iterable[Any]) -> bool:
    for value in values:
        kind = value.__class__
        if kind not in _PLAIN and not (kind in (list, tuple) and _PLAIN.issuperset(map(type, value))):
            return False
    return True

"""What SQL texts do, each judged once."""

from __future__ import annotations

from typing import NamedTuple

from wsgi_persist.sql.effects import BUILT_IN_VERDICTS, ONCE, QUIET, UNKNOWN, Verdict, effect, worst
from wsgi_persist.sql.lexer import NO_TOKENS, NotUnderstood, statements
from wsgi_persist.sql.rules import Statement


class Functions(NamedTuple):
    """What is known of the functions of one database, read once per process.

    :param trusted: functions of extensions that are immutable or stable: as good as built-in.
    :param shadowed: names of user functions that are in ``BUILT_INS`` or ``KEYWORDS`` of
        ``functions.py``, whether or not this server has them, too: such a name loses its place.
    """

    trusted: frozenset[str] = frozenset()
    shadowed: frozenset[str] = frozenset()


NONE = Functions()


class Classifier:
    """What statements do, by their text; remembers texts of up to 4 KiB."""

    LONGEST = 4096  # characters
    MOST = 1024  # texts

    def __init__(self, functions: Functions = NONE) -> None:
        self._seen: dict[str | bytes, Verdict] = {}
        self.seen = self._seen.get
        trusted = {name: effect(name) or QUIET for name in functions.trusted}
        known = {**trusted, **BUILT_IN_VERDICTS}
        self._known = {name: known[name] for name in known.keys() - functions.shadowed}

    def __call__(self, sql: str | bytes) -> Verdict:
        return self._seen.get(sql) or self._first_sight(sql)

    def _first_sight(self, sql: str | bytes) -> Verdict:
        verdict = self._judge(sql)
        if len(sql) <= self.LONGEST:
            if len(self._seen) >= self.MOST:
                self._seen.clear()
            self._seen[sql] = verdict
        return verdict

    def _judge(self, sql: str | bytes) -> Verdict:
        found = []
        try:
            text = sql if isinstance(sql, str) else sql.decode()
            for tokens in statements(text):
                if tokens != NO_TOKENS:
                    found.append(Statement(tokens, self._known).verdict())
        except (NotUnderstood, UnicodeDecodeError):
            found.append(UNKNOWN)
        return found[0] if len(found) == 1 else worst([ONCE, *found])

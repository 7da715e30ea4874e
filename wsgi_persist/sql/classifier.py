"""What SQL texts do, each judged once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from wsgi_persist.sql.effects import (
    BUILT_IN_VERDICTS,
    MARK,
    ONCE,
    QUIET,
    UNDONE,
    UNKNOWN,
    UNMARK,
    Verdict,
    effect,
    worst,
)
from wsgi_persist.sql.folding import Forms
from wsgi_persist.sql.lexer import NO_TOKENS, NotUnderstood, Token, scan, statements
from wsgi_persist.sql.normal import emptied, numberless, tokens_of, uncommented
from wsgi_persist.sql.recent import Recent
from wsgi_persist.sql.rules import Statement

# As Django writes them.
_SAVEPOINT = re.compile(r'(RELEASE |ROLLBACK TO )?SAVEPOINT "\w+"', re.ASCII)


class Functions(NamedTuple):
    """What is known of the functions of one database, as it was when its connection was opened.

    :param trusted: functions of extensions that are immutable or stable, and a user's own that are
        immutable: as good as built-in.
    :param shadowed: names of user functions that are in ``BUILT_INS`` or ``KEYWORDS`` of
        ``functions.py``, whether or not this server has them, too: such a name loses its place.
    """

    trusted: frozenset[str] = frozenset()
    shadowed: frozenset[str] = frozenset()


NONE = Functions()


class Classifier:
    """What statements do, by their text; remembers texts of up to 4 KiB.

    :ivar seen: the verdict on a text that was judged lately, or None.
    :ivar forms: what else is remembered of them.
    """

    LONGEST = 4096  # characters
    MOST = 1024  # texts

    def __init__(self, functions: Functions = NONE) -> None:
        self._texts: Recent[str | bytes, Verdict] = Recent(self.MOST)
        self._bare: Recent[str, Verdict] = Recent(self.MOST)  # without comments around them
        self._plain: Recent[str, Verdict] = Recent(self.MOST)  # nor what their literals hold
        self._forms: Recent[str, Verdict] = Recent(self.MOST)
        self.seen = self._texts.get
        self.forms = Forms(self.MOST, self.LONGEST, self)
        trusted = {name: effect(name) or QUIET for name in functions.trusted}
        known = {**trusted, **BUILT_IN_VERDICTS}
        self._known = {name: known[name] for name in known.keys() - functions.shadowed}

    def __call__(self, sql: str | bytes) -> Verdict:
        return self.seen(sql) or self._texts.find(sql) or self._first_sight(sql)

    def _first_sight(self, sql: str | bytes) -> Verdict:
        if isinstance(sql, str) and (found := _SAVEPOINT.fullmatch(sql)):
            return UNMARK if found[1] else MARK  # each has a name of its own, so that none is remembered
        try:
            text = sql if isinstance(sql, str) else sql.decode()
            verdict = self._of_form(text) or self._judge(text, scan(text))
        except UnicodeDecodeError:
            verdict = UNKNOWN
        if len(sql) <= self.LONGEST:
            self._texts.keep(sql, verdict)
        return verdict

    def _of_form(self, text: str) -> Verdict | None:
        """The verdict on all texts of the same form, if it can be told from that."""
        bare = uncommented(text)
        verdict = None if bare is text else self._bare.find(bare)
        if verdict is None:
            verdict = self._of_bare(bare)
            if bare is not text:
                self._keep(self._bare, bare, verdict)
        return None if verdict is UNKNOWN else verdict

    def _of_bare(self, bare: str) -> Verdict:
        lower = bare.lower()
        if "set_config" in lower or "pg_temp" in lower:  # literals are looked at
            return self._forms.find(bare) or self._judge_form(bare)
        plain = emptied(bare)
        verdict = self._plain.find(plain)
        if verdict is None:
            form = numberless(plain)
            verdict = self._forms.find(form) or self._judge_form(form)
            self._keep(self._plain, plain, verdict)
        return verdict

    def _judge_form(self, form: str) -> Verdict:
        tokens = tokens_of(form)
        verdict = UNKNOWN if tokens is None else self._judge(form, tokens)
        self._keep(self._forms, form, verdict)
        return verdict

    def _keep(self, memory: Recent[str, Verdict], text: str, verdict: Verdict) -> None:
        if len(text) <= self.LONGEST:
            memory.keep(text, verdict)

    def _judge(self, text: str, tokens: Iterable[Token]) -> Verdict:
        found = []
        try:
            for statement in statements(text, tokens):
                if statement != NO_TOKENS:
                    found.append(Statement(statement, self._known).verdict())
        except NotUnderstood:
            found.append(UNKNOWN)
        # Several together are one transaction, which begins with the first.
        return found[0] if len(found) == 1 else worst([UNDONE if found else ONCE, *found])

"""What one statement does, decided from its tokens. Not sure means ``Leaves.STATE`` and ``Kind.OTHER``.

Only the statement's own text counts: what views, triggers, defaults, operators, casts and functions
without parentheses do is outside, also that ``t.f`` calls a function where the table has no such column.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from wsgi_persist.sql.effects import (
    BUILT_IN_VERDICTS,
    CUSTOM,
    FUNCTION,
    QUIET,
    SETTING,
    TEMPORARY,
    UNDONE,
    Leaves,
    Verdict,
    effect,
    worst,
)
from wsgi_persist.sql.functions import KEYWORDS, NEVER_FUNCTIONS
from wsgi_persist.sql.verbs import QUERIES, READING, is_custom, of_verb, words

# Among EXPLAIN's options: it carries the statement out, or may.
_ANALYZE = words('analyze analyse "analyze" "analyse" %s')
_TRUE = words("true 't' 'true' 'y' 'yes' 'on' '1'")
# A query that holds them writes, locks rows, or perhaps calls what looks like a field.
_WRITING = words("insert update delete merge into")
_UNSURE = {
    *(("for", "share"), ("for", "no"), ("for", "key")),
    *((")", "."), ("]", "."), ("%s", "."), (".", "%s")),
}
# The name of a relation or type, or of a function that is not called, follows these.
_NAME_FOLLOWS = words(
    """:: aggregate analyse analyze as collation configuration copy exists function into only ordinality
    procedure recursive references returns routine setof table tablesample type vacuum verbose view with"""
)
# An expression follows these, so that even a keyword before a parenthesis is a function there.
_EXPRESSION_FOLLOWS = words(
    """( , [ : := all and any array between both by case content default distinct document else escape first
    for from groups having ilike in join lateral leading like limit next not offset on or passing path placing
    range ref return returning rows select similar some symmetric then to trailing using value values variadic
    version when where zone"""
)
# What they call is named elsewhere: TREAT calls the function that bears the type's name.
_NAMELESS = ("%s", "treat")
_GRAMMAR = {
    ("not", "ilike"),
    ("not", "materialized"),
    ("on", "conflict"),
    ("then", "insert"),
}


class Statement:
    """Rules over one statement's tokens, as :func:`wsgi_persist.sql.lexer.statements` gives them."""

    def __init__(self, tokens: list[str], known: dict[str, Verdict]) -> None:
        self.tokens = tokens
        self.known = known
        self.opened: list[int] = []  # each "(" that is open
        self.opener: dict[int, int] = {}  # of each ")"
        self.verb = self._find_verb()
        explained = tokens[2 : self.verb]
        self.only_plans = "explain" in explained and _ANALYZE.isdisjoint(explained)
        head = [token for token in tokens[self.verb : self.verb + 3] if token != "unique"]
        self.is_index = head[:2] == ["create", "index"]

    def verdict(self) -> Verdict:
        found = worst(self._verdicts())
        return QUIET if self.only_plans and found.leaves is Leaves.NOTHING else found

    def _verdicts(self) -> Iterator[Verdict]:
        yield of_verb(self.tokens, self.verb)
        if self.tokens[self.verb] in READING:
            yield self._of_query()
        yield from self._of_names()
        yield from self._of_calls()

    def _find_verb(self) -> int:
        """Index of the word that says what the statement is, past parentheses and EXPLAIN."""
        at = self._skip_parentheses(2)
        if self.tokens[at] == "explain":
            at += 1
            while self.tokens[at] in ("analyze", "analyse", "verbose"):
                at += 1
            inside = self._skip_parentheses(at)
            if inside > at and self.tokens[inside] not in QUERIES and ")" in self.tokens:
                inside = self.tokens.index(")", at) + 1  # options
            at = self._skip_parentheses(inside)
        return at

    def _skip_parentheses(self, at: int) -> int:
        while self.tokens[at] == "(":
            at += 1
        return at

    def _of_query(self) -> Verdict:
        tokens = self.tokens
        reads = _WRITING.isdisjoint(tokens) and _UNSURE.isdisjoint(pairwise(tokens))
        return QUIET if reads else UNDONE

    def _of_names(self) -> Iterator[Verdict]:
        tokens = self.tokens
        for at, token in enumerate(tokens):
            if "temp" in token and _is_temporary(token, tokens[at - 2], tokens[at - 1]):
                yield TEMPORARY
            elif token == "set" and self.tokens[self.verb] in ("alter", "create"):
                # Of a role, database or function: the server tries it in this session first.
                yield CUSTOM if is_custom(tokens[at + 1 : at + 3]) else QUIET
        # An UPDATE of this view is a SET.
        if "update" in tokens and ("pg_settings" in tokens or '"pg_settings"' in tokens):
            yield SETTING

    def _of_calls(self) -> Iterator[Verdict]:
        tokens, opened = self.tokens, self.opened
        naming = [False]  # for each depth: among the names of a WITH clause
        for at, token in enumerate(tokens):
            if token == "(":
                yield self._of_call(at, naming[-1])
                opened.append(at)
                naming.append(False)
            elif token == ")" and opened:
                self.opener[at] = opener = opened.pop()
                naming.pop()
                if tokens[opener - 1].strip('"') == "set_config":
                    yield _set_config(tokens[opener : opener + 5], tokens[at - 4 : at])
            elif token == "with":
                naming[-1] = self._begins_names(at)
            elif token in QUERIES:
                naming[-1] = False

    def _begins_names(self, at: int) -> bool:
        first, second = self.tokens[at + 1 : at + 3]
        is_keyword = self.tokens[at - 1] not in (".", "as")
        return is_keyword and (first == "recursive" or (second in ("as", "(") and first != "ordinality"))

    def _of_call(self, at: int, is_naming: bool) -> Verdict:
        """Of what stands before the parenthesis there."""
        tokens, start = self.tokens, at - 1
        while tokens[start - 1] == ".":
            start -= 2
        name = tokens[at - 1]
        if not _is_name(name) or (start == at - 1 and name in NEVER_FUNCTIONS):
            return FUNCTION if name in _NAMELESS else QUIET
        if _is_name(tokens[start]) and not self._can_call(start, name, is_naming):
            return QUIET
        name = _unquoted(name)
        if start == at - 1:
            return self.known.get(name) or effect(name) or FUNCTION
        is_built_in = _unquoted(tokens[at - 3]) == "pg_catalog"
        return BUILT_IN_VERDICTS.get(name, FUNCTION) if is_built_in else FUNCTION

    def _can_call(self, start: int, name: str, is_naming: bool) -> bool:
        """Whether an expression can begin there, so that the name is a function's."""
        further, before = self.tokens[start - 2 : start]
        if before == ")" and self._is_clause(self.opener.get(start - 1, 2)):
            return True
        if before in _NAME_FOLLOWS or (before == "," and is_naming):
            return False
        if (further, before) == ("exclude", "using") or (self.is_index and before in ("on", "using")):
            return False
        if (further, before) == ("partition", "by") and name in ("hash", "list", "range"):
            return bool(self.opened)  # else it is a table's
        if name in KEYWORDS and self.tokens[start] == name:
            begins = before in _EXPRESSION_FOLLOWS or before[0] in _OPERATORS
            return begins and (before, name) not in _GRAMMAR
        return not _is_operand(before)

    def _is_clause(self, opener: int) -> bool:
        """Whether an expression follows what began with this parenthesis."""
        further, before = self.tokens[opener - 2 : opener]
        return before == "operator" or (further, before) in (("distinct", "on"), ("returning", "with"))


_OPERATORS = "+-*/<>=~!@#%^&|`?"


def _is_name(token: str) -> bool:
    first = token[0]
    return first.isalpha() or first in '_"' or first > "\x7f"


def _unquoted(name: str) -> str:
    return name[1:-1] if name[0] == '"' else name


def _is_operand(token: str) -> bool:
    """Whether a value or the name of something ends here."""
    if token[0] in "'0)]" or token == "%s":
        return True
    return _is_name(token) and token not in KEYWORDS and token not in NEVER_FUNCTIONS


def _is_temporary(token: str, further: str, before: str) -> bool:
    if token in ("temp", "temporary"):
        if before == "into":
            return further not in ("insert", "merge")
        return before in ("create", "replace", "local", "global")
    return token.strip('"').startswith(("pg_temp", "pg_toast_temp"))


def _set_config(first: list[str], last: list[str]) -> Verdict:
    """Of a call of set_config, from its parenthesis and four tokens after it, and its last four."""
    if last[-2:-1] == ["::"]:
        last = last[:-2]
    if last[-2] == "," and last[-1].lower() in _TRUE:
        return QUIET
    name, follows = first[1], first[4] if first[2] == "::" else first[2]
    is_literal = name[0] == "'" and len(name) > 1 and follows == ","
    return SETTING if is_literal and "." not in name else CUSTOM

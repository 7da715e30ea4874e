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
    CUSTOM_RESET,
    FUNCTION,
    QUIET,
    SEED,
    SETTING,
    TEMPORARY,
    UNDONE,
    Leaves,
    Verdict,
    custom,
    effect,
    worst,
)
from wsgi_persist.sql.functions import KEYWORDS, NEVER_FUNCTIONS
from wsgi_persist.sql.names import (
    CALLING_NOTHING,
    EXPRESSION_FOLLOWS,
    GRAMMAR,
    MADE_OF_NAMES,
    NAME_FOLLOWS,
    NAMELESS,
    OPERATORS,
    is_name,
    is_operand,
    pairs_with_operators,
    unquoted,
)
from wsgi_persist.sql.verbs import QUERIES, READING, VERBS, is_custom, names_temporary, of_verb, words

# Among EXPLAIN's options: it carries the statement out, or may.
_ANALYZE = words('analyze analyse "analyze" "analyse" %s')
_TRUE = words("true 't' 'true' 'y' 'yes' 'on' '1'")
# A query that holds them writes, locks rows, or perhaps calls what looks like a field.
_WRITING = words("insert update delete merge into")
_UNSURE = {
    *(("for", "share"), ("for", "no"), ("for", "key")),
    *((")", "."), ("]", "."), ("%s", "."), (".", "%s")),
}
_TURNS = QUERIES | words("create where with")  # what follows them is read otherwise


class Statement:
    """Rules over one statement's tokens, as :func:`wsgi_persist.sql.lexer.statements` gives them."""

    def __init__(self, tokens: list[str], known: dict[str, Verdict]) -> None:
        self.tokens = tokens
        self.known = known
        self.opened: list[int] = []  # each "(" that is open
        self.opener: dict[int, int] = {}  # of each ")"
        self.naming = [False]  # for each depth: whether among the names of a WITH clause
        self.verb = self._find_verb()
        explained = tokens[2 : self.verb]
        self.only_plans = "explain" in explained and _ANALYZE.isdisjoint(explained)
        self.is_index = False
        head = [token for token in tokens[self.verb : self.verb + 4] if token not in ("or", "replace")]
        self.creates = head[1] if head[0] in ("alter", "create") else None
        # For each depth: whether nothing is called.
        self.listing = [head[0] in CALLING_NOTHING or self.creates in MADE_OF_NAMES]

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
            elif token == "set" and self.creates not in (None, "rule"):
                # Of a role, database or function: the server tries it in this session first.
                yield CUSTOM if is_custom(tokens[at + 1 : at + 3]) else QUIET
            elif token == "execute" and self.creates and tokens[at - 1] == "as":
                yield VERBS[token]
        # An UPDATE of this view is a SET.
        if "update" in tokens and ("pg_settings" in tokens or '"pg_settings"' in tokens):
            yield SETTING

    def _of_calls(self) -> Iterator[Verdict]:
        for at, token in enumerate(self.tokens):
            if token == "(":
                yield self._open(at)
            elif token == ")" and self.opened:
                yield self._close(at)
            elif token in _TURNS:
                self._turn(at, token)

    def _open(self, at: int) -> Verdict:
        found = QUIET if self.listing[-1] else self._of_call(at)
        self.opened.append(at)
        self.naming.append(False)
        self.listing.append(self.listing[-1] and self.tokens[at - 1] not in ("copy", "where"))
        return found

    def _close(self, at: int) -> Verdict:
        tokens = self.tokens
        self.opener[at] = opener = self.opened.pop()
        self.naming.pop()
        self.listing.pop()
        if tokens[opener - 1].strip('"') != "set_config":
            return QUIET
        return _set_config(tokens[opener : opener + 5], tokens[at - 4 : at])

    def _turn(self, at: int, token: str) -> None:
        if token == "with":
            self.naming[-1] = self._begins_names(at)
        elif token in QUERIES:
            self.naming[-1] = False
        elif token == "where" and self.tokens[self.verb] == "copy":
            self.listing[-1] = False
        elif token == "create" and self.tokens[at - 1] not in (".", "as"):
            self.is_index = self.tokens[at + 1 + (self.tokens[at + 1] == "unique")] == "index"

    def _begins_names(self, at: int) -> bool:
        first, second = self.tokens[at + 1 : at + 3]
        before = self.tokens[at - 1]
        # After AS it may be a column's name, too, which no name follows.
        is_keyword = before != "." and (before != "as" or first not in NEVER_FUNCTIONS)
        return is_keyword and (first == "recursive" or (second in ("as", "(") and first != "ordinality"))

    def _of_call(self, at: int) -> Verdict:
        """Of what stands before the parenthesis there."""
        tokens, start = self.tokens, at - 1
        while tokens[start - 1] == ".":
            start -= 2
        name = tokens[at - 1]
        if not is_name(name) or (start == at - 1 and name in NEVER_FUNCTIONS):
            return FUNCTION if name in NAMELESS else QUIET
        if is_name(tokens[start]) and not self._can_call(start, name):
            return QUIET
        name = unquoted(name)
        if start == at - 1:
            return self.known.get(name) or effect(name) or FUNCTION
        is_built_in = unquoted(tokens[at - 3]) == "pg_catalog"
        return BUILT_IN_VERDICTS.get(name, FUNCTION) if is_built_in else FUNCTION

    def _can_call(self, start: int, name: str) -> bool:
        """Whether an expression can begin there, so that the name is a function's."""
        further, before = self.tokens[start - 2 : start]
        if before == ")" and self._is_clause(self.opener.get(start - 1, 2)):
            return True
        if before in NAME_FOLLOWS or (before == "," and self.naming[-1]):
            return False
        if before in ("prepare", "execute") and (
            start - 1 == self.verb or (further == "as" and self.creates)
        ):
            return False  # a prepared statement's
        if self._is_part(start, name):
            return False
        if (further, before) == ("partition", "by") and name in ("hash", "list", "range"):
            return bool(self.opened)  # else it is a table's
        if name in KEYWORDS and self.tokens[start] == name:
            begins = before in EXPRESSION_FOLLOWS or before[0] in OPERATORS
            return begins and (before, name) not in GRAMMAR
        return not is_operand(before)

    def _is_part(self, start: int, name: str) -> bool:
        """Whether it is an index's, a constraint's, a unit of time or the next action of an ALTER."""
        further, before = self.tokens[start - 2 : start]
        return (
            (further, before) == ("exclude", "using")
            or (self.is_index and before in ("on", "using"))
            or (before == "," and not self.opened and self.tokens[self.verb] == "alter")
            or (name == "second" and before == "to" and further in ("day", "hour", "minute"))
            or (name == "exclude" and pairs_with_operators(self.tokens, start + 1))
        )

    def _is_clause(self, opener: int) -> bool:
        """Whether an expression follows what began with this parenthesis."""
        further, before = self.tokens[opener - 2 : opener]
        return before == "operator" or (further, before) in (("distinct", "on"), ("returning", "with"))


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
        return TEMPORARY if names_temporary(first[3:]) else QUIET
    name, follows = first[1], first[4] if first[2] == "::" else first[2]
    is_literal = name[0] == "'" and len(name) > 1 and follows == ","
    if is_literal and "." not in name:
        return SEED if name.lower() == "'seed'" else SETTING
    if not is_literal:
        return CUSTOM
    return CUSTOM_RESET if first[2:] == [",", "null", ","] else custom(name[1:-1])

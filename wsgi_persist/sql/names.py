"""What a name before a parenthesis is, as far as the tokens around it tell."""

from __future__ import annotations

from itertools import pairwise

from wsgi_persist.sql.functions import KEYWORDS, NEVER_FUNCTIONS
from wsgi_persist.sql.verbs import words

# Nothing is called in these statements, but in a WHERE clause or the query of a COPY; nor in those that
# create or alter such things.
CALLING_NOTHING = words(
    "analyse analyze cluster comment copy drop grant import reindex revoke security vacuum"
)
MADE_OF_NAMES = words("aggregate collation operator publication text transform type")
# The name of a relation or type, or of a function that is not called, follows these.
NAME_FOLLOWS = words(
    """:: aggregate analyse analyze as collation configuration copy exists function into of only ordinality
    procedure recursive references returns routine setof statistics table tablesample type vacuum verbose view
    with"""
)
# An expression follows these, so that even a keyword before a parenthesis is a function there.
EXPRESSION_FOLLOWS = words(
    """( , [ : := all and any array between both by case content default distinct document else escape first
    for from groups having ilike in join lateral leading like limit next not offset on or passing path placing
    range ref return returning rows select similar some symmetric then to trailing using value values variadic
    version when where zone"""
)
# What they call is named elsewhere: TREAT calls the function that bears the type's name.
NAMELESS = ("%s", "treat")
GRAMMAR = {
    ("not", "ilike"),
    ("not", "materialized"),
    ("on", "conflict"),
    ("then", "insert"),
}
OPERATORS = "+-*/<>=~!@#%^&|`?"


def is_name(token: str) -> bool:
    first = token[0]
    return first.isalpha() or first in '_"' or first > "\x7f"


def unquoted(name: str) -> str:
    return name[1:-1] if name[0] == '"' else name


def is_operand(token: str) -> bool:
    """Whether a value or the name of something ends here."""
    if token[0] in "'0)]" or token == "%s":
        return True
    return is_name(token) and token not in KEYWORDS and token not in NEVER_FUNCTIONS


def pairs_with_operators(tokens: list[str], opener: int) -> bool:
    """Whether this parenthesis is that of a constraint such as EXCLUDE (a WITH =)."""
    depth = 0
    for token, following in pairwise(tokens[opener:]):
        depth += (token == "(") - (token == ")")
        if depth == 1 and token == "with" and (following == "operator" or following[0] in OPERATORS):
            return True
        if depth == 0:
            break
    return False

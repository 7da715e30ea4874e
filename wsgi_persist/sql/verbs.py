"""What a statement's verb says: what it leaves, and whether it may be sent again."""

from __future__ import annotations

from itertools import pairwise, takewhile

from wsgi_persist.sql.effects import (
    CURSOR,
    CUSTOM_RESET,
    DONE,
    MARK,
    ONCE,
    QUIET,
    RESETTING,
    SEED,
    SETTING,
    TEMPORARY,
    UNDONE,
    UNKNOWN,
    UNMARK,
    Kind,
    Leaves,
    Verdict,
    custom,
)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


READING = words("select values table with")
# All that may stand in parentheses.
QUERIES = READING | words("insert update delete merge")
# Some cannot run in a transaction, where they fail again as they did before.
_TRANSACTIONAL = QUERIES - READING | words(
    """alter analyse analyze cluster comment create drop grant import lock notify reassign refresh reindex
    return revoke security truncate"""
)
_ONCE = words("abort begin checkpoint close copy fetch move start vacuum")
_LISTED = dict.fromkeys(("listen", "unlisten"), Kind.WRITE)
# What EXECUTE does was judged with its PREPARE.
_LISTED |= dict.fromkeys(("deallocate", "execute", "prepare"), Kind.OTHER)
VERBS = {
    **dict.fromkeys(READING | {"show"}, QUIET),
    **dict.fromkeys(_TRANSACTIONAL, UNDONE),
    **dict.fromkeys(_ONCE, ONCE),
    **dict.fromkeys(("commit", "end"), DONE),
    **{verb: Verdict(Leaves.LISTED, verb.upper(), kind) for verb, kind in _LISTED.items()},
    **{verb: Verdict(Leaves.STATE, verb.upper(), Kind.OTHER) for verb in ("call", "discard", "do")},
    "set": SETTING,
    "reset": RESETTING,
    "savepoint": MARK,
    **dict.fromkeys(("release", "rollback"), UNMARK),
    "load": Verdict(Leaves.FOR_GOOD, "LOAD", Kind.OTHER),
}

# Of the driver's own, too, which has to be told.
_DEALLOCATE_ALL = Verdict(Leaves.STATE, "DEALLOCATE ALL", Kind.OTHER)


def of_verb(tokens: list[str], at: int) -> Verdict:
    """Of the statement whose verb stands there."""
    verb, after = tokens[at], tokens[at + 1 : at + 6]
    if tokens[at - 1] == "(" and verb not in QUERIES:
        return UNKNOWN
    if verb in ("set", "reset"):
        return _setting(after, is_reset=verb == "reset" or tokens[-3] == "default")
    if verb == "deallocate" and "all" in after:
        return _DEALLOCATE_ALL
    if verb == "declare":
        return CURSOR if ("with", "hold") in pairwise(tokens) else ONCE
    if verb == "rollback" and after[0] == "prepared":
        return ONCE
    if verb == "prepare" and after[0] == "transaction" and after[1][0] == "'":
        return DONE
    if verb == "copy" and "program" in tokens:
        return DONE
    return VERBS.get(verb, UNKNOWN)


def _setting(tokens: list[str], is_reset: bool) -> Verdict:
    """Of SET and RESET, from the tokens that follow."""
    first, second = tokens[:2]
    if second != ".":  # else whatever comes first is part of the name
        if first in ("local", "constraints", "transaction"):
            return TEMPORARY if names_temporary(tokens) else UNDONE
        tokens = tokens[1:] if first == "session" else tokens
    if is_custom(tokens):
        name = "".join(takewhile(lambda token: token not in ("=", "to"), tokens))
        return CUSTOM_RESET if is_reset else custom(name.replace('"', ""))
    if tokens[0].strip('"') == "seed":
        return SEED
    return RESETTING if is_reset else SETTING


def names_temporary(tokens: list[str]) -> bool:
    """Whether one is a literal that leads to the schema of temporary tables; names are seen everywhere."""
    return any(token[0] == "'" and "pg_temp" in token.lower() for token in tokens)


def is_custom(tokens: list[str]) -> bool:
    """Whether the setting named there is one of an extension's or an application's own."""
    return tokens[1:2] == ["."] or (tokens[0][0] == '"' and "." in tokens[0])

"""Whether a statement only reads, as PostgreSQL's own grammar has it: a walk over pglast's parse tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pglast import parser

# Placeholders are the drivers', not PostgreSQL's.
PLACE = re.compile(r"%(\(\w[\w. ]*\))?[sbt](?![\w$])")
# Nodes and fields of the tree with which a query does more than read.
WRITES = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "lockingClause", "intoClause"}


def is_read(text: str, harmless: frozenset[str]) -> bool | None:
    """None where the grammar refuses the text, as the server would.

    :param harmless: functions that only read, without a schema or in ``pg_catalog``.
    """
    try:
        statements = json.loads(parser.parse_sql_json(text)).get("stmts", [])
    except parser.ParseError:
        return None
    return len(statements) == 1 and _reads(statements[0].get("stmt", {}), harmless)


def called(text: str) -> set[str]:
    """Names of the functions that a text calls; none where the grammar refuses it."""
    try:
        tree = json.loads(parser.parse_sql_json(text))
    except parser.ParseError:
        return set()
    return {node["funcname"][-1]["String"]["sval"] for name, node in _walk(tree) if name == "FuncCall"}


def _reads(statement: dict[str, Any], harmless: frozenset[str]) -> bool:
    if "VariableShowStmt" in statement:
        return True
    if "ExplainStmt" in statement:
        explain = statement["ExplainStmt"]
        named = {option["DefElem"]["defname"] for option in explain.get("options", ())}
        return "analyze" not in named or _reads(explain["query"], harmless)
    return "SelectStmt" in statement and all(_only_reads(*item, harmless) for item in _walk(statement))


def _walk(node: Any) -> Iterator[tuple[str, Any]]:
    """Every field of the tree with its name."""
    for name, child in node.items() if isinstance(node, dict) else ():
        if name != "typmods":  # as in numeric(10, 2): the server takes constants only
            yield name, child
            yield from _walk(child)
    for child in node if isinstance(node, list) else ():
        yield from _walk(child)


def _only_reads(name: str, node: Any, harmless: frozenset[str]) -> bool:
    if name == "FuncCall":
        *schema, function = (part["String"]["sval"] for part in node["funcname"])
        return schema in ([], ["pg_catalog"]) and function in harmless
    if name == "A_Indirection":  # a field's name after an expression may be a function's
        return not any("String" in part for part in node["indirection"])
    return name not in WRITES

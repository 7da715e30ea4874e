"""Writes wsgi_persist/sql/functions.py from the catalogues of real servers.

``python -m tools.pg_functions [folder of a PostgreSQL's binaries ...]`` starts one throw-away cluster per
folder (without any: the one that ``tools.postgres`` finds), asks pg_proc and pg_get_keywords() and writes
the union. Give the oldest and the newest server at hand: a name that only one of them has is safe on the
other, where a call of it either fails or reaches a user's function, which the site's own catalogue tells.
"""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2

from tools.postgres import Cluster, binaries

TARGET = Path(__file__).parent.parent / "wsgi_persist" / "sql" / "functions.py"

# Without those that nobody calls by name: they take or return what SQL cannot hold, carry out an operator
# (their description says so, and that calling them is not meant), or serve types, aggregates and
# languages. Some operators' functions are called all the same; those below the statistics views hardly.
FUNCTIONS = """
    WITH support (oid) AS (
        SELECT unnest(ARRAY[typmodin, typanalyze]) FROM pg_catalog.pg_type
        UNION SELECT unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn])
              FROM pg_catalog.pg_aggregate
    )
    SELECT DISTINCT proname FROM pg_catalog.pg_proc AS p
    WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = lower(proname)
      AND oid NOT IN (SELECT oid FROM support) AND proname !~ '^pg_stat_get_|_validator$'
      AND (coalesce(obj_description(oid, 'pg_proc'), '') NOT LIKE 'implementation of % operator'
           OR proname ~ '^(array|jsonb?_|starts|inet|tsvector|tsquery|range|textcat|byteacat)')
      AND NOT EXISTS (
          SELECT FROM unnest(string_to_array(proargtypes::text, ' ')::oid[] || prorettype) AS u(oid)
          JOIN pg_catalog.pg_type AS t ON t.oid = u.oid
          WHERE t.typname IN ('internal', 'cstring', 'trigger', 'event_trigger')
             OR t.typname LIKE '%\\_handler')
"""
# In any form, also one that SQL cannot call.
VOLATILE = """
    SELECT DISTINCT proname FROM pg_catalog.pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v'
"""
KEYWORDS = "SELECT word, catcode FROM pg_catalog.pg_get_keywords()"

HEADER = '''"""Names that mean something to PostgreSQL before a parenthesis: generated, do not edit.

``python -m tools.pg_functions`` made this from pg_proc and pg_get_keywords() of PostgreSQL {versions}:
the union of what these versions know.
"""

'''
SETS = {
    "BUILT_INS": "Functions of pg_catalog that SQL can call.",
    "VOLATILE": "Those of them that are volatile in any form, in any of these versions.",
    "NEVER_FUNCTIONS": "Keywords that cannot be a function's name unless quoted, in any of these versions.",
    "KEYWORDS": "All other keywords: a function may be called so.",
}


class Answer(NamedTuple):
    """One server's: names of functions, and keywords with their class as pg_get_keywords() gives it."""

    version: str
    functions: set[str]
    volatile: set[str]
    keywords: dict[str, str]


def ask(bin: Path) -> Answer:
    os.environ["PG_BIN"] = str(bin)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster(Path(folder) / "data").create()
        try:
            connection = psycopg2.connect(**cluster.start().dsn())
            version = connection.info.parameter_status("server_version").split()[0]
            functions, volatile = ({name for (name,) in rows(connection, q)} for q in (FUNCTIONS, VOLATILE))
            keywords = dict(rows(connection, KEYWORDS))
            connection.close()
        finally:
            cluster.destroy()
    return Answer(version, functions, volatile, keywords)


def rows(connection: Any, query: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def sets(answers: list[Answer]) -> dict[str, set[str]]:
    classes = [answer.keywords for answer in answers]
    words = set().union(*classes)
    # R is reserved, C cannot be a function; a word that one server does not know may be a function there.
    never = {word for word in words if all(known.get(word) in ("R", "C") for known in classes)}
    functions: set[str] = set().union(*(answer.functions for answer in answers))
    volatile = functions & set().union(*(answer.volatile for answer in answers))
    # Grammar on the newest server, where it leaves nothing; a function of the user's on the oldest.
    functions |= {word for word in words - never if any(known.get(word) == "C" for known in classes)}
    return {
        "BUILT_INS": functions,
        "VOLATILE": volatile,
        "NEVER_FUNCTIONS": never,
        "KEYWORDS": words - never,
    }


def render(versions: str, found: dict[str, set[str]]) -> str:
    parts = [HEADER.format(versions=versions)]
    for name, meaning in SETS.items():
        words = textwrap.fill(" ".join(sorted(found[name])), 108, break_on_hyphens=False)
        parts.append(f'_{name} = """\n{words}\n"""\n# {meaning}\n{name} = frozenset(_{name}.split())\n\n')
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    answers = [ask(Path(given)) for given in sys.argv[1:] or [binaries()]]
    versions = " and ".join(sorted(answer.version for answer in answers))
    TARGET.write_text(render(versions, sets(answers)))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes from PostgreSQL {versions}")

"""Programs that use transactions in every way that Django has, and what can be seen of one that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from wsgi_persist.backends.transaction import come_to_rest

Step = tuple[Any, ...]

READS = [
    ("SELECT count(*) FROM noted", None),
    ("SELECT id, parent FROM noted WHERE id < %s ORDER BY id", [50]),
    ("SELECT %s::text, '%%', ';'", ["it's; 50%"]),
    ("SELECT 1; SELECT 2", None),
    ("VALUES (1), (2)", None),
]
WRITES = [
    ("INSERT INTO noted (id) VALUES (%s)", [1]),
    ("INSERT INTO noted (id) VALUES (%s) RETURNING id", [2]),
    ("INSERT INTO noted (id, parent) VALUES (%s, %s)", [3, 3]),
    ("INSERT INTO parent (id) VALUES (%(id)s)", {"id": 3}),
    ("UPDATE noted SET id = id + %s WHERE id > %s", [10, 5]),
    ("DELETE FROM noted", None),
    ("SET LOCAL work_mem = '2MB'", None),
    ("SELECT id FROM noted ORDER BY id FOR UPDATE", None),
    ("SELECT pg_advisory_xact_lock(1)", None),
    ("LOCK TABLE noted", None),
    ("SET CONSTRAINTS ALL IMMEDIATE", None),
]
ERRORS = [
    ("SELEC 1", None),
    ("SELECT missing FROM noted", None),
    ("SELECT * FROM nowhere WHERE a = %s", ["x"]),
    ("SELECT id FROM noted WHERE id = %s", ["no number"]),
    ("SELECT 1 / %s", [0]),
    ("INSERT INTO noted (id) VALUES (1), (1)", None),
    ("SELECT 'unterminated", None),
    ("SELECT %s", []),
    ("SELECT %s", ["\0"]),
    ("SELECT 1; SELEC 2", None),
]
statements = st.sampled_from([*READS, *WRITES, *ERRORS])
STEPS: st.SearchStrategy[Step] = st.recursive(
    st.one_of(
        st.tuples(st.just("execute"), statements, st.booleans()),
        st.tuples(st.just("execute"), st.sampled_from([*READS, *WRITES]), st.just(False)),
        st.tuples(
            st.sampled_from(["on_commit", "robust", "fail", "iterate", "many", "take", "raw", "debug"])
        ),
        st.tuples(st.just("set_rollback"), st.booleans()),
    ),
    lambda steps: st.one_of(
        # savepoint, durable, whether what it raises is caught
        st.tuples(
            st.just("atomic"), st.booleans(), st.booleans(), st.booleans(), st.lists(steps, max_size=4)
        ),
        st.tuples(
            st.just("savepoint"), st.sampled_from(["commit", "rollback", ""]), st.lists(steps, max_size=3)
        ),
        st.tuples(st.just("manual"), st.sampled_from(["commit", "rollback"]), st.lists(steps, max_size=3)),
    ),
    max_leaves=10,
)


def uncaught(program: list[Step]) -> list[Step]:
    """The same, but that errors of statements end the block, up to a savepoint before it."""
    return [_uncaught(step) for step in program]


def _uncaught(step: Step) -> Step:
    if step[0] == "execute":
        return *step[:2], False
    if step[0] == "atomic":
        _, savepoint, durable, catches, steps = step
        return "atomic", savepoint, durable, catches and savepoint, uncaught(steps)
    return tuple(uncaught(part) if isinstance(part, list) else part for part in step)


class Failed(Exception):
    pass


class Run:
    """:ivar trace: all that the program saw; ``rows``: what it left."""

    def __init__(self, alias: str, before: Callable[[int], None] = lambda number: None) -> None:
        from django.db import connections

        self._before = before  # called with the number of the statement that is about to be sent
        self._sent = 0
        self.alias = alias
        self.connection = connections[alias]
        self.trace: list[Any] = []
        self.rows: list[Any] = []
        self._hooks = 0

    def of(self, program: list[Step]) -> Run:
        if self.connection.connection is not None and self.connection.connection.closed:
            self.connection.connection = None  # as the last program left it
            come_to_rest(self.connection)
        self._quietly("DELETE FROM noted; DELETE FROM parent")
        for step in program:
            try:
                self.take(step)
            except Exception as error:
                self._note_error(error)
        self._clean()
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT array_agg(n ORDER BY id) FROM noted n)::text, (SELECT count(*) FROM parent)"
            )
            self.rows = cursor.fetchall()
        return self

    @property
    def has_failed(self) -> bool:
        """Whether the last step, a block, ended with an error."""
        *_, error, _ended, _ = self.trace
        return isinstance(error, tuple) and len(error) == 4 and isinstance(error[3], list)

    def _clean(self) -> None:
        from django.db import Error

        self.trace.append(self.connection.in_atomic_block)  # some errors in __enter__() leave it so
        come_to_rest(self.connection)
        if not self.connection.get_autocommit():
            try:
                self.connection.rollback()
                self.connection.set_autocommit(True)
            except Error as error:  # lost, and its fate was said to be another than it is
                self._note_error(error)
                self.connection.close()
                self.connection.autocommit = True

    def _quietly(self, sql: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)

    def take(self, step: Step) -> None:
        name, *given = step
        getattr(self, f"do_{name}")(*given)
        db = self.connection
        self.trace.append(
            (name, db.in_atomic_block, db.needs_rollback, db.get_autocommit(), len(db.savepoint_ids))
        )

    def _all(self, steps: list[Step]) -> None:
        for step in steps:
            self.take(step)

    def _note_error(self, error: BaseException) -> None:
        cause = error.__cause__
        diag = getattr(cause, "diag", None)
        told = [getattr(diag, name, None) for name in ("sqlstate", "message_primary", "statement_position")]
        self.trace.append((type(error).__name__, str(error), type(cause).__name__, told))

    # ##### Steps #####

    def do_execute(self, statement: tuple[str, Any], is_caught: bool) -> None:
        self._before(self._sent)
        self._sent += 1
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(*statement)
                self._note(cursor)
        except Exception as error:
            if not is_caught:
                raise
            self._note_error(error)

    def _note(self, cursor: Any) -> None:
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall() if cursor.description else None
        query = getattr(cursor.cursor, "query", None)
        self.trace.append((names, rows, cursor.rowcount, cursor.statusmessage, query))

    def do_on_commit(self) -> None:
        self._hook(robust=False)

    def do_robust(self) -> None:
        self._hook(robust=True)

    def _hook(self, robust: bool) -> None:
        from django.db import transaction

        self._hooks += 1
        number = self._hooks
        transaction.on_commit(lambda: self.trace.append(("hook", number)), using=self.alias, robust=robust)

    def do_fail(self) -> None:
        raise Failed("on purpose")

    def do_set_rollback(self, value: bool) -> None:
        self.connection.set_rollback(value)

    def do_iterate(self) -> None:
        with self.connection.chunked_cursor() as cursor:
            cursor.execute(
                "SELECT n FROM generate_series(1, %s) n FOR UPDATE"
                if False
                else "SELECT n FROM generate_series(1, %s) n",
                [5],
            )
            self.trace.append((cursor.fetchmany(2), cursor.fetchone(), cursor.fetchall()))

    def do_many(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany("INSERT INTO noted (id) VALUES (%s)", [(101,), (102,)])
            self.trace.append(cursor.rowcount)

    def do_take(self) -> None:
        raw = self.connection.connection
        if raw is not None:
            self.trace.append(("autocommit", raw.autocommit))
            with raw.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM noted")
                self.trace.append(cursor.fetchone())

    def do_raw(self) -> None:
        from django.db.backends.postgresql.base import Database
        from django.db.backends.postgresql.psycopg_any import is_psycopg3

        raw = self.connection.connection
        if raw is None:
            return
        cursor = Database.ClientCursor(raw) if is_psycopg3 else Database.extensions.cursor(raw)
        with cursor:
            cursor.execute("INSERT INTO noted (id) VALUES (201)")
            self.trace.append(cursor.rowcount)

    def do_debug(self) -> None:
        self.connection.force_debug_cursor = True
        before = len(self.connection.queries_log)
        try:
            self.do_execute(READS[0], False)
        finally:
            self.connection.force_debug_cursor = False
        self.trace.append([each["sql"] for each in list(self.connection.queries_log)[before:]])
        self.connection.queries_log.clear()

    def do_atomic(self, savepoint: bool, durable: bool, is_caught: bool, steps: list[Step]) -> None:
        from django.db import transaction

        try:
            with transaction.atomic(self.alias, savepoint, durable):
                self._all(steps)
        except Exception as error:
            if not is_caught:
                raise
            self._note_error(error)

    def do_savepoint(self, how: str, steps: list[Step]) -> None:
        sid = self.connection.savepoint()
        self._all(steps)
        if how:
            getattr(self.connection, f"savepoint_{how}")(sid)

    def do_manual(self, how: str, steps: list[Step]) -> None:
        if self.connection.in_atomic_block or not self.connection.get_autocommit():
            return
        self.connection.set_autocommit(False)
        try:
            self._all(steps)
            getattr(self.connection, how)()
        except Exception as error:
            self._note_error(error)
            self.connection.rollback()
        self.connection.set_autocommit(True)

"""System checks that ask the server: ``manage.py check --database default``.

Django asks the wrapper's ``validation`` for these, of each alias that is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.backends.base.validation import BaseDatabaseValidation

from wsgi_persist.backends.checks.aliases import Alias, ours
from wsgi_persist.backends.checks.redaction import without_passwords
from wsgi_persist.backends.checks.settings import of_alias_alone
from wsgi_persist.backends.checks.workers import announced

_LIMITS = """
SELECT pg_backend_pid(),
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true), '0')::int,
       rolname, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END
FROM pg_roles WHERE rolname = session_user
"""
# Other clients may come between two statements; one meeting proves that sessions are shared.
_TRIES = 3


class Answer(NamedTuple):
    """What the server says of itself.

    :ivar greeted_by: the pid that the connection was given at its start; a pooler makes one up.
    :ivar of_role: the role's CONNECTION LIMIT; below 0 for none.
    """

    greeted_by: int
    pid: int
    max_connections: int
    reserved: int
    role: str
    of_role: int

    @property
    def through_pooler(self) -> bool:
        return self.greeted_by != self.pid


class PersistValidation(BaseDatabaseValidation):
    @without_passwords
    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        found = list(super().check(**kwargs))
        alias = next((each for each in ours() if each.name == self.connection.alias), None)
        if alias is None:
            return found
        found += of_alias_alone(alias)
        try:
            answer = _ask(self.connection)
            return [*found, *self._pooler(alias, answer), *_connections(alias, answer)]
        except (DatabaseError, ImproperlyConfigured) as error:
            return [*found, _unreachable(alias, error)]

    def _pooler(self, alias: Alias, answer: Answer) -> Iterator[checks.CheckMessage]:
        if alias.transactions_only and not answer.through_pooler:
            yield _no_pooler(alias)
        elif not alias.transactions_only and answer.through_pooler and _shares_sessions(self.connection):
            yield _unannounced_pooler(alias)


def _ask(wrapper: Any) -> Answer:
    with wrapper.cursor() as cursor:
        cursor.execute(_LIMITS)
        return Answer(wrapper.connection.info.backend_pid, *cursor.fetchone())


def _shares_sessions(wrapper: Any) -> bool:
    """Whether two connections that are open at once are served by one session."""
    other = wrapper.copy()
    try:
        return any(_ask(wrapper).pid == _ask(other).pid for _ in range(_TRIES))
    finally:
        other.close()


def _unannounced_pooler(alias: Alias) -> checks.CheckMessage:
    given = f"{alias.path}['OPTIONS']['persist']['pooler'] = 'transaction'"
    return checks.Error(
        f"{alias.path} is behind a pooler in transaction mode, which it is not told: what is set, reset "
        "and prepared in a session would meet the sessions of others.",
        hint=given if alias.persist.get("pooler") else f"{alias.path}['DISABLE_SERVER_SIDE_CURSORS'] = True",
        id="wsgi_persist.E004",
    )


def _no_pooler(alias: Alias) -> checks.CheckMessage:
    return checks.Warning(
        f"{alias.path} is told of a pooler in transaction mode, but connected to PostgreSQL itself: "
        "no session is opened in advance, watched or reset, without need.",
        hint=f"{alias.path}['OPTIONS'].setdefault('persist', {{}})['pooler'] = None",
        id="wsgi_persist.W009",
    )


def _connections(alias: Alias, answer: Answer) -> Iterator[checks.CheckMessage]:
    processes, threads = announced()
    if processes is None or answer.through_pooler:
        return  # a pooler has limits of its own
    kept = 1 if alias.persist.get("scope") == "process" else threads or 1
    same_server = [each for each in ours() if each.server == alias.server]
    same_role = [each for each in same_server if each.user == alias.user]
    wanted, of_role = processes * kept * len(same_server), processes * kept * len(same_role)
    told = f"{alias.path}: {processes} processes with {kept} threads keep"
    room = answer.max_connections - answer.reserved
    if wanted > room:
        yield _too_many(
            f"{told} {wanted} connections ({_names(same_server)}), but the server has {room} for them: "
            f"max_connections = {answer.max_connections}, {answer.reserved} of them reserved.",
            f"ALTER SYSTEM SET max_connections = {wanted + answer.reserved};",
        )
    if 0 <= answer.of_role < of_role:
        yield _too_many(
            f"{told} {of_role} connections ({_names(same_role)}), but the role {answer.role} may have "
            f"{answer.of_role}.",
            f'ALTER ROLE "{answer.role}" CONNECTION LIMIT {of_role};',
        )


def _too_many(text: str, hint: str) -> checks.CheckMessage:
    return checks.Warning(text, hint=hint, id="wsgi_persist.W007")


def _names(aliases: list[Alias]) -> str:
    return ", ".join(each.name for each in aliases)


def _unreachable(alias: Alias, error: Exception) -> checks.CheckMessage:
    said = " ".join(str(error).split())
    if re.search(r"[\s=@]|://", str(alias.settings.get("HOST") or "")):
        # libpq takes it for names, and quotes them.
        said = "its HOST is a connection string, and has to be the name of a host"
    return checks.Warning(
        f"{alias.path}: the server could not be asked, so its limits and a pooler are unknown: {said}",
        hint=f"python manage.py dbshell --database {alias.name}",
        id="wsgi_persist.W008",
    )

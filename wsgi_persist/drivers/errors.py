"""What an exception of a driver says about its connection: its class alone says too little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wsgi_persist.redaction import redacted

# Severities with which a server ends a session.
FAREWELLS = ("FATAL", "PANIC")


def driver_error(error: BaseException | None) -> BaseException | None:
    """The driver's own exception: this one, or the cause of Django's."""
    for found in (error, getattr(error, "__cause__", None)):
        if found is not None and _names(found):
            return found
    return None


def sqlstate(error: BaseException | None) -> str | None:
    """Five characters, or None where the server did not say one."""
    found = driver_error(error)
    return getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)


def is_farewell(error: BaseException | None) -> bool:
    """Whether the server says in it that it ends the session."""
    diagnosis: Any = getattr(driver_error(error), "diag", None)
    return diagnosis is not None and severity(diagnosis) in FAREWELLS


def severity(diagnosis: Any) -> str | None:
    """As the server means it; PgBouncer says it in one field alone, in English."""
    found: str | None = diagnosis.severity_nonlocalized or diagnosis.severity
    return found


def speaks_of_loss(error: BaseException | None) -> bool:
    """Whether it may come from a connection that was lost, or that cannot be had."""
    if sqlstate(error) is not None:
        return is_farewell(error)
    found = driver_error(error)
    names = _names(found) if found is not None else []
    # psycopg2 raises the very base class, too, when the server is gone.
    return names[:1] == ["DatabaseError"] or not {"OperationalError", "InterfaceError"}.isdisjoint(names)


def comes_from_loss(error: BaseException | None) -> bool:
    """Whether an error like that is behind this one."""
    return any(speaks_of_loss(found) for found in _chain(error))


def first_line(error: BaseException) -> str:
    return redacted(str(error).strip() or type(error).__name__).splitlines()[0]


def _names(error: BaseException) -> list[str]:
    """Names of those of its classes that are a driver's."""
    found = (c for c in type(error).__mro__ if c.__module__.partition(".")[0] in ("psycopg2", "psycopg"))
    return [c.__name__ for c in found]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

"""What an exception of a driver says about its connection: its class alone says too little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from wsgi_persist.redaction import redacted

# Severities with which a server ends a session.
FAREWELLS = ("FATAL", "PANIC")
# And the SQLSTATEs that go with them: connection exceptions, and the server's shutdown, crash and start.
_LOSSES = ("08", "57P0")
# Classes that say no SQLSTATE; psycopg2 raises the very base class, too, when the server is gone.
_PLAIN = ("OperationalError", "InterfaceError", "DatabaseError")
# Names that may be the role's where it is not the role that is refused; in English alone.
_OF_OTHERS = re.compile(r'(?:database|too many connections for role) "[^"]*"')


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


def has_position(error: BaseException | None) -> bool:
    """Whether it points to a place in the statement: the server refused that before it carried it out."""
    diagnosis: Any = getattr(driver_error(error), "diag", None)
    return getattr(diagnosis, "statement_position", None) is not None


def is_farewell(error: BaseException | None) -> bool:
    """Whether the server says in it that it ends the session."""
    diagnosis: Any = getattr(driver_error(error), "diag", None)
    said = None if diagnosis is None else severity(diagnosis)
    if said is None:
        # Made without a message of the server's: psycopg 3's classes have their SQLSTATE all the same.
        return (sqlstate(error) or "").startswith(_LOSSES)
    return said in FAREWELLS


def has_ended(error: BaseException | None) -> bool:
    """Whether the session runs nothing any more; a pooler that says farewell leaves it to the server."""
    return is_farewell(error) and not (sqlstate(error) or "").startswith("08")


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
    return names[:1] == ["DatabaseError"] or not {"OperationalError", "InterfaceError"}.isdisjoint(names)


def comes_from_loss(error: BaseException | None) -> bool:
    """Whether an error like that is behind this one."""
    return any(speaks_of_loss(found) for found in _chain(error))


def plain_class(error: BaseException) -> type[BaseException]:
    """Of a loss: the driver's class to raise anew, without the SQLSTATE of the server's message."""
    kinds = type(driver_error(error) or error).__mro__
    return next((kind for kind in kinds if kind.__name__ in _PLAIN), kinds[0])


def refuses_login(error: BaseException) -> bool:
    """Whether the server has refused the password: waiting mends nothing, and each try counts.

    libpq tells no SQLSTATE of an attempt to connect, and the server speaks its own language. In every one
    of them it names the role, after it has asked for a password; a server that starts, is full or has no
    entry in pg_hba.conf does not do both. Two spaces come between libpq's words, where a host may be called
    like the role, and the server's.
    """
    said = [line.partition(":  ")[2] for line in str(driver_error(error)).splitlines()]
    if any(" authentication failed" in words for words in said):
        return True
    role = _asked_for_password(driver_error(error))
    quoted = re.compile(rf"[^\w\s]\s?{re.escape(role)}\s?[^\w\s]") if role else None
    return quoted is not None and any(quoted.search(_OF_OTHERS.sub("", words)) for words in said)


def _asked_for_password(error: Any) -> str | None:
    """The role whose password the server wanted when this attempt to connect failed."""
    pgconn = getattr(error, "pgconn", None)
    if pgconn is None:
        return getattr(error, "asked_password_of", None)
    return pgconn.user.decode(errors="replace") if pgconn.used_password else None


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

"""What exceptions of the drivers say, where no server is needed to raise them."""

from __future__ import annotations

from types import SimpleNamespace

import psycopg
import psycopg2
import pytest

from wsgi_persist.drivers import plain_class, refuses_login, speaks_of_loss

WHERE = 'connection to server at "localhost" (127.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    "name", ["ProtocolViolation", "AdminShutdown", "CannotConnectNow", "ConnectionFailure"]
)
def test_loss_without_the_servers_message_is_one(name: str) -> None:
    """psycopg 3's classes say their SQLSTATE, also when somebody else has made the exception."""
    error = getattr(psycopg.errors, name)("made anew")
    assert speaks_of_loss(error)
    again = plain_class(error)("made anew once more")
    assert type(again) is psycopg.OperationalError
    assert speaks_of_loss(again)


def test_answer_without_the_servers_message_is_no_loss() -> None:
    assert not speaks_of_loss(psycopg.errors.UniqueViolation("made anew"))
    assert not speaks_of_loss(psycopg.errors.QueryCanceled("made anew"))


def failed_attempt(text: str, driver: str, user: str = "site", asked: bool = True) -> Exception:
    if driver == "psycopg2":
        error: Exception = psycopg2.OperationalError(f"{text}\n")
        if asked:
            error.asked_password_of = user  # type: ignore[attr-defined]
        return error
    pgconn = SimpleNamespace(used_password=asked, user=user.encode())
    return psycopg.OperationalError(f"connection failed: {text}", pgconn=pgconn)  # type: ignore[arg-type]


REFUSED = [
    'FATAL:  password authentication failed for user "site"',
    "FATAL:  Passwort-Authentifizierung für Benutzer »site« fehlgeschlagen",
    "FATAL:  authentification par mot de passe échouée pour l'utilisateur «\xa0site\xa0»",
    'ВАЖНО:  пользователь "site" не прошёл проверку подлинности (по паролю)',
    '致命错误:  用户 "site" Password 认证失败',
    'FATAL:  PAM authentication failed for user "site"',
    "FATAL:  SASL authentication failed",
]
drivers = pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])


@drivers
@pytest.mark.parametrize("said", REFUSED)
def test_refused_password_is_known_in_every_language(said: str, driver: str) -> None:
    assert refuses_login(failed_attempt(WHERE + said, driver))


@pytest.mark.parametrize("said", [REFUSED[0], *REFUSED[5:]])
def test_refused_password_is_known_in_english_where_nothing_else_is(said: str) -> None:
    """A plain pin's connection of psycopg2 is the application's."""
    assert refuses_login(failed_attempt(WHERE + said, "psycopg2", asked=False))


OTHERS = [
    ("FATAL:  the database system is starting up", False),
    ("FATAL:  sorry, too many clients already", False),
    ('FATAL:  no pg_hba.conf entry for host "::1", user "site", database "site", no encryption', False),
    ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", True),
    ("FATAL:  die verbleibenden Verbindungen sind für Rollen mit dem Attribut SUPERUSER reserviert", True),
    ('FATAL:  too many connections for role "site"', True),
    ('FATAL:  too many connections for database "site"', True),
    ('FATAL:  database "site" does not exist', True),
    ('FATAL:  database "site" is not currently accepting connections', True),
    ("FATAL:  no more connections allowed (max_client_conn)", False),
    ("server closed the connection unexpectedly", True),
    ("Connection refused", False),
]


@drivers
@pytest.mark.parametrize("user", ["site", "database", "roles", "localhost"])
@pytest.mark.parametrize(("said", "asked"), OTHERS)
def test_nothing_else_is_taken_for_a_refused_password(said: str, asked: bool, user: str, driver: str) -> None:
    assert not refuses_login(failed_attempt(WHERE + said, driver, user, asked))

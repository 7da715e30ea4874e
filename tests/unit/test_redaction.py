"""No password is ever said: whatever a driver quotes, and whichever of our loggers passes it on."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import pytest

from wsgi_persist import Policy
from wsgi_persist.drivers.errors import first_line
from wsgi_persist.redaction import LOGGERS, redacted

PACKAGE = Path(__file__).parent.parent.parent / "wsgi_persist"

# Connection strings that are not read as they were meant; none of them leads to a server.
MISTAKES: list[dict[str, str]] = [
    {"host": "postgresql://shop:geheim@db.invalid/shop"},
    {"host": "postgresql://shop:ge,heim,x@db.invalid/shop"},
    {"host": "postgresql://shop:ge'im\"heim@db.invalid"},
    {"host": "user=shop password=geheim host=db.invalid"},
    {"host": "password=ge,heim host=db.invalid"},
    {"host": "shop:geheim@db.invalid"},
    {"dsn": "postgresql://shop:a@geheim@db.invalid/shop"},
    {"dsn": "postgresql://shop:geheim/a@127.0.0.1:1/shop"},
    {"dsn": "postgresql://shop:ge heim@db.invalid/shop"},
    {"dsn": "postgresql://shop:geheim%zz@db.invalid/shop"},
    {"dsn": "postgresql://shop:geheim@[::1/shop"},
    {"dsn": "postgresql://shop:x]geheim@[::1]x/shop"},
    {"dsn": "postgresql://shop@db.invalid/shop?password=a&geheim"},
    {"dsn": "host=127.0.0.1 password=a geheim"},
    {"dsn": "host=127.0.0.1 password='a'geheim x"},
]


def refused(module: Any, given: dict[str, str]) -> str:
    with pytest.raises(module.Error) as error:
        module.connect(given["dsn"]) if "dsn" in given else module.connect(**given)
    return str(error.value)


@pytest.mark.parametrize("module", [psycopg, psycopg2], ids=["psycopg", "psycopg2"])
@pytest.mark.parametrize("given", MISTAKES, ids=lambda given: next(iter(given.values())))
def test_connection_string_in_the_words_of_a_driver(module: Any, given: dict[str, str]) -> None:
    said = refused(module, given)
    assert "heim" not in redacted(said)
    assert "heim" not in first_line(Exception(said))


def test_mistakes_are_really_quoted() -> None:
    """Of both drivers nearly all; else the test before this one would prove little."""
    said = [refused(module, given) for module in (psycopg, psycopg2) for given in MISTAKES]
    assert sum("heim" in text for text in said) >= 2 * len(MISTAKES) - 4


@pytest.mark.parametrize(
    "text",
    [
        "{'NAME': 'shop', 'PASSWORD': 'geheim', 'HOST': ''}",
        "ALTER ROLE shop PASSWORD 'ge''heim'",
        "pin: \"ALTER ROLE shop ENCRYPTED PASSWORD 'gehei",
        "'SET shop.password TO \\'geheim\\''",
        "SELECT set_config('shop.password', 'geheim', false)",
        "CREATE USER MAPPING FOR shop SERVER s OPTIONS (user 'shop', password $$geheim$$)",
        "SELECT dblink_connect('host=h password=geheim')",
        "postgresql://shop@db/shop?sslpassword=geheim&passfile=/a",
        "PGPASSWORD=geheim",
        "oauth_client_secret=geheim",
        "password=ge\\ heim",
        "ValueError: Port could not be cast to integer value as 'geheim' (/srv/shop/wsgi.py, line 3)\nmore",
        "invalid literal for int() with base 10: 'geheim@db'",
        "ValueError: netloc 'geheim' contains invalid characters under NFKC normalization",
        "'geheim' does not appear to be an IPv4 or IPv6 address",
        'psycopg.connect("postgresql://shop:geheim@db/shop")',
        "All attempts failed:\n- host: 'shop:geheim', port: '1'\n- host: 'shop:a@b', port: '1'",
    ],
)
def test_password_elsewhere(text: str) -> None:
    found = redacted(text)
    assert "***" in found
    assert "gehei" not in found
    assert "heim" not in found


@pytest.mark.parametrize(
    "text",
    [
        'password authentication failed for user "shop@server"',
        "fe_sendauth: no password supplied",
        'could not translate host name "db.example.org" to address: Name or service not known',
        'connection to server at "db.example.org" (10.0.0.1), port 5432 failed: Connection refused',
        "GET '/password/reset/' is answered 503: its connection was lost",
        "passfile=/srv/shop/.pgpass",
        'invalid connection option "sslmod"',
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redacted(text) == text


def test_what_is_no_host_hides_hosts_only() -> None:
    said = 'could not translate host name "postgresql://shop:geheim@db" to address: Name or service not known'
    assert redacted(said) == "could not translate host name *** to address: Name or service not known"


# ##### The log #####


def test_every_logger_of_the_package_redacts() -> None:
    names = [
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'getLogger\("wsgi_persist\.(\w+)"\)', path.read_text())
    ]
    assert set(names) == set(LOGGERS)
    assert sum(path.read_text().count("getLogger(") for path in PACKAGE.rglob("*.py")) == len(names) + 1


def logged(name: str, *args: Any, **kwargs: Any) -> str:
    """What an ordinary handler writes."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logger = logging.getLogger(f"wsgi_persist.{name}")
    logger.addHandler(handler)
    try:
        logger.error(*args, **kwargs)
    finally:
        logger.removeHandler(handler)
    return written.getvalue()


@pytest.mark.parametrize("name", LOGGERS)
def test_line_of_the_log(name: str) -> None:
    text = 'invalid percent-encoded token: "geheim"'
    assert logged(name, "pin %r: %s", "x", text) == "pin 'x': invalid percent-encoded token: ***\n"
    assert logged(name, "pin %r: %s", "x", "geheim") == "pin 'x': geheim\n"


def test_traceback_in_the_log() -> None:
    try:
        try:
            raise psycopg.OperationalError("failed to resolve host 'shop:geheim@db': unknown")
        except psycopg.Error as error:
            raise RuntimeError("no page") from error
    except RuntimeError as error:
        written = logged("answer", "%s is answered 503", "GET '/'", exc_info=error)
    assert "heim" not in written
    assert "OperationalError: failed to resolve host ***: unknown" in written
    assert written.startswith("GET '/' is answered 503\nTraceback (most recent call last):\n")
    assert written.endswith("RuntimeError: no page\n")


def test_traceback_without_a_password_stays_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    error = RuntimeError("no page")
    logged("answer", "answered 503", exc_info=error)
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


def test_source_line_hides_no_exception(caplog: pytest.LogCaptureFixture) -> None:
    def authenticate(password: str) -> None:
        raise RuntimeError('no page of host "db.example"')

    try:
        authenticate(password="geheim")
    except RuntimeError as error:
        written = logged("answer", "answered 503", exc_info=error)
    assert "geheim" not in written
    assert 'no page of host "db.example"' in written
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("sign", ["", " does not appear to be an IP", "password=", "host "])
def test_long_line_is_cut_before_it_is_searched(sign: str) -> None:
    """A visitor chooses what it holds; the time for it must not grow with the square of its length."""
    text = redacted(f"GET '/{chr(39) * 200_000}' {sign}{chr(34) * 200_000}{sign}")
    assert len(text) in ((400_008,) if not sign else range(1, 1_100))


def test_message_that_cannot_be_read_is_no_error() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("of no use")

    assert logged("pin", "%s", Broken()) == "a message could not be read: ValueError\n"


# ##### Errors #####


@pytest.mark.parametrize("given", ["password=geheim", {"application_name": "password=geheim\n"}])
def test_options_that_are_refused(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\*\*\* is not allowed: give") as error:
        Policy.from_mapping(given)
    assert "geheim" not in str(error.value)


# ##### A whole site #####

# As a worker: the script is loaded and warmed up, then a request comes in.
WORKER = """\
import sys
from wsgiref.util import setup_testing_defaults
from wsgi_persist import PersistMiddleware, Policy
from tests.site import wsgi
application = PersistMiddleware(wsgi.application, policy=Policy(prewarm=True))
environ = {"PATH_INFO": "/pid/"}
setup_testing_defaults(environ)
environ["wsgi.multithread"] = False
response = application(environ, lambda *answer: sys.stdout.write(str(answer)))
sys.stdout.write(b"".join(response).decode())
response.close()
"""


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize(
    "host", ["postgresql://shop:geheim@db.invalid/shop", "password=geheim host=db.invalid"]
)
def test_site_whose_host_is_a_connection_string(driver: str, host: str) -> None:
    """Nothing in its log or its answer; both do speak of the loss."""
    given = {"SITE_DRIVER": driver, "SITE_HOST": host, "SITE_PORT": "1", "SITE_MIDDLEWARE": "none"}
    policy = {"OPTIONS": {"persist": {"reconnect_deadline": 0}}}
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        env={**os.environ, **given, "PYTHONPATH": str(PACKAGE.parent), "SITE_DATABASE": json.dumps(policy)},
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "not opened at start" in done.stderr
    assert "answered 503" in done.stderr
    assert "503 Service Unavailable" in done.stdout
    assert "geheim" not in done.stdout + done.stderr
    assert "***" in done.stderr

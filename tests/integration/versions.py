"""What an environment of the matrix really runs on. Only tox names this file; nothing else collects it."""

from __future__ import annotations

import os
import platform
import sys

import django
import pytest

from tests.conftest import Server

BACKEND = "wsgi_persist.backends.postgresql.base"
DRIVERS = {"psycopg2": "psycopg2", "binary": "psycopg", "c": "psycopgc"}


def test_versions(django_site: None, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """The name put together from what runs is the one that was asked for."""
    from django.db import connections

    connection = connections["default"]
    assert type(connection).__module__ == BACKEND
    driver = connection.Database
    made = driver.pq.__impl__ if driver.__name__ == "psycopg" else "psycopg2"
    ((postgres,),) = server("SHOW server_version")
    running = [
        "py{}{}".format(*sys.version_info),
        "django{}{}".format(*django.VERSION),
        DRIVERS[made],
        f"pg{postgres.split('.')[0]}",
    ]
    with capsys.disabled():
        versions = [
            f"Python {platform.python_version()}",
            f"Django {django.get_version()}",
            f"{driver.__name__} {driver.__version__.split()[0]}{'' if made == 'psycopg2' else f' ({made})'}",
            f"PostgreSQL {postgres.split()[0]}",
        ]
        print(f"\nversions: {', '.join(versions)}")
    assert os.environ["ENVIRONMENT"].split("-")[:4] == running


def test_postgis(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the server, where the environment is about it."""
    asked = "postgis" in os.environ["ENVIRONMENT"].split("-")
    available = server("SELECT default_version FROM pg_available_extensions WHERE name = 'postgis'")
    assert available or not asked
    with capsys.disabled():
        print("\n" + "".join(f"versions: PostGIS {version}" for (version,) in available if asked))

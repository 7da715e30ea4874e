"""``manage.py check`` really shows our system checks, and what their hints say silences them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import django
import pytest
from django.core.exceptions import ImproperlyConfigured

from tests.conftest import DRIVER, Server, or_skip, site_environment
from tests.faults.pgbouncer import PgBouncer
from tests.integration.test_backend import ROOT
from tools.postgres import free_port
from wsgi_persist.backends.options import policy_of

# A model without a db_table makes Django load the ENGINE of the default alias, before any check.
WITH_MODELS = {"INSTALLED_APPS": ["django.contrib.auth", "django.contrib.contenttypes"]}
WITHOUT_MODELS = {"INSTALLED_APPS": ["wsgi_persist.backends"]}


class Message(NamedTuple):
    id: str
    text: str
    hint: str


class Site:
    """The tests' site with settings of the test's own, as a module that hints can be pasted to."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.pasted: list[str] = []

    def check(
        self,
        *arguments: str,
        database: dict[str, Any] | None = None,
        aliases: dict[str, dict[str, Any]] | None = None,
        settings: dict[str, Any] = WITH_MODELS,
        **environment: str,
    ) -> list[Message]:
        """What ``manage.py check --deploy --database default`` finds, ours only."""
        lines = ["from tests.site.settings import *", *self.pasted]
        (self.folder / "pasted.py").write_text("\n".join(lines))
        given = site_environment(
            self.server.cluster,
            SITE_DATABASE=json.dumps(database or {}),
            SITE_ALIASES=json.dumps(aliases or {}),
            SITE_SETTINGS=json.dumps(settings),
            PYTHONPATH=f"{ROOT}{os.pathsep}{self.folder}",
            DJANGO_SETTINGS_MODULE="pasted",
            **environment,
        )
        options = arguments or ("--deploy", "--database", "default")
        done = subprocess.run(
            [sys.executable, "-m", "django", "check", *options],
            env={**os.environ, **given},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "System check identified" in done.stdout + done.stderr, done.stderr
        found = re.findall(r"\((wsgi_persist\.\w+)\) (.*)\n\tHINT: (.*)", done.stderr)
        return [Message(*each) for each in found]


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Site:
    return Site(server, tmp_path)


def options(**persist: Any) -> dict[str, Any]:
    return {"OPTIONS": {"persist": persist}}


def pooled(**options: Any) -> dict[str, Any]:
    return {"DISABLE_SERVER_SIDE_CURSORS": True, "OPTIONS": options}


def test_a_good_site_is_silent(site: Site) -> None:
    assert site.check() == []
    assert site.check(database={"CONN_MAX_AGE": 600}, PERSIST_PROCESSES="97") == []
    assert site.check(database={"CONN_MAX_AGE": None, **options(max_age=None)}) == []


@pytest.mark.parametrize("apps", [[], ["wsgi_persist.backends"], WITH_MODELS["INSTALLED_APPS"]])
def test_an_alias_is_checked_once_by_whatever_door(apps: list[str], site: Site) -> None:
    """Without a model nobody loads the ENGINE before the checks, and --database does when they run."""
    found = site.check(
        "--database", "default", database={"CONN_HEALTH_CHECKS": True}, settings={"INSTALLED_APPS": apps}
    )
    assert [each.id for each in found] == ["wsgi_persist.W004"]


ANOTHER = "DATABASES['another']"


@pytest.mark.parametrize(
    ("id", "another", "environment", "text"),
    [
        ("E001", options(max_age=-1), {}, "['OPTIONS']['persist']: max_age=-1 is not allowed: give seconds"),
        ("E001", options(max_agee=1), {}, "['OPTIONS']['persist']: 'max_agee' is not an option"),
        ("E001", options(watches=1), {}, "['OPTIONS']['persist']: 'watches' is not an option"),
        (
            "E001",
            {"OPTIONS": {"persist": ["x"]}},
            {},
            "['OPTIONS']['persist']: ['x'] is not allowed: give a dict",
        ),
        ("E001", {"CONN_MAX_AGE": -5}, {}, "['CONN_MAX_AGE'], which serves as max_age: max_age=-5 is not"),
        ("E002", {"OPTIONS": {"pool": True}}, {}, "['OPTIONS']['pool'] cannot stand beside wsgi_persist"),
        ("E003", options(scope="process"), {"PERSIST_THREADS": "4"}, "but the server has 4 threads"),
        (
            "E003",
            options(scope="process"),
            {"GUNICORN_CMD_ARGS": "-w 2 --threads=2"},
            "but the server has 2 threads",
        ),
        (
            "W003",
            {"CONN_MAX_AGE": None},
            {},
            "['CONN_MAX_AGE'] = None means nothing within requests: there max",
        ),
        ("W003", {"CONN_MAX_AGE": 60, **options(max_age=90)}, {}, "there max_age = 90 counts"),
        ("W004", {"CONN_HEALTH_CHECKS": True}, {}, "['CONN_HEALTH_CHECKS'] = True means nothing within"),
        ("W005", options(pooler="transaction"), {}, "where QuerySet.iterator() loses its server-side cursor"),
        ("W015", pooled(options="-c work_mem=8MB"), {}, "['OPTIONS']['options'] is refused by PgBouncer"),
        ("E007", pooled(assume_role="reader"), {}, "it stays in a session that serves others next"),
        (
            "W014",
            pooled(persist={"reset": "always"}),
            {},
            "['persist']['reset'] = 'always' means nothing behind a pooler in transaction mode",
        ),
        ("W013", {"HOST": "db1,db2"}, {}, "no target_session_attrs says which of them is meant"),
        (
            "W013",
            {"HOST": "", "OPTIONS": {"host": "db1,db2"}},
            {},
            "['OPTIONS']['host'] names several hosts",
        ),
        (
            "W013",
            {"HOST": "db1,db2", "OPTIONS": {"target_session_attrs": "any"}},
            {},
            "after a switchover, writes meet a standby",
        ),
    ],
)
def test_wrong_settings_are_told_and_the_hint_mends_them(
    id: str, another: dict[str, Any], environment: dict[str, str], text: str, site: Site
) -> None:
    (found,) = site.check("--deploy", aliases={"another": another}, settings=WITHOUT_MODELS, **environment)
    assert found.id == f"wsgi_persist.{id}"
    assert found.text.startswith(ANOTHER)
    assert text in found.text
    assert found.hint.startswith((ANOTHER, f"del {ANOTHER}"))
    site.pasted.append(found.hint)
    assert site.check("--deploy", aliases={"another": another}, **environment) == []


def test_several_hosts_with_a_choice(site: Site) -> None:
    several = {"HOST": "db1,db2"}
    chosen = {**several, "OPTIONS": {"target_session_attrs": "prefer-standby"}}
    assert site.check("--deploy", aliases={"another": chosen}) == []
    assert site.check("--deploy", aliases={"another": several}, PGTARGETSESSIONATTRS="read-write") == []


@pytest.mark.parametrize("alias", ["default", "another"])
def test_wrong_settings_of_a_site_with_models_are_told_or_refused(alias: str, site: Site) -> None:
    """Django's checks make the wrappers of the aliases that its models need, which refuse them."""
    wrong = options(max_age=-1)
    given: dict[str, Any] = {"database": wrong} if alias == "default" else {"aliases": {"another": wrong}}
    try:
        (found,) = site.check("--deploy", **given)
    except AssertionError as stopped:
        assert alias == "default" or django.VERSION >= (6, 1)
        told = str(stopped)
        assert "ImproperlyConfigured" in told
    else:
        told = found.text
    assert f"DATABASES[{alias!r}]['OPTIONS']['persist']: max_age=-1 is not allowed" in told


@pytest.mark.parametrize("arguments", [["--deploy"], ["--verbosity=1"], ["--database", "another"]])
def test_settings_are_told_once_whatever_is_asked(arguments: list[str], site: Site) -> None:
    found = site.check(*arguments, aliases={"another": {"CONN_HEALTH_CHECKS": True}})
    assert [each.id for each in found] == ["wsgi_persist.W004"]


def test_each_wrong_option_has_its_message(site: Site) -> None:
    another = options(max_age=-1, scope="worker", nonsense=1, idle_check=5)
    found = site.check("--deploy", aliases={"another": another}, settings=WITHOUT_MODELS)
    assert {each.id for each in found} == {"wsgi_persist.E001"}
    assert sorted(each.hint for each in found) == [
        f"{ANOTHER}['OPTIONS']['persist']['max_age'] = 3600.0",
        f"{ANOTHER}['OPTIONS']['persist']['scope'] = 'auto'",
        f"del {ANOTHER}['OPTIONS']['persist']['nonsense']",
    ]


@pytest.mark.skipif(DRIVER != "psycopg", reason="psycopg2 prepares nothing")
def test_prepared_statements_behind_a_pooler(site: Site) -> None:
    another = {
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"prepare_threshold": 5},
    }
    (found,) = site.check("--deploy", aliases={"another": another})
    assert found.id == "wsgi_persist.W006"
    site.pasted.append(found.hint)
    assert site.check("--deploy", aliases={"another": another}) == []


def test_numbers_of_workers_that_are_none(site: Site) -> None:
    (found,) = site.check(PERSIST_PROCESSES="many")
    assert found == (
        "wsgi_persist.E005",
        "PERSIST_PROCESSES='many' in the environment is not allowed: give a whole number from 1.",
        "export PERSIST_PROCESSES=1",
    )


# ##### The WSGI application #####

STOCK = "django.db.backends.postgresql"


def test_engine_without_middleware(site: Site) -> None:
    settings = {**WITH_MODELS, "WSGI_APPLICATION": "plain_wsgi.application"}
    source = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
    (site.folder / "plain_wsgi.py").write_text(source)
    (found,) = site.check(settings=settings)
    assert found.id == "wsgi_persist.W001"
    assert found.text.startswith(
        "DATABASES['default']: nothing is kept, as 'plain_wsgi.application' is not wrap"
    )
    assert site.check("--database", "default", settings=settings) == []
    (site.folder / "plain_wsgi.py").write_text(f"{source}{found.hint}\n")
    assert site.check(settings=settings) == []
    # Another middleware around ours hides nothing.
    outer = "inner = application\ndef application(*args): return inner(*args)\n"
    (site.folder / "plain_wsgi.py").write_text(f"{source}{found.hint}\n{outer}")
    assert site.check(settings=settings) == []


def test_application_that_cannot_be_imported(site: Site) -> None:
    (found,) = site.check(settings={**WITH_MODELS, "WSGI_APPLICATION": "gone.application"})
    assert found.id == "wsgi_persist.W001"
    assert "cannot be imported: No module named 'gone'" in found.text


def test_application_that_ends_the_process(site: Site) -> None:
    (site.folder / "ends.py").write_text("raise SystemExit(0)\n")
    (found,) = site.check(settings={**WITH_MODELS, "WSGI_APPLICATION": "ends.application"})
    assert found.id == "wsgi_persist.W001"


def test_without_wsgi_application_nothing_is_known(site: Site) -> None:
    assert site.check(settings={**WITH_MODELS, "WSGI_APPLICATION": None}) == []


def test_middleware_without_engine(site: Site) -> None:
    settings = {**WITH_MODELS, "INSTALLED_APPS": ["wsgi_persist.backends"]}
    (found,) = site.check(settings=settings, SITE_ENGINE=STOCK)
    assert found.id == "wsgi_persist.W002"
    site.pasted.append(found.hint)
    assert site.check(settings=settings, SITE_ENGINE=STOCK) == []


WHEEL = {"psycopg": "psycopg-binary", "psycopg2": "psycopg2-binary"}[DRIVER]


def has_wheel() -> bool:
    return any(found.metadata["Name"] == WHEEL for found in distributions())


@pytest.mark.skipif(not has_wheel(), reason=f"{WHEEL} is not installed, which brings an OpenSSL")
def test_openssl_of_the_driver_beside_apaches(site: Site) -> None:
    enabled = site.folder / "ssl.load"
    site.pasted = [
        "from wsgi_persist.backends.checks import deployment",
        f"deployment.MOD_SSL = {str(enabled)!r}",
    ]
    assert site.check() == []
    enabled.touch()
    (found,) = site.check()
    assert found.id == "wsgi_persist.W010"
    assert found.hint.startswith(f"pip uninstall -y {WHEEL} && pip install ")
    assert site.check("--database", "default") == []


def test_more_aliases_than_are_kept(site: Site) -> None:
    aliases = {f"tenant{number}": {} for number in range(8)}
    (found,) = site.check(aliases=aliases)
    assert found.id == "wsgi_persist.W011"
    assert found.text.startswith(
        "9 aliases of DATABASES have our ENGINE, and 8 of their connections (max_pins) are kept"
    )
    site.pasted.append(found.hint)
    assert site.check(aliases=aliases) == []


PERSIST = "DATABASES['default']['OPTIONS']['persist']"


@pytest.mark.parametrize(
    ("given", "id", "why"),
    [
        ({}, "wsgi_persist.W016", "that wrote outside of atomic()"),
        ({"ATOMIC_REQUESTS": True, "commit_outcome": False}, "wsgi_persist.W017", "whose COMMIT was lost"),
        ({"ATOMIC_REQUESTS": True, "transactions": "stock"}, "wsgi_persist.W017", "whose COMMIT was lost"),
    ],
)
def test_requests_that_are_never_run_again(given: dict[str, Any], id: str, why: str, site: Site) -> None:
    is_atomic = given.pop("ATOMIC_REQUESTS", False)
    everything = {"ATOMIC_REQUESTS": is_atomic, **options(replay_requests="all", **given)}
    (found,) = site.check(database=everything)
    assert found.id == id
    assert found.text.startswith(f"{PERSIST}['replay_requests'] = 'all' runs no request again {why}")
    site.pasted.append(found.hint)
    assert site.check(database=everything) == []


def test_lazy_where_it_means_nothing(site: Site) -> None:
    lazy = {"persist": {"transactions": "lazy"}}
    assert site.check(database={"OPTIONS": lazy}) == []
    for given, what in [
        ({"OPTIONS": {**lazy, "isolation_level": 3}}, "the isolation level is above READ COMMITTED"),
        ({"OPTIONS": lazy, "AUTOCOMMIT": False}, "AUTOCOMMIT is off"),
    ]:
        (found,) = site.check(database=given)
        assert found == (
            "wsgi_persist.W012",
            "DATABASES['default']['OPTIONS']['persist']['transactions'] = 'lazy' means nothing where "
            f"{what}: each transaction begins with its first statement.",
            "DATABASES['default']['OPTIONS']['persist']['transactions'] = 'folded'",
        )


# ##### The server #####


def test_more_workers_than_connections(site: Site) -> None:
    assert site.server("SHOW max_connections") == [("100",)]
    (found,) = site.check(WEB_CONCURRENCY="98")
    assert found == (
        "wsgi_persist.W007",
        "DATABASES['default']: 98 processes with 1 threads keep 98 connections (default), but the server "
        "has 97 for them: max_connections = 100, 3 of them reserved.",
        "ALTER SYSTEM SET max_connections = 101;",
    )
    both = {"archive": {"name": "second"}}
    (found,) = site.check(aliases=both, PERSIST_PROCESSES="25", PERSIST_THREADS="2")
    assert "25 processes with 2 threads keep 100 connections (default, archive)" in found.text
    assert site.check(aliases=both, PERSIST_PROCESSES="24", PERSIST_THREADS="2") == []
    assert site.check("--deploy", PERSIST_PROCESSES="98") == []  # the server is not asked


def test_server_that_is_down(site: Site) -> None:
    (found,) = site.check(database={"HOST": "127.0.0.1", "PORT": free_port()})
    assert found.id == "wsgi_persist.W008"
    assert "Connection refused" in found.text


def test_more_workers_than_the_role_may_have(site: Site) -> None:
    site.server("CREATE ROLE limited LOGIN CONNECTION LIMIT 4")
    try:
        archive = {"archive": {"name": "second", "USER": "limited"}}
        given = {"database": {"USER": "limited"}, "aliases": archive}
        (found,) = site.check(**given, PERSIST_PROCESSES="3")
        assert found == (
            "wsgi_persist.W007",
            "DATABASES['default']: 3 processes with 1 threads keep 6 connections (default, archive), but the "
            "role limited may have 4.",
            'ALTER ROLE "limited" CONNECTION LIMIT 6;',
        )
        assert site.check(aliases=archive, PERSIST_PROCESSES="4") == []
        site.server(found.hint)
        assert site.check(**given, PERSIST_PROCESSES="3") == []
    finally:
        site.server("DROP ROLE limited")


@pytest.mark.parametrize(
    "host",
    [
        "postgresql://shop:geheim@127.0.0.1/shop",
        "postgresql://shop:ge,heim@127.0.0.1/shop",
        "user=shop password=geheim host=127.0.0.1",
        "host=127.0.0.1 password=ge,heim",
        "shop:geheim@127.0.0.1",
    ],
)
def test_connection_string_for_a_host(host: str, site: Site) -> None:
    (found,) = site.check(database={"HOST": host})
    assert found.id == "wsgi_persist.W008"
    assert found.text.endswith("its HOST is a connection string, and has to be the name of a host")
    assert "heim" not in str(found)


def test_password_in_the_words_of_others(site: Site) -> None:
    (found,) = site.check(database={"PORT": "geheim"})
    assert found.id == "wsgi_persist.W008"
    assert 'invalid integer value *** for connection option "port"' in found.text
    (site.folder / "broken.py").write_text("raise ValueError('postgresql://shop:geheim@db/shop')\n")
    (found,) = site.check("--deploy", settings={**WITH_MODELS, "WSGI_APPLICATION": "broken.application"})
    assert found.id == "wsgi_persist.W001"
    assert "cannot be imported: postgresql://shop:***@db/shop" in found.text
    wrong = {"another": {"OPTIONS": {"persist": "password=geheim"}}}
    (found,) = site.check("--deploy", aliases=wrong, settings=WITHOUT_MODELS)
    assert found.id == "wsgi_persist.E001"
    assert "password=*** is not allowed: give a dictionary" in found.text


def test_options_that_are_a_connection_string() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'OPTIONS'\]='password=\*\*\* is not allowed") as error:
        policy_of("default", {"OPTIONS": "password=geheim"})
    assert "geheim" not in str(error.value)


def test_django_that_is_too_old(site: Site) -> None:
    """As in a virtual environment that takes Debian 13's; another cannot be imported beside this one."""
    site.pasted = ["import django", "django.VERSION = (4, 2, 23, 'final', 0)"]
    (found,) = site.check(database={"DISABLE_SERVER_SIDE_CURSORS": False})
    assert (found.id, found.hint) == ("wsgi_persist.E006", "pip install 'Django>=5.2'")
    assert found.text == "Django 4.2.23 is not supported by wsgi_persist: 5.2 or later is."


def test_database_without_a_name(site: Site) -> None:
    (found,) = site.check(database={"NAME": ""})
    assert found.id == "wsgi_persist.W008"
    assert "Please supply the NAME" in found.text


def test_pooler_that_is_none(site: Site) -> None:
    for database in ({"DISABLE_SERVER_SIDE_CURSORS": True}, options(pooler="transaction")):
        found = site.check(database={"DISABLE_SERVER_SIDE_CURSORS": True, **database})
        assert [each.id for each in found] == ["wsgi_persist.W009"]
        site.pasted = [found[0].hint]
        assert site.check(database={"DISABLE_SERVER_SIDE_CURSORS": True, **database}) == []
        site.pasted.clear()


def test_pgbouncer_in_transaction_mode(site: Site) -> None:
    with or_skip(), PgBouncer(site.server.cluster, "transaction") as pooler:
        address = {"HOST": "127.0.0.1", "PORT": pooler.port}
        for persist in ({}, {"pooler": "session"}):
            found = site.check(database={**address, **options(**persist)})
            assert [each.id for each in found] == ["wsgi_persist.E004"]
            site.pasted = [found[0].hint]
            again = site.check(database={**address, **options(**persist)})
            assert {each.id for each in again} <= {"wsgi_persist.W005"}
            site.pasted += [each.hint for each in again]
            assert site.check(database={**address, **options(**persist)}, PERSIST_PROCESSES="500") == []
            site.pasted.clear()


def test_pgbouncer_in_session_mode(site: Site) -> None:
    with or_skip(), PgBouncer(site.server.cluster, "session") as pooler:
        assert site.check(database={"HOST": "127.0.0.1", "PORT": pooler.port}) == []

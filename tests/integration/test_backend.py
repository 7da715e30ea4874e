"""The shim as a Django backend: settings, subclasses, PostGIS, and what it adds to a connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DRIVER, Server, site_environment

ROOT = Path(__file__).parent.parent.parent


def run_django(server: Server, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, after ``django.setup()``."""
    given = {**os.environ, **site_environment(server.cluster, **{"SITE_ALIASES": "{}", **environment})}
    program = f"import django; django.setup()\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program], env=given, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ({"OPTIONS": {"persist": {"max_agee": 1}}}, "'max_agee' is not an option"),
        ({"OPTIONS": {"persist": {"max_age": -1}}}, "max_age=-1 is not allowed: give seconds as a number"),
        ({"OPTIONS": {"persist": {"scope": "worker"}}}, "scope='worker' is not allowed: give one of 'auto'"),
        ({"OPTIONS": {"persist": ["scope"]}}, "['scope'] is not allowed: give a dictionary of options"),
        ({"OPTIONS": {"persist": None}}, "None is not allowed: give a dictionary of options"),
        ({"OPTIONS": {"persist": {}, "pool": True}}, "OPTIONS['pool'] cannot stand beside wsgi_persist"),
        ({"CONN_MAX_AGE": -5}, "max_age=-5 is not allowed"),
        ({"OPTIONS": ["persist"]}, "['OPTIONS']=['persist'] is not allowed: give a dictionary"),
    ],
)
@pytest.mark.parametrize("moment", ["wrapper", "middleware", "manage.py check"])
def test_wrong_options_are_refused_early(
    database: dict[str, Any], message: str, moment: str, server: Server
) -> None:
    check = "from django.core.management import call_command; call_command('check', databases=['default'])"
    code = {
        "wrapper": "from django.db import connections; connections['default']",
        "middleware": "import tests.site.wsgi",
        "manage.py check": check,
    }
    done = run_django(server, code[moment], SITE_DATABASE=json.dumps(database))
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: DATABASES['default']")
    assert message in last


def test_contradicting_scopes_of_aliases_are_refused(server: Server) -> None:
    aliases = {name: {"OPTIONS": {"persist": {"scope": name}}} for name in ("process", "thread")}
    done = run_django(server, "import tests.site.wsgi", SITE_ALIASES=json.dumps(aliases))
    assert (
        "one scope for all is needed, but these were given: 'process': 'process', 'thread': 'thread'"
        in done.stderr
    )


def test_conn_max_age_serves_where_max_age_is_not_given(server: Server) -> None:
    code = "from django.db import connection; print(connection.persist_policy.max_age)"
    for database, wanted in [
        ({"CONN_MAX_AGE": 60}, "60"),
        ({"CONN_MAX_AGE": 60, "OPTIONS": {"persist": {"max_age": 1800}}}, "1800"),
        ({"CONN_MAX_AGE": 60, "OPTIONS": {"persist": {"max_age": None}}}, "None"),
        ({"CONN_MAX_AGE": 0}, "3600.0"),
        ({"CONN_MAX_AGE": None}, "3600.0"),
    ]:
        done = run_django(server, code, SITE_DATABASE=json.dumps(database))
        assert (done.stdout.strip(), done.stderr) == (wanted, "")


IN_A_REQUEST = """
from webtest import TestApp
from tests.site.wsgi import application
from django.db import connection
client = TestApp(application, extra_environ={"wsgi.multithread": False})
assert client.get("/pid/").text == client.get("/pid/").text
from wsgi_persist.worker.registry import process_scope
scope = process_scope()
"""


def test_connection_defaults_inside_a_request_and_stock_outside(server: Server) -> None:
    code = f"""{IN_A_REQUEST}
import json
stock = connection.get_connection_params()
boundary = scope.enter({{}})
connection._pin = scope.pins["default"]
pinned = connection.get_connection_params()
connection._pin = None
boundary.leave()
print(json.dumps([sorted(set(pinned) - set(stock)), sorted(stock)]))
"""
    given = {"OPTIONS": {"persist": {"network_timeout": 9}, "connect_timeout": 7}}
    done = run_django(server, code, SITE_DATABASE=json.dumps(given))
    added, stock = json.loads(done.stdout)
    factory = ["connection_factory"] if DRIVER == "psycopg2" else []  # whose cursors are watched
    assert added == [
        "application_name",
        *factory,
        *("keepalives", "keepalives_count", "keepalives_idle"),
        *("keepalives_interval", "tcp_user_timeout"),
    ]
    assert "connect_timeout" in stock
    assert "persist" not in stock


def test_timeouts_are_really_set_over_tcp(server: Server) -> None:
    code = f"""{IN_A_REQUEST}
import os, socket
sock = socket.socket(fileno=os.dup(scope.pins["default"].fd))
read = lambda level, option: sock.getsockopt(level, option)
print(read(socket.SOL_SOCKET, socket.SO_KEEPALIVE), read(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
      read(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
"""
    done = run_django(server, code, SITE_DATABASE='{"HOST": "127.0.0.1"}')
    assert done.stdout.split() == ["1", "3", "6000"], done.stderr


SUBCLASS = """
from wsgi_persist.backends.postgresql import base

class DatabaseWrapper(base.DatabaseWrapper):
    forgotten = 0

    def close(self):
        type(self).forgotten += 1
        super().close()
"""


def test_subclass_as_engine(server: Server, tmp_path: Path) -> None:
    (tmp_path / "myengine").mkdir()
    (tmp_path / "myengine" / "base.py").write_text(SUBCLASS)
    code = f"""import sys; sys.path.insert(0, {str(tmp_path)!r})
{IN_A_REQUEST}
before = connection.forgotten
client.get("/pid/")
print(connection.forgotten - before, scope.pins["default"].opened)
"""
    done = run_django(server, code, SITE_ENGINE="myengine")
    assert done.stdout.split() == ["1", "1"], done.stderr


POSTGIS = f"""{IN_A_REQUEST}
from django.contrib.gis.db.backends.postgis.base import DatabaseWrapper
from django.db import connections
assert isinstance(connections["default"], DatabaseWrapper)
print(scope.pins["default"].opened, scope.pins["default"].leases)
"""


needs_gdal = pytest.mark.skipif(
    find_library("gdal") is None, reason="GeoDjango needs the GDAL library on the machine"
)


@needs_gdal
def test_postgis(server: Server) -> None:
    done = run_django(server, POSTGIS, SITE_ENGINE="wsgi_persist.backends.postgis")
    assert done.stdout.split() == ["1", "2"], done.stderr


MODULES = """
import importlib, pkgutil
theirs, ours = {theirs!r}, {ours!r}
modules = [found.name for found in pkgutil.iter_modules(importlib.import_module(theirs).__path__)]
modules.remove("base")
importlib.import_module(f"{{ours}}.base")  # as Django does first; 6.1 cannot do without
for name in modules:
    their, our = (importlib.import_module(f"{{engine}}.{{name}}") for engine in (theirs, ours))
    public = getattr(their, "__all__", [name for name in vars(their) if not name.startswith("_")])
    assert public
    assert all(getattr(our, name) is getattr(their, name) for name in public), name
print(*modules)
"""
GEO = "django.contrib.gis.db.backends.postgis"
ENGINES = [
    pytest.param("django.db.backends.postgresql", "wsgi_persist.backends.postgresql", id="postgresql"),
    pytest.param(GEO, "wsgi_persist.backends.postgis", id="postgis", marks=needs_gdal),
]


@pytest.mark.parametrize(("theirs", "ours"), ENGINES)
def test_has_the_modules_of_djangos_engine(theirs: str, ours: str, server: Server) -> None:
    """Tools import them by the engine's name."""
    done = run_django(server, MODULES.format(theirs=theirs, ours=ours), SITE_ENGINE=ours)
    assert {"introspection", "operations", "schema", "features"} <= set(done.stdout.split()), done.stderr


def test_block_left_open_is_over_with_its_request(server: Server) -> None:
    """A view that never leaves its block must not have what comes after, outside of requests, wait for it."""
    code = """
from django.db import connection, transaction
from wsgi_persist.worker.registry import process_scope
boundary = process_scope().enter({})
transaction.atomic().__enter__()
transaction.on_commit(lambda: print("of the block"))
boundary.leave()
print(connection.in_atomic_block)
transaction.on_commit(lambda: print("at once"))
"""
    done = run_django(server, code)
    assert done.stdout.splitlines() == ["False", "at once"], done.stderr

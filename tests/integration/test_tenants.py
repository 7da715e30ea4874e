"""django-tenants on top of the shim: its backend remembers the search_path that it set."""

from __future__ import annotations

import json

import pytest

from tests.conftest import DRIVER, Server
from tests.integration.test_backend import run_django
from tests.integration.test_tracing import require
from tests.traced import TOOLS

SETTINGS = {
    "ORIGINAL_BACKEND": "wsgi_persist.backends.postgresql",
    "INSTALLED_APPS": ["django.contrib.contenttypes"],
    "TENANT_LIMIT_SET_CALLS": True,
}
PROGRAM = """
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from tests.site import views
from tests.site.urls import urlpatterns
from tests.site.wsgi import application
from webtest import TestApp

def notes(request):
    # as its middleware does for every request
    connection.set_schema_to_public()
    if schema := request.GET.get("schema"):
        connection.set_schema(schema, include_public=False)
    return HttpResponse(str(views.scalar("SELECT note FROM entry")))

urlpatterns.append(path("notes/", notes))
client = TestApp(application, extra_environ={"wsgi.multithread": False})
seen = []
for schema in ["one", "two", "one", None, "two", None]:
    seen.append(client.get("/notes/?schema=" + schema if schema else "/notes/").text)
print(*seen)
from wsgi_persist.worker.registry import process_scope
print(process_scope().pins["default"].opened)
"""

LATE = """
from django.db import connection
from django.http import StreamingHttpResponse
from django.urls import path
from tests.late import Late
from tests.site import views
from tests.site.urls import urlpatterns
from tests.site.wsgi import application

def notes(request):
    connection.set_schema(request.GET["schema"], include_public=False)
    return StreamingHttpResponse(views.scalar("SELECT note FROM entry") for _ in range(3))

urlpatterns.append(path("notes/", notes))
hosts = [Late(application, "/notes/?schema=" + schema) for schema in ("one", "two", "one")]
for _ in range(3):
    print(*(host.piece() for host in hosts), Late(application, "/notes/?schema=two").end())
for host in hosts:
    host.close()
"""


@pytest.fixture
def schemas(server: Server) -> None:
    server("INSERT INTO entry (note) VALUES ('public')")
    for schema in ("one", "two"):
        server(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        server(f"CREATE SCHEMA {schema}")
        server(f"CREATE TABLE {schema}.entry AS SELECT '{schema}' AS note")


@pytest.mark.usefixtures("schemas")
def test_each_request_sees_its_own_tenant(server: Server) -> None:
    """A request that names no tenant finds the public schema, not the one of the request before."""
    done = run_django(
        server,
        PROGRAM,
        SITE_ENGINE="django_tenants.postgresql_backend",
        SITE_SETTINGS=json.dumps(SETTINGS),
    )
    assert done.stdout.splitlines() == ["one two one public two public", "1"], done.stderr


@pytest.mark.usefixtures("schemas")
def test_stream_keeps_its_tenant_whoever_is_served_meanwhile(server: Server) -> None:
    done = run_django(
        server,
        LATE,
        SITE_ENGINE="django_tenants.postgresql_backend",
        SITE_SETTINGS=json.dumps(SETTINGS),
    )
    assert done.stdout.splitlines() == ["one two one twotwotwo"] * 3, done.stderr


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize("tool", TOOLS)
def test_each_request_sees_its_own_tenant_under_a_tracing_tool(tool: str, server: Server) -> None:
    """A reset keeps the connection, which is the tool's proxy where there is one."""
    require(tool)
    done = run_django(
        server,
        f"from tests.traced import TOOLS; TOOLS[{tool!r}]({DRIVER!r})\n{PROGRAM}",
        SITE_ENGINE="django_tenants.postgresql_backend",
        SITE_SETTINGS=json.dumps(SETTINGS),
    )
    assert done.stdout.splitlines() == ["one two one public two public", "1"], done.stderr

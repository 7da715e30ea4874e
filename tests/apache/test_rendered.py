"""``wsgi-persist apache``: what it prints is served by a real Apache, and fits the real server."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import Server, eventually, or_skip, site_environment
from tests.faults.pgbouncer import PgBouncer
from tests.http import get, in_parallel
from tools.apache import Apache, public_folder
from tools.httpd import daemon_user
from tools.postgres import Cluster, free_port
from wsgi_persist.command.sizing import cores

ROOT = Path(__file__).parent.parent.parent
ME = pwd.getpwuid(os.geteuid()).pw_name


def command(cluster: Cluster, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **site_environment(cluster, **{"SITE_ALIASES": "{}", **environment})}
    # Anybody but root serves the site, too: a home may be closed to Apache's usual user.
    user = ["--user", ME] if os.geteuid() != 0 and "--user" not in arguments else []
    line = [sys.executable, "-m", "wsgi_persist", "apache", "--venv", sys.prefix, *user, *arguments]
    return subprocess.run(line, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


def rendered(cluster: Cluster, *arguments: str, **environment: str) -> str:
    done = command(cluster, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def processes(text: str) -> int:
    found = re.search(r'^Define PERSIST_PROCESSES "(\d+)"$', text, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture
def root() -> Iterator[Path]:
    folder = public_folder("rendered")
    yield folder
    shutil.rmtree(folder)


def test_rendered_file_is_served(project: Path, server: Server, root: Path) -> None:
    vhost, port = root / "site.conf", free_port()
    (root / "static").mkdir()
    (root / "static" / "a.txt").write_text("a file")
    (root / "told").mkdir()
    if os.geteuid() == 0:
        os.chown(root / "told", daemon_user().pw_uid, -1)
    shutil.copy(ROOT / "deploy" / "persist_status.py", project)
    arguments = [
        *("--server-name", "localhost", "--port", str(port), "--project", str(project)),
        *("--processes", "2", "--static", str(root / "static"), "--options", "request-timeout=20"),
        *("--status", str(root / "told"), "--status-page", "/persist-status"),
        *("--check", "--output", str(vhost)),
    ]
    done = command(server.cluster, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("wsgi-persist: syntax OK with ")
    defines = {"PERSIST_PROJECT": str(project)}
    environ = site_environment(server.cluster, SITE_ALIASES="{}", PYTHONPATH="")
    with Apache(root, defines=defines, port=port, environ=environ, vhost=vhost) as running:
        assert eventually(lambda: len(server.backends()), 2, timeout=60.0)
        assert int(get(port, "/pid/").text) in server.backends()
        assert get(port, "/static/a.txt").text == "a file"
        assert len(running.daemon_pids()) == 3
        assert get(port, "/persist-status").status == 200
        assert list((root / "told").iterdir())


def test_apaches_own_objection_is_one_line(project: Path, server: Server, root: Path) -> None:
    output = root / "site.conf"
    arguments = ["--server-name", "localhost", "--project", str(project), "--options", "thraeds=1"]
    done = command(server.cluster, *arguments, "--check", "--output", str(output))
    assert done.returncode == 2
    assert re.fullmatch(r"wsgi-persist: --check: .* -t: .*line \d+ of the rendered file: .*\n", done.stderr)
    assert not output.exists()


def test_nothing_is_overwritten_without_force(project: Path, server: Server, root: Path) -> None:
    output = root / "site.conf"
    output.write_text("of the operator")
    arguments = ["--server-name", "localhost", "--project", str(project), "--output", str(output)]
    assert command(server.cluster, *arguments).returncode == 2
    assert output.read_text() == "of the operator"
    assert command(server.cluster, *arguments, "--force").returncode == 0
    assert output.read_text() == rendered(server.cluster, *arguments[:-2])


def test_script_is_found_by_the_settings(project: Path, server: Server) -> None:
    arguments = ["--server-name", "localhost", "--project", str(project)]
    text = rendered(server.cluster, *arguments, "--settings", "tests.site.settings")
    assert f'Define PERSIST_SCRIPT "{project}/tests/site/wsgi.py"' in text
    wrong = '{"WSGI_APPLICATION": "wsgi_persist.version.application"}'
    done = command(server.cluster, *arguments, "--settings", "tests.site.settings", SITE_SETTINGS=wrong)
    assert "version.py has no callable named 'application'" in done.stderr


def test_stock_engine_behind_the_middleware_is_refused(project: Path, server: Server) -> None:
    arguments = ["--server-name", "localhost", "--project", str(project)]
    done = command(server.cluster, *arguments, SITE_ENGINE="django.db.backends.postgresql")
    assert done.returncode == 2
    assert 'wraps its application, but has no connection to keep: write "ENGINE"' in done.stderr


def test_socket_that_the_workers_cannot_reach(project: Path, server: Server, root: Path) -> None:
    hidden = root / "private" / "sockets"
    hidden.mkdir(parents=True)
    is_root = os.geteuid() == 0
    hidden.parent.chmod(0o700 if is_root else 0)
    user = "nobody" if is_root else ME
    arguments = ["--server-name", "localhost", "--project", str(project), "--user", user]
    done = command(server.cluster, *arguments, SITE_HOST=str(hidden))
    hidden.parent.chmod(0o700)
    assert done.returncode == 2
    assert str(hidden.parent) in done.stderr
    assert done.stderr.count("\n") == 1


def test_processes_by_the_cores_and_the_connections(project: Path, server: Server) -> None:
    auto = ["--server-name", "localhost", "--project", str(project), "--processes", "auto"]
    cluster = server.cluster
    assert server("SHOW max_connections") == [("100",)]
    assert processes(rendered(cluster, *auto)) == 2 * cores() + 1
    assert processes(rendered(cluster, *auto, "--reserve", "news=94", "--reserve", "1")) == 2
    both = {"archive": {"name": "second", "HOST": "127.0.0.1", "TIME_ZONE": "Asia/Tokyo"}}  # the same server
    text = rendered(cluster, *auto, "--reserve", "news=93", SITE_ALIASES=json.dumps(both))
    assert processes(text) == 2
    assert "# as many as fit" in text
    pooled = {"archive": {"name": "second", "DISABLE_SERVER_SIDE_CURSORS": True}}
    text = rendered(cluster, *auto, "--reserve", "news=95", SITE_ALIASES=json.dumps(pooled))
    assert processes(text) == 2
    done = command(cluster, *auto, "--reserve", "news=97")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "no process fits into the 0 connections that are left (max_connections=100, 3 reserved" in done.stderr
    )


@pytest.fixture
def limited(server: Server) -> Iterator[str]:
    """A role that may have two connections; it is the tests' own, and no superuser."""
    server("CREATE ROLE limited LOGIN CONNECTION LIMIT 2")
    yield "limited"
    server("DROP ROLE limited")


def test_processes_by_the_limit_of_the_role(project: Path, server: Server, limited: str) -> None:
    auto = ["--server-name", "localhost", "--project", str(project), "--processes", "auto"]
    user = json.dumps({"USER": limited})
    text = rendered(server.cluster, *auto, "--reserve", "news=50", SITE_DATABASE=user)
    assert processes(text) == 2
    assert ": CONNECTION LIMIT of role limited=2; 1 for each process (default)\n" in text
    both = json.dumps({name: {"name": name, "USER": limited} for name in ("second", "site")})
    done = command(server.cluster, *auto, SITE_DATABASE=user, SITE_ALIASES=both)
    assert done.returncode == 2
    assert (
        "into the 2 connections that are left (CONNECTION LIMIT of role limited=2; 3 for each" in done.stderr
    )


def test_processes_by_the_limit_of_the_database(project: Path, server: Server, limited: str) -> None:
    auto = ["--server-name", "localhost", "--project", str(project), "--processes", "auto"]
    server("ALTER DATABASE second CONNECTION LIMIT 1")
    try:
        user = json.dumps({"USER": limited, "NAME": "second"})
        assert processes(rendered(server.cluster, *auto, SITE_DATABASE=user)) == 1
        # A superuser is bound by neither.
        superuser = json.dumps({"NAME": "second"})
        assert processes(rendered(server.cluster, *auto, SITE_DATABASE=superuser)) == 2 * cores() + 1
    finally:
        server("ALTER DATABASE second CONNECTION LIMIT -1")


def test_processes_by_the_clients_of_the_pooler(project: Path, server: Server) -> None:
    auto = ["--server-name", "localhost", "--project", str(project), "--processes", "auto"]
    with or_skip():
        pooler = PgBouncer(server.cluster, "transaction", settings={"max_client_conn": 8})
    with pooler:
        behind = {"HOST": "127.0.0.1", "PORT": pooler.port, "DISABLE_SERVER_SIDE_CURSORS": True}
        given = {
            "SITE_DATABASE": json.dumps(behind),
            "SITE_ALIASES": json.dumps({"archive": {"name": "second"}}),
        }
        text = rendered(server.cluster, *auto, "--reserve", "news=2", **given)
        assert processes(text) == 3
        assert ": max_client_conn=8, 2 for news; 2 for each process (default, archive)\n" in text
        assert processes(rendered(server.cluster, *auto, "--pooler-clients", "4", **given)) == 2
        # Whoever is not in stats_users is told nothing.
        server("CREATE ROLE curious LOGIN")
        given["SITE_DATABASE"] = json.dumps({**behind, "USER": "curious"})
        done = command(server.cluster, *auto, **given)
        server("DROP ROLE curious")
    assert done.returncode == 2
    assert "and no pooler tells its max_client_conn (alias 'archive': " in done.stderr


def test_processes_cannot_be_counted_where_the_server_is_down(project: Path, server: Server) -> None:
    auto = ["--server-name", "localhost", "--project", str(project), "--processes", "auto"]
    done = command(server.cluster, *auto, SITE_PORT=str(free_port()), SITE_HOST="127.0.0.1")
    assert done.returncode == 2
    assert "alias 'default' cannot be asked for max_connections" in done.stderr
    assert done.stderr.count("\n") == 1


# ##### Three sites on one host #####

# Aliases of each, so that one worker keeps so many connections.
SITES = {"shop": {"archive": {"name": "second"}}, "news": {}, "wiki": {}}


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory, driver: ModuleType) -> Iterator[Server]:
    """A server of its own with room for twenty connections, of which PostgreSQL keeps three."""
    root = tmp_path_factory.mktemp("small")
    for folder in (root, *root.parents[:2]):
        folder.chmod(0o755)
    settings = ["max_connections=20", "superuser_reserved_connections=3", "fsync=off"]
    cluster = Cluster(root / "data", settings).create().start()
    try:
        admin = driver.connect(**cluster.dsn())
        admin.autocommit = True
        for name in ("site", "second"):
            admin.cursor().execute(f"CREATE DATABASE {name}")
        admin.close()
        server = Server(cluster, driver)
        yield server
        server.connection.close()
    finally:
        cluster.destroy()


def make_site(folder: Path, project: Path, aliases: dict[str, dict[str, str]]) -> Path:
    folder.mkdir()
    for name in ("wsgi_persist", "tests"):
        (folder / name).symlink_to(project / name)
    (folder / "wsgi.py").write_text(
        f"import os\nos.environ['SITE_ALIASES'] = {json.dumps(aliases)!r}\n"
        "from tests.site.wsgi import application  # noqa: F401\n"
    )
    return folder


def page(port: int, name: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "GET", "/databases/" if name == "shop" else "/pid/", headers={"Host": f"{name}.example.org"}
    )
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_three_sites_stay_below_max_connections(project: Path, small: Server, root: Path) -> None:
    """The observer of the tests and one more are reserved; every worker of all three is up, and busy."""
    port = free_port()
    sizes = {
        "shop": ["auto", "--reserve", "news=4", "--reserve", "wiki=3", "--reserve", "2"],
        "news": ["4"],
        "wiki": ["3"],
    }
    total = 0
    for name, size in sizes.items():
        folder = make_site(root / name, project, SITES[name])
        text = rendered(
            small.cluster,
            *("--server-name", f"{name}.example.org", "--port", str(port), "--project", str(folder)),
            *("--processes", *size),
        )
        (root / f"{name}.conf").write_text(text)
        total += processes(text) * (1 + len(SITES[name]))
    assert total <= 20 - 3 - 2
    others = "\n".join(f'Include "{root}/{name}.conf"' for name in ("news", "wiki"))
    environ = site_environment(small.cluster, PYTHONPATH="")
    defines = {"PERSIST_PROJECT": str(root / "shop")}
    with Apache(
        root, defines=defines, port=port, environ=environ, vhost=root / "shop.conf", extra=others
    ) as running:
        assert eventually(lambda: len(small.backends()), total, timeout=90.0)
        before = small.backends()
        answers = in_parallel(6, lambda: [page(port, name).status for name in 10 * list(SITES)])
        assert {status for of_client in answers for status in of_client} == {200}
        assert small.backends() == before
        assert "too many" not in running.error_text()

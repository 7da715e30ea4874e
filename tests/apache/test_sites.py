"""The other shipped files at work: several sites, TLS, threads, the event MPM, and mod_wsgi-express."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apache.conftest import StartApache, require_tls
from tests.apache.ends import sessions_abandoned
from tests.conftest import DRIVER, Server, eventually, site_environment
from tests.http import Answer, get, in_parallel
from tools import httpd
from tools.apache import VHOSTS, Apache, public_folder
from tools.httpd import Httpd, daemon_group, daemon_user
from tools.postgres import free_port

SCRIPT = """\
import os
os.environ["SITE_DATABASE"] = '{{"NAME": "{database}"}}'
from tests.site.wsgi import application
"""
SITES = {"shop": "site", "news": "second", "wiki": "site"}

DATABASES = """SELECT split_part(application_name, ':', 2), datname FROM pg_stat_activity
               WHERE application_name LIKE %s"""


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = public_folder("files")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def three_sites(folder: Path, project: Path) -> Path:
    """The shipped macro with three lines of the test's own."""
    lines = [(VHOSTS / "sites.conf").read_text().partition("\nUse ")[0]]
    for name, database in SITES.items():
        shutil.copytree(project, folder / name)
        (folder / name / "wsgi.py").write_text(SCRIPT.format(database=database))
        lines += [
            "Define PERSIST_PORT ${SITES_PORT}",
            "Define PERSIST_VENV ${SITES_VENV}",
            f"Use WSGIPersist {name} {name}.test {folder / name} 1",
        ]
    (folder / "sites.conf").write_text("\n".join([*lines, ""]))
    return folder / "sites.conf"


def test_three_sites(apache: StartApache, server: Server, three_sites: Path) -> None:
    """Each has its own workers, connections and database, and ends alone."""
    port = free_port()
    running = apache(
        defines={"PERSIST_FILES": VHOSTS, "SITES_PORT": port, "SITES_VENV": sys.prefix},
        given={"vhost": three_sites, "modules": ("macro",), "port": port},
    )
    with sessions_abandoned(server, 0):
        assert eventually(lambda: dict(server(DATABASES, "wsgi_persist:%")), SITES, timeout=30)
        before = {name: get(port, "/process/", site=f"{name}.test").json for name in SITES}
        assert len({answer["worker"] for answer in before.values()}) == 3
        os.utime(three_sites.parent / "news" / "wsgi.py", times=(2_000_000_000,) * 2)
        after = {name: get(port, "/process/", site=f"{name}.test").json for name in SITES}
        assert {name for name in SITES if after[name] != before[name]} == {"news"}
        running.stop()
        assert eventually(server.backends, [])


GROUPS = """\
WSGIDaemonProcess site threads=1 display-name=%{GROUP} \\
    python-home="${PERSIST_VENV}" python-path="${PERSIST_PROJECT}"
WSGIScriptAlias /second "${PERSIST_PROJECT}/wsgi.py" process-group=site application-group=second
WSGIScriptAlias / "${PERSIST_PROJECT}/wsgi.py" process-group=site application-group=%{GLOBAL}
<Directory "${PERSIST_PROJECT}">
    Require all granted
</Directory>
"""


@pytest.mark.parametrize("hosts", [1, 2])
def test_two_application_groups_in_one_process(
    hosts: int, apache: StartApache, server: Server, folder: Path, generation: Httpd
) -> None:
    """A connection for each interpreter, each closed by its own, and a warning for the second one."""
    if DRIVER == "psycopg2" and sys.version_info >= (3, 12) and not generation.old:
        pytest.skip("psycopg2 does not support loading in sub-interpreters, which Python checks from 3.12 on")
    (folder / "groups.conf").write_text(GROUPS)
    # With several hosts each interpreter has a thread that looks after them.
    named = {"SITE_HOST": ",".join(["127.0.0.1"] * hosts)}
    with sessions_abandoned(server, 0):
        running = apache(given={"vhost": folder / "groups.conf", "httpd": generation}, **named)
        first = get(running.port, "/process/").json
        second = get(running.port, "/second/process/").json
        assert first["worker"] == second["worker"]
        assert server.backends() == sorted([first["backend"], second["backend"]])
        running.stop()
        assert eventually(server.backends, [])
    log = running.error_text()
    assert log.count("application group 'second' is a sub-interpreter of process group 'site'") == 1
    assert len(re.findall(r"stops \(.*1 connections closed", log)) == 2
    assert "Fatal" not in log
    assert "exit signal" not in log


@pytest.fixture
def tls(folder: Path, server: Server, tls_port: int, apache: StartApache) -> Apache:
    """The site over TLS, which speaks TLS with the database, too."""
    require_tls()
    for name in ("static", "media"):
        (folder / name).mkdir()
    (folder / "static" / "site.css").write_text("body {}")
    (folder / "static" / "site.0123456789ab.css").write_text("body {}")
    (folder / "media" / "upload.html").write_text("<script>alert(1)</script>")
    (folder / "media" / "upload.php").write_text("<?php system('id'); ?>")
    keys = server.cluster.data.parent
    return apache(
        defines={
            "PERSIST_FILES": VHOSTS,
            "PERSIST_CERTIFICATE": keys / "server.crt",
            "PERSIST_KEY": keys / "server.key",
            "PERSIST_CHALLENGES": folder / "challenges",
            "PERSIST_STATIC": folder / "static",
            "PERSIST_MEDIA": folder / "media",
            "PERSIST_HTTP_PORT": (plain := free_port()),
        },
        given={
            "vhost": VHOSTS / "tls.conf",
            "modules": ("ssl", "headers", "socache_shmcb", "autoindex", "status"),
            # As mod_php takes its files; its handler would not have to be one of the machine.
            "extra": f"Listen 127.0.0.1:{plain}\n"
            '<FilesMatch "\\.php$">\nSetHandler server-status\n</FilesMatch>\n'
            # As Debian grants it to /var/www.
            '<Directory "/">\nOptions Indexes FollowSymLinks\n</Directory>',
        },
        SITE_HOST="127.0.0.1",
        SITE_PORT=str(tls_port),
        SITE_OPTIONS='{"sslmode": "require"}',
        SITE_SETTINGS='{"MIDDLEWARE": ["django.middleware.clickjacking.XFrameOptionsMiddleware"]}',
    )


@pytest.fixture
def get_tls(tls: Apache) -> Callable[[str], Answer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return lambda path: get(tls.port, path, context=context)


def test_mod_ssl_beside_the_drivers_own_tls(
    tls: Apache, get_tls: Callable[[str], Answer], server: Server
) -> None:
    """Two libraries of OpenSSL in one process: Apache's, and the one in the driver's wheel."""
    with sessions_abandoned(server, 0):
        server.mark()
        first = get_tls("/process/").json
        for _ in range(60):
            assert get_tls("/three/").text == "three"
        assert get_tls("/process/").json == first
        workers = set(tls.daemon_pids())
        tls.graceful()
        assert eventually(lambda: get_tls("/three/").text, "three")
        workers.update(tls.daemon_pids())
        tls.stop()
        assert eventually(server.backends, [])
    # Of the workers, which have both libraries: Apache's own processes have none of the driver's.
    came_to_their_end = re.findall(r"\[pid (\d+)[^\]]*\].*Exiting daemon process 'site'", tls.error_text())
    assert workers <= set(map(int, came_to_their_end))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/pid/?a=1",
        "/a%20b%3fc%23d/%c3%a4/.htaccess?x=%3F",
        "/.well-known/security.txt",
        "/.well-known/acme-challenge",
        "/x/.well-known/acme-challenge/token",
    ],
)
def test_without_tls_visitors_are_sent_to_it(tls: Apache, path: str) -> None:
    answer = get(int(tls.defines["PERSIST_HTTP_PORT"]), path)
    assert (answer.status, answer.header("Location")) == (301, [f"https://localhost:{tls.port}{path}"])


def test_certificate_can_be_renewed(tls: Apache) -> None:
    """Without TLS, which the certificate that has expired would not give."""
    plain = int(tls.defines["PERSIST_HTTP_PORT"])
    challenges = Path(tls.defines["PERSIST_CHALLENGES"]) / ".well-known" / "acme-challenge"
    assert get(plain, "/.well-known/acme-challenge/token").status == 404
    challenges.mkdir(parents=True)
    (challenges / "token").write_text("token.thumbprint")
    answer = get(plain, "/.well-known/acme-challenge/token")
    assert (answer.status, answer.text) == (200, "token.thumbprint")
    assert get(plain, "/.well-known/acme-challenge/").status == 403  # no listing


def test_headers(get_tls: Callable[[str], Answer]) -> None:
    page, missing = get_tls("/plain/"), get_tls("/static/nothing")
    assert (page.status, missing.status) == (200, 404)
    for answer in (page, missing):
        assert answer.header("Strict-Transport-Security") == ["max-age=31536000"]
    assert page.header("X-Content-Type-Options") == ["nosniff"]
    assert page.header("X-Frame-Options") == ["DENY"]  # the application's
    assert get_tls("/static/site.css").header("X-Frame-Options") == ["SAMEORIGIN"]


def test_static_and_media_files(get_tls: Callable[[str], Answer]) -> None:
    found = {path: get_tls(path) for path in ("/static/site.css", "/static/site.0123456789ab.css")}
    assert [answer.text for answer in found.values()] == ["body {}"] * 2
    cached = [answer.header("Cache-Control") for answer in found.values()]
    assert cached == [["public, max-age=3600"], ["public, max-age=31536000, immutable"]]
    upload = get_tls("/media/upload.html")
    assert upload.status == 200
    assert upload.header("Content-Security-Policy") == ["default-src 'none'; sandbox"]
    assert get_tls("/media/upload.php").text == "<?php system('id'); ?>"
    assert get_tls("/media/").status == get_tls("/static/").status == 403


def test_threads(apache: StartApache, server: Server) -> None:
    running = apache(defines={"PERSIST_FILES": VHOSTS}, given={"vhost": VHOSTS / "threads.conf"})
    found = in_parallel(8, lambda: [get(running.port, "/busy/").json for _ in range(10)])
    answers = [answer for answers in found for answer in answers]
    assert all(answer["first"] == answer["second"] for answer in answers)
    assert 1 < len({answer["thread"] for answer in answers}) <= 4
    assert len(server.backends()) == len({answer["thread"] for answer in answers})


def test_event_mpm(apache: StartApache, server: Server) -> None:
    """Apache's own processes have threads, the workers still one."""
    running = apache(processes=2, given={"mpm": "event", "extra": f'Include "{VHOSTS}/mpm_event.conf"'})
    answers = in_parallel(8, lambda: get(running.port, "/process/").json)
    assert len({answer["backend"] for answer in answers}) <= 2
    assert eventually(lambda: len(server.backends()), 2)


EXPRESS = re.compile(r"^    (mod_wsgi-express start-server(?:.*\\\n)*.*)\n", re.MULTILINE)


def test_express(project: Path, server: Server, folder: Path) -> None:
    """The command of deploy/README.rst, with the folder and the port of the test's own."""
    readme = (VHOSTS.parent / "README.rst").read_text()
    found = EXPRESS.search(readme)
    assert found is not None
    port = free_port()
    words = found[1].replace("\\\n", " ").replace("/srv/shop", str(project))
    words += f" --host 127.0.0.1 --port {port} --server-root {folder}/root --log-to-terminal"
    if os.geteuid() == 0:
        words += f" --user {daemon_user().pw_name} --group {daemon_group()}"
    command = [str(Path(sys.executable).parent / "mod_wsgi-express"), *words.split()[1:]]
    with sessions_abandoned(server, 0), (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(server))
        try:
            assert eventually(lambda: len(server.backends()), 4, timeout=30)
            server.mark()
            assert eventually(lambda: answers(port), True, timeout=10)
            assert server.connections() == 0
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        assert eventually(server.backends, [])
    assert (folder / "log").read_text().count("stops (shutdown_signal): 1 connections closed") == 4


OWN = re.compile(r"^    (httpd=.*)\n    (LD_LIBRARY_PATH=.*)\n", re.MULTILINE)


def test_apache_of_its_own_finds_its_libraries() -> None:
    """The lines of deploy/README.rst, with the test's own virtual environment."""
    if not httpd.pypi().own:
        pytest.skip("no Apache of mod_wsgi-standalone here: APACHE=standalone compiles one")
    found = OWN.search((VHOSTS.parent / "README.rst").read_text())
    assert found is not None
    lines = "\n".join(found.groups()).replace("/srv/shop/venv", sys.prefix)
    lines = lines.replace("-f /srv/shop/httpd.conf", "-v")
    done = subprocess.run(["sh", "-eu", "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Server version: Apache/2.4.")


def answers(port: int) -> bool:
    try:
        return get(port, "/three/").text == "three"
    except OSError:
        return False


def environment(server: Server) -> dict[str, Any]:
    return {**os.environ, **site_environment(server.cluster, SITE_ALIASES="{}", PYTHONPATH="")}

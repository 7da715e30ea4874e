"""The page of the workers in its process group of the shipped virtual host."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apache.conftest import StartApache
from tests.conftest import Server, eventually
from tests.faults.faults import host_frozen
from tests.http import get
from tests.page.scenes import Scene
from tools.apache import Apache, public_folder

PAGE = "/persist-status"
ROOT = Path(__file__).parent.parent.parent
MANUAL = (ROOT / "docs" / "page.rst").read_text()


@pytest.fixture
def scene() -> Iterator[Scene]:
    folder = public_folder("status")
    scene = Scene(folder, time.time())
    yield scene
    scene.close()
    shutil.rmtree(folder)


@pytest.fixture
def running(apache: StartApache, scene: Scene, project: Path) -> Apache:
    shutil.copy(ROOT / "deploy" / "persist_status.py", project)
    defines = {"PERSIST_STATUS_PAGE": PAGE}
    return apache(2, defines=defines, PERSIST_STATUS=str(scene.folder))


def test_site_and_page_are_served_by_processes_of_their_own(running: Apache, scene: Scene) -> None:
    scene.worker("shop", 1)
    assert eventually(lambda: len(running.daemon_pids()), 3)
    assert get(running.port, "/plain/").status == 200
    answer = get(running.port, PAGE)
    assert answer.status == 200
    assert "Workers: 1 of 1 run" in answer.text
    assert f'href="{PAGE}/metrics"' in answer.text
    assert get(running.port, f"{PAGE}/metrics").text.count("wsgi_persist_requests_total{") == 1


def test_password_as_the_manual_has_it(apache: StartApache, scene: Scene, project: Path) -> None:
    """It takes the place of what the virtual host says: who comes from this machine is asked, too."""
    shutil.copy(ROOT / "deploy" / "persist_status.py", project)
    block = re.search(r"^    <Location.*?^    </Location>", MANUAL, re.MULTILINE | re.DOTALL)
    assert block is not None
    users, include = scene.folder / "users", scene.folder / "include.conf"
    digest = base64.b64encode(hashlib.sha1(b"open").digest()).decode()
    users.write_text(f"admin:{{SHA}}{digest}\n")
    include.write_text(block[0].replace("/etc/apache2/persist-status.users", str(users)))
    running = apache(
        defines={"PERSIST_STATUS_PAGE": PAGE, "PERSIST_INCLUDE": include},
        given={"modules": ("authn_core", "authn_file", "auth_basic", "authz_user")},
        PERSIST_STATUS=str(scene.folder / "sites"),
    )
    assert get(running.port, PAGE).status == 401
    asked = urllib.request.Request(running.url + PAGE)
    asked.add_header("Authorization", "Basic " + base64.b64encode(b"admin:open").decode())
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200


def test_page_answers_while_all_workers_hang(running: Apache, server: Server) -> None:
    sleep = (running.port, "/sleep/?seconds=20")
    visitors = [threading.Thread(target=get, args=sleep, daemon=True) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    assert eventually(server.sleeping, 2, timeout=20)
    with host_frozen(server.cluster):
        for path in (PAGE, f"{PAGE}/metrics"):
            assert get(running.port, path, timeout=5).status == 200, running.error_text()
    server("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'")
    for visitor in visitors:
        visitor.join(30)

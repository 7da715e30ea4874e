"""Which mod_wsgi an environment of the matrix is served by. Only tox names this file."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable

import pytest

from tests.conftest import eventually
from tools import httpd
from tools.apache import Apache

CONFIGURED = re.compile(r"(Apache/\S+).*(mod_wsgi/(\d+)[\d.]*) Python/([\d.]+\d)")


def test_versions(apache: Callable[..., Apache], capsys: pytest.CaptureFixture[str]) -> None:
    asked = os.environ["ENVIRONMENT"].split("-")[-1]
    running = apache(given={"httpd": httpd.pypi() if asked == "modwsgi6" else httpd.system()})
    assert eventually(lambda: CONFIGURED.search(running.error_text()) is not None, True)
    found = CONFIGURED.search(running.error_text())
    assert found is not None
    with capsys.disabled():
        print(f"\nversions: {found[1]}, {found[2]}")
    assert f"modwsgi{found[3]}" == asked
    assert platform.python_version().startswith(found[4])

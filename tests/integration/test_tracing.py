"""Under the tracing tools themselves, each in a process of its own: a reset, a ping, a replay, a fork."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import DRIVER, Server, site_environment
from tests.traced import TOOLS

# The modules that each is there by, besides its own.
NEEDS = {"opentelemetry": ["opentelemetry.instrumentation." + name for name in ("django", DRIVER)]}


def is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def require(tool: str) -> None:
    """Skip the test where that tool is not."""
    missing = [name for name in NEEDS.get(tool, [tool]) if not is_there(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: the extra is called tracing")


@pytest.fixture(scope="module", params=TOOLS)
def seen(request: Any, site_database: Any) -> dict[str, Any]:
    """What the requests of a site saw, and what was said of them."""
    tool = request.param
    require(tool)
    options = json.dumps({"persist": {"idle_check": 0.05}})
    environ = {**os.environ, **site_environment(site_database, SITE_OPTIONS=options)}
    command = [sys.executable, "-m", "tests.traced", tool, DRIVER]
    before = site_database.log.stat().st_size
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    sent = site_database.log.read_bytes()[before:]
    lines = [line for line in sent.decode().splitlines() if "SELECT 17" in line]
    pings = sent.count(b"statement: SELECT 1\n")
    return {**told, "tool": tool, "log": done.stderr, "pings": pings, "sent": lines}


def test_tool_is_at_work(seen: dict[str, Any]) -> None:
    assert seen["tool"] in seen["modules"]


def test_reset_keeps_the_connection(seen: dict[str, Any], server: Server) -> None:
    assert seen["reset"] == [seen["left"], server("SHOW work_mem")[0][0]]
    assert "could not be cleaned" not in seen["log"]


def test_ping_is_answered(seen: dict[str, Any]) -> None:
    assert seen["pinged"] == seen["left"]
    assert seen["pings"] >= 1
    assert "the ping failed" not in seen["log"]


def test_statements_are_sent_again(seen: dict[str, Any]) -> None:
    assert len(set(seen["lost"])) == 3
    assert seen["log"].count("its statement is sent again") == 2


def test_child_has_a_connection_of_its_own(seen: dict[str, Any]) -> None:
    assert seen["before"] == seen["after"] != seen["child"] != 0


def test_statement_is_shown_as_the_application_gave_it(seen: dict[str, Any]) -> None:
    assert seen["folded"] == 17
    assert sum("BEGIN; SAVEPOINT" in text for text in seen["sent"]) == 1
    if seen["texts"]:
        assert any(text.startswith("SELECT 17") for text in seen["texts"])
        assert not [text for text in seen["texts"] if "BEGIN" in text]
    else:
        assert seen["tool"] in ("elasticapm", "newrelic")  # they show it to their own server alone


def test_spans_bear_the_drivers_name(seen: dict[str, Any]) -> None:
    """ddtrace names them after the module of the connection's class."""
    if seen["tool"] == "ddtrace":
        name = {"psycopg2": "postgres"}.get(DRIVER, DRIVER)
        assert f"{name}.connection.commit" in seen["spans"]
    assert not [name for name in seen["spans"] if "wsgi_persist" in name]

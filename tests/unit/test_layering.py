"""Imports run upwards only, and only where the design allows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wsgi_persist

PACKAGE = Path(wsgi_persist.__file__).parent
# A room may import from the rooms before it.
ORDER = [
    *("version", "errors", "redaction", "policy", "functions", "effects", "lexer", "verbs", "rules", "sql"),
    *("cursors", "state", "drivers", "liveness", "catalogue", "session", "pin", "trouble", "boundary"),
    *("current", "scope", "outage", "replay", "lease"),
    *("registry", "plain", "hosts", "lifecycle", "answer", "response"),
]
TOP = ["middleware", "backends"]
# The command line stands beside the core: it looks at a site from outside, by another process.
COMMAND_LINE = {"command": [], "__main__": ["command", "redaction", "version"]}
MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "deploy" not in path.relative_to(PACKAGE).parts and path != PACKAGE / "__init__.py"
]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for_types = [node for node in tree.body if isinstance(node, ast.If)]  # if TYPE_CHECKING
    tree.body = [node for node in tree.body if node not in for_types]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            # "from wsgi_persist import scope" imports a room, too
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_upwards(path: Path) -> None:
    room = room_of(path)
    allowed = COMMAND_LINE.get(room)
    if allowed is None:
        allowed = ORDER if room in TOP else ORDER[: ORDER.index(room)]
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "wsgi_persist":
            assert parts[1] in allowed or parts[1] == room, f"{room} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_core_needs_the_standard_library_only(path: Path) -> None:
    room = room_of(path)
    guests = {"backends": {"django"}, "hosts": {"mod_wsgi", "uwsgi"}}
    guests |= {room: {"_typeshed"} for room in ("answer", "response", "middleware")}
    if path.name == "probe.py":
        guests["command"] = {"django"}  # the site's interpreter runs it, the command line never imports that
    known = sys.stdlib_module_names | {"wsgi_persist"} | guests.get(room, set())
    assert {name.split(".")[0] for name in imports_of(path)} <= known


def test_command_line_imports_no_site() -> None:
    """Whatever is wrong with the site's Django or driver, --help and the errors are there."""
    code = "import sys, wsgi_persist.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    top = {name.split(".")[0] for name in loaded.stdout.split()}
    assert not top & {"django", "mod_wsgi", "psycopg", "psycopg2"}


def test_core_does_not_import_the_command_line() -> None:
    code = "import sys, wsgi_persist, wsgi_persist.middleware; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in loaded.stdout.split() if name.startswith("wsgi_persist.command")]


def test_no_module_does_two_things() -> None:
    written = [path for path in MODULES if path.name != "functions.py"]  # which is generated data
    long = {path.name: n for path in written if (n := len(path.read_text().splitlines())) > 250}
    assert not long

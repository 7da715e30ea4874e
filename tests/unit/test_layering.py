"""Rooms and doors: imports run down from room to room, by the door, and nowhere in a circle."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsgi_persist
from tests.unit.rooms import BESIDE, FLOORS, circles, faults, inside, room_of, sources_of
from wsgi_persist.pins.state import MOVES, State

PACKAGE = Path(wsgi_persist.__file__).parent
ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "design.rst"
SOURCES = sources_of(PACKAGE)
ROOMS = sorted(name for name in SOURCES if name and PACKAGE.joinpath(*name.split(".")).is_dir())


def test_imports_are_as_planned() -> None:
    assert faults(SOURCES) == []


def test_drawing_of_the_maintainers_page_shows_them() -> None:
    """What follows from two arrows is not drawn again."""
    drawn = set(re.findall(r"^ +(\w+) -> (\w+)$", PAGE.read_text(), re.MULTILINE))
    found = {
        (room_of(module).replace("__main__", "command"), room_of(target))
        for module in filter(None, SOURCES)
        for target in inside(module, SOURCES)
    }
    assert drawn <= found
    rooms = {arrow for arrow in found if arrow[0] != arrow[1] and arrow[1] != "version"}
    assert rooms <= implied(drawn)


def test_modules_of_the_maintainers_page_are_there() -> None:
    rooms = "|".join(ROOMS)
    named = set(re.findall(rf"``(?:wsgi_persist/)?((?:{rooms})/\w[\w/]*)(?:\.py)?``", PAGE.read_text()))
    assert len(named) > 20
    assert {name for name in named if name.strip("/").replace("/", ".") not in SOURCES} == set()


def test_states_of_the_maintainers_page_are_those_of_a_pin() -> None:
    rows = re.findall(r"^([A-Z]+) +(\S.*?)  +([A-Z, ]+|nothing)$", PAGE.read_text(), re.MULTILINE)
    found = {name: set(re.findall(r"[A-Z]+", follows)) for name, _, follows in rows}
    assert found == {state.name: {after.name for after in MOVES[state]} for state in State}
    assert all(State[name].value.startswith(meaning) for name, meaning, _ in rows)


def implied(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    further = {(start, end) for start, middle in arrows for at, end in arrows if at == middle}
    return arrows if further <= arrows else implied(arrows | further)


def test_every_room_has_its_floor() -> None:
    known = set().union(*FLOORS, BESIDE)
    assert {name.partition(".")[0] for name in SOURCES if name} == known


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("pins.pin", "from wsgi_persist.worker import Scope", "an arrow up: pins.pin imports worker"),
        ("plain.pin", "import wsgi_persist.backends", "an arrow up: plain.pin imports backends"),
        ("pins.pin", "from wsgi_persist import Pin", "an arrow up: pins.pin imports wsgi_persist"),
        ("worker.scope", "import wsgi_persist.command", "an arrow up: worker.scope imports command"),
        ("sql.lexer", "from wsgi_persist.policy import Policy", "an arrow up: sql.lexer imports policy"),
        (
            "pins.session",
            "if TYPE_CHECKING:\n    from wsgi_persist.worker.scope import Scope",
            "an arrow up: pins.session imports worker.scope",
        ),
        (
            "worker.scope",
            "from wsgi_persist.pins.pin import PinnedConnection",
            "past the door: worker.scope imports pins.pin",
        ),
        (
            "worker.scope",
            "from wsgi_persist.worker import current",
            "worker.scope imports by the door of its own room",
        ),
        ("worker.scope", "from django.db import connections", "worker.scope imports django.db"),
        ("pins.pin", "def f():\n    import psycopg2", "pins.pin imports psycopg2"),
        ("pins.pin", "from . import state", "pins.pin imports ."),
        ("drivers.psycopg2", "import psycopg2", "drivers.psycopg2 imports psycopg2"),
        ("pins.pin", "import sys\nsys.modules['psycopg2']", "pins.pin imports by sys.modules"),
        ("pins.pin", "__import__('django.db')", "pins.pin imports by __import__"),
        ("pins.pin", "import_module('django.db')", "pins.pin imports by import_module"),
        (
            "worker.scope",
            "import wsgi_persist.pins\nwsgi_persist.wsgi.PersistMiddleware",
            "worker.scope reaches into wsgi_persist.wsgi",
        ),
        (
            "backends.mixin",
            "from wsgi_persist.backends.checks.server import PersistValidation",
            "past the door: backends.mixin imports backends.checks.server",
        ),
    ],
)
def test_what_is_not_as_planned_is_found(module: str, text: str, fault: str) -> None:
    assert fault in faults({**SOURCES, module: f"{SOURCES[module]}\n{text}\n"})


def test_circle_in_a_room_is_found() -> None:
    text = (
        f"{SOURCES['worker.boundary']}\nif TYPE_CHECKING:\n    from wsgi_persist.worker.scope import Scope\n"
    )
    found = [fault for fault in faults({**SOURCES, "worker.boundary": text}) if "circle" in fault]
    assert len(found) == 1
    assert "worker.boundary" in found[0]
    assert "worker.scope" in found[0]


def test_tools_import_in_no_circle() -> None:
    assert list(circles(sources_of(ROOT / "tools"), "tools")) == []


@pytest.mark.parametrize("room", ROOMS)
def test_room_says_what_it_is_for(room: str) -> None:
    told = ast.get_docstring(ast.parse(SOURCES[room]))
    assert told
    assert told.count(". ") <= 1, "one or two sentences"


def test_command_line_imports_no_site() -> None:
    """Whatever is wrong with the site's Django or driver, --help and the errors are there."""
    code = "import sys, wsgi_persist.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    top = {name.split(".")[0] for name in loaded.stdout.split()}
    assert not top & {"django", "mod_wsgi", "psycopg", "psycopg2"}


def test_core_does_not_import_the_command_line() -> None:
    code = "import sys, wsgi_persist.wsgi.middleware; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in loaded.stdout.split() if name.startswith("wsgi_persist.command")]


def test_no_module_does_two_things() -> None:
    written = {name: text for name, text in SOURCES.items() if name != "sql.functions"}  # generated data
    assert {name: lines for name, text in written.items() if (lines := len(text.splitlines())) > 250} == {}

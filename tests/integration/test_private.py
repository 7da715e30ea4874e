"""What the package uses of others' private parts is little, has a reason, and is on the maintainers' page."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsgi_persist
from tests.conftest import DRIVER
from tests.unit.rooms import Sources, imports, room_of, sources_of

SOURCES = sources_of(Path(wsgi_persist.__file__).parent)
PAGE = Path(__file__).parent.parent.parent / "docs" / "design.rst"
# Not modules of this process: the first is run by a site's interpreter, the others need GDAL on the machine.
ELSEWHERE = {"command.probe", *(name for name in SOURCES if name.startswith("backends.postgis."))}
PROJECTS = ("django", "psycopg", "psycopg2", "wsgiref")
# Public, whatever they begin with.
DOCUMENTED = {"_exit", "_getframe", "_replace", "_typeshed"}
BY_NAME = {"getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def own_names(text: str) -> set[str]:
    """What classes have: methods, names in their bodies, and what is set on self."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            found.update(part.name for part in node.body if isinstance(part, (ast.FunctionDef, ast.ClassDef)))
            stored = [name for part in node.body for name in ast.walk(part) if isinstance(name, ast.Name)]
            found.update(name.id for name in stored if isinstance(name.ctx, ast.Store))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.update([node.attr] if ast.unparse(node.value) == "self" else [])
    return found


def of_others() -> set[str]:
    """Private names of what the package meets of other projects; the other driver is hidden."""
    from django.db import connections
    from django.db.backends.postgresql.base import CursorDebugWrapper, DatabaseWrapper
    from django.dispatch import Signal

    driver = importlib.import_module({"psycopg2": "psycopg2.extensions"}.get(DRIVER, DRIVER))
    of_driver = [kind for kind in vars(driver).values() if inspect.isclass(kind)]
    met: list[Any] = [*of_driver, DatabaseWrapper, CursorDebugWrapper, Signal(), connections]
    return {name for each in met for name in dir(each) if is_private(name)}


def read(sources: Sources, others: set[str]) -> set[str]:
    """Private names of others that a text reaches for: by attribute, by import, by a string."""
    rooms: dict[str, set[str]] = {}
    for module, text in sources.items():
        rooms.setdefault(room_of(module), set()).update(own_names(text))
    everywhere = set().union(*rooms.values()) - others
    found: set[str] = set()
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                is_own = ast.unparse(node.value) in ("self", "cls", "super()")
                found.update({node.attr} - (rooms[room_of(module)] if is_own else everywhere))
            elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
                found.update(set(_parts(node)) - everywhere)
        found.update(part for name in imports(text) for part in name.split("."))
    return set(filter(is_private, found))


def _parts(call: ast.Call) -> Iterator[str]:
    for given in call.args:
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            yield from given.value.split(".")


def overridden() -> set[str]:
    """Private names of a class of ours that a class of another project, which it is one of, has too."""
    return {
        name
        for module in SOURCES.keys() - ELSEWHERE
        for kind in vars(importlib.import_module(f"wsgi_persist.{module}".rstrip("."))).values()
        if inspect.isclass(kind)
        for ours, theirs in [_sides(kind)]
        for name in filter(is_private, ours & theirs)
    }


def _sides(kind: type) -> tuple[set[str], set[str]]:
    """Names that the package's own classes give to it, and those that Django's or a driver's do."""
    sides: tuple[set[str], set[str]] = set(), set()
    for base in kind.__mro__:
        project = base.__module__.partition(".")[0]
        if project in ("wsgi_persist", *PROJECTS):
            sides[project in PROJECTS].update(vars(base))
    return sides


def test_list_of_the_maintainers_page_is_all_there_is(django_site: None) -> None:
    listed = set(re.findall(r"^``(?:[\w.]+\.)?(_\w+)``", PAGE.read_text(), re.MULTILINE))
    assert read(SOURCES, of_others()) | overridden() == listed


@pytest.mark.parametrize(
    ("module", "text", "name"),
    [
        ("backends.mixin", "connections._settings", "_settings"),
        ("backends.mixin", "getattr(connections, '_settings')", "_settings"),
        ("backends.mixin", "self._cursor()", "_cursor"),
        ("backends.mixin", "wrapper._cursor()", "_cursor"),
        (
            "backends.mixin",
            "class A:\n    def b(self):\n        super()._prepare_cursor()",
            "_prepare_cursor",
        ),
        ("drivers.psycopg3", "operator.attrgetter('_isolation_level', '_prepared.x')", "_isolation_level"),
        ("drivers.psycopg3", "from psycopg._conninfo_utils import x", "_conninfo_utils"),
        ("worker.scope", "from _thread import get_ident", "_thread"),
    ],
)
def test_what_is_not_on_it_is_found(django_site: None, module: str, text: str, name: str) -> None:
    before = read(SOURCES, of_others())
    after = read({**SOURCES, module: f"{SOURCES[module]}\n{text}\n"}, of_others())
    assert after - before == {name}

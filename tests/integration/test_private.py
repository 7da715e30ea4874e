"""What the package uses of others' private parts is little, has a reason, and is on the maintainers' page."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import wsgi_persist
from tests.unit.rooms import sources_of

SOURCES = sources_of(Path(wsgi_persist.__file__).parent)
PAGE = Path(__file__).parent.parent.parent / "docs" / "design.rst"
# Not modules of this process: the first is run by a site's interpreter, the other needs GDAL on the machine.
ELSEWHERE = {"command.probe", "backends.postgis.base"}
PROJECTS = ("django", "psycopg", "psycopg2", "wsgiref")
# Public, whatever they begin with.
DOCUMENTED = {"_exit", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def nodes() -> Iterator[ast.AST]:
    for text in SOURCES.values():
        yield from ast.walk(ast.parse(text))


def attributes_of_ours() -> set[str]:
    """Those that the package's own classes have, and those of other objects that it makes up."""
    found = set()
    for node in nodes():
        if isinstance(node, ast.ClassDef):
            defined = [part for part in node.body if isinstance(part, (ast.FunctionDef, ast.ClassDef))]
            found.update(part.name for part in defined)
            found.update(name.id for part in node.body for name in ast.walk(part) if is_stored(name))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.update([node.attr] if ast.unparse(node.value) == "self" else [])
    return found


def is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def read() -> set[str]:
    """Private attributes of what is not ours, and private names that are imported."""
    attributes = {node.attr for node in nodes() if isinstance(node, ast.Attribute)}
    imported = {alias.name for node in nodes() if isinstance(node, ast.ImportFrom) for alias in node.names}
    return set(filter(is_private, (attributes - attributes_of_ours()) | imported)) - DOCUMENTED


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
    assert read() | overridden() == listed

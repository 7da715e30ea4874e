"""What the package's imports look like, read from its sources, and what of it the plan does not allow.

Imports for type checkers alone count: what needs another's types cannot be read without it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "wsgi_persist"
# From the top down: each imports from those below it, and none from one beside it.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"wsgi"}),
    frozenset({"status"}),
    frozenset({"plain", "backends"}),
    frozenset({"recovery"}),
    frozenset({"worker"}),
    frozenset({"pins"}),
    frozenset({"drivers"}),
    frozenset({"sql", "policy"}),
    frozenset({"redaction", "errors", "events", "version"}),
)
# Rooms within a room.
INNER = ("backends.checks", "status.page")
# These look at a site from outside, by another process: nothing of the floors imports them.
BESIDE = {"command": {"redaction", "version", "status"}, "__main__": {"command", "redaction", "version"}}
# Whose imports are not the standard library's, by room or module. No room needs a driver to be installed.
GUESTS = {
    "backends": {"django"},
    "worker.servers": {"mod_wsgi", "uwsgi"},
    "wsgi": {"_typeshed"},
    "status": {"_typeshed"},
    # The site's interpreter runs it; the command line never imports it.
    "command.probe": {"django"},
    "status.page.metrics": {"prometheus_client"},
}

# Who looks for modules by name, at run time: a driver, Django, or a coroutine library that the application
# has imported; and whether the application is wrapped.
LOOK_UP = {
    *("drivers.modules", "worker.servers", "worker.warmup"),
    *("backends.checks.deployment", "command.probe"),
}
BY_NAME = {"sys.modules", "importlib.import_module", "import_module", "__import__", "exec", "eval"}

Sources = Mapping[str, str]  # texts by the module's name without the package's: "", "worker", "worker.scope"


def sources_of(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[0] != "deploy":
            found[".".join(parts).removesuffix("__init__").removesuffix(".")] = path.read_text()
    return found


def imports(text: str) -> Iterator[str]:
    """Full names, down to what is imported; a relative import is told by its dots."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def inside(module: str, sources: Sources, package: str = PACKAGE) -> Iterator[str]:
    """The modules of the package that *module* imports."""
    for name in imports(sources[module]):
        if name.partition(".")[0] == package:
            target = name.removeprefix(package).removeprefix(".")
            yield target if target in sources else target.rpartition(".")[0]


def faults(sources: Sources) -> list[str]:
    """Everything that is not as planned, one line each."""
    return [
        *_strangers(sources),
        *_by_name(sources),
        *_arrows(sources),
        *(f"a circle: {' > '.join(circle)}" for circle in circles(sources)),
    ]


def _strangers(sources: Sources) -> Iterator[str]:
    for module, text in sources.items():
        guests = GUESTS.get(room_of(module), set()) | GUESTS.get(module, set())
        for name in imports(text):
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names | {PACKAGE} | guests:
                yield f"{module} imports {name.rpartition('.')[0] or name}"


def _by_name(sources: Sources) -> Iterator[str]:
    for module in sources.keys() - LOOK_UP:
        nodes = ast.walk(ast.parse(sources[module]))
        used = {ast.unparse(node) for node in nodes if isinstance(node, (ast.Name, ast.Attribute))}
        yield from (f"{module} imports by {name}" for name in sorted(used & BY_NAME))
        yield from (f"{module} reaches into {name}" for name in used if name.startswith(f"{PACKAGE}."))


def _arrows(sources: Sources) -> Iterator[str]:
    for module in filter(None, sources):  # the package itself hands on what is public
        room = room_of(module)
        for target in inside(module, sources):
            if room_of(target) == room:
                if target == room:
                    yield f"{module} imports by the door of its own room"
                elif any(target.startswith(f"{inner}.") and not module.startswith(inner) for inner in INNER):
                    yield f"past the door: {module} imports {target}"
            elif not target or room_of(target) not in _below(room):
                yield f"an arrow up: {module} imports {target or PACKAGE}"
            elif target != room_of(target):
                yield f"past the door: {module} imports {target}"


def _below(room: str) -> set[str]:
    if room in BESIDE:
        return BESIDE[room]
    at = next((at for at, floor in enumerate(FLOORS) if room in floor), None)
    return set() if at is None else set().union(*FLOORS[at + 1 :])


def circles(sources: Sources, package: str = PACKAGE) -> Iterator[list[str]]:
    """The first circle, if there is one."""
    graph = {module: {*inside(module, sources, package)} - {module} for module in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield error.args[1]

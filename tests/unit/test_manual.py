"""The manual says what the code does: every line of the log and every option is in it, and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from wsgi_persist import Policy
from wsgi_persist.status import Counters, Event, Inside, Leak, OutageState, PinState, Snapshot, Worker
from wsgi_persist.status.account import KINDS
from wsgi_persist.status.reasons import CLOSED, LOST

ROOT = Path(__file__).parent.parent.parent
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.rst"))}
GUIDE = PAGES["operators.rst"]
SOURCES = {path: ast.parse(path.read_text()) for path in sorted((ROOT / "wsgi_persist").rglob("*.py"))}
LEVELS = {"info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
# Methods that are given a text and put it into a line: the level, and what they write before it.
WRITERS = {"_report": ("WARNING", "pin %r: ")}
# What those write themselves; their callers' texts are looked for in its place.
PASSED_ON = {"pin %r: %s"}
# Where a connection is closed: methods that are given the reason, and where others return it.
CLOSING = {"drop", "abandon", "close_idle", "_forget"}
RETURNING = ["pins/pin.py", "pins/session.py", "pins/eviction.py"]
REASONS = "Why a connection was closed"
# Texts with a name of their own, by that name.
NAMED = {
    target.id: node.value.value
    for tree in SOURCES.values()
    for node in tree.body
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    for target in node.targets
    if isinstance(target, ast.Name) and isinstance(node.value.value, str)
}


def text_of(node: ast.AST, inside: ast.AST) -> str | None:
    """A string as a format with %s where a value is put in; None where it is not written down here."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part, inside) or "%s" for part in node.values)
    if isinstance(node, (ast.FormattedValue, ast.Name)):
        name = node.value if isinstance(node, ast.FormattedValue) else node
        return NAMED.get(name.id) or assigned_to(name.id, inside) if isinstance(name, ast.Name) else None
    return None


def assigned_to(name: str, inside: ast.AST) -> str | None:
    for node in ast.walk(inside):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return text_of(node.value, inside) if isinstance(node.value, ast.JoinedStr) else None
    return None


def functions(*names: str) -> Iterator[ast.FunctionDef]:
    """All functions, or those of the files so named."""
    trees = [tree for path, tree in SOURCES.items() if not names or "/".join(path.parts[-2:]) in names]
    assert len(trees) >= len(names)
    for tree in trees:
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def calls() -> Iterator[tuple[str, str, ast.Call, ast.AST]]:
    """Each call of a method or function: on what, its name, the call and the function around it."""
    for function in functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield getattr(node.func.value, "id", ""), node.func.attr, node, function
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield "", node.func.id, node, function


def lines_written() -> set[tuple[str, str]]:
    """Level and format of all that is logged at INFO and above."""
    found = set()
    for on, name, call, function in calls():
        if on == "logger" and name != "debug":
            assert name in LEVELS, f"a line at a level of which the guide does not know: {ast.unparse(call)}"
            text = text_of(call.args[0], function)
            assert text, f"a line whose format is not written down: {ast.unparse(call)}"
            found.add((LEVELS[name], text))
        elif name in WRITERS:
            level, before = WRITERS[name]
            text = text_of(call.args[0], function)
            assert text, f"a line whose text is not written down: {ast.unparse(call)}"
            found.add((level, before + text))
    return {(level, text) for level, text in found if text not in PASSED_ON}


def reasons() -> Iterator[tuple[ast.AST, ast.AST]]:
    """What is given or returned as a reason, and the function around it."""
    for _, name, call, function in calls():
        if name in CLOSING:
            for given in call.args:
                both = [given.body, given.orelse] if isinstance(given, ast.IfExp) else [given]
                yield from ((each, function) for each in both)
    for function in functions(*RETURNING):
        if function.returns is not None and ast.unparse(function.returns) == "str | None":
            returned = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
            yield from ((value, function) for value in returned if value is not None)


def reasons_given() -> set[str]:
    found = {text_of(reason, function) for reason, function in reasons()}
    return {text for text in found if text and " " in text}


def section(title: str) -> str:
    _, _, rest = GUIDE.partition(f"\n{title}\n{'-' * len(title)}\n")
    return re.split(r"\n.+\n-{3,}\n", rest)[0]


def entries(title: str) -> list[str]:
    return re.findall(r"^``(.+)``$", section(title), re.MULTILINE)


def fits(text: str, entry: str) -> bool:
    parts = re.split(r"%(?:\.\d+)?[rsdf]", text)
    pattern = "(.+)".join(re.escape(part.replace("%%", "%")) for part in parts)
    return re.fullmatch(pattern, entry) is not None


def id_of(given: object) -> str:
    return str(given)[:50]


@pytest.mark.parametrize(("level", "text"), sorted(lines_written()), ids=id_of)
def test_line_is_in_the_guide(level: str, text: str) -> None:
    found = [entry for entry in entries(f"Lines at {level}") if fits(text, entry)]
    assert len(found) == 1, f"{text!r} has {len(found)} entries under 'Lines at {level}'"


@pytest.mark.parametrize("text", sorted(reasons_given()), ids=id_of)
def test_reason_is_in_the_guide(text: str) -> None:
    found = [entry for entry in entries(REASONS) if fits(text, entry)]
    assert len(found) == 1, f"{text!r} has {len(found)} entries under {REASONS!r}"


@pytest.mark.parametrize("level", ["ERROR", "WARNING", "INFO"])
def test_guide_has_no_line_that_is_not_written(level: str) -> None:
    written = [text for at, text in lines_written() if at == level]
    found = entries(f"Lines at {level}")
    assert found
    assert [entry for entry in found if not any(fits(text, entry) for text in written)] == []


def test_reason_that_is_given_twice_has_a_name() -> None:
    literal = Counter(
        (
            node.value
            for node, _ in reasons()
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
    )
    assert literal
    assert [text for text, count in literal.items() if count > 1] == []


def test_guide_has_no_reason_that_is_not_given() -> None:
    given = reasons_given()
    assert [entry for entry in entries(REASONS) if not any(fits(text, entry) for text in given)] == []


@pytest.mark.parametrize("title", ["Lines at ERROR", "Lines at WARNING", "Lines at INFO", REASONS])
def test_every_entry_says_why_and_what_to_do(title: str) -> None:
    told = re.split(r"^``.+``$", section(title), flags=re.MULTILINE)[1:]
    assert all(entry.count(":Cause:") == entry.count(":Remedy:") == 1 for entry in told)


@pytest.mark.parametrize("name", [field.name for field in fields(Policy)])
def test_option_is_in_the_guide(name: str) -> None:
    _, _, options = PAGES["guide.rst"].partition("\nOptions\n-------\n")
    assert f"``{name}``" in options


def test_page_on_the_status_has_every_part_of_it() -> None:
    """Names of the JSON, kinds of events, reasons and states."""
    page = PAGES["status.rst"]
    parts = (Snapshot, Worker, Inside, PinState, Counters, OutageState, Event, Leak)
    names = {field.name for part in parts for field in fields(part)}
    for name in {*names, *KINDS, *LOST, *CLOSED}:
        assert f"``{name}``" in page, name
    listed = re.findall(r"^``(\w+)``  +\S", page.partition("Kinds of events")[2], re.MULTILINE)
    assert listed == list(KINDS)

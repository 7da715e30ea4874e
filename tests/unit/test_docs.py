"""The README says what the code does: its blocks run, its table and log lines are the code's own."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from wsgi_persist import PersistMiddleware, Pin, Policy

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.rst").read_text()
CHECKS = (ROOT / "deploy" / "CHECKS.rst").read_text()
BLOCKS = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
# Quoted in the README with an example's values.
LOG_LINES = [
    "rolled back a transaction left open by %s",
    "session state left by %s (%s)",
    "%s gets connections of its own: %s is still inside",
    "a response was thrown away without close()",
    "not opened at start",
    "%s: cancelling its query in backend %d",
    "application group %r is a sub-interpreter",
]


def code(block: str) -> str:
    return re.sub(r"^    ", "", block, flags=re.MULTILINE)


def test_first_use_is_within_25_lines() -> None:
    lines = README.splitlines()[:25]
    assert any("PersistMiddleware(get_wsgi_application())" in line for line in lines)
    assert any("wsgi_persist.backends.postgresql" in line for line in lines)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_block_is_python(block: str) -> None:
    ast.parse(code(block))


def test_settings_blocks_are_accepted() -> None:
    from wsgi_persist.backends.options import policy_of

    found = []
    for block in BLOCKS:
        if "DATABASES" in block:
            namespace: dict[str, dict[str, dict[str, object]]] = {}
            exec(code(block), namespace)
            found.append(policy_of("default", namespace["DATABASES"]["default"]))
    assert found == [Policy(), Policy(max_age=1800, idle_check=60)]


def test_plain_block_makes_an_application() -> None:
    block = next(block for block in BLOCKS if "Pin(" in block)
    namespace: dict[str, object] = {}
    exec(code(block), namespace)
    assert isinstance(namespace["application"], PersistMiddleware)
    assert isinstance(namespace["pin"], Pin)


def test_table_lists_every_option_with_its_default() -> None:
    rows = re.findall(r"^``(\w+)``\s+``(.+?)``  ", README, re.MULTILINE)
    assert dict(rows) == {field.name: repr(field.default).replace("'", '"') for field in fields(Policy)}


@pytest.mark.parametrize("line", LOG_LINES)
def test_log_line_is_the_codes_own(line: str) -> None:
    sources = " ".join(path.read_text() for path in (ROOT / "wsgi_persist").rglob("*.py"))
    joined = re.sub(r"\{[^}]+\}", "%s", re.sub(r'"\s*\n\s*"', "", sources))
    assert line in joined
    assert re.search(re.sub("%[sdr]", ".+?", re.escape(line)), README)


def test_every_check_is_in_the_list_and_has_a_test() -> None:
    """Ids are full in the code, in the list's own lines and, without the prefix, in the tests."""
    backends = (ROOT / "wsgi_persist" / "backends").rglob("*.py")
    in_code = {
        found for path in backends for found in re.findall(r'id="(wsgi_persist\.\w+)"', path.read_text())
    }
    listed = re.findall(r"^``(wsgi_persist\.\w+)``$", CHECKS, re.MULTILINE)
    assert listed == sorted(in_code)
    tests = (ROOT / "tests" / "integration" / "test_checks.py").read_text()
    assert {name for name in in_code if name.partition(".")[2] not in tests} == set()


def test_every_check_has_cause_and_remedy() -> None:
    entries = re.split(r"^``wsgi_persist\.\w+``$", CHECKS, flags=re.MULTILINE)[1:]
    assert all(entry.count("*Cause:*") == entry.count("*Remedy:*") == 1 for entry in entries)


def test_versions_agree() -> None:
    from wsgi_persist import __version__

    assert __version__ in (ROOT / "CHANGELOG.rst").read_text()

"""The README, the manual and the files in deploy/ say what the code does: what they show is run here."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from wsgi_persist import PersistMiddleware, Pin, Policy
from wsgi_persist.__main__ import main

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.rst").read_text()
CHECKS = (ROOT / "deploy" / "CHECKS.rst").read_text()
FOUND = [
    ROOT / "README.rst",
    *sorted((ROOT / "docs").glob("*.rst")),
    *sorted((ROOT / "deploy").glob("*.rst")),
]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FOUND}
BLOCKS = {
    page: [
        textwrap.dedent(block)
        for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)
    ]
    for page, text in PAGES.items()
}
# What a page's DATABASES mean, in their order.
MEANT = {
    "README.rst": [Policy(), Policy(max_age=1800, idle_check=60)],
    "docs/failures.rst": [Policy()],
    "docs/scaling.rst": [Policy(pooler="transaction")],
    "docs/start.rst": [Policy()],
}
OPTIONS = {field.name for field in fields(Policy)}
COMMANDS = {
    page: re.findall(r"^ +(?:venv/bin/)?wsgi-persist (apache (?:.*\\\n)*.*)", text, re.MULTILINE)
    for page, text in PAGES.items()
}


def blocks_with(word: str) -> list[tuple[str, str]]:
    return [(page, block) for page, blocks in BLOCKS.items() for block in blocks if word in block]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 160


def test_first_use_is_within_25_lines() -> None:
    lines = README.splitlines()[:25]
    assert any("PersistMiddleware(get_wsgi_application())" in line for line in lines)
    assert any("wsgi_persist.backends.postgresql" in line for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_python(page: str) -> None:
    for block in BLOCKS[page]:
        ast.parse(block)


def test_settings_blocks_are_accepted() -> None:
    from wsgi_persist.backends.options import policy_of

    found: dict[str, list[Policy]] = {}
    for page, block in blocks_with("DATABASES"):
        namespace: dict[str, dict[str, dict[str, object]]] = {}
        exec(block, namespace)
        if "DATABASES" in namespace:  # not another package's setting of such a name
            found.setdefault(page, []).append(policy_of("default", namespace["DATABASES"]["default"]))
    assert found == MEANT


@pytest.mark.parametrize(("page", "block"), blocks_with("= PersistMiddleware("), ids=lambda given: given[:20])
def test_wrapping_block_makes_an_application(page: str, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.core.wsgi.get_wsgi_application", lambda: print)
    namespace: dict[str, object] = {"application": print}
    exec(block, namespace)
    assert isinstance(namespace["application"], PersistMiddleware)


def test_plain_block_keeps_a_pin() -> None:
    ((page, block),) = blocks_with("Pin(")
    assert page == "docs/guide.rst"
    namespace: dict[str, object] = {}
    exec(block, namespace)
    pin = namespace["pin"]
    assert isinstance(pin, Pin)
    assert (pin.name, pin.policy) == ("shop", Policy(max_age=1800))


def test_no_replay_blocks_run() -> None:
    found = blocks_with("no_replay")
    assert found
    for _, block in found:
        exec(block, {})


def test_logging_block_shows_info() -> None:
    ((_, block),) = blocks_with("LOGGING")
    tried = "import logging.config\nlogging.config.dictConfig(LOGGING)\n"
    tried += "logging.getLogger('wsgi_persist.anything').info('told')\n"
    done = subprocess.run([sys.executable, "-c", block + tried], check=True, capture_output=True, text=True)
    assert done.stderr == "told\n"


def test_table_lists_every_option_with_its_default() -> None:
    rows = re.findall(r"^``(\w+)``\s+``(.+?)``  ", README, re.MULTILINE)
    assert dict(rows) == {field.name: repr(field.default).replace("'", '"') for field in fields(Policy)}


@pytest.mark.parametrize("page", PAGES)
def test_values_of_options_are_allowed(page: str) -> None:
    for text in re.findall(r'"persist": (\{[^{}]*\})', PAGES[page]):
        Policy.from_mapping(ast.literal_eval(text))
    for name, value in re.findall(r"``(\w+)=(\"\w+\"|[\w.]+)``", PAGES[page]):
        if name in OPTIONS:
            Policy.from_mapping({name: ast.literal_eval(value)})


def test_commands_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their arguments; what they would find is that this machine has no such sites."""
    monkeypatch.setattr("wsgi_persist.command.apache.run", lambda given: None)
    shown = {page: len(commands) for page, commands in COMMANDS.items() if commands}
    assert shown == {"README.rst": 1, "docs/start.rst": 1, "deploy/README.rst": 4}
    for command in (command for commands in COMMANDS.values() for command in commands):
        words = shlex.split(re.sub(r"\\\n|> \S+", "", command))
        assert main(words) == 0, command


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

"""The files for operators: all are checked, all forget their values, and their timeouts fit together."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from tools import syntax
from tools.apache import VHOST, VHOSTS
from wsgi_persist import Policy
from wsgi_persist.worker import lifecycle

ROOT = Path(__file__).parent.parent.parent
FILES = {path.name: path.read_text() for path in VHOSTS.iterdir()}
DIRECTIVES = re.sub(r"^\s*#.*\n", "", FILES["wsgi_persist.conf"], flags=re.MULTILINE)
TIMES = {name: int(value) for name, value in re.findall(r"\b([a-z]+-timeout)=(\d+)", DIRECTIVES)}


def test_every_file_is_part_of_the_syntax_check() -> None:
    checked = {path.name for path in syntax.files()}
    read = {name: set(re.findall(r"\$\{PERSIST_FILES\}/([\w.]+)", FILES[name])) for name in checked}
    assert set(FILES) == checked.union(*read.values())


def test_every_file_is_in_the_wheel() -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["wsgi_persist.deploy"].split()
    assert {path.name for pattern in patterns for path in VHOSTS.parent.glob(pattern)} >= set(FILES)


def test_every_file_is_in_the_readme() -> None:
    readme = (ROOT / "deploy" / "README.rst").read_text()
    assert {name for name in FILES if f"``apache/{name}``" in readme} == {
        name for name in FILES if name.endswith(".conf")
    }


@pytest.mark.parametrize("folder", ["patroni", "pgbouncer"])
def test_every_file_of_a_folder_is_named(folder: str) -> None:
    """In the wheel by a pattern, and in the operator's list beside its folder."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    assert f"{folder}/*" in config["options.package_data"]["wsgi_persist.deploy"].split()
    entry = re.search(rf"^``{folder}/``\n((?:    .*\n)+)", (ROOT / "deploy" / "README.rst").read_text(), re.M)
    assert entry is not None
    assert {path.name for path in (ROOT / "deploy" / folder).iterdir()} == set(
        re.findall(r"``([\w.]+\.(?:ini|sql|conf|py|yml|cfg))``", entry[1])
    )


def test_log_line_is_the_codes_own(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (VHOSTS.parent / "README.rst").read_text()
    monkeypatch.setattr(lifecycle, "worker_name", lambda: "shop:4711")
    monkeypatch.setattr(lifecycle.registry, "stop_all", lambda: (1, 0))
    with caplog.at_level("INFO", "wsgi_persist"):
        lifecycle.shut_down("script_reload")
    assert caplog.messages[0] in readme


@pytest.mark.parametrize("name", ["wsgi_persist.conf", "tls.conf"])
def test_values_are_forgotten_at_the_end(name: str) -> None:
    """The next site would inherit them. What the included file defines, it forgets."""
    defined = set(re.findall(r"^ *Define (PERSIST_\w+)", FILES[name], re.MULTILINE))
    everywhere = {"PERSIST_FILES"}
    forgotten = set(re.findall(r"^UnDefine (PERSIST_\w+)", FILES[name], re.MULTILINE))
    if name != VHOST.name:
        forgotten |= set(re.findall(r"^UnDefine (PERSIST_\w+)", FILES[VHOST.name], re.MULTILINE))
    assert defined - everywhere <= forgotten


def test_whoever_is_nearest_to_the_trouble_gives_up_first() -> None:
    explained = r"# +(\d+) .*reconnect_deadline \((\d+)\).*\(connect_timeout, (\d+)\)"
    stated = re.search(explained, VHOST.read_text())
    assert stated is not None
    waits_for_database, deadline, attempt = map(int, stated.groups())
    assert (deadline, attempt) == (Policy().reconnect_deadline, Policy().connect_timeout)
    assert waits_for_database == deadline + attempt
    in_a_worker = TIMES["request-timeout"] + TIMES["interrupt-timeout"] + TIMES["shutdown-timeout"]
    assert waits_for_database < TIMES["queue-timeout"] < TIMES["request-timeout"]
    assert TIMES["queue-timeout"] + in_a_worker < TIMES["socket-timeout"]
    assert TIMES["graceful-timeout"] > waits_for_database


@pytest.mark.parametrize("name", TIMES)
def test_timeout_is_explained_with_its_value(name: str) -> None:
    if name != "inactivity-timeout":  # off
        assert re.search(rf"^# +{TIMES[name]}  {name}\b", FILES["wsgi_persist.conf"], re.MULTILINE)


def test_what_only_mod_wsgi_6_knows_is_behind_a_condition() -> None:
    assert re.search(
        r"<IfDirective !WSGILazyInitialization>\n.*interrupt-timeout=\d+\"\n</IfDirective>", DIRECTIVES
    )
    assert DIRECTIVES.count("interrupt-timeout") == 1

"""The command line without a site: arguments, permissions, sizes, the rendered text."""

from __future__ import annotations

import grp
import json
import os
import pwd
import random
import resource
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.apache import public_folder
from wsgi_persist.__main__ import main
from wsgi_persist.command.access import ENTER, READ, WRITE, Account, obstacle
from wsgi_persist.command.reach import find_obstacles
from wsgi_persist.command.refusal import Refused
from wsgi_persist.command.sizing import Limit, automatic
from wsgi_persist.command.template import render, shipped
from wsgi_persist.command.workers import account_of

ROOT = Path(__file__).parent.parent.parent

# ##### Arguments #####

WRAPPED = """\
from wsgi_persist import PersistMiddleware, Pin
pin = Pin(print)
application = PersistMiddleware(print, pins=[pin])
"""
APACHE = ("apache", "--server-name", "shop.example.org")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "wsgi.py").write_text("application = print\n")
    (folder / "taken.conf").touch()
    for name in ("a shop", "a:shop", "a[b]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wsgi.py").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("nginx",), "invalid choice: 'nginx'"),
        (("apache",), "the following arguments are required: --server-name"),
        (("apache", "--server-name", "a_b"), "'a_b' is not allowed: give a host name, such as"),
        (("apache", "--server-name", "a..b"), "'a..b' is not allowed: give a host name"),
        (("apache", "--server-name", "x" * 254), "is not allowed: give a host name"),
        ((*APACHE, "--port", "0"), "'0' is not allowed: give a whole number from 1 to 65535"),
        ((*APACHE, "--port", "http"), "'http' is not allowed: give a whole number from 1 to 65535"),
        ((*APACHE, "--processes", "0"), "'0' is not allowed: give a whole number from 1 to 10000"),
        ((*APACHE, "--processes", "many"), "'many' is not allowed: give a whole number"),
        ((*APACHE, "--reserve", "news"), "'news' is not allowed: give a whole number"),
        ((*APACHE, "--reserve", "news=-1"), "'-1' is not allowed: give a whole number"),
        (
            (*APACHE, "--reserve", "5"),
            "--reserve is for --processes auto, not for --processes 4: leave one out",
        ),
        ((*APACHE, "--pooler-clients", "400"), "--pooler-clients is for --processes auto: leave one out"),
        ((*APACHE, "--reserve", "a\nLoadModule b=5"), "'a\\nLoadModule b' is not allowed: give letters"),
        ((*APACHE, "--options", "x=1 user=root"), "--options user= would undo what is computed here"),
        ((*APACHE, "--options", "processes=9"), "processes= would undo what is computed here: give --proc"),
        ((*APACHE, "--options", "threads=9", "--processes", "auto"), "threads= would undo what is computed"),
        ((*APACHE, "--project", "../a[b]", "--site", "a"), "'[', by which <Directory> means other folders"),
        ((*APACHE, "--project", "b\udcff"), "'b\\udcff' is not allowed: give a text without quotes"),
        ((*APACHE, "--site", "a b"), "'a b' is not allowed: give letters, digits, '.', '_' and '-'"),
        ((*APACHE, "--user", "no such user"), "'no such user' is no user of this machine"),
        ((*APACHE, "--options", 'a="b"'), "is not allowed: give a text without quotes"),
        ((*APACHE, "--options", "a=b\nLoadModule x"), "is not allowed: give a text without quotes"),
        ((*APACHE, "--project", "${HOME}"), "'${HOME}' is not allowed: give a text without quotes"),
        ((*APACHE, "--project", "../gone"), "gone does not exist: give --project"),
        ((*APACHE, "--project", "../a shop"), "cannot name the workers: give --site"),
        (
            (*APACHE, "--project", "../a:shop", "--site", "a"),
            "has a ':', which mod_wsgi takes for two folders",
        ),
        ((*APACHE, "--wsgi", "gone.wsgi"), "gone/wsgi.py does not exist: give --wsgi"),
        ((*APACHE, "--wsgi", "shop.gone"), "shop/gone.py does not exist: give --wsgi"),
        ((*APACHE, "--wsgi", "wsgi", "--settings", "a.b"), "both name the script: give one"),
        ((*APACHE, "--settings", "a.b.py!"), "'a.b.py!' is not allowed: give a module's name"),
        ((*APACHE, "--venv", "gone"), "has no bin/python that can be run: give the virtual environment"),
        ((*APACHE, "--static", "gone"), "gone does not exist: collect the static files first"),
        ((*APACHE, "--status-page", "/persist-status"), "persist_status.py does not exist: copy deploy/"),
        ((*APACHE, "--status-page", "status"), "'status' is not allowed: give a path of the site"),
        ((*APACHE, "--status-page", "/"), "'/' is not allowed: give a path of the site"),
        ((*APACHE, "--output", "taken.conf"), "exists: give another --output, or --force to overwrite it"),
        ((*APACHE, "--force"), "--force is for --output FILE: leave it out"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_bad_argument_is_one_line_and_status_2(
    arguments: tuple[str, ...], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.startswith("wsgi-persist: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", ['"', "\\", "${HOME}", '\nLoadModule x "y'], ids=repr)
def test_current_folder_is_looked_at_like_one_that_is_given(
    name: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / name).mkdir()
    monkeypatch.chdir(project / name)
    assert main([*APACHE, "--site", "a"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "argument --project: " in said.err
    assert said.err.count("\n") == 1


def test_interpreter_in_a_folder_with_a_quote(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    (project / 'a"b').symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "prefix", str(project / 'a"b'))
    assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "wsgi-persist: PERSIST_VENV would be " in said.err


def test_user_whose_group_has_no_name(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user = pwd.struct_passwd(("shop", "x", 4321, 987654, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: user)
    assert main([*APACHE, "--user", "shop"]) == 2
    assert "'shop' has the group 987654, which has no name: groupadd" in capsys.readouterr().err


def test_each_problem_has_its_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*APACHE, "--venv", "gone", "--static", "gone", "--wsgi", "gone.py", "--output", "taken.conf"]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("wsgi-persist: ") for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that a user may not look into")
@pytest.mark.parametrize("option", ["--project", "--wsgi", "--static", "--status", "--output", "--venv"])
def test_ordinary_user_who_may_not_look(option: str, folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    if met := obstacle(account_of(nobody, ""), Path(sys.executable), READ | ENTER):
        pytest.skip(f"nobody cannot run this interpreter: {met.text}")
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    (folder / "wsgi.py").touch()
    source = folder / "source"
    shutil.copytree(ROOT / "wsgi_persist", source / "wsgi_persist")
    given = {"--project": str(folder), option: str(hidden / "x.conf")}
    done = subprocess.run(
        [sys.executable, "-m", "wsgi_persist", *APACHE, *(word for pair in given.items() for word in pair)],
        **{"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []},  # type: ignore[call-overload]
        **{"cwd": source, "capture_output": True, "text": True, "check": False},
        env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert str(hidden) in done.stderr
    assert done.stderr.startswith("wsgi-persist: ")
    assert done.stderr.count("\n") == 1


def test_full_disk(project: Path) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    user = pwd.getpwuid(os.geteuid()).pw_name
    command = [sys.executable, "-m", "wsgi_persist", *APACHE, "--project", str(project), "--user", user]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "wsgi-persist: the standard output: No space left on device\n",
    )


@pytest.mark.parametrize("arguments", [["--help"], ["apache", "--help"], ["--version"]], ids=" ".join)
def test_help_and_version(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "wsgi_persist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("application = print", "does not wrap its application: write 'from wsgi_persist import Pers"),
        ("app = print", "has no callable named 'application'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('not today')", "SystemExit: not today"),
        ("raise ValueError('first\\nsecond')", "ValueError: first second"),
        ("raise ValueError('postgresql://shop:geheim@db/shop')", "ValueError: postgresql://shop:***@db/shop"),
        ("import os; os.write(2, b'password=geheim'); os._exit(3)", "imported the site: password=***"),
        ("import os; os._exit(3)", "ended with status 3 while it imported the site"),
        (
            "from wsgi_persist import PersistMiddleware\napplication = PersistMiddleware(print)",
            "wraps its application, but has no connection to keep",
        ),
    ],
    ids=lambda value: value.splitlines()[0][:30],
)
def test_broken_project_is_one_line(
    script: str, message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(f"print('while importing')\n{script}\n")
    myself = pwd.getpwuid(os.geteuid()).pw_name  # pytest's folders are for nobody else
    assert main([*APACHE, "--user", myself]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert "geheim" not in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "os.write(2, b'\\xff')",
        # It keeps what it inherits open for longer than the command waits.
        "subprocess.Popen(['sleep', '40'])",
        "import helper",
    ],
)
def test_strange_but_working_project(
    line: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_importable(project)
    monkeypatch.setattr("wsgi_persist.command.site._PATIENCE", 30.0)
    for name, value in {"PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (project / "helper.py").touch()
    (project / "wsgi.py").write_text(f"import os, subprocess\n{line}\n{WRAPPED}")
    assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name]) == 0, capsys.readouterr().err
    assert not (project / "__pycache__").exists()


def test_link_to_the_current_release_stays_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_importable(project)
    link = project.parent / "current"
    link.symlink_to(project)
    (project / "conf.py").write_text("WSGI_APPLICATION = 'wsgi.application'\n")
    (project / "wsgi.py").write_text(f"import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'conf'\n{WRAPPED}")
    user = pwd.getpwuid(os.geteuid()).pw_name
    arguments = [*APACHE, "--project", str(link), "--settings", "conf", "--user", user]
    assert main(arguments) == 0, capsys.readouterr().err
    assert f'Define PERSIST_SCRIPT "{link}/wsgi.py"\n' in capsys.readouterr().out


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name, *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_status_and_its_page(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    (project / "persist_status.py").touch()
    (project / "told").mkdir()
    assert not any(line.startswith("Define PERSIST_STATUS") for line in rendered(capsys))
    lines = rendered(capsys, "--status", "told", "--status-page", "/persist-status")
    assert f'Define PERSIST_STATUS "{project}/told"' in lines
    assert 'Define PERSIST_STATUS_PAGE "/persist-status"' in lines


def test_status_folder_that_is_not_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name, "--status", "gone"]) == 2
    assert "gone does not exist: see deploy/tmpfiles.conf" in capsys.readouterr().err


# ##### As the workers' user #####

NOBODY = pwd.getpwnam("nobody")
NOGROUP = grp.getgrgid(NOBODY.pw_gid).gr_name


@pytest.fixture
def site(folder: Path) -> Path:
    """Which the user nobody can read, and may be asked as that user."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process as another user")
    if met := obstacle(account_of(pwd.getpwnam("nobody"), ""), Path(sys.executable), READ | ENTER):
        pytest.skip(f"nobody cannot run this interpreter: {met.text}")
    shutil.copytree(
        ROOT / "wsgi_persist", folder / "wsgi_persist", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "wsgi.py").write_text(WRAPPED)
    return folder


def as_nobody(site: Path, *more: str) -> list[str]:
    return [*APACHE, "--project", str(site), "--site", "a", "--user", "nobody", *more]


def test_status_folder_is_the_workers_own(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "told").mkdir()
    (site / "persist_status.py").touch()
    told = as_nobody(site, "--status", str(site / "told"), "--status-page", "/told")
    assert main(told) == 2
    assert f"{site}/told does not belong to the workers' user nobody: chown nobody" in capsys.readouterr().err
    shutil.chown(site / "told", "nobody")
    assert main(told) == 0
    options = f'Define PERSIST_STATUS_OPTIONS "user=nobody group={NOGROUP}"'
    assert options in capsys.readouterr().out.splitlines()


WRITES = """\
import json, os, pathlib
here = pathlib.Path(__file__).parent
(here / "logs" / "site.log").write_text(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())],
    "environ": {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME", "PGPASSWORD")},
}))
import helper
"""


def test_site_is_asked_as_the_workers_user(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file of root's would keep the workers from starting, and compiled files from being replaced."""
    monkeypatch.setenv("PGPASSWORD", "of the shell")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (site / "helper.py").touch()
    (site / "wsgi.py").write_text(WRITES + WRAPPED)
    nobody = pwd.getpwnam("nobody")
    (site / "logs").mkdir()
    shutil.chown(site / "logs", "nobody")
    assert main(as_nobody(site)) == 0
    written = site / "logs" / "site.log"
    assert (written.stat().st_uid, written.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)
    assert json.loads(written.read_text()) == {
        "ids": [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3, sorted(os.getgrouplist("nobody", nobody.pw_gid))],
        "environ": {"HOME": nobody.pw_dir, "USER": "nobody", "LOGNAME": "nobody", "PGPASSWORD": None},
    }
    assert list(site.rglob("__pycache__")) == []


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ("group=daemon", lambda daemon, own: {daemon}),
        ("group=root group=daemon request-timeout=9", lambda daemon, own: {daemon}),
        ("group=#{daemon}", lambda daemon, own: {daemon}),
        ("supplementary-groups=daemon", lambda daemon, own: {own, daemon}),
        ("request-timeout=9", lambda daemon, own: {own}),
    ],
)
def test_group_in_the_options(options: str, groups: Callable[[int, int], set[int]]) -> None:
    nobody, daemon = pwd.getpwnam("nobody"), grp.getgrnam("daemon").gr_gid
    account = account_of(nobody, options.format(daemon=daemon))
    assert account.groups == groups(daemon, nobody.pw_gid)
    assert account.gid == (daemon if " group=" in f" {options}" else nobody.pw_gid)


@pytest.mark.parametrize("option", ["group", "supplementary-groups"])
def test_group_in_the_options_that_is_none(
    option: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*APACHE, "--options", f"{option}=gone"]) == 2
    wanted = f"--options {option}=gone: no group of this machine: give one that is"
    assert capsys.readouterr().err == f"wsgi-persist: {wanted}\n"


def test_settings_for_the_workers_group_alone(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the hint says is enough, and opens the file to nobody else."""
    (site / "wsgi.py").write_text(f"import keys\n{WRAPPED}")
    (site / "keys.py").touch(mode=0o600)
    arguments = as_nobody(site, "--options", "group=daemon")
    assert main(arguments) == 2
    wanted = (
        f"user nobody may not read {site}/keys.py: chgrp daemon {site}/keys.py && chmod g+r {site}/keys.py"
    )
    assert capsys.readouterr().err == f"wsgi-persist: {wanted}\n"
    subprocess.run(wanted.rpartition(": ")[2], shell=True, check=True)
    assert stat.S_IMODE((site / "keys.py").stat().st_mode) == 0o640
    assert main(arguments) == 0


def test_package_that_the_workers_cannot_look_into(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a umask of 077 makes it; to Python it has no modules then."""
    (site / "wsgi.py").write_text(f"import shop.settings\n{WRAPPED}")
    (site / "shop").mkdir(mode=0o700)
    (site / "shop" / "settings.py").touch()
    assert main(as_nobody(site)) == 2
    wanted = f"user nobody may not read and enter {site}/shop: chmod o+rx {site}/shop, or move it to where"
    assert wanted in capsys.readouterr().err
    (site / "shop").chmod(0o755)
    assert main(as_nobody(site)) == 0


def test_module_that_is_really_missing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "wsgi.py").write_text("import gone.settings\n")
    assert main(as_nobody(site)) == 2
    assert " as nobody: ModuleNotFoundError: No module named 'gone' " in capsys.readouterr().err


@pytest.mark.parametrize("exists", [False, True])
def test_log_file_that_the_workers_cannot_write(
    exists: bool, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "wsgi.py").write_text(
        "import logging.handlers\n"
        f"try:\n    logging.FileHandler('{site}/logs/site.log')\n"
        f"except OSError as error:\n    raise ValueError('as logging.config does') from error\n{WRAPPED}"
    )
    (site / "logs").mkdir()
    wanted = f"user nobody may not write to and enter {site}/logs: chgrp {NOGROUP} {site}/logs && chmod g+wx"
    if exists:
        (site / "logs" / "site.log").touch()
        wanted = (
            f"user nobody may not write to {site}/logs/site.log: chgrp {NOGROUP} {site}/logs/site.log && ch"
        )
    assert main(as_nobody(site)) == 2
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "owner", "message"),
    [
        (0o600, "nobody", None),
        (0o600, "root", "has to be a file that user nobody alone may read"),
        (0o640, "nobody", "chmod 600"),
        (None, "root", "has to be a file that user nobody alone may read"),
    ],
)
def test_passfile(
    mode: int | None, owner: str, message: str | None, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passfile = site / "shop.pgpass"
    if mode is not None:
        passfile.touch(mode=mode)
        shutil.chown(passfile, owner)
    facts = {"files": [], "script": str(site / "wsgi.py"), "imported": []}
    aliases = {"default": {"host": "", "port": "5432", "passfile": str(passfile)}}
    found = list(find_obstacles({**facts, "aliases": aliases}, account_of(pwd.getpwnam("nobody"), "")))
    assert len(found) == (message is not None)
    assert message is None or message in found[0]


def test_module_that_the_workers_cannot_read(site: Path) -> None:
    """Where this cannot become the workers' user, what was imported is looked at."""
    imported = [str(site / name) for name in ("keys.py", "more.py")]
    for file in map(Path, imported):
        file.touch(mode=0o600)
    facts = {"files": [], "script": str(site / "wsgi.py"), "imported": imported, "aliases": {}}
    (found,) = find_obstacles(facts, account_of(pwd.getpwnam("nobody"), ""))
    assert found.startswith(f"user nobody may not read {site}/keys.py: chgrp {NOGROUP} ")
    assert found.endswith(" (1 more like this)")


def test_half_a_file_is_never_left(project: Path) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    folder = project / "sites"
    folder.mkdir()
    (folder / "link.conf").symlink_to("old.conf")
    (folder / "old.conf").write_text("of the operator")
    (folder / "old.conf").chmod(0o640)
    arguments = [*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name, "--output"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert main([*arguments, "sites/new.conf"]) == 2
        assert main([*arguments, "sites/link.conf", "--force"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(os.listdir(folder)) == ["link.conf", "old.conf"]
    assert (folder / "old.conf").read_text() == "of the operator"
    assert main([*arguments, "sites/link.conf", "--force"]) == 0
    assert sorted(os.listdir(folder)) == ["link.conf", "old.conf"]
    assert (folder / "link.conf").is_symlink()
    assert (folder / "old.conf").read_text().endswith(shipped())
    assert stat.S_IMODE((folder / "old.conf").stat().st_mode) == 0o640


def test_folder_above_the_release_that_a_link_leads_to(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    (project / "releases" / "one").mkdir(parents=True)
    link = project.parent / "links" / "current"
    link.parent.mkdir()
    link.symlink_to(project / "releases" / "one")
    user = pwd.getpwuid(os.geteuid()).pw_name
    arguments = [*APACHE, "--user", user, "--project", f"{link}/../..", "--wsgi", "releases/../wsgi.py"]
    assert main(arguments) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert f'Define PERSIST_PROJECT "{project.resolve()}"\n' in said
    assert f'Define PERSIST_SCRIPT "{project.resolve()}/wsgi.py"\n' in said


@pytest.mark.parametrize(
    ("given", "script"),
    [
        ([], "wsgi.py"),
        (["--wsgi", "wsgi.py"], "wsgi.py"),
        (["--wsgi", "conf.wsgi"], "conf/wsgi.py"),
        (["--wsgi", "conf/wsgi.py"], "conf/wsgi.py"),
        (["--wsgi", "other.wsgi"], "other.wsgi"),
        (["--settings", "conf.settings"], "conf/wsgi.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_script_is_named_in_many_ways(
    given: list[str], script: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_importable(project)
    (project / "conf").mkdir()
    (project / "conf" / "settings.py").write_text("WSGI_APPLICATION = 'conf.wsgi.application'\n")
    for name in ("wsgi.py", "other.wsgi", "conf/wsgi.py"):
        (project / name).write_text(
            f"import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'conf.settings'\n{WRAPPED}"
        )
    assert main([*APACHE, *given, "--user", pwd.getpwuid(os.geteuid()).pw_name]) == 0
    assert f'Define PERSIST_SCRIPT "{project / script}"\n' in capsys.readouterr().out
    if not given:
        (project / "wsgi.py").unlink()
        assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name]) == 0
        assert f'Define PERSIST_SCRIPT "{project}/conf/wsgi.py"\n' in capsys.readouterr().out


def test_script_beside_the_project(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Apache grants the project's folder alone, and would answer 403."""
    make_importable(project)
    outside = project.parent / "outside.py"
    outside.write_text(WRAPPED)
    arguments = [*APACHE, "--wsgi", "../outside.py", "--user", pwd.getpwuid(os.geteuid()).pw_name]
    assert main(arguments) == 2
    wanted = f"{outside} is not inside of {project}, and Apache grants nothing else: give --project"
    assert capsys.readouterr().err == f"wsgi-persist: {wanted}\n"


def test_script_with_other_settings(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "of.the.shell")
    make_importable(project)
    (project / "conf.py").write_text("WSGI_APPLICATION = 'wsgi.application'\n")
    (project / "wsgi.py").write_text(
        f"import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'of.the.script')\n{WRAPPED}"
    )
    arguments = [*APACHE, "--settings", "conf", "--user", pwd.getpwuid(os.geteuid()).pw_name]
    assert main(arguments) == 2
    assert "uses the settings 'of.the.script', not 'conf' as --settings says" in capsys.readouterr().err


def test_site_without_django(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_importable(project)
    (project / "wsgi.py").write_text(WRAPPED)
    arguments = [*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith(shipped())
    assert main([*arguments, "--processes", "auto"]) == 2
    assert "(there is no alias): give --pooler-clients, or a number of processes" in capsys.readouterr().err


OLD = """
import django
django.VERSION = (4, 2, 23, "final", 0)
DATABASES = {"default": {"ENGINE": "wsgi_persist.backends.postgresql", "NAME": "shop"}}
"""


def test_django_that_is_too_old(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_importable(project)
    (project / "conf.py").write_text(OLD)
    script = "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'conf'\nimport django.db\n"
    (project / "wsgi.py").write_text(script + WRAPPED)
    assert main([*APACHE, "--user", pwd.getpwuid(os.geteuid()).pw_name]) == 2
    wanted = f"{sys.prefix} has Django 4.2.23, which is not supported: install 5.2 or later there"
    assert capsys.readouterr().err == f"wsgi-persist: {wanted}\n"


def make_importable(project: Path) -> None:
    """The package where Apache would find it: the probe gets no PYTHONPATH."""
    (project / "wsgi_persist").symlink_to(ROOT / "wsgi_persist")


# ##### Permissions #####

STRANGER = Account("stranger", 54321, 54321, frozenset({54321}), "/")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which everybody may reach, unlike pytest's own."""
    made = public_folder("access").resolve()
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def member(path: Path) -> Account:
    return STRANGER._replace(groups=frozenset({path.stat().st_gid}))


def test_every_parent_needs_its_execute_bit(folder: Path) -> None:
    inner = folder / "home" / "site"
    inner.mkdir(parents=True)
    assert obstacle(STRANGER, inner, READ | ENTER) is None
    inner.parent.chmod(0o710)
    found = obstacle(STRANGER, inner, READ | ENTER)
    assert found is not None
    assert found.path == inner.parent
    assert found.text == (
        f"user stranger may not enter {inner.parent}, on the way to {inner}: "
        f"chmod o+x {inner.parent}, or move it to where everybody may read"
    )
    assert obstacle(member(inner.parent), inner, READ | ENTER) is None


def test_group_bits_bind_its_members_even_where_others_may_more(folder: Path) -> None:
    file = folder / "wsgi.py"
    file.touch(mode=0o604)
    assert obstacle(STRANGER, file, READ) is None
    assert obstacle(member(file), file, READ) is not None


def test_both_sides_of_a_link_are_crossed(folder: Path) -> None:
    for name in ("private", "public"):
        (folder / name).mkdir()
    (folder / "private" / "releases").mkdir()
    (folder / "public" / "current").symlink_to("../private/releases")
    assert obstacle(STRANGER, folder / "public" / "current", READ) is None
    (folder / "private").chmod(0o700)
    found = obstacle(STRANGER, folder / "public" / "current", READ)
    assert found is not None
    assert found.path == folder / "private"


def test_what_is_missing_or_circular_is_told(folder: Path) -> None:
    (folder / "round").symlink_to("round")
    for name, reason in [("gone", "No such file or directory"), ("round", "too many symbolic links")]:
        found = obstacle(STRANGER, folder / name, READ)
        assert found is not None
        assert reason in found.text


def access_list(mode: int, *entries: tuple[int, int, int]) -> bytes:
    """As <linux/posix_acl_xattr.h> lays it out: the owner, then *entries*, then everybody else."""
    nobody = 0xFFFFFFFF
    lines = [(0x01, mode >> 6 & 7, nobody), *entries, (0x20, mode & 7, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *line) for line in sorted(lines))


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access control lists as Linux has them")
def test_access_control_list(folder: Path) -> None:
    group, mask, nobody = 0x04, 0x10, 0xFFFFFFFF
    for entry, cut, fits in [
        ((0x02, 7, 54321), 7, True),
        ((0x02, 7, 54321), 6, False),
        ((0x02, 7, 1), 7, False),
    ]:
        given = access_list(0o700, entry, (group, 0, nobody), (mask, cut, nobody))
        os.setxattr(folder, "system.posix_acl_access", given)
        assert (obstacle(STRANGER, folder, ENTER) is None) is fits


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask the kernel as another user")
def test_agrees_with_the_kernel(folder: Path) -> None:
    chance = random.Random(34)
    user = pwd.getpwnam("nobody")
    account = account_of(user, "")
    path = folder / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    seen = set()
    for _ in range(60):
        for step in (folder / "a", folder / "a" / "b", path):
            os.chown(step, chance.choice([0, user.pw_uid]), chance.choice([0, user.pw_gid]))
            step.chmod(chance.choice([0o755, 0o750, 0o705, 0o057, chance.randrange(0o1000)]))
        wanted = chance.choice([READ, WRITE, READ | WRITE])
        allowed = kernel_allows(user, path, wanted)
        seen.add(allowed)
        modes = [oct(stat.S_IMODE(step.stat().st_mode)) for step in (path.parent.parent, path.parent, path)]
        assert (obstacle(account, path, wanted) is None) is allowed, modes
    assert seen == {True, False}


def kernel_allows(user: pwd.struct_passwd, path: Path, wanted: int) -> bool:
    asked = ["/bin/sh", "-c", "".join(f"[ -{letter} {path} ] &&" for letter in letters(wanted)) + " true"]
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return subprocess.run(asked, cwd="/", check=False, **who).returncode == 0  # type: ignore[call-overload]


def letters(wanted: int) -> str:
    return ("r" if wanted & READ else "") + ("w" if wanted & WRITE else "")


# ##### Sizes #####


def server(most: int, *aliases: str) -> Limit:
    return Limit(list(aliases) or ["default"], "max_connections", most, 3)


def pooler(most: int, *aliases: str) -> Limit:
    return Limit(list(aliases), "max_client_conn", most, 0)


def role(most: int, *aliases: str) -> Limit:
    return Limit(list(aliases) or ["default"], "role shop", most, 0)


@pytest.mark.parametrize(
    ("limits", "reserved", "processes"),
    [
        ([server(100)], {}, 9),
        ([server(100)], {"news": 92}, 5),
        ([server(100, "default", "archive")], {"news": 80, "wiki": 10}, 3),
        ([server(100), server(10, "archive")], {"cron": 1}, 6),
        ([server(100), role(5)], {}, 5),
        ([pooler(20, "default", "archive")], {"news": 12}, 4),
        ([server(100), role(5)], {"news": 80}, 5),
        ([server(100, "default", "archive"), role(5, "default", "archive")], {}, 2),
    ],
)
def test_as_many_as_the_cores_want_and_the_databases_take(
    limits: list[Limit], reserved: dict[str, int], processes: int
) -> None:
    assert automatic(limits, reserved, cores=4).processes == processes


def test_no_room_is_told_with_the_whole_account() -> None:
    with pytest.raises(Refused) as refused:
        automatic([server(100, "default", "archive")], {"news": 90, "others": 6}, cores=4)
    assert refused.value.lines == [
        "--processes auto: no process fits into the 1 connections that are left (max_connections=100, "
        "3 reserved by the server, 90 for news, 6 for others; 2 for each process (default, archive)): "
        "raise max_connections, reserve less, or put PgBouncer between"
    ]
    with pytest.raises(Refused) as refused:
        automatic([role(1, "default", "archive")], {"news": 90}, cores=4)
    assert refused.value.lines == [
        "--processes auto: no process fits into the 1 connections that are left (CONNECTION LIMIT of role "
        "shop=1; 2 for each process (default, archive)): raise CONNECTION LIMIT of role shop, reserve less, "
        "or put PgBouncer between"
    ]
    with pytest.raises(Refused) as refused:
        automatic([pooler(1, "default", "archive")], {}, cores=4)
    assert refused.value.lines == [
        "--processes auto: no process fits into the 1 connections that are left (max_client_conn=1; 2 for "
        "each process (default, archive)): raise max_client_conn, or reserve less"
    ]


# ##### The text #####


def test_values_come_before_the_shipped_file() -> None:
    text = render({"PERSIST_SITE": "shop", "PERSIST_PROCESSES": "5"}, {"PERSIST_PROCESSES": "as many as fit"})
    assert 'Define PERSIST_SITE "shop"\n# as many as fit\nDefine PERSIST_PROCESSES "5"\n' in text
    assert text.endswith(shipped())
    assert "# a b\nDefine X" in render({"X": "1"}, {"X": "a\nb"})


def test_every_value_is_one_of_the_shipped_file() -> None:
    source = (ROOT / "wsgi_persist" / "command" / "apache.py").read_text()
    names = {word.strip('":[]{}') for word in source.split() if "PERSIST_" in word and word.startswith('"')}
    names |= {"PERSIST_OPTIONS", "PERSIST_STATIC"}
    assert len(names) == 9
    for name in names:
        assert f"UnDefine {name}\n" in shipped()
        assert f"${{{name}}}" in shipped()

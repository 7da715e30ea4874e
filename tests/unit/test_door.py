"""What the tools need of a machine, what they say where it is missing, and what they leave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.conftest import eventually
from tools import apt, fresh, machine, manual, standalone, suite
from tools.apache import scratch
from tools.environment import Environment
from tools.machine import Interpreter, Needs
from tools.mod_wsgi import ModWsgi
from tools.steps import ENDING, LOCKED, NO_NETWORK, Locked, Step, Trouble, follow, run
from tools.venv import Venv
from wsgi_persist.command.syntax import environ_with
from wsgi_persist.version import OLDEST_DJANGO

ROOT = Path(__file__).parent.parent.parent
WHOLE = Interpreter("/usr/bin/python3", (3, 11, 2), {})


# ##### The machine #####


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "INCLUDE", tmp_path)
    lacks = {"python3-venv": "Python's venv", "python3-dev": "headers"}
    bare = Interpreter("/usr/bin/python3", (3, 11, 2), lacks)
    with pytest.raises(Trouble) as told:
        machine.require(bare, tmp_path, 0, standalone.NEEDS)
    assert str(told.value) == (
        "missing here: Python's venv, headers, a C compiler, make, the C library's headers, expat's headers "
        "(Debian, as root: apt-get install python3-venv python3-dev gcc make libc6-dev libexpat1-dev)"
    )


def test_headers_are_for_what_is_compiled_only(tmp_path: Path) -> None:
    bare = Interpreter("/usr/bin/python3", (3, 11, 2), {"python3-dev": "headers"})
    machine.require(bare, tmp_path, 0, machine.NOTHING)


def test_full_disk_is_told_before_it_is(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match=rf"^the disk is full: {tmp_path} needs 999999999 MB, and has \d+ MB$"):
        machine.require(WHOLE, tmp_path, 999_999_999, machine.NOTHING)


def test_compiler_is_asked_for_headers() -> None:
    assert machine.has_header("stdio.h")
    assert not machine.has_header("nowhere/to/be.h")
    assert list(machine._missing(Needs(("cc",), ("stdio.h",)))) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys; sys.version_info = (3, 9, 18)", "{} is older than 3.10"),
        ("raise SystemExit(1)", "{} does not run"),
    ],
)
def test_python_that_will_not_do(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python that says of itself what the text makes it say."""
    program = tmp_path / "python3.9"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{text}\n$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(program))
    with pytest.raises(Trouble) as error:
        machine.interpreter()
    assert str(error.value) == f"no fitting Python ({told.format(program)}): set PYTHON to one that fits"


def test_python_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", "/nowhere/python3")
    with pytest.raises(Trouble, match=r"^no fitting Python \(there is no /nowhere/python3\): set PYTHON"):
        machine.interpreter()


def test_oldest_django_is_that_of_the_extras() -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    assert config["options.extras_require"]["django"] == "Django>={}.{}".format(*OLDEST_DJANGO)


# ##### apt-get #####


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs, all that is found of them, and a root who may install."""
    monkeypatch.setattr(apt, "has_program", lambda name: (tmp_path / name).exists() or name == "apt-get")
    monkeypatch.setattr(apt, "MODULE", tmp_path / "mod_wsgi.so")
    monkeypatch.setattr(apt, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.delenv("APXS", raising=False)
    monkeypatch.setattr(apt.os, "geteuid", lambda: 0)
    monkeypatch.delenv("APT", raising=False)
    return tmp_path


def test_root_brings_what_is_missing(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apt.wanted(["demo", "apache"], standalone=False) == [["apache2", "apache2-dev"]]
    assert apt.wanted(["demo", "apache"], standalone=True) == []
    assert apt.wanted(["docs"], standalone=False) == []
    assert apt.wanted(["test", "uwsgi", "apache"], standalone=False) == [
        ["apache2", "apache2-dev"],
        ["iproute2", "pgbouncer", "libapache2-mod-wsgi-py3"],
    ]
    # Another Apache that modules can be built for.
    (debian / "apxs").touch()
    (debian / "ip").touch()
    assert apt.wanted(["test", "apache"], standalone=False) == [["pgbouncer", "libapache2-mod-wsgi-py3"]]
    assert apt.wanted(["test", "apache"], standalone=True) == [["pgbouncer"]]
    cluster = ["pgbouncer", "etcd-server", "haproxy"]
    assert apt.wanted(["test", "apache", "patroni"], standalone=True) == [cluster]
    monkeypatch.setenv("APT", "0")
    assert apt.wanted(["test", "apache"], standalone=False) == []


def test_root_brings_a_browser_only_when_told_to(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APT", "all")
    (debian / "promtool").touch()
    assert "chromium" in apt.wanted(["test", "apache"], standalone=False)[-1]
    assert "prometheus" not in apt.wanted(["test", "apache"], standalone=False)[-1]
    assert apt.wanted(["demo", "apache"], standalone=False) == [["apache2", "apache2-dev"]]


def test_nobody_else_does(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt.os, "geteuid", lambda: 1000)
    assert apt.wanted(["test", "apache"], standalone=False) == []


class Apt:
    """In place of the programs: what was run, and what fails how often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.fails: list[Exception | None] = []

    def __call__(self, command: list[str], log: Path, environ: dict[str, str]) -> None:
        self.ran.append(" ".join(word for word in command if word.isalnum()))
        assert (environ["LC_ALL"], apt.POLICY.exists()) == ("C.UTF-8", True)
        if self.fails and (failure := self.fails.pop(0)):
            raise failure
        for package in {"apache2", "pgbouncer"}.intersection(command):
            (self.folder / package).touch()


@pytest.fixture
def ran(debian: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    made = Apt(debian)
    monkeypatch.setattr(apt, "run", made)
    return made


INSTALL = "install pgbouncer"


@pytest.mark.parametrize(
    ("fails", "wanted"),
    [
        ([], [INSTALL, "pgbouncer disable"]),
        # Without the lists of packages.
        ([Trouble("no such package")], [INSTALL, "update", INSTALL, "pgbouncer disable"]),
        ([Trouble("no such package"), Trouble(NO_NETWORK)], [INSTALL, "update"]),
    ],
)
def test_what_is_installed(
    fails: list[Exception | None], wanted: list[str], ran: Apt, capsys: pytest.CaptureFixture[str]
) -> None:
    ran.fails = fails
    has_failed = len(fails) > 1
    apt.bring(["pgbouncer"], ran.folder / "log")
    assert [each.removeprefix("apt-get ") for each in ran.ran] == wanted
    told = f"--> apt-get does not bring pgbouncer, so it goes without: {NO_NETWORK}\n"
    assert capsys.readouterr().err == (told if has_failed else "")


def test_lock_of_another_process_is_no_failure_to_go_on_without(ran: Apt) -> None:
    ran.fails = [Locked(LOCKED)]
    with pytest.raises(Locked):
        apt.bring(["apache2"], ran.folder / "log")
    assert len(ran.ran) == 1
    assert not apt.POLICY.exists()


def test_nothing_that_is_installed_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(apt, "POLICY", policy)
    with apt.nothing_starts():
        assert subprocess.run([str(policy)], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("#!/bin/sh\nexit 0\n")  # an operator's own
    with apt.nothing_starts():
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()
    policy.write_text(apt.OURS)  # of a run that was killed
    with apt.nothing_starts():
        pass
    assert not policy.exists()


# ##### Steps #####


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full: make room, and start again"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7", LOCKED),
        ("Temporary failure in name resolution", NO_NETWORK),
        ("Temporary failure resolving 'a.mirror'", NO_NETWORK),
    ],
)
def test_remedy_is_one_line(words: str, told: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Trouble) as error:
        run(["sh", "-c", f'echo "a line\n{words}\nanother"; exit 1'], log)
    assert str(error.value) == f"{told} (all of it: {log})"


def test_end_of_the_log_stands_under_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(["sh", "-c", "echo before: error"], log)
    with pytest.raises(Trouble) as error:
        run(["sh", "-c", "seq 1 40; echo an Error here; echo the last; exit 3"], log)
    first, *tail = str(error.value).splitlines()
    assert first == f"an Error here (all of it: {log}; its end:)"
    assert tail == [f"    {line}" for line in [*range(28, 41), "an Error here", "the last"]]
    assert log.read_text().startswith("$ sh -c 'echo before: error'\nbefore: error\n$ sh -c")


def test_progress_tells_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    follow([Step("this", 20, lambda: None), Step("that", 5, lambda: None)])
    told = capsys.readouterr().err.splitlines()
    assert told == ["--> 1 of 2: this (about 25 s to go)", "--> 2 of 2: that (about 5 s to go)"]


WAITS = """
import sys, subprocess
from pathlib import Path
from tools.steps import end_tidily, run
end_tidily()
run(["sh", "-c", "sleep 600 & echo $! > {folder}/pid; wait"], Path("{folder}/log"))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_all_that_a_command_has_started(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITS.format(folder=tmp_path)]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
    assert eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", True)
    process.send_signal(number)
    assert process.wait(15) != 0
    pid = int((tmp_path / "pid").read_text())
    assert eventually(lambda: _runs(pid), False)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# ##### The Apache that is compiled #####


def test_own_libraries_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    # No empty part: that would be the current folder.
    assert environ_with({"LD_LIBRARY_PATH": "/own"})["LD_LIBRARY_PATH"] == "/own"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    assert environ_with({"LD_LIBRARY_PATH": "/own"})["LD_LIBRARY_PATH"] == "/own:/theirs"
    assert environ_with({}) == dict(os.environ)


@pytest.mark.parametrize("tls", [True, False])
def test_what_is_compiled(tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "has_tls", lambda: tls)
    environ = standalone.environ(tmp_path, WHOLE)
    site = Path(environ["CONFIG_SITE"])
    for folder, name, wanted in [
        ("httpd-2.4", "enable_mods_shared", "few"),
        ("httpd-2.4", "enable_ssl", "shared" if tls else ""),
        ("apr-1.7", "enable_static", "no"),
    ]:
        (tmp_path / folder).mkdir(exist_ok=True)
        asked = ["sh", "-c", f'. {site}; echo "${name}"']
        said = subprocess.run(asked, cwd=tmp_path / folder, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == wanted
    monkeypatch.setattr(standalone, "has_tls", lambda: not tls)
    assert standalone.environ(tmp_path, WHOLE)["PIP_CACHE_DIR"] != environ["PIP_CACHE_DIR"]


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    made = Venv(tmp_path)
    made.root.mkdir()
    made.is_new = False
    return made


@pytest.mark.parametrize(
    ("stamp", "given", "apache", "allowed", "standing_alone"),
    [
        ("", "", True, False, False),
        ("", "", False, True, False),
        ("", "", False, False, True),
        ("", "standalone", True, True, True),
        ("mod_wsgi-standalone>=6.0 with TLS", "", True, True, True),
        ("mod_wsgi>=6.0", "", True, True, False),
    ],
)
def test_which_mod_wsgi(
    stamp: str,
    given: str,
    apache: bool,
    allowed: bool,
    standing_alone: bool,
    venv: Venv,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APACHE", given)
    monkeypatch.setattr(apt, "has_apache", lambda: apache)
    monkeypatch.setattr(apt, "is_allowed", lambda: allowed)
    if stamp:
        venv.stamp("apache", stamp)
    found = ModWsgi(venv, "mod_wsgi>=6.0")
    assert found.is_standalone() is standing_alone
    # Once apt-get has failed, nothing is hoped of it.
    assert found.is_standalone(hoping=False) is (standing_alone or not apache)
    if not stamp:
        assert found.needs() == (standalone.NEEDS if standing_alone else machine.COMPILER)


def test_environment_that_is_made_anew_remembers_nothing(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "has_apache", lambda: True)
    monkeypatch.delenv("APACHE", raising=False)
    venv.stamp("apache", "mod_wsgi-standalone>=6.0 with TLS")
    venv.is_new = True
    assert not ModWsgi(venv, "mod_wsgi>=6.0").is_standalone()


@pytest.mark.parametrize(("has", "can", "steps"), [(True, False, 0), (False, True, 1), (True, True, 0)])
def test_compiled_apache_is_made_anew_when_it_can_have_tls(
    has: bool, can: bool, steps: int, venv: Venv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "has_tls", lambda: has)
    venv.stamp("apache", f"mod_wsgi-standalone>=6.0 {standalone.about()}")
    monkeypatch.setattr(standalone, "has_tls", lambda: can)
    assert len(list(ModWsgi(venv, "mod_wsgi>=6.0").pending())) == steps


def test_interrupted_compilation_is_not_taken_for_done(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "has_apache", lambda: True)
    monkeypatch.setenv("APACHE", "standalone")
    venv.stamp("apache", "mod_wsgi>=6.0")

    def interrupted(*arguments: str, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(venv, "pip", interrupted)
    (step,) = ModWsgi(venv, "mod_wsgi>=6.0").pending()
    with pytest.raises(KeyboardInterrupt):
        step.do()
    monkeypatch.delenv("APACHE")
    assert len(list(ModWsgi(venv, "mod_wsgi>=6.0").pending())) == 1


def test_what_is_current_is_left_alone(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "has_apache", lambda: True)
    monkeypatch.delenv("APACHE", raising=False)
    venv.stamp("apache", "mod_wsgi>=6.0")
    found = ModWsgi(venv, "mod_wsgi>=6.0")
    assert list(found.pending()) == []
    assert found.needs() == machine.NOTHING


def test_everything_is_pending_in_a_new_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "wanted", lambda extras, standalone: [["apache2"]])
    whats = [step.what for step in Environment(tmp_path, ["demo", "uwsgi", "apache"]).pending()]
    starts = ("virtual environment of ", "apt-get install ap", "packages of [demo]", "packages of [uwsgi]")
    assert [what.startswith(start) for what, start in zip(whats, starts, strict=False)] == [True] * 4
    assert re.search("compiled", whats[4])
    assert whats[5:] == ["wsgi_persist itself"]


# ##### What is run, and in what #####


STUBBORN = """
import signal, sys, time
try:
    print("runs", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.2)
    print("tidied up", flush=True)
    sys.exit(2)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tests_are_interrupted_once_by_whatever_ends_them(number: signal.Signals, tmp_path: Path) -> None:
    runs = f"suite._run([sys.executable, '-c', {STUBBORN!r}], {{}})"
    program = f"from tools import suite; import sys; sys.exit({runs})"
    said = tmp_path / "said"
    with said.open("w") as output:
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=output)
    assert eventually(lambda: "runs" in said.read_text(), True)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert said.read_text() == "runs\ntidied up\n"


def test_signal_between_two_runs_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_came", [signal.SIGTERM])
    kept = {number: signal.getsignal(number) for number in ENDING}
    try:
        assert suite._run([sys.executable, "-c", "raise SystemExit(7)"], {}) == 128 + signal.SIGTERM
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


INTERRUPTED = """
import signal, sys, tempfile
from tools import {tool}
make = tempfile.mkdtemp
def made(*args, **kwargs):
    new = make(*args, **kwargs)
    signal.raise_signal(signal.SIGTERM)
    return new
tempfile.mkdtemp = made
sys.exit({tool}.main())
"""


@pytest.mark.parametrize("tool", ["suite", "syntax"])
def test_folder_that_was_just_made_goes_when_a_signal_comes(tool: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED.format(tool=tool)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (128 + signal.SIGTERM, [])


def test_scratch_folder_goes_with_the_tests() -> None:
    with scratch("test") as folder:
        (folder / "left").write_text("behind")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"SUITE": "sarge"}, "SUITE=sarge: choose of bookworm, trixie"),
        ({"WHO": "me"}, "WHO=me: choose of root, user"),
        ({"WHAT": "lint"}, "WHAT=lint: choose of demo, test, start, matrix"),
        ({"WHO": "user", "WHAT": "start"}, "WHAT=start is for WHO=root"),
        ({"TIMES": "0"}, "TIMES=0: give a number from 1 on"),
    ],
)
def test_new_debian_that_there_is_not(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fresh.os, "geteuid", lambda: 0)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert fresh.main() == 2
    assert capsys.readouterr().err == f"fresh: {told}\n"


def test_page_becomes_a_script(tmp_path: Path) -> None:
    """Its shell blocks run, its Python blocks stand in the files that the text names."""
    text = manual.script(ROOT / "docs" / "start.rst", "/the/clone").replace("/srv/shop", str(tmp_path))
    assert "pip install /the/clone Django" in text
    (tmp_path / "shop").mkdir()
    files = re.findall(r"^cat >>.*?^END$", text, re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-eu"], input="\n".join(files), text=True, check=True)
    assert "wsgi_persist.backends.postgresql" in (tmp_path / "shop" / "settings.py").read_text()
    assert "PersistMiddleware(application)" in (tmp_path / "shop" / "wsgi.py").read_text()
    assert "apachectl stop" in text.splitlines()[-1]


def test_readme_says_what_a_new_debian_needs() -> None:
    assert fresh._asked_for() == "apt-get install git make gcc python3-dev python3-venv"

"""`make fresh`: a command of this project, as it is committed, on a new Debian that holds no more than README
asks for.

SUITE (bookworm, trixie), WHO (root, user) and WHAT choose: demo and test are the commands of make, start is
the page of the manual, matrix those environments that ONLY matches. TIMES=2 runs it twice, KEEP=1 leaves
the folder, MIRROR is for debootstrap; APACHE and APT are handed on. Needs root and debootstrap.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import manual
from tools.environment import ROOT, folder, own_folder
from tools.newroot import copied, debian, within
from tools.postgres import can_bind
from tools.steps import Trouble, alone, ended, run, say

HOME = folder() / "fresh"
SUITES = ("bookworm", "trixie")
# How this machine reaches its network; all else is the new one's own.
NETWORK = ("etc/resolv.conf", "etc/pip.conf", "usr/local/share/ca-certificates")
# Of the page's Apache and PostgreSQL: the network is this machine's.
PORTS = (80, 5432)
LEFT = "left behind: "
# By the shell alone: what would list processes is not there.
LOOK = f"""
status=$?
sleep 1
for found in /proc/[0-9]*; do
    [ $found = /proc/1 ] || ! read -r comm < $found/comm 2>/dev/null || echo "{LEFT}$comm"
done
for found in /dev/shm/*; do
    [ "$found" = "/dev/shm/*" ] || echo "{LEFT}$found"
done
exit $status
"""
# The distribution's own, which the matrix is to run on there.
DEBIAN = "apt-get install -y -q apache2 libapache2-mod-wsgi-py3 postgresql"
BUILT = "$(python3 -B -m tools.environment --where)"
COMMANDS = {
    "demo": "make demo ONCE=1",
    "test": "make test",
    "start": "sh -eux start.sh",
    "matrix": f"make matrix MATRIX='--only {{only}}'; status=$?; cat {BUILT}/matrix/*.log; (exit $status)",
}


@dataclass(frozen=True)
class Fresh:
    suite: str
    who: str
    what: str
    only: str

    @property
    def home(self) -> str:
        return "/root" if self.who == "root" else f"/home/{self.who}"

    @property
    def clone(self) -> str:
        return f"{self.home}/wsgi_persist"

    @property
    def name(self) -> str:
        return "-".join(filter(None, [self.suite, self.who, self.what, os.environ.get("APACHE", "")]))

    @property
    def folder(self) -> Path:
        return HOME / self.name

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def told(self) -> str:
        return COMMANDS[self.what].format(only=self.only).partition(";")[0]

    def command(self) -> str:
        return f"cd {self.clone}\n" + COMMANDS[self.what].format(only=self.only)


def show(fresh: Fresh, times: int) -> bool:
    """Run it that often in a row; whether each run passed, and left nothing behind."""
    own_folder()
    fresh.folder.mkdir(parents=True, exist_ok=True)
    with alone(fresh.folder, lambda: say(f"waiting for another {fresh.name}")):
        fresh.log.unlink(missing_ok=True)
        with alone(HOME, lambda: say("waiting for another one that makes a Debian")):
            base = debian(fresh.suite, HOME, fresh.log)
        with copied(base, fresh.folder / "root") as root:
            furnish(fresh, root, fresh.log)
            return all(attempt(fresh, root, fresh.log, number) for number in range(times))


def furnish(fresh: Fresh, root: Path, log: Path) -> None:
    """What README asks for, the clone, and somebody who has it."""
    for name in NETWORK:
        _hand_on(Path("/", name), root / name)
    (root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
    if fresh.what == "start":
        _let_services_start(root)
    else:
        say(f"{fresh.suite}: {_asked_for()}")
        within(root, f"apt-get update -q && {_asked_for()} -q", log)
    if fresh.what == "matrix":
        within(root, DEBIAN, log)
    if fresh.who != "root":
        within(root, f"useradd --create-home {fresh.who}", log)
    clone = root / fresh.clone.lstrip("/")
    run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], log, trusting(fresh))
    if fresh.what == "start":
        (clone / "start.sh").write_text(manual.script(clone / "docs" / "start.rst", fresh.clone))
    within(root, f"chown -R {fresh.who}:{fresh.who} {fresh.clone}", log)


def _let_services_start(root: Path) -> None:
    """As on a machine that has booted: Debian's packages start none where there is no init."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    policy.chmod(0o755)


def _hand_on(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    elif source.exists():
        target.unlink(missing_ok=True)
        shutil.copy(source, target)


def _asked_for() -> str:
    """README's own line."""
    text = (ROOT / "README.rst").read_text()
    found = re.search(r"^    (apt-get install .*python3-dev.*)$", text, re.MULTILINE)
    if found is None:
        raise Trouble("README.rst has no line for apt-get install")
    return found[1]


def attempt(fresh: Fresh, root: Path, log: Path, number: int) -> bool:
    say(f"{fresh.name}: {fresh.told} (what it says: {log})")
    given = {name: os.environ[name] for name in ("APACHE", "APT") if name in os.environ}
    started, begin = time.monotonic(), log.stat().st_size
    try:
        within(root, fresh.command() + LOOK, log, fresh.who, **given)
        failed = ""
    except Trouble:
        failed = "failed"
    with log.open("rb") as file:
        file.seek(begin)
        told = file.read().decode(errors="replace")
    left = [line for line in told.splitlines() if line.startswith(LEFT)]
    # Of services that Debian has started, Apache alone is stopped by the page.
    left = [line for line in left if fresh.what != "start" or "apache" in line] + files_left(fresh, root)
    state = failed or ("left something behind" if left else "passed")
    _tell(told, left, bool(failed))
    print(f"fresh: {fresh.name}, run {number + 1}: {state} in {time.monotonic() - started:.0f} s", flush=True)
    return state == "passed"


def _tell(told: str, left: Sequence[str], failed: bool) -> None:
    lines = [line for line in told.splitlines() if not line.startswith(LEFT)]
    for line in [*lines[-40 if failed else -8 :], *left]:
        print(f"    {line}")


def files_left(fresh: Fresh, root: Path) -> list[str]:
    """What stands where a command of ours may have put it, but for .build."""
    if fresh.what not in ("demo", "test"):
        return []
    home, clone = root / fresh.home.lstrip("/"), root / fresh.clone.lstrip("/")
    places = {root / "tmp": [], root / "var/tmp": ["wsgi_persist-*"]}
    places[home] = [clone.name, ".bash*", ".profile"]
    found = [
        f"/{path.relative_to(root)}"
        for place, known in places.items()
        for path in sorted(place.iterdir())
        if not any(path.match(name) for name in known)
    ]
    asked = ["git", "-C", str(clone), "status", "--porcelain", "--ignored"]
    said = subprocess.run(asked, env=trusting(fresh), capture_output=True, text=True, check=True).stdout
    return [LEFT + name for name in [*found, *said.splitlines()] if name != "!! .build/"]


def trusting(fresh: Fresh) -> dict[str, str]:
    """For git, which as root does not look into clones of others."""
    config = fresh.folder / "gitconfig"
    config.write_text("[safe]\n    directory = *\n")
    return {**os.environ, "GIT_CONFIG_GLOBAL": str(config)}


def chosen() -> tuple[Fresh, int]:
    def choice(name: str, known: Sequence[str]) -> str:
        given = os.environ.get(name) or known[0]
        if given not in known:
            raise Trouble(f"{name}={given}: choose of {', '.join(known)}")
        return given

    if os.geteuid() != 0:
        raise Trouble("only root can make a new Debian")
    who, what = choice("WHO", ("root", "user")), choice("WHAT", tuple(COMMANDS))
    if what in ("start", "matrix") and who != "root":
        raise Trouble(f"WHAT={what} is for WHO=root")
    if taken := [str(port) for port in PORTS if what == "start" and not can_bind(port)]:
        raise Trouble(f"WHAT=start needs port {' and '.join(taken)} for itself: stop what listens there")
    times = os.environ.get("TIMES", "1")
    if not times.isdigit() or times == "0":
        raise Trouble(f"TIMES={times}: give a number from 1 on")
    return Fresh(choice("SUITE", SUITES), who, what, os.environ.get("ONLY", "modwsgi5")), int(times)


def main() -> int:
    return ended("fresh", HOME, lambda: 0 if show(*chosen()) else 1)


if __name__ == "__main__":
    sys.exit(main())

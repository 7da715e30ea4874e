"""The support matrix of tox.ini: run every environment, and say of each what became of it.

What this machine has not, or the package index (a Python, a Django), is named with the reason. It is
no success; nor is it a failure of ours.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import fresh, lacking
from tools.environment import ROOT, folder
from tools.steps import Trouble, run, say

WORK = folder() / "tox"
TOX = (sys.executable, "-m", "tox", "-q", "-c", str(ROOT / "tox.ini"), "--workdir", str(WORK))
PASSED, FAILED, LACKING = "passed", "failed", "could not be had"
# What the versions have most to do with, in a minute.
SLICE = (
    "tests/unit",
    "tests/integration/test_backend.py",
    "tests/integration/test_request.py",
    "tests/integration/test_session.py",
    "tests/integration/test_reads.py",
    "tests/integration/test_receivers.py",
)
# What pip and the builds that it starts say of what is missing, and what that is.
ABSENT = {
    r"No matching distribution found for (\S+)": "the package index has no {} for it",
    r"couldn't run '(pg_config)'": "no {} (Debian: apt-get install libpq-dev)",
    r"The '(apxs)' command appears not to be installed": "no {} (Debian: apt-get install apache2-dev)",
    rf"(?m)^{lacking.MARK}(.+)$": "{}",
}
# Of a distribution that this machine may not be.
ELSEWHERE = "modwsgi5"
# What the last factor is about, as its test names it.
TOLD = {"postgis": "PostGIS", "modwsgi4": "mod_wsgi/4", "modwsgi5": "mod_wsgi/5", "modwsgi6": "mod_wsgi/6"}
VERSIONS = re.compile(r"^versions: (.+)$", re.MULTILINE)
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b(?=.* in [\d.]+s)")


@dataclass(frozen=True)
class Outcome:
    name: str
    state: str
    versions: str
    told: str


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description=__doc__)
    parser.add_argument(
        "--part", choices=("all", "ci"), default="all", help="ci: three, and a slice of the tests"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="environments whose names match")
    parser.add_argument("tests", nargs="*", help="of the tests only these; not with PostGIS and Apache")
    parser.add_argument("--list", action="store_true", help="the names, and nothing is run")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    options = arguments(given)
    os.umask(0o022)
    # tox would close it to others, and PostgreSQL's user and Apache's run from it.
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        names = [name for name in environments(options.part) if re.search(options.only, name)]
        if options.list:
            print("\n".join(names))
            return 0
        return run_all(names, options.tests or (SLICE if options.part == "ci" else ()))
    except Trouble as trouble:
        print(f"matrix: {trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def environments(part: str) -> list[str]:
    command = [*TOX, "list", "--no-desc", *(["-m", part] if part != "all" else [])]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise Trouble(f"tox does not list its environments: {said.stdout}{said.stderr}")
    return [line for line in said.stdout.splitlines() if line.startswith("py")]


def run_all(names: Sequence[str], tests: Sequence[str]) -> int:
    logs = folder() / "matrix"
    logs.mkdir(parents=True, exist_ok=True)
    say(f"{len(names)} environments; what they write goes to {logs}")
    outcomes = []
    for number, name in enumerate(names, 1):
        say(f"{number} of {len(names)}: {name}")
        outcomes.append(attempt(name, tests, logs / f"{name}.log"))
        say(f"    {outcomes[-1].state}: {outcomes[-1].told}")
    summary = table(outcomes)
    (logs / "summary.txt").write_text(summary + "\n")
    count = Counter(outcome.state for outcome in outcomes)
    print(f"\n{summary}\n\n{count[PASSED]} passed, {count[FAILED]} failed, {count[LACKING]} skipped")
    return 0 if count[PASSED] and not count[FAILED] else 1


def attempt(name: str, tests: Sequence[str], log: Path) -> Outcome:
    if name.endswith(ELSEWHERE) and lacking.lacking(ELSEWHERE):
        return in_a_new_debian(name)
    python = interpreter(name.split("-")[0])
    if python is None:
        missing = "no Python {}.{} in PATH or pyenv".format(*version(name.split("-")[0]))
        return Outcome(name, LACKING, "", missing)
    command = [*TOX, "run", "-e", name, "--discover", python]
    failed = False
    log.unlink(missing_ok=True)
    try:
        run([*command, "--", *tests] if tests else command, log, beat=60)
    except Trouble:
        failed = True
    return judge(name, log.read_text(errors="replace"), failed)


def in_a_new_debian(name: str) -> Outcome:
    if os.geteuid() != 0:
        return Outcome(name, LACKING, "", "only root can make a new Debian 13, and this machine has another")
    there = fresh.Fresh("trixie", "root", "matrix", f"^{name}$")
    try:
        passed = fresh.show(there, 1)
    except Trouble as trouble:
        return Outcome(name, LACKING, "", trouble.line)
    return judge(name, there.log.read_text(errors="replace"), not passed)


def judge(name: str, text: str, failed: bool) -> Outcome:
    """By what it wrote: a run that tells no versions has proven nothing."""
    versions = ", ".join(VERSIONS.findall(text))
    told = counts(text) or "no test ran"
    if not failed:
        proven = TOLD.get(name.split("-")[-1], "PostgreSQL") in versions
        return Outcome(name, PASSED if proven else FAILED, versions, told)
    for words, reason in ABSENT.items():
        if missing := re.search(words, text):
            return Outcome(name, LACKING, versions, reason.format(missing[1]))
    return Outcome(name, FAILED, versions, told)


def counts(text: str) -> str:
    found: Counter[str] = Counter()
    for number, what in COUNTS.findall(text):
        found[what] += int(number)
    return ", ".join(f"{number} {what}" for what, number in found.items())


def version(factor: str) -> tuple[int, int]:
    """py310 is 3.10."""
    return int(factor[2]), int(factor[3:])


def interpreter(factor: str) -> str | None:
    """The system's, that of ``PATH`` or pyenv's: the first that really is that version."""
    wanted = "python{}.{}".format(*version(factor))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [f"/usr/bin/{wanted}", shutil.which(wanted), *sorted(pyenv.glob(f"*/bin/{wanted}"))]
    return next((str(path) for path in candidates if path and _runs(path)), None)


def _runs(path: str | Path) -> bool:
    """pyenv's shims stand in PATH for versions that they refuse to start; tox needs ensurepip's kin."""
    try:
        return subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [(o.name, o.state, o.versions or "-", o.told) for o in outcomes]
    rows.insert(0, ("environment", "outcome", "versions", "tests, or why not"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

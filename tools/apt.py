"""What root brings to a Debian without being asked: an Apache to build for, programs that tests start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.machine import SEARCH
from tools.steps import LOCAL, Locked, Trouble, run, say, undisturbed

POLICY = Path("/usr/sbin/policy-rc.d")
OURS = "#!/bin/sh\n# of wsgi_persist, while it installs packages; left over, it may be removed\nexit 101\n"
PATIENCE = 60  # seconds for another process that holds the lock
APACHE = ("apache2", "apache2-dev")
# Packages that bring a service, and what it is called.
SERVICES = {
    "apache2": "apache2",
    "etcd-server": "etcd",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
    "prometheus": "prometheus",
}
MODULE = Path("/usr/lib/apache2/modules/mod_wsgi.so")
# Of the tests: namespaces of the network, a pooler, the mod_wsgi of the distribution; whether they are here.
TESTS: dict[str, Callable[[], bool]] = {
    "iproute2": lambda: has_program("ip"),
    "pgbouncer": lambda: has_program("pgbouncer"),
}
# Of the cluster beside Patroni.
CLUSTER: dict[str, Callable[[], bool]] = {
    "etcd-server": lambda: has_program("etcd"),
    "haproxy": lambda: has_program("haproxy"),
}
# Hundreds of megabytes, for pages as they are seen and alerts as they are raised: APT=all brings them.
LARGE: dict[str, Callable[[], bool]] = {
    "chromium": lambda: has_program("chromium"),
    "prometheus": lambda: has_program("promtool"),
}
MOD_WSGI: dict[str, Callable[[], bool]] = {"libapache2-mod-wsgi-py3": lambda: MODULE.exists()}


def has_program(name: str) -> bool:
    return shutil.which(name, path=SEARCH) is not None


def has_apache() -> bool:
    """One that modules can be built for."""
    return bool(os.environ.get("APXS")) or has_program("apxs2") or has_program("apxs")


def is_allowed() -> bool:
    return os.geteuid() == 0 and os.environ.get("APT") != "0" and has_program("apt-get")


def wanted(extras: Sequence[str], standalone: bool) -> list[list[str]]:
    """The packages that are missing, if this user may install them: Apache's, and the tests'."""
    if not is_allowed() or "apache" not in extras:
        return []
    of_apache = [] if standalone or has_apache() else list(APACHE)
    of_tests = {**TESTS, **({} if standalone else MOD_WSGI)} if "test" in extras else {}
    if of_tests and os.environ.get("APT") == "all":
        of_tests |= LARGE
    of_tests |= CLUSTER if "patroni" in extras else {}
    missing = [package for package, found in of_tests.items() if not found()]
    return [packages for packages in (of_apache, missing) if packages]


def bring(packages: Sequence[str], log: Path) -> None:
    """Install them, and start none, now or with the machine. Where that fails one goes on without.

    :raises Locked: another process holds apt's lock.
    """
    names = (SERVICES[package] for package in packages if package in SERVICES)
    services = [name for name in names if not has_program(name)]
    # Interrupted, dpkg would leave halves behind: who wants to end this waits.
    with undisturbed(), nothing_starts():
        try:
            _install(packages, log)
        except Locked:
            raise
        except Trouble as trouble:
            say(f"apt-get does not bring {' '.join(packages)}, so it goes without: {trouble.line}")
        for service in filter(has_program, services):
            run(["update-rc.d", service, "disable"], log, _environ())


def _install(packages: Sequence[str], log: Path) -> None:
    apt = ["apt-get", "-o", f"DPkg::Lock::Timeout={PATIENCE}"]
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        run(install, log, _environ())
    except Locked:
        raise
    except Trouble:
        # A new machine has no lists of packages yet, and one that was off for long has old ones.
        run([*apt, "update"], log, _environ())
        run(install, log, _environ())


def _environ() -> dict[str, str]:
    # dpkg refuses without sbin, which a shell of plain su has not.
    return {**os.environ, **LOCAL, "PATH": SEARCH, "DEBIAN_FRONTEND": "noninteractive"}


@contextmanager
def nothing_starts() -> Iterator[None]:
    """Debian's own way to install a service without starting it; what an operator has put there counts."""
    if POLICY.exists() and POLICY.read_text() != OURS:
        yield
        return
    POLICY.write_text(OURS)
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)

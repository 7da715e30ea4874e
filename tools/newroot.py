"""A new Debian in a folder, and commands that are run in it as on a machine of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import apt
from tools.steps import Trouble, run, say

PATH = "/usr/local/bin:/usr/bin:/bin"
ROOTS_PATH = f"/usr/local/sbin:/usr/sbin:/sbin:{PATH}"
# Namespaces of its own: what it mounts and what it leaves running ends with it.
ENTER = """\
mount --bind {root} {root} && mount -t proc proc {root}/proc &&
mount -t sysfs sysfs {root}/sys && mount --rbind /dev {root}/dev &&
mount -t tmpfs tmpfs {root}/dev/shm && mount -t tmpfs tmpfs {root}/run && mkdir -m 1777 {root}/run/lock &&
exec chroot {options} {root} env -i {environ} sh -c {command}
"""


def debian(suite: str, home: Path, log: Path) -> Path:
    """The least that debootstrap makes; kept."""
    base = home / suite
    if not base.exists():
        _bring_debootstrap(log)
        draft = home / f"{suite}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        say(f"debootstrap {suite}, for a minute")
        mirror = [os.environ["MIRROR"]] if "MIRROR" in os.environ else []
        # What it mounts ends with it, however it ends.
        command = ["unshare", "--mount", "debootstrap", "--variant=minbase", suite, str(draft), *mirror]
        run(command, log, {**os.environ, "PATH": ROOTS_PATH})
        draft.rename(base)
    return base


def _bring_debootstrap(log: Path) -> None:
    if not apt.has_program("debootstrap") and apt.is_allowed():
        say("apt-get install debootstrap (APT=0 refuses)")
        apt.bring(["debootstrap"], log)
    if not apt.has_program("debootstrap"):
        raise Trouble("missing here: debootstrap (Debian, as root: apt-get install debootstrap)")


@contextmanager
def copied(base: Path, root: Path) -> Iterator[Path]:
    shutil.rmtree(root, ignore_errors=True)
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
        yield root
    finally:
        if not os.environ.get("KEEP"):
            shutil.rmtree(root, ignore_errors=True)


def within(root: Path, command: str, log: Path, user: str = "root", **environ: str) -> None:
    """As this user, without a terminal and with an environment that is all but empty.

    :raises Trouble: it failed.
    """
    is_root = user == "root"
    environ = {"HOME": "/root" if is_root else f"/home/{user}", **environ}
    environ["PATH"] = ROOTS_PATH if is_root else PATH
    text = ENTER.format(
        root=shlex.quote(str(root)),
        options="" if is_root else f"--userspec={user}:{user}",
        environ=" ".join(f"{name}={shlex.quote(value)}" for name, value in environ.items()),
        command=shlex.quote(command),
    )
    run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", text], log, beat=60)

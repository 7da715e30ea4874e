"""A network of two ends, one of them in a namespace of its own, whose cable can be pulled.

Nothing that is sent while it is pulled comes back in any form: neither a refusal nor "unreachable".
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults import Unavailable
from tools.machine import SEARCH

CLONE_NEWNET = 0x40000000
MAC = "02:00:00:00:00:02"


class Network:
    """``address`` is at the far end, which programs reach that are started :meth:`inside`.

    :raises Unavailable: without root, ``ip`` or permission for namespaces.
    """

    def __init__(self) -> None:
        require_tools()
        number = os.getpid() % (1 << 15)
        # 198.18.0.0/15 is for tests of networks (RFC 2544), and never routed.
        base = f"198.{18 + (number >> 14)}.{number >> 6 & 255}"
        last = (number & 63) * 4
        self.near, self.address = f"{base}.{last + 1}", f"{base}.{last + 2}"
        self._name = f"persist-{number}"
        self._near_link, self._far_link = f"pn{number}", f"pf{number}"
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def up(self) -> None:
        self._far("link", "set", self._far_link, "up")

    def down(self) -> None:
        """Pull the cable at the far end: what is sent from here vanishes without a word."""
        self._far("link", "set", self._far_link, "down")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets and processes that this thread makes meanwhile are at the far end."""
        with open(f"/run/netns/{self._name}") as there, open("/proc/thread-self/ns/net") as here:
            enter(there.fileno())
            try:
                yield
            finally:
                enter(here.fileno())

    def close(self) -> None:
        # With its end here the link goes at once; with the namespace alone, some time later.
        for command in (("link", "del", self._near_link), ("netns", "del", self._name)):
            subprocess.run([ip(), *command], capture_output=True, check=False)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _make(self) -> None:
        run("netns", "add", self._name)
        far = ["peer", "name", self._far_link, "address", MAC, "netns", self._name]
        run("link", "add", self._near_link, "type", "veth", *far)
        run("address", "add", f"{self.near}/30", "dev", self._near_link)
        run("link", "set", self._near_link, "up")
        self._far("address", "add", f"{self.address}/30", "dev", self._far_link)
        self._far("link", "set", "lo", "up")
        self.up()
        # Otherwise a pulled cable shows after some seconds as "no route to host".
        run("neigh", "replace", self.address, "lladdr", MAC, "dev", self._near_link, "nud", "permanent")

    def _far(self, *command: str) -> None:
        run("-n", self._name, *command)


def require_tools() -> None:
    if os.geteuid() != 0:
        raise Unavailable("a network namespace needs root")
    if not ip():
        raise Unavailable("a network namespace needs the program ip (Debian: apt-get install iproute2)")


def ip() -> str:
    return shutil.which("ip", path=SEARCH) or ""


def run(*command: str) -> None:
    done = subprocess.run([ip(), *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"ip {' '.join(command)}: {done.stderr.strip()}")


def enter(namespace: int) -> None:
    # os.setns() came with Python 3.12. It moves the calling thread alone.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise Unavailable(f"setns: {os.strerror(ctypes.get_errno())}")

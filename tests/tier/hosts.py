"""Hosts within one machine: network namespaces on a bridge, which can be frozen and unplugged."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.faults.network import enter, ip, require_tools, run
from tools.postgres import switch_user


class Bridge:
    """The network between hosts, and this side of it: ``address``.

    :raises Unavailable: without root, ``ip`` or permission for namespaces.
    """

    def __init__(self) -> None:
        require_tools()
        # 198.18.0.0/15 is for tests of networks (RFC 2544), and never routed.
        self._number = os.getpid() % 250
        self._base = f"198.19.{self._number}"
        self.subnet, self.address = f"{self._base}.0/24", f"{self._base}.1"
        self._name = f"pt{self._number}"
        self._hosts: list[Host] = []
        try:
            run("link", "add", self._name, "type", "bridge")
            run("address", "add", f"{self.address}/24", "dev", self._name)
            run("link", "set", self._name, "up")
        except BaseException:
            self.close()
            raise

    def host(self, last: int) -> Host:
        """A new one, with this last byte in its address."""
        host = Host(f"{self._name}-{last}", f"{self._base}.{last}", self._name)
        self._hosts.append(host)
        return host

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        subprocess.run([ip(), "link", "del", self._name], capture_output=True, check=False)

    def __enter__(self) -> Bridge:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Host:
    """Processes that share a network address."""

    def __init__(self, name: str, address: str, bridge: str) -> None:
        self.name = name
        self.address = address
        self._started: list[subprocess.Popen[bytes]] = []
        run("netns", "add", name)
        run("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("link", "set", f"{name}v", "master", bridge)
        run("link", "set", f"{name}v", "up")
        run("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("-n", name, "link", "set", "lo", "up")
        self.plug()

    def start(self, command: Sequence[str], log: Path, **environ: str) -> subprocess.Popen[bytes]:
        """A program of PostgreSQL's user, at this host."""
        with open(f"/run/netns/{self.name}") as there, open("/proc/thread-self/ns/net") as here:
            enter(there.fileno())
            try:
                with log.open("ab") as output:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        cwd="/",
                        env={**os.environ, **environ},
                        start_new_session=True,
                        **switch_user(),
                    )
            finally:
                enter(here.fileno())
        self._started.append(process)
        return process

    def unplug(self) -> None:
        run("-n", self.name, "link", "set", "eth0", "down")

    def plug(self) -> None:
        run("-n", self.name, "link", "set", "eth0", "up")

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """With all that runs there."""
        self._signal(signal.SIGKILL)
        for process in self._started:
            process.wait()
        for command in (("link", "del", f"{self.name}v"), ("netns", "del", self.name)):
            subprocess.run([ip(), *command], capture_output=True, check=False)

    def _signal(self, number: signal.Signals) -> None:
        asked = [ip(), "netns", "pids", self.name]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        for pid in done.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)

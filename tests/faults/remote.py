"""A proxy in a process of its own, where no other thread of Python can hold it up.

By hand: ``python -m tests.faults.remote 127.0.0.1:5432 --port 6432 --delay 0.0005``, then a command
by line: stop, start, reset, hang_up, go_deaf, hear_again, hold 0.0005, forward, accepted, round_trip,
open_connections, traffic; an empty line or the end of the input ends it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.pair import Address
from tests.faults.proxy import Proxy

CHANGES = ["stop", "start", "reset", "hang_up", "go_deaf", "hear_again", "hold", "forward"]
COMMANDS = [*CHANGES, "accepted", "round_trip", "open_connections", "traffic"]
ROOT = Path(__file__).parent.parent.parent


class RemoteProxy:
    """Has the methods of :class:`Proxy` that are named in the module's docstring, and its ``port``."""

    def __init__(self, upstream: Address, *, port: int = 0, delay: float = 0.0) -> None:
        given = upstream if isinstance(upstream, str) else f"{upstream[0]}:{upstream[1]}"
        command = [sys.executable, "-m", "tests.faults.remote", given, f"--port={port}", f"--delay={delay}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # Ctrl-C is for the one that started it
        )
        self.port = int(self._answer())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in COMMANDS:
            raise AttributeError(name)
        return lambda *arguments: self._ask(name, *arguments)

    def close(self) -> None:
        self._process.communicate("\n")

    def __enter__(self) -> RemoteProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy's process has ended")
        return json.loads(line)


def address(text: str) -> Address:
    """``host:port``, or the path of a Unix socket."""
    if text.startswith("/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither host:port nor the path of a Unix socket")
    return host, int(port)


def obey(proxy: Proxy, line: str) -> str:
    name, *arguments = line.split()
    if name not in COMMANDS:
        return json.dumps(f"{name!r} is not a command: the commands are {', '.join(COMMANDS)}")
    return json.dumps(getattr(proxy, name)(*map(float, arguments)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("upstream", type=address, help="host:port, or the path of a Unix socket")
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds in each direction")
    given = parser.parse_args()
    with Proxy(given.upstream, port=given.port, delay=given.delay) as proxy:
        print(proxy.port, flush=True)
        for line in sys.stdin:
            if not line.strip():
                break
            print(obey(proxy, line), flush=True)


if __name__ == "__main__":
    main()

"""One fault after another, at random."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.faults import FAST, IMMEDIATE, Faults, kill_worker
from tests.faults.remote import RemoteProxy
from tools.apache import Apache


class Chaos:
    """Faults of the server, of the network (by a proxy) and of the workers.

    :param draw: decides; seed it to have the same faults again.
    :ivar done: how often each fault was done.
    """

    def __init__(self, draw: random.Random, faults: Faults, proxy: RemoteProxy, apache: Apache) -> None:
        self._draw = draw
        self._faults = faults
        self._proxy = proxy
        self._seconds = 0.0
        self._number = 0
        self.done: Counter[str] = Counter()
        # How often each comes, beside the others.
        self._kinds: list[tuple[int, str, Callable[[], object]]] = [
            (4, "a session terminated", faults.terminate_one),
            (4, "every session terminated", faults.terminate_all),
            (4, "connections reset", proxy.reset),
            (4, "connections ended", proxy.hang_up),
            (3, "network deaf", self._deafness),
            (3, "connections refused", self._refusal),
            (3, "a session frozen", self._frozen_session),
            (1, "server frozen", self._frozen_server),
            (2, "fast restart", lambda: faults.restart(FAST)),
            (2, "immediate restart", lambda: faults.restart(IMMEDIATE)),
            (2, "crash of a neighbour", faults.crash_neighbour),
            (1, "server killed", faults.kill_postmaster),
            (1, "worker killed", lambda: kill_worker(apache, self._number)),
        ]

    def strike(self) -> None:
        """Do one, and return when it is over."""
        _, name, fault = self._draw.choices(self._kinds, [often for often, _, _ in self._kinds])[0]
        # Drawn for every fault, needed or not: what the server does must not change what comes next.
        self._seconds, self._number = self._draw.uniform(0.1, 1.0), self._draw.randrange(1000)
        self.done[name] += 1
        fault()

    def __str__(self) -> str:
        return ", ".join(f"{times} {name}" for name, times in sorted(self.done.items()))

    def _deafness(self) -> None:
        self._proxy.go_deaf()
        time.sleep(self._seconds)
        self._proxy.hear_again()

    def _refusal(self) -> None:
        self._proxy.stop()
        self._proxy.reset()
        time.sleep(self._seconds)
        self._proxy.start()

    def _frozen_session(self) -> None:
        if sessions := self._faults.backends():
            with self._faults.frozen(sessions[self._number % len(sessions)]):
                time.sleep(self._seconds)

    def _frozen_server(self) -> None:
        with self._faults.frozen():
            time.sleep(self._seconds)

"""A proxy in front of any server that delays, refuses, resets, hangs up or goes deaf when told to.

One thread with one epoll. Where the precision of a delay counts, run it in a process of its own:
:class:`tests.faults.remote.RemoteProxy`, or by hand ``python -m tests.faults.remote 127.0.0.1:5432``.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from statistics import median
from typing import Any

from tests.faults.pair import Address, Pair, Pipe

# The kernel wakes a thread up to 50 us late (timer slack), and then it has to be scheduled.
SPIN = 0.000_15


class Proxy:
    """Forwards ``host:port`` to *upstream* until it is told otherwise.

    :param upstream: ``(host, port)``, or the path of a Unix socket.
    :param port: where it listens; 0 takes a free one.
    :param delay: seconds that each piece of data is held back, in each direction.

    Where the upstream server refuses a connection, the client's is reset: it was accepted before the
    proxy could know. In a process that has a thousand files open already, use RemoteProxy.
    """

    def __init__(
        self, upstream: Address, *, host: str = "127.0.0.1", port: int = 0, delay: float = 0.0
    ) -> None:
        self.upstream = upstream
        self.host = host
        self.port = port
        self.delay = delay
        self.bytes_up = self.bytes_down = 0
        self._accepted: list[float] = []
        self._pairs: set[Pair] = set()
        self.deaf = False
        self._due: list[tuple[float, int, Pipe]] = []
        self._order = itertools.count()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._commands: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wakeup, select.EPOLLIN, lambda events: self._obey())
        self._listener: socket.socket | None = None
        self._listen()
        self._running = True
        self._thread = threading.Thread(target=self._run, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    # ##### What can be done to the connections #####

    def stop(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._tell(self._unlisten)

    def start(self) -> None:
        """Accept again, on the same port."""
        self._tell(self._listen)

    def reset(self) -> None:
        """Send an RST to both ends of every connection."""
        self._tell(lambda: self._each(Pair.reset))

    def hang_up(self) -> None:
        """Close every connection in an orderly way (FIN)."""
        self._tell(lambda: self._each(Pair.hang_up))

    def go_deaf(self) -> None:
        """Accept and acknowledge, but pass nothing on in either direction; open connections too."""
        self._tell(lambda: self._set_deaf(True))

    def hear_again(self) -> None:
        """Pass on again, first of all what was kept; of clients that have left, nothing that is new."""
        self._tell(lambda: self._set_deaf(False))

    def hold(self, delay: float) -> None:
        """From now on hold data back for so many seconds in each direction."""
        self._tell(lambda: setattr(self, "delay", delay))

    def forward(self) -> None:
        """As in the beginning: accept, and pass on without a delay."""
        self.start()
        self.hold(0.0)
        self.hear_again()

    def close(self) -> None:
        """End the proxy: every connection is reset."""
        if self._running:
            self.stop()
            self.reset()
            self._tell(lambda: setattr(self, "_running", False))
            self._thread.join()
            self._epoll.close()
            os.close(self._wakeup)

    # ##### What can be seen #####

    def accepted(self) -> list[float]:
        """When each connection was accepted, by ``time.monotonic()``: one clock for all processes."""
        return list(self._accepted)

    def open_connections(self) -> int:
        return len(self._pairs)

    def traffic(self) -> tuple[int, int]:
        """Bytes to the server and bytes to the clients."""
        return self.bytes_up, self.bytes_down

    def round_trip(self, samples: int = 200) -> float:
        """Median seconds of a round trip of one byte through this proxy, as it is now."""
        near, client = _tcp_pair()
        server, far = _tcp_pair()
        with near, far:
            self._tell(lambda: self._add(client, server))
            return median(_one_round_trip(near, far) for _ in range(samples))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ##### For the pairs #####

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        known = fd in self._handlers
        self._handlers[fd] = handler
        (self._epoll.modify if known else self._epoll.register)(fd, events)

    def unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def schedule(self, pipe: Pipe) -> float:
        """When the data that *pipe* has just read may go out."""
        due = time.monotonic() + self.delay
        heapq.heappush(self._due, (due, next(self._order), pipe))
        return due

    def forget(self, pair: Pair) -> None:
        self._pairs.discard(pair)

    # ##### The loop #####

    def _run(self) -> None:
        while self._running:
            for fd, events in self._wait():
                # A handler that ran just before may have closed this one.
                if handler := self._handlers.get(fd):
                    handler(events)
            if not self.deaf:
                self._deliver()

    def _wait(self) -> list[tuple[int, int]]:
        if self.deaf or not self._due:
            return self._epoll.poll()
        left = self._due[0][0] - time.monotonic()
        if left > SPIN:
            # epoll counts in milliseconds, select in microseconds.
            select.select([self._epoll], [], [], left - SPIN)
        return self._epoll.poll(0)

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2].flush(now)

    def _tell(self, command: Callable[[], Any]) -> None:
        done: Future[Any] = Future()
        self._commands.put((command, done))
        os.eventfd_write(self._wakeup, 1)
        done.result(10.0)

    def _obey(self) -> None:
        os.eventfd_read(self._wakeup)
        while not self._commands.empty():
            command, done = self._commands.get()
            try:
                done.set_result(command())
            except Exception as error:
                done.set_exception(error)

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=1024)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            self.watch(self._listener.fileno(), select.EPOLLIN, lambda events: self._accept())

    def _unlisten(self) -> None:
        if self._listener is not None:
            self.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it went away meanwhile
        self._accepted.append(time.monotonic())
        self._add(client)

    def _add(self, client: socket.socket, server: socket.socket | None = None) -> None:
        pair = Pair(self, client, server)
        if not pair.closed:
            self._pairs.add(pair)

    def _set_deaf(self, deaf: bool) -> None:
        self.deaf = deaf
        self._each(Pair.hearing_changed)

    def _each(self, change: Callable[[Pair], None]) -> None:
        for pair in list(self._pairs):
            change(pair)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for side in (one, other):
        side.settimeout(30.0)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _one_round_trip(near: socket.socket, far: socket.socket) -> float:
    started = time.monotonic()
    near.sendall(b"?")
    far.sendall(far.recv(1))
    near.recv(1)
    return time.monotonic() - started

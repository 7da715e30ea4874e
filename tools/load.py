"""A closed-loop HTTP load: each client asks again as soon as it has its answer.

One thread and one selector for all clients, so that the load costs little beside what it measures.
``python -m tools.load http://127.0.0.1:8000/three/ --clients 4 --seconds 5``
"""

from __future__ import annotations

import argparse
import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tools.answers import is_complete, status_of


@dataclass
class Result:
    """What came back. ``errors`` counts answers of 400 and above and connections that broke."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.statuses.total() + self.broken

    @property
    def errors(self) -> int:
        return self.broken + sum(n for status, n in self.statuses.items() if status >= 400)

    @property
    def rps(self) -> float:
        return (self.requests - self.errors) / self.seconds if self.seconds else 0.0

    def latency(self, quantile: float) -> float:
        """Seconds that this part of the requests did not exceed."""
        ranked = sorted(self.latencies)
        return ranked[min(int(quantile * len(ranked)), len(ranked) - 1)] if ranked else 0.0

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.errors} errors, {self.rps:.0f} requests/s, "
            f"median {self.latency(0.5) * 1000:.2f} ms, p99 {self.latency(0.99) * 1000:.2f} ms"
        )


class Client:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, address: tuple[str, int], request: bytes, timeout: float) -> None:
        self.address = address
        self.request = request
        self.timeout = timeout
        self.socket: socket.socket | None = None
        self.received = b""
        self.sent_at = 0.0

    def send(self, selector: selectors.BaseSelector) -> None:
        self.received = b""
        self.sent_at = time.perf_counter()
        if self.socket is None:
            self.socket = socket.create_connection(self.address, self.timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.socket.sendall(self.request)

    def receive(self, result: Result, selector: selectors.BaseSelector) -> bool:
        """Read what is there; True when the answer is complete."""
        assert self.socket is not None
        piece = self.socket.recv(65536)
        self.received += piece
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            if not piece:
                raise ConnectionError("closed before an answer")
            return False
        head = head.lower()
        if not is_complete(head, body, at_end=not piece):
            return False
        result.latencies.append(time.perf_counter() - self.sent_at)
        result.statuses[status_of(head)] += 1
        if not piece or b"\r\nconnection: close" in head:
            self.close(selector)
        return True

    def close(self, selector: selectors.BaseSelector) -> None:
        if self.socket is not None:
            selector.unregister(self.socket)
            self.socket.close()
            self.socket = None


class Load:
    """The clients, until the time is up, enough is asked, or somebody says stop."""

    def __init__(
        self,
        url: str,
        *,
        clients: int = 4,
        seconds: float | None = None,
        requests: int | None = None,
        headers: str = "",
        timeout: float = 30.0,
        stop: threading.Event | None = None,
    ) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{headers}\r\n".encode()
        self.clients = [Client(address, request, timeout) for _ in range(clients)]
        self.seconds = seconds
        self.left = requests
        self.timeout = timeout
        self.stop = stop or threading.Event()
        self.result = Result()

    def run(self) -> Result:
        started = time.perf_counter()
        deadline = None if self.seconds is None else started + self.seconds
        with selectors.DefaultSelector() as selector:
            free, busy = list(self.clients), set[Client]()
            while free or busy:
                busy |= {client for client in free if self._send(client, selector, deadline)}
                ready = [key.data for key, _ in selector.select(0.1)] if busy else []
                free = [client for client in ready if self._receive(client, selector)]
                free += self._silent(busy.difference(free), selector)
                busy.difference_update(free)
            for client in self.clients:
                client.close(selector)
        self.result.seconds = time.perf_counter() - started
        return self.result

    def _may_go_on(self, deadline: float | None) -> bool:
        late = deadline is not None and time.perf_counter() >= deadline
        return not (late or self.left == 0 or self.stop.is_set())

    def _send(self, client: Client, selector: selectors.BaseSelector, deadline: float | None) -> bool:
        while self._may_go_on(deadline):
            if self.left is not None:
                self.left -= 1
            try:
                client.send(selector)
                return True
            except OSError:
                self._broke(client, selector)
                # Refused: without a pause a closed loop would spin.
                time.sleep(0.01)
        return False

    def _receive(self, client: Client, selector: selectors.BaseSelector) -> bool:
        try:
            return client.receive(self.result, selector)
        except OSError:
            self._broke(client, selector)
            return True

    def _silent(self, busy: set[Client], selector: selectors.BaseSelector) -> list[Client]:
        limit = time.perf_counter() - self.timeout
        silent = [client for client in busy if client.sent_at < limit]
        for client in silent:
            self._broke(client, selector)
        return silent

    def _broke(self, client: Client, selector: selectors.BaseSelector) -> None:
        self.result.broken += 1
        client.close(selector)


def run(url: str, **options: object) -> Result:
    return Load(url, **options).run()  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    print(run(given.url, clients=given.clients, seconds=given.seconds))


if __name__ == "__main__":
    main()

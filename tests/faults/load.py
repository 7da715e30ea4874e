"""An open-loop HTTP load: so many requests a second, however long the answers take.

A closed loop asks less of a server that stands still, and so hides what its visitors see. Here every
request has its moment, and its latency counts from then. Each has a connection of its own.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.faults.results import Answer, Request, Results
from tools.answers import header, is_complete, status_of, text_of

NextRequest = Callable[[], Request]
TEXT_KEPT = 200


def mix(weights: Mapping[str | Request, float], seed: int = 0) -> NextRequest:
    """Requests or paths (for GET) at random, each as often as its weight says; *seed* repeats the row."""
    draw = random.Random(seed)
    requests = [given if isinstance(given, Request) else Request(given) for given in weights]
    chances = list(weights.values())
    return lambda: draw.choices(requests, chances)[0]


@dataclass(eq=False)
class Exchange:
    """One request on its way."""

    request: Request
    scheduled: float
    to_send: bytes
    socket: socket.socket = field(default_factory=socket.socket)
    received: bytes = b""

    def connect(self, address: tuple[str, int]) -> None:
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if (error := self.socket.connect_ex(address)) not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))

    def send(self) -> bool:
        """True when all of it is sent."""
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        self.to_send = self.to_send[self.socket.send(self.to_send) :]
        return not self.to_send

    def receive(self) -> Answer | None:
        """The answer, once it is complete."""
        piece = self.socket.recv(65536)
        self.received += piece
        head, found, body = self.received.partition(b"\r\n\r\n")
        lower = head.lower()
        bodiless = self.request.method == "HEAD"
        if found and (bodiless or is_complete(lower, body, at_end=not piece)):
            return self._answer(lower, body)
        if not piece:
            raise ConnectionError("closed before the answer was complete")
        return None

    def _answer(self, head: bytes, body: bytes) -> Answer:
        return Answer(
            self.request,
            self.scheduled,
            time.monotonic() - self.scheduled,
            status=status_of(head),
            retry_after=header(head, b"retry-after").decode(),
            text=text_of(head, body)[:TEXT_KEPT].decode(errors="replace"),
        )

    def failed(self, error: str) -> Answer:
        return Answer(self.request, self.scheduled, time.monotonic() - self.scheduled, error=error)


class Load:
    """``rate`` requests a second for ``seconds``, or until :meth:`stop`.

    :param url: ``http://host:port``; the requests' paths are added to it.
    :param next_request: gives each request in turn, for instance :func:`mix`.
    :param timeout: seconds from its moment on after which a request without an answer has failed.
    """

    def __init__(
        self,
        url: str,
        next_request: NextRequest,
        *,
        rate: float = 150.0,
        seconds: float | None = None,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not allowed: give http://host or http://host:port")
        self.address = (socket.gethostbyname(parts.hostname), parts.port or 80)
        self.host = parts.netloc
        self.prefix = parts.path.rstrip("/")
        self.next_request = next_request
        self.rate = rate
        self.seconds = seconds
        self.timeout = timeout
        self.results = Results()
        self._stopped = threading.Event()
        self._running: Future[Results] | None = None
        self._under_way: dict[Exchange, None] = {}  # the eldest first
        self._selector = selectors.DefaultSelector()

    def run(self) -> Results:
        """The answers, after the last of them has come or has timed out."""
        _allow_many_connections()
        self.results.started = started = time.monotonic()
        sent = 0
        while self._under_way or self._goes_on(started, sent):
            due = started + sent / self.rate
            if self._goes_on(started, sent) and due <= time.monotonic():
                self._send(due)
                sent += 1
            else:
                self._receive(max(0.0, min(due - time.monotonic(), 0.1)))
            self._give_up()
        self._selector.close()
        self.results.ended = time.monotonic()
        return self.results

    def start(self) -> Load:
        """Run in a thread of its own, while the caller does the damage."""
        with_one_thread = ThreadPoolExecutor(1, "load")
        self._running = with_one_thread.submit(self.run)
        with_one_thread.shutdown(wait=False)
        return self

    def stop(self) -> None:
        """No further requests."""
        self._stopped.set()

    def finish(self) -> Results:
        """Wait for the end; the load has to have been given ``seconds`` or a :meth:`stop`."""
        assert self._running is not None
        return self._running.result()

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.finish()

    def _goes_on(self, started: float, sent: int) -> bool:
        over = self.seconds is not None and sent >= self.seconds * self.rate
        return not over and not self._stopped.is_set()

    def _send(self, due: float) -> None:
        request = self.next_request()
        self.results.sent += 1
        self.results.latest = max(self.results.latest, time.monotonic() - due)
        exchange = Exchange(request, due, request.encoded(self.host, self.prefix))
        self._under_way[exchange] = None
        self._selector.register(exchange.socket, selectors.EVENT_WRITE, exchange)
        try:
            exchange.connect(self.address)
        except OSError as error:
            self._end(exchange, exchange.failed(_reason(error)))

    def _receive(self, patience: float) -> None:
        if not self._under_way:
            self._stopped.wait(patience)
            return
        for key, events in self._selector.select(patience):
            try:
                answer = self._advance(key.data, events)
            except BlockingIOError:
                continue
            except OSError as error:
                answer = key.data.failed(_reason(error))
            if answer is not None:
                self._end(key.data, answer)

    def _advance(self, exchange: Exchange, events: int) -> Answer | None:
        if events & selectors.EVENT_READ:
            return exchange.receive()
        if exchange.send():
            self._selector.modify(exchange.socket, selectors.EVENT_READ, exchange)
        return None

    def _give_up(self) -> None:
        limit = time.monotonic() - self.timeout
        while self._under_way and (eldest := next(iter(self._under_way))).scheduled < limit:
            self._end(eldest, eldest.failed(f"no answer after {self.timeout:g} s"))

    def _end(self, exchange: Exchange, answer: Answer) -> None:
        del self._under_way[exchange]
        self._selector.unregister(exchange.socket)
        exchange.socket.close()
        self.results.answers.append(answer)


def _reason(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror or error}"


def _allow_many_connections() -> None:
    """As many as the machine allows: the usual 1024 are used up when a site stands still for 7 s."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

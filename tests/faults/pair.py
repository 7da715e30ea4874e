"""The two ends of a connection through the proxy, and the pipe for each direction."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.proxy import Proxy

Address = tuple[str, int] | str
MOST_KEPT = 1 << 20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
END = b""


class Pipe:
    """One direction: what was read from *source*, until it may go out to *sink*."""

    def __init__(self, pair: Pair, source: socket.socket) -> None:
        self.pair = pair
        self.source = source
        self.sink: socket.socket | None = None
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.kept = 0
        self.ended = False  # the source has sent its end
        self.done = False  # and the sink has been told
        self.blocked = False

    @property
    def reads(self) -> bool:
        return not self.ended and self.kept < MOST_KEPT

    def read(self) -> int:
        data = self.source.recv(65536)
        self.ended = data == END
        self.kept += len(data)
        self.waiting.append((self.pair.proxy.schedule(self), data))
        return len(data)

    def flush(self, now: float) -> None:
        """Send what is due; an error ends the pair."""
        if self.pair.closed or self.sink is None or self.pair.proxy.deaf:
            return
        try:
            self._send(now)
        except OSError:
            self.pair.reset()
        else:
            self.pair.update()

    def _send(self, now: float) -> None:
        assert self.sink is not None
        self.blocked = False
        while self.waiting and self.waiting[0][0] <= now:
            due, data = self.waiting.popleft()
            if data == END:
                self.sink.shutdown(socket.SHUT_WR)
                self.done = True
                return
            sent = self._send_some(data)
            self.kept -= sent
            if sent < len(data):
                self.waiting.appendleft((due, data[sent:]))
                self.blocked = True
                return

    def _send_some(self, data: bytes) -> int:
        assert self.sink is not None
        try:
            return self.sink.send(data)
        except BlockingIOError:
            return 0


class Pair:
    """A client's connection and the one to the server; *server* is given when it is connected already."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket | None = None) -> None:
        self.proxy = proxy
        self.closed = False
        self._connecting = False
        self._client = _prepared(client)
        self._server: socket.socket | None = None
        self.up = Pipe(self, client)
        self.down: Pipe | None = None
        if server is not None:
            self._join(server)
        self.hearing_changed()

    def hearing_changed(self) -> None:
        """A deaf proxy opens no connection to the server; one that hears again makes up for it."""
        if self._server is None and not self.proxy.deaf:
            if self.up.ended:
                self.reset()
                return
            self._connect()
        for pipe in filter(None, (self.up, self.down)):
            pipe.flush(time.monotonic())
        self.update()

    def reset(self) -> None:
        for side in self._sides():
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._close()

    def hang_up(self) -> None:
        for side in self._sides():
            _drain(side)
        self._close()

    def update(self) -> None:
        """Watch for what can be done now; nothing left to do closes both ends."""
        if self.closed:
            return
        if self.down is not None and self.up.done and self.down.done:
            self._close()
            return
        self._watch(self._client, self.up, self.down, self._on_client)
        if self._server is not None:
            self._watch(self._server, self.down, self.up, self._on_server)

    def _connect(self) -> None:
        upstream = self.proxy.upstream
        server = socket.socket(socket.AF_UNIX if isinstance(upstream, str) else socket.AF_INET)
        server.setblocking(False)
        refused = server.connect_ex(upstream)
        self._connecting = refused == errno.EINPROGRESS
        self._join(server)
        if refused and not self._connecting:
            self.reset()

    def _join(self, server: socket.socket) -> None:
        self._server = _prepared(server)
        self.down = Pipe(self, server)
        self.down.sink = self._client
        if not self._connecting:
            self.up.sink = server

    def _watch(self, side: socket.socket, source: Pipe | None, sink: Pipe | None, handler: object) -> None:
        if source is not None and sink is not None and source.ended and sink.done:
            # Nothing is left to do on this side, but epoll would report its end again and again.
            self.proxy.unwatch(side.fileno())
            return
        events = 0
        if source is not None and source.reads:
            events |= select.EPOLLIN
        writes = sink is not None and sink.blocked and not self.proxy.deaf
        if writes or (self._connecting and side is self._server):
            events |= select.EPOLLOUT
        self.proxy.watch(side.fileno(), events, handler)  # type: ignore[arg-type]

    def _on_client(self, events: int) -> None:
        self._on(events, self.up, self.down)

    def _on_server(self, events: int) -> None:
        if self._connecting:
            assert self._server is not None
            self._connecting = False
            if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.reset()
                return
            self.up.sink = self._server
            self.up.flush(time.monotonic())
        assert self.down is not None
        self._on(events, self.down, self.up)

    def _on(self, events: int, source: Pipe, sink: Pipe | None) -> None:
        try:
            if source.reads and events & ~select.EPOLLOUT:
                self._count(source, source.read())
            elif events & (select.EPOLLERR | select.EPOLLHUP):
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self.reset()
        if events & select.EPOLLOUT and sink is not None:
            sink.flush(time.monotonic())
        self.update()

    def _count(self, source: Pipe, size: int) -> None:
        if source is self.up:
            self.proxy.bytes_up += size
        else:
            self.proxy.bytes_down += size

    def _sides(self) -> list[socket.socket]:
        return [] if self.closed else [side for side in (self._client, self._server) if side is not None]

    def _close(self) -> None:
        for side in self._sides():
            self.proxy.unwatch(side.fileno())
            side.close()
        self.closed = True
        self.proxy.forget(self)


def _prepared(side: socket.socket) -> socket.socket:
    side.setblocking(False)
    if side.family == socket.AF_INET:
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return side


def _drain(side: socket.socket) -> None:
    """Closing with unread data would send an RST instead of a FIN."""
    try:
        side.shutdown(socket.SHUT_WR)
        while side.recv(65536):
            pass
    except OSError:
        pass

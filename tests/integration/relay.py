"""Between a client and the server: counts round trips, and cuts at one of them."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Relay(threading.Thread):
    """One connection at a time.

    :param folder: of its Unix socket; None for TCP.
    :ivar round_trips: how often the client waited for an answer.
    :ivar at_cut: what happens between a cut and the next connection.
    """

    def __init__(self, port: int, folder: Path | None = None) -> None:
        super().__init__(daemon=True)
        self.upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.host = "127.0.0.1"
        if folder is not None:
            self._listener.close()
            self._listener, self.host = socket.socket(socket.AF_UNIX), str(folder)
            self._listener.bind(str(folder / f".s.PGSQL.{self.port}"))
            self._listener.listen()
        self._cut: tuple[str, int] | None = None
        self._kept: list[socket.socket] = []
        self.round_trips = 0
        self.at_cut: Callable[[], None] = lambda: None
        self.start()

    def cut(self, how: str, after: int = 0) -> None:
        """End the connection ``"before"`` the server gets a message of the client's, ``"after"`` it has
        answered, or ``"unanswered"``; ``"silently"`` is before, and the server does not learn of it. *after*:
        so many go through."""
        self._cut = how, after

    def spare(self) -> None:
        """Cut no more, and have the server learn of what was cut."""
        self._cut = None
        while self._kept:
            self._kept.pop().close()

    def close(self) -> None:
        self.spare()
        # Before close(): when a signal stops the process, a thread that still waits in accept() begins anew
        # with the same number, which is the next listener's by then, and serves its clients.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, socket.create_connection(self.upstream) as server:
                    with suppress(OSError):
                        self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        asked = False
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(65536)
                if not data:
                    return
                if end is client and self._ends_here(client, server, data):
                    return
                self.round_trips += end is server and asked
                asked = end is client
                (server if asked else client).sendall(data)

    def _ends_here(self, client: socket.socket, server: socket.socket, data: bytes) -> bool:
        if self._cut is None:
            return False
        how, after = self._cut
        self._cut = (how, after - 1) if after else None
        if after:
            return False
        if how in ("after", "unanswered"):
            server.sendall(data)
        if how == "after":
            server.recv(65536)
        if how == "silently":
            self._kept.append(server.dup())
        self.at_cut()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True

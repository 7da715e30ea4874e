"""A proxy that counts round trips: how often the server's answer begins after the client has spoken."""

from __future__ import annotations

import contextlib
import select
import socket

from tests.front import Front


class Turns(Front):
    """Forwards ``port`` of 127.0.0.1 to the server; what is pipelined counts once."""

    count = 0

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        asked = False
        while True:
            readable, _, _ = select.select([client, server], [], [])
            for source in readable:
                data = source.recv(65536)
                if not data:
                    return
                if source is server and asked:
                    self.count += 1
                asked = source is client
                (server if source is client else client).sendall(data)

"""A server in front of PostgreSQL: it adds TLS where that was built without, or messages of a test's own.

Clients see the real protocol; behind it is the real server.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading

SSL_REQUEST = struct.pack("!II", 8, 80877103)


def parameter_status(name: str, value: str) -> bytes:
    return _message(b"S", f"{name}\0{value}\0".encode())


def notice(severity: str, localised: str, text: str, code: str = "00000") -> bytes:
    fields = {"S": localised, "V": severity, "C": code, "M": text}
    return _message(b"N", b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0")


def error(severity: str, localised: str, text: str, code: str) -> bytes:
    return b"E" + notice(severity, localised, text, code)[1:]


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class Front:
    def __init__(self, server: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._context = context
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, message: bytes) -> None:
        """Send a message of our own to every client, as if the server had."""
        for client in self._clients:
            client.sendall(message)

    def hang_up(self) -> None:
        for client in self._clients:
            client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(OSError), self._encrypted(client) as front:
            self._clients.append(front)
            with socket.create_connection(self._server) as back:
                back.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_pump, args=(front, back), daemon=True).start()
                _pump(back, front)

    def _encrypted(self, client: socket.socket) -> socket.socket:
        if self._context is None:
            return client
        if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
            raise ConnectionError("a client without TLS")
        client.sendall(b"S")
        return self._context.wrap_socket(client, server_side=True)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Until one side ends, which ends the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for side in (source, sink):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)

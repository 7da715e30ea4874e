"""A server that has many responses under way on each thread, as bjoern has: ``python -m tests.servers.late``.

It asks a response for its next piece when the client has taken the last one, closes it after that, and
meanwhile begins other requests on the same thread.
"""

from __future__ import annotations

import io
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults


class Conversation:
    """One request, from its first byte to the last of its response."""

    def __init__(self, client: socket.socket, application: Callable[..., Any], multithread: bool) -> None:
        client.setblocking(False)
        self.client = client
        self._application = application
        self._multithread = multithread
        self._received = b""
        self._to_send = b""
        self._response: Any = None
        self._pieces: Iterator[bytes] = iter(())

    def receive(self) -> bool:
        """Whether the request is complete; it is begun then."""
        self._received += self.client.recv(65536)
        if b"\r\n\r\n" not in self._received:
            return False
        path, _, query = self._received.split()[1].decode().partition("?")
        environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
        environ |= {"wsgi.multithread": self._multithread, "wsgi.file_wrapper": FileWrapper}
        setup_testing_defaults(environ)
        self._response = self._application(environ, self._start)
        self._pieces = iter(self._response)
        self._to_send += next(self._pieces, b"")
        return True

    def send(self) -> bool:
        """Whether there is more."""
        self._to_send = self._to_send[self.client.send(self._to_send) :]
        if not self._to_send:
            self._to_send = next(self._pieces, b"")
        return bool(self._to_send)

    def end(self) -> None:
        self.client.close()
        if self._response is not None:
            getattr(self._response, "close", lambda: None)()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        lines = [f"HTTP/1.0 {status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        self._to_send = "\r\n".join(lines).encode()
        return None


def serve(port: int, application: Callable[..., Any], multithread: bool) -> None:
    """For ever, on the calling thread."""
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), reuse_port=True)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is None:
                client = Conversation(listener.accept()[0], application, multithread)
                selector.register(client.client, selectors.EVENT_READ, client)
            else:
                _go_on(selector, key.data)


def _go_on(selector: selectors.BaseSelector, client: Conversation) -> None:
    try:
        if selector.get_key(client.client).events == selectors.EVENT_WRITE:
            done = not client.send()
        else:
            done = False
            if client.receive():
                selector.modify(client.client, selectors.EVENT_WRITE, client)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        done = True
    if done:
        selector.unregister(client.client)
        client.end()


def main() -> None:
    from tests.site.wsgi import application

    port, threads = map(int, sys.argv[1:])
    for _ in range(threads - 1):
        threading.Thread(target=serve, args=(port, application, True), daemon=True).start()
    serve(port, application, threads > 1)


if __name__ == "__main__":
    main()

"""Round trips are counted, not pieces."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.bench.turns import Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    """Before a server that answers each letter with two."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            while data := client.recv(100):
                client.sendall(data + data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with Turns(listener.getsockname()) as turns:
            yield turns
        thread.join()


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(2 * len(text), socket.MSG_WAITALL)


def test_each_answer_is_a_round_trip_however_much_was_asked_at_once(turns: Turns) -> None:
    with socket.create_connection(("127.0.0.1", turns.port), 10) as connection:
        assert turns.count == 0
        assert ask(connection, b"a") == b"aa"
        assert turns.count == 1
        assert ask(connection, b"bc") == b"bcbc"
        assert turns.count == 2

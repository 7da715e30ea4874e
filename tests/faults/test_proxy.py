"""The proxy, on real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.proxy import Proxy
from tests.faults.remote import RemoteProxy, obey

BOTH = pytest.mark.parametrize("family", ["tcp", "unix"])


class Echo:
    """Sends back what it gets; an end of what it gets ends its own."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen()
        self.address = self._listener.getsockname()
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        if self._listener.fileno() != -1:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
        except OSError:
            return

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as proxy:
        yield proxy


def client_of(proxy: Proxy, timeout: float = 10.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout)


def ask(client: socket.socket, data: bytes = b"hello") -> bytes:
    client.sendall(data)
    return receive(client, len(data))


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := client.recv(size - len(data))):
        data += piece
    return data


@BOTH
def test_passes_on_more_than_it_keeps_and_counts_it(family: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    with closing(Echo(tmp_path / "echo" if family == "unix" else None)) as echo:
        with Proxy(echo.address) as proxy, client_of(proxy) as client:
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            assert receive(client, len(data)) == data
            sender.join()
            assert proxy.traffic() == (len(data), len(data))
            assert len(proxy.accepted()) == 1


def test_end_is_passed_on_after_the_data(proxy: Proxy) -> None:
    proxy.hold(0.01)
    with client_of(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 10) == b"last words"
        assert client.recv(1) == b""
    assert eventually(proxy.open_connections, 0)


@pytest.mark.parametrize("delay", [0.0005, 0.02])
def test_round_trip_takes_both_delays(proxy: Proxy, delay: float) -> None:
    proxy.hold(delay)
    assert proxy.round_trip(20) >= 2 * delay
    assert eventually(proxy.open_connections, 0)
    proxy.hold(0.0)
    with client_of(proxy) as client:
        assert ask(client) == b"hello"


def test_stopped_refuses_but_keeps_what_is_open(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        assert ask(client) == b"hello"
        proxy.stop()
        with pytest.raises(ConnectionRefusedError):
            client_of(proxy)
        assert ask(client) == b"hello"
    proxy.start()
    with client_of(proxy) as client:
        assert ask(client) == b"hello"


def test_reset(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        assert ask(client) == b"hello"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert proxy.open_connections() == 0


def test_hang_up_is_orderly(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        assert ask(client) == b"hello"
        proxy.hang_up()
        assert client.recv(1) == b""


def test_deaf_takes_all_and_answers_nothing_until_it_hears_again(proxy: Proxy, echo: Echo) -> None:
    with client_of(proxy) as old:
        assert ask(old) == b"hello"
        proxy.go_deaf()
        with client_of(proxy) as new:
            for client in (old, new):
                client.sendall(b"heard?")
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            assert echo.accepted == 1
            proxy.hear_again()
            for client in (old, new):
                client.settimeout(10)
                assert receive(client, 6) == b"heard?"


def test_who_came_and_left_while_it_was_deaf_is_not_passed_on(proxy: Proxy, echo: Echo) -> None:
    proxy.go_deaf()
    with client_of(proxy) as client:
        client.sendall(b"never mind")
    assert eventually(proxy.traffic, (10, 0))
    proxy.hear_again()
    with client_of(proxy) as client:
        assert ask(client) == b"hello"
    assert echo.accepted == 1


def test_server_that_refuses_resets_the_client(echo: Echo) -> None:
    echo.close()
    with Proxy(echo.address) as proxy:
        with pytest.raises(ConnectionResetError):
            with client_of(proxy) as client:
                client.recv(1)
        assert len(proxy.accepted()) == 1


def test_attempts_have_their_moments(proxy: Proxy) -> None:
    for _ in range(3):
        with client_of(proxy) as client:
            ask(client)
    moments = proxy.accepted()
    assert len(moments) == 3
    assert moments == sorted(moments)


def test_hundreds_of_connections_at_once(proxy: Proxy) -> None:
    clients = [client_of(proxy) for _ in range(400)]
    for client in clients:
        client.sendall(b"x")
    assert [client.recv(1) for client in clients] == [b"x"] * 400
    for client in clients:
        client.close()
    assert eventually(proxy.open_connections, 0)


def test_in_a_process_of_its_own(echo: Echo) -> None:
    with RemoteProxy(echo.address, delay=0.0005) as proxy:
        assert proxy.round_trip() >= 0.001
        proxy.forward()
        with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
            assert ask(client) == b"hello"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert len(proxy.accepted()) == 1


def test_command_that_it_does_not_know(proxy: Proxy) -> None:
    assert "'explode' is not a command: the commands are stop, start, reset" in obey(proxy, "explode")

"""A client without a library between the test and what the server said."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    status: int
    text: str
    headers: Sequence[tuple[str, str]] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def header(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]


def get(
    port: int,
    path: str,
    timeout: float = 30.0,
    *,
    site: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
) -> Answer:
    """The answer of the virtual host *site*, over TLS if there is a *context* for it."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
    try:
        connection.request("GET", path.replace(" ", "%20"), headers={"Host": site})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(), response.getheaders())
    finally:
        connection.close()


def in_parallel(clients: int, work: Callable[[], Any]) -> list[Any]:
    """What *work* gives in each of so many threads; raises what it raised."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found

"""Is anybody at home: how long a connection has been silent, and whether its server answers others."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

# GSSENCRequest: answered with one byte, and, unlike SSLRequest, no line in the server's log when its sender
# says no more (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_ASKED = struct.pack("!ii", 8, 80877104)
# Of Linux's struct tcp_info: tcpi_last_data_sent and tcpi_last_data_recv, in milliseconds.
_SINCE = struct.Struct("=44xI4xI")


def silent_for(line: socket.socket) -> float | None:
    """Seconds since anything was sent or received; None where that is not known, as on a Unix socket."""
    if line.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "TCP_INFO"):
        return None
    sent, received = _SINCE.unpack(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SINCE.size))
    return float(min(sent, received)) / 1000


def knock(host: str, port: int, timeout: float) -> bool:
    """Whether anybody answers there within *timeout* (seconds), be it that nothing runs there.

    A host that is frozen still accepts connections: its kernel does. What this machine refuses says nothing
    about another, and a name that is unknown is the driver's to refuse.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return True
    return any(_answers(family, address, timeout) for family, _, _, _, address in addresses)


def _answers(family: int, address: Any, timeout: float) -> bool:
    try:
        with socket.socket(family) as line:
            line.settimeout(timeout)
            line.connect(address)
            line.sendall(_ASKED)
            line.recv(1)
    except TimeoutError:
        return False
    except OSError as error:
        return error.errno not in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)
    return True

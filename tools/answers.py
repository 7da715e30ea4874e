"""Reading an HTTP answer from the bytes that came so far; shared by the closed and the open loop."""

from __future__ import annotations

MISSING = b""


def is_complete(head: bytes, body: bytes, *, at_end: bool) -> bool:
    """Whether the body has come in full; *head* is in lower case, *at_end* when the server has closed."""
    length = header(head, b"content-length")
    if length != MISSING:
        return len(body) >= int(length)
    if b"chunked" in header(head, b"transfer-encoding"):
        return _ends_chunked(body)
    return at_end or status_of(head) in (204, 304)


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header, or MISSING; both *head* and *name* in lower case."""
    _, found, rest = head.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else MISSING


def status_of(head: bytes) -> int:
    return int(head.split(None, 2)[1])


def _ends_chunked(body: bytes) -> bool:
    while body:
        size, found, rest = body.partition(b"\r\n")
        if not found:
            return False
        if int(size.split(b";")[0], 16) == 0:
            return rest.endswith(b"\r\n")
        body = rest[int(size.split(b";")[0], 16) + 2 :]
    return False

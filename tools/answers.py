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


def text_of(head: bytes, body: bytes) -> bytes:
    """The body of a complete answer, without the sizes of its chunks."""
    if b"chunked" not in header(head, b"transfer-encoding"):
        return body
    text = b""
    while (size := _size_of_chunk(body)) and size[0]:
        length, start = size
        text += body[start : start + length]
        body = body[start + length + 2 :]
    return text


def _ends_chunked(body: bytes) -> bool:
    while size := _size_of_chunk(body):
        length, start = size
        if length == 0:
            return body.endswith(b"\r\n", start)
        body = body[start + length + 2 :]
    return False


def _size_of_chunk(body: bytes) -> tuple[int, int] | None:
    """How long the first chunk is and where it starts; None as long as that has not come."""
    size, found, _ = body.partition(b"\r\n")
    return (int(size.split(b";")[0], 16), len(size) + 2) if found else None

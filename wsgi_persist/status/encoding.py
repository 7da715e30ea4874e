"""A snapshot as bytes in a file: with its length and a checksum, as it may be read while it is written."""

from __future__ import annotations

import json
import zlib
from typing import TypeVar

from wsgi_persist.status.shape import Malformed, shaped
from wsgi_persist.status.snapshot import FORMAT, Snapshot, Totals

# Bytes. A file has two places that are written in turn: who is killed while it writes leaves the other whole.
PLACE = 64 * 1024
LARGEST = 2 * PLACE
# Behind them, in memory that the worker shares with who reads: when each of so many requests came in.
MARKS = 64
SIZE_OF_MARKS = MARKS * 8
_MAGIC = b"wsgi_persist"
_HEADER = len(_MAGIC) + len(" 1 00000000 00000000 00000000\n")

T = TypeVar("T", Snapshot, Totals)


def encoded(part: Snapshot | Totals, number: int = 0) -> bytes:
    """:param number: how often it was written before."""
    body = json.dumps(part, default=vars, separators=(",", ":"), ensure_ascii=False).encode()
    return _MAGIC + b" %d %08x %08x %08x\n" % (FORMAT, number, len(body), zlib.crc32(body)) + body


def decoded(kind: type[T], data: bytes) -> T:
    """What :func:`encoded` was given; the newer of two, where both are whole.

    :raises Malformed: there is none, or it is not what it should be; in a few words.
    """
    bodies, faults = [], []
    for start in range(0, max(len(data), 1), PLACE):
        try:
            bodies.append(_body(data[start : start + PLACE]))
        except Malformed as fault:
            faults.append(fault)
    if not bodies:
        raise faults[0]
    return shaped(kind, _loaded(max(bodies)[1]))


def _loaded(body: bytes) -> object:
    try:
        found: object = json.loads(body)
        if b"\\u" in body:
            # Halves of surrogate pairs, which only come so, are nothing that could be written out.
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError):
        raise Malformed("no JSON, or no text in it") from None


def _body(place: bytes) -> tuple[int, bytes]:
    """Its number, and the text. What stands behind it, of a longer one before, is passed over."""
    try:
        magic, version, *numbers = place[:_HEADER].rstrip(b"\n").split(b" ")
        number, length, crc = (int(text, 16) for text in numbers)
    except ValueError:
        raise Malformed("not a snapshot") from None
    if magic != _MAGIC:
        raise Malformed("not a snapshot")
    if version != b"%d" % FORMAT:
        raise Malformed(f"format {version.decode('ascii', 'replace')!r}, and this reads {FORMAT}")
    body = place[_HEADER : _HEADER + length]
    if len(body) != length or zlib.crc32(body) != crc:
        raise Malformed("cut short or damaged")
    return number, body

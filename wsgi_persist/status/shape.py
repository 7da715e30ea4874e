"""From what JSON gives to dataclasses, strictly: nothing else, nothing missing, nothing left over."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
LONGEST = 4096  # characters of a text, entries of a list


class Malformed(ValueError):
    """What is wrong, in a few words, none of which is from the file."""


def shaped(kind: type[T], value: Any) -> T:
    """*value* as *kind*, a dataclass of what :func:`_reader` knows.

    :raises Malformed: it is something else.
    """
    found: T = _reader(kind)(value)  # type: ignore[arg-type]  # a class is hashable
    return found


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Reads a value of that type; made once, as a page reads thousands."""
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return _of_list(_reader(parts[0]))
    if origin is dict:
        return _of_dict(_reader(parts[0]), _reader(parts[1]))
    if origin is types.UnionType:
        inner = _reader(parts[0])
        return lambda value: None if value is None else inner(value)
    return _SIMPLE[kind]


def _of_dataclass(kind: Any) -> Callable[[Any], Any]:
    hints = typing.get_type_hints(kind)
    texts = [name for name, hint in hints.items() if hint is str]
    others = {name: _reader(hint) for name, hint in hints.items() if hint is not str}

    def read(value: Any) -> Any:
        if type(value) is not dict or value.keys() != hints.keys():
            raise Malformed(f"not a {kind.__name__}")
        for name in texts:
            _text(value[name])
        # Not by its __init__(), which is slow where it is frozen: a page reads ten thousand.
        found = object.__new__(kind)
        vars(found).update(value)
        vars(found).update({name: read_one(value[name]) for name, read_one in others.items()})
        return found

    return read


def _of_list(inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not list or len(value) > LONGEST:
            raise Malformed("no list, or a long one")
        return [inner(each) for each in value]

    return read


def _of_dict(key: Callable[[Any], Any], inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not dict or len(value) > LONGEST:
            raise Malformed("no mapping, or a long one")
        return {key(name): inner(each) for name, each in value.items()}

    return read


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > LONGEST:
        raise Malformed("no text, or a long one")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Malformed("no whole number, or not one of this world")
    return value


def _seconds(value: Any) -> float:
    # Up to the year 9999, which is as far as calendars go.
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 253_000_000_000:
        raise Malformed("no time, or not one of this world")
    return float(value)


_SIMPLE: dict[Any, Callable[[Any], Any]] = {str: _text, int: _whole, float: _seconds}

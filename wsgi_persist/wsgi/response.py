"""Responses that end their request once, when the server closes them."""

from __future__ import annotations

from collections.abc import Iterator
from threading import get_ident
from typing import Any

from wsgi_persist.wsgi.answer import Answer

# Iterators of what is there already.
_READY: tuple[type, ...] = (type(iter([])), type(iter(())))


class Response:
    """What the application returned; closing it closes that first, then ends the request."""

    __slots__ = ("_answer", "_iterator", "_result")

    _iterator: Iterator[bytes]

    def __init__(self, result: Any, answer: Answer) -> None:
        self._result = result
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        # Itself and not the application's iterator, which would not keep the request open.
        answer = self._answer
        if answer.is_beside:
            self._iterator = answer.run(iter, self._result)
        else:
            answer.runs_on = get_ident()
            self._iterator = iter(self._result)
            answer.runs_on = 0
        answer.is_spent = type(self._iterator) in _READY
        return self

    def __next__(self) -> bytes:
        answer = self._answer
        if not answer.begun:
            return self._first()
        return next(self._iterator) if answer.is_spent else answer.run(next, self._iterator)

    def close(self) -> None:
        result, self._result = self._result, None
        self._answer.leave_after(result)

    def _first(self) -> bytes:
        """Until there is a piece of it, the server has sent nothing: an answer can still be replaced."""
        try:
            answer = self._answer
            piece = next(self._iterator) if answer.is_spent else answer.run(next, self._iterator)
            if answer.trouble is None:
                self._answer.begun = True
                return piece
        except StopIteration:
            if self._answer.trouble is None:
                raise
        except Exception as error:
            if not self._answer.replaces(error):
                raise
        self._answer.begun = True
        self._iterator = iter(self._answer.send())
        return next(self._iterator)


class SizedResponse(Response):
    """Of a list or the like: servers read its length to give a Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._result)


class Replacement(SizedResponse):
    """A 503 in its place."""

    __slots__ = ("_body",)

    def __init__(self, result: Any, answer: Answer) -> None:
        super().__init__(result, answer)
        try:
            self._body = answer.send()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

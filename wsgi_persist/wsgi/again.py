"""Running a request a second time: its environment as it came, and its body from the start."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wsgi_persist.policy import Policy, Repeats
from wsgi_persist.worker import name_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("wsgi_persist.middleware")

SAFE = ("GET", "HEAD", "OPTIONS")


class Body:
    """A request's ``wsgi.input``, of which all that the application reads is kept, up to a length.

    :param most: bytes that are kept; of a longer body nothing is.
    :param length: of the body, in bytes; None where the server ends it.
    """

    def __init__(self, source: Any, most: int, length: int | None) -> None:
        self._source = source
        self._most = most
        self._length = length
        self._kept: io.BytesIO | None = io.BytesIO()
        self._lines: Iterator[bytes] | None = None

    def read(self, *size: int) -> bytes:
        return self._keep(self._source.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._keep(self._source.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        lines: list[bytes] = self._source.readlines(*hint)
        self._keep(b"".join(lines))
        return lines

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        if self._lines is None:
            self._lines = iter(self._source)
        return self._keep(next(self._lines))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._source, name)
        self._kept = None  # by what else a server offers, bytes may be read that are not seen here
        return found

    def whole(self) -> io.BytesIO | None:
        """From its start, with what the application has not read; None if that cannot be had."""
        if self._kept is None:
            return None
        rest = (self._most + 1 if self._length is None else self._length) - self._kept.tell()
        while rest > 0 and (piece := self.read(rest)):
            rest -= len(piece)
        kept = self._kept
        if kept is None or self._length not in (None, kept.tell()):
            return None
        kept.seek(0)
        return kept

    def _keep(self, piece: bytes) -> bytes:
        if self._kept is not None:
            self._kept.write(piece)
            if self._kept.tell() > self._most:
                self._kept = None
        return piece


class Again:
    """What is kept of a request while it runs, so that it can be run a second time.

    :ivar needs: what the policy has to allow for that.
    """

    def __init__(self, environ: WSGIEnvironment, needs: Repeats, body: Body | None = None) -> None:
        self.needs = needs
        self._environ = environ.copy()
        self._body = body
        self._has_started = self._has_sent = False

    def started(self, write: Callable[[bytes], object]) -> Callable[[bytes], object]:
        """The application has begun its answer; *write* is the server's."""
        self._has_started = True

        def watched(data: bytes) -> object:
            self._has_sent = True
            return write(data)

        return watched

    def environ(self) -> WSGIEnvironment | None:
        """For the second run; None if there cannot be one."""
        if self._has_sent:
            return None
        if self._body is not None:
            try:
                whole = self._body.whole()
            except Exception as error:  # each server has its own
                logger.info("%s is not run again: its body cannot be read: %s", name_of(self._environ), error)
                return None
            if whole is None:
                return None
            self._environ["wsgi.input"] = whole
        return self._environ

    def start(self, start: StartResponse, error: BaseException | None) -> StartResponse:
        """``start_response`` for the second run: a server that was given a status takes another one only
        together with an exception."""
        if error is None or not self._has_started:
            return start
        reasons: list[Any] = [(type(error), error, error.__traceback__)]

        def start_over(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
            given = exc_info or (reasons.pop() if reasons else None)  # kept, it would keep frames
            return start(status, headers) if given is None else start(status, headers, given)

        return start_over


class Keeping:
    """Of which requests what is kept, by all policies together."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        known = list(policies)
        self._repeats = max(policy.repeats for policy in known)
        self._most = max(policy.replay_body for policy in known if policy.repeats is self._repeats)

    def of(self, environ: WSGIEnvironment) -> Again | None:
        """None where this request is never run again."""
        if self._repeats is Repeats.NONE:
            return None
        has_body = environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ
        if not has_body and environ["REQUEST_METHOD"] in SAFE:
            return Again(environ, Repeats.READS)
        if self._repeats is not Repeats.ALL:
            return None
        if not has_body and not environ.get("wsgi.input_terminated"):
            return Again(environ, Repeats.ALL)
        return self._with_body(environ)

    def _with_body(self, environ: WSGIEnvironment) -> Again | None:
        length: int | None = None
        given = environ.get("CONTENT_LENGTH")  # HTTP/2 does without
        if given and "HTTP_TRANSFER_ENCODING" not in environ:
            if not given.isdecimal() or int(given) > self._most:
                return None
            length = int(given)
        elif not environ.get("wsgi.input_terminated"):
            return None  # it is read in a way of the server's own
        environ["wsgi.input"] = body = Body(environ["wsgi.input"], self._most, length)
        return Again(environ, Repeats.ALL, body)

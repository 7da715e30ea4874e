"""How a request is answered whose database connection was lost: 503 in place of 500."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsgi_persist.drivers import comes_from_loss
from wsgi_persist.events import tell
from wsgi_persist.worker import Boundary, Trouble, name_of
from wsgi_persist.wsgi.again import SAFE, Again
from wsgi_persist.wsgi.files import ClosingFile

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger("wsgi_persist.answer")

# Django's, whose sessions take a save that was lost for a bad request.
FAILURES = ("500", "400")

STATUS = "503 Service Unavailable"
TRY_AGAIN = "The database is out of reach at the moment. Please try again in {} seconds.\n"
NOT_SAVED = (
    "The database is out of reach at the moment, and nothing was saved in it. "
    "Please send this again in {} seconds.\n"
)
UNKNOWN = (
    "The connection to the database was lost while something was being saved, or after part of it was. "
    "Please check what has been saved before you send this again.\n"
)


class Answer(Boundary):
    """Stands between the application and what the server lends it to answer with.

    :ivar begun: whether the server has a part of it already.
    :ivar lent: the server's own ``wsgi.file_wrapper``.
    :ivar wrapped: what that made last.
    :ivar trouble: why a 503 replaces what the application answered, if it does.
    """

    begun = False
    lent: Callable[..., Any]
    wrapped: Any = None
    trouble: Trouble | None = None
    _error: BaseException | None = None
    _file: ClosingFile | None = None

    def __init__(self, start: StartResponse, environ: WSGIEnvironment, again: Again | None) -> None:
        self._start = start
        self._environ = environ
        self._again = again

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """The application's ``start_response``."""
        if status.startswith(FAILURES) and not self.begun and self._is_ours():
            self._error = exc_info[1] if exc_info else None
            return _throw_away
        self.trouble = self._error = None  # an application may put its own page in the place of a 500
        write = self._start(status, headers) if exc_info is None else self._start(status, headers, exc_info)
        return write if self._again is None else self._again.started(write)

    def wrap_file(self, file: Any, *block_size: int) -> Any:
        """The application's ``wsgi.file_wrapper``, in place of the server's.

        The server sends a file by its own fast way only if it gets back the very object that its own
        wrapper made. So that object is passed on as it is, and the file in it ends the request.
        """
        self._file = ClosingFile(file)
        self.wrapped = self.lent(self._file, *block_size)
        return self.wrapped

    def end_with_file(self) -> Any:
        """The response, whose file the server closes, whenever it has sent it, on whatever thread."""
        file, response = self._file, self.wrapped
        assert file is not None
        file.boundary = self
        self._file = self.wrapped = None  # which have this: no circle
        if file.runs_no_code():
            self.end_early()
        return response

    def replaces(self, error: Exception) -> bool:
        """Whether a 503 is the answer to this exception of the application."""
        if not (comes_from_loss(error) and self._is_ours()):
            return False
        self._error = error
        return True

    def give_up(self, response: Any) -> None:
        """Nothing was sent, and the request is run again: let go of all that it left."""
        self._error = None
        self.leave_after(response)

    def second_run(self) -> tuple[WSGIEnvironment, StartResponse] | None:
        """What the whole request is run again with in place of a 503, if it may be."""
        again, trouble = self._again, self.trouble
        if again is None or trouble is None or trouble.repeats < again.needs or self._may_have_written():
            return None
        environ = again.environ()
        return None if environ is None else (environ, again.start(self._start, self._error))

    def send(self) -> list[bytes]:
        """Begin the 503; its body."""
        assert self.trouble is not None
        headers, text = [("Cache-Control", "no-store")], UNKNOWN
        if not self._may_have_written():
            # Only here: inviting a retry of a write that was carried out would invite to do it twice.
            headers.append(("Retry-After", str(self.trouble.retry_after)))
            text = TRY_AGAIN if self._environ["REQUEST_METHOD"] in SAFE else NOT_SAVED
        body = text.format(self.trouble.retry_after).encode()
        headers += [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        error, self._error = self._error, None  # kept, it would keep the request's frames
        # Where the application's own answer is on its way already, the server raises this.
        exc_info = [] if error is None else [(type(error), error, error.__traceback__)]
        self._start(STATUS, headers, *exc_info)  # type: ignore[arg-type]
        logger.warning("%s is answered 503: its connection was lost", name_of(self._environ), exc_info=error)
        tell("answered_503", request=name_of(self._environ))
        return [] if self._environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _may_have_written(self) -> bool:
        # Asked late: an application may go on after it has begun to answer.
        return self.scope is None or self.scope.has_written()

    def _is_ours(self) -> bool:
        scope = self.scope
        if scope is not None:
            self.trouble = scope.assess()
        return self.trouble is not None


def _throw_away(data: bytes) -> None:
    pass

"""PersistMiddleware: a request comes in, the application answers, the response is closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from wsgi_persist.errors import ScopeError
from wsgi_persist.events import tell
from wsgi_persist.plain import Pin
from wsgi_persist.policy import Policy
from wsgi_persist.redaction import redacted
from wsgi_persist.status import begin
from wsgi_persist.worker import WorkerScope, name_of, process_scope, start, thread_scope, threads_refused
from wsgi_persist.wsgi.again import Keeping
from wsgi_persist.wsgi.answer import Answer
from wsgi_persist.wsgi.response import Replacement, Response, SizedResponse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("wsgi_persist.middleware")


class PersistMiddleware:
    """A WSGI application around yours: every request finds its database connections open and alive.

    :param app: the WSGI application; one of Django is wrapped after ``get_wsgi_application()``.
    :param pins: the pins that the application uses without Django, to warm up and to validate.
    :param policy: ``scope`` and ``prewarm`` for all pins, where Django's aliases may give them, too; and
        ``status_dir``.
    :raises TypeError: an argument is not what it should be.
    :raises ValueError: options contradict each other.
    :raises ScopeError: ``scope="process"`` where mod_wsgi runs requests in threads.
    """

    def __init__(
        self, app: WSGIApplication, pins: Iterable[Pin] = (), *, policy: Policy | None = None
    ) -> None:
        self._app = _checked_app(app)
        checked = _checked_pins(pins), _checked_policy(policy)
        begin(checked[1].status_dir, self._wrap)
        self._scope, policies = start(*checked)
        self._keeping = Keeping(policies)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse, is_again: bool = False
    ) -> Iterable[bytes]:
        answer = Answer(start_response, environ, None if is_again else self._keeping.of(environ))
        self._scope_of(environ).enter(environ, answer)
        try:
            response: Iterable[bytes]
            if answer.is_beside:
                response = answer.run(self._respond, environ, answer)
            else:
                response = self._respond(environ, answer)
                answer.runs_on = 0
            if answer.trouble is None:
                return response
            second = answer.second_run()
            if second is None:
                return Replacement(response, answer)
            answer.give_up(response)
        except BaseException:
            answer.leave()
            raise
        name = name_of(second[0])
        logger.warning("%s is run again: its connection was lost", name)
        tell("run_again", request=name)
        return self(*second, is_again=True)

    def _respond(self, environ: WSGIEnvironment, answer: Answer) -> Any:
        """What the application returned, as the server gets it unless a 503 takes its place."""
        lent = environ.get("wsgi.file_wrapper")
        if lent is not None:
            answer.lent = lent
            environ["wsgi.file_wrapper"] = answer.wrap_file
        try:
            result = self._app(environ, answer.start)
        except Exception as error:
            if not answer.replaces(error):
                raise
            return None
        finally:
            if lent is not None:
                # Servers test a response against their own class.
                environ["wsgi.file_wrapper"] = lent
        if answer.wrapped is not None and answer.wrapped is result:
            return answer.end_with_file()
        if answer.trouble is not None:
            return result
        return (SizedResponse if hasattr(result, "__len__") else Response)(result, answer)

    def _wrap(self, around: Callable[[WSGIApplication], WSGIApplication]) -> None:
        self._app = around(self._app)

    def _scope_of(self, environ: WSGIEnvironment) -> WorkerScope:
        multithread = environ["wsgi.multithread"]
        if self._scope == "thread" or (multithread and self._scope == "auto"):
            return thread_scope()
        if multithread:
            raise ScopeError(threads_refused("wsgi.multithread is true"))
        return process_scope()


def _checked_app(app: Any) -> Any:
    if isinstance(app, PersistMiddleware):
        raise TypeError("the application is wrapped in PersistMiddleware already: once is enough")
    if not callable(app):
        given = redacted(repr(app))
        raise TypeError(f"{given} is not callable: give the WSGI application, such as get_wsgi_application()")
    return app


def _checked_pins(pins: Any) -> list[Pin]:
    if isinstance(pins, Pin):
        raise TypeError(f"pins={pins!r} is one pin: give a list, such as pins=[pin]")
    found = list(pins)
    for pin in found:
        if not isinstance(pin, Pin):
            # Its type alone: it may be a connection string with a password.
            raise TypeError(f"a {type(pin).__name__} in pins is not a Pin: give wsgi_persist.Pin(connect)")
    return found


def _checked_policy(policy: Any) -> Policy:
    if policy is None:
        return Policy()
    if not isinstance(policy, Policy):
        raise TypeError(f"policy={redacted(repr(policy))} is not a Policy: give wsgi_persist.Policy(...)")
    return policy

"""PEP 3333, and one release of the boundary on every path. No database: plain WSGI applications."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from webtest import TestApp

from tests.unit.memory import no_collector
from wsgi_persist import PersistMiddleware, Pin, Policy, ScopeError
from wsgi_persist.worker import scope
from wsgi_persist.worker.registry import process_scope, thread_scope


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """Every test begins and ends outside a request, with the boundary free."""
    yield
    gc.collect()
    assert scope.current() is None
    assert process_scope().owner is None


def environ(**given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    setup_testing_defaults(found)
    return {**found, "wsgi.multithread": False, **given}


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
    return lambda data: None


class Body:
    """A response body that tells what was done to it."""

    def __init__(self, chunks: Iterable[bytes] = (b"one", b"two"), close_fails: bool = False) -> None:
        self._chunks = iter(chunks)
        self._close_fails = close_fails
        self.closed = 0
        self.inside: list[bool] = []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.inside.append(scope.current() is not None)
        return next(self._chunks)

    def close(self) -> None:
        self.inside.append(scope.current() is not None)
        self.closed += 1
        if self._close_fails:
            raise ValueError("the application's close fails")


def ok(body: Any) -> Callable[..., Any]:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    return app


def run(app: Any, **given: Any) -> bytes:
    """As a server does."""
    response = app(environ(**given), start_response)
    try:
        return b"".join(response)
    finally:
        if hasattr(response, "close"):
            response.close()


def test_request_lasts_until_the_response_is_closed() -> None:
    body = Body()
    response = PersistMiddleware(ok(body))(environ(), start_response)
    assert scope.current() is not None
    assert b"".join(response) == b"onetwo"
    assert scope.current() is not None
    response.close()  # type: ignore[attr-defined]
    assert scope.current() is None
    response.close()  # type: ignore[attr-defined]
    assert (body.closed, all(body.inside)) == (1, True)


def test_application_that_raises_ends_the_request() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        assert scope.current() is not None
        raise ValueError("before")

    with pytest.raises(ValueError, match="before"):
        PersistMiddleware(app)(environ(), start_response)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_body_that_raises_ends_the_request(error: type[BaseException]) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise error

    with pytest.raises(error):
        run(PersistMiddleware(ok(chunks())))


def test_close_that_raises_ends_the_request() -> None:
    with pytest.raises(ValueError, match="close fails"):
        run(PersistMiddleware(ok(Body(close_fails=True))))


def test_client_abort_closes_the_generator() -> None:
    events: list[str] = []

    def chunks() -> Iterator[bytes]:
        try:
            yield b"one"
            yield b"two"
        except GeneratorExit:
            events.append("aborted inside" if scope.current() else "aborted outside")
            raise

    response = PersistMiddleware(ok(chunks()))(environ(), start_response)
    assert next(iter(response)) == b"one"
    response.close()  # type: ignore[attr-defined]
    assert events == ["aborted inside"]


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_body_is_closed_once_and_inside_although_the_iterator_went_first(pieces: int) -> None:
    """As mod_wsgi does."""
    body = Body()
    response = PersistMiddleware(ok(body))(environ(), start_response)
    iterator = iter(response)
    for _ in range(pieces):
        next(iterator)
    del iterator
    gc.collect()
    assert body.closed == 0
    response.close()  # type: ignore[attr-defined]
    assert body.closed == 1
    assert body.inside[-1] is True


def test_iterator_closes_the_response() -> None:
    body = Body()
    iterator: Any = iter(PersistMiddleware(ok(body))(environ(), start_response))
    iterator.close()
    assert body.closed == 1


class Started:
    """An application as a class, which is its own response and keeps start_response."""

    def __init__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        self.environ = environ.copy()
        self.start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        self.start_response("200 OK", [])
        yield b"one"


def test_response_that_nobody_closed_ends_without_the_garbage_collector() -> None:
    given = environ(**{"wsgi.file_wrapper": FileWrapper})
    with no_collector():
        PersistMiddleware(Started)(given, start_response)
        assert process_scope().owner is None


def test_response_that_nobody_closed(caplog: pytest.LogCaptureFixture) -> None:
    PersistMiddleware(ok([b"one"]))(environ(), start_response)
    gc.collect()
    assert process_scope().owner is None
    assert "thrown away without close()" in caplog.text


def test_response_is_inside_its_request_although_only_its_iterator_is_kept() -> None:
    body = Body()
    iterator = iter(PersistMiddleware(ok(body))(environ(), start_response))
    gc.collect()
    assert next(iterator) == b"one"
    assert body.inside == [True]


@pytest.mark.parametrize("body", [None, 7])
def test_result_that_is_no_iterable_is_the_servers_to_report(body: Any) -> None:
    with pytest.raises(TypeError):
        run(PersistMiddleware(ok(body)))


def test_length_is_kept_for_content_length() -> None:
    output = io.BytesIO()
    handler = SimpleHandler(io.BytesIO(), output, io.StringIO(), environ(), multithread=False)
    handler.run(PersistMiddleware(ok([b"twelve bytes"])))
    assert b"Content-Length: 12" in output.getvalue()
    assert not hasattr(PersistMiddleware(ok(Body())), "__len__")


def test_start_response_is_passed_on_with_exc_info_and_write() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            raise ValueError("late")
        except ValueError:
            import sys

            write = start_response("500 Oops", [], sys.exc_info())
        write(b"written")
        return []

    calls: list[Any] = []
    written: list[bytes] = []

    def server(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], Any]:
        calls.append((status, exc_info and exc_info[0]))
        return written.append

    response = PersistMiddleware(app)(environ(), server)
    response.close()  # type: ignore[attr-defined]
    assert calls == [("200 OK", None), ("500 Oops", ValueError)]
    assert written == [b"written"]


def test_result_that_fails_when_looked_at_ends_the_request() -> None:
    class Lazy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not ready")

    with pytest.raises(RuntimeError, match="not ready"):
        PersistMiddleware(ok(Lazy()))(environ(), start_response)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_validator_around_and_inside(method: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return iter([b"" if environ["REQUEST_METHOD"] == "HEAD" else b"one"])

    wrapped = validator(PersistMiddleware(validator(app)))
    output = io.BytesIO()
    given = environ(REQUEST_METHOD=method, QUERY_STRING="", SERVER_PROTOCOL="HTTP/1.1")
    SimpleHandler(io.BytesIO(), output, io.StringIO(), given, multithread=False).run(wrapped)
    assert output.getvalue().startswith(b"HTTP/1.0 200 OK")


def test_webtest_with_its_lint() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"one"]

    client = TestApp(PersistMiddleware(app), lint=True, extra_environ={"wsgi.multithread": False})
    assert client.get("/").text == "one"
    assert client.head("/").status_int == 200
    assert client.post("/", {"a": "b"}).text == "one"


class TestFileWrapper:
    """The server's own object reaches the server, and its file ends the request."""

    @staticmethod
    def app(file: Any) -> Callable[..., Any]:
        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return environ["wsgi.file_wrapper"](file, 4)

        return app

    def test_object_is_the_servers_own_with_the_real_descriptor(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"contents")
        file = (tmp_path / "file").open("rb")
        given = environ(**{"wsgi.file_wrapper": FileWrapper})
        response = PersistMiddleware(self.app(file))(given, start_response)
        assert type(response) is FileWrapper
        assert given["wsgi.file_wrapper"] is FileWrapper, "servers test the response against it"
        assert response.filelike.fileno() == file.fileno()
        assert scope.current() is None, "nothing of the application follows"
        assert b"".join(response) == b"contents"
        assert not file.closed
        response.close()
        assert file.closed

    def test_close_of_the_file_that_raises_ends_the_request(self) -> None:
        class File(io.BytesIO):
            def close(self) -> None:
                super().close()
                raise ValueError("the file's close fails")

        with pytest.raises(ValueError, match="close fails"):
            run(PersistMiddleware(self.app(File(b"x"))), **{"wsgi.file_wrapper": FileWrapper})

    def test_file_that_nobody_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        given = environ(**{"wsgi.file_wrapper": FileWrapper})
        with no_collector():
            PersistMiddleware(self.app(io.BytesIO(b"x")))(given, start_response)
            assert process_scope().owner is None
        assert "thrown away without close()" in caplog.text

    def test_wrapped_file_inside_another_iterable(self) -> None:
        body = Body()

        def app(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [])
            environ["wsgi.file_wrapper"](io.BytesIO(b"unused")).close()
            gc.collect()
            assert scope.current() is not None
            return body

        assert run(PersistMiddleware(app), **{"wsgi.file_wrapper": FileWrapper}) == b"onetwo"
        assert body.closed == 1

    def test_server_without_a_file_wrapper(self) -> None:
        given = environ()
        given.pop("wsgi.file_wrapper", None)
        PersistMiddleware(ok(Body()))(given, start_response).close()  # type: ignore[attr-defined]
        assert "wsgi.file_wrapper" not in given


class TestScope:
    def test_auto_takes_the_process_where_requests_come_one_at_a_time(self) -> None:
        seen: list[Any] = []

        def app(environ: Any, start_response: Any) -> Any:
            seen.append(scope.current())
            return []

        run(PersistMiddleware(app))
        run(PersistMiddleware(app), **{"wsgi.multithread": True})
        assert seen == [process_scope(), thread_scope()]

    def test_thread_scope_by_choice(self) -> None:
        app = PersistMiddleware(
            lambda environ, start_response: [scope.current().kind.encode()],  # type: ignore[union-attr]
            policy=Policy(scope="thread"),
        )
        assert run(app) == b"thread"

    def test_process_scope_on_a_threaded_server_is_refused(self) -> None:
        app = PersistMiddleware(ok([]), policy=Policy(scope="process"))
        with pytest.raises(ScopeError, match=r'set threads=1 .*, or choose scope="thread"'):
            run(app, **{"wsgi.multithread": True})

    def test_contradicting_scopes_are_refused(self) -> None:
        pin = Pin(list, name="mine", policy=Policy(scope="thread"))
        with pytest.raises(ValueError, match=r"one scope for all is needed.*'mine': 'thread'"):
            PersistMiddleware(ok([]), pins=[pin], policy=Policy(scope="process"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"app": None}, r"None is not callable: give the WSGI application"),
        ({"app": "myapp.wsgi"}, r"'myapp.wsgi' is not callable"),
        ({"app": PersistMiddleware(ok([]))}, r"wrapped in PersistMiddleware already"),
        ({"pins": [object()]}, r"a object in pins is not a Pin: give wsgi_persist.Pin\(connect\)"),
        ({"pins": Pin(list)}, r"is one pin: give a list"),
        ({"pins": 7}, r"not iterable"),
        ({"policy": {"scope": "auto"}}, r"is not a Policy: give wsgi_persist.Policy"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PersistMiddleware(**{"app": ok([]), **arguments})


def test_wrong_pin_arguments() -> None:
    with pytest.raises(TypeError, match="connect is a str, which is not callable: give a function"):
        Pin("dbname=x password=secret")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is not a Policy"):
        Pin(list, policy={})  # type: ignore[arg-type]

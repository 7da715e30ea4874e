"""Requests of every method, run a second time with the body that they came with: no database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import psycopg2
import pytest
from asgiref.sync import markcoroutinefunction
from hypothesis import given
from hypothesis import strategies as st
from webtest import TestApp

from wsgi_persist import PersistMiddleware, Policy, never_replayed, no_replay
from wsgi_persist.worker.scope import current

LOSS = psycopg2.OperationalError("server closed the connection unexpectedly")
READS = Policy(prewarm=False, replay_requests=True)
ALL = Policy(prewarm=False, replay_requests="all")
SMALL = Policy(prewarm=False, replay_requests="all", replay_body=8)


def lose(policy: Policy = ALL) -> None:
    scope = current()
    assert scope is not None
    scope.lost(policy, unknown=False)


class Flaky:
    """Loses its connection at its first run; notes what each run reads by *reading* of its input."""

    def __init__(self, reading: Callable[[Any], Any], policy: Policy = ALL) -> None:
        self.reading = reading
        self.policy = policy
        self.read: list[Any] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.read.append(self.reading(environ["wsgi.input"]))
        if len(self.read) == 1:
            lose(self.policy)
            raise LOSS
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]


def client(app: Callable[..., Any], policy: Policy = ALL) -> TestApp:
    return TestApp(
        PersistMiddleware(app, policy=policy), extra_environ={"wsgi.multithread": False}, lint=False
    )


BODY = b"one\ntwo\n\nthree, without an end of line"

READINGS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda body: None,
    "all": lambda body: body.read(),
    "all, by its length": lambda body: body.read(len(BODY)),
    "a part": lambda body: body.read(5),
    "parts": lambda body: [body.read(3), body.read(0), body.read(4), body.read(-1), body.read()],
    "a line": lambda body: body.readline(),
    "parts of lines": lambda body: [body.readline(2), body.readline(100), body.readline(-1)],
    "lines": lambda body: body.readlines(),
    "lines by a hint": lambda body: [body.readlines(5), body.readlines()],
    "by iteration": list,
    "by iteration and otherwise": lambda body: [next(body), body.read(2), body.readline(), next(body)],
}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
@pytest.mark.parametrize("reading", READINGS)
def test_second_run_reads_the_same(reading: str, method: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Flaky(READINGS[reading])
    assert client(app).request("/form/", method=method, body=BODY).text == "done"
    expected = READINGS[reading](BytesIO(BODY))
    assert app.read == [expected, expected]
    assert f"{method} '/form/' is run again: its connection was lost" in caplog.text


PARTS = st.one_of(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.integers(-1, 30)),
    st.tuples(st.sampled_from(["read", "readline", "readlines", "__next__"])),
)


@given(st.binary(max_size=60).map(lambda body: body.replace(b"a", b"\n")), st.lists(PARTS), st.lists(PARTS))
def test_whatever_the_first_run_has_read(body: bytes, first: list[Any], second: list[Any]) -> None:
    def by(parts: list[Any]) -> Callable[[Any], Any]:
        return lambda source: [piece(source, *part) for part in parts]

    def piece(source: Any, name: str, *size: int) -> Any:
        try:
            return getattr(source, name)(*size)
        except StopIteration:
            return "end"

    readings = iter([by(first), by(second)])
    app = Flaky(lambda source: next(readings)(source))
    client(app).post("/", body, headers={"Content-Type": "text/plain"})
    assert app.read == [by(first)(BytesIO(body)), by(second)(BytesIO(body))]


@pytest.mark.parametrize("length", [7, 8, 9])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_body_that_is_too_long_is_not_kept(is_chunked: bool, length: int) -> None:
    app = Flaky(lambda body: body.read())
    given = {"CONTENT_LENGTH": str(length)}
    if is_chunked:
        given = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}  # type: ignore[dict-item]
    status, _ = send(app, BytesIO(b"x" * length), SMALL, **given)
    assert status == ("200 OK" if length <= 8 else "503 Service Unavailable")
    assert app.read == [b"x" * length] * (2 if length <= 8 else 1)


def test_long_body_that_nobody_reads_is_not_kept_either() -> None:
    app = Flaky(lambda body: None)
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    source = BytesIO(b"x" * 100)
    assert send(app, source, SMALL, **chunked)[0] == "503 Service Unavailable"
    assert source.tell() == 9


def send(
    app: Callable[..., Any], source: Any, policy: Policy = ALL, **given: Any
) -> tuple[str, dict[str, str]]:
    """POST past webtest, which gives every body a length; status and headers."""
    answers: list[tuple[str, dict[str, str]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        assert exc_info or not answers, "headers already set"
        answers.append((status, dict(headers)))
        return len

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.multithread": False, "wsgi.input": source}
    response: Any = PersistMiddleware(app, policy=policy)({**environ, **given}, start)
    for _ in response:
        pass
    response.close()
    return answers[-1]


@pytest.mark.parametrize("length", ["", "many", "-1", "9" * 30])
def test_length_that_is_none(length: str) -> None:
    app = Flaky(lambda body: None)
    expected = 200 if length == "" else 503
    assert send(app, BytesIO(), CONTENT_LENGTH=length)[0].startswith(str(expected))


def test_body_of_http_2_has_no_length() -> None:
    app = Flaky(lambda body: body.read())
    assert send(app, BytesIO(BODY), **{"wsgi.input_terminated": True})[0] == "200 OK"
    assert app.read == [BODY, BODY]


@pytest.mark.parametrize("given", [{"CONTENT_LENGTH": str(len(BODY))}, {"wsgi.input_terminated": True}])
def test_input_that_gives_less_than_was_asked_for(given: Any) -> None:
    class Slow(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 3, 3) if size != -1 else 3)

    app = Flaky(lambda body: body.read(5))
    assert send(app, Slow(BODY), **given)[0] == "200 OK"
    assert app.read == [BODY[:3], BODY[:5]]


def test_chunks_that_the_server_does_not_put_together() -> None:
    """uWSGI has a function of its own for them."""
    assert send(Flaky(lambda body: None), BytesIO(), HTTP_TRANSFER_ENCODING="chunked")[0].startswith("503")


def test_body_of_which_the_visitor_sends_a_part_only() -> None:
    app = Flaky(lambda body: body.read(2))
    assert send(app, BytesIO(b"four"), CONTENT_LENGTH="5")[0].startswith("503")
    assert app.read == [b"fo"]


def test_visitor_who_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    class Gone(BytesIO):
        def read(self, *size: Any) -> bytes:
            raise OSError("the client is gone")

    caplog.set_level("INFO")
    assert send(Flaky(lambda body: None), Gone(), CONTENT_LENGTH="5")[0].startswith("503")
    assert "POST '/' is not run again: its body cannot be read: the client is gone" in caplog.text


def test_input_that_is_read_by_other_means_is_not_known() -> None:
    app = Flaky(lambda body: body.seek(0))
    assert send(app, BytesIO(BODY), CONTENT_LENGTH=str(len(BODY)))[0].startswith("503")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        send(lambda environ, start: environ["wsgi.input"].nothing, BytesIO(BODY), CONTENT_LENGTH="4")


@pytest.mark.parametrize("policy", [READS, SMALL])
def test_input_is_the_servers_own_where_nothing_is_kept(policy: Policy) -> None:
    source = BytesIO(BODY)
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return [b""]

    send(app, source, policy, CONTENT_LENGTH=str(len(BODY)))
    assert seen == [source]


@pytest.mark.parametrize("policies", [(ALL, READS), (READS, ALL)])
def test_every_database_that_was_lost_has_to_allow_it(policies: tuple[Policy, Policy]) -> None:
    runs: list[object] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ)
        for policy in policies:
            lose(policy)
        raise LOSS

    client(app).post("/", status=503)
    assert len(runs) == 1
    client(app).get("/", status=503)
    assert len(runs) == 3


# What keeps a request from being run again.


@pytest.mark.parametrize("mark", [never_replayed, no_replay()])
def test_view_that_has_effects_elsewhere(mark: Callable[..., Any]) -> None:
    @mark
    def charge(body: Any) -> None:
        """Once."""

    app = Flaky(charge)
    answer = client(app).post("/", status=503)
    assert "Retry-After" not in answer.headers
    assert len(app.read) == 1
    assert (charge.__name__, charge.__doc__) == ("charge", "Once.")
    charge(None)  # outside a request


def test_coroutine_is_refused() -> None:
    async def view(request: Any) -> None: ...

    marked = markcoroutinefunction(lambda request: view(request))  # as by a class of views
    for each in (view, marked):
        with pytest.raises(TypeError, match=r"is a coroutine function: use no_replay\(\) in what"):
            never_replayed(each)


def test_answer_that_has_begun_is_not_begun_again() -> None:
    runs: list[object] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ)
        start_response("200 OK", [])(b"a part")
        lose()
        raise LOSS

    send(app, BytesIO())
    assert len(runs) == 1


def test_status_that_was_given_before_is_replaced() -> None:
    """A server takes a second one only with an exception, and raises that if the first is on its way."""
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes] | list[bytes]:
        given.append(None)
        start_response("200 OK" if len(given) == 1 else "201 Created", [])
        if len(given) == 1:
            lose()
            raise LOSS
        return [b"done"]

    assert send(app, BytesIO())[0] == "201 Created"


def test_write_after_the_answer_has_begun() -> None:
    """As of an application that keeps its errors in the database."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ)
        lose()
        start_response("500 Internal Server Error", [])
        current().wrote = True  # type: ignore[union-attr]
        return [b"sorry"]

    runs: list[object] = []
    assert "Retry-After" not in client(app).post("/", status=503).headers
    assert len(runs) == 1


def test_second_loss_is_said() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ["wsgi.input"].read())
        lose()
        raise LOSS

    runs: list[bytes] = []
    answer = client(app).post("/", b"a=b", headers={"Content-Type": "text/plain"}, status=503)
    assert answer.headers["Retry-After"] == "2"
    assert runs == [b"a=b", b"a=b"]

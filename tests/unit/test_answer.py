"""503 in place of 500, and running a request again: plain WSGI applications, no database."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from webtest import TestApp

from tests.unit.memory import no_collector
from wsgi_persist import PersistMiddleware, Policy
from wsgi_persist.worker.registry import process_scope
from wsgi_persist.worker.scope import current

LOSS = psycopg2.OperationalError("server closed the connection unexpectedly")
POLICY = Policy(prewarm=False)
AGAIN = Policy(prewarm=False, replay_requests=True)


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    yield
    assert current() is None
    assert process_scope().owner is None


def lose(unknown: bool = False, policy: Policy = POLICY) -> None:
    scope = current()
    assert scope is not None
    scope.lost(policy, unknown)


def client(app: Callable[..., Any], policy: Policy = POLICY) -> TestApp:
    return TestApp(PersistMiddleware(app, policy=policy), extra_environ={"wsgi.multithread": False})


def handled(status: str = "500 Internal Server Error", **given: Any) -> Callable[..., Any]:
    """An application whose framework answers for the loss."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        lose(**given)
        start_response(status, [("Content-Type", "text/html"), ("Set-Cookie", "a=b")])
        return [b"<h1>Sorry</h1>"]

    return app


def raising(environ: Any, start_response: Any) -> list[bytes]:
    lose()
    raise LOSS


def raising_after_start(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    lose()
    raise ValueError("the page cannot be made") from LOSS


def streaming(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    lose()
    raise LOSS
    yield b"never"


def starting_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    lose()
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    yield b"sorry"


def starting_late_without_body(environ: Any, start_response: Any) -> Iterator[bytes]:
    lose()
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    yield from ()


FAILING = [handled(), raising, raising_after_start, streaming, starting_late, starting_late_without_body]


TEXTS = {
    "GET": "The database is out of reach at the moment. Please try again in 2 seconds.\n",
    "HEAD": "",
    "POST": "The database is out of reach at the moment, and nothing was saved in it. "
    "Please send this again in 2 seconds.\n",
}


@pytest.mark.parametrize("app", FAILING)
@pytest.mark.parametrize("method", TEXTS)
def test_loss_is_answered_503(method: str, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer = client(app).request("/page/", method=method, status=503)
    assert answer.status == "503 Service Unavailable"
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    assert answer.text == TEXTS[method]
    assert f"{method} '/page/' is answered 503: its connection was lost" in caplog.text


def test_unknown_fate_of_a_write_invites_no_retry() -> None:
    answer = client(handled(unknown=True)).post("/", status=503)
    assert "Retry-After" not in answer.headers
    assert "check what has been saved" in answer.text


def test_neither_does_a_loss_after_a_write() -> None:
    def app(environ: Any, start_response: Any) -> Any:
        current().wrote = True  # type: ignore[union-attr]
        return handled()(environ, start_response)

    assert "Retry-After" not in client(app).post("/", status=503).headers


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "502 Bad Gateway", "503 Custom"])
def test_application_that_answers_otherwise_is_left_alone(status: str) -> None:
    answer = client(handled(status)).get("/", status=int(status[:3]))
    assert (answer.status, answer.text) == (status, "<h1>Sorry</h1>")


def test_answer_in_the_place_of_a_500_is_left_alone() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        handled(policy=AGAIN)(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")], (ValueError, ValueError(), None))
        return [b"from the cache"]

    assert client(app, AGAIN).get("/").text == "from the cache"


def test_500_without_a_loss_is_left_alone() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return [b"a bug"]

    assert client(app).get("/", status=500).text == "a bug"


def test_bug_after_a_loss_that_was_got_over_stays_a_bug() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        lose()
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        client(app).get("/")


def test_loss_after_the_first_piece_is_the_servers_to_end() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"begun"
        lose()
        raise LOSS

    with pytest.raises(psycopg2.OperationalError):
        client(app).get("/")


class Closing(list[bytes]):
    closed = 0

    def close(self) -> None:
        assert current() is not None
        Closing.closed += 1


def test_applications_own_response_is_closed_inside_the_request() -> None:
    def app(environ: Any, start_response: Any) -> Closing:
        handled()(environ, start_response)
        return Closing([b"sorry"])

    Closing.closed = 0
    client(app).get("/", status=503)
    assert Closing.closed == 1


# The whole request, run again.


class Flaky:
    """Loses its connection the first few times; notes what each run was given."""

    def __init__(
        self, losses: int = 1, *, wrote: bool = False, unknown: bool = False, raises: bool = False
    ) -> None:
        self.losses = losses
        self.wrote = wrote
        self.unknown = unknown
        self.raises = raises
        self.runs: list[dict[str, Any]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.runs.append(dict(environ))
        environ["left.by.the.application"] = True
        if len(self.runs) > self.losses:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]
        scope = current()
        assert scope is not None
        scope.wrote = self.wrote
        lose(self.unknown, AGAIN)
        if self.raises:
            raise LOSS
        start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        return Closing([b"sorry"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("raises", [False, True])
def test_request_is_run_again(raises: bool, method: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Flaky(raises=raises)
    Closing.closed = 0
    answer = client(app, AGAIN).request("/page/?q=1", method=method)
    assert answer.text == "done"
    first, second = app.runs
    assert first == second
    assert Closing.closed == (not raises)
    assert f"{method} '/page/' is run again: its connection was lost" in caplog.text


def test_once_only() -> None:
    app = Flaky(losses=5)
    assert client(app, AGAIN).get("/", status=503)
    assert len(app.runs) == 2


@pytest.mark.parametrize("given", [{"wrote": True}, {"unknown": True}])
def test_request_that_wrote_is_not_run_again(given: dict[str, bool]) -> None:
    app = Flaky(**given)
    assert "Retry-After" not in client(app, AGAIN).get("/", status=503).headers
    assert len(app.runs) == 1


def test_request_that_may_do_something_is_not_run_again() -> None:
    app = Flaky()
    client(app, AGAIN).post("/", status=503)
    with_body = Flaky()
    client(with_body, AGAIN).request("/", method="GET", body=b"a body", status=503)
    assert (len(app.runs), len(with_body.runs)) == (1, 1)


def test_nothing_is_run_again_unless_told() -> None:
    app = Flaky()
    assert client(app).get("/", status=503)
    assert len(app.runs) == 1


ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.multithread": False}


class Counted(list[bytes]):
    """A body that counts its closings."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def strict(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
    """The start_response of a server that has sent a part of the answer already."""
    if exc_info is not None:
        raise exc_info[1]
    assert status == "200 OK", "headers already set"
    return len


def test_answer_that_is_on_its_way_ends_with_its_own_exception() -> None:
    body = Counted([b"sorry"])

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"a part")
        lose()
        start_response("500 Oops", [], (type(LOSS), LOSS, None))
        return body

    with pytest.raises(psycopg2.OperationalError, match="unexpectedly"):
        PersistMiddleware(app, policy=POLICY)({**ENVIRON}, strict)
    assert body.closed == 1


def test_page_of_an_error_is_not_appended_to_half_an_answer() -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a part"
        lose()
        start_response("500 Oops", [], (type(LOSS), LOSS, None))
        yield b"sorry"

    response: Any = PersistMiddleware(app, policy=POLICY)({**ENVIRON}, strict)
    pieces = iter(response)
    assert next(pieces) == b"a part"
    with pytest.raises(psycopg2.OperationalError, match="unexpectedly"):
        next(pieces)
    response.close()


class Local:
    """A local variable of the application."""


def test_answer_keeps_no_frame_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Local]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        local = Local()
        seen.append(weakref.ref(local))
        lose()
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    # pytest keeps what is logged
    monkeypatch.setattr(logging.getLogger("wsgi_persist.answer"), "disabled", True)
    with no_collector():
        response: Any = PersistMiddleware(app, policy=POLICY)({**ENVIRON}, lambda *given: len)
        response.close()
        assert seen[0]() is None


def test_first_run_leaves_no_frame_of_the_application() -> None:
    seen: list[weakref.ref[Local]] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        local = Local()
        seen.append(weakref.ref(local))
        if len(seen) == 1:
            lose(policy=AGAIN)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")
        start_response("200 OK", [])
        return [b"page"]

    with no_collector():
        response: Any = PersistMiddleware(app, policy=AGAIN)({**ENVIRON}, lambda *given: len)
        response.close()
        assert [local() for local in seen] == [None, None]


@pytest.mark.parametrize("policies", [(AGAIN, POLICY), (POLICY, AGAIN)])
def test_every_database_that_was_lost_has_to_allow_it(policies: tuple[Policy, Policy]) -> None:
    runs = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        runs.append(environ)
        for policy in policies:
            lose(policy=policy)
        raise LOSS

    client(app, AGAIN).get("/page/", status=503)
    assert len(runs) == 1

"""``replay_requests="all"`` under Django: forms, sessions, messages, signals, and what keeps it from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from webtest import TestApp

from tests.conftest import Server
from tests.site.extra import extra_view
from wsgi_persist import PersistMiddleware, Policy, never_replayed
from wsgi_persist.worker import registry

ALL = Policy(replay_requests="all", prewarm=False)
INSERT = "INSERT INTO entry (note) VALUES (%s)"


def close_pin() -> None:
    """The next one has another policy."""
    pin = registry.process_scope().pins.pop("default", None)
    if pin is not None:
        pin.stop()


@pytest.fixture
def settings(site: TestApp) -> Iterator[None]:
    """A site with forms, sessions and messages, whose views are transactions."""
    from django.db import connection, connections
    from django.test import override_settings

    from wsgi_persist.backends.signals import watch_strangers

    watch_strangers()
    connection.persist_policy = ALL
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    given = {
        "INSTALLED_APPS": ["django.contrib.sessions", "django.contrib.messages"],
        "MIDDLEWARE": [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
    }
    with override_settings(**given):
        yield
    connections.settings["default"]["ATOMIC_REQUESTS"] = False
    connection.persist_policy = Policy()
    close_pin()


@pytest.fixture
def forms(settings: None, server: Server) -> Iterator[TestApp]:
    from django.contrib.sessions.models import Session
    from django.core.wsgi import get_wsgi_application
    from django.db import connection

    with connection.schema_editor() as editor:
        editor.create_model(Session)
    connection.close()
    close_pin()
    wrapped = PersistMiddleware(get_wsgi_application(), policy=ALL)
    yield TestApp(wrapped, extra_environ={"wsgi.multithread": False})
    server("DROP TABLE django_session")


@pytest.fixture
def kill(server: Server) -> Callable[[], None]:
    def kill() -> None:
        from django.db import connection

        server.terminate(int(connection.connection.info.backend_pid))

    return kill


class Form:
    """A view that saves what is posted, and loses its connection so often *before* or *after* it has.

    :ivar seen: what it was given, by run.
    """

    def __init__(self, kill: Callable[[], None], when: str = "after", losses: int = 1) -> None:
        self.kill, self.when, self.losses = kill, when, losses
        self.seen: list[Any] = []
        self.hooks: list[str] = []

    def __call__(self, request: Any) -> Any:
        from django.contrib import messages
        from django.db import connection, transaction
        from django.http import HttpResponse
        from django.middleware.csrf import get_token

        if request.method == "GET":
            said = [str(message) for message in messages.get_messages(request)]
            return HttpResponse(f"{get_token(request)} {request.session.get('count', 0)} {said}")
        note = request.POST["note"]
        files = {name: file.read() for name, file in request.FILES.items()}
        self.seen.append((note, files))
        request.session["count"] = request.session.get("count", 0) + 1
        messages.info(request, f"saved {note}")
        transaction.on_commit(lambda: self.hooks.append(note))
        self._lose("before")
        with connection.cursor() as cursor:
            cursor.execute(INSERT, [note])
            self._lose("after")
        return HttpResponse("saved")

    def _lose(self, when: str) -> None:
        if when == self.when and len(self.seen) <= self.losses:
            from django.db import connection

            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            self.kill()


def get(forms: TestApp) -> list[str]:
    return list(forms.get("/extra/").text.split(" ", 2))


@pytest.mark.parametrize("when", ["before", "after"])
def test_form_is_saved_once(
    when: str, forms: TestApp, kill: Any, notes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from django.core.signals import request_finished, request_started

    signals: list[str] = []
    begun = lambda **given: signals.append("started")  # noqa: E731
    over = lambda **given: signals.append("finished")  # noqa: E731
    view = Form(kill, when)
    with extra_view(view):
        token, _, _ = get(forms)
        request_started.connect(begun)
        request_finished.connect(over)
        try:
            upload = [("file", "a.bin", bytes(range(256)) * 100)]
            form = {"note": "ünïcode\r\n", "csrfmiddlewaretoken": token}
            assert forms.post("/extra/", form, upload_files=upload).text == "saved"
        finally:
            request_started.disconnect(begun)
            request_finished.disconnect(over)
        _, count, said = get(forms)
    assert view.seen == [("ünïcode\r\n", {"file": upload[0][2]})] * 2
    assert (notes(), view.hooks) == (["ünïcode\r\n"], ["ünïcode\r\n"])
    assert (count, said) == ("1", "['saved ünïcode\\r\\n']")
    assert signals == ["started", "finished"] * 2
    assert "POST '/extra/' is run again: its connection was lost" in caplog.text


def test_csrf_is_checked_in_each_run(forms: TestApp, kill: Any, notes: Any) -> None:
    with extra_view(Form(kill)):
        get(forms)
        forms.post("/extra/", {"note": "forged"}, status=403)
    assert notes() == []


def test_second_loss_is_an_honest_503(forms: TestApp, kill: Any, notes: Any) -> None:
    view = Form(kill, losses=2)
    with extra_view(view):
        token, _, _ = get(forms)
        answer = forms.post("/extra/", {"note": "never", "csrfmiddlewaretoken": token}, status=503)
        assert get(forms)[1:] == ["0", "[]"]
    assert answer.headers["Retry-After"] == "2"
    assert "nothing was saved" in answer.text
    assert (len(view.seen), notes(), view.hooks) == (2, [], [])


def test_view_whose_session_cannot_be_saved_after_it_is_not_run_again(
    forms: TestApp, kill: Any, notes: Any
) -> None:
    """Part of it was saved: the view's own transaction."""
    view = Form(kill, "never")

    def loses_late(request: Any) -> Any:
        response = view(request)
        if request.method == "POST":
            from django.db import transaction

            transaction.on_commit(lambda: kill())
        return response

    # The session is read and saved in statements and transactions of its own; its first is sent again.
    with extra_view(loses_late):
        token, _, _ = get(forms)
        assert forms.post("/extra/", {"note": "once", "csrfmiddlewaretoken": token}).text == "saved"
        assert get(forms)[1] == "1"
    assert (len(view.seen), notes()) == (1, ["once"])


@pytest.mark.parametrize("repeats", [False, "all"], ids=["", "all"])
def test_session_that_cannot_be_saved_is_no_bad_request(
    forms: TestApp, kill: Any, repeats: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django takes it for one that somebody has deleted meanwhile, and answers 400."""
    from django.db import connection, transaction
    from django.http import HttpResponse

    seen: list[int] = []

    @transaction.non_atomic_requests
    def view(request: Any) -> Any:
        request.session["count"] = count = request.session.get("count", 0) + 1
        seen.append(count)
        if seen == [1, 2]:
            kill()
        return HttpResponse(str(count))

    with extra_view(view):
        assert forms.get("/extra/").text == "1"
        close_pin()
        policy = Policy(replay_requests=repeats, replay="off", prewarm=False)
        monkeypatch.setattr(connection, "persist_policy", policy)
        answer = forms.get("/extra/", status=200 if repeats else 503)
        assert ("Retry-After" in answer.headers) != bool(repeats)
        assert forms.get("/extra/").text == ("3" if repeats else "2")


def test_bad_request_stays_one(forms: TestApp) -> None:
    from django.core.exceptions import SuspiciousOperation

    def view(request: Any) -> Any:
        raise SuspiciousOperation

    with extra_view(view):
        forms.get("/extra/", status=400)


def test_view_that_is_marked_is_not_run_again(forms: TestApp, kill: Any, notes: Any) -> None:
    from django.views.decorators.csrf import csrf_exempt

    view = Form(kill)
    with extra_view(never_replayed(csrf_exempt(view.__call__))):
        answer = forms.post("/extra/", {"note": "charged"}, status=503)
    assert "Retry-After" not in answer.headers
    assert (len(view.seen), notes()) == (1, [])


def test_loss_after_a_write_in_autocommit_is_not_run_again(forms: TestApp, kill: Any, notes: Any) -> None:
    from django.db import transaction
    from django.views.decorators.csrf import csrf_exempt

    view = Form(kill)

    @csrf_exempt
    @transaction.non_atomic_requests
    def in_autocommit(request: Any) -> Any:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(INSERT, ["by itself"])
        with transaction.atomic():
            return view(request)

    with extra_view(in_autocommit):
        assert "Retry-After" not in forms.post("/extra/", {"note": "undone"}, status=503).headers
    assert (len(view.seen), notes()) == (1, ["by itself"])


def test_long_body_is_not_run_again(forms: TestApp, kill: Any, notes: Any) -> None:
    view = Form(kill)
    with extra_view(view):
        token, _, _ = get(forms)
        upload = [("file", "a.bin", bytes(70_000))]
        form = {"note": "long", "csrfmiddlewaretoken": token}
        answer = forms.post("/extra/", form, upload_files=upload, status=503)
    assert answer.headers["Retry-After"] == "2"
    assert (len(view.seen), notes()) == (1, [])
